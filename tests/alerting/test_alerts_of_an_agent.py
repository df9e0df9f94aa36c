"""Alerts on whole processes: with no network, over a restart, by calls, with a damaged file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.alerting.store import FILE_NAME, AlertsFile
from schemas.messages import CommandState, Event, Severity
from tests.agent_process.agents import AgentProcess, Peer, bundle, camera, clip, mosquitto_pub, pipeline, run_agent
from tests.agent_process.agents import wait_until as until
from tests.broker import Broker, free_port, start_broker

DOWN = """
[[actions]]
name = "siren"
do = "command"
command = ["sh", "-c", "cat >> siren.json; echo >> siren.json"]
named = true

[[actions]]
name = "stop"
do = "gpio"
chip = "fake:{folder}/line.json"
line = 3
drive = "latch"
named = true

[[alerts]]
name = "down"
condition = 'count(CameraStateChanged where state = "failed", 1h) >= 1'
severity = "warning"
message = "a camera is down"
actions = ["stop"]

[[alerts.escalate]]
after_s = 0.5
severity = "critical"
actions = ["siren"]

[alerting]
settle_s = 600.0
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    running = start_broker(tmp_path)
    yield running
    running.stop()


def body(folder: Path) -> str:
    text = camera("cam1", "file:/nowhere.mp4") + DOWN.replace("{folder}", str(folder))
    return text.replace("siren.json", f"{folder}/siren.json")


def active(folder: Path) -> bool:
    path = folder / "line.json"
    return path.exists() and json.loads(path.read_text())["3"]["level"] == 1


def alerts(agent: AgentProcess) -> list[dict[str, Any]]:
    done = run_agent("alerts", "ls", "--all", "--json", "--config", str(agent.config))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_with_no_network_it_acts_escalates_is_acknowledged_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, free_port(), body(tmp_path)) as agent:
        agent.start()
        until(lambda: active(tmp_path) and (tmp_path / "siren.json").exists(), lambda: agent.log[-3000:])
        until(lambda: alerts(agent)[0]["escalation"] == 1)
        first = json.loads((tmp_path / "siren.json").read_text().splitlines()[0])
        assert (first["edgeseverity"], first["data"]["reason"]) == ("critical", "escalated")
        agent.kill()
        agent.start()
        agent.wait_for_log(r"node gw-1 runs", 2)
        until(lambda: alerts(agent)[0]["reason"] == "restarted")
        until(lambda: active(tmp_path))  # the line was let go by the kill, and stands again
        done = run_agent("alerts", "ack", "down", "--by", "Kim", "--note", "cable", "--config", str(agent.config))
        assert done.returncode == 0, done.stderr
        until(lambda: any(one["acknowledged_by"] == "Kim" for one in alerts(agent)))
        refused = run_agent("alerts", "ack", "nobody", "--config", str(agent.config))
        assert refused.returncode == 2 and "no alert 'nobody'" in refused.stderr
        assert agent.terminate() == 0


def test_rules_made_by_calls_are_kept_changed_and_removed(tmp_path: Path, broker: Broker) -> None:
    video = clip(tmp_path / "a.mp4", [5] * 400)
    model = bundle(tmp_path / "cells")
    more = camera("cam1", video, "loop = true") + pipeline("cam1", model, "sample_interval_s = 0.2")
    with AgentProcess(tmp_path, broker.port, more) as agent, Peer(broker, answers=True) as peer:

        def call(function: str, **given: Any) -> Any:
            before = len(peer.results(function))
            mosquitto_pub(broker, function, json.dumps(given))
            peer.wait(lambda: len(peer.results(function)) > before, agent)
            answer = peer.results(function)[-1]
            return answer.result if answer.state is CommandState.SUCCEEDED else answer.error

        def raised(rule: str) -> list[Event]:
            """Each once: a row may be heard twice."""
            found = [one for one in peer.events("AlertRaised") if one.data["rule"] == rule]
            return list({one.identity: one for one in found}.values())

        def restarted() -> list[Event]:
            return [one for one in peer.events("AlertUpdated") if one.data["reason"] == "restarted"]

        def over(rule: str, reason: str) -> list[Event]:
            found = [one for one in peer.events("AlertCleared") if one.data["rule"] == rule]
            return [one for one in found if one.data["reason"] == reason]

        agent.start()
        peer.wait_online(agent)
        busy = {"when": "last(StreamSample.frames_total, 1m) > 3", "severity": "info", "update_every": "1h"}
        assert (
            call("triggerAlert", name="busy", condition=busy, action={"topic": "hall/{rule}", "message": "x"})
            == "busy"
        )
        assert call("triggerAlert", name="seen", condition={"camera_id": "cam1", "classes": ["c5"]}) == "seen"
        peer.wait(lambda: raised("busy") and raised("seen"), agent)
        assert raised("busy")[0].severity is Severity.INFO
        assert raised("seen")[0].data["count"] == 1  # of the objects, as of a rule of agent.toml
        unknown = call("triggerAlert", name="x", condition={"camera_id": "cam1", "classes": ["c99"]})
        assert (unknown.field, "c99" in unknown.message) == ("condition", True)

        agent.kill()
        agent.start()
        peer.wait_online(agent, 2)
        listed = call("listAlerts")
        assert {rule["name"] for rule in listed["rules"]} == {"busy", "seen"}
        peer.wait(restarted, agent)
        assert restarted()[0].data["alert_id"] == raised("busy")[0].data["alert_id"]
        peer.wait(lambda: len(raised("seen")) == 2, agent)  # the pipeline has begun anew, and so has its alert
        peer.wait(lambda: over("seen", "restarted"), agent)

        assert call("triggerAlert", name="busy", condition=busy | {"severity": "warning"}) == "busy"
        peer.wait(lambda: over("busy", "changed"), agent)
        assert call("removeAlert", name="seen") == {"name": "seen", "removed": True}
        peer.wait(lambda: over("seen", "removed"), agent)
        assert call("removeAlert", name="seen").code == "unknown_rule"
        assert call("ackAlert", alert_id="nobody").code == "unknown_alert"
        assert agent.terminate() == 0
    file = AlertsFile(agent.data_dir / FILE_NAME)
    assert [rule.name for rule in file.rules()] == ["busy"]
    file.close()


def test_a_damaged_file_is_set_aside_and_configured_rules_hold(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, free_port(), body(tmp_path)) as agent:
        agent.data_dir.mkdir()
        (agent.data_dir / FILE_NAME).write_bytes(b"no database" * 1000)
        agent.start()
        until(lambda: active(tmp_path), lambda: agent.log[-3000:])
        assert "rules made by calls are lost" in agent.log
        assert agent.terminate() == 0
