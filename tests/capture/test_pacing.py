import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.pacing import Pacer, Replay, StreamClock


@pytest.mark.parametrize(
    ("source_fps", "target_fps", "expected"),
    [
        (30, 0, 300),
        (30, 30, 300),
        (30, 10, 100),
        (25, 10, 100),
        (24, 5, 50),
        (30, 29, 290),
        (10, 30, 100),
        (60, 1, 10),
    ],
)
def test_ten_seconds_give_ten_times_the_rate(source_fps: float, target_fps: float, expected: int) -> None:
    pacer = Pacer(target_fps)
    admitted = sum(pacer.admit(n / source_fps) for n in range(int(10 * source_fps)))
    assert abs(admitted - expected) <= 1


@given(target=st.sampled_from([1.0, 5.0, 12.5, 30.0]), source=st.floats(30.0, 90.0), seed=st.integers(0, 1000))
def test_rate_and_spacing_hold_with_jitter(target: float, source: float, seed: int) -> None:
    rng = random.Random(seed)
    times_s = [n / source + rng.uniform(-0.3, 0.3) / source for n in range(400)]
    pacer = Pacer(target)
    admitted_s = [time_s for time_s in times_s if pacer.admit(time_s)]
    expected = (times_s[-1] - times_s[0]) * target
    assert abs(len(admitted_s) - expected) <= 2 + 0.02 * expected
    gaps_s = [after - before for before, after in pairwise(admitted_s)]
    assert max(gaps_s, default=0) <= 1 / target + 2 / source


def test_a_source_as_fast_as_the_target_loses_nothing_to_jitter() -> None:
    rng = random.Random(1)
    pacer = Pacer(30)
    assert all(pacer.admit(n / 30 + rng.uniform(-0.01, 0.01)) for n in range(300))


def test_a_pacer_goes_on_after_a_gap_and_after_time_went_back() -> None:
    pacer = Pacer(10)
    assert [pacer.admit(t) for t in (0.0, 0.02, 0.1, 50.0, 50.02, 50.1)] == [True, False, True, True, False, True]
    assert [pacer.admit(t) for t in (3.0, 3.02, 3.1)] == [True, False, True]


def test_replay_keeps_the_recorded_schedule() -> None:
    replay = Replay()
    assert replay.wait_s(5.0, 100.0) == 0.0
    assert replay.wait_s(5.5, 100.1) == pytest.approx(0.4)
    assert replay.wait_s(6.0, 101.4) == 0.0  # late by less than the limit: no new schedule
    assert replay.wait_s(6.5, 101.4) == pytest.approx(0.1)


def test_replay_far_behind_starts_a_new_schedule() -> None:
    replay = Replay()
    replay.wait_s(0.0, 100.0)
    assert replay.wait_s(1.0, 105.0) == 0.0
    assert replay.wait_s(1.5, 105.0) == pytest.approx(0.5)


def test_stream_clock_evens_out_jitter_of_arrival() -> None:
    rng = random.Random(3)
    clock = StreamClock()
    times_s = [clock.time_s(n / 25, 1000 + n / 25 + rng.uniform(0, 0.03)) for n in range(500)]
    gaps_s = [after - before for before, after in pairwise(times_s)]
    assert max(abs(gap_s - 0.04) for gap_s in gaps_s) < 0.002
    assert clock.jumps == 0


def test_stream_clock_follows_a_camera_whose_clock_is_slow() -> None:
    clock = StreamClock()
    for n in range(25 * 3600):
        arrival_s = n / 25
        time_s = clock.time_s(arrival_s * 0.999, arrival_s)
    assert abs(time_s - arrival_s) < 0.1
    assert clock.jumps == 0


@pytest.mark.parametrize("jump_s", [-1e6, -20.0, 20.0, 1e6])
def test_stream_clock_absorbs_a_jump_of_the_stamps(jump_s: float) -> None:
    clock = StreamClock()
    times_s = [clock.time_s(n / 25 + (jump_s if n >= 50 else 0), n / 25) for n in range(100)]
    assert clock.jumps == 1
    assert times_s == pytest.approx([n / 25 for n in range(100)], abs=0.001)


@given(st.lists(st.tuples(st.none() | st.floats(-1e9, 1e9), st.floats(0, 1)), max_size=50))
def test_stream_time_always_grows_and_stays_near_the_monotonic_clock(steps: list[tuple[float | None, float]]) -> None:
    clock, now_s, last_s = StreamClock(), 0.0, float("-inf")
    for stamp_s, passed_s in steps:
        now_s += passed_s
        time_s = clock.time_s(stamp_s, now_s)
        assert time_s > last_s
        assert abs(time_s - now_s) <= StreamClock.JUMP_S + 0.01
        last_s = time_s
