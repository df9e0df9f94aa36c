"""What a call, a table and an expression may say, and what is wrong with them: tables of cases."""

from dataclasses import replace
from typing import Any

import pytest

from agent.actions.settings import ActionSettings, Do, Drive, OnSettings, actions_mistakes
from agent.alerting.asked import TriggerAlert, rule_asked_for
from agent.alerting.check import declared_mistakes
from agent.alerting.engine import BY_HAND
from agent.alerting.rule import Rule, Seen, configured
from agent.alerting.settings import AlertingSettings, AlertSettings, Escalation, alerts_mistakes
from agent.decide.facts import AlertState
from platforms.assembly import assemble
from platforms.settings import PlatformsTable
from runtime.calls.errors import CallRejectedError
from schemas.messages import Severity

ACTIONS = {"siren", "pager"}
CATALOGUE = assemble(PlatformsTable(("manufacturing",))).catalogue
SCHEMAS, CHECK = CATALOGUE.schemas, CATALOGUE.arguments("triggerAlert")


LATER = [{"after": "5m", "severity": "critical"}, {"after": "5m", "actions": ["pager"]}]
NOBODY = [{"after": "5m", "actions": ["x"]}]
BOTH = {"when": "count(A, 5m) > 1", "camera_id": "c", "classes": ["x"]}


def asked(**given: Any) -> tuple[Rule, bool]:
    assert CHECK is not None
    normal = CHECK(given)
    return rule_asked_for(TriggerAlert(normal["condition"], normal["action"], normal["name"]), ACTIONS)


def test_nothing_is_an_alert_at_once() -> None:
    for condition in ({}, {"when": " true "}, {"message": "fire"}):
        rule, at_once = asked(condition=condition)
        assert at_once and rule.name == BY_HAND
    rule, at_once = asked(name="fire", condition={"when": "true", "camera_id": "cam1", "severity": "critical"})
    assert at_once and (rule.name, rule.camera_id, rule.severity) == ("fire", "cam1", Severity.CRITICAL)


def test_an_expression_is_a_rule_and_without_a_name_the_same_is_the_same() -> None:
    condition: dict[str, Any] = {"when": "count(DefectDetected, 5m) >= 3", "cooldown": "1m"}
    condition |= {"escalation": [{"after": "5m", "actions": ["pager"]}]}
    rule, at_once = asked(condition=condition, action={"action": "siren"})
    assert not at_once and rule.name.startswith("rule-")
    assert (rule.cooldown_s, rule.escalate, rule.actions) == (
        60.0,
        (Escalation(300.0, None, ("pager",)),),
        ("siren",),
    )
    assert asked(condition=condition, action={"action": "siren"})[0] == rule
    assert asked(condition=condition)[0].name != rule.name


@pytest.mark.parametrize(
    "more", [{}, {"classes": ["person"]}, {"zone": "belt"}, {"for": "1m30s"}, {"confidence_min": 0.5}]
)
def test_a_camera_with_what_is_to_be_seen_is_a_rule_of_the_picture(more: dict[str, Any]) -> None:
    rule, at_once = asked(name="there", condition={"camera_id": "cam1", **more})
    assert not at_once
    assert rule.seen == Seen(
        "cam1", tuple(more.get("classes", ())), more.get("zone", ""), 90.0 if "for" in more else 0.0,
        more.get("confidence_min", 0.0),
    )  # fmt: skip
    watched = rule.picture_rule()
    assert watched is not None and watched.name == "there"


