"""docs/protocol.md, desired and reported documents: each test carries the number it shows."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.__main__ import main as agent_main
from schemas import codec
from schemas.documents import (
    Desired,
    Reported,
    Written,
    canonical,
    content_hash,
    decode_desired,
    decode_reported,
    encode,
    sealed,
)
from schemas.messages import CommandState, Heartbeat, Presence, Result, Status
from schemas.topics import Kind
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process
from tests.protocol.test_contract import Agent, Peer, until

EARLY = "1795521600123.0.coordinator"


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
def agent(tmp_path: Path, broker: Broker, peer: Peer) -> Iterator[Agent]:
    agent = Agent(tmp_path, broker.port)
    agent.start()
    try:
        until(lambda: reports(peer), agent.log.read_text())
        yield agent
    finally:
        agent.end(signal.SIGKILL)


@pytest.fixture
def coordinator(tmp_path: Path, broker: Broker) -> Iterator[Process]:
    (tmp_path / "c").mkdir()
    process = Process(tmp_path / "c", broker.port)
    process.start()
    try:
        asyncio.run(process.connected())
        yield process
    finally:
        process.kill()


def reports(peer: Peer) -> list[Reported]:
    return [decode_reported(bytes(message.payload)) for message in peer.seen("edge/v1/gw-1/reported")]


def wanted(peer: Peer) -> list[Desired]:
    return [decode_desired(bytes(message.payload)) for message in peer.seen("edge/v1/gw-1/desired")]


def beats(peer: Peer) -> list[Heartbeat]:
    found = peer.seen("edge/v1/gw-1/heartbeat")
    return [codec.decode_packed(Heartbeat, Kind.HEARTBEAT, bytes(message.payload)) for message in found]


def want(peer: Peer, desired: Desired) -> None:
    peer.send("edge/v1/gw-1/desired", encode(desired), retain=True)


def local(agent: Agent, *arguments: str) -> None:
    assert agent_main(["local", *arguments, "--config", str(agent.config)]) == 0


def test_p38_p39_p40_what_a_node_takes_and_what_it_says(agent: Agent, peer: Peer, broker: Broker) -> None:
    assert (reports(peer)[0].version, peer.seen("edge/v1/gw-1/reported")[0].retain) == ((0, 0), False)
    fields = {"heartbeat_s": 1.0, "warp": 9, "pipelines.nowhere.enabled": True}
    desired = Desired(1, 2, fields, {"pipelines.nowhere.enabled": Written(EARLY)})
    want(peer, desired)
    until(lambda: reports(peer)[-1].version == (1, 2))
    said = reports(peer)[-1]
    assert (said.fields["heartbeat_s"], set(said.refused)) == (1.0, {"warp", "pipelines.nowhere.enabled"})
    until(lambda: (beats(peer)[-1].desired_hash, beats(peer)[-1].reported_hash) == (sealed(desired).hash, said.hash))

    # An older one, and one of the same pair with other content, are not taken: it says again what it has.
    for other in (Desired(1, 1, {"heartbeat_s": 9}), Desired(1, 2, {"heartbeat_s": 9})):
        count = len(reports(peer))
        want(peer, other)
        until(lambda count=count: len(reports(peer)) > count)  # type: ignore[misc]
        assert reports(peer)[-1] == said
    # Nor one whose hash does not fit, whatever its pair; the next is.
    raw = json.loads(encode(Desired(7, 7, {"heartbeat_s": 9})))
    peer.send("edge/v1/gw-1/desired", canonical({**raw, "fields": {"heartbeat_s": 8}}).encode())
    peer.send("edge/v1/gw-1/desired", b"{")
    later = {**raw, "epoch": 2, "revision": 1, "fromthefuture": [1]}
    peer.send("edge/v1/gw-1/desired", canonical({**later, "hash": content_hash(later)}).encode(), retain=True)
    until(lambda: reports(peer)[-1].version == (2, 1))
    assert (2, 1) == reports(peer)[-1].version > (1, 2)
    assert (7, 7) not in [report.version for report in reports(peer)]

    # Retained, and again with each connect.
    before = len(reports(peer))
    agent.end(signal.SIGKILL)
    agent.start()
    until(lambda: len(reports(peer)) > before)
    assert (reports(peer)[-1].boot, reports(peer)[-1].version) == (2, (2, 1))
    late = Peer(broker.port, "late")
    try:
        until(lambda: late.seen("edge/v1/gw-1/reported"))
        assert late.seen("edge/v1/gw-1/reported")[0].retain
    finally:
        late.close()


def test_p43_both_sides_write(agent: Agent, peer: Peer) -> None:
    path = "labels.line"
    want(peer, Desired(1, 1, {path: "c"}, {path: Written(EARLY)}))
    until(lambda: reports(peer)[-1].fields.get(path) == "c")
    local(agent, "set", f"{path}=e")
    until(lambda: reports(peer)[-1].fields.get(path) == "e")
    said = reports(peer)[-1]
    assert (said.local, said.stamps[path].over, said.conflicts) == ({path: "e"}, EARLY, [])
    assert said.stamps[path].at.endswith(".gw-1")

    # A write of the coordinator that did not know of the node's: the rule of labels is that the node's holds.
    other = "1795521600123.5.coordinator"
    want(peer, Desired(1, 2, {path: "d"}, {path: Written(other)}))
    until(lambda: reports(peer)[-1].version == (1, 2))
    (conflict,) = reports(peer)[-1].conflicts
    assert (conflict.coordinator_value, conflict.coordinator_at) == ("d", other)
    assert (conflict.node_value, conflict.node_at) == ("e", said.stamps[path].at)
    assert (conflict.value, conflict.winner, reports(peer)[-1].fields[path]) == ("e", "node", "e")
    local(agent, "unset", path)
    until(lambda: reports(peer)[-1].fields.get(path) == "d")
    assert reports(peer)[-1].local == {path: None}


class FakeNode:
    """Speaks as gw-1."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.seq = 0
        peer.send("edge/v1/gw-1/status", codec.encode_document(Status(Presence.ONLINE, 1, 1, 1)), retain=True)

    def beat(self, **hashes: str) -> None:
        self.seq += 1
        beat = replace(Heartbeat(1, 1, self.seq), **hashes)  # type: ignore[arg-type]
        self.peer.send("edge/v1/gw-1/heartbeat", codec.encode_packed(beat))

    def report(self, document: Reported) -> str:
        self.peer.send("edge/v1/gw-1/reported", encode(document), retain=True)
        return sealed(document).hash

    def asked(self) -> list[Any]:
        return [json.loads(message.payload)["documents"] for message in self.peer.seen("edge/v1/gw-1/cmd/report")]


