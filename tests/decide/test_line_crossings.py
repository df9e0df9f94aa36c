"""A crossing is counted once, in the right direction, and only where the line is."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decide.decider import Decider
from agent.decide.facts import EventFact
from agent.decide.geometry import Anchor
from agent.decide.settings import DecideSettings, LineSettings
from tests.decide.film import LABELS, Thing, events, show

GATE = LineSettings("gate", start=(0.5, 0.8), end=(0.5, 0.2))  # looking up: in is from left to right


def crossings(line: LineSettings, *ways: list[Thing]) -> list[EventFact]:
    """The crossings while each object goes its way, frame by frame."""
    decider = Decider("cam1", LABELS, DecideSettings(lines=(line,)))
    found = []
    for k in range(max(map(len, ways))):
        found += events(show(decider, k / 10, *(way[k] for way in ways if k < len(way))), "LineCrossed")
    return found


def walk(*xs: float, y: float = 0.5, track_id: int = 1, label: str = "person") -> list[Thing]:
    return [Thing(track_id, x, y, label) for x in xs]


def directions(found: list[EventFact]) -> list[object]:
    return [fact.data["direction"] for fact in found]


@pytest.mark.parametrize(
    ("xs", "expected"),
    [
        pytest.param((0.4, 0.45, 0.55, 0.6), ["in"], id="from left to right"),
        pytest.param((0.6, 0.4), ["out"], id="from right to left, in one step"),
        pytest.param((0.4, 0.6, 0.4, 0.6), ["in", "out", "in"], id="to and fro"),
        pytest.param((0.4, 0.495, 0.505, 0.495, 0.505, 0.6), ["in"], id="trembling on the line"),
        pytest.param((0.4, 0.495, 0.505, 0.4), [], id="touching and turning back"),
        pytest.param((0.495, 0.505, 0.495, 0.505), [], id="standing on the line"),
        pytest.param((0.495, 0.6, 0.7), [], id="first seen on the line"),
        pytest.param((0.2, 0.3, 0.4), [], id="never there"),
    ],
)
def test_crossings_of_one_walk(xs: tuple[float, ...], expected: list[str]) -> None:
    assert directions(crossings(GATE, walk(*xs))) == expected


def test_walking_round_the_end_of_a_line_counts_nothing() -> None:
    over = [Thing(1, x, 0.9) for x in (0.4, 0.6)]
    back = [Thing(1, 0.4, 0.5)]
    assert directions(crossings(GATE, over)) == []
    assert directions(crossings(GATE, over + back)) == ["out"]


def test_a_predicted_object_does_not_cross_until_it_is_seen_beyond() -> None:
    lost = [Thing(1, 0.4, 0.5), Thing(1, 0.6, 0.5, matched=False), Thing(1, 0.7, 0.5)]
    found = crossings(GATE, lost)
    assert [(fact.time_s, fact.data["direction"]) for fact in found] == [(0.2, "in")]


def test_counts_run_per_direction_and_class() -> None:
    found = crossings(
        GATE,
        walk(0.4, 0.6, 0.6),
        walk(0.6, 0.6, 0.4, track_id=2, label="car"),
        walk(0.4, 0.4, 0.6, track_id=3),
    )
    assert [fact.data["counts"] for fact in found] == [
        {"in": {"person": 1}, "out": {}},
        {"in": {"person": 1}, "out": {"car": 1}},
        {"in": {"person": 2}, "out": {"car": 1}},
    ]
    assert found[1].subject == "gate"
    assert found[1].data["object_id"] == "cam1-2"
    assert found[1].data["class"] == "car"


def test_only_the_classes_of_a_line_cross_it() -> None:
    cars = LineSettings("gate", GATE.start, GATE.end, classes=("car",))
    assert directions(crossings(cars, walk(0.4, 0.6), walk(0.6, 0.4, track_id=2, label="car"))) == ["out"]


def test_the_anchor_decides_which_point_crosses() -> None:
    level = LineSettings("level", start=(0.2, 0.5), end=(0.8, 0.5))  # looking right: in is downwards
    fall = [Thing(1, 0.5, y) for y in (0.45, 0.52)]  # the centre is 0.05 higher
    assert directions(crossings(level, fall)) == ["in"]
    assert directions(crossings(replace(level, anchor=Anchor.CENTRE), fall)) == []


@given(st.lists(st.floats(-0.0099, 0.0099), max_size=30), st.booleans())
def test_trembling_within_the_hysteresis_never_counts_twice(trembling: list[float], turns_back: bool) -> None:
    way = walk(0.4, *(0.5 + offset for offset in trembling), 0.4 if turns_back else 0.6)
    assert directions(crossings(GATE, way)) == ([] if turns_back else ["in"])


@given(st.lists(st.floats(0.3, 0.7), min_size=1, max_size=30))
def test_directions_alternate_whatever_the_walk(xs: list[float]) -> None:
    found = directions(crossings(GATE, walk(*xs)))
    assert all(before != after for before, after in itertools.pairwise(found))
