"""docs/protocol.md, workloads over the fleet: each test carries the number it shows."""

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
from tests.schedule.nodes import WorkNode, work_nodes

WORKLOAD = {"type": "container", "container": {"image": "busybox"}, "resources": {"cpu_cores": 1}}


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
    process = Process(tmp_path / "c", broker.port, extra="heartbeat_s = 60\nwill_hold_s = 0.5\n")
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
    """Each once: what was told just before a kill is told again, with the same id."""
    found = [json.loads(message.payload) for message in peer.seen(f"edge/v1/fleet/event/{kind}")]
    return list({one["id"]: one["data"] for one in found}.values())


def online(coordinator: Process, count: int) -> None:
    sql = "SELECT count(*) FROM nodes WHERE state = 'online' AND birth IS NOT NULL"
    until(lambda: coordinator.query(sql)[0][0] == count)


def holders(nodes: list[WorkNode], name: str = "w") -> list[str]:
    return [node.name for node in nodes if name in node.runs]


def test_p81_what_is_placed_stands_in_the_documents_of_as_many_nodes_and_survives_a_kill(
    coordinator: Process, broker: Broker, peer: Peer
) -> None:
    with work_nodes(broker.port, "a1", "a2", "b1") as nodes:
        online(coordinator, 3)
        refused = call(peer, "applyWorkload", name="w", **{**WORKLOAD, "replicas": -1, "selector": "site ~"})
        assert refused.state is CommandState.REJECTED and refused.error is not None
        assert "replicas: " in refused.error.message and "selector: " in refused.error.message
        assert all(node.seen == [] for node in nodes)
        done = call(peer, "applyWorkload", name="w", **{**WORKLOAD, "type": "CONTAINER", "replicas": 2})
        assert done.result == {"name": "w", "generation": 1, "rollout": "", "nodes": 0}
        coordinator.kill()
        coordinator.start()
        asyncio.run(coordinator.connected(2))
        until(lambda: len(holders(nodes)) == 2)
        spec = next(node.fields["workloads.w.spec"] for node in nodes if node.runs)
        assert (spec["type"], spec["generation"], spec["container"]["image"]) == ("container", 1, "busybox")
        until(lambda: len(told(peer, "WorkloadScheduled")) == 2)
        assert {one["node"] for one in told(peer, "WorkloadScheduled")} == set(holders(nodes))
        until(lambda: call(peer, "workloadStatus", name="w").result["workloads"][0]["state"] == "running")
        found = call(peer, "workloadStatus", name="w", nodes=True).result["nodes"]
        assert {one["phase"] for one in found} == {"running"}
        assert all(len({document.revision for document in node.seen}) <= 1 for node in nodes)


def test_p82_of_a_node_that_is_lost_it_goes_to_another_and_from_its_document(
    coordinator: Process, broker: Broker, peer: Peer
) -> None:
    with work_nodes(broker.port, "a1", "b1") as nodes:
        online(coordinator, 2)
        call(peer, "applyWorkload", name="w", **WORKLOAD)
        until(lambda: told(peer, "WorkloadScheduled") and holders(nodes))
        lost, other = sorted(nodes, key=lambda node: "w" not in node.runs)
        lost.kill()
        until(lambda: told(peer, "NodeOffline"))
        until(lambda: holders([other]))
        (moved,) = until(lambda: told(peer, "WorkloadMoved"))
        assert (moved["workload"], moved["from_node"], moved["to_node"]) == ("w", lost.name, other.name)
        lost.connect()
        until(lambda: not holders([lost]))
        assert lost.desired.revision == 2 and holders([other])


def test_p83_from_a_drained_node_it_goes_only_when_another_reports_that_it_runs(
    coordinator: Process, broker: Broker, peer: Peer
) -> None:
    with work_nodes(broker.port, "a1", "b1", manners={"a1": "idles", "b1": "idles"}) as nodes:
        online(coordinator, 2)
        call(peer, "applyWorkload", name="w", **WORKLOAD)
        until(lambda: holders(nodes))
        first, other = sorted(nodes, key=lambda node: "w" not in node.runs)
        drained = call(peer, "drainNode", node=first.name, reason="new disk")
        assert (drained.result["node"], drained.result["replicas"]) == (first.name, 1)
        until(lambda: holders([other]))
        assert holders([first]) and not told(peer, "NodeDrained")
        other.manner = "works"
        call(peer, "setDesired", node=other.name, set={"log.level": "DEBUG"})
        until(lambda: not holders([first]))
        (done,) = until(lambda: told(peer, "NodeDrained"))
        assert done == {"node": first.name, "moved": 1, "reason": "new disk"}
        unknown = call(peer, "drainNode", node="nobody")
        assert unknown.error is not None and unknown.error.code == "unknown_node"


def test_p87_a_container_goes_to_no_node_that_says_it_runs_none(
    coordinator: Process, broker: Broker, peer: Peer
) -> None:
    with (
        work_nodes(broker.port, "a1", hardware={"containers": ""}) as none,
        work_nodes(broker.port, "b1", hardware={"containers": "docker"}) as docker,
        work_nodes(broker.port, "c1") as older,
    ):
        online(coordinator, 3)
        call(peer, "applyWorkload", name="w", **{**WORKLOAD, "replicas": "all"})
        until(lambda: len(holders([*docker, *older])) == 2)
        assert not holders(none)
        why = call(peer, "whyWorkload", name="w", node="a1").result
        assert why["reasons"] == ["it runs no containers"]
        call(peer, "applyWorkload", name="v", **{**WORKLOAD, "replicas": 3})
        until(lambda: len(holders([*docker, *older], "v")) == 2)
        assert not holders(none, "v")
        assert call(peer, "whyWorkload", name="v").result["missing"] == 1
