"""An outbox file for people: what waits, one row, the account, everything as JSON lines. The file may be in use."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from agent.outbox.encode import is_sound, shown
from agent.outbox.rows import LANES
from agent.outbox.settings import ROW_BYTES_BESIDE
from agent.outbox.tables import MIGRATIONS, LaneAccount, accounts, read_streams
from runtime.errors import PermanentError
from runtime.sqlite import StorageFormatError, connect, storage_errors
from schemas.identity import Lane


class NoOutboxError(PermanentError):
    """There is no outbox at this place."""


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A reader of an outbox file of this version. Raises NoOutboxError, StorageError or StorageFormatError."""
    if not path.exists():
        raise NoOutboxError(
            f"there is no outbox at {path}", hint="the agent makes it at its first start; is node.data_dir right?"
        )
    with closing(connect(path, read_only=True)) as db, storage_errors(str(path)):
        try:
            applied = {name for (name,) in db.execute("SELECT name FROM migrations")}
        except sqlite3.OperationalError as error:
            raise StorageFormatError(
                f"{path} is no outbox: {error}", hint="give node.data_dir of an agent"
            ) from error
        ours = {name for name, _ in MIGRATIONS}
        if applied - ours:
            raise StorageFormatError(
                f"{path} was written by a newer version ({', '.join(sorted(applied - ours))})",
                hint="look at it with that version",
            )
        if ours - applied:
            raise StorageFormatError(
                f"{path} is of an older version", hint="start the agent once: it brings the file up to date"
            )
        yield db


def account(path: Path) -> list[LaneAccount]:
    """The account of every lane."""
    with opened(path) as db:
        return accounts(db)


def listing(path: Path) -> list[dict[str, object]]:
    """One line a lane: what waits, how large, how old in seconds of run time, under which streams."""
    with opened(path) as db:
        run_s = int(db.execute("SELECT value FROM meta WHERE key = 'run_s'").fetchone()[0])
        found: list[dict[str, object]] = []
        for lane, pending, size in db.execute("SELECT lane, pending, bytes FROM lanes").fetchall():
            first, last = db.execute("SELECT min(seq), max(seq) FROM rows WHERE lane = ?", (lane,)).fetchone()
            born = db.execute("SELECT run_s FROM rows WHERE lane = ? AND seq = ?", (lane, first)).fetchone()
            gaps = db.execute("SELECT count(*) FROM gaps WHERE lane = ?", (lane,)).fetchone()[0]
            found.append(
                {
                    "lane": lane, "rows": pending, "bytes": size, "first": first, "last": last,
                    "oldest_s": None if born is None else max(0, run_s - born[0]), "gaps": gaps,
                }
            )  # fmt: skip
        order = [lane.value for lane in LANES]
        return sorted(found, key=lambda line: order.index(str(line["lane"])))


def show(path: Path, lane: Lane, seq: int) -> str:
    """One row as JSON: where it is, and its content as far as it is still here."""
    with opened(path) as db:
        stream = read_streams(db).of(lane, seq)
        beside = {"lane": lane.value, "seq": seq, "stream": stream}
        row = db.execute("SELECT type, payload FROM rows WHERE lane = ? AND seq = ?", (lane.value, seq)).fetchone()
        if row is not None:
            return shown(row[1], where="waiting", type=row[0], **beside)
        row = db.execute(
            "SELECT type, payload, reason FROM quarantine WHERE lane = ? AND seq = ?", (lane.value, seq)
        ).fetchone()
        if row is not None:
            return shown(row[1], where="quarantined", type=row[0], reason=row[2], **beside)
        gap = db.execute(
            "SELECT reason FROM gaps WHERE lane = ? AND first <= ? AND last >= ?", (lane.value, seq, seq)
        ).fetchone()
        if gap is not None:
            return shown(b"null", where="given up, the coordinator is being asked", reason=gap[0], **beside)
        (next_seq,) = db.execute("SELECT next_seq FROM lanes WHERE lane = ?", (lane.value,)).fetchone()
        if 1 <= seq < next_seq:
            return shown(b"null", where="finished: stored at the coordinator, or shed", **beside)
    raise NoOutboxError(
        f"{path}: lane {lane.value} has no row {seq}; its numbers so far are 1 to {next_seq - 1}",
        hint="edge-agent outbox ls shows what waits",
    )


def export(path: Path) -> Iterator[str]:
    """Every waiting row as JSON lines."""
    with opened(path) as db:
        streams = read_streams(db)
        for lane, seq, kind, payload in db.execute("SELECT lane, seq, type, payload FROM rows ORDER BY lane, seq"):
            yield shown(payload, lane=lane, seq=seq, type=kind, stream=streams.of(Lane(lane), seq))


def quarantined(path: Path) -> Iterator[str]:
    """Every row that was set aside, with the reason, as JSON lines."""
    with opened(path) as db:
        found = db.execute("SELECT lane, seq, type, reason, payload FROM quarantine ORDER BY lane, seq")
        for lane, seq, kind, reason, payload in found:
            yield shown(payload, lane=lane, seq=seq, type=kind, reason=reason)


def gap_records(path: Path) -> Iterator[dict[str, object]]:
    """What was given up and not yet answered for."""
    with opened(path) as db:
        streams = read_streams(db)
        for lane, first, last, reason in db.execute(
            "SELECT lane, first, last, reason FROM gaps ORDER BY lane, first"
        ):
            yield {
                "lane": lane, "first": first, "last": last, "count": last - first + 1, "reason": reason,
                "stream": streams.of(Lane(lane), first),
            }  # fmt: skip


def check(path: Path, node: str) -> list[str]:
    """What is wrong with the file: its pages, its sums against a recount, rows that cannot be read."""
    with opened(path) as db:
        found = [str(row[0]) for row in db.execute("PRAGMA quick_check(20)")]
        if found != ["ok"]:
            return found
        wrong = [f"lane {one.lane}: the account does not hold: {one}" for one in accounts(db) if not one.holds]
        db.execute("BEGIN")  # one moment for all that follows
        for lane, pending, size, unconfirmed in db.execute("SELECT lane, pending, bytes, unconfirmed FROM lanes"):
            rows, real = db.execute(
                f"SELECT count(*), coalesce(sum(length(payload) + {ROW_BYTES_BESIDE}), 0) FROM rows WHERE lane = ?",
                (lane,),
            ).fetchone()
            (given_up,) = db.execute(
                "SELECT coalesce(sum(last - first + 1), 0) FROM gaps WHERE lane = ?", (lane,)
            ).fetchone()
            if (rows, real, given_up) != (pending, size, unconfirmed):
                wrong.append(
                    f"lane {lane}: {rows} rows of {real} bytes and {given_up} given up,"
                    f" but the account says {pending}, {size} and {unconfirmed}"
                )
        for lane, seq, payload in db.execute("SELECT lane, seq, payload FROM rows"):
            if not is_sound(node, Lane(lane), seq, payload):
                wrong.append(f"lane {lane}: row {seq} cannot be read")
        db.execute("COMMIT")
        return wrong