def set_desired(peer: Peer, **arguments: Any) -> Result:
    before = len(peer.seen("edge/v1/coordinator/result/setDesired"))
    call = {"node": "gw-1", **arguments}
    peer.send("edge/v1/coordinator/cmd/setDesired", json.dumps(call).encode())
    until(lambda: len(peer.seen("edge/v1/coordinator/result/setDesired")) > before)
    return codec.decode_result(bytes(peer.seen("edge/v1/coordinator/result/setDesired")[-1].payload))


def test_p41_p42_p44_what_a_coordinator_publishes_and_refuses(
    coordinator: Process, broker: Broker, peer: Peer
) -> None:
    node = FakeNode(peer)
    assert set_desired(peer, set={"heartbeat_s": 5}).state is CommandState.SUCCEEDED
    first = until(lambda: wanted(peer))[-1]
    assert first.version == (1, 1)

    stale = set_desired(peer, set={"heartbeat_s": 6}, if_revision=4)
    assert (stale.state, stale.error and stale.error.code) == (CommandState.REJECTED, "stale")
    assert (stale.result["revision"], stale.result["fields"]) == (1, {"heartbeat_s": 5})
    for wrong in (
        {"set": {"heartbeat_s": 6, "warp": 1}},
        {"unset": ["warp"]},
        {},
        {"set": 5},
        {"node": "Gw", "set": {}},
    ):
        assert set_desired(peer, **wrong).state is CommandState.REJECTED
    assert set_desired(peer, set={"heartbeat_s": 6}, if_revision=1).state is CommandState.SUCCEEDED
    until(lambda: wanted(peer)[-1].version == (1, 2))

    # It knows neither birth nor report of this node, and the node has another document.
    count = len(wanted(peer))

    def asks() -> bool:
        node.beat(birth_hash="0" * 16, reported_hash="0" * 32, desired_hash=first.hash)
        time.sleep(0.3)  # as heartbeats do, only faster
        return bool(node.asked())

    until(asks)
    assert node.asked()[0] == ["birth", "reported"]
    until(lambda: len(wanted(peer)) > count)
    assert wanted(peer)[-1].version == (1, 2)

    # A node that answers to a later pair than ours.
    digest = node.report(Reported(1, 1, 3, 9, "0" * 32))
    until(lambda: wanted(peer)[-1].version == (4, 10))
    assert wanted(peer)[-1].fields == {"heartbeat_s": 6}
    assert coordinator.query("SELECT hash FROM reported") == [(digest,)]

    # And again after each connect of its own: the broker may have lost it.
    late = Peer(broker.port, "late")
    try:
        until(lambda: late.seen("edge/v1/gw-1/desired"))
        assert late.seen("edge/v1/gw-1/desired")[0].retain
    finally:
        late.close()
    count = len(wanted(peer))
    coordinator.kill()
    coordinator.start()
    until(lambda: len(wanted(peer)) > count)
    assert wanted(peer)[-1].version == (4, 10)
