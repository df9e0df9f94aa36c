"""The table of platform state: for each key the last write of each writer, whatever the order in which they came.

`change` counts every write that changed something: what `edgectl state watch` goes by, and the order in which the
oldest go where a collection is full. `state_collections` has what is declared of each collection, so that whoever
reads the file finds what holds by the same rule.
"""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from coordinator.state.judge import is_state
from coordinator.store.documents import clock_of, keep_clock, reading_of, utc_ms
from coordinator.store.store import Row, StateTaken
from runtime.timeline import MachineTime
from schemas.errors import RemoteWireError
from schemas.fields import Rule
from schemas.hlc import Clock, Stamp
from schemas.state import Collections, Entry, canonical
from schemas.state_registers import Held, Register, holds, read_change
from schemas.topics import COORDINATOR

log = logging.getLogger(__name__)

COLLECTIONS_MAX = 1000  # that nobody declares here: more of them are not kept

_INSERT = """
INSERT OR REPLACE INTO state (platform, collection, key, node, value, at_ms, at_counter, over, time_utc_ms,
    received_utc_ms, checked, change) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# SQLite 3.40 answers `RETURNING value IS NOT NULL` wrongly where an index has that expression.
_SHED = """
DELETE FROM state WHERE (platform, collection, key, node) IN (
    SELECT platform, collection, key, node FROM state WHERE platform = ?1 AND collection = ?2
    ORDER BY value IS NOT NULL, change LIMIT ?3) RETURNING typeof(value) <> 'null'
"""
_REGISTERS = """
SELECT node, value, at_ms, at_counter, over, time_utc_ms, received_utc_ms FROM state
WHERE platform = ? AND collection = ? AND key = ?
"""

Place = tuple[str, str]
"""(platform, collection)."""


def place_of(path: str) -> Place:
    platform, _, collection = path.partition(".")
    return platform, collection


# ---- writing -----------------------------------------------------------------------------------------


def declare(db: sqlite3.Connection, collections: Collections) -> None:
    """What is declared from now on, and no more than that."""
    db.execute("UPDATE state_collections SET declared = 0, owner = '', rule = ''")
    db.executemany(
        "INSERT INTO state_collections (platform, collection, declared, owner, rule) VALUES (?, ?, 1, ?, ?)"
        " ON CONFLICT DO UPDATE SET declared = 1, owner = excluded.owner, rule = excluded.rule",
        [
            (one.platform, one.name, one.owner.value, one.rule.value if one.rule else "")
            for one in collections.values()
        ],
    )


def take(db: sqlite3.Connection, rows: Iterable[Row], rows_max: int) -> StateTaken:
    """Keeps what the rows of nodes say, those that are of another kind left out."""
    taken = StateTaken()
    for row in rows:
        if not is_state(row):
            continue
        try:
            change = read_change(json.loads(row.data), row.node)
        except RemoteWireError as error:  # it was judged before; what slipped through stays a row
            log.error("state of %s cannot be read: %s", row.node, error)
            continue
        register = Register(row.node, change.value, change.at, row.time_utc_ms, row.received_utc_ms)
        keep(db, place_of(change.collection), change.key, register, rows_max, taken)
    return taken


def keep(
    db: sqlite3.Connection, place: Place, key: str, register: Register, rows_max: int, taken: StateTaken
) -> None:
    """One writer's write, if it is later than what is kept of that writer."""
    at, text = register.at, None if register.value is None else canonical(register.value)
    before = db.execute(
        "SELECT at_ms, at_counter, coalesce(value, '') FROM state"
        " WHERE platform = ? AND collection = ? AND key = ? AND node = ?",
        (*place, key, register.writer),
    ).fetchone()
    if before is not None and (at.wall_ms, at.counter, text or "") <= before:
        taken.stale += 1
        return
    declared = _count_in(db, place, new=before is None)
    if declared is None:
        taken.left_out += 1
        return
    over = canonical({writer: str(stamp) for writer, stamp in register.over.items()}) if register.over else ""
    db.execute(
        _INSERT,
        (*place, key, register.writer, text, at.wall_ms, at.counter, over, register.time_utc_ms,
         register.received_utc_ms, declared, _next_change(db)),
    )  # fmt: skip
    taken.changed += 1
    if before is None:
        taken.shed += _shed(db, place, rows_max)


def _count_in(db: sqlite3.Connection, place: Place, *, new: bool) -> int | None:
    """1 where the collection is declared, 0 where not, None where there are too many such."""
    found = db.execute(
        "UPDATE state_collections SET rows = rows + ? WHERE platform = ? AND collection = ? RETURNING declared",
        (int(new), *place),
    ).fetchone()
    if found is not None:
        return int(found[0])
    (count,) = db.execute("SELECT count(*) FROM state_collections WHERE NOT declared").fetchone()
    if count >= COLLECTIONS_MAX:
        return None
    db.execute("INSERT INTO state_collections (platform, collection, rows) VALUES (?, ?, 1)", place)
    return 0


