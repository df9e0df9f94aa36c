"""docs/protocol.md, alerts: each test carries the number it shows."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.codec import decode_packed
from schemas.messages import CommandState, Event, Result, SyncBatch
from schemas.topics import Kind
from tests.agent_process.agents import AgentProcess, Peer, camera, mosquitto_pub
from tests.broker import Broker, broker

DOWN = """
[[alerts]]
name = "down"
condition = 'count(CameraStateChanged where state = "failed", 1h) >= 1'
[[alerts.escalate]]
after_s = 0.1
severity = "critical"
"""


class Site:
    """A node, and somebody who knows no more of it than the contract says."""

    def __init__(self, running: Broker, peer: Peer, agent: AgentProcess) -> None:
        self._broker, self.peer, self.agent = running, peer, agent

    def call(self, function: str, **given: Any) -> Result:
        before = len(self.peer.results(function))
        mosquitto_pub(self._broker, function, json.dumps(given))
        self.peer.wait(lambda: len(self.peer.results(function)) > before, self.agent)
        return self.peer.results(function)[-1]

    def life(self, alert_id: str) -> list[Event]:
        """The steps of an alert, each once, in their order."""
        found = {one.identity.seq: one for one in self.peer.events() if one.data.get("alert_id") == alert_id}
        return [found[seq] for seq in sorted(found)]

    def states(self, key: str) -> list[Any]:
        """What was told of a key of the state `core.alerts`."""
        heard = [one for one in list(self.peer.heard) if one.topic == "edge/v1/gw-1/sync"]
        rows = [row for one in heard for row in decode_packed(SyncBatch, Kind.SYNC, one.payload).rows]
        wanted = [row.data for row in rows if row.type == "StateChanged" and row.data["key"] == key]
        return [data["value"] for data in wanted if data["collection"] == "core.alerts"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("alerts")
    body = camera("cam1", "file:/nowhere.mp4") + DOWN
    with (
        broker(folder) as running,
        Peer(running, answers=True) as peer,
        AgentProcess(folder, running.port, body) as agent,
    ):
        agent.start()
        peer.wait_online(agent)
        yield Site(running, peer, agent)


def test_p91_the_steps_of_an_alert_and_the_topics_they_are_on(site: Site) -> None:
    site.peer.wait(lambda: len(site.life("down-1.a1")) >= 2, site.agent)
    raised, escalated = site.life("down-1.a1")[:2]
    assert (raised.type, raised.data["state"], raised.data["rule"]) == ("AlertRaised", "raised", "down")
    assert (escalated.type, escalated.data["reason"]) == ("AlertUpdated", "escalated")
    assert len(site.peer.on("alert/warning")) >= 1 and len(site.peer.on("alert/critical")) >= 1


def test_p92_a_rule_is_answered_with_its_name_an_alert_at_once_with_its_id(site: Site) -> None:
    made = site.call("triggerAlert", name="porous", condition={"when": "count(LineCrossed, 5m) >= 3"})
    assert (made.state, made.result) == (CommandState.SUCCEEDED, "porous")
    raised = site.call("triggerAlert", condition={"severity": "info", "message": "a drill"})
    site.peer.wait(lambda: site.life(str(raised.result)), site.agent)
    assert site.life(str(raised.result))[0].data["message"] == "a drill"

    refused = site.call("triggerAlert", name="porous", condition={"when": "count(LineCrossed, 5m >= 3"})
    assert refused.error is not None
    assert (refused.state, refused.error.code, refused.error.field) == (
        CommandState.REJECTED, "bad_arguments", "condition.when",
    )  # fmt: skip
    assert "column 23" in refused.error.message
    rules = site.call("listAlerts").result["rules"]
    assert [one["when"] for one in rules if one["name"] == "porous"] == ["count(LineCrossed, 5m) >= 3"]


def test_p93_an_acknowledged_alert_does_not_escalate_and_one_by_hand_is_over(site: Site) -> None:
    site.peer.wait(lambda: site.life("down-1.a1"), site.agent)
    first = site.call("ackAlert", alert_id="down", by="Kim", note="cable").result
    assert (first["alert_id"], first["acknowledged_by"]) == ("down-1.a1", "Kim")
    again = site.call("ackAlert", alert_id="down-1.a1", by="Lee").result
    assert again == first
    fire = str(site.call("triggerAlert", name="fire").result)
    assert site.call("ackAlert", alert_id="fire").result["state"] == "cleared"
    site.peer.wait(lambda: [one.type for one in site.life(fire)] == ["AlertRaised", "AlertCleared"], site.agent)
    unknown = site.call("ackAlert", alert_id="nobody")
    assert unknown.error is not None and unknown.error.code == "unknown_alert"


def test_p94_the_state_has_each_alert(site: Site) -> None:
    alert_id = str(site.call("triggerAlert", name="smoke").result)
    site.peer.wait(lambda: site.states(alert_id), site.agent)
    site.call("ackAlert", alert_id="smoke", by="Kim")
    site.peer.wait(lambda: [one["state"] for one in site.states(alert_id)][-1:] == ["cleared"], site.agent)
    said = site.states(alert_id)[-1]
    assert (said["node_id"], said["acknowledged_by"], said["rule"]) == ("gw-1", "Kim", "smoke")