@pytest.mark.parametrize(
    ("do", "given"),
    [
        (Do.MQTT, {"topic": "hall/{rule}", "message": "{state}"}),
        (Do.WEBHOOK, {"url": "http://192.168.1.9/hook"}),
        (Do.WEBHOOK, {"do": "webhook", "url": "https://example.com/hook"}),
    ],
)
def test_an_action_may_be_described(do: Do, given: dict[str, Any]) -> None:
    rule, _ = asked(name="fire", action=given)
    made = rule.response_action()
    assert made is not None and made.name in rule.all_actions
    assert (made.do, made.named) == (do, True)
    assert asked(name="other", action=given)[0].all_actions == rule.all_actions  # one action for both


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"condition": {"when": "count(DefectDetected, 5m >= 3"}}, "condition.when", "column 26"),
        ({"condition": {"when": "count(A, 5m) > 3", "clear": "count(A 5m)"}}, "condition.clear", "column 9"),
        ({"condition": {"when": "count(A, 5m)"}}, "condition.when", "a truth is wanted"),
        ({"condition": {"when": "x" * 3000}}, "condition.when", "says nothing by itself"),
        ({"condition": {"clear": "count(A, 5m) = 0"}}, "condition.clear", "when it is acknowledged"),
        ({"condition": {"camera_id": "c", "clear": "count(A, 5m) = 0"}}, "condition.clear", "means nothing here"),
        ({"condition": BOTH}, "condition.when", "another"),
        ({"condition": {"classes": ["x"]}}, "condition.camera_id", "is needed"),
        ({"action": {"action": "sirn"}}, "action.action", "pager, siren"),
        ({"action": {"action": "siren", "topic": "x"}}, "action.topic", "leave one of them out"),
        ({"action": {"do": "command", "message": "rm -rf /"}}, "action.do", "agent.toml"),
        ({"action": {"do": "gpio", "topic": "x"}}, "action.do", "agent.toml"),
        ({"action": {"topic": "hall/#"}}, "action.topic", "cannot be published on"),
        ({"action": {"topic": "hall", "message": "{nobody}"}}, "action.message", "unknown field"),
        ({"action": {"url": "http://1.2.3.4/x"}}, "action.url", "https"),
        ({"action": {"url": "file:///etc/passwd"}}, "action.url", "http://host"),
        ({"action": {"message": "x"}}, "action.topic", "is needed"),
        (
            {"condition": {"escalation": LATER}},
            "condition.escalation[1].after", "must be later",
        ),
        ({"condition": {"escalation": [{"after": "5m"}]}}, "condition.escalation[0]", "nothing would follow"),
        ({"condition": {"escalation": NOBODY}}, "condition.escalation[0].actions", "'x'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_rejected_with_its_place(given: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(CallRejectedError) as refused:
        asked(**given)
    assert (refused.value.code, refused.value.field) == ("bad_arguments", field)
    assert said in str(refused.value)


# ---- what platforms declare ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("count(DefectDetected, 5m) > 1", None),
        ("count(DefectDetected where subject = \"x\" and camera_id = \"cam1\", 5m) > 1", None),
        ("count(LineCrossed where counts.in.car > 3, 5m) > 1", None),
        ("last(StreamSample.frames_total, 5m) > 1", None),
        ("count(LineCrosed, 5m) > 1", "did you mean LineCrossed? (column 7)"),
        ("count(A, 5m) > 1 and count(DefectDetected, 5m) > 1", "declares an event A"),
        ("avg(DefectDetected.confidnce, 5m) > 1", "has no field confidnce; did you mean confidence?"),
        ("count(DefectDetected where kind = \"x\", 5m) > 1", "has no field kind"),
        ("last(DefectDetected.confidence.x, 5m) > 1", "nothing lies beneath it"),
        ("last(LineCrossed.box.x, 5m) > 1", "is a list"),
    ],
)  # fmt: skip
def test_types_and_fields_that_nobody_declares_are_named(text: str, said: str | None) -> None:
    found = declared_mistakes(text, SCHEMAS)
    assert (found == []) if said is None else (len(found) == 1 and said in found[0])


# ---- the configuration ------------------------------------------------------------------------------


def mistakes(*alerts: AlertSettings, **limits: Any) -> list[str]:
    return alerts_mistakes(alerts, AlertingSettings(**limits), {"there"}, ACTIONS, ["cam1"])


FINE = AlertSettings("porous", "count(A, 5m) > 1", actions=("siren",))


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ((FINE, AlertSettings("there", actions=("pager",))), None),
        ((FINE, FINE), "alerts[0].name: 'porous' is given 2 times"),
        ((AlertSettings("nobody"),), "alerts[0].condition: is needed, for no pipeline has a rule 'nobody' (there)"),
        ((AlertSettings("there", "count(A, 5m) > 1"),), "alerts[0].name: a rule of a pipeline is called"),
        ((AlertSettings("a", "count(A, 5m > 1"),), "alerts[0].condition: expected ')' (column 13)"),
        ((AlertSettings("a", "true"),), "alerts[0].condition: is always true"),
        ((AlertSettings("there", clear="count(A, 5m) = 0"),), "alerts[0].clear: means nothing without a condition"),
        ((AlertSettings("a", "count(A, 5m) > 1", camera_id="x"),), "alerts[0].camera_id: no camera has the id 'x'"),
        ((AlertSettings("a", "count(A, 5m) > 1", actions=("x",)),), "alerts[0].actions: no action is called 'x'"),
        (
            (replace(FINE, escalate=(Escalation(9.0, Severity.INFO), Escalation(3.0, Severity.INFO))),),
            "alerts[0].escalate[1].after_s: 3 s must be later than the 9 s of the step before",
        ),
    ],
)  # fmt: skip
def test_each_mistake_of_the_tables_is_named(alerts: tuple[AlertSettings, ...], said: str | None) -> None:
    found = mistakes(*alerts)
    assert (found == []) if said is None else any(text.startswith(said) for text in found)


def test_too_many_rules_are_refused() -> None:
    assert mistakes(FINE, AlertSettings("b", "count(A, 5m) > 1"), rules_max=1)[0].startswith(
        "alerts: 2 are configured"
    )


def test_a_configured_rule_is_what_the_table_says() -> None:
    rule = configured(FINE)
    assert (rule.name, rule.condition, rule.source, rule.actions) == (
        "porous",
        FINE.condition,
        "agent.toml",
        ("siren",),
    )


@pytest.mark.parametrize(
    ("on", "said"),
    [
        (OnSettings(types=("AlertRaised",)), "named: only alerts that name it"),
        (OnSettings(states=(AlertState.RAISED,)), "drive = 'latch' must see alerts raised and cleared"),
        (OnSettings(severities=(Severity.CRITICAL,)), None),
    ],
)
def test_a_latched_line_sees_all_of_an_alert(on: OnSettings, said: str | None) -> None:
    pin = ActionSettings("stop", Do.GPIO, on, named=True, chip="fake:/x.json", line=1, drive=Drive.LATCH)
    found = actions_mistakes([pin], [], set())
    assert (found == []) if said is None else any(said in text for text in found)
