"""What a process did to its files, change by change, and what a crash in the middle may leave of them.

A recorder in C is preloaded into the process (`recorder.c`) and writes down every write, truncation, flush and
removal below one folder. `Disk` plays them back; `crashes` lays a disk out for each point at which it may have ended.
"""

import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECTOR = 512
JOURNAL = "journal"  # the witness: it stands for the world outside, which no crash takes back
_HEAD = struct.Struct("<IIQQ")


class Kind(IntEnum):
    """What was done; the numbers are the recorder's."""

    WRITE = 1
    TRUNCATE = 2
    SYNC = 3
    UNLINK = 4
    RENAME = 5
    CREATE = 6


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one file; `data` is what was written, or the new name."""

    kind: Kind
    name: str
    offset: int
    data: bytes


class Crash(Enum):
    """What the crash does to the write under way, and to those that were not flushed."""

    CUT = "cut"  # the sectors before the point are there, the others are as they were
    TORN = "torn"  # and the sector at the point holds something else
    POWER = "power"  # and of what was not flushed any part is missing


@dataclass(frozen=True, slots=True)
class Point:
    """One crash: before or inside the change number `at`, `sectors` of its own bytes being there."""

    at: int
    sectors: int
    crash: Crash


def build_recorder(folder: Path) -> Path:
    """The recorder, compiled into `folder`. Raises CalledProcessError."""
    library = folder / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl", "-pthread"], check=True
    )
    return library


def record(workload: str, folder: Path, *arguments: str) -> list[Change]:
    """Runs `benchmarks.faultlib.workload WORKLOAD` in `folder/files` and returns what it did to its files."""
    files, log = folder / "files", folder / "recorded"
    files.mkdir(parents=True)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "RECORD_FOLDER": str(files),
        "RECORD_LOG": str(log),
        "LD_PRELOAD": str(build_recorder(folder)),
    }
    subprocess.run(
        [sys.executable, "-m", "benchmarks.faultlib.workload", workload, str(files), *arguments],
        check=True, cwd=ROOT, env=environment, timeout=300,
    )  # fmt: skip
    found = read_log(log)
    shutil.rmtree(files)
    log.unlink()
    return found


def read_log(log: Path) -> list[Change]:
    """What the recorder wrote down, up to its last whole record: a kill may have cut the last."""
    return list(_changes(log.read_bytes()))


def _changes(log: bytes) -> Iterator[Change]:
    at = 0
    while at + _HEAD.size <= len(log):
        kind, name_bytes, offset, data_bytes = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        if at + name_bytes + data_bytes > len(log):
            return
        name = log[at : at + name_bytes].decode()
        at += name_bytes
        yield Change(Kind(kind), name, offset, log[at : at + data_bytes])
        at += data_bytes


class Disk:
    """Files as they are for the process, and as they were when each was last flushed."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self._flushed: dict[str, bytes] = {}
        self._unflushed: dict[str, list[Change]] = {}

    def apply(self, change: Change) -> None:
        """The change, whole."""
        name = change.name
        match change.kind:
            case Kind.CREATE:
                self.files[name], self._flushed[name], self._unflushed[name] = bytearray(), b"", []
            case Kind.UNLINK:
                for found in (self.files, self._flushed, self._unflushed):
                    found.pop(name, None)
            case Kind.RENAME:
                for each in (self.files, self._flushed, self._unflushed):
                    each[change.data.decode()] = each.pop(name)  # type: ignore[assignment]
            case Kind.SYNC:
                self._flushed[name], self._unflushed[name] = bytes(self.files[name]), []
            case Kind.WRITE | Kind.TRUNCATE:
                put(self.files[name], change)
                self._unflushed[name].append(change)

    def lose_unflushed(self) -> None:
        """A power cut that takes everything it can."""
        for name, data in self._flushed.items():
            self.files[name], self._unflushed[name] = bytearray(data), []

    def after(self, begun: Change, point: Point, seed: int) -> dict[str, bytes]:
        """The files after a crash in the middle of the change `begun`."""
        chance = random.Random(seed)
        left = {name: bytearray(data) for name, data in self.files.items()}
        if point.crash is Crash.POWER:
            for name, changes in self._unflushed.items():
                if name != JOURNAL:
                    left[name] = bytearray(self._flushed[name])
                    for change in changes:
                        if chance.random() < 0.5:
                            put(left[name], change)
        if begun.kind is Kind.WRITE and begun.name != JOURNAL:
            whole = change_until(begun, point.sectors)
            put(left[begun.name], whole)
            if point.crash is Crash.TORN:
                torn = begun.data[len(whole.data) : len(whole.data) + SECTOR]
                noise = chance.randbytes(len(torn))
                put(left[begun.name], Change(Kind.WRITE, begun.name, begun.offset + len(whole.data), noise))
        return {name: bytes(data) for name, data in left.items()}


def put(file: bytearray, change: Change) -> None:
    """A write or a truncation."""
    if change.kind is Kind.TRUNCATE:
        del file[change.offset :]
        file.extend(bytes(change.offset - len(file)))
        return
    file.extend(bytes(max(0, change.offset - len(file))))
    file[change.offset : change.offset + len(change.data)] = change.data


def change_until(change: Change, sectors: int) -> Change:
    """The bytes of a write before the given boundary of sectors in the file, counted from where it begins."""
    first = SECTOR - change.offset % SECTOR
    size = 0 if sectors == 0 else first + (sectors - 1) * SECTOR
    return Change(change.kind, change.name, change.offset, change.data[:size])


def sectors_of(change: Change) -> int:
    """The sectors that a write touches: it may be cut before each."""
    if change.kind is not Kind.WRITE:
        return 1
    return (change.offset + len(change.data) - 1) // SECTOR - change.offset // SECTOR + 1


def points(changes: list[Change], count_max: int, seed: int = 1) -> list[Point]:
    """Every sector of every change, each with a way to crash; `count_max` of them, spread by chance, in order."""
    found = [
        (at, sectors)
        for at, change in enumerate(changes)
        if change.name != JOURNAL
        for sectors in range(sectors_of(change))
    ]
    chance = random.Random(seed)
    chosen = found if len(found) <= count_max else sorted(chance.sample(found, count_max))
    return [Point(at, sectors, chance.choice(list(Crash))) for at, sectors in chosen]


def crashes(changes: list[Change], chosen: list[Point]) -> Iterator[tuple[Point, dict[str, bytes]]]:
    """The files after each of the points, which are in order."""
    disk, done = Disk(), 0
    for number, point in enumerate(chosen):
        while done < point.at:
            disk.apply(changes[done])
            done += 1
        yield point, disk.after(changes[point.at], point, number)


def lay_out(files: dict[str, bytes], folder: Path) -> None:
    """The files, into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        if name != JOURNAL:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
