"""An alert is raised when a condition has held, told now and then, and cleared when it is over."""

from dataclasses import replace

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.decide.alerts import TRANSITIONS, Phase, Sign
from agent.decide.decider import Decider
from agent.decide.facts import AlertState, Fact
from agent.decide.settings import AlertRuleSettings, DecideSettings, ZoneSettings
from schemas.messages import Severity
from tests.decide.film import LABELS, Thing, alerts, show, story

DOCK = ZoneSettings("dock", polygon=((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)))
LOITERING = AlertRuleSettings(
    "loitering",
    classes=("person",),
    zone="dock",
    for_s=2.0,
    gap_s=1.0,
    clear_after_s=3.0,
    cooldown_s=5.0,
    update_interval_s=4.0,
    severity=Severity.CRITICAL,
)
PERSON = Thing(1, 0.5, 0.5)


def decider_of(rule: AlertRuleSettings = LOITERING) -> Decider:
    return Decider("cam1", LABELS, DecideSettings(zones=(DOCK,), rules=(rule,)))


def play(decider: Decider, pattern: str, fps: float = 2.0) -> list[Fact]:
    """Frame by frame: `#` the person is in the zone, `.` nobody is, `_` no frame comes."""
    facts: list[Fact] = []
    for k, sign in enumerate(pattern):
        if sign != "_":
            facts += show(decider, k / fps, *((PERSON,) if sign == "#" else ()))
    return facts


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("####......", [], id="not long enough"),
        pytest.param("#####", [("raised", 2.0)], id="long enough"),
        pytest.param("##.##.##", [("raised", 2.0)], id="gaps are bridged, a frame with the object raises"),
        pytest.param("##.#.", [], id="nothing is raised by a frame without the object"),
        pytest.param("###...####", [], id="a long gap begins anew"),
        pytest.param("##########" + "###", [("raised", 2.0), ("updated", 6.0)], id="told again now and then"),
        pytest.param("#####.......", [("raised", 2.0), ("cleared", 5.0)], id="cleared when absent long enough"),
        pytest.param("#####.....#.....", [("raised", 2.0)], id="an absence too short clears nothing"),
        pytest.param(
            "#####.....#.......", [("raised", 2.0), ("cleared", 8.0)], id="absence counts from the last time"
        ),
        pytest.param(
            "#####......" + "#" * 17,
            [("raised", 2.0), ("cleared", 5.0), ("raised", 12.0)],
            id="after the cool-down the condition must hold anew",
        ),
    ],
)
def test_life_of_an_alert(pattern: str, expected: list[tuple[str, float]]) -> None:
    assert story(play(decider_of(), pattern)) == expected


def test_an_alert_tells_what_where_and_how_long() -> None:
    decider = decider_of()
    raised, updated, cleared = alerts(play(decider, "#########" + "####" + "." * 8))
    assert raised.rule == "loitering"
    assert raised.severity is Severity.CRITICAL
    assert raised.subject == "cam1"
    assert raised.data["zone"] == "dock"
    assert raised.data["count"] == 1
    assert raised.data["objects"] == [
        {"object_id": "cam1-1", "class": "person", "confidence": 0.8, "box": [480.0, 400.0, 520.0, 500.0]}
    ]
    assert [a.data["duration_s"] for a in (raised, updated, cleared)] == [2.0, 6.0, 9.0]
    assert cleared.data["reason"] == "absent"
    assert {a.alert_id for a in (raised, updated, cleared)} == {"cam1-loitering-1"}


def test_each_alert_of_a_rule_has_its_own_id() -> None:
    decider = decider_of(replace(LOITERING, cooldown_s=0.0))
    facts = alerts(play(decider, ("#####" + "." * 8) * 2))
    assert [(f.alert_id, f.state.value) for f in facts] == [
        ("cam1-loitering-1", "raised"),
        ("cam1-loitering-1", "cleared"),
        ("cam1-loitering-2", "raised"),
        ("cam1-loitering-2", "cleared"),
    ]


def test_an_alert_is_cleared_even_if_no_frames_come() -> None:
    decider = decider_of()
    play(decider, "#####")
    assert decider.wake_at() == 5.0
    assert decider.tick(4.9) == []
    (cleared,) = alerts(decider.tick(5.0))
    assert (cleared.state, cleared.time_s, cleared.data["reason"]) == (AlertState.CLEARED, 5.0, "no_frames")
    assert decider.wake_at() == 10.0  # the cool-down ends
    assert alerts(decider.tick(10.0)) == []
    assert decider.wake_at() is None


def test_a_long_silence_is_told_once_at_its_own_moment() -> None:
    decider = decider_of()
    play(decider, "#####")
    assert story(show(decider, 1000.0, PERSON)) == [("cleared", 5.0)]
    assert story([f for k in range(1, 5) for f in show(decider, 1000.0 + k / 2, PERSON)]) == [("raised", 1002.0)]


def test_no_alert_is_raised_while_no_frames_come() -> None:
    decider = decider_of()
    play(decider, "####")
    assert decider.tick(2.0) == []
    assert decider.tick(60.0) == []


def test_the_end_of_the_camera_clears_what_is_on() -> None:
    decider = decider_of()
    play(decider, "#####")
    (cleared,) = alerts(decider.finish(3.0))
    assert (cleared.state, cleared.time_s, cleared.data["reason"]) == (AlertState.CLEARED, 3.0, "camera_stopped")
    assert decider.finish(4.0) == []


