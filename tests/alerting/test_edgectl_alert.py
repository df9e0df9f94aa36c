"""`edgectl alert …` against a real node and coordinator: what is on, acknowledged, made and taken away."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process.agents import AgentProcess, Peer, camera, wait_until
from tests.broker import broker
from tests.coordinator.process import Process, edgectl

DOWN = """
[[alerts]]
name = "down"
condition = 'count(CameraStateChanged where state = "failed", 1h) >= 1'
message = "a camera is down"
"""
PLATFORMS = '[platforms]\nenabled = ["manufacturing"]\n'


class Site:
    """A node whose camera is down, and a coordinator."""

    def __init__(self, coordinator: Process) -> None:
        self._coordinator = coordinator

    def edgectl(self, *words: str, ok: bool = True) -> str:
        done = edgectl(["--config", str(self._coordinator.config), *words])
        assert (done.returncode == 0) is ok, done.stderr
        return done.stdout if ok else done.stderr

    def alerts(self, *more: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.edgectl("alert", "ls", "--json", *more))
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "coordinator").mkdir()
    with broker(tmp_path) as running, Peer(running) as peer:
        coordinator = Process(tmp_path / "coordinator", running.port, PLATFORMS)
        body = camera("cam1", "file:/nowhere.mp4") + PLATFORMS + DOWN
        with AgentProcess(tmp_path, running.port, body) as agent:
            coordinator.start()
            try:
                agent.start()
                peer.wait_online(agent)
                yield Site(coordinator)
            finally:
                coordinator.kill()


def test_an_operator_sees_acknowledges_makes_and_takes_away(site: Site) -> None:
    wait_until(site.alerts)
    (alert,) = site.alerts("gw-1")
    assert (alert["rule"], alert["node_id"], alert["acknowledged_at"]) == ("down", "gw-1", None)
    assert "a camera is down" in site.edgectl("alert", "ls")
    manufacturing = json.loads(site.edgectl("state", "ls", "manufacturing.alerts", "--json"))
    assert [one["key"] for one in manufacturing] == [alert["alert_id"]]

    said = site.edgectl("alert", "ack", "gw-1", "down", "--by", "Kim", "--note", "cable")
    assert said.startswith(f"{alert['alert_id']}: acknowledged by Kim")
    wait_until(lambda: site.alerts()[0]["acknowledged_by"] == "Kim")
    assert "no alert 'nobody'" in site.edgectl("alert", "ack", "gw-1", "nobody", ok=False)

    given = json.dumps({"name": "hot", "condition": {"when": "count(DefectDetected, 5m) >= 3"}})
    site.edgectl("call", "gw-1", "triggerAlert", "--json", given)
    rules = {one["name"]: one["source"] for one in json.loads(site.edgectl("alert", "rules", "gw-1", "--json"))}
    assert rules == {"down": "agent.toml", "hot": "call"}
    assert "count(DefectDetected, 5m) >= 3" in site.edgectl("alert", "rules", "gw-1")
    assert site.edgectl("alert", "rm", "gw-1", "hot") == "hot is gone\n"
    assert "agent.toml" in site.edgectl("alert", "rm", "gw-1", "down", ok=False)

    site.edgectl("call", "gw-1", "triggerAlert", "name=fire")
    wait_until(lambda: [one for one in site.alerts() if one["rule"] == "fire"])
    site.edgectl("alert", "ack", "gw-1", "fire")
    wait_until(lambda: [one["rule"] for one in site.alerts()] == ["down"])
    assert {one["rule"] for one in site.alerts("--all")} == {"down", "fire"}
