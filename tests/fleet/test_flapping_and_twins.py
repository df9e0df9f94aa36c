"""Flapping nodes, twins with one name, and maintenance windows: by plain numbers for time."""

import pytest

from coordinator.fleet.flapping import Flap, FlapRules
from coordinator.fleet.maintenance import Window, next_change_ms, over, window_mistakes, window_of
from coordinator.fleet.selector_text import parse
from coordinator.fleet.twins import NODES_MAX, Seen, TwinWatch

MINUTE = 60_000
RULES = FlapRules()


def after(*losses_min: float) -> Flap:
    flap = Flap()
    for at in losses_min:
        flap = flap.lost(round(at * MINUTE), RULES)
    return flap


@pytest.mark.parametrize(
    ("losses_min", "flaps"),
    [
        ((0,), False),
        ((0, 1), False),
        ((0, 1, 2), True),
        ((0, 5, 10), False),  # 2.4
        ((0, 5, 10, 15), True),
        ((0, 60, 120, 180, 240), False),
    ],
)
def test_losses_close_together_flap(losses_min: tuple[float, ...], flaps: bool) -> None:
    assert after(*losses_min).flaps is flaps


def test_a_quiet_while_ends_it_at_the_time_that_is_told() -> None:
    flap = after(0, 1, 2)
    quiet_ms = flap.steady_in_ms(RULES)
    assert 25 * MINUTE < quiet_ms < 35 * MINUTE
    assert flap.at(2 * MINUTE + quiet_ms - 2, RULES).flaps
    assert not flap.at(2 * MINUTE + quiet_ms, RULES).flaps
    assert flap.losses == 3
    assert flap.at(10**9, RULES) == Flap(), "then nothing is left of it"
    assert Flap().steady_in_ms(RULES) == 0


def test_no_past_is_too_bad_to_be_forgotten_within_an_hour() -> None:
    flap = after(*(n / 10 for n in range(1000)))
    assert flap.penalty == RULES.penalty_max
    assert flap.steady_in_ms(RULES) < 60 * MINUTE


def test_a_clock_that_stands_still_or_goes_back_forgives_nothing() -> None:
    flap = Flap().lost(MINUTE, RULES).lost(0, RULES)
    assert flap.penalty == 2.0


def seen(instance: str, boot: int, at_ms: int = 0) -> Seen:
    return Seen(instance, boot, 1, at_ms)


def births(watch: TwinWatch, *said: Seen) -> list[bool]:
    found, before = [], None
    for one in said:
        found.append(watch.birth("gw-1", before, one) is not None)
        before = one
    return found


def test_restarts_are_no_twins() -> None:
    assert births(TwinWatch(), *(seen(f"i{n}", n) for n in range(20))) == [False] * 20


def test_reconnects_are_no_twins() -> None:
    assert births(TwinWatch(), seen("a", 1), seen("a", 1), seen("a", 1)) == [False] * 3


def test_an_instance_that_is_back_after_it_was_replaced_has_a_twin_told_once_an_hour() -> None:
    said = [seen("ab"[n % 2], 5 + n % 2, n * MINUTE) for n in range(130)]
    told = births(TwinWatch(), *said)
    assert [n for n, found in enumerate(told) if found] == [2, 62, 122]


def test_two_instances_of_one_boot_are_twins_at_once() -> None:
    assert births(TwinWatch(), seen("a", 5), seen("b", 5)) == [False, True]


def test_an_agent_that_says_no_instance_tells_nothing() -> None:
    assert births(TwinWatch(), seen("", 5), seen("", 5), seen("b", 5), seen("", 5)) == [False] * 4


def test_what_was_replaced_a_day_ago_is_forgotten_and_so_is_who_left() -> None:
    watch = TwinWatch()
    day = 25 * 3600_000
    assert births(watch, seen("a", 1), seen("b", 2), seen("a", 1, day)) == [False] * 3
    assert births(watch, seen("c", 1), seen("d", 2)) == [False, False]
    watch.forget("gw-1")
    assert births(watch, seen("e", 3), seen("c", 1)) == [False, False]


def test_only_so_many_nodes_are_remembered() -> None:
    watch = TwinWatch()
    for n in range(NODES_MAX + 1):
        watch.birth(f"gw-{n}", seen("a", 1), seen("b", 2))
    assert watch.birth("gw-0", seen("b", 2), seen("a", 1)) is None, "the one that was longest ago"
    assert watch.birth(f"gw-{NODES_MAX}", seen("b", 2), seen("a", 1)) is not None


def window(first: int, last: int, selector: str = "site = a", name: str = "w") -> Window:
    return Window(name, parse(selector), first, last)


def test_a_node_is_in_the_open_window_that_ends_last() -> None:
    windows = [window(0, 10, name="w1"), window(5, 20, name="w2"), window(0, 99, "site = b", "w3")]
    facts = {"site": "a"}
    assert [found.id if (found := window_of(windows, facts, at)) else "" for at in (4, 5, 10, 19, 20)] == [
        "w1", "w2", "w2", "w2", "",
    ]  # fmt: skip
    assert next_change_ms(windows, 5) == 10
    assert next_change_ms(windows, 99) is None
    assert over({one.id: one for one in windows}, 20) == ["w1", "w2"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (window(10, 10), "it ends before it begins"),
        (window(0, 3), "it is over already"),
        (window(0, 40 * 24 * 3600_000), "longer than 30 days"),
    ],
)
def test_a_window_that_cannot_be(made: Window, said: str) -> None:
    assert said in "; ".join(window_mistakes(made, 5))
    assert window_mistakes(window(0, 10), 5) == []
