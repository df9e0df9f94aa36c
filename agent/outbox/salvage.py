"""A damaged outbox is set aside whole, and every row that can still be read goes into a new file.

Rows keep their identity and their bytes, so that one which the coordinator has already is stored once. What cannot
be read becomes gap records of reason `damaged`: the coordinator's answer says which of those rows it had.
"""

import itertools
import json
import logging
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.outbox.encode import is_sound, stream_in
from agent.outbox.gaps import DAMAGED, OpenGap
from agent.outbox.rows import LANES
from agent.outbox.settings import ROW_BYTES_BESIDE
from agent.outbox.tables import MIGRATIONS, Streams, add, write_gaps
from runtime.sqlite import DiskFullError, StorageFormatError, connect, migrate, storage_errors, transaction
from schemas.identity import Lane

log = logging.getLogger(__name__)

PROBES_MAX = 200_000  # questions to a damaged file: beyond that the rest counts as unreadable
ROWS_AT_ONCE = 256
GAPS_MAX = 20_000


@dataclass(slots=True)
class SalvageReport:
    """What was found, for people; kept as JSON beside the file that was set aside."""

    damaged_file: str
    reason: str
    rows_saved: dict[str, int] = field(default_factory=dict)
    rows_unreadable: dict[str, int] = field(default_factory=dict)  # the coordinator may have some of them
    quarantined_saved: int = 0
    numbers_from: str = "the file"  # or "the rows": the lanes' own numbers could not be read


def damage(path: Path, *, thorough: bool) -> str:
    """What is wrong with the file, or an empty text. `thorough` reads all of it: some 100 MB in a second."""
    if not path.exists():
        return ""
    try:
        db = connect(path)
    except StorageFormatError as error:
        return str(error.__cause__ or error)
    try:
        if not thorough and _closed_in_order(db):
            return ""
        found = [str(row[0]) for row in db.execute("PRAGMA quick_check(5)")]
        return "" if found == ["ok"] else "; ".join(found)
    except sqlite3.OperationalError as error:
        if "malformed" in str(error):
            return str(error)
        with storage_errors(str(path)):
            raise
        raise
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        db.close()


def _closed_in_order(db: sqlite3.Connection) -> bool:
    try:
        found = db.execute("SELECT value FROM meta WHERE key = 'closed'").fetchone()
    except sqlite3.OperationalError:
        return False
    return found is not None and found[0] == "1"


def salvage(path: Path, *, node: str, reason: str) -> SalvageReport:
    """Sets the file aside and makes a new one of what it holds. Raises StorageError; then nothing is changed."""
    aside = _name_aside(path)
    fresh = path.with_name(f"{path.name}.new")
    for leftover in _family(fresh):
        leftover.unlink(missing_ok=True)
    # Work on a copy: trying to read a damaged file may change it, and it is the only one there is.
    copy = path.with_name(f"{path.name}.reading")
    try:
        _copy(path, copy)
        report = SalvageReport(aside.name, reason)
        try:
            _fill(fresh, copy, node, report)
        finally:
            for leftover in _family(copy):
                leftover.unlink(missing_ok=True)
    except OSError as error:
        raise DiskFullError(
            f"{path}: damaged ({reason}), and no room to salvage it: {error}",
            hint="free as much space as the file takes; it is left as it is",
        ) from error
    text = json.dumps(asdict(report), indent=2) + "\n"
    aside.with_name(aside.name + ".json").write_text(text, encoding="utf-8")
    path.rename(aside)
    adopt_finished(path, aside)
    log.error(
        "outbox: %s was damaged (%s); %d rows saved, %d unreadable; the file is kept as %s",
        path, reason, sum(report.rows_saved.values()), sum(report.rows_unreadable.values()), aside.name,
    )  # fmt: skip
    return report


def adopt_finished(path: Path, aside: Path | None = None) -> None:
    """Puts a finished salvage in place, also one that was cut off after the damaged file had been set aside."""
    fresh = path.with_name(f"{path.name}.new")
    if path.exists() or not fresh.exists():
        return
    aside = aside or _name_aside(path)
    for old, suffix in zip(_family(path), _SUFFIXES, strict=True):
        if old.exists():  # the write-ahead log of the damaged file must not be taken for the new one's
            old.rename(aside.with_name(aside.name + suffix))
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


_SUFFIXES = ("", "-wal", "-shm")


def _family(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _SUFFIXES]


def _name_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for n in itertools.count():
        aside = path.with_name(f"{path.name}.damaged-{stamp}" + (f"-{n}" if n else ""))
        if not aside.exists():
            return aside
    raise AssertionError("itertools.count ends never")


def _copy(path: Path, copy: Path) -> None:
    for source, target in zip(_family(path), _family(copy), strict=True):
        target.unlink(missing_ok=True)
        if source.exists() and not source.name.endswith("-shm"):
            shutil.copyfile(source, target)


