"""Who is in a zone, for how long, and when that is told."""

from agent.decide.decider import Decider
from agent.decide.facts import EventFact, Fact
from agent.decide.settings import DecideSettings, ZoneSettings
from tests.decide.film import LABELS, Thing, events, show

DOCK = ZoneSettings("dock", polygon=((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)), settle_s=0.5)
IN, OUT = (0.5, 0.5), (0.1, 0.1)


def decider_of(zone: ZoneSettings = DOCK) -> Decider:
    return Decider("cam1", LABELS, DecideSettings(zones=(zone,)))


def thing(inside: bool, track_id: int = 1, label: str = "person") -> Thing:
    return Thing(track_id, *(IN if inside else OUT), label)


def changes(facts: list[Fact]) -> list[tuple[float, object]]:
    return [(round(fact.time_s, 3), fact.data["counts"]) for fact in events(facts, "ZoneCountChanged")]


def play(decider: Decider, pattern: str, fps: float = 10.0) -> list[Fact]:
    """One object, frame by frame: `#` inside, `.` outside, `?` predicted inside, ` ` not there."""
    facts = []
    for k, sign in enumerate(pattern):
        there = () if sign == " " else (Thing(1, *(OUT if sign == "." else IN), matched=sign != "?"),)
        facts += show(decider, k / fps, *there)
    return facts


def test_a_count_is_told_when_it_has_settled_with_the_moment_it_did() -> None:
    assert changes(play(decider_of(), "..########")) == [(0.7, {"person": 1})]


def test_a_short_visit_is_not_told() -> None:
    assert changes(play(decider_of(), "..###......")) == []


def test_a_flicker_at_the_edge_is_told_once() -> None:
    assert changes(play(decider_of(), "######.#.##.#####")) == [(0.5, {"person": 1})]


def test_an_empty_zone_is_told_with_a_zero() -> None:
    assert changes(play(decider_of(), "#######.........")) == [(0.5, {"person": 1}), (1.2, {"person": 0})]


def test_a_lost_object_stays_and_a_gone_one_leaves() -> None:
    facts = play(decider_of(), "######????????        ")
    assert changes(facts) == [(0.5, {"person": 1}), (1.9, {"person": 0})]


def test_without_settling_time_every_change_is_told_at_once() -> None:
    at_once = ZoneSettings("dock", DOCK.polygon, settle_s=0.0)
    assert changes(play(decider_of(at_once), "#.#")) == [
        (0.0, {"person": 1}),
        (0.1, {"person": 0}),
        (0.2, {"person": 1}),
    ]


def test_a_count_settles_by_tick_when_no_frame_comes() -> None:
    decider = decider_of()
    assert changes(show(decider, 1.0, thing(True))) == []
    assert decider.wake_at() == 1.5
    assert decider.tick(1.4) == []
    assert changes(decider.tick(1.5)) == [(1.5, {"person": 1})]
    assert decider.wake_at() is None
    assert decider.tick(9.0) == []


def test_counts_are_per_class_and_list_who_is_there() -> None:
    decider = decider_of()
    there = [thing(True, 1), thing(True, 2), thing(True, 3, "car"), thing(False, 4, "car")]
    facts = [fact for k in range(8) for fact in show(decider, k / 10, *there)]
    (change,) = events(facts, "ZoneCountChanged")
    assert change.subject == "dock"
    assert change.data["counts"] == {"car": 1, "person": 2}
    assert change.data["counts_before"] == {"car": 0, "person": 0}
    assert change.data["total"] == 3
    assert change.data["objects"] == [
        {"object_id": "cam1-1", "class": "person", "dwell_s": 0.5},
        {"object_id": "cam1-2", "class": "person", "dwell_s": 0.5},
        {"object_id": "cam1-3", "class": "car", "dwell_s": 0.5},
    ]
    assert decider.occupancy()["zones"] == {
        "dock": {"counts": {"person": 2, "car": 1}, "total": 3, "dwell_s_max": 0.7}
    }


def test_only_the_classes_of_a_zone_count() -> None:
    decider = decider_of(ZoneSettings("dock", DOCK.polygon, classes=("car",), settle_s=0.0))
    facts = show(decider, 0.0, thing(True, 1), thing(True, 2, "car"))
    assert changes(facts) == [(0.0, {"car": 1})]


def dwell(facts: list[Fact]) -> object:
    (gone,) = events(facts, "ObjectGone")
    return gone.data["zone_dwell_s"]


def test_dwell_survives_a_short_absence_and_adds_up_over_stays() -> None:
    assert dwell(play(decider_of(), "..####.####  ")) == {"dock": 0.8}
    assert dwell(play(decider_of(), "####........####.  ")) == {"dock": 0.8}
    assert dwell(play(decider_of(), "####????  ")) == {"dock": 0.3}
    assert dwell(play(decider_of(), ".....  ")) == {}


def test_a_change_of_class_changes_the_count() -> None:
    decider = decider_of(ZoneSettings("dock", DOCK.polygon, settle_s=0.0))
    facts: list[Fact] = show(decider, 0.0, thing(True, 1, "dog"))
    facts += show(decider, 0.1, thing(True, 1, "person"))
    assert changes(facts) == [(0.0, {"dog": 1}), (0.1, {"dog": 0, "person": 1})]


def test_the_end_of_a_camera_empties_its_zones() -> None:
    decider = decider_of()
    play(decider, "########")
    facts = decider.finish(2.0)
    assert [type(fact) for fact in facts] == [EventFact, EventFact]
    assert changes(facts) == [(2.0, {"person": 0})]
