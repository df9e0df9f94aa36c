"""What an action may be, which events it is for, and what its templates give."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.actions.choose import Follower, Trigger, concerns
from agent.actions.event import LocalEvent
from agent.actions.make import check_actions
from agent.actions.settings import ActionSettings, Do, LocalBrokerConfig, OnSettings, actions_mistakes
from agent.actions.template import fill, fill_topic, template_mistakes
from agent.outbox.rows import Draft
from schemas.identity import Lane
from schemas.messages import Severity
from schemas.shape import read


def part(verdict: str) -> Draft:
    """A platform's event."""
    data = {"verdict": verdict, "part": 17, "repeat": True, "serial": None}
    return Draft(Lane.EVENT, "PartInspected", "p17", 0, data)


def alert(state: str = "raised", camera: str = "cam1", rule: str = "fire", alert_id: str = "a-1") -> Draft:
    data = {"camera_id": camera, "rule": rule, "alert_id": alert_id, "state": state, "count": 2}
    return Draft(Lane.ALERT, f"Alert{state.title()}", camera, 1_700_000_000_000, data, Severity.CRITICAL)


EVENT = Draft(Lane.EVENT, "ObjectSeen", "cam1-7", 1_700_000_000_000, {"camera_id": "cam1", "class": "person"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{node}/{type}", ""),
        ("{data.class}", ""),
        ("{{{subject}}}", ""),
        ("{nobody}", "unknown field {nobody}"),
        ("{}", "unknown field {}"),
        ("{data}", "unknown field {data}"),
        ("{data.a.b}", "unknown field"),
        ("{node!r}", "unknown field"),
        ("{node.__class__}", "unknown field"),
        ("{node", "a single { at 0"),
        ("a}", "a single } at 1"),
    ],
)
def test_a_template_is_judged_before_it_is_used(text: str, said: str) -> None:
    assert (said in "; ".join(template_mistakes(text))) if said else template_mistakes(text) == []


def test_a_template_is_filled_and_nothing_is_evaluated() -> None:
    values = LocalEvent("gw-1", "edge/v1", "1.1", EVENT).values()
    assert fill("{{{node}}} {type} {data.class}{data.absent}{rule}", values, EVENT.data) == "{gw-1} ObjectSeen person"
    assert fill("{node}", {"node": "{type}"}, {}) == "{type}"


@given(st.text(), st.text())
def test_a_value_never_widens_a_topic(subject: str, kind: str) -> None:
    topic = fill_topic("a/{subject}/{data.kind}", {"subject": subject}, {"kind": kind})
    assert topic.count("/") == 2
    assert not set(topic) & set("+#\0")


@pytest.mark.parametrize(
    ("on", "draft", "meant"),
    [
        ({}, alert(), True),
        ({}, EVENT, False),
        ({"types": ["ObjectSeen"]}, EVENT, True),
        ({"types": ["ObjectSeen"]}, alert(), False),
        ({"types": ["ObjectSeen"], "cameras": ["cam2"]}, EVENT, False),
        ({"severities": ["critical"]}, alert(), True),
        ({"severities": ["info", "warning"]}, alert(), False),
        ({"states": ["cleared"]}, alert(), False),
        ({"states": ["cleared"]}, alert("cleared"), True),
        ({"rules": ["fire"], "cameras": ["cam1"]}, alert(), True),
        ({"rules": ["flood"]}, alert(), False),
        ({"types": ["PartInspected"], "fields": {"verdict": ["reject", "unsure"]}}, part("reject"), True),
        ({"types": ["PartInspected"], "fields": {"verdict": ["reject", "unsure"]}}, part("ok"), False),
        ({"types": ["PartInspected"], "fields": {"part": ["17"], "repeat": ["true"]}}, part("ok"), True),
        ({"types": ["PartInspected"], "fields": {"part": ["17"], "repeat": ["True"]}}, part("ok"), False),
        ({"types": ["PartInspected"], "fields": {"serial": ["None"]}}, part("ok"), False),
        ({"types": ["PartInspected"], "fields": {"batch": [""]}}, part("ok"), False),
    ],
)
def test_which_events_an_action_is_for(on: dict[str, Any], draft: Draft, meant: bool) -> None:
    assert concerns(read(OnSettings, on, strict=True), draft) is meant


def test_a_failed_action_triggers_none() -> None:
    assert not concerns(OnSettings(types=("ActionFailed",)), Draft(Lane.LIFECYCLE, "ActionFailed", "x", 0, {}))


def test_the_cool_down_counts_what_it_holds_back() -> None:
    trigger = Trigger(ActionSettings("a", Do.COMMAND, cooldown_s=10))
    assert [trigger.fires(alert(), now_s) for now_s in (0.0, 5.0, 9.9, 10.0, 12.0, 20.0)] == [
        *(True, False, False, True, False, True)
    ]
    assert trigger.cooled_total == 3