def _fill(fresh: Path, damaged: Path, node: str, report: SalvageReport) -> None:
    db = connect(fresh)
    try:
        with storage_errors(str(fresh)):
            db.execute("PRAGMA synchronous = FULL")
            migrate(db, MIGRATIONS, what=str(fresh))
            old = _opened(damaged, fresh)
            try:
                with transaction(db):
                    _carry(db, old, node, report)
            finally:
                if old is not None:
                    old.close()
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()


def _opened(damaged: Path, fresh: Path) -> sqlite3.Connection | None:
    """A connection to what is left. Where the first page is gone, that of a new file stands in: same tables, same
    places. None when nothing can be read at all.
    """
    for attempt in ("as it is", "with a new first page"):
        try:
            db = connect(damaged, read_only=False)
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchone():
                return db
            db.close()
        except (sqlite3.Error, StorageFormatError) as error:
            log.warning("outbox: the damaged file cannot be opened %s: %s", attempt, error)
        if attempt == "as it is" and not _graft_first_page(damaged, fresh):
            return None
    return None


def _graft_first_page(damaged: Path, fresh: Path) -> bool:
    scratch = connect(fresh)
    try:
        scratch.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page_size,) = scratch.execute("PRAGMA page_size").fetchone()
    finally:
        scratch.close()
    size = damaged.stat().st_size
    if size < 2 * page_size:
        return False
    first = bytearray(fresh.read_bytes()[:page_size])
    first[28:32] = (size // page_size).to_bytes(4, "big")  # the file's length in pages
    first[32:40] = bytes(8)  # no list of free pages: nothing is going to be written
    with damaged.open("r+b") as file:
        file.write(first)
    return True


def _carry(db: sqlite3.Connection, old: sqlite3.Connection | None, node: str, report: SalvageReport) -> None:
    db.executemany("INSERT OR IGNORE INTO lanes (lane) VALUES (?)", [(lane.value,) for lane in LANES])
    numbers, streams, probe = _old_numbers(old), _old_streams(old), _Probe(old)
    if not numbers:
        report.numbers_from = "the rows"
    for lane in LANES:
        entries = streams.get(lane, [])
        saved = _carry_rows(db, probe, lane, node, entries, numbers.get(lane, {}))
        aside = _carry_quarantine(db, old, lane)
        report.quarantined_saved += len(aside)
        report.rows_saved[lane.value] = len(saved)
        report.rows_unreadable[lane.value] = _account_for(db, lane, saved, aside, entries, numbers.get(lane, {}))
        db.executemany(
            "INSERT OR REPLACE INTO streams (lane, first_seq, stream) VALUES (?, ?, ?)",
            [(lane.value, first, name) for first, name in entries],
        )
    _cut_gaps(db)
    # `stream` in meta, and nothing else: the next opening finds a file that was not closed in order and renews it.
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('stream', ?)", (secrets.token_hex(8),))
    run_s = _one_value(old, "SELECT value FROM meta WHERE key = 'run_s'")
    run_s = run_s if isinstance(run_s, str) and run_s.isdigit() else "0"
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('run_s', ?)", (run_s,))


def _carry_rows(
    db: sqlite3.Connection,
    probe: "_Probe",
    lane: Lane,
    node: str,
    entries: list[tuple[int, str]],
    numbers: dict[str, int],
) -> list[int]:
    """Copies the sound rows of a lane; their numbers, ascending. Where no streams are known, rows that name theirs
    teach them; a batched row names none, and under another stream it would be another row.
    """
    saved: list[int] = []
    size = 0
    known = Streams([(lane.value, *entry) for entry in entries]) if entries else None
    for seq, kind, severity, payload, created in probe.rows(lane, numbers.get("next_seq", 2**40)):
        if not (isinstance(payload, bytes) and isinstance(kind, str) and is_sound(node, lane, seq, payload)):
            continue
        named = stream_in(node, payload)
        if known is not None:
            if named is not None and named != known.of(lane, seq):
                continue
        elif named is None:
            continue
        elif not entries or entries[-1][1] != named:
            entries.append((seq if entries else 1, named))
        db.execute(
            "INSERT OR IGNORE INTO rows (lane, seq, type, severity, payload, created_utc_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (lane.value, seq, kind, severity, payload, created),
        )
        size += len(payload) + ROW_BYTES_BESIDE
        saved.append(seq)
    add(db, lane, pending=len(saved), bytes=size)
    return saved


def _carry_quarantine(db: sqlite3.Connection, old: sqlite3.Connection | None, lane: Lane) -> list[int]:
    if old is None:
        return []
    try:
        found = old.execute(
            "SELECT lane, seq, type, payload, reason FROM quarantine WHERE lane = ?", (lane.value,)
        ).fetchall()
    except sqlite3.Error:
        return []
    db.executemany(
        "INSERT OR IGNORE INTO quarantine (lane, seq, type, payload, reason) VALUES (?, ?, ?, ?, ?)", found
    )
    return [int(row[1]) for row in found]


def _account_for(
    db: sqlite3.Connection,
    lane: Lane,
    saved: list[int],
    aside: list[int],
    entries: list[tuple[int, str]],
    numbers: dict[str, int],
) -> int:
    """Every number up to the last is waiting, set aside, finished long ago, or asked for as damaged: counts these."""
    known = sorted({*saved, *aside})
    next_seq = max(numbers.get("next_seq", 1), known[-1] + 1 if known else 1)
    begin = entries[0][0] if entries else next_seq  # what lies before belongs to streams with nothing left
    missing: list[OpenGap] = []
    at = begin
    for seq in [*(seq for seq in known if seq >= begin), next_seq]:
        if at < seq:
            missing.append(OpenGap(lane, at, seq - 1, DAMAGED))
        at = seq + 1
    count = sum(map(len, missing))
    write_gaps(db, missing)
    finished = begin - 1 - sum(seq < begin for seq in aside)
    # Nobody can be asked about a lane whose streams nobody knows: then all of it is damaged.
    lost = 0 if entries else finished
    shed_known = numbers.get("shed", 0) + numbers.get("shed_before", 0)
    shed = min(finished - lost, shed_known)
    add(
        db, lane, next_seq=next_seq - 1, produced=next_seq - 1, unconfirmed=count, quarantined=len(aside),
        stored=finished - lost - shed, shed=shed, damaged=lost, shed_before=min(count, shed_known - shed),
    )  # fmt: skip
    return count + lost


def _cut_gaps(db: sqlite3.Connection) -> None:
    """No gap record reaches over the beginning of a stream: each is told under the one it belongs to."""
    streams = Streams(db.execute("SELECT lane, first_seq, stream FROM streams").fetchall())
    for lane, first, last, reason in db.execute("SELECT lane, first, last, reason FROM gaps").fetchall():
        pieces = streams.cut(Lane(lane), [(first, last)])
        if len(pieces) > 1:
            write_gaps(db, [OpenGap(Lane(lane), *piece, reason) for piece in pieces])


def _old_numbers(old: sqlite3.Connection | None) -> dict[Lane, dict[str, int]]:
    if old is None:
        return {}
    try:
        cursor = old.execute("SELECT * FROM lanes")
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor]
    except sqlite3.Error:
        return {}
    known = {lane.value for lane in LANES}
    return {
        Lane(row["lane"]): {key: value for key, value in row.items() if type(value) is int}
        for row in found
        if row.get("lane") in known
    }


