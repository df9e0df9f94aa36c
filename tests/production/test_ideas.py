"""OEE, stops, control charts and the figures of a line, by tables."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms.manufacturing.production.line import Line, LineSettings, Part, pareto
from platforms.manufacturing.production.oee import oee, takt_s
from platforms.manufacturing.production.spc import (
    Limits,
    Rule,
    Signal,
    capability,
    p_chart,
    u_chart,
    western_electric,
    xbar_r,
)
from platforms.manufacturing.production.stops import Stops


def test_oee_of_the_usual_example() -> None:
    """A shift of 420 planned minutes, 47 of them stopped, a cycle of 1 s, 19,271 parts, 423 rejected."""
    found = oee(planned_s=420 * 60, stopped_s=47 * 60, ideal_cycle_s=1.0, parts=19_271, good=18_848)
    assert found.availability == pytest.approx(0.8881, abs=1e-4)
    assert found.performance == pytest.approx(0.8611, abs=1e-4)
    assert found.quality == pytest.approx(0.9780, abs=1e-4)
    assert found.oee == pytest.approx(0.7479, abs=1e-4)


@pytest.mark.parametrize(
    ("planned", "stopped", "parts", "expected"),
    [(0, 0, 0, None), (100, 100, 0, 0.0), (100, 0, 0, None), (100, 150, 0, 0.0)],
)
def test_oee_of_nothing(planned: float, stopped: float, parts: int, expected: float | None) -> None:
    assert oee(planned_s=planned, stopped_s=stopped, ideal_cycle_s=1, parts=parts, good=0).oee == expected


def test_oee_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="7 good of 5"):
        oee(planned_s=1, stopped_s=0, ideal_cycle_s=1, parts=5, good=7)


def test_takt() -> None:
    assert takt_s(28_800, 960) == 30 and takt_s(28_800, 0) is None


def test_a_stop_is_known_late_and_counts_from_its_beginning() -> None:
    stops = Stops(after_s=5, minor_s=60)
    stops.part(10)
    assert stops.tick(14) is None
    begun = stops.tick(15.5)
    assert begun is not None and begun.since_s == 10 and stops.tick(16) is None
    ended = stops.part(30)
    assert ended is not None and ended.lasted_s(99) == 20 and stops.current is None
    assert stops.part(31) is None
    assert (stops.lost_s(0, 100), stops.lost_s(15, 20), stops.lost_s(40, 50)) == (20, 5, 0)


def test_a_stop_that_nobody_asked_about_meanwhile() -> None:
    stops = Stops(after_s=5, minor_s=60)
    stops.part(0)
    ended = stops.part(100)
    assert ended is not None and ended.since_s == 0 and ended.until_s == 100


def test_a_line_without_a_part_stands_from_its_beginning() -> None:
    stops = Stops(after_s=5, minor_s=60)
    stops.begin(0)
    begun = stops.tick(10)
    assert begun is not None and begun.since_s == 0


def test_reasons() -> None:
    stops = Stops(after_s=5, minor_s=60)
    for at in (0, 20, 200, 201, 400):
        stops.part(at)
    assert stops.explain(2, "no wire") is not None and stops.explain(9, "x") is None
    stops.explain(3, "break", planned=True)
    assert stops.by_reason([(0, 400)]) == {"no wire": (1, 180), "minor": (1, 20)}
    assert stops.planned_s(0, 400) == 199
    assert stops.lost_s(0, 400) == 200


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 10))
def test_stops_never_overlap_and_never_exceed_the_time(gaps: list[int], after_s: int) -> None:
    stops, now_s = Stops(after_s=after_s, minor_s=100), 0
    stops.begin(0)
    for gap in gaps:
        now_s += gap
        stops.part(now_s)
    ends = [stop.until_s for stop in stops.stops]
    assert all(end is not None and end <= later.since_s for end, later in zip(ends, stops.stops[1:], strict=False))
    assert stops.lost_s(0, now_s) <= now_s + 1e-9
    assert stops.lost_s(0, now_s) == pytest.approx(sum(gap for gap in gaps if gap >= after_s), rel=1e-6, abs=1e-6)


def test_limits_of_means_and_ranges() -> None:
    """Two subgroups whose figures are done by hand: mean 10, mean range 2, A2 0.577, D4 2.114."""
    means, ranges = xbar_r([[9, 9, 10, 11, 11], [9, 10, 10, 10, 11]])
    assert (means.low, means.centre, means.high) == pytest.approx((10 - 1.154, 10, 10 + 1.154))
    assert (ranges.low, ranges.centre, ranges.high) == pytest.approx((0, 2, 4.228))
    with pytest.raises(ValueError, match="one size"):
        xbar_r([[1, 2], [1, 2, 3]])


def test_limits_of_shares_and_rates() -> None:
    p = p_chart(10, 100, 100)
    assert (p.low, p.centre, p.high) == pytest.approx((0.01, 0.1, 0.19))
    u = u_chart(100, 100, 1)
    assert (u.low, u.centre, u.high) == pytest.approx((0, 1, 4))
    with pytest.raises(ValueError, match="cannot be"):
        p_chart(5, 3, 1)
    with pytest.raises(ValueError, match="cannot be"):
        u_chart(1, 0, 1)


LIMITS = Limits(-3, 0, 3)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([0.5, 3.1], [Signal(Rule.BEYOND_3, 1)]),
        ([0, -3.1], [Signal(Rule.BEYOND_3, -1)]),
        ([2.1, 0, 2.1], [Signal(Rule.TWO_OF_THREE_BEYOND_2, 1)]),
        ([2.1, 2.1], [Signal(Rule.TWO_OF_THREE_BEYOND_2, 1)]),
        ([2.1, -2.1], []),
        ([2.1, 2.1, 0], []),  # told when it was complete
        ([1.1, 1.2, 0, 1.1, 1.5], [Signal(Rule.FOUR_OF_FIVE_BEYOND_1, 1)]),
        ([0.1] * 8, [Signal(Rule.EIGHT_ON_ONE_SIDE, 1)]),
        ([0.1] * 7, []),
        ([-0.1] * 7 + [0.1], []),
        ([], []),
    ],
)
def test_western_electric(points: list[float], expected: list[Signal]) -> None:
    assert western_electric(points, LIMITS) == expected


def test_points_with_limits_of_their_own() -> None:
    limits = [p_chart(10, 100, 100), p_chart(10, 100, 25)]
    assert western_electric([0.1, 0.25], limits) == []
    assert western_electric([0.1, 0.25], [limits[0]] * 2) == [Signal(Rule.BEYOND_3, 1)]


def test_a_process_under_control_signals_rarely() -> None:
    chance = random.Random(1)
    points = [chance.gauss(0, 1) for _ in range(4000)]
    told = sum(bool(western_electric(points[: n + 1][-8:], LIMITS)) for n in range(len(points)))
    assert told / len(points) < 0.02  # 1 in 91.75 by Champ & Woodall (1987)


def test_capability() -> None:
    assert capability(10, 1, 4, 16) == pytest.approx((2.0, 2.0))
    assert capability(12, 1, 4, 16) == pytest.approx((2.0, 4 / 3))
    with pytest.raises(ValueError, match="no capability"):
        capability(0, 0, 1, 2)


def test_pareto() -> None:
    shares = pareto(["pore", "crack", "pore", "pore", "burn"])
    assert [(one.defect, one.count) for one in shares] == [("pore", 3), ("burn", 1), ("crack", 1)]
    assert [one.cumulative for one in shares] == pytest.approx([0.6, 0.8, 1.0])
    assert pareto([]) == ()


def test_a_line_over_an_hour() -> None:
    line = Line(LineSettings(ideal_cycle_s=10, demand_per_h=300, minor_s=120), 0.0)
    now_s = 0.0
    for number in range(270):
        now_s += 12.0
        if number == 100:
            now_s += 348.0  # a stop of 360 s
        line.part(Part(now_s, ("pore",) if number % 10 == 0 else (), rework=number % 30 == 1))
    found = line.figures(0.0, 3600.0)
    assert (found.parts, found.good) == (270, 243)
    assert found.oee.availability == pytest.approx((3600 - 360) / 3600)
    assert found.oee.performance == pytest.approx(2700 / (3600 - 360))
    assert found.oee.quality == pytest.approx(0.9)
    assert found.first_pass_yield == pytest.approx((270 - 9 - 27) / (270 - 9))
    assert (found.cycle_s_p50, found.cycle_s_p95, found.takt_s) == (12.0, 12.0, 12.0)
    assert found.stops == {"unknown": (1, 360.0)}
    assert found.pareto[0].count == 27


def test_a_line_that_was_not_there_all_the_time() -> None:
    line = Line(LineSettings(ideal_cycle_s=10), 1000.0)
    line.part(Part(1010.0))
    found = line.figures(0.0, 1020.0)
    assert found.oee.availability == 1.0 and found.oee.performance == pytest.approx(0.5)


def test_a_worse_process_breaks_its_chart() -> None:
    chance, line = random.Random(2), Line(LineSettings(ideal_cycle_s=1, sample=50, learn_samples=20), 0.0)
    now_s = 0.0
    early, late = list[Signal](), list[Signal]()
    for number in range(4000):
        now_s += 1
        rate = 0.05 if number < 2500 else 0.2
        _, told = line.part(Part(now_s, ("pore",) if chance.random() < rate else ()))
        (early if number < 2500 else late).extend(told)
    assert line.control_limits is not None and line.control_limits.centre == pytest.approx(0.05, abs=0.02)
    assert len(early) <= 2 and len(late) >= 10 and {one.side for one in late} == {1}
