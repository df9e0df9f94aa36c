"""Platform state for people: what holds under each key, who wrote it, and whether that writer is still there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

from coordinator.fleet.registry import NodeState
from coordinator.store.state import Place, register_of, said_at_ms
from runtime.database import Database
from schemas.fields import Rule
from schemas.state_registers import Register, conflicting, holds
from schemas.topics import COORDINATOR

UNKNOWN = "unknown"  # the state of a node that never registered


@dataclass(frozen=True, slots=True)
class WriterView:
    """One writer's last write to a key."""

    node: str
    node_state: str  # empty for the coordinator itself
    node_since_utc_ms: int
    value: Any  # None: deleted
    at: str
    said_utc_ms: int  # by the writer's clock, but not after it came
    received_utc_ms: int
    checked: bool

    @property
    def is_away(self) -> bool:
        return self.node_state not in ("", NodeState.ONLINE.value)


@dataclass(frozen=True, slots=True)
class KeyView:
    """What holds under a key. `value` is None where nothing does: every writer has deleted it."""

    platform: str
    collection: str
    key: str
    value: Any
    written_by: tuple[str, ...]
    said_utc_ms: int
    received_utc_ms: int
    rule: str
    checked: bool  # by a platform that is installed here
    conflict: bool
    stale: bool  # a node whose write this is is away
    writers: list[WriterView] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"{self.platform}.{self.collection}.{self.key}"


@dataclass(frozen=True, slots=True)
class CollectionView:
    """A collection that is declared here, or of which something came."""

    platform: str
    collection: str
    declared: bool
    owner: str
    rule: str
    rows: int  # keys times their writers, deleted ones included
    shed: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; empty fields ask for nothing. With a node only what that node wrote counts."""

    platform: str = ""
    collection: str = ""
    key: str | None = None
    node: str = ""
    conflicts_only: bool = False


_SELECT = """
SELECT s.platform, s.collection, s.key, s.change, s.checked, n.state, n.since_utc_ms,
    s.node, s.value, s.at_ms, s.at_counter, s.over, s.time_utc_ms, s.received_utc_ms
FROM state s LEFT JOIN nodes n ON n.node = s.node
"""


def keys(db: Database, wanted: Wanted, limit: int) -> list[KeyView]:
    """Keys under which something holds, in order; those that every writer has deleted only by their own name."""
    return list(islice(_keys(db, wanted), limit))


def _keys(db: Database, wanted: Wanted) -> Iterator[KeyView]:
    where, values = _where(wanted)
    sql = f"{_SELECT} WHERE {where} ORDER BY s.platform, s.collection, s.key, s.node"
    rules = {(one.platform, one.collection): one.rule for one in collections(db)}
    for (platform, collection, key), rows in groupby(map(tuple, db.execute(sql, values)), key=_name):
        place = platform, collection
        view = _view(place, key, list(rows), rules.get(place, ""))
        if (view.value is not None or wanted.key is not None) and (view.conflict or not wanted.conflicts_only):
            yield view


def _name(row: tuple[Any, ...]) -> tuple[str, str, str]:
    return row[0], row[1], row[2]


def _view(place: Place, key: str, rows: Sequence[tuple[Any, ...]], rule_name: str) -> KeyView:
    rule = Rule(rule_name) if rule_name else None
    written = [register_of(row[7:]) for row in rows]
    writers = [_writer(register, row[4], row[5], row[6]) for register, row in zip(written, rows, strict=True)]
    held = holds(written, rule)
    shown = [one for one in writers if held is not None and one.node in held.writers] or writers
    newest = held.register if held is not None else max(written, key=lambda one: one.at)
    return KeyView(
        *place,
        key,
        None if held is None else held.value,
        () if held is None else held.writers,
        said_at_ms(newest),
        newest.received_utc_ms,
        rule_name or Rule.LAST_WRITER.value,
        all(one.checked for one in shown),
        conflicting(written, rule),
        any(one.is_away for one in shown),
        writers,
    )


Change = tuple[str, WriterView]
"""A write with its path."""


def changes(db: Database, wanted: Wanted, after: int, limit: int) -> tuple[int, list[Change]]:
    """Writes after a change, each with its path, oldest first, and the last of them: to go on from."""
    where, values = _where(wanted)
    sql = f"{_SELECT} WHERE {where} AND s.change > ? ORDER BY s.change LIMIT ?"
    found = []
    for row in map(tuple, db.execute(sql, [*values, after, limit])):
        after = row[3]
        found.append((".".join(row[:3]), _writer(register_of(row[7:]), row[4], row[5], row[6])))
    return after, found


def collections(db: Database) -> list[CollectionView]:
    """Those that are declared or of which something came, by name."""
    sql = """
        SELECT platform, collection, declared, owner, rule, rows, shed FROM state_collections
        WHERE declared = 1 OR rows > 0 OR shed > 0 ORDER BY platform, collection
    """
    return [
        CollectionView(platform, collection, bool(declared), owner, rule, rows, shed)
        for platform, collection, declared, owner, rule, rows, shed in db.execute(sql)
    ]


def _where(wanted: Wanted) -> tuple[str, list[Any]]:
    pairs = [("platform", wanted.platform), ("collection", wanted.collection), ("node", wanted.node)]
    given = [(name, value) for name, value in pairs if value]
    if wanted.key is not None:
        given.append(("key", wanted.key))
    return " AND ".join(["1 = 1", *(f"s.{name} = ?" for name, _ in given)]), [value for _, value in given]


def _writer(register: Register, checked: int, node_state: str | None, since_utc_ms: int | None) -> WriterView:
    ours = register.writer == COORDINATOR
    return WriterView(
        register.writer,
        "" if ours else node_state or UNKNOWN,
        since_utc_ms or 0,
        register.value,
        str(register.at),
        said_at_ms(register),
        register.received_utc_ms,
        bool(checked),
    )
