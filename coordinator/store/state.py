"""The table of platform state: for each key the last write of each writer, whatever the order in which they came.

`change` counts every write that changed something: what `edgectl state watch` goes by, and the order in which the
oldest go where a collection is full. `state_collections` has what is declared of each collection, so that whoever
reads the file finds what holds by the same rule.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from coordinator.state.judge import is_state
from coordinator.store import meta
from coordinator.store.documents import clock_of, keep_clock, reading_of, utc_ms
from coordinator.store.store import Row, StateTaken
from runtime.database import Database
from runtime.timeline import MachineTime
from schemas.errors import RemoteWireError
from schemas.fields import Rule
from schemas.hlc import Clock, Stamp
from schemas.state import Collections, Entry, canonical
from schemas.state_registers import Held, Register, holds, read_change
from schemas.topics import COORDINATOR

log = logging.getLogger(__name__)

OVER_MAX = 1000  # writers of one key whose stamps are remembered as seen: the newest
COLLECTIONS_MAX = 1000  # that nobody declares here: more of them are not kept

_BEFORE = """
SELECT at_ms, at_counter, coalesce(value, '') FROM state
WHERE platform = ? AND collection = ? AND key = ? AND node = ?
"""
_UPSERT = """
INSERT INTO state (platform, collection, key, node, value, at_ms, at_counter, over, time_utc_ms,
    received_utc_ms, checked, change) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (platform, collection, key, node) DO UPDATE SET value = excluded.value, at_ms = excluded.at_ms,
    at_counter = excluded.at_counter, over = excluded.over, time_utc_ms = excluded.time_utc_ms,
    received_utc_ms = excluded.received_utc_ms, checked = excluded.checked, change = excluded.change
"""
_DECLARED = "SELECT declared FROM state_collections WHERE platform = ? AND collection = ?"
_DECLARE = """
INSERT INTO state_collections (platform, collection, declared, owner, rule) VALUES (?, ?, 1, ?, ?)
ON CONFLICT (platform, collection) DO UPDATE SET declared = 1, owner = excluded.owner, rule = excluded.rule
"""
_ONE_MORE = "UPDATE state_collections SET rows = rows + 1 WHERE platform = ? AND collection = ?"
# SQLite 3.40 answers `RETURNING value IS NOT NULL` wrongly where an index has that expression.
_SHED = """
DELETE FROM state WHERE (platform, collection, key, node) IN (
    SELECT platform, collection, key, node FROM state WHERE platform = ?1 AND collection = ?2
    ORDER BY value IS NOT NULL, change LIMIT ?3) RETURNING length(value)
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


def declare(db: Database, collections: Collections) -> None:
    """What is declared from now on, and no more than that."""
    db.execute("UPDATE state_collections SET declared = 0, owner = '', rule = ''")
    db.executemany(
        _DECLARE,
        [
            (one.platform, one.name, one.owner.value, one.rule.value if one.rule else "")
            for one in collections.values()
        ],
    )


def take(db: Database, rows: Iterable[Row], rows_max: int) -> StateTaken:
    """Keeps what the rows of nodes say, those that are of another kind left out."""
    keeper = Keeper(db, rows_max)
    for row in rows:
        if not is_state(row):
            continue
        try:
            change = read_change(json.loads(row.data), row.node)
        except RemoteWireError as error:  # it was judged before; what slipped through stays a row
            log.error("state of %s cannot be read: %s", row.node, error)
            continue
        register = Register(row.node, change.value, change.at, row.time_utc_ms, row.received_utc_ms)
        keeper.keep(place_of(change.collection), change.key, register)
    return keeper.done()


