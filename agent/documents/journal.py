"""`documents.db`: the newest desired document, what was written at the node, conflicts, and the clock of the stamps.

Small, synchronous=FULL, and open to two processes at a time: the agent and `edge-agent local`, each in transactions
that read and write together. The agent notices the other's changes by `changes`.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.small_file import SharedFile
from runtime.sqlite import Migration
from runtime.timeline import MachineTime, Reading, read
from schemas.documents import Conflict, Desired, Write, decode_desired, encode
from schemas.errors import RemoteWireError
from schemas.hlc import Clock, Stamp
from schemas.resolve import Known, merge, resolve
from schemas.shape import ShapeError, fields_of
from schemas.shape import read as read_shape

log = logging.getLogger(__name__)

FILE_NAME = "documents.db"
CONFLICTS_MAX = 200

MIGRATIONS: tuple[Migration, ...] = (
    (
        "0001_documents",
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE desired (id INTEGER PRIMARY KEY CHECK (id = 1), document TEXT NOT NULL);
        CREATE TABLE local (
            path TEXT PRIMARY KEY,
            value TEXT NOT NULL,  -- JSON; null: taken back
            at TEXT NOT NULL,
            over TEXT NOT NULL    -- the coordinator's write that was known then
        ) WITHOUT ROWID;
        CREATE TABLE conflicts (
            id INTEGER PRIMARY KEY,
            path TEXT NOT NULL,
            coordinator_at TEXT NOT NULL,
            node_at TEXT NOT NULL,
            document TEXT NOT NULL,
            UNIQUE (path, coordinator_at, node_at)
        );
        """,
    ),
)


@dataclass(frozen=True, slots=True)
class Journalled:
    """What the file holds. `ahead_ms`: how far a stamp of the desired document was ahead of our clock, if too far."""

    known: Known = Known()
    conflicts: list[Conflict] = field(default_factory=list)  # oldest first
    ahead_ms: int = 0


class Journal(SharedFile):
    """One connection to the file. Methods raise StorageError when the disk refuses; nothing has changed then."""

    def __init__(self, path: Path, node: str, *, set_aside: bool = False) -> None:
        """Opens or makes the file. A damaged one is set aside where the caller may: the desired document comes again.

        Raises StorageError or StorageFormatError.
        """
        lost = "what was written at this node is lost from here"
        super().__init__(path, MIGRATIONS, "FULL", set_aside=set_aside, lost=lost)
        self._node = node

    def journalled(self) -> Journalled:
        with self._looking():
            return self._journalled()

    def keep_time(self, now: MachineTime) -> None:
        """From now on a jump of the wall clock is noticed."""
        with self._changing():
            self._keep_time(now)

    def utc_ms(self, now: MachineTime) -> int:
        """UTC that does not follow a jump of the wall clock."""
        with self._looking():
            return self._reading(now).utc_ms

    def accept(self, desired: Desired, now: MachineTime) -> bool:
        """Keeps a desired document that is later than the one we have. False: it is not."""
        with self._changing() as db:
            before = self._journalled().known
            if desired.version <= before.desired.version:
                return False
            known = merge(before, Known(desired))
            text = encode(known.desired).decode()
            db.execute("INSERT OR REPLACE INTO desired (id, document) VALUES (1, ?)", (text,))
            now_ms = self._keep_time(now)
            ahead_ms = 0
            clock = self._clock()
            for write in known.desired.writes().values():
                for stamp in (write.at, write.over):  # the second is ours, from before a copy was put back perhaps
                    seen = clock.merge(stamp, now_ms)
                    clock, ahead_ms = seen.clock, max(ahead_ms, seen.ahead_ms)
            self._keep_clock(clock)
            self._set("ahead_ms", str(ahead_ms))
            self._keep_conflicts(resolve(known).conflicts)
        return True

    def write(self, path: str, value: Any, now: MachineTime) -> bool:
        """A local operator writes a shared field, or takes it back with None. False: there is nothing to take back.

        The same value once more is a write too: it overrules what the other side may have written meanwhile.
        """
        with self._changing() as db:
            known = self._journalled().known
            has_said = path in known.local and known.local[path].value is not None
            if value is None and not has_said and path not in resolve(known).values:
                return False
            clock = self._clock().tick(self._keep_time(now))
            theirs = known.desired.writes().get(path)
            write = Write(value, clock.last, theirs.at if theirs else Stamp())
            db.execute(
                "INSERT OR REPLACE INTO local (path, value, at, over) VALUES (?, ?, ?, ?)",
                (path, json.dumps(value, ensure_ascii=False), str(write.at), write.written.over),
            )
            self._keep_clock(clock)
            self._keep_conflicts(resolve(merge(known, Known(local={path: write}))).conflicts)
        return True

    # ---- inside of a transaction ----------------------------------------------------------------

    def _journalled(self) -> Journalled:
        local, conflicts = {}, []
        for path, *fields in self._db.execute("SELECT path, value, at, over FROM local ORDER BY path"):
            with self._unreadable(f"the local value of {path}"):
                local[path] = _write(*fields)
        for (text,) in self._db.execute("SELECT document FROM conflicts ORDER BY id"):
            with self._unreadable("a conflict"):
                conflicts.append(read_shape(Conflict, json.loads(text), strict=False))
        return Journalled(Known(self._desired(), local), conflicts, int(self._get("ahead_ms") or 0))

    def _desired(self) -> Desired:
        row = self._db.execute("SELECT document FROM desired").fetchone()
        if row is not None:
            with self._unreadable("the desired document"):
                return decode_desired(row[0].encode())
        return Desired()

    @contextmanager
    def _unreadable(self, what: str) -> Iterator[None]:
        """What a failing disk has spoilt is left out: the rest holds, and the coordinator sends its part again."""
        try:
            yield
        except (ValueError, ShapeError, RemoteWireError) as error:
            log.error("%s: %s cannot be read and counts for nothing: %s", self._what, what, error)

    def _keep_conflicts(self, conflicts: Sequence[Conflict]) -> None:
        self._db.executemany(
            "INSERT INTO conflicts (path, coordinator_at, node_at, document) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            [
                (one.path, one.coordinator_at, one.node_at, json.dumps(fields_of(one), ensure_ascii=False))
                for one in conflicts
            ],
        )
        self._db.execute("DELETE FROM conflicts WHERE id <= (SELECT max(id) FROM conflicts) - ?", (CONFLICTS_MAX,))

    def _reading(self, now: MachineTime) -> Reading:
        text = self._get("clock_anchor")
        heard_ms = max((write.at.wall_ms for write in self._desired().writes().values()), default=0)
        return read(MachineTime(*json.loads(text)) if text else None, now, heard_ms)

    def _keep_time(self, now: MachineTime) -> int:
        reading = self._reading(now)
        kept = reading.anchor
        if reading.is_news(int(self._get("clock_jump_ms") or 0)):
            log.warning("%s", reading.told())
            self._set("clock_jump_ms", str(reading.jump_ms))
        self._set("clock_anchor", json.dumps([kept.machine_boot, kept.steady_ms, kept.wall_ms]))
        return reading.utc_ms

    def _clock(self) -> Clock:
        text = self._get("hlc")
        return Clock(self._node, Stamp.parse(text) if text else Stamp())

    def _keep_clock(self, clock: Clock) -> None:
        if clock.last.node:
            self._set("hlc", str(clock.last))

    def _get(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def _write(value: str, at: str, over: str) -> Write:
    return Write(json.loads(value), Stamp.parse(at), Stamp.parse(over) if over else Stamp())
