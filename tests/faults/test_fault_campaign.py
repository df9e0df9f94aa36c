"""A short form of `benchmarks.faults`: each kind of fault once, few kills, some replayed crashes."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.faultlib import replay as replay_module
from benchmarks.faultlib import scenarios
from benchmarks.faultlib.kills import kills
from benchmarks.faultlib.recording import (
    SECTOR,
    Change,
    Crash,
    Disk,
    Kind,
    Point,
    change_until,
    points,
    put,
    sectors_of,
)
from benchmarks.faultlib.replay import replay
from benchmarks.faultlib.site import Site
from benchmarks.faultlib.verdict import Verdict

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc, which builds the recorder, is not here")


# ---- what recorded writes leave ---------------------------------------------------------------------


def write(name: str, offset: int, data: bytes) -> Change:
    return Change(Kind.WRITE, name, offset, data)


def test_a_write_is_cut_at_the_sectors_of_the_file() -> None:
    change = write("f", 500, bytes(1000))
    assert sectors_of(change) == 3
    assert [len(change_until(change, n).data) for n in range(3)] == [0, 12, 524]
    assert len(change_until(write("f", 0, bytes(1024)), 1).data) == SECTOR
    assert sectors_of(Change(Kind.SYNC, "f", 0, b"")) == 1


def test_a_disk_after_a_crash_holds_what_was_flushed_and_part_of_the_rest() -> None:
    disk = Disk()
    for change in (
        Change(Kind.CREATE, "f", 0, b""),
        write("f", 0, b"a" * 600),
        Change(Kind.SYNC, "f", 0, b""),
        write("f", 0, b"b" * 600),
    ):
        disk.apply(change)
    begun = write("f", 600, b"c" * 600)
    assert disk.after(begun, Point(4, 1, Crash.CUT), 1) == {"f": b"b" * 600 + b"c" * 424}
    torn = disk.after(begun, Point(4, 1, Crash.TORN), 1)["f"]
    assert torn[:1024] == b"b" * 600 + b"c" * 424
    assert len(torn) == 1200 and torn[1024:] != b"c" * 176
    left = {disk.after(begun, Point(4, 0, Crash.POWER), seed)["f"] for seed in range(20)}
    assert left == {b"a" * 600, b"b" * 600}
    disk.lose_unflushed()
    assert disk.files == {"f": b"a" * 600}


def test_truncation_fills_with_zeros_and_cuts() -> None:
    file = bytearray(b"abc")
    put(file, Change(Kind.TRUNCATE, "f", 5, b""))
    assert file == b"abc\0\0"
    put(file, Change(Kind.TRUNCATE, "f", 1, b""))
    assert file == b"a"


def test_points_are_spread_over_every_sector_of_every_change() -> None:
    changes = [write("f", 0, bytes(4096)), write("journal", 0, b"x"), Change(Kind.SYNC, "f", 0, b"")]
    assert {(point.at, point.sectors) for point in points(changes, 100)} == {(0, n) for n in range(8)} | {(2, 0)}
    assert len(points(changes, 3)) == 3


# ---- the campaign, short ----------------------------------------------------------------------------


@needs_gcc
@pytest.mark.parametrize(("workload", "crashes"), [("outbox", 150), ("coordinator", 50)])
def test_files_open_again_after_a_crash_anywhere(workload: str, crashes: int) -> None:
    found = replay(workload, crashes)
    assert (found.lost, found.duplicates, found.mismatches) == (0, 0, 0), found.examples
    assert found.crashes == crashes


@needs_gcc
def test_the_replay_finds_rows_that_a_power_cut_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that is durable against the end of the process only loses rows: asked for all the same, it shows."""
    monkeypatch.setattr(replay_module, "DURABLE", frozenset(["event", "sample", "state", "alert", "lifecycle"]))
    assert replay("outbox", 200).lost > 0


def _kills(folder: Path) -> Verdict:
    with Site(folder) as site:
        return kills(site, 8, seed=3)


FAULTS = {name: scenario for name, (scenario, _) in scenarios.SCENARIOS.items()}
FAULTS |= {"kill_9": _kills, "liar": scenarios.lying_coordinator}
TAKES_LONG = ("half_open", "slow_link", "clock_jumps")
SIDE_BY_SIDE = 4  # they mostly wait


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Verdict]]:
    """The scenarios that were asked for, on sites of their own, some side by side."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    asked = [call.params["fault"] for call in calls if call is not None and call.params.get("fault") in FAULTS]
    asked = [name for name in asked if not _cannot(name)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        futures = {name: pool.submit(FAULTS[name], tmp_path_factory.mktemp(name)) for name in asked}
        yield lambda name: futures[name].result()


def _cannot(name: str) -> str:
    """Why a fault cannot be made here, or an empty text."""
    if name == "clock_jumps" and not list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")):
        return "libfaketime is not here"
    if name == "failed_commits" and shutil.which("gcc") is None:
        return "gcc, which builds the recorder, is not here"
    return scenarios.SCENARIOS[name][1]() if name in scenarios.SCENARIOS else ""


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=pytest.mark.slow) if name in TAKES_LONG else name for name in FAULTS]
)
def test_nothing_is_lost_doubled_or_miscounted(fault: str, verdicts: Callable[[str], Verdict]) -> None:
    if why := _cannot(fault):
        pytest.skip(why)
    verdict = verdicts(fault)
    if fault == "liar":  # a coordinator that answers for what it throws away: the checker must find it
        assert verdict.lost > 0
        assert verdict.mismatches > 0
        return
    assert verdict.fine, verdict
    if fault == "kill_9":  # lives are short: how much each keeps is the machine's speed
        assert verdict.kills >= 8
        assert verdict.kept > 0
    else:
        assert verdict.kept > 100