def _next_change(db: sqlite3.Connection) -> int:
    sql = """
        INSERT INTO meta (key, value) VALUES ('state_change', '1')
        ON CONFLICT DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING value
    """
    return int(db.execute(sql).fetchone()[0])


def _shed(db: sqlite3.Connection, place: Place, rows_max: int) -> int:
    """Deleted keys go first, then what has not changed for longest. Returns how many values went."""
    (rows,) = db.execute("SELECT rows FROM state_collections WHERE platform = ? AND collection = ?", place).fetchone()
    if rows <= rows_max:
        return 0
    gone = db.execute(_SHED, (*place, rows - rows_max)).fetchall()
    values = sum(int(has_value) for (has_value,) in gone)
    db.execute(
        "UPDATE state_collections SET rows = rows - ?, shed = shed + ? WHERE platform = ? AND collection = ?",
        (len(gone), values, *place),
    )
    return values


def write(db: sqlite3.Connection, path: str, key: str, text: str | None, now: MachineTime, rows_max: int) -> bool:
    """The coordinator's own write of a value as JSON, later than everything that it has seen of the key.

    None deletes; False: there was nothing to delete.
    """
    now_ms, place = utc_ms(db, now), place_of(path)
    seen = registers(db, place, key)
    if text is None and all(one.value is None for one in seen):
        return False
    clock = clock_of(db).tick(now_ms)
    keep_clock(db, clock)
    # A node's clock that is far ahead draws this one write along, but not our clock.
    newest = max([clock.last, *(one.at for one in seen)])
    at = clock.last if newest == clock.last else Clock(COORDINATOR, newest).tick(now_ms).last
    over = {one.writer: one.at for one in seen if one.writer != COORDINATOR}
    value = None if text is None else json.loads(text)
    keep(db, place, key, Register(COORDINATOR, value, at, now_ms, now_ms, over), rows_max, StateTaken())
    return True


def forget_node(db: sqlite3.Connection, node: str) -> int:
    """Nothing of what a node wrote stays behind. Counts what went."""
    gone = db.execute("DELETE FROM state WHERE node = ? RETURNING platform, collection", (node,)).fetchall()
    db.executemany("UPDATE state_collections SET rows = rows - 1 WHERE platform = ? AND collection = ?", gone)
    return len(gone)


# ---- reading -----------------------------------------------------------------------------------------


def registers(db: sqlite3.Connection, place: Place, key: str) -> list[Register]:
    """The last write of each writer."""
    return [register_of(row) for row in db.execute(_REGISTERS, (*place, key))]


def by_key(
    db: sqlite3.Connection, place: Place, prefix: str = "", after: str = ""
) -> Iterator[tuple[str, list[Register]]]:
    """The same for every key of a collection that begins so and comes after `after`, in order."""
    sql = """
        SELECT key, node, value, at_ms, at_counter, over, time_utc_ms, received_utc_ms FROM state
        WHERE platform = ? AND collection = ? AND key > ? AND substr(key, 1, length(?4)) = ?4 ORDER BY key
    """
    for key, rows in groupby(db.execute(sql, (*place, after, prefix)), key=lambda row: row[0]):
        yield str(key), [register_of(row[1:]) for row in rows]


def entry(db: sqlite3.Connection, path: str, key: str, rule: Rule | None, now: MachineTime) -> Entry | None:
    """What holds under a key."""
    held = holds(registers(db, place_of(path), key), rule)
    return None if held is None else _entry(key, held, reading_of(db, now).utc_ms)


def entries(db: sqlite3.Connection, path: str, prefix: str, rule: Rule | None, now: MachineTime) -> list[Entry]:
    """What holds under each key that begins so."""
    now_ms = reading_of(db, now).utc_ms
    found = ((key, holds(written, rule)) for key, written in by_key(db, place_of(path), prefix))
    return [_entry(key, held, now_ms) for key, held in found if held is not None]


def _entry(key: str, held: Held, now_ms: int) -> Entry:
    said_ms = said_at_ms(held.register)
    age_s = max(0, now_ms - said_ms) / 1000
    return Entry(key, held.value, said_ms, age_s, ", ".join(held.writers))


def said_at_ms(register: Register) -> int:
    """When it was written, as far as it can be told: by the writer's clock, but not after it came."""
    return min(register.time_utc_ms, register.received_utc_ms)


def register_of(row: Sequence[Any]) -> Register:
    """From node, value, at_ms, at_counter, over, time_utc_ms, received_utc_ms."""
    node, text, at_ms, at_counter, over, time_utc_ms, received_utc_ms = row
    return Register(
        node,
        None if text is None else json.loads(text),
        Stamp(at_ms, at_counter, node),
        time_utc_ms,
        received_utc_ms,
        _over(over),
    )


def _over(text: str) -> Mapping[str, Stamp]:
    return {writer: Stamp.parse(at) for writer, at in json.loads(text).items()} if text else {}