def test_a_line_follows_until_the_last_alert_is_over() -> None:
    follower = Follower()
    steps = [("raised", "a"), ("raised", "b"), ("cleared", "a"), ("updated", "b"), ("cleared", "b"), ("cleared", "b")]
    seen = [follower.see(alert(state, alert_id=alert_id)) for state, alert_id in steps]
    assert seen == [True, True, True, True, False, False]


GOOD: dict[str, Any] = {"name": "a", "do": "command", "command": ["true"]}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, ""),
        ({"command": []}, "actions[0].command: is needed"),
        ({"url": "http://x/"}, "actions[0].url: belongs to do = 'webhook'"),
        ({"on": {"types": ["ObjectSene"]}}, "no event is called 'ObjectSene'"),
        ({"on": {"types": ["ActionFailed"]}}, "triggers nothing"),
        ({"on": {"cameras": ["cam9"]}}, "no camera has the id 'cam9'"),
        ({"on": {"rules": ["none"]}}, "no pipeline has a rule 'none'"),
        ({"do": "mqtt", "command": []}, "topic: is needed"),
        ({"do": "mqtt", "command": [], "topic": "a/+/b"}, "cannot be published on"),
        ({"do": "mqtt", "command": [], "topic": "$SYS/x"}, "cannot be published on"),
        ({"do": "mqtt", "command": [], "topic": "a/{what}"}, "topic: unknown field {what}"),
        ({"do": "mqtt", "command": [], "topic": "a", "payload": '{"a": 1}'}, "payload: unknown field"),
        ({"do": "webhook", "command": []}, "url: must be http"),
        ({"do": "webhook", "command": [], "url": "ftp://x/"}, "url: must be http"),
        ({"do": "webhook", "command": [], "url": "http://x:99999/"}, "url: is no address"),
        ({"do": "webhook", "command": [], "url": "http://a:b@x/"}, "secrets do not belong here"),
        ({"do": "webhook", "command": [], "url": "http://8.8.8.8/"}, "https:// is needed"),
        ({"do": "webhook", "command": [], "url": "http://127.0.0.1:8080/x"}, ""),
        ({"do": "webhook", "command": [], "url": "http://x/a b"}, "no blanks"),
        ({"do": "gpio", "command": []}, "line: is needed"),
        ({"do": "gpio", "command": [], "line": -1}, "line: is needed"),
        ({"do": "gpio", "command": [], "line": 0}, ""),
        ({"do": "gpio", "command": [], "line": 4, "chip": "gpiochip0"}, "must be a device"),
        ({"do": "gpio", "command": [], "line": 4, "drive": "follow", "cooldown_s": 1}, "has none"),
        (
            {"do": "gpio", "command": [], "line": 4, "drive": "follow", "on": {"states": ["raised"]}},
            "must see alerts",
        ),
    ],
)
def test_what_is_wrong_with_an_action(table: dict[str, Any], said: str) -> None:
    found = actions_mistakes([read(ActionSettings, GOOD | table, strict=True)], ["cam1"], {"fire"})
    assert (said in "; ".join(found)) if said else found == []


def test_one_name_and_one_line_serve_one_action() -> None:
    def pin(name: str) -> ActionSettings:
        return ActionSettings(name, Do.GPIO, line=17)

    (twice,) = actions_mistakes([pin("a"), pin("b")], [], set())
    assert "actions[1].line: 17 of /dev/gpiochip0 is driven by 'a' already" in twice
    assert "given 2 times" in actions_mistakes([pin("a"), pin("a")], [], set())[0]


def test_the_example_in_the_documents_is_right() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "local-actions.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    shown = [read(ActionSettings, table, strict=True) for table in tomllib.loads(block)["actions"]]
    assert actions_mistakes(shown, ["cam1"], {"crack"}) == []
    data = {**alert().data, "duration_s": 2.5}
    filled = fill(shown[2].payload, LocalEvent("gw-1", "edge/v1", "1.1", alert()).values(), data)
    assert json.loads(filled) == {"on": "raised", "since_s": 2.5}


def test_what_this_machine_lacks_is_found_at_once(tmp_path: Path) -> None:
    wanted = [
        ActionSettings("a", Do.COMMAND, command=("no-such-program",)),
        ActionSettings("b", Do.WEBHOOK, url="https://x/", token_file=tmp_path / "t", ca_file=tmp_path / "ca"),
        ActionSettings("c", Do.GPIO, chip="/dev/no-such-chip", line=1),
        ActionSettings("d", Do.GPIO, chip=f"fake:{tmp_path}/nowhere/state.json", line=1),
        ActionSettings("e", Do.MQTT, topic="a"),
    ]
    found = check_actions(wanted, LocalBrokerConfig(password_file=tmp_path / "p"))
    for said in (
        "local_broker.password_file",
        "actions[0].command: there is no program",
        "actions[1].token_file",
        "actions[1].ca_file",
        "actions[2].chip: /dev/no-such-chip does not exist",
        "actions[3].chip",
    ):
        assert any(text.startswith(said) for text in found), (said, found)
