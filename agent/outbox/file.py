"""The outbox's SQLite file: append, take, acknowledge, refuse, give up. One writer thread, one reader.

Account, per lane and exact at all times:  produced = stored + pending + shed + quarantined + damaged.
`produced` counts what was committed here, `stored` what the coordinator has answered for; `tables` says the rest.
"""

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path

from agent.outbox.ballast import FILE_NAME as BALLAST
from agent.outbox.ballast import Ballast
from agent.outbox.encode import Encoder
from agent.outbox.gaps import DAMAGED, OpenGap, count_within, runs
from agent.outbox.rows import LANES, NAMES, Draft, Row
from agent.outbox.settings import ROW_BYTES_BESIDE, Durability, OutboxSettings
from agent.outbox.shed import Fill, Shed, for_disk, over_caps, slack
from agent.outbox.tables import (
    MIGRATIONS,
    LaneAccount,
    accounts,
    add,
    add_produced,
    delete_rows,
    fills,
    gaps_within,
    insert_rows,
    next_seqs,
    oldest,
    open_gaps,
    read_streams,
    replace_gap,
)
from runtime.sqlite import Writer, connect, migrate, storage_errors, transaction
from schemas.identity import Lane
from schemas.messages import Closed, Gap, Refusal, Severity

TAKE_ROWS = 200  # looked at together
AGED_MAX = 20  # times that many aged rows go in one tick: the writer has others to serve
DISK_CHUNK_BYTES = 64 * 1024  # given up at least when the disk is full: room for a while
QUARANTINED_ROWS_MAX = 100_000


