"""The life of alerts, in plain numbers of time: raised, acknowledged, escalated, over, and over a restart."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.alerting.alert import RANKS, Alert, Now
from agent.alerting.engine import BY_HAND, Engine, Step
from agent.alerting.rule import Rule, Seen, rule_of
from agent.alerting.settings import AlertingSettings, Escalation
from agent.decide.facts import AlertState
from platforms.catalogue import open_catalogue
from platforms.conditions import ConditionError, Fact
from schemas.messages import Severity
from schemas.shape import fields_of

NOON_MS = 1_795_521_600_000
PORES = Rule("porous", 'count(DefectDetected where defect_type = "pore", 60s) >= 3', cooldown_s=10.0)
CATALOGUE = open_catalogue()


def at(s: float) -> Now:
    return Now(s, NOON_MS + round(s * 1000))


def pore(confidence: float = 0.9, kind: str = "pore") -> Fact:
    return Fact("DefectDetected", {"camera_id": "cam1", "defect_type": kind, "confidence": confidence}, "part-7")


def engine(*rules: Rule, known: Sequence[Alert] = (), boot: int = 1, now_s: float = 0.0, **more: Any) -> Engine:
    made = Engine(AlertingSettings(**more), boot, known, at(now_s))
    for rule in rules:
        made.set(rule, at(now_s))
    return made


def said(steps: Sequence[Step]) -> list[tuple[str, str]]:
    return [(step.alert.state.value, step.alert.reason) for step in steps if step.tell]


def test_it_is_raised_and_over_with_its_condition_and_then_rests() -> None:
    made = engine(PORES, settle_s=0.0)
    assert said(made.hear(pore(), at(1))) == said(made.hear(pore(kind="scratch"), at(2))) == []
    assert said(made.hear(pore(), at(3))) == []
    ((step),) = made.hear(pore(), at(5))
    alert = step.alert
    assert (alert.alert_id, alert.camera_id, alert.cause) == ("porous-1.a1", "cam1", "DefectDetected part-7")
    assert said(made.hear(pore(), at(6))) == []  # it is on already
    # The first of the four leaves the window at 61 s, the second at 63 s: then two are left.
    assert made.due_s() == 61.0
    assert said(made.pass_time(at(61))) == []
    assert said(made.pass_time(at(63))) == [("cleared", "condition")]
    for s in (66, 66.1, 66.2, 66.3):
        assert said(made.hear(pore(), at(s))) == []  # cool-down
    assert made.due_s() <= 73.0
    (again,) = made.pass_time(at(73))
    assert (again.alert.alert_id, again.alert.state) == ("porous-1.a2", AlertState.RAISED)


def test_hysteresis_a_clear_condition_holds_it_until_it_holds_itself() -> None:
    rule = Rule("hot", "last(Load.c, 1h) > 80", clear="last(Load.c, 1h) < 70", cooldown_s=0.0)
    made = engine(rule, settle_s=0.0)
    states = []
    for n, value in enumerate((79, 81, 75, 90, 70, 69, 75, 81)):
        states += [(value, state) for state, _ in said(made.hear(Fact("Load", {"c": float(value)}), at(n)))]
    assert states == [(81, "raised"), (69, "cleared"), (81, "raised")]


def test_while_both_conditions_hold_it_goes_on() -> None:
    rule = Rule("both", "count(A, 1h) >= 1", clear="count(A, 1h) >= 1", cooldown_s=0.0)
    made = engine(rule, settle_s=0.0)
    assert said(made.hear(Fact("A", {}), at(0))) == [("raised", "")]
    assert said(made.hear(Fact("A", {}), at(1))) == said(made.pass_time(at(2))) == []


ESCALATE = (
    Escalation(60.0, Severity.CRITICAL, ("siren",)),
    Escalation(300.0, None, ("pager",)),
    Escalation(600.0, Severity.INFO, ("chief",)),
)


def test_it_escalates_until_somebody_acknowledges_it_and_a_severity_only_rises() -> None:
    made = engine(replace(PORES, escalate=ESCALATE, actions=("lamp",), cooldown_s=0.0), settle_s=0.0)
    for s in (0, 1, 2):
        made.hear(pore(), at(s))
    assert made.actions("porous", "porous-1.a1") == {"lamp"}
    for s in range(3, 700, 3):
        made.hear(pore(), at(s))
        if made.due_s() > s:
            continue
        for step in made.pass_time(at(s)):
            alert = step.alert
            assert (alert.reason, alert.severity) == ("escalated", Severity.CRITICAL)
    assert alert.steps == 3
    assert made.actions("porous", alert.alert_id) == {"lamp", "siren", "pager", "chief"}
    acknowledged = made.acknowledge(alert.alert_id, "Kim", "nozzle", at(700))
    assert acknowledged is not None and said([acknowledged]) == [("updated", "acknowledged")]
    assert made.acknowledge(alert.alert_id, "Lee", "", at(701)) is None
    found = made.find("porous")
    assert found is not None and (found.acknowledged_by, found.note) == ("Kim", "nozzle")


def test_steps_that_were_slept_through_are_all_taken_in_order() -> None:
    made = engine(replace(PORES, escalate=ESCALATE), settle_s=0.0)
    for s in (0, 1, 2):
        made.hear(pore(), at(s))
    steps = made.pass_time(at(1000))
    # Time has passed the window too: an alert that is over does not escalate.
    assert said(steps) == [("cleared", "condition")]


def test_an_acknowledged_alert_takes_no_step() -> None:
    made = engine(replace(PORES, condition="count(A, 7d) >= 1", escalate=ESCALATE), settle_s=0.0)
    (raised,) = made.hear(Fact("A", {}), at(0))
    made.acknowledge(raised.alert.alert_id, "Kim", "", at(5))
    assert made.due_s() > 600.0
    assert said(made.pass_time(at(1000))) == []


def test_one_that_is_over_can_still_be_acknowledged() -> None:
    made = engine(replace(PORES, cooldown_s=0.0), settle_s=0.0)
    for s in (0, 1, 2):
        made.hear(pore(), at(s))
    assert said(made.pass_time(at(100))) == [("cleared", "condition")]
    alert = made.find("porous")
    assert alert is not None and not alert.is_on
    step = made.acknowledge(alert.alert_id, "Kim", "", at(101))
    assert step is not None and said([step]) == [("cleared", "acknowledged")]
    assert step.alert.cleared_utc_ms == NOON_MS + 100_000  # as it was
    assert made.find("porous") is None


def test_raised_by_hand_it_is_over_when_it_is_acknowledged() -> None:
    made = engine()
    rule = Rule("fire", severity=Severity.CRITICAL, escalate=ESCALATE[1:2], actions=("siren",))
    step = made.trigger(rule, at(0))
    assert step is not None and said([step]) == [("raised", "")]
    again = made.trigger(rule, at(1))
    assert again is not None and said([again]) == [("updated", "triggered again")]
    assert (again.alert.alert_id, again.alert.count) == (step.alert.alert_id, 2)
    assert made.actions("fire", step.alert.alert_id) == {"siren"}
    assert said(made.pass_time(at(300))) == [("updated", "escalated")]
    over = made.acknowledge("fire-1.a1", "Kim", "", at(301))
    assert over is not None and said([over]) == [("cleared", "acknowledged")]


def test_without_a_name_each_call_raises_one_of_its_own() -> None:
    made = engine()
    ids = [step.alert.alert_id for _ in range(3) if (step := made.trigger(Rule(BY_HAND), at(0)))]
    assert ids == [f"triggerAlert-1.a{n}" for n in (1, 2, 3)]


def test_too_many_alerts_are_refused_and_counted() -> None:
    made = engine(PORES, raised_max=2, settle_s=0.0)
    assert [made.trigger(Rule(BY_HAND), at(n)) is None for n in range(4)] == [False, False, True, True]
    for s in (5, 6, 7):
        assert made.hear(pore(), at(s)) == []
    assert made.counts.refused == 3
    made.acknowledge("triggerAlert-1.a1", "", "", at(8))
    assert said(made.hear(pore(), at(9))) == [("raised", "")]  # there is room again


def test_a_muted_rule_raises_nothing_and_its_windows_go_on() -> None:
    made = engine(PORES, settle_s=0.0)
    made.mute(frozenset({"porous"}))
    for s in (0, 1, 2, 3):
        assert made.hear(pore(), at(s)) == []
    made.mute(frozenset())
    assert said(made.hear(pore(), at(4))) == [("raised", "")]


def test_an_action_of_its_own_that_fails_does_not_keep_it_up() -> None:
    rule = Rule("broken", "count(ActionFailed, 60s) >= 1", actions=("pager",))
    made = engine(rule, settle_s=0.0)
    assert made.hear(Fact("ActionFailed", {"action": "pager"}), at(0)) == []
    assert said(made.hear(Fact("ActionFailed", {"action": "siren"}), at(1))) == [("raised", "")]


# ---- rules that come, change and go ---------------------------------------------------------------


def test_a_changed_rule_ends_its_alert_and_the_same_once_more_does_not() -> None:
    made = engine(PORES, settle_s=0.0)
    for s in (0, 1, 2):
        made.hear(pore(), at(s))
    assert made.set(PORES, at(3)) == []
    assert said(made.set(replace(PORES, severity=Severity.CRITICAL), at(3))) == [("cleared", "changed")]
    assert made.types == {"DefectDetected"}
    assert said(made.remove("porous", at(4))) == []
    assert made.types == frozenset() and made.due_s() == math.inf


def test_a_rule_that_cannot_be_read_leaves_the_one_before() -> None:
    made = engine(PORES)
    with pytest.raises(ConditionError):
        made.set(replace(PORES, condition="count(DefectDetected, 5m >= 3"), at(1))
    assert made.rules["porous"] == PORES


def test_a_rule_reads_back_as_it_was_kept() -> None:
    full = replace(PORES, escalate=ESCALATE, seen=Seen("cam1", ("a",), "z", 1.0, 0.5), source="call")
    assert rule_of(fields_of(full)) == full


# ---- alerts of pipelines ----------------------------------------------------------------------------


def of_pipeline(state: str, **more: Any) -> dict[str, Any]:
    return {"alert_id": "gate-1.1-there-1", "rule": "there", "state": state, "camera_id": "cam1", **more}


def test_alerts_of_pipelines_are_known_acknowledged_and_escalate() -> None:
    made = engine(Rule("there", escalate=ESCALATE[:1], actions=("lamp",)))
    assert said(made.adopt(of_pipeline("raised", duration_s=2.0), Severity.WARNING, at(10))) == []
    assert made.actions("there", "gate-1.1-there-1") == {"lamp"}
    found = made.find("there")
    assert found is not None and (found.raised_utc_ms, found.own) == (NOON_MS + 8000, False)
    assert said(made.pass_time(at(70))) == [("updated", "escalated")]
    made.adopt(of_pipeline("updated"), Severity.WARNING, at(71))
    found = made.find("there")
    assert found is not None and found.severity is Severity.CRITICAL  # what the pipeline says does not lower it
    step = made.acknowledge("gate-1.1-there-1", "Kim", "", at(72))
    assert step is not None and said([step]) == [("updated", "acknowledged")]
    (over,) = made.adopt(of_pipeline("cleared", reason="absent"), Severity.WARNING, at(73))
    assert (over.tell, over.alert.state, over.alert.reason) == (False, AlertState.CLEARED, "absent")


def test_what_begins_in_the_middle_is_taken_as_it_comes() -> None:
    made = engine()
    assert made.adopt(of_pipeline("cleared"), Severity.INFO, at(0)) == []
    (step,) = made.adopt(of_pipeline("updated"), Severity.INFO, at(1))
    assert step.alert.is_on


def test_a_rule_of_a_picture_that_is_taken_away_ends_its_alert() -> None:
    made = engine(Rule("there", seen=Seen("cam1", ("person",))))
    made.adopt(of_pipeline("raised"), Severity.WARNING, at(0))
    assert said(made.remove("there", at(1))) == [("cleared", "removed")]


# ---- restarts and clocks ----------------------------------------------------------------------------


def kept(steps: Sequence[Step]) -> list[Alert]:
    return [step.alert for step in steps]


def test_after_a_restart_it_goes_on_with_its_escalation_and_is_not_over_at_once() -> None:
    rule = replace(PORES, escalate=ESCALATE)
    before = engine(rule, settle_s=0.0)
    raised = [step for s in (0, 1, 2) for step in before.hear(pore(), at(s))]
    after = engine(rule, known=kept(raised), boot=2, now_s=50.0, settle_s=60.0)
    assert said(after.begin(at(50))) == [("updated", "restarted")]
    assert said(after.pass_time(at(62))) == [("updated", "escalated")]  # 60 s after it was raised
    assert said(after.pass_time(at(109))) == []
    assert said(after.pass_time(at(110))) == [("cleared", "condition")]  # settled, and nothing in the window


def test_windows_that_are_filled_again_keep_it_up() -> None:
    before = engine(PORES, settle_s=0.0)
    raised = [step for s in (0, 1, 2) for step in before.hear(pore(), at(s))]
    after = engine(PORES, known=kept(raised), boot=2, now_s=50.0, settle_s=0.0)
    for s in (0, 1, 2):
        after.fill(pore(), s)
    after.begin(at(50))
    assert said(after.pass_time(at(51))) == []
    assert said(after.pass_time(at(61))) == [("cleared", "condition")]


def test_a_cool_down_goes_on_over_a_restart() -> None:
    before = engine(replace(PORES, cooldown_s=300.0), settle_s=0.0)
    for s in (0, 1, 2):
        before.hear(pore(), at(s))
    over = kept(before.pass_time(at(100)))
    after = engine(replace(PORES, cooldown_s=300.0), known=over, boot=2, now_s=200.0, settle_s=0.0)
    after.begin(at(200))
    for s in (200, 201, 202, 203):
        assert after.hear(pore(), at(s)) == []
    for s in (398, 399):
        after.hear(pore(), at(s))
    assert said(after.hear(pore(), at(400.5))) == [("raised", "")]


@pytest.mark.parametrize(
    ("rules", "own", "reason"),
    [
        ((), True, "removed"),
        ((replace(PORES, cooldown_s=11.0),), True, "changed"),
        ((PORES,), False, "restarted"),
    ],
)
def test_at_a_start_what_cannot_go_on_is_over(rules: tuple[Rule, ...], own: bool, reason: str) -> None:
    alert = Alert("porous-1.a1", "porous", Severity.WARNING, NOON_MS, own=own, mark=PORES.mark)
    made = engine(*rules, known=[alert], boot=2, now_s=5.0)
    assert said(made.begin(at(5))) == [("cleared", reason)]


def test_one_raised_by_hand_is_still_on_after_a_restart() -> None:
    step = engine().trigger(Rule("fire", actions=("siren",)), at(0))
    assert step is not None
    after = engine(known=[step.alert], boot=2, now_s=5.0)
    assert said(after.begin(at(5))) == [("updated", "restarted")]
    assert after.actions("fire", "fire-1.a1") == {"siren"}


def test_a_wall_clock_that_jumped_back_makes_nothing_older_than_now() -> None:
    alert = Alert("fire-1.a1", "fire", Severity.WARNING, NOON_MS + 10_000_000, given=Rule("fire", escalate=ESCALATE))
    made = engine(known=[alert], boot=2, now_s=5.0)
    assert made.due_s() == 65.0  # as if it had been raised now
    assert alert.duration_s(NOON_MS) == 0.0


def test_what_is_over_is_forgotten_in_time_and_where_there_is_too_much() -> None:
    made = engine(kept_s=100.0)
    made.trigger(Rule("fire"), at(0))
    made.acknowledge("fire-1.a1", "", "", at(1))
    assert made.pass_time(at(90)) == []
    (gone,) = made.pass_time(at(102))
    assert gone.gone and made.alerts == []
    for n in range(1200):
        made.trigger(Rule(BY_HAND), at(110))
        made.acknowledge(f"triggerAlert-1.a{n + 2}", "", "", at(110))
    made.pass_time(at(111))
    assert len(made.alerts) == 1000 and made.counts.forgotten == 200


# ---- whatever happens ---------------------------------------------------------------------------------

DOINGS = st.lists(
    st.tuples(
        st.sampled_from(["event", "time", "ack", "hand", "mute", "unmute", "set", "remove", "restart"]),
        st.floats(0.0, 40.0),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(doings=DOINGS)
def test_each_alert_is_raised_once_and_over_once_whatever_happens(doings: list[tuple[str, float]]) -> None:
    rule = replace(PORES, escalate=ESCALATE, update_interval_s=20.0)
    made, now_s, boot, steps = engine(rule, settle_s=1.0), 0.0, 1, list[Step]()
    for what, pause_s in doings:
        now_s += pause_s
        now = at(now_s)
        found: Sequence[Step | None] = []
        if what == "event":
            found = made.hear(pore(), now)
        elif what == "time":
            found = made.pass_time(now)
        elif what == "ack" and made.alerts:
            found = [made.acknowledge(made.alerts[-1].alert_id, "Kim", "", now)]
        elif what == "hand":
            found = [made.trigger(Rule("fire"), now)]
        elif what in ("mute", "unmute"):
            made.mute(frozenset({"porous"} if what == "mute" else ()))
        elif what == "set":
            found = made.set(rule, now)
        elif what == "remove":
            found = made.remove("porous", now)
        elif what == "restart":
            boot += 1
            made = engine(rule, known=made.alerts, boot=boot, now_s=now_s, settle_s=1.0)
            found = made.begin(now)
        steps += [step for step in found if step is not None]
        assert sum(1 for alert in made.alerts if alert.rule == "porous" and alert.is_on) <= 1
    lives: dict[str, list[Alert]] = {}
    for step in steps:
        draft = step.alert.draft(NOON_MS)
        assert CATALOGUE.check(draft.type, draft.data)
        if not step.gone:
            lives.setdefault(step.alert.alert_id, []).append(step.alert)
    for life in lives.values():
        states = [alert.state for alert in life]
        assert states[0] is AlertState.RAISED and states.count(AlertState.RAISED) == 1
        over = states.index(AlertState.CLEARED) if AlertState.CLEARED in states else len(states)
        assert all(alert.reason == "acknowledged" for alert in life[over + 1 :])
        ranks = [RANKS[alert.severity] for alert in life]
        assert ranks == sorted(ranks)


@pytest.mark.parametrize("state", list(AlertState))
def test_each_step_is_as_core_declares_it(state: AlertState) -> None:
    alert = Alert("a-1.a1", "a", Severity.INFO, NOON_MS, state, "cam1", "z", "m", "c", "r", 2, 1, NOON_MS, NOON_MS)
    draft = alert.draft(NOON_MS + 500)
    assert CATALOGUE.check(draft.type, draft.data)
    keys, values = CATALOGUE.state("core.alerts") or pytest.fail("core declares alerts")
    keys.check(alert.alert_id)
    values.check(alert.value("gw-1"))
    bare = Alert("a-1.a1", "a", Severity.INFO, NOON_MS)
    values.check(bare.value("gw-1"))
    assert CATALOGUE.check("AlertRaised", bare.draft(NOON_MS).data)
