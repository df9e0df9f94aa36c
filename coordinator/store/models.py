"""The catalogue of models in the store: releases, the channels that point at them, and what was done when by whom."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from coordinator.models.channels import (
    ModelState,
    check_added,
    check_channel,
    check_known,
    check_promoted,
    check_retired,
)
from coordinator.models.release import ModelRefusedError, Release, decode_release
from coordinator.models.versions import VersionError, parse_version
from coordinator.store.place import Place, open_alone
from runtime.database import Database, transaction
from runtime.sqlite import storage_errors
from schemas.shape import fields_of

MODELS_MAX = 20_000  # names
HISTORY_MAX = 10_000  # of one model; beyond it the oldest go


@dataclass(frozen=True, slots=True)
class ModelView:
    """One version as it stands in the catalogue."""

    name: str
    version: str
    digest: str
    state: str
    bytes: int
    parent: str
    signature: str
    added_utc_ms: int
    source: str
    targets: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class MeasuredView:
    """What so many nodes measured of one variant; nothing yet where `measured_utc_ms` is 0. Figures are means."""

    target: str
    nodes: int
    measured_utc_ms: int
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class StepView:
    """What was done with a version."""

    version: str
    action: str
    channel: str
    replaced: str
    time_utc_ms: int
    source: str


@dataclass(frozen=True, slots=True)
class Done:
    """What a change came to. `changed`: False where all was so already."""

    name: str
    version: str
    digest: str
    changed: bool
    channel: str = ""
    replaced: str = ""


# ---- changing ---------------------------------------------------------------------------------------


def add(
    db: Database,
    release: Release,
    document: bytes,
    digest: str,
    *,
    channel: str = "",
    signature: str = "",
    source: str = "",
    now_ms: int,
) -> Done:
    """The release, whose files are durable already, and into a channel with it. Raises ModelRefusedError."""
    if channel:
        check_channel(channel)
    known = db.execute("SELECT version, digest FROM models WHERE name = ?", (release.name,)).fetchall()
    digests = dict(known)
    if not known and _count(db) >= MODELS_MAX:
        raise ModelRefusedError(
            f"model {release.name}: there are {MODELS_MAX} models, which is the most there may be"
        )
    new = check_added(release.reference, digest, digests.get(release.version), len(known))
    if new:
        _insert(db, release, document, digest, signature, source, now_ms)
        _note(db, release.name, release.version, "added", "", "", now_ms, source)
    elif signature:
        db.execute(
            "UPDATE models SET signature = ? WHERE name = ? AND version = ?",
            (signature, release.name, release.version),
        )
    if not channel:
        return Done(release.name, release.version, digest, new)
    promoted = promote(db, release.name, release.version, channel, source=source, now_ms=now_ms)
    return Done(release.name, release.version, digest, new or promoted.changed, channel, promoted.replaced)


def promote(db: Database, name: str, version: str, channel: str, *, source: str, now_ms: int) -> Done:
    """From now on the channel gives out this version. Raises ModelRefusedError."""
    state, digest = _state(db, name, version)
    channels = channels_of(db, name)
    check_promoted(f"{name}@{version}", version, state, channel, channels)
    before = channels.get(channel, "")
    if before == version:
        return Done(name, version, digest, False, channel, before)
    db.execute(
        "INSERT INTO model_channels (name, channel, version, since_utc_ms, source) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (name, channel) DO UPDATE SET version = excluded.version, since_utc_ms = excluded.since_utc_ms,"
        " source = excluded.source",
        (name, channel, version, now_ms, source),
    )
    _note(db, name, version, "promoted", channel, before, now_ms, source)
    return Done(name, version, digest, True, channel, before)


def retire(db: Database, name: str, version: str, *, withdraw: bool = False, source: str, now_ms: int) -> Done:
    """No node gets this version any more. Raises ModelRefusedError while a channel gives it out.

    `withdraw`: it is taken out of its channels, which then give out nothing.
    """
    state, digest = _state(db, name, version)
    inside = [channel for channel, given in channels_of(db, name).items() if given == version]
    if not check_retired(f"{name}@{version}", state, inside, withdraw=withdraw):
        return Done(name, version, digest, False)
    for channel in inside:
        db.execute("DELETE FROM model_channels WHERE name = ? AND channel = ?", (name, channel))
        _note(db, name, version, "withdrawn", channel, version, now_ms, source)
    sql = "UPDATE models SET state = ? WHERE name = ? AND version = ?"
    db.execute(sql, (ModelState.RETIRED.value, name, version))
    _note(db, name, version, "retired", "", "", now_ms, source)
    return Done(name, version, digest, True)


def sign(db: Database, name: str, version: str, digest: str, signature: str, *, source: str, now_ms: int) -> Done:
    """A signature of the release, in place of the one before. Raises ModelRefusedError."""
    state, known = _state(db, name, version)
    check_known(f"{name}@{version}", state)
    if known != digest:
        raise ModelRefusedError(f"model {name}@{version} has the digest {known[:12]}, not {digest[:12]}")
    sql = "UPDATE models SET signature = ? WHERE name = ? AND version = ? AND signature <> ?"
    is_new = db.execute(sql, (signature, name, version, signature)).rowcount > 0
    if is_new:
        _note(db, name, version, f"signed by {signature.partition(' ')[0]}", "", "", now_ms, source)
    return Done(name, version, digest, is_new)


@contextmanager
def direct(place: Place) -> Iterator[Database]:
    """A transaction in the store while no coordinator runs: the lock of a folder is the caller's affair, that of a
    database is taken here. Raises ForeignStoreError or StorageError."""
    db = open_alone(place)
    try:
        with storage_errors("the store"), transaction(db):
            yield db
    finally:
        db.close()


# ---- asking -----------------------------------------------------------------------------------------

_VIEW = """
SELECT m.name, m.version, m.digest, m.state, m.bytes, m.parent, m.signature, m.added_utc_ms, m.source,
    (SELECT {targets} FROM model_variants v WHERE v.name = m.name AND v.version = m.version),
    (SELECT {channels} FROM model_channels c WHERE c.name = m.name AND c.version = m.version)