def _old_streams(old: sqlite3.Connection | None) -> dict[Lane, list[tuple[int, str]]]:
    found: dict[Lane, list[tuple[int, str]]] = {}
    if old is None:
        return found
    try:
        entries = old.execute("SELECT lane, first_seq, stream FROM streams ORDER BY lane, first_seq").fetchall()
    except sqlite3.Error:
        entries = []
    for lane, first, name in entries:
        if lane in {item.value for item in LANES}:
            found.setdefault(Lane(lane), []).append((int(first), str(name)))
    if not found:  # a file of before this table, or the table is gone
        stream = _one_value(old, "SELECT value FROM meta WHERE key = 'stream'")
        tables = _one_value(old, "SELECT count(*) FROM sqlite_master WHERE name = 'streams'")
        if stream and tables == 0:
            found = {lane: [(1, str(stream))] for lane in LANES}
    return found


def _one_value(old: sqlite3.Connection | None, sql: str) -> object:
    if old is None:
        return None
    try:
        row = old.execute(sql).fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else row[0]


class _Probe:
    """Reads rows around the pages that cannot be read: a range that fails is halved until it works or is one row."""

    def __init__(self, db: sqlite3.Connection | None) -> None:
        self._db = db
        self._left = PROBES_MAX

    def rows(self, lane: Lane, upper: int) -> Iterator[tuple[int, object, object, object, object]]:
        """The readable rows of a lane with numbers below `upper`, ascending."""
        if self._db is None:
            return
        waiting = [(0, upper)]  # half-open ranges, the next one last
        while waiting and self._left > 0:
            low, high = waiting.pop()
            read: list[tuple[int, object, object, object, object]] = []
            failed = self._read(lane, low, high, read.append)
            yield from read
            if read:
                low = read[-1][0] + 1
            if not failed:
                if len(read) == ROWS_AT_ONCE:
                    waiting.append((low, high))
            elif high - low > 1:
                middle = (low + high) // 2
                waiting += [(middle, high), (low, middle)]

    def _read(
        self, lane: Lane, low: int, high: int, keep: Callable[[tuple[int, object, object, object, object]], None]
    ) -> bool:
        """True when the file could not be read before the end of the range."""
        assert self._db is not None
        self._left -= 1
        try:
            for row in self._db.execute(
                "SELECT seq, type, severity, payload, created_utc_ms FROM rows"
                " WHERE lane = ? AND seq >= ? AND seq < ? ORDER BY seq LIMIT ?",
                (lane.value, low, high, ROWS_AT_ONCE),
            ):
                if type(row[0]) is not int or not low <= row[0] < high:
                    return True
                keep(row)
        except sqlite3.Error:
            return True
        return False
