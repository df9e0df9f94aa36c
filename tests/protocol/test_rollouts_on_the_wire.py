"""docs/protocol.md, roll-outs: each test carries the number it shows."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import decode_result
from schemas.messages import CommandState, Result
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process
from tests.protocol.test_contract import Peer, until
from tests.rollout.nodes import LightNode, light_nodes


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = start_broker(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
def peer(broker: Broker) -> Iterator[Peer]:
    peer = Peer(broker.port)
    yield peer
    peer.close()


@pytest.fixture
def coordinator(tmp_path: Path, broker: Broker) -> Iterator[Process]:
    (tmp_path / "c").mkdir()
    process = Process(tmp_path / "c", broker.port, extra="heartbeat_s = 60\n")
    process.start()
    try:
        asyncio.run(process.connected())
        yield process
    finally:
        process.kill()


def call(peer: Peer, function: str, **arguments: Any) -> Result:
    topic = f"edge/v1/coordinator/result/{function}"
    before = len(peer.seen(topic))
    peer.send(f"edge/v1/coordinator/cmd/{function}", json.dumps(arguments).encode())
    until(lambda: len(peer.seen(topic)) > before)
    return decode_result(bytes(peer.seen(topic)[-1].payload))


def told(peer: Peer, kind: str) -> list[dict[str, Any]]:
    return [json.loads(message.payload)["data"] for message in peer.seen(f"edge/v1/fleet/event/{kind}")]


def online(coordinator: Process, count: int) -> None:
    sql = "SELECT count(*) FROM nodes WHERE state = 'online' AND birth IS NOT NULL"
    until(lambda: coordinator.query(sql)[0][0] == count)


def states(peer: Peer, key: str) -> dict[str, str]:
    found = call(peer, "rolloutStatus", id=key, nodes=True).result["nodes"]
    return {one["node"]: one["state"] for one in found}


def revisions(node: LightNode) -> list[int]:
    return sorted({document.revision for document in node.seen})


def test_p70_each_node_gets_one_revision_and_what_cannot_be_changes_nothing(
    coordinator: Process, broker: Broker, peer: Peer
) -> None:
    with light_nodes(broker.port, 4) as nodes:
        online(coordinator, 4)
        for wrong in (
            {"select": "site = nowhere", "set": {"heartbeat_s": 5}},
            {"select": "all", "set": {"warp": 9}},
            {"select": "all"},
            {"select": "site =", "set": {"heartbeat_s": 5}},
            {"select": "all", "set": {"heartbeat_s": 5}, "waves": ["5%"]},
        ):
            refused = call(peer, "startRollout", **wrong)
            assert refused.state is CommandState.REJECTED and refused.error and refused.error.message
        assert all(node.seen == [] for node in nodes)
        begun = call(peer, "startRollout", select="all", set={"heartbeat_s": 5, "log.level": "DEBUG"}, rate_per_s=3)
        assert begun.result == {"id": "r-1", "nodes": 4, "here": 4}
        until(lambda: any(node.seen for node in nodes))
        coordinator.kill()
        coordinator.start()
        until(lambda: told(peer, "RolloutCompleted"))
        assert all(revisions(node) == [1] for node in nodes)
        assert all(node.fields == {"heartbeat_s": 5, "log.level": "DEBUG"} for node in nodes)


def test_p71_what_a_node_says_is_what_it_counts_as(coordinator: Process, broker: Broker, peer: Peer) -> None:
    with light_nodes(broker.port, 4, {1: "refuses", 2: "silent", 3: "names"}):
        online(coordinator, 4)
        call(peer, "startRollout", select="all", set={"labels.a": "x"}, accept_s=2, verify_s=600, budget=1.0)
        wanted = {"n00": "verified", "n01": "failed", "n02": "silent", "n03": "accepted"}
        until(lambda: states(peer, "r-1") == wanted, "")
        assert told(peer, "RolloutStarted")[0]["counts"] == {"waiting": 4}


def test_p72_rolled_back_is_what_was_changed_and_nothing_else(
    coordinator: Process, broker: Broker, peer: Peer
) -> None:
    with light_nodes(broker.port, 4) as nodes:
        online(coordinator, 4)
        call(peer, "setDesired", node="n00", set={"labels.a": "before"})
        key = call(peer, "startRollout", select="name < n03", set={"labels.a": "x"}, bake_s=600).result["id"]
        until(lambda: set(states(peer, key).values()) == {"verified"})
        call(peer, "setDesired", node="n01", set={"labels.a": "mine"})
        assert call(peer, "abortRollout", id=key, roll_back=True).state is CommandState.SUCCEEDED
        (done,) = until(lambda: told(peer, "RolledBack"))
        assert (done["rollout"], done["counts"]) == (key, {"kept": 1, "rolled_back": 2})
        until(lambda: [node.fields.get("labels.a") for node in nodes] == ["before", "mine", None, None])
        assert [revisions(node) for node in nodes] == [[1, 2, 3], [1, 2], [1, 2], []]
        assert told(peer, "RolloutAborted")[0]["roll_back"] is True
