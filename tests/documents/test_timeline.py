"""UTC over jumps of the wall clock."""

import pytest

from runtime.machine_time import machine_time
from runtime.timeline import MachineTime, read

DAY_MS = 86_400_000
NOON_MS = 1_795_521_600_000
START = MachineTime("a", 1000, NOON_MS)


@pytest.mark.parametrize(
    ("anchor", "now", "heard_ms", "utc_ms", "jump_ms"),
    [
        (None, START, 0, NOON_MS, 0),
        (START, MachineTime("a", 61_000, NOON_MS + 60_000), 0, NOON_MS + 60_000, 0),
        # NTP at work is followed.
        (START, MachineTime("a", 61_000, NOON_MS + 63_000), 0, NOON_MS + 63_000, 0),
        # A day either way changes nothing.
        (START, MachineTime("a", 61_000, NOON_MS + DAY_MS), 0, NOON_MS + 60_000, DAY_MS - 60_000),
        (START, MachineTime("a", 61_000, NOON_MS - DAY_MS), 0, NOON_MS + 60_000, -DAY_MS - 60_000),
        # The clock was behind what others know, and is put right.
        (START, MachineTime("a", 61_000, NOON_MS + DAY_MS), NOON_MS + DAY_MS // 2, NOON_MS + DAY_MS, 0),
        # It had never been set.
        (MachineTime("a", 0, 5000), MachineTime("a", 9000, NOON_MS), 0, NOON_MS, 0),
        # Another start of the machine: nothing else is known than its wall clock.
        (START, MachineTime("b", 10, NOON_MS - DAY_MS), 0, NOON_MS - DAY_MS, 0),
        # The same start can only be a copy of the file from another machine.
        (START, MachineTime("a", 10, NOON_MS + DAY_MS), 0, NOON_MS + DAY_MS, 0),
    ],
)
def test_what_time_it_is(
    anchor: MachineTime | None, now: MachineTime, heard_ms: int, utc_ms: int, jump_ms: int
) -> None:
    reading = read(anchor, now, heard_ms)
    assert (reading.utc_ms, reading.jump_ms) == (utc_ms, jump_ms)
    assert (reading.anchor.wall_ms, reading.anchor.steady_ms) == (utc_ms, now.steady_ms)
    later = MachineTime(now.machine_boot, now.steady_ms + 500, now.wall_ms + 500)
    assert read(reading.anchor, later, heard_ms).utc_ms == utc_ms + 500


def test_a_jump_is_news_once_and_so_is_its_end() -> None:
    jumped = read(START, MachineTime("a", 61_000, NOON_MS + DAY_MS))
    assert jumped.is_news(0)
    assert "jumped by +86340 s" in jumped.told()
    assert not jumped.is_news(jumped.jump_ms)
    back = read(jumped.anchor, MachineTime("a", 62_000, NOON_MS + 61_500))
    assert back.is_news(jumped.jump_ms)
    assert "followed again" in back.told()
    assert not read(START, MachineTime("a", 61_000, NOON_MS + 60_000)).is_news(0)


def test_the_machine_shows_times_that_go_on() -> None:
    first, second = machine_time(), machine_time()
    assert first.machine_boot == second.machine_boot != ""
    assert second.steady_ms >= first.steady_ms
