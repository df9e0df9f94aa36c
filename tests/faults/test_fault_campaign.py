"""A short form of `benchmarks.faults`: each kind of fault once, few kills, some replayed crashes."""

import logging
import shutil
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
needs_faketime = pytest.mark.skipif(
    not list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), reason="libfaketime is not here"
)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("agent").setLevel(logging.CRITICAL)


def fine(verdict: Verdict) -> None:
    assert verdict.fine, verdict
    assert verdict.kept > 100


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


def test_the_checker_finds_what_a_lying_coordinator_has_thrown_away(tmp_path: Path) -> None:
    verdict = scenarios.lying_coordinator(tmp_path)
    assert verdict.lost > 0
    assert verdict.mismatches > 0


def test_nothing_is_lost_by_kill_9(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        verdict = kills(site, 8, seed=3)
    fine(verdict)
    assert verdict.kills >= 8


@needs_gcc
def test_nothing_is_lost_by_commits_that_fail(tmp_path: Path) -> None:
    fine(scenarios.failed_commits(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["long_cut", "repeats", "old_outbox", "old_coordinator", "poison", "small_packets", "quota", "torn_outbox"],
)
def test_nothing_is_lost_in_a_scenario(name: str, tmp_path: Path) -> None:
    scenario, _ = scenarios.SCENARIOS[name]
    fine(scenario(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["half_open", "slow_link"])
def test_nothing_is_lost_on_a_bad_line(name: str, tmp_path: Path) -> None:
    scenario, _ = scenarios.SCENARIOS[name]
    fine(scenario(tmp_path))


@pytest.mark.parametrize("name", ["disk_full", "read_only_disk"])
def test_nothing_is_lost_on_a_bad_disk(name: str, tmp_path: Path) -> None:
    scenario, needs = scenarios.SCENARIOS[name]
    if why := needs():
        pytest.skip(why)
    fine(scenario(tmp_path))


@needs_faketime
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_lost_when_clocks_jump(tmp_path: Path) -> None:
    fine(scenarios.clock_jumps(tmp_path))