FROM models m
"""


def listed(db: Database, name: str = "", channel: str = "") -> list[ModelView]:
    """By name, the newest version first; of one model, or those that a channel gives out."""
    view = _VIEW.format(targets=db.dialect.words("v.target"), channels=db.dialect.words("c.channel"))
    sql = f"""{view} WHERE (?1 = '' OR m.name = ?1) AND (?2 = '' OR EXISTS (
        SELECT 1 FROM model_channels c WHERE c.name = m.name AND c.version = m.version AND c.channel = ?2))"""
    found = [_view(row) for row in db.execute(sql, (name, channel))]
    found.sort(key=lambda view: parse_version(view.version), reverse=True)
    return sorted(found, key=lambda view: view.name)


def release_of(db: Database, name: str, version: str) -> Release | None:
    row = db.execute("SELECT document FROM models WHERE name = ? AND version = ?", (name, version)).fetchone()
    return None if row is None else decode_release(row[0])


def document_of(db: Database, name: str, version: str) -> tuple[str, str] | None:
    """(digest, document) of a version."""
    sql = "SELECT digest, document FROM models WHERE name = ? AND version = ?"
    row = db.execute(sql, (name, version)).fetchone()
    return None if row is None else (str(row[0]), str(row[1]))


def signature_of(db: Database, name: str, version: str) -> tuple[str, str] | None:
    """(digest, signature) of a version; the signature is empty where it has none."""
    sql = "SELECT digest, signature FROM models WHERE name = ? AND version = ?"
    row = db.execute(sql, (name, version)).fetchone()
    return None if row is None else (str(row[0]), str(row[1]))


def given_out(db: Database, name: str, wanted: str) -> tuple[Release, str, str]:
    """(release, digest, signature) of what nodes may be given: of a version, or of what a channel gives out.

    Raises ModelRefusedError.
    """
    try:
        version = str(parse_version(wanted))
    except VersionError:
        version = channels_of(db, name).get(wanted, "")
        if not version:
            raise ModelRefusedError(_not_given(db, name, wanted), hint="edgectl model ls lists them") from None
    state, digest = _state(db, name, version)
    check_known(f"{name}@{version}", state)
    if state is ModelState.RETIRED:
        raise ModelRefusedError(f"model {name}@{version} is retired", hint="it is given to nobody any more")
    sql = "SELECT document, signature FROM models WHERE name = ? AND version = ?"
    document, signature = db.execute(sql, (name, version)).fetchone()
    return decode_release(document), digest, str(signature)


def _not_given(db: Database, name: str, channel: str) -> str:
    if db.execute("SELECT 1 FROM models WHERE name = ?", (name,)).fetchone() is None:
        return f"there is no model {name}"
    given = ", ".join(f"{one} gives out {version}" for one, version in channels_of(db, name).items())
    return f"channel {channel} gives out no version of {name} ({given or 'no channel does'})"


def channels_of(db: Database, name: str) -> dict[str, str]:
    """The versions of a model by channel."""
    sql = "SELECT channel, version FROM model_channels WHERE name = ? ORDER BY channel"
    return {str(channel): str(version) for channel, version in db.execute(sql, (name,))}


def measured(db: Database, name: str, version: str) -> list[MeasuredView]:
    sql = """
        SELECT target, measured_nodes, measured_utc_ms, measured_latency_ms_p50, measured_latency_ms_p95,
            measured_accuracy FROM model_variants WHERE name = ? AND version = ? ORDER BY target
    """
    return [MeasuredView(*row) for row in db.execute(sql, (name, version))]


def children(db: Database, name: str, version: str) -> list[str]:
    """What was made from a version."""
    sql = "SELECT name || '@' || version FROM models WHERE parent = ? ORDER BY name, version LIMIT 1000"
    return [str(reference) for (reference,) in db.execute(sql, (f"{name}@{version}",))]


def history(db: Database, name: str, limit: int) -> list[StepView]:
    """The newest steps of a model, oldest of them first."""
    sql = """
        SELECT version, action, channel, replaced, time_utc_ms, source FROM model_history WHERE name = ?
        ORDER BY id DESC LIMIT ?
    """
    return [StepView(*row) for row in db.execute(sql, (name, limit))][::-1]


def is_named(db: Database, sha256: str) -> bool:
    """True when some version needs the file."""
    sql = """
        SELECT EXISTS (SELECT 1 FROM model_files WHERE sha256 = ?1) OR EXISTS (SELECT 1 FROM models WHERE digest = ?1)
    """
    return bool(db.execute(sql, (sha256,)).fetchone()[0])


def named_files(db: Database) -> dict[str, tuple[int | None, str]]:
    """(bytes, a release that needs it) of each file by its hash; of documents the bytes are not known."""
    found: dict[str, tuple[int | None, str]] = {}
    for sha256, size, reference in db.execute("SELECT sha256, bytes, name || '@' || version FROM model_files"):
        found[sha256] = (size, reference)
    for digest, reference in db.execute("SELECT digest, name || '@' || version FROM models"):
        found[digest] = (None, reference)
    return found


# ---- rows -------------------------------------------------------------------------------------------


def _insert(
    db: Database, release: Release, document: bytes, digest: str, signature: str, source: str, now_ms: int
) -> None:
    who = release.name, release.version
    db.execute(
        "INSERT INTO models (name, version, digest, state, bytes, parent, signature, added_utc_ms, source, document)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*who, digest, ModelState.ACTIVE.value, release.bytes, release.lineage.parent, signature, now_ms, source,
         document.decode()),
    )  # fmt: skip
    db.executemany(
        "INSERT INTO model_variants (name, version, target, sha256, bytes, declared) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (*who, one.target.value, one.sha256, one.bytes, json.dumps(fields_of(one.declared), ensure_ascii=False))
            for one in release.variants
        ],
    )
    db.executemany(
        "INSERT INTO model_files (name, version, path, sha256, bytes) VALUES (?, ?, ?, ?, ?)",
        [(*who, file.path, file.sha256, file.bytes) for file in release.files],
    )


def _note(
    db: Database,
    name: str,
    version: str,
    action: str,
    channel: str,
    replaced: str,
    now_ms: int,
    source: str,
) -> None:
    db.execute(
        "INSERT INTO model_history (name, version, action, channel, replaced, time_utc_ms, source)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (name, version, action, channel, replaced, now_ms, source),
    )
    db.execute(
        "DELETE FROM model_history WHERE name = ?1 AND id <="
        " (SELECT id FROM model_history WHERE name = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        (name, HISTORY_MAX),
    )


def _state(db: Database, name: str, version: str) -> tuple[ModelState | None, str]:
    row = db.execute("SELECT state, digest FROM models WHERE name = ? AND version = ?", (name, version)).fetchone()
    return (None, "") if row is None else (ModelState(row[0]), str(row[1]))


def _count(db: Database) -> int:
    return int(db.execute("SELECT count(DISTINCT name) FROM models").fetchone()[0])


def _view(row: tuple[Any, ...]) -> ModelView:
    return ModelView(*row[:-2], *map(_words, row[-2:]))


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(sorted(text.split())) if text else ()