@pytest.mark.parametrize(
    ("thing", "counts"),
    [
        pytest.param(PERSON, True, id="a person inside"),
        pytest.param(Thing(1, 0.1, 0.1), False, id="outside the zone"),
        pytest.param(Thing(1, 0.5, 0.5, "car"), False, id="another class"),
        pytest.param(Thing(1, 0.5, 0.5, confidence=0.4), False, id="not sure enough"),
        pytest.param(Thing(1, 0.5, 0.5, matched=False), False, id="only predicted"),
    ],
)
def test_what_fulfils_the_condition(thing: Thing, counts: bool) -> None:
    decider = decider_of(replace(LOITERING, for_s=0.0))
    assert [a.state for a in alerts(show(decider, 0.0, thing))] == ([AlertState.RAISED] if counts else [])


def test_a_rule_without_zone_and_classes_watches_everything() -> None:
    decider = decider_of(AlertRuleSettings("any", for_s=0.0))
    (raised,) = alerts(show(decider, 0.0, Thing(1, 0.05, 0.15, "dog")))
    assert raised.data["zone"] is None


def test_the_condition_is_about_the_zone_not_about_one_object() -> None:
    decider = decider_of()
    facts = [f for k in range(5) for f in show(decider, k / 2, Thing(k + 1, 0.5, 0.5))]
    assert story(facts) == [("raised", 2.0)]


def test_the_table_says_what_follows_in_every_phase() -> None:
    missing = {(phase, sign) for phase in Phase for sign in Sign} - TRANSITIONS.keys()
    assert missing == {(Phase.IDLE, Sign.LAPSED)}


class AlertLife(RuleBasedStateMachine):
    """Whatever frames, silences, ticks and ends come: alerts come in whole lives, in order, and not too often."""

    def __init__(self) -> None:
        super().__init__()
        self.decider = decider_of()
        self.time_s = 0.0
        self.present_s = [-1e9]  # moments at which the condition was fulfilled
        self.on: str | None = None
        self.told_s = -1e9
        self.cleared_s = -1e9
        self.ids = set[str]()

    @rule(step_s=st.sampled_from((0.1, 0.5, 1.0, 2.9, 3.0, 3.1, 7.0)), present=st.booleans())
    def frame(self, step_s: float, present: bool) -> None:
        self.time_s += step_s
        facts = show(self.decider, self.time_s, *((PERSON,) if present else ()))
        if present:
            self.present_s.append(self.time_s)
        self.told(facts)

    @rule(step_s=st.sampled_from((0.1, 1.0, 3.0, 20.0)))
    def silence(self, step_s: float) -> None:
        self.time_s += step_s
        self.told(self.decider.tick(self.time_s))

    @rule()
    def wake(self) -> None:
        due_s = self.decider.wake_at()
        if due_s is not None:
            self.time_s = max(self.time_s, due_s)
            self.told(self.decider.tick(self.time_s))
            later_s = self.decider.wake_at()
            assert later_s is None or later_s > self.time_s, "asked to be woken for what is over"

    @rule()
    def end(self) -> None:
        self.told(self.decider.finish(self.time_s), ended=True)
        assert self.on is None
        self.cleared_s = -1e9

    def told(self, facts: list[Fact], ended: bool = False) -> None:
        for fact in alerts(facts):
            assert fact.time_s <= self.time_s + 1e-5
            if fact.state is AlertState.RAISED:
                assert self.on is None
                assert fact.alert_id not in self.ids
                assert fact.time_s == self.present_s[-1], "raised without the object"
                assert fact.time_s - self.cleared_s >= LOITERING.for_s + LOITERING.cooldown_s
                assert any(
                    fact.time_s - moment_s >= LOITERING.for_s - 1e-9 for moment_s in self.present_s if moment_s >= 0
                )
                self.on = fact.alert_id
                self.ids.add(fact.alert_id)
            else:
                assert fact.alert_id == self.on
                if fact.state is AlertState.UPDATED:
                    assert fact.time_s - self.told_s >= LOITERING.update_interval_s
                else:
                    if not ended:
                        before_s = max(m for m in self.present_s if m <= fact.time_s)
                        assert fact.time_s - before_s == pytest.approx(LOITERING.clear_after_s)
                    self.on, self.cleared_s = None, fact.time_s
            self.told_s = fact.time_s

    @invariant()
    def knows_what_is_on(self) -> None:
        assert self.decider.occupancy()["alerts"] == ([self.on] if self.on else [])

    @invariant()
    def is_never_on_for_long_after_the_object(self) -> None:
        if self.on is not None:
            assert self.time_s - self.present_s[-1] <= LOITERING.clear_after_s + 1e-9


AlertLife.TestCase.settings = hypothesis_settings(deadline=None, max_examples=60, stateful_step_count=40)
TestAlertLife = AlertLife.TestCase


def test_a_muted_rule_raises_nothing_and_a_raised_alert_is_still_cleared() -> None:
    decider = decider_of()
    decider.mute(frozenset({"loitering", "another"}))
    assert alerts(play(decider, "##########")) == []
    decider.mute(frozenset())
    facts = show(decider, 5.0, PERSON)
    assert [fact.state for fact in alerts(facts)] == [AlertState.RAISED]  # it still holds when the mute ends
    decider.mute(frozenset({"loitering"}))
    facts = [fact for k in range(20) for fact in show(decider, 5.5 + k / 2, *((PERSON,) if k < 10 else ()))]
    assert [fact.state for fact in alerts(facts)] == [AlertState.CLEARED]  # no updates, and its end