class OutboxFile:
    """One file; `stream` is the random id under which its new numbers are its own."""

    def __init__(
        self,
        path: Path,
        *,
        node: str,
        boot: int,
        settings: OutboxSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens or creates the file. Raises StorageError or StorageFormatError; a damaged file is left as it is."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.settings = settings or OutboxSettings()
        self._durable = frozenset(lane for lane in LANES if self.settings.lane(lane).durability is Durability.POWER)
        db = connect(path)
        with storage_errors(str(path)):
            migrate(db, MIGRATIONS, what=str(path))
            db.execute("PRAGMA synchronous = FULL")
            self.stream, self.renewed = _begin(db, file_id=_file_id(path), boot=boot)
            # A crash of the process loses nothing at NORMAL in WAL mode; a power cut may lose the last moments.
            db.execute("PRAGMA synchronous = NORMAL")
            self._encoder = Encoder(node=node, stream=self.stream, boot=boot)  # the writer's own
            self._streams = read_streams(db)
            self._newest = {Lane(lane): seq - 1 for lane, seq in db.execute("SELECT lane, next_seq FROM lanes")}
            (run_s,) = db.execute("SELECT value FROM meta WHERE key = 'run_s'").fetchone()
        self._clock = clock
        self._run_base_s = float(run_s) - clock()
        self.ballast = Ballast(path.with_name(BALLAST), self.settings.ballast_bytes)
        self.ballast.take()
        self._reader = connect(path, read_only=True)
        self._reading = threading.Lock()
        self._writer = Writer(db, name="outbox")
        self._slack = Fill(0, 0)  # what may be added before the caps are looked at; the writer's own
        self.shed_total = 0  # rows given up since the start

    # ---- in and out -----------------------------------------------------------------------------

    def append(self, drafts: Sequence[Draft]) -> "Future[list[Row]]":
        """Commits the drafts together, in order; the future holds the rows they became."""
        durable = any(draft.lane in self._durable for draft in drafts)
        return self._writer.submit(lambda db: self._append(db, drafts), durable=durable)

    def take(self, lane: Lane, after_seq: int, count_max: int) -> list[Row]:
        """Up to `count_max` waiting rows of a lane with a sequence above `after_seq`, oldest first."""
        with self._reading, storage_errors("outbox"):
            found = self._reader.execute(
                "SELECT seq, type, severity, payload FROM rows WHERE lane = ? AND seq > ? ORDER BY seq LIMIT ?",
                (lane.value, after_seq, count_max),
            ).fetchall()
        return [
            Row(lane, seq, kind, payload, None if severity is None else Severity(severity), self.stream_of(lane, seq))
            for seq, kind, severity, payload in found
        ]

    def stream_of(self, lane: Lane, seq: int) -> str:
        """The stream a number belongs to: rows that waited through a renewal keep theirs."""
        return self._streams.of(lane, seq)

    def span(self, lane: Lane, stream: str) -> tuple[int, int] | None:
        """The numbers of a lane under a stream: only these can an answer for that stream concern. None: not ours."""
        return self._streams.span(lane, stream)

    def newest(self) -> dict[Lane, int]:
        """The last number of each lane as the file was opened, 0 where there is none."""
        return dict(self._newest)

    # ---- the coordinator's answers --------------------------------------------------------------

    def acknowledge(self, answered: Iterable[tuple[Lane, int, int]]) -> "Future[int]":
        """Deletes the rows of each inclusive (lane, from, to): the coordinator has them. Counts them."""
        ranges = list(answered)

        def job(db: sqlite3.Connection) -> int:
            return sum(self._stored(db, lane, first, last) for lane, first, last in ranges)

        return self._writer.submit(job)

    def _stored(self, db: sqlite3.Connection, lane: Lane, first: int, last: int) -> int:
        stored = delete_rows(db, lane, first, last)
        if stored:
            add(db, lane, stored=stored)
        for gap in gaps_within(db, lane, first, last):  # given up, and then it turned out to have arrived
            part, rest = gap.cut(first, last)
            if part is not None:
                replace_gap(db, gap, rest)
                add(db, lane, unconfirmed=-len(part), stored=len(part))
                stored += len(part)
        return stored

    def quarantine(self, refusals: Iterable[Refusal]) -> "Future[int]":
        """Sets rows aside that can never be stored, with the reason; they block nobody and are reported."""
        refused = list(refusals)

        def job(db: sqlite3.Connection) -> int:
            total = 0
            for item in refused:
                key = (item.lane, item.seq)
                moved = db.execute(
                    "INSERT OR REPLACE INTO quarantine (lane, seq, type, payload, reason)"
                    " SELECT lane, seq, type, payload, ? FROM rows WHERE lane = ? AND seq = ?",
                    (item.reason, *key),
                ).rowcount
                if moved > 0:
                    delete_rows(db, Lane(item.lane), item.seq, item.seq)
                    add(db, Lane(item.lane), quarantined=moved)
                    total += moved
            if total:
                _bound_quarantine(db, self.settings.quarantine_bytes_max)
            return total

        return self._writer.submit(job)

    def gaps(self, count_max: int) -> list[Gap]:
        """Gap records that the coordinator has not answered, as they are told."""
        with self._reading, storage_errors("outbox"):
            found = self._reader.execute(
                "SELECT lane, first, last, reason FROM gaps ORDER BY lane, first LIMIT ?", (count_max,)
            ).fetchall()
        return [
            Gap(self.stream_of(Lane(lane), first), lane, first, last, reason) for lane, first, last, reason in found
        ]

    def closed(self, answers: Iterable[Closed]) -> "Future[int]":
        """The coordinator's word on gaps: what it held is stored, the rest is shed or damaged. Counts the rows.

        Whatever an answer claims beyond the open gaps of its own stream is ignored.
        """
        said = list(answers)

        def job(db: sqlite3.Connection) -> int:
            return sum(self._close(db, answer) for answer in said)

        return self._writer.submit(job)

    def _close(self, db: sqlite3.Connection, answer: Closed) -> int:
        lane, total = Lane(answer.lane), 0
        for gap in gaps_within(db, lane, answer.first, answer.last):
            part, rest = gap.cut(answer.first, answer.last)
            if part is None or self.stream_of(lane, part.first) != answer.stream:
                continue
            held = count_within(part.first, part.last, answer.held)
            missing = len(part) - held
            replace_gap(db, gap, rest)
            add(db, lane, unconfirmed=-len(part), stored=held)
            if gap.reason == DAMAGED:
                # What had been shed before the damage is among what is missing: it was counted so, and stays so.
                (before,) = db.execute("SELECT shed_before FROM lanes WHERE lane = ?", (lane.value,)).fetchone()
                shed = min(before, missing)
                add(db, lane, shed=shed, shed_before=-shed, damaged=missing - shed)
            else:
                add(db, lane, shed=missing)
            total += len(part)
        return total

    # ---- limits ---------------------------------------------------------------------------------

    def tick(self) -> "Future[int]":
        """Keeps the run time and gives up what is too old; every ten seconds or so. Counts what was given up."""
        now_s = self._run_s()
        self.ballast.take()

        def job(db: sqlite3.Connection) -> int:
            db.execute("UPDATE meta SET value = ? WHERE key = 'run_s'", (str(now_s),))
            return sum(self._shed_aged(db, lane, now_s) for lane in LANES)

        return self._writer.submit(job)

    def relieve(self, blocked: Lane, *, own_lane: bool) -> "Future[int]":
        """The disk is full: lets the ballast go and gives up rows worth less than those of lane `blocked`.

        With `own_lane` also the oldest of its own lane, but never an alert. Counts the rows.
        """
        self.ballast.release()
        # Room in the log first: what is deleted must be written there, and it must not have to grow.
        self._writer.maintain(lambda db: db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone())
        bytes_max = max(self.settings.ballast_bytes // 4, DISK_CHUNK_BYTES)

        def job(db: sqlite3.Connection) -> int:
            wanted = for_disk(fills(db), blocked, bytes_max, own_lane=own_lane)
            return 0 if wanted is None else self._shed(db, wanted)

        return self._writer.submit(job)

    def _shed_aged(self, db: sqlite3.Connection, lane: Lane, now_s: int) -> int:
        age_max_s = self.settings.lane(lane).age_max_s
        total = 0
        for _ in range(AGED_MAX if age_max_s else 0):
            rows = oldest(db, lane, TAKE_ROWS)
            aged = sum(run_s < now_s - age_max_s for _, _, run_s in rows)
            if aged:
                total += self._shed(db, Shed(lane, aged, 0, "age"))
            if aged < TAKE_ROWS:
                break
        return total

    def _shed_over_caps(self, db: sqlite3.Connection) -> None:
        for wanted in over_caps(self.settings, fills(db)):
            self._shed(db, wanted)
        self._slack = slack(self.settings, fills(db))

    def _shed(self, db: sqlite3.Connection, wanted: Shed) -> int:
        """Gives up the oldest rows of a lane until enough is free, and opens gap records for them."""
        rows_left, bytes_left, total = wanted.rows, wanted.bytes, 0
        while rows_left > 0 or bytes_left > 0:
            seqs: list[int] = []
            for seq, size, _ in oldest(db, wanted.lane, TAKE_ROWS):
                if rows_left <= 0 and bytes_left <= 0:
                    break
                seqs.append(seq)
                rows_left, bytes_left = rows_left - 1, bytes_left - size
            if not seqs:
                break
            delete_rows(db, wanted.lane, seqs[0], seqs[-1])
            add(db, wanted.lane, unconfirmed=len(seqs))
            pieces = self._streams.cut(wanted.lane, runs(seqs))
            open_gaps(db, [OpenGap(wanted.lane, *piece, wanted.reason) for piece in pieces], self._streams)
            total += len(seqs)
        self.shed_total += total
        return total

    # ---- the account, and the end ---------------------------------------------------------------

    def account(self) -> list[LaneAccount]:
        """The account of every lane, read in one moment."""
        with self._reading, storage_errors("outbox"):
            return accounts(self._reader)

    def close(self) -> None:
        """Writes what waits, then closes. Whoever opens the file next sees that it ended in order."""
        now_s = str(self._run_s())

        def job(db: sqlite3.Connection) -> None:
            db.execute("UPDATE meta SET value = ? WHERE key = 'run_s'", (now_s,))
            db.execute("UPDATE meta SET value = '1' WHERE key = 'closed'")

        self._writer.submit(job, durable=True)
        self._writer.close()
        with self._reading:
            self._reader.close()

    def _run_s(self) -> int:
        """How long the agent has been running over all its starts, as far as it was written down."""
        return int(self._run_base_s + self._clock())

    def _append(self, db: sqlite3.Connection, drafts: Sequence[Draft]) -> list[Row]:
        next_seq = next_seqs(db)
        counts = dict.fromkeys(next_seq, 0)
        sizes = dict.fromkeys(next_seq, 0)
        encode, stream, run_s = self._encoder.encode, self.stream, self._run_s()
        rows: list[Row] = []
        values: list[object] = []
        for draft in drafts:
            lane, kind, severity = draft.lane, draft.type, draft.severity
            seq = next_seq[lane] + counts[lane]
            payload = encode(draft, seq)
            counts[lane] += 1
            sizes[lane] += len(payload) + ROW_BYTES_BESIDE
            level = "" if severity is None else severity.value
            values += (NAMES[lane], seq, kind, level, bytearray(payload), draft.time_utc_ms, run_s)
            rows.append(Row(lane, seq, kind, payload, severity, stream))
        insert_rows(db, values)
        add_produced(db, counts, sizes)
        # A job that is rolled back only makes the next look come sooner.
        self._slack = Fill(self._slack.rows - len(rows), self._slack.bytes - sum(sizes.values()))
        if self._slack.rows < 0 or self._slack.bytes < 0:
            self._shed_over_caps(db)
        return rows


def renewal(meta: dict[str, str], *, file_id: str, boot: int) -> str:
    """Why the next rows need a new stream, or an empty text.

    A number of one stream must never mean two rows. Wherever this file may be behind what it has once handed out (a
    lost end of the write-ahead log, an older copy put back), numbers go on under a new random id. Rows that wait keep
    their identity and their bytes.
    """
    if "stream" not in meta:
        return "the file is new"
    if meta.get("closed") != "1":
        return "it was not closed in order"
    if meta.get("file") != file_id:
        return "it is a copy of another file"
    if meta.get("boot") != str(boot - 1):
        return f"it was last used by boot {meta.get('boot')}, not by boot {boot - 1}: an older copy was put back"
    return ""


def _begin(db: sqlite3.Connection, *, file_id: str, boot: int) -> tuple[str, str]:
    """The stream for what comes now and, if it is a new one, why. On disk before anything is said with it."""
    with transaction(db):
        db.executemany("INSERT OR IGNORE INTO lanes (lane) VALUES (?)", [(lane.value,) for lane in LANES])
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        why = renewal(meta, file_id=file_id, boot=boot)
        stream = meta.get("stream", "")
        if why:
            stream = secrets.token_hex(8)
            db.execute("INSERT OR REPLACE INTO streams SELECT lane, next_seq, ? FROM lanes", (stream,))
            # Forget the streams of which nothing is left.
            db.execute(
                """
                DELETE FROM streams WHERE EXISTS (
                    SELECT 1 FROM streams AS next WHERE next.lane = streams.lane
                    AND next.first_seq > streams.first_seq AND next.first_seq <= (
                        SELECT min(coalesce((SELECT min(seq) FROM rows WHERE rows.lane = lanes.lane), next_seq),
                                   coalesce((SELECT min(first) FROM gaps WHERE gaps.lane = lanes.lane), next_seq))
                        FROM lanes WHERE lanes.lane = streams.lane))
                """
            )
        db.executemany(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
            [("stream", stream), ("closed", "0"), ("file", file_id), ("boot", str(boot))],
        )
        db.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('run_s', '0')")
    return stream, why


def _file_id(path: Path) -> str:
    """Which file this is on its disk: a copy that was put back is another."""
    stat = path.stat()
    return f"{stat.st_dev}:{stat.st_ino}"


def _bound_quarantine(db: sqlite3.Connection, bytes_max: int) -> None:
    """Forgets the bytes of what was set aside first; the account keeps counting it."""
    while True:
        rows, size = db.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM quarantine").fetchone()
        if size <= bytes_max and rows <= QUARANTINED_ROWS_MAX:
            return
        db.execute(
            "DELETE FROM quarantine WHERE (lane, seq) IN"
            " (SELECT lane, seq FROM quarantine ORDER BY lane, seq LIMIT ?)",
            (1 + rows // 20,),
        )
