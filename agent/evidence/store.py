"""What evidence the node keeps: files by content, an index beside them, a quota, and what is mended at the start.

A file is durable before its row, the row before its event; rows go before their files. So whatever is cut off leaves
at most a file without a row, which the next start takes in again, to stay here. All methods block: call them from a
thread.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from agent.evidence.files import Files, content_type_of
from agent.evidence.settings import EvidenceSettings
from agent.evidence.tables import (
    COLUMNS,
    MIGRATIONS,
    SEND_ORDER,
    SHED_ORDER,
    Binding,
    Kept,
    Piece,
    State,
    kept_of,
    listed,
)
from runtime.errors import PermanentError
from runtime.sqlite import (
    DiskFullError,
    NewerVersionError,
    StorageError,
    StorageFormatError,
    connect,
    migrate,
    storage_errors,
    transaction,
)

log = logging.getLogger(__name__)

INDEX_NAME = "evidence.db"
FOLDER_NAME = "evidence"
SHED_AT_ONCE = 64


class NoRoomError(PermanentError):
    """The quota, or the disk's reserve, leaves no room for this piece."""


@dataclass(frozen=True, slots=True)
class Healed:
    """What the start found and mended."""

    temporary_removed: int = 0  # unfinished writes
    files_adopted: int = 0  # files without a row: kept, never sent
    files_removed: int = 0  # files that are not what their names say
    rows_removed: int = 0  # rows whose file is gone or damaged
    index_renewed: bool = False  # the index was damaged and set aside

    @property
    def anything(self) -> bool:
        return any(asdict(self).values())