class Keeper:
    """Keeps registers in one transaction, which ends with `done`."""

    def __init__(self, db: Database, rows_max: int) -> None:
        self._db = db
        self._rows_max = rows_max
        self._declared: dict[Place, int] = {}  # as far as it was asked for
        self._change = 0
        self._taken = StateTaken()

    def keep(self, place: Place, key: str, register: Register) -> None:
        """One writer's write, if it is later than what is kept of that writer."""
        at, text = register.at, None if register.value is None else canonical(register.value)
        before = self._db.execute(_BEFORE, (*place, key, register.writer)).fetchone()
        if before is not None and (at.wall_ms, at.counter, text or "") <= before:
            self._taken.stale += 1
            return
        declared = self._declared_of(place)
        if declared is None:
            self._taken.left_out += 1
            return
        self._change = (self._change or last_change(self._db)) + 1
        over = canonical({writer: str(stamp) for writer, stamp in register.over.items()}) if register.over else ""
        self._db.execute(
            _UPSERT,
            (*place, key, register.writer, text, at.wall_ms, at.counter, over, register.time_utc_ms,
             register.received_utc_ms, declared, self._change),
        )  # fmt: skip
        self._taken.changed += 1
        if before is None:
            self._db.execute(_ONE_MORE, place)
            self._taken.shed += _shed(self._db, place, self._rows_max)

    def done(self) -> StateTaken:
        """What it came to."""
        if self._change:
            meta.put(self._db, "state_change", str(self._change))
        return self._taken

    def _declared_of(self, place: Place) -> int | None:
        """1 where the collection is declared, 0 where not, None where there are too many such."""
        if place not in self._declared:
            found = self._db.execute(_DECLARED, place).fetchone()
            if found is None:
                (count,) = self._db.execute("SELECT count(*) FROM state_collections WHERE declared = 0").fetchone()
                if count >= COLLECTIONS_MAX:
                    return None
                self._db.execute("INSERT INTO state_collections (platform, collection) VALUES (?, ?)", place)
            self._declared[place] = int(found[0]) if found else 0
        return self._declared[place]


def last_change(db: Database) -> int:
    """The number of the newest write of all."""
    return int(meta.get(db, "state_change") or 0)


def _shed(db: Database, place: Place, rows_max: int) -> int:
    """Deleted keys go first, then what has not changed for longest. Returns how many values went."""
    (rows,) = db.execute("SELECT rows FROM state_collections WHERE platform = ? AND collection = ?", place).fetchone()
    if rows <= rows_max:
        return 0
    gone = db.execute(_SHED, (*place, rows - rows_max)).fetchall()
    values = sum(length is not None for (length,) in gone)
    db.execute(
        "UPDATE state_collections SET rows = rows - ?, shed = shed + ? WHERE platform = ? AND collection = ?",
        (len(gone), values, *place),
    )
    return values


def write(db: Database, path: str, key: str, text: str | None, now: MachineTime, rows_max: int) -> bool:
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
    others = sorted((one for one in seen if one.writer != COORDINATOR), key=lambda one: one.at)
    over = {one.writer: one.at for one in others[-OVER_MAX:]}
    value = None if text is None else json.loads(text)
    keeper = Keeper(db, rows_max)
    keeper.keep(place, key, Register(COORDINATOR, value, at, now_ms, now_ms, over))
    keeper.done()
    return True


def forget_node(db: Database, node: str) -> int:
    """Nothing of what a node wrote stays behind. Counts what went."""
    gone = db.execute("DELETE FROM state WHERE node = ? RETURNING platform, collection", (node,)).fetchall()
    db.executemany("UPDATE state_collections SET rows = rows - 1 WHERE platform = ? AND collection = ?", gone)
    db.execute("DELETE FROM state_collections WHERE declared = 0 AND rows = 0")
    return len(gone)


# ---- reading -----------------------------------------------------------------------------------------


def registers(db: Database, place: Place, key: str) -> list[Register]:
    """The last write of each writer."""
    return [register_of(row) for row in db.execute(_REGISTERS, (*place, key))]


def by_key(db: Database, place: Place, prefix: str = "", after: str = "") -> Iterator[tuple[str, list[Register]]]:
    """The same for every key of a collection that begins so and comes after `after`, in order."""
    sql = """
        SELECT key, node, value, at_ms, at_counter, over, time_utc_ms, received_utc_ms FROM state
        WHERE platform = ? AND collection = ? AND key > ? AND substr(key, 1, length(?4)) = ?4 ORDER BY key
    """
    for key, rows in groupby(db.execute(sql, (*place, after, prefix)), key=lambda row: row[0]):
        yield str(key), [register_of(row[1:]) for row in rows]


def entry(db: Database, path: str, key: str, rule: Rule | None, now: MachineTime) -> Entry | None:
    """What holds under a key."""
    held = holds(registers(db, place_of(path), key), rule)
    return None if held is None else _entry(key, held, reading_of(db, now).utc_ms)


def entries(db: Database, path: str, prefix: str, rule: Rule | None, now: MachineTime) -> list[Entry]:
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
