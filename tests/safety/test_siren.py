"""A rule of a platform's kind in a real agent: the local siren goes, whether or not anybody hears of it elsewhere."""

import json
from pathlib import Path

from tests.agent_process.agents import AgentProcess, bundle, camera, clip, pipeline, run_agent, wait_until
from tests.broker import free_port

RULE = """
object_events = false
[[pipelines.rules]]
name = "lone"
kind = "manufacturing.alone"
classes = ["c5"]
for_s = 0.5
severity = "critical"
settings = { company = ["c5", "c6"] }
"""
SIREN = """
[platforms]
enabled = ["manufacturing"]
[[actions]]
name = "siren"
do = "command"
command = ["/bin/sh", "-c", "cat >> SIREN; echo >> SIREN"]
[actions.on]
rules = ["lone"]
states = ["raised"]
"""


def test_the_siren_goes_with_the_broker_away(tmp_path: Path) -> None:
    model = bundle(tmp_path / "cells")
    recorded = clip(tmp_path / "clip.avi", [5] * 60)
    siren = tmp_path / "siren.jsonl"
    body = (
        camera("cam1", recorded, "realtime = true")
        + pipeline("cam1", model, RULE)
        + SIREN.replace("SIREN", str(siren))
    )
    with AgentProcess(tmp_path, free_port(), body) as agent:
        agent.start()
        wait_until(siren.exists, lambda: agent.log[-3000:])
        wait_until(lambda: siren.read_text().strip())
        event = json.loads(siren.read_text().splitlines()[0])
        assert event["type"] == "AlertRaised" and event["data"]["rule"] == "lone"
        agent.terminate()


def test_a_wrong_rule_is_found_by_check(tmp_path: Path) -> None:
    model = bundle(tmp_path / "cells")
    recorded = clip(tmp_path / "clip.avi", [5])
    body = camera("cam1", recorded) + pipeline("cam1", model, RULE.replace("c6", "c99")) + SIREN
    agent = AgentProcess(tmp_path, free_port(), body)
    found = run_agent("check", "--config", str(agent.config))
    assert found.returncode == 2 and "class 'c99' is not among the model's labels" in found.stderr


def test_events_of_platforms_trigger_actions_and_unknown_ones_are_named(tmp_path: Path) -> None:
    on = SIREN.replace('rules = ["lone"]\nstates = ["raised"]', 'types = ["MaintenanceAdvised", "MachineMoved"]')
    model = bundle(tmp_path / "cells")
    recorded = clip(tmp_path / "clip.avi", [5])
    agent = AgentProcess(tmp_path, free_port(), camera("cam1", recorded) + pipeline("cam1", model) + on)
    found = run_agent("check", "--config", str(agent.config))
    assert found.returncode == 2 and "no event is called 'MachineMoved'" in found.stderr
    assert "no event is called 'MaintenanceAdvised'" not in found.stderr
    assert agent.run_to_its_end() == 2 and "no event is called 'MachineMoved'" in agent.log