class EvidenceStore:
    """One node's. `heal` once before use."""

    def __init__(self, data_dir: Path, settings: EvidenceSettings, *, clock: Callable[[], float] = time.monotonic):
        """Opens or makes `evidence.db` and the folder. Raises StorageError; StorageFormatError of a newer version."""
        self.files = Files(data_dir / FOLDER_NAME)
        self.files.folder.mkdir(parents=True, exist_ok=True)
        self._path = data_dir / INDEX_NAME
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._renewed = False
        self._db = self._open()
        with storage_errors("evidence"):
            self.bytes, self.count = self._db.execute(
                "SELECT coalesce(sum(bytes), 0), count(*) FROM evidence"
            ).fetchone()
            row = self._db.execute("SELECT value FROM meta WHERE key = 'run_s'").fetchone()
        self._run_base_s = float(row[0]) if row else 0.0
        self._began_s = clock()
        self.shed_total = 0
        self.no_room_total = 0

    # ---- opening --------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            return self._opened()
        except NewerVersionError:
            raise
        except StorageFormatError as error:
            aside = self._path.with_name(f"{INDEX_NAME}.damaged-{time.time_ns() // 1_000_000}")
            log.error("evidence: the index is damaged and set aside as %s: %s", aside.name, error)
            self._path.rename(aside)
            for ending in ("-wal", "-shm"):
                self._path.with_name(INDEX_NAME + ending).unlink(missing_ok=True)
            self._renewed = True
            return self._opened()

    def _opened(self) -> sqlite3.Connection:
        db = connect(self._path)
        try:
            with storage_errors("evidence"):
                db.execute("PRAGMA synchronous = FULL")
                (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
                if said != "ok":
                    raise StorageFormatError(f"{self._path}: {said}")
                migrate(db, MIGRATIONS, what=str(self._path))
        except BaseException:
            db.close()
            raise
        return db

    def heal(self) -> Healed:
        """Brings files and index together again."""
        temporary = self.files.clear_temporary()
        on_disk = dict(self.files.sizes())
        with self._writing() as db:
            in_index = dict(db.execute("SELECT sha256, bytes FROM evidence"))
            bad = [sha256 for sha256, size in in_index.items() if on_disk.get(sha256) != size]
            db.executemany("DELETE FROM evidence WHERE sha256 = ?", [(sha256,) for sha256 in bad])
        for sha256 in bad:
            self.files.remove(sha256)
        adopted = removed = 0
        for sha256 in on_disk.keys() - in_index.keys():
            if self.files.is_sound(sha256):
                self._adopt(sha256, on_disk[sha256])
                adopted += 1
            else:
                self.files.remove(sha256)
                removed += 1
        self._recount()
        return Healed(temporary, adopted, removed, len(bad), self._renewed)

    def _adopt(self, sha256: str, size: int) -> None:
        """Nobody knows any more what it shows, nor whether people in it are hidden: it stays."""
        made_ms = self.files.path(sha256).stat().st_mtime_ns // 1_000_000
        kind = content_type_of(self.files.read(sha256, 0, 16))
        piece = Piece(kind, "", made_ms, made_ms, local_only=True, reason="found without an entry in the index")
        with self._writing() as db:
            self._insert(db, sha256, size, piece, alert=False)

    # ---- keeping --------------------------------------------------------------------------------

    def put(self, data: bytes, piece: Piece, binding: Binding) -> Kept:
        """Keeps a piece, durably. Raises NoRoomError when nothing of less value can make room, or a StorageError."""
        for_alert = bool(binding.severity)
        self._make_room(len(data), for_alert=for_alert)
        try:
            return self._put(data, piece, binding)
        except DiskFullError:  # others fill it too
            if not self._shed_bytes(len(data), for_alert=for_alert):
                raise
            return self._put(data, piece, binding)

    def _put(self, data: bytes, piece: Piece, binding: Binding) -> Kept:
        sha256 = self.files.write(data)
        try:
            self._index(sha256, len(data), piece, binding)
        except StorageError:
            if self.get(sha256) is None:
                self.files.remove(sha256)
            raise
        found = self.get(sha256)
        assert found is not None
        return found

    def _index(self, sha256: str, size: int, piece: Piece, binding: Binding) -> None:
        with self._writing() as db:
            known = db.execute("SELECT 1 FROM evidence WHERE sha256 = ?", (sha256,)).fetchone()
            if known is None:
                self._insert(db, sha256, size, piece, alert=bool(binding.severity))
            else:  # the same bytes: what once had to stay goes on staying
                db.execute(
                    "UPDATE evidence SET local_only = max(local_only, ?), alert = max(alert, ?) WHERE sha256 = ?",
                    (piece.local_only, bool(binding.severity), sha256),
                )
            bound = db.execute(
                "INSERT OR IGNORE INTO bindings (sha256, event_id, event_type, time_utc_ms, alert_id, severity)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (sha256, *astuple(binding)),
            ).rowcount
            if bound and known is not None:  # the coordinator has it, and is to hear of the further event
                db.execute("UPDATE evidence SET state = 'asked' WHERE sha256 = ? AND state = 'sent'", (sha256,))
        self._recount()

    def _insert(self, db: sqlite3.Connection, sha256: str, size: int, piece: Piece, *, alert: bool) -> None:
        db.execute(
            f"INSERT INTO evidence ({COLUMNS}, alert, made_run_s) VALUES ({', '.join('?' * 15)})",
            (
                sha256, size, piece.content_type, piece.camera_id, piece.from_utc_ms, piece.to_utc_ms, piece.width,
                piece.height, piece.blurred, piece.local_only, piece.reason, State.KEPT.value, piece.view, alert,
                self.run_s,
            ),
        )  # fmt: skip

    def untold(self) -> list[tuple[Kept, Binding]]:
        """Bindings whose event is not in the outbox yet, oldest first."""
        found: list[tuple[Kept, Binding]] = []
        sql = "SELECT sha256, event_id FROM bindings WHERE NOT told ORDER BY time_utc_ms, event_id LIMIT 1000"
        with self._reading() as db:
            for sha256, event_id in db.execute(sql).fetchall():
                kept = self._get(db, sha256)
                assert kept is not None  # the reference sees to it
                found.append((kept, next(one for one in kept.events if one.event_id == event_id)))
        return found

    def told(self, sha256: str, event_id: str) -> None:
        """The event is in the outbox."""
        with self._writing() as db:
            db.execute("UPDATE bindings SET told = 1 WHERE sha256 = ? AND event_id = ?", (sha256, event_id))

    # ---- asking ---------------------------------------------------------------------------------

    def get(self, sha256: str) -> Kept | None:
        with self._reading() as db:
            return self._get(db, sha256)

    def listed(
        self, *, camera_id: str = "", since_utc_ms: int = 0, until_utc_ms: int = 2**62, event_id: str = "",
        limit: int = 100,
    ) -> list[Kept]:  # fmt: skip
        """The newest that match, newest first."""
        with self._reading() as db:
            return listed(
                db,
                camera_id=camera_id,
                since_utc_ms=since_utc_ms,
                until_utc_ms=until_utc_ms,
                event_id=event_id,
                limit=limit,
            )

    def figures(self) -> dict[str, int]:
        """Pieces by state, and those that stay here."""
        with self._reading() as db:
            found = {state.value: 0 for state in State}
            found |= dict(db.execute("SELECT state, count(*) FROM evidence GROUP BY state"))
            (found["local_only"],) = db.execute("SELECT count(*) FROM evidence WHERE local_only").fetchone()
        return found | {"bytes": self.bytes, "shed_total": self.shed_total, "no_room_total": self.no_room_total}

    # ---- sending --------------------------------------------------------------------------------

    def next_to_send(self, *, all_of_it: bool, without: frozenset[str]) -> Kept | None:
        """The piece to send now, of those that may leave; only what was asked for unless `all_of_it`."""
        states = (State.ASKED.value, State.KEPT.value if all_of_it else State.ASKED.value)
        sql = f"SELECT {COLUMNS} FROM evidence WHERE state IN (?, ?) AND NOT local_only ORDER BY {SEND_ORDER} LIMIT ?"
        with self._reading() as db:
            for row in db.execute(sql, (*states, len(without) + 1)).fetchall():
                if row[0] not in without:
                    return kept_of(row, db)
        return None

    def mark(self, sha256: str, state: State, reason: str = "") -> None:
        """Its state changed."""
        with self._writing() as db:
            db.execute("UPDATE evidence SET state = ?, reason = ? WHERE sha256 = ?", (state.value, reason, sha256))

    def sent(self, kept: Kept) -> bool:
        """The coordinator has it and knows the events it had then. False when it has more by now, or is gone."""
        sql = """
            UPDATE evidence SET state = 'sent', reason = '' WHERE sha256 = ?1
            AND (SELECT count(*) FROM bindings WHERE bindings.sha256 = ?1) = ?2
        """
        with self._writing() as db:
            return bool(db.execute(sql, (kept.sha256, len(kept.events))).rowcount)

    def drop_damaged(self, sha256: str) -> None:
        """The file is not what its name says any more."""
        self._drop([(sha256, self._size(sha256))])

    # ---- limits ---------------------------------------------------------------------------------

    @property
    def run_s(self) -> float:
        """Seconds the agent was running, over all its starts."""
        return self._run_base_s + self._clock() - self._began_s

    def tick(self) -> int:
        """Writes the run time down; gives up what is too old and what the limits no longer allow. Says how many."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('run_s', ?)", (str(self.run_s),))
        before = self.shed_total
        if self._settings.age_max_s:
            sql = "SELECT sha256, bytes FROM evidence WHERE made_run_s < ? ORDER BY id LIMIT 1000"
            with self._reading() as db:
                old = db.execute(sql, (self.run_s - self._settings.age_max_s,)).fetchall()
            self._shed(old)
        excess = max(self.bytes - self._settings.quota_bytes, self._settings.free_bytes_min - self.files.free_bytes())
        if excess > 0:
            self._shed_bytes(excess, for_alert=True)
        return self.shed_total - before

    def _make_room(self, size: int, *, for_alert: bool) -> None:
        """Raises NoRoomError. What no alert is about pushes out none that an alert is about, unless it was sent."""
        fits = size <= self._settings.quota_bytes
        while (excess := self._excess(size)) > 0:
            if not (fits and self._shed_bytes(excess, for_alert=for_alert)):
                break
        if excess > 0:
            self.no_room_total += 1
            settings = self._settings
            if self.bytes + size > settings.quota_bytes:
                why = f"evidence.quota_bytes is {settings.quota_bytes}"
            else:
                why = f"{settings.free_bytes_min} bytes of the disk stay free"
            raise NoRoomError(f"a piece of evidence does not fit: {why}", hint="raise the quota or free the disk")

    def _excess(self, size: int) -> int:
        over_quota = self.bytes + size - self._settings.quota_bytes
        excess: int = max(over_quota, self._settings.free_bytes_min + size - self.files.free_bytes())
        return excess

    def _shed_bytes(self, wanted: int, *, for_alert: bool) -> int:
        """Gives up pieces of the least value until so many bytes are free; says how many bytes it were."""
        freed: int = 0
        while freed < wanted:
            with self._reading() as db:
                sql = f"""
                    SELECT sha256, bytes FROM evidence WHERE ? OR NOT alert OR state = 'sent'
                    ORDER BY {SHED_ORDER} LIMIT ?
                """
                lowest: list[tuple[str, int]] = db.execute(sql, (for_alert, SHED_AT_ONCE)).fetchall()
            chosen: list[tuple[str, int]] = []
            for sha256, size in lowest:
                if freed >= wanted:
                    break
                chosen.append((sha256, size))
                freed += size
            if not chosen:
                break
            self._shed(chosen)
        return freed

    def _shed(self, chosen: list[tuple[str, int]]) -> None:
        self._drop(chosen)
        self.shed_total += len(chosen)

    def _drop(self, chosen: list[tuple[str, int]]) -> None:
        try:
            self._forget(chosen)
        except DiskFullError:  # there is no room even to write that down: for once the files go first
            for sha256, _ in chosen:
                self.files.remove(sha256)
            self._forget(chosen)
        for sha256, _ in chosen:
            self.files.remove(sha256)

    def _forget(self, chosen: list[tuple[str, int]]) -> None:
        with self._writing() as db:
            db.executemany("DELETE FROM evidence WHERE sha256 = ?", [(sha256,) for sha256, _ in chosen])
        self._recount()

    # ---- small things ---------------------------------------------------------------------------

    def _get(self, db: sqlite3.Connection, sha256: str) -> Kept | None:
        row = db.execute(f"SELECT {COLUMNS} FROM evidence WHERE sha256 = ?", (sha256,)).fetchone()
        return None if row is None else kept_of(row, db)

    def _size(self, sha256: str) -> int:
        with self._reading() as db:
            row = db.execute("SELECT bytes FROM evidence WHERE sha256 = ?", (sha256,)).fetchone()
        return int(row[0]) if row else 0

    def _recount(self) -> None:
        with self._reading() as db:
            self.bytes, self.count = db.execute("SELECT coalesce(sum(bytes), 0), count(*) FROM evidence").fetchone()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, storage_errors("evidence"):
            yield self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, storage_errors("evidence"), transaction(self._db) as db:
            yield db

    def close(self) -> None:
        """Lets go of the index."""
        with self._lock:
            self._db.close()
