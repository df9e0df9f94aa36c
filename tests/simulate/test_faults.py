"""Faults as text, and as a plan that follows from the seed."""

import pytest

from coordinator.simulate.faults import Fault, FaultKind, parse_fault, plan


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop:5%@60s", Fault(FaultKind.DROP, 0.05, 60.0, None, 0.0)),
        ("half-open:0.5%@2m", Fault(FaultKind.HALF_OPEN, 0.005, 120.0, None, 60.0)),
        ("half-open:1%/2m+90s", Fault(FaultKind.HALF_OPEN, 0.01, None, 120.0, 90.0)),
        ("slow:10%@1m+15s", Fault(FaultKind.SLOW, 0.1, 60.0, None, 15.0)),
        ("reboot:1%/10m", Fault(FaultKind.REBOOT, 0.01, None, 600.0, 10.0)),
        ("kill:3%@90s", Fault(FaultKind.KILL, 0.03, 90.0, None, 20.0)),
        ("flap:1%@1m+30s", Fault(FaultKind.FLAP, 0.01, 60.0, None, 30.0)),
        ("cut:100%@1h+5m", Fault(FaultKind.CUT, 1.0, 3600.0, None, 300.0)),
    ],
)
def test_a_fault_as_people_write_it(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drop", "write one like drop:5%@60s"),
        ("drop:5@60s", "write one like"),
        ("melt:5%@60s", "there are drop, half-open, slow, reboot, kill, flap, cut"),
        ("drop:0%@60s", "more than 0%"),
        ("drop:101%@60s", "at most 100%"),
        ("drop:5%@soon", "times are like 90s"),
        ("drop:5%@60s+x", "times are like 90s"),
        ("drop:5%/100ms", "a second or more"),
    ],
)
def test_a_mistake_says_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_fault(text)


def test_at_a_time_exactly_that_share_is_struck() -> None:
    strikes = plan([parse_fault("drop:5%@60s")], 200, 600.0, 1)
    assert {strike.at_s for strike in strikes} == {60.0}
    assert len({strike.node for strike in strikes}) == len(strikes) == 10


def test_at_a_rate_each_span_has_its_share_spread_over_it() -> None:
    strikes = plan([parse_fault("kill:1%/10s+3s")], 300, 60.0, 1)
    for begin_s in range(0, 60, 10):
        inside = [strike for strike in strikes if begin_s <= strike.at_s < begin_s + 10]
        assert len(inside) == 3
        assert len({strike.at_s for strike in inside}) == 3
    assert strikes == sorted(strikes)


def test_a_plan_follows_from_the_seed() -> None:
    faults = [parse_fault("drop:5%@60s"), parse_fault("flap:2%/7s")]
    assert plan(faults, 500, 100.0, 1) == plan(faults, 500, 100.0, 1)
    assert plan(faults, 500, 100.0, 1) != plan(faults, 500, 100.0, 2)


def test_a_small_share_of_a_small_fleet_is_one_node() -> None:
    assert len(plan([parse_fault("drop:1%@1s")], 3, 10.0, 1)) == 1


def test_what_would_come_after_the_end_is_left_out() -> None:
    assert plan([parse_fault("drop:50%@60s")], 10, 60.0, 1) == []


def test_too_many_strikes_are_refused() -> None:
    with pytest.raises(ValueError, match="make the run or the shares smaller"):
        plan([parse_fault("drop:100%/1s")], 100_000, 600.0, 1)
