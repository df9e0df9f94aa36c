"""Recorded files after a crash at each of many points, opened again: is everything there that was promised?"""

import asyncio
import shutil
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from agent.outbox.opening import open_outbox
from agent.outbox.rows import Draft
from benchmarks.faultlib.recording import JOURNAL, Crash, Point, crashes, lay_out, points, record
from benchmarks.faultlib.workload import NODE, SETTINGS, WAIT_S, batches
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch
from schemas.identity import Lane

OUTBOX_GROUPS = 150  # in each of two lives
WORKLOAD_BATCHES = 120
DURABLE = frozenset(lane.value for lane in Lane if SETTINGS.lane(lane).durability.value == "power")


@dataclass(slots=True)
class Found:
    """What was wrong after crashes: rows promised and gone, rows kept twice or numbers used twice, wrong sums."""

    crashes: int = 0
    lost: int = 0
    duplicates: int = 0
    mismatches: int = 0
    salvaged: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: "Found") -> None:
        self.crashes += other.crashes
        self.lost += other.lost
        self.duplicates += other.duplicates
        self.mismatches += other.mismatches
        self.salvaged += other.salvaged
        self.examples = (self.examples + other.examples)[:20]

    def say(self, text: str) -> None:
        if len(self.examples) < 20:
            self.examples.append(text)


def replay(workload: str, points_max: int, seed: int = 1) -> Found:
    """Records a workload and opens what `points_max` crashes leave of its files."""
    room = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="edgewright-replay-", dir=room if room.is_dir() else None))
    check = {"outbox": check_outbox, "coordinator": check_coordinator}[workload]
    total = Found()
    try:
        changes = record(workload, folder, str({"outbox": OUTBOX_GROUPS, "coordinator": WORKLOAD_BATCHES}[workload]))
        for point, files in crashes(changes, points(changes, points_max, seed)):
            place = folder / "crashed"
            lay_out(files, place)
            said = [line.split() for line in files.get(JOURNAL, b"").decode().splitlines()]
            found = check(place, said, point)
            found.crashes = 1
            found.examples = [f"{workload} {point}: {text}" for text in found.examples]
            total.add(found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return total


# ---- the outbox -------------------------------------------------------------------------------------


def check_outbox(folder: Path, said: list[list[str]], point: Point) -> Found:
    """The outbox starts, keeps what it has promised, its sums are right, and no number will mean two rows.

    A power cut may take rows of lanes without that durability, as far as nothing durable was committed after them.
    """
    found = Found()
    boot = 1 + sum(words[0] == "boot" for words in said)
    try:
        file, report = open_outbox(folder / "outbox.db", node=NODE, boot=boot, settings=SETTINGS)
    except Exception as error:  # noqa: BLE001 - whatever it is, the agent would not have started
        found.lost += 1
        found.say(f"does not open: {error!r}")
        return found
    found.salvaged = report is not None
    (new,) = file.append([Draft(Lane.EVENT, "Load", "load", 1, {"uid": -1})]).result(WAIT_S)
    used = {(words[1], int(words[2]), words[3]) for words in said if words[0] == "kept"}
    if (new.lane.value, new.seq, new.stream) in used:
        found.duplicates += 1
        found.say(f"number {new.seq} of stream {new.stream} is given out twice")
    for account in file.account():
        if not account.holds:
            found.mismatches += 1
            found.say(f"sums: {account}")
    file.close()
    with sqlite3.connect(folder / "outbox.db") as db:
        there = set(db.execute("SELECT lane, seq FROM rows UNION SELECT lane, seq FROM quarantine").fetchall())
        gaps = db.execute("SELECT lane, first, last FROM gaps").fetchall()
        for lane, pending, counted in db.execute(
            "SELECT lane, pending, (SELECT count(*) FROM rows WHERE rows.lane = lanes.lane) FROM lanes"
        ):
            if pending != counted:
                found.mismatches += 1
                found.say(f"{lane}: {pending} pending, {counted} rows")
    db.close()
    for lane, first, last in gaps:
        there.update((lane, seq) for seq in range(first, last + 1))
    for words in said:
        if words[0] == "answered":
            there.update((words[1], seq) for seq in range(int(words[2]), int(words[3]) + 1))
    for lane, seq in _promised(said, point.crash):
        if (lane, seq) not in there:
            found.lost += 1
            found.say(f"{lane} {seq} is gone")
    return found


def _promised(said: list[list[str]], crash: Crash) -> list[tuple[str, int]]:
    """The rows that must survive this crash."""
    kept = [
        (words[1], int(words[2])) if words[0] == "kept" else ("", 0)
        for words in said
        if words[0] in ("kept", "closed")
    ]
    if crash is Crash.POWER:
        flushed = max((at for at, (lane, _) in enumerate(kept) if lane in DURABLE or not lane), default=-1)
        kept = kept[: flushed + 1]
    return [row for row in kept if row[0]]


# ---- the coordinator's store ------------------------------------------------------------------------


def check_coordinator(folder: Path, said: list[list[str]], point: Point) -> Found:
    """The store opens with all that was answered; the whole sent again leaves each row there exactly once."""
    found = Found()
    everything = batches(WORKLOAD_BATCHES)
    answered = {int(words[1]) for words in said if words[0] == "answered"}

    async def again() -> None:
        store = SqliteStore(folder)
        try:
            before = _stored(folder)
            gone = sum(
                row[:4] not in before
                for number in sorted(answered)
                for row in _rows(everything[number])
                if not _in_gap(everything[: number + 1], row[:4])
            )
            found.lost += gone
            if gone:
                found.say(f"{gone} answered rows are gone")
            await store.commit(_together(everything))
        finally:
            store.close()

    try:
        asyncio.run(again())
    except Exception as error:  # noqa: BLE001 - whatever it is, the coordinator would not have started
        found.lost += 1
        found.say(f"does not open: {error!r}")
        return found
    counts = _stored(folder)
    found.duplicates += sum(count - 1 for count in counts.values())
    wanted = {row[:4] for batch in everything for row in _rows(batch)}
    for key in wanted - counts.keys():
        if not _in_gap(everything, key):
            found.lost += 1
            found.say(f"{key} cannot be stored any more")
    return found


def _together(parts: list[Batch]) -> Batch:
    whole = Batch()
    for part in parts:
        whole.events += part.events
        whole.samples += part.samples
        whole.gaps += part.gaps
        whole.refused += part.refused
    return whole


def _rows(batch: Batch) -> list[tuple[object, ...]]:
    return [*batch.events, *batch.samples]


def _in_gap(earlier: list[Batch], key: tuple[object, ...]) -> bool:
    return any(
        gap.lane == key[2] and gap.first <= int(str(key[3])) <= gap.last for batch in earlier for gap in batch.gaps
    )


def _stored(folder: Path) -> Counter[tuple[object, ...]]:
    with sqlite3.connect(folder / "coordinator.db") as db:
        found = Counter(
            db.execute(
                "SELECT node, stream, lane, seq FROM events WHERE node = ?1"
                " UNION ALL SELECT node, stream, lane, seq FROM samples WHERE node = ?1",
                (NODE,),
            ).fetchall()
        )
    db.close()
    return found
