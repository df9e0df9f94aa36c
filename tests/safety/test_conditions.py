"""Conditions about people by synthetic scenes: distances, falls, equipment, being alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from agent.decide.alerts import Alerts
from agent.decide.decider import Decider
from agent.decide.settings import AlertRuleSettings, DecideSettings, check_decide_settings
from agent.decide.view import View
from agent.track.tracks import Tracks
from platforms.context import BadArgumentError
from platforms.manufacturing.safety.ground import Ground, GroundError, Ruler
from platforms.manufacturing.safety.rules import alone, fallen, missing_equipment, too_close
from platforms.watching import Condition, Match, Scene

WIDTH, HEIGHT = 1000, 1000
LABELS = ("person", "forklift", "helmet", "vest", "no_helmet", "lying")
# A floor seen at a slant: the picture's lower half is 10 m deep, 4 m wide at its bottom and 8 m at half its height.
FLOOR = [[0.0, 1.0, -2.0, 0.0], [1.0, 1.0, 2.0, 0.0], [0.0, 0.5, -4.0, 10.0], [1.0, 0.5, 4.0, 10.0]]


@dataclass(frozen=True, slots=True)
class Thing:
    track_id: int
    class_name: str
    box: tuple[float, float, float, float]
    confidence: float = 0.9
    matched: bool = True
    age_s: float = 1.0

    @property
    def object_id(self) -> str:
        return f"t-{self.track_id}"


def person(track_id: int = 1, x: float = 500, bottom: float = 800, height: float = 300, width: float = 100) -> Thing:
    return Thing(track_id, "person", (x - width / 2, bottom - height, x + width / 2, bottom))


def scene(time_s: float, *things: Thing, meant: Sequence[str] = ("person",)) -> Scene:
    return Scene(time_s, WIDTH, HEIGHT, things, [one.class_name in meant for one in things])


def film(condition: Condition, frames: Iterable[tuple[float, Sequence[Thing]]]) -> list[list[Match]]:
    return [list(condition.matches(scene(time_s, *things))) for time_s, things in frames]


# ---- distances -----------------------------------------------------------------------------------


def test_a_calibrated_floor_gives_back_its_points() -> None:
    ground = Ground(FLOOR)
    for x, y, known_x, known_y in FLOOR:
        assert ground.at(x, y) == pytest.approx((known_x, known_y), abs=1e-6)
    middle = ground.at(0.5, 0.75)
    assert middle[0] == pytest.approx(0.0, abs=1e-6) and 0 < middle[1] < 10
    many = Ground([*FLOOR, [0.5, 1.0, 0.001, 0.0], [0.5, 0.5, -0.001, 10.0]])
    assert many.at(0.5, 0.75) == pytest.approx(middle, abs=0.05)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (FLOOR[:3], "4 points or more"),
        ([[0, 0, 0, 0], [0.1, 0.1, 1, 0], [0.2, 0.2, 0, 1], [0.3, 0.3, 1, 1]], "one line of the picture"),
        ([[0, 0, 0, 0], [1, 0, 1, 1], [0, 1, 2, 2], [1, 1, 3, 3]], "one line of the floor"),
        ([[0, 0, 0, math.inf], *FLOOR[1:]], "finite"),
    ],
)
def test_points_that_show_no_floor(points: list[list[float]], said: str) -> None:
    with pytest.raises(GroundError, match=said):
        Ground(points)


def test_distances_with_and_without_a_calibration() -> None:
    by_ground = Ruler(Ground(FLOOR), 1.7)
    # On the picture's bottom edge it is 4 m wide.
    assert by_ground.apart_m((450, 700, 550, 1000), (800, 700, 900, 1000), WIDTH, HEIGHT) == pytest.approx(
        1.2, abs=1e-3
    )
    assert by_ground.apart_m((450, 700, 550, 1000), (400, 700, 900, 1000), WIDTH, HEIGHT) == pytest.approx(
        0, abs=1e-9
    )
    by_height = Ruler(None, 1.7)
    assert by_height.apart_m((0, 0, 100, 340), (300, 0, 400, 340), WIDTH, HEIGHT) == pytest.approx(1.0)


def near(**settings: Any) -> Condition:
    return too_close({"others": ["forklift"], "distance_m": 1.0, **settings}, LABELS)


def forklift(x: float, track_id: int = 9) -> Thing:
    return Thing(track_id, "forklift", (x, 600, x + 200, 800))


def test_a_person_too_close_to_a_machine() -> None:
    found = near().matches(scene(0.0, person(1), person(2, x=100), forklift(620)))
    ((match),) = found
    assert match.index == 0 and match.said == {"distance_m": 0.4, "near": "forklift"}
    assert near().matches(scene(0.0, person(2, x=100), forklift(620))) == []
    assert near().matches(scene(0.0, person(1))) == []


def test_a_machine_that_stands_is_left_out_where_the_rule_says_so() -> None:
    moving = near(moving_m_s=0.3)
    assert film(moving, [(n / 10, [person(), forklift(620)]) for n in range(20)])[-1] == []
    found = film(moving, [(2 + n / 10, [person(), forklift(900 - 15 * n)]) for n in range(20)])
    assert found[-1] and found[-1][0].said["near"] == "forklift"


# ---- falls ---------------------------------------------------------------------------------------


def lying(track_id: int = 1, x: float = 500) -> Thing:
    return person(track_id, x=x, height=100, width=300)


def fall(**settings: Any) -> Condition:
    return fallen({"still_s": 2.0, **settings}, LABELS)


def test_a_person_who_lies_still_has_fallen() -> None:
    frames = [(n / 10, [person()]) for n in range(20)] + [(2 + n / 10, [lying()]) for n in range(40)]
    found = film(fall(), frames)
    first = next(n for n, matches in enumerate(found) if matches)
    assert frames[first][0] == pytest.approx(4.0, abs=0.2)
    assert found[-1][0].said["posture"] == "aspect" and found[-1][0].said["aspect"] == 3.0


@pytest.mark.parametrize("what", ["stands", "crawls", "bends", "cut off"])
def test_what_is_no_fall(what: str) -> None:
    frames: list[tuple[float, Sequence[Thing]]] = []
    for n in range(60):
        things = {
            "stands": person(),
            "crawls": lying(x=200 + 8 * n),
            "bends": lying() if 20 <= n < 30 else person(),
            "cut off": person(bottom=995, height=100, width=300),
        }
        frames.append((n / 10, [things[what]]))
    assert not any(film(fall(), frames))


def test_a_class_of_the_model_says_it_at_once() -> None:
    one = Thing(1, "lying", (100, 100, 400, 200))
    condition = fallen({"lying_classes": ["lying"]}, LABELS)
    assert [match.said for match in condition.matches(scene(0.0, one, meant=("lying",)))] == [{"posture": "class"}]


# ---- equipment -----------------------------------------------------------------------------------

NEEDS = {"needs": {"helmet": "head", "vest": "torso"}, "over_s": 1.0}


def helmet(x: float = 500, top: float = 500, name: str = "helmet", track_id: int = 20) -> Thing:
    return Thing(track_id, name, (x - 25, top, x + 25, top + 50))


def vest(x: float = 500, track_id: int = 30) -> Thing:
    return Thing(track_id, "vest", (x - 40, 590, x + 40, 700))


def said(condition: Condition, things: Sequence[Thing], frames: int = 20) -> list[Mapping[str, Any]]:
    return [match.said for match in film(condition, [(n / 10, things) for n in range(frames)])[-1]]


@pytest.mark.parametrize(
    ("things", "expected"),
    [
        ([person(), helmet(), vest()], []),
        ([person(), vest()], [{"missing": "helmet"}]),
        ([person()], [{"missing": "helmet, vest"}]),
        ([person(), helmet(top=690), vest()], [{"missing": "helmet"}]),  # in the hand
        ([person(), helmet(x=700), vest()], [{"missing": "helmet"}]),  # on the table
        ([person(height=120), vest()], []),  # too small to be judged
    ],
)
def test_equipment(things: list[Thing], expected: list[dict[str, str]]) -> None:
    assert said(missing_equipment(NEEDS, LABELS), things) == expected


def test_one_helmet_of_two_people_is_that_of_the_nearer() -> None:
    people = [person(1, x=450), person(2, x=550), helmet(x=460), vest(450, 30), vest(550, 31)]
    condition = missing_equipment(NEEDS, LABELS)
    found = film(condition, [(n / 10, people) for n in range(20)])[-1]
    assert [match.index for match in found] == [1]


def test_a_helmet_that_is_hidden_for_a_moment_is_not_missing() -> None:
    condition = missing_equipment({**NEEDS, "needs": {"helmet": "head"}}, LABELS)
    frames = [(n / 10, [person(), *([helmet()] if n % 3 else [])]) for n in range(40)]
    assert not any(film(condition, frames))


def test_a_class_that_says_that_it_is_missing_counts() -> None:
    condition = missing_equipment({**NEEDS, "against": {"no_helmet": "helmet"}}, LABELS)
    both = [person(), helmet(), helmet(name="no_helmet", track_id=21), vest()]
    assert said(condition, both) == [{"missing": "helmet"}]


# ---- alone ---------------------------------------------------------------------------------------


def test_alone() -> None:
    condition = alone({}, LABELS)
    assert [match.index for match in condition.matches(scene(0, forklift(1), person(1)))] == [1]
    hidden = Thing(2, "person", (0, 0, 10, 10), matched=False)
    assert condition.matches(scene(0, person(1), hidden)) == []
    assert condition.matches(scene(0)) == []


# ---- as rules of the agent -----------------------------------------------------------------------

KINDS: dict[str, Any] = {
    "manufacturing.too_close": too_close,
    "manufacturing.alone": alone,
    "manufacturing.fallen": fallen,
    "manufacturing.missing_equipment": missing_equipment,
}


def tracks(*things: Thing) -> Tracks:
    n = len(things)
    return Tracks(
        track_id=np.array([t.track_id for t in things], np.int64),
        xyxy=np.array([t.box for t in things], np.float32).reshape(n, 4),
        confidence=np.array([t.confidence for t in things], np.float32),
        class_id=np.array([LABELS.index(t.class_name) for t in things], np.int32),
        first_seen_s=np.zeros(n),
        last_seen_s=np.zeros(n),
        matched=np.array([t.matched for t in things], np.bool_),
        gone=np.array([], np.int64),
    )


def test_a_lone_worker_is_told_after_the_rules_time_and_cleared_by_company() -> None:
    rule = AlertRuleSettings("lone", classes=("person",), for_s=5.0, clear_after_s=1.0, kind="manufacturing.alone")
    decider = Decider("cam1", LABELS, DecideSettings(rules=(rule,), object_events=False), kinds=KINDS)
    facts = []
    for n in range(120):
        things = [person(1)] if n < 80 else [person(1), person(2, x=200)]
        facts += [(n / 10, fact) for fact in decider.update(tracks(*things), n / 10, WIDTH, HEIGHT)]
    assert [(at, fact.state.value) for at, fact in facts if hasattr(fact, "state")] == [
        (5.0, "raised"),
        (9.0, "cleared"),
    ]


def test_what_a_condition_says_is_in_the_alert() -> None:
    rule = AlertRuleSettings(
        "near",
        classes=("person",),
        for_s=0.0,
        kind="manufacturing.too_close",
        settings={"others": ["forklift"], "distance_m": 1.0},
    )
    alerts = Alerts("cam1", [rule], "c", LABELS, KINDS)
    view = View("c", LABELS, tracks(person(1), forklift(620)), 0.0, WIDTH, HEIGHT)
    (fact,) = alerts.observe(view, {})
    (one,) = fact.data["objects"]  # type: ignore[misc,union-attr]
    assert one["distance_m"] == 0.4 and one["near"] == "forklift" and one["class"] == "person"  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    ("kind", "settings", "wrong"),
    [
        ("", {"x": 1}, "settings belong to a kind of rule"),
        ("acme.x", {}, "no platform here has rules of kind 'acme.x' (manufacturing.too_close"),
        ("manufacturing.too_close", {}, "others: is missing"),
        ("manufacturing.too_close", {"others": ["crane"]}, "class 'crane' is not among"),
        ("manufacturing.too_close", {"others": ["forklift"], "ground": FLOOR[:2]}, "4 points or more"),
        ("manufacturing.fallen", {"aspect": 2}, "aspect"),
        ("manufacturing.missing_equipment", {"needs": {"helmet": "foot"}}, "'foot' is none of head"),
        (
            "manufacturing.missing_equipment",
            {"needs": {"helmet": "head"}, "against": {"no_helmet": "vest"}},
            "'vest' is not",
        ),
    ],
)
def test_wrong_rules_are_named(kind: str, settings: dict[str, Any], wrong: str) -> None:
    rule = AlertRuleSettings("r", kind=kind, settings=settings)
    mistakes = check_decide_settings(DecideSettings(rules=(rule,)), LABELS, KINDS)
    assert any(wrong in text for text in mistakes), mistakes


def test_settings_are_refused_as_bad_arguments() -> None:
    with pytest.raises(BadArgumentError):
        alone({"company": ["nobody"]}, LABELS)
