"""docs/protocol.md, state: each test carries the number it shows."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.store.reader import Reader
from coordinator.store.state_views import KeyView, Wanted
from schemas import codec
from schemas.hlc import Stamp
from schemas.messages import Ack, LaneAck, Presence, SyncBatch, SyncRow
from schemas.state_registers import StateChange, read_change
from schemas.topics import Kind
from tests.broker import Broker, start_broker
from tests.platform_state.programs import StateAgent, StateCoordinator
from tests.protocol.test_contract import Peer, until

AT = 1_795_521_600_123
ROADS, COUNTS, LIMITS, PLANS = "traffic.intersections", "traffic.counts", "traffic.limits", "traffic.plans"
VISITORS = "retail.visitors"
RED, GREEN = {"phase": "red"}, {"phase": "green"}


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
def agent(tmp_path: Path, broker: Broker, peer: Peer) -> Iterator[StateAgent]:
    peer.coordinator(Presence.ONLINE)  # batches are for nobody else
    agent = StateAgent(tmp_path, broker.port, "[state]\nmin_interval_s = 1.0\n")
    with agent:
        agent.start()
        until(peer.statuses, "never online")
        yield agent


@pytest.fixture
def coordinator(tmp_path: Path, broker: Broker) -> Iterator[StateCoordinator]:
    (tmp_path / "c").mkdir()
    process = StateCoordinator(tmp_path / "c", broker.port)
    process.start()
    try:
        asyncio.run(process.connected())
        yield process
    finally:
        process.kill()


def rows(peer: Peer) -> list[SyncRow]:
    """Rows of state that gw-1 published, each once, in the order of their numbers. They are answered by that."""
    found: dict[tuple[int, str], SyncRow] = {}
    for message in peer.seen("edge/v1/gw-1/sync"):
        batch = codec.decode_packed(SyncBatch, Kind.SYNC, bytes(message.payload))
        found |= {(row.seq, batch.stream): row for row in batch.rows if row.lane == "state"}
    unanswered = sorted(found.keys() - answered.get(peer, set()))
    if unanswered:
        answered.setdefault(peer, set()).update(unanswered)
        peer.answer(Ack([LaneAck(stream, "state", [(seq, seq)]) for seq, stream in unanswered]))
    return [found[key] for key in sorted(found)]


answered: dict[Peer, set[tuple[int, str]]] = {}


class FakeNode:
    """Publishes rows of state, each in a batch of its own or together."""

    def __init__(self, peer: Peer, name: str) -> None:
        self.peer, self.name, self.seq = peer, name, 0

    def row(self, path: str, key: str, value: Any, at: int = 0, **other: Any) -> SyncRow:
        self.seq += 1
        data = StateChange(path, key, value, Stamp(AT + at, 0, self.name)).data()
        return SyncRow("state", self.seq, "StateChanged", key, AT + at, data | other)

    def send(self, *rows: SyncRow) -> None:
        self.peer.send(f"edge/v1/{self.name}/sync", codec.encode_packed(SyncBatch("s1", 1, list(rows))))
        until(lambda: {row.seq for row in rows} <= self.answered())

    def acks(self) -> list[Ack]:
        found = self.peer.seen(f"edge/v1/{self.name}/ack")
        return [codec.decode_packed(Ack, Kind.ACK, bytes(message.payload)) for message in found]

    def refused(self) -> dict[int, str]:
        return {item.seq: item.reason for ack in self.acks() for item in ack.refused}

    def answered(self) -> set[int]:
        ranges = [pair for ack in self.acks() for lane in ack.stored for pair in lane.ranges]
        return {seq for first, last in ranges for seq in range(first, last + 1)} | set(self.refused())


def held(coordinator: StateCoordinator) -> dict[str, KeyView]:
    reader = Reader(coordinator.data_dir)
    try:
        return {view.path: view for view in reader.state(Wanted(), 1000)}
    finally:
        reader.close()


def test_p53_a_row_of_state_and_its_stamps(agent: StateAgent, peer: Peer) -> None:
    for value in (RED, GREEN, None):
        assert agent.write(ROADS, "IS-001", value) == "done"
        until(lambda value=value: rows(peer) and rows(peer)[-1].data["value"] == value)  # type: ignore[misc]
    first = rows(peer)[0]
    assert (first.lane, first.type, first.subject) == ("state", "StateChanged", "IS-001")
    assert set(first.data) == {"collection", "key", "value", "at"}
    assert [read_change(row.data, "gw-1").value for row in rows(peer)] == [RED, GREEN, None]
    # Written faster than it is told: the newest value, and the stamps go on over a restart.
    for n in range(20):
        agent.write(COUNTS, "a", n, waits=n == 19)
    until(lambda: rows(peer)[-1].data["value"] == 19)
    assert len([row for row in rows(peer) if row.data["key"] == "a"]) < 20
    agent.kill()
    agent.start()
    agent.write(COUNTS, "a", "after")
    until(lambda: rows(peer)[-1].data["value"] == "after")
    stamps = [read_change(row.data, "gw-1").at for row in rows(peer)]
    assert stamps == sorted(set(stamps))


def test_p54_p55_order_and_repetition_change_nothing(coordinator: StateCoordinator, peer: Peer) -> None:
    one, two = FakeNode(peer, "gw-1"), FakeNode(peer, "gw-2")
    early, late = one.row(COUNTS, "a", "early", 1), one.row(COUNTS, "a", "late", 2)
    one.send(late)
    one.send(early, late)
    one.send(one.row(COUNTS, "a", "late", 2))  # said again
    assert held(coordinator)[f"{COUNTS}.a"].value == "late"

    two.send(two.row(COUNTS, "a", "two", 3), two.row(LIMITS, "k", 30, 9))
    one.send(one.row(COUNTS, "a", "one", 1), one.row(LIMITS, "k", 50, 1))
    found = held(coordinator)
    assert (found[f"{COUNTS}.a"].value, found[f"{COUNTS}.a"].written_by) == ("two", ("gw-2",))
    assert (found[f"{LIMITS}.k"].value, found[f"{LIMITS}.k"].rule) == (50, "max")
    assert {writer.node: writer.value for writer in found[f"{COUNTS}.a"].writers} == {"gw-1": "late", "gw-2": "two"}
    assert found[f"{COUNTS}.a"].conflict


def test_p56_p57_what_a_coordinator_refuses(coordinator: StateCoordinator, peer: Peer) -> None:
    node = FakeNode(peer, "gw-1")
    wrong = {
        "is not one of gw-1": node.row(COUNTS, "a", 1, at=0),
        "belongs to the coordinator": node.row(PLANS, "p", 1),
        "phase must be red": node.row(ROADS, "IS-1", {"phase": "blue"}),
        "personal data": node.row(VISITORS, "v", {"face": "somebody"}),
        "a value has at most 65536": node.row(COUNTS, "large", "x" * 70_000),
        "collection: is missing": SyncRow("state", 99, "StateChanged", "x", AT, {}),
    }
    wrong["is not one of gw-1"].data["at"] = str(Stamp(AT, 0, "gw-2"))
    node.send(*wrong.values(), node.row(ROADS, "IS-1", RED), node.row("bakery.ovens", "o", 220))
    for said, row in wrong.items():
        assert said in node.refused()[row.seq]
    assert len(node.refused()) == len(wrong)
    found = held(coordinator)
    assert {path: view.checked for path, view in found.items()} == {f"{ROADS}.IS-1": True, "bakery.ovens.o": False}
    kept = dict(coordinator.query("SELECT seq, payload FROM refused"))
    assert set(kept) == {row.seq for row in wrong.values()}
    assert kept[wrong["personal data"].seq] == b""
    assert json.loads(kept[wrong["phase must be red"].seq])["value"] == {"phase": "blue"}
    assert coordinator.query("SELECT count(*) FROM samples WHERE data LIKE '%somebody%'") == [(0,)]


def test_p57_personal_state_does_not_leave(agent: StateAgent, peer: Peer) -> None:
    assert agent.write(VISITORS, "v", {"face": "somebody"}) == "done"
    agent.write(COUNTS, "a", 1)
    until(lambda: rows(peer))
    agent.kill()
    agent.start()
    agent.write(COUNTS, "b", 1)
    until(lambda: rows(peer)[-1].data["key"] == "b")
    assert not [message for message in peer.seen(".*") if b"somebody" in bytes(message.payload)]


def test_p58_what_may_be_lost_is_said_again(agent: StateAgent, peer: Peer) -> None:
    agent.write(COUNTS, "a", 1)
    row = until(lambda: rows(peer))[0]
    agent.kill()
    for path in agent.data_dir.glob("outbox.db*"):
        path.unlink()
    agent.start()
    until(lambda: len(rows(peer)) == 2)
    assert len({stream for _, stream in answered[peer]}) == 2
    assert rows(peer)[-1].data == row.data  # with the stamp it had
