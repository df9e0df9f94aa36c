"""The hybrid logical clock: order, text form, jumps, clamping."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import hlc
from schemas.hlc import AHEAD_MS_MAX, COUNTER_MAX, WALL_MS_MAX, Clock, Stamp

DAY_MS = 86_400_000
NOW_MS = 1_795_521_600_000
walls = st.integers(0, WALL_MS_MAX - 1)
nodes = st.sampled_from(["gw-1", "gw-2", "coordinator", "a.b_c-d"])
stamps = st.builds(Stamp, walls, st.integers(0, COUNTER_MAX), nodes)
jumps = st.lists(st.tuples(st.sampled_from([0, 1, 1000, -1, DAY_MS, -DAY_MS]), st.booleans(), stamps), max_size=30)


@given(stamps, stamps)
def test_order_is_total_and_the_text_form_is_exact(a: Stamp, b: Stamp) -> None:
    assert (a < b) + (b < a) + (a == b) == 1
    assert Stamp.parse(str(a)) == a


@given(jumps)
def test_stamps_grow_whatever_the_clock_does_and_whatever_is_seen(steps: list[tuple[int, bool, Stamp]]) -> None:
    clock, now_ms, given_so_far = Clock("gw-1"), NOW_MS, [Stamp()]
    for step_ms, restarts, remote in steps:
        now_ms = max(0, now_ms + step_ms)
        clock = clock.merge(remote, now_ms).clock
        if restarts:
            clock = Clock("gw-1", Stamp.parse(str(clock.last)) if clock.last.node else Stamp())
        clock = clock.tick(now_ms)
        assert clock.last > given_so_far[-1]
        assert clock.last.node == "gw-1"
        given_so_far.append(clock.last)


@given(stamps, st.integers(0, WALL_MS_MAX // 2))
def test_what_is_seen_comes_before_what_is_written_next_unless_it_was_clamped(remote: Stamp, now_ms: int) -> None:
    seen = Clock("gw-1").merge(remote, now_ms)
    ahead_ms = remote.wall_ms - now_ms
    assert seen.ahead_ms == (ahead_ms if ahead_ms > AHEAD_MS_MAX else 0)
    after = seen.clock.tick(now_ms).last
    if seen.ahead_ms:
        assert after.wall_ms <= now_ms + AHEAD_MS_MAX + 1
    else:
        assert after > remote


def test_a_clock_that_jumped_a_day_ahead_and_back_goes_on_counting() -> None:
    clock = Clock("gw-1").tick(NOW_MS + DAY_MS).tick(NOW_MS).tick(NOW_MS + 5)
    assert clock.last == Stamp(NOW_MS + DAY_MS, 2, "gw-1")


def test_a_full_counter_takes_the_next_millisecond() -> None:
    assert Clock("gw-1", Stamp(NOW_MS, COUNTER_MAX, "gw-1")).tick(0).last == Stamp(NOW_MS + 1, 0, "gw-1")


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "1.2", "1.2.", "1.2.Gw", "01.2.gw", "1.02.gw", "-1.2.gw", "1.2.gw/x", " 1.2.gw", "1.2.gw\n",
        "9007199254740992.0.gw", "1.2147483648.gw", "1.2." + "g" * 64, "١.2.gw",
    ],
)  # fmt: skip
def test_what_is_no_stamp_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no stamp"):
        Stamp.parse(text)


def test_the_examples_hold() -> None:
    assert doctest.testmod(hlc).failed == 0
