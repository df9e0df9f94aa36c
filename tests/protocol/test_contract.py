"""docs/protocol.md against a real broker and the real agent process; each test carries the number it shows."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import paho.mqtt.client as paho
import pytest
import zstandard
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.results.result import Result as KeptResult
from agent.results.store import ResultStore
from schemas import codec
from schemas.compress import compress, is_compressed
from schemas.errors import LocalWireError, RemoteWireError
from schemas.messages import (
    Ack,
    Closed,
    CommandState,
    Gap,
    Heartbeat,
    LaneAck,
    Presence,
    Refusal,
    Result,
    Status,
    SyncBatch,
    SyncRow,
)
from schemas.topics import RULES, Kind, Topic, TopicSpace, check_node_name
from tests.broker import Broker, start_broker
from tests.broker import broker as mosquitto
from tests.coordinator.process import Process
from tests.coordinator.sender import TestNode, event_payload
from tests.coordinator.sender import until as sender_until

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "protocol.md"
WAIT_S = 60.0
SPACE = TopicSpace()


def until(true: Callable[[], Any], what: str = "") -> Any:
    deadline_s = time.monotonic() + WAIT_S
    while not (value := true()):
        assert time.monotonic() < deadline_s, what or "waited in vain"
        time.sleep(0.02)
    return value


class Peer:
    """Sees everything on the broker; answers for rows when told to."""

    def __init__(self, port: int, name: str = "peer") -> None:
        self._lock = threading.Lock()
        self._seen: list[paho.MQTTMessage] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = self._keep
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("edge/#", qos=1)
        self.client.loop_start()
        assert subscribed.wait(WAIT_S)

    def _keep(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._seen.append(message)

    def seen(self, pattern: str) -> list[paho.MQTTMessage]:
        with self._lock:
            return [message for message in self._seen if re.fullmatch(pattern, message.topic)]

    def statuses(self) -> list[Status]:
        found = self.seen("edge/v1/gw-1/status")
        return [
            codec.decode_document(Status, Kind.STATUS, bytes(message.payload)) for message in found if message.payload
        ]

    def results(self, function: str = "[A-Za-z]+") -> list[Result]:
        return [
            codec.decode_result(bytes(message.payload)) for message in self.seen(f"edge/v1/gw-1/result/{function}")
        ]

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in self.seen("edge/v1/gw-1/event/.*")]

    def send(self, topic: str, payload: bytes, *, retain: bool = False, **properties: Any) -> None:
        made = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        for name, value in properties.items():
            setattr(made, name, value)
        self.client.publish(topic, payload, 1, retain, made).wait_for_publish(WAIT_S)

    def call(self, function: str, payload: bytes, **more: Any) -> None:
        self.send(f"edge/v1/gw-1/cmd/{function}", payload, **more)

    def answer(self, ack: Ack) -> None:
        self.send("edge/v1/gw-1/ack", codec.encode_packed(ack))

    def coordinator(self, state: Presence) -> None:
        self.send("edge/v1/coordinator/status", codec.encode_document(Status(state)), retain=True)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Agent:
    """`python -m agent run` with one camera that is not there: starting it makes an event each time."""

    def __init__(self, folder: Path, port: int) -> None:
        self.config = folder / "agent.toml"
        self.log = folder / "agent.log"
        self.config.write_text(
            '[node]\nid = "gw-1"\ndata_dir = "data"\nheartbeat_s = 1.0\nresend_after_s = 1.0\n'
            f"[broker]\nport = {port}\n"
            '[[cameras]]\nid = "cam1"\nsource = "absent.mp4"\n',
            encoding="utf-8",
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "agent", "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=dict(os.environ))

    def end(self, signal_number: int) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal_number)
            process.wait(WAIT_S)

    def account(self) -> dict[str, dict[str, int]]:
        command = [sys.executable, "-m", "agent", "outbox", "account", "--config", str(self.config)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=WAIT_S)
        return {lane["lane"]: lane for lane in json.loads(done.stdout)}


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
        until(lambda: peer.seen("edge/v1/gw-1/birth"), agent.log.read_text())
        yield agent
    finally:
        agent.end(signal.SIGKILL)


def test_p1_the_table_is_the_contract() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `<node>/(\S+?)` \| (.+?) \| (\d) \| (yes|no) \| .*?(\d+) KiB", text, re.M)
    told = {
        re.sub("/<.*", "", kind): (int(qos), retain == "yes", int(kib) * 1024) for kind, _, qos, retain, kib in rows
    }
    assert told == {kind.value: (rule.qos, rule.retain, rule.payload_bytes_max) for kind, rule in RULES.items()}
    with pytest.raises(RemoteWireError):
        SPACE.parse("edge/v1/gw-1/telemetry")


def test_p2_names() -> None:
    assert check_node_name("gw-1") is None
    assert all(check_node_name(name) for name in ("coordinator", "fleet", "Gw", "a/b", "", "n" * 64))
    with pytest.raises(LocalWireError):
        Topic(Kind.EVENT, "coordinator", "X")


def test_p99_who_hears_of_the_coordinator_leaves_the_list_of_those_who_do(tmp_path: Path) -> None:
    with mosquitto(tmp_path, "log_type subscribe\nlog_type unsubscribe\n") as broker:
        peer, agent, log = Peer(broker.port), Agent(tmp_path, broker.port), tmp_path / f"mosquitto-{broker.port}.log"
        peer.coordinator(Presence.ONLINE)
        agent.start()

        def is_online() -> bool:
            peer.call("status", b"{}")
            found = [one.result for one in peer.results("status") if one.result is not None]
            return bool(found and found[-1]["link"]["coordinator_online"])

        try:
            until(lambda: peer.seen("edge/v1/gw-1/birth"))
            left = until(lambda: re.findall(r"gw-1 edge/v1/coordinator/status$", log.read_text(), re.M))
            assert len(left) == 1 and "gw-1 1 $share/gw-1/edge/v1/coordinator/status" in log.read_text()
            until(is_online)
            peer.coordinator(Presence.OFFLINE)
            until(lambda: not is_online())
            peer.coordinator(Presence.ONLINE)
            until(is_online)
        finally:
            agent.end(signal.SIGKILL)
            peer.close()


def test_p3_p5_p25_what_is_refused_does_no_harm(agent: Agent, peer: Peer) -> None:
    for function, payload, code in (
        ("status", b"{" + b" " * 70_000 + b"}", "bad_message"),
        ("status", b"no object", "bad_message"),
        ("status", b'{"x":NaN}', "bad_message"),
        ("status", msgpack.packb({"x": b"bytes"}), "bad_message"),
        ("nonsense", b"{}", "unknown_function"),
        ("snapshot", b'{"camera_id":5}', "bad_arguments"),
    ):
        before = len(peer.results())
        peer.call(function, payload)
        until(lambda before=before: len(peer.results()) > before)  # type: ignore[misc]
        last = peer.results()[-1]
        assert (last.state, last.error and last.error.code) == (CommandState.REJECTED, code)
    for payload in (b"\xff", b"{}", msgpack.packb({"stored": 3})):
        peer.send("edge/v1/gw-1/ack", payload)
    peer.call("status", b"")
    until(lambda: peer.results("status")[-1].state is CommandState.SUCCEEDED)


def test_p4_unknown_fields_are_ignored(agent: Agent, peer: Peer) -> None:
    row = until(peer.rows)[0]
    ack = {"stored": [{"stream": row["edgestream"], "lane": row["edgelane"], "ranges": [[1, 1]], "new": 1}], "x": {}}
    peer.send("edge/v1/gw-1/ack", msgpack.packb(ack))
    until(lambda: agent.account()["lifecycle"]["stored"] >= 1)


def test_p6_p20_p21_commands_over_restarts(agent: Agent, peer: Peer) -> None:
    peer.call("status", b'{"_id":"once"}')
    first = until(lambda: [r for r in peer.results("status") if r.id == "once"])[0]
    peer.call("status", b'{"_id":"once"}')
    until(lambda: len([r for r in peer.results("status") if r.id == "once"]) == 2)
    agent.end(signal.SIGKILL)
    peer.call("status", b"{}")  # P6, P21: nobody keeps it for the node
    births = len(peer.seen("edge/v1/gw-1/birth"))
    answers = len(peer.results("status"))
    agent.start()
    until(lambda: len(peer.seen("edge/v1/gw-1/birth")) > births)
    peer.call("status", b'{"_id":"once"}')
    until(lambda: len(peer.results("status")) > answers)
    assert peer.results("status")[-1] == first  # the same answer, with the boot of then
    assert [r.id for r in peer.results("status")[answers:]] == ["once"] * (len(peer.results("status")) - answers)


def test_p7_p8_p9_p11_presence(agent: Agent, peer: Peer) -> None:
    first = until(peer.statuses)[0]
    assert (first.state, first.boot, first.session) == (Presence.ONLINE, 1, 1)
    birth = json.loads(until(lambda: peer.seen("edge/v1/gw-1/birth"))[0].payload)
    assert (birth["boot"], birth["session"]) == (1, 1)
    agent.end(signal.SIGKILL)
    will = until(lambda: [s for s in peer.statuses() if s.state is Presence.OFFLINE])[0]
    assert (will.boot, will.session, will.reason) == (1, 1, "connection lost")
    agent.start()
    until(lambda: peer.statuses()[-1].state is Presence.ONLINE)
    assert peer.statuses()[-1].boot == 2
    agent.end(signal.SIGTERM)
    until(lambda: peer.statuses()[-1].state is Presence.OFFLINE)
    assert [s.state for s in peer.statuses()[-2:]] == [Presence.DRAINING, Presence.OFFLINE]


def test_p7_retained(agent: Agent, broker: Broker) -> None:
    late = Peer(broker.port, "late")
    try:
        until(lambda: late.seen("edge/v1/gw-1/status") and late.seen("edge/v1/gw-1/birth"))
        assert late.seen("edge/v1/gw-1/status")[0].retain
        assert late.seen("edge/v1/gw-1/birth")[0].retain
    finally:
        late.close()


def test_p8_sessions_count_connections_of_a_boot(agent: Agent, peer: Peer, broker: Broker) -> None:
    intruder = paho.Client(CallbackAPIVersion.VERSION2, client_id="gw-1", protocol=paho.MQTTv5)
    intruder.connect("127.0.0.1", broker.port)  # the broker hangs up on the node of the same name
    intruder.loop_start()
    until(lambda: peer.statuses()[-1].session >= 2)
    intruder.disconnect()
    intruder.loop_stop()
    until(lambda: peer.statuses()[-1].state is Presence.ONLINE)
    assert peer.statuses()[-1].boot == 1


def test_p10_a_stale_offline_is_published_over(agent: Agent, peer: Peer) -> None:
    stale = Status(Presence.OFFLINE, 0, 9, 0, "connection lost")
    peer.send("edge/v1/gw-1/status", codec.encode_document(stale), retain=True)
    until(lambda: stale in peer.statuses() and peer.statuses()[-1].state is Presence.ONLINE)


def test_p12_heartbeats(agent: Agent, peer: Peer) -> None:
    message = until(lambda: peer.seen("edge/v1/gw-1/heartbeat"))[0]
    beat = codec.decode_packed(Heartbeat, Kind.HEARTBEAT, message.payload)
    assert (message.qos, message.retain, beat.boot, beat.session) == (0, False, 1, 1)
    assert re.fullmatch("[0-9a-f]{16}", beat.birth_hash)


def test_p13_p14_identity(agent: Agent, peer: Peer) -> None:
    for _ in range(2):
        peer.call("startStream", b'{"camera_id":"cam1"}')
    until(lambda: len({row["id"] for row in peer.rows()}) >= 2)
    message = peer.seen("edge/v1/gw-1/event/.*")[0]
    assert getattr(message.properties, "ContentType", "") == "application/cloudevents+json"
    rows = {int(row["edgeseq"]): row for row in peer.rows()}
    assert sorted(rows) == list(range(1, len(rows) + 1))
    for seq, row in rows.items():
        assert row["source"] == "/edge/v1/gw-1"
        assert row["id"] == f"{row['edgestream']}.{row['edgelane']}.{seq}"


def test_p15_p16_rows_stay_until_the_coordinator_answers(agent: Agent, peer: Peer) -> None:
    row = until(peer.rows)[0]
    peer.coordinator(Presence.ONLINE)

    def same() -> list[bytes]:
        sent = peer.seen("edge/v1/gw-1/event/.*")
        return [bytes(message.payload) for message in sent if json.loads(message.payload)["id"] == row["id"]]

    until(lambda: len(same()) >= 3)
    agent.end(signal.SIGKILL)
    before = len(same())
    agent.start()
    until(lambda: len(same()) > before)
    assert len(set(same())) == 1
    assert agent.account()["lifecycle"]["stored"] == 0
    peer.answer(Ack([LaneAck(row["edgestream"], row["edgelane"], [(1, int(row["edgeseq"]))])]))
    until(lambda: agent.account()["lifecycle"]["stored"] >= 1)


def test_p17_p18_refused_and_foreign_answers(agent: Agent, peer: Peer) -> None:
    row = until(peer.rows)[0]
    peer.answer(Ack([LaneAck("another", "lifecycle", [(1, 100)]), LaneAck(row["edgestream"], "alert", [(1, 2**62)])]))
    peer.call("status", b'{"_id":"after"}')
    until(lambda: [r for r in peer.results("status") if r.id == "after"])
    assert agent.account()["lifecycle"]["stored"] == 0
    peer.answer(Ack([], [Refusal(row["edgestream"], "lifecycle", int(row["edgeseq"]), "no such type")]))
    until(lambda: agent.account()["lifecycle"]["quarantined"] == 1)
    count = len(peer.rows())
    peer.call("startStream", b'{"camera_id":"cam1"}')
    until(lambda: len(peer.rows()) > count)


def test_p19_by_hand_and_packed(agent: Agent, peer: Peer, broker: Broker) -> None:
    topic = "edge/v1/gw-1/cmd/status"
    subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-t", topic, "-n"], check=True, timeout=WAIT_S)
    until(lambda: peer.results("status"))
    assert peer.seen("edge/v1/gw-1/result/status")[0].payload.startswith(b"{")
    peer.call("status", msgpack.packb({}))
    until(lambda: len(peer.results("status")) == 2)
    assert not peer.seen("edge/v1/gw-1/result/status")[1].payload.startswith(b"{")


def test_p22_a_retained_command_is_rejected(agent: Agent, peer: Peer) -> None:
    agent.end(signal.SIGTERM)
    peer.call("status", b"{}", retain=True)
    agent.start()
    last = until(lambda: peer.results("status"))[-1]
    assert (last.state, last.error and last.error.code) == (CommandState.REJECTED, "retained")


def test_p23_expiry(agent: Agent, peer: Peer) -> None:
    peer.call("status", b'{"_expires_s":0,"_id":"late"}')
    assert until(lambda: peer.results("status"))[-1].state is CommandState.EXPIRED


def test_p24_response_topics(agent: Agent, peer: Peer) -> None:
    elsewhere = "edge/v1/gw-2/cmd/stopStream"
    beneath = "edge/v1/gw-1/result/status/mine"
    for topic in (elsewhere, beneath):
        peer.call("status", b"{}", ResponseTopic=topic, CorrelationData=topic.encode())
    message = until(lambda: peer.seen(beneath))[0]
    assert message.properties.CorrelationData == beneath.encode()
    until(lambda: len(peer.seen("edge/v1/gw-1/result/status")) == 2)
    assert peer.seen(elsewhere) == []


def test_p26_a_small_receive_maximum_is_respected(tmp_path: Path) -> None:
    broker = start_broker(tmp_path, extra_conf="max_inflight_messages 4")
    peer, agent = Peer(broker.port), Agent(tmp_path, broker.port)
    try:
        agent.start()
        until(lambda: peer.seen("edge/v1/gw-1/birth"))
        for n in range(60):
            peer.call("status", b'{"_id":"%d"}' % n)
        until(lambda: len({r.id for r in peer.results("status")}) == 60)
        assert peer.statuses()[-1].session == 1  # one that sends too much is disconnected
    finally:
        agent.end(signal.SIGKILL)
        peer.close()
        broker.stop()


def test_p27_p29_what_was_given_up_is_told_until_it_is_answered(tmp_path: Path, broker: Broker, peer: Peer) -> None:
    agent = Agent(tmp_path, broker.port)
    with agent.config.open("a", encoding="utf-8") as file:
        file.write("[outbox.lifecycle]\nrows_max = 2\n")
    agent.start()
    try:
        until(lambda: peer.seen("edge/v1/gw-1/birth"), agent.log.read_text())
        for n in range(4):
            peer.call("startStream", b'{"camera_id":"cam1"}')
            until(lambda n=n: agent.account()["lifecycle"]["produced"] > n + 2)  # type: ignore[misc]
        assert agent.account()["lifecycle"]["unconfirmed"] > 0
        peer.coordinator(Presence.ONLINE)

        def told() -> list[Gap]:
            found = [bytes(message.payload) for message in peer.seen("edge/v1/gw-1/sync")]
            return [gap for payload in found for gap in codec.decode_packed(SyncBatch, Kind.SYNC, payload).gaps]

        gap = until(told)[-1]
        assert (gap.lane, gap.first, gap.reason) == ("lifecycle", 1, "rows")
        before = len(told())
        peer.answer(Ack(closed=[Closed("another", "lifecycle", 1, 2**40, []), Closed(gap.stream, "event", 1, 9, [])]))
        until(lambda: len(told()) > before)
        account = agent.account()["lifecycle"]
        assert (account["shed"], account["stored"]) == (0, 0)
        peer.answer(Ack(closed=[Closed(gap.stream, gap.lane, gap.first, gap.last, [(gap.last, gap.last)])]))
        until(lambda: agent.account()["lifecycle"]["shed"] == gap.last - gap.first)
        account = agent.account()["lifecycle"]
        assert account["stored"] == 1
        assert account["unconfirmed"] <= account["produced"] - gap.last  # given up since
    finally:
        agent.end(signal.SIGKILL)


def test_p28_a_gap_is_closed_once_and_answered_the_same_for_ever(tmp_path: Path, broker: Broker) -> None:
    coordinator = Process(tmp_path, broker.port)

    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(broker.port) as node:
            node.send([2, 3, 7])
            await sender_until(lambda: not node.waiting)

            def ask(first: int, last: int) -> None:
                gap = Gap("s1", "event", first, last, "bytes")
                node.publish("sync", codec.encode_packed(SyncBatch("s1", 1, gaps=[gap])))

            def answers() -> list[Closed]:
                return [closed for ack in node.acks for closed in ack.closed]

            ask(1, 8)
            await sender_until(lambda: len(answers()) == 1)
            assert answers()[0] == Closed("s1", "event", 1, 8, [(2, 3), (7, 7)])
            coordinator.kill()
            coordinator.start()
            await coordinator.connected(2)
            ask(1, 8)
            ask(1, 2**40)
            await sender_until(lambda: len(answers()) == 3)
            assert answers()[1:] == [
                Closed("s1", "event", 1, 8, [(2, 3), (7, 7)]), Closed("s1", "event", 1, 2**40, [(2, 3), (7, 7)]),
            ]  # fmt: skip
            node.publish("event/ObjectSeen", event_payload("gw-1", 5))  # a copy that the broker still had
            node.publish("event/ObjectSeen", event_payload("gw-1", 7))
            await sender_until(lambda: len(answers()) == 4)
            assert answers()[3] == Closed("s1", "event", 5, 5, [])
        stored = coordinator.query("SELECT seq FROM events WHERE node = 'gw-1' ORDER BY seq")
        assert [seq for (seq,) in stored] == [2, 3, 7]
        told = coordinator.query("SELECT data FROM events WHERE type = 'DataGapReported'")
        assert [json.loads(data)["missing"] for (data,) in told] == [5, 2**40 - 8]

    try:
        asyncio.run(scene())
    finally:
        coordinator.kill()


def frame_data(n: int) -> dict[str, Any]:
    """Of a FrameResult."""
    size = {"frame_width": 640, "frame_height": 480}
    return {"camera_id": "cam1", "pipeline": "p", "time_s": float(n), **size, "objects": []}


def batch(*seqs: int) -> bytes:
    rows = [SyncRow("sample", seq, "FrameResult", "cam1", 1_764_000_000_000 + seq, frame_data(seq)) for seq in seqs]
    return codec.encode_packed(SyncBatch("s1", 1, rows))


def test_p30_and_p31_a_batch_in_a_zstd_frame_is_taken_and_what_no_frame_may_be_is_refused(
    tmp_path: Path, broker: Broker
) -> None:
    coordinator = Process(tmp_path, broker.port)
    plain = batch(*range(1, 51))
    frames = zstandard.ZstdCompressor()
    hostile = [
        frames.compress(bytes(2**28)),
        zstandard.ZstdCompressor(write_content_size=False).compress(batch(*range(100, 150))),
        frames.compress(batch(*range(200, 250)))[:-4],
        frames.compress(batch(*range(300, 350))) + b"x",
    ]

    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(broker.port) as node:

            def stored() -> list[tuple[int, int]]:
                return [run for ack in node.acks for lane in ack.stored for run in lane.ranges]

            assert is_compressed(compress(plain))
            assert not is_compressed(compress(batch(60)))
            node.publish("sync", compress(plain))
            await sender_until(lambda: stored() == [(1, 50)])
            for payload in hostile:
                node.publish("sync", payload)
            node.publish("sync", plain)
            node.publish("sync", compress(batch(60)))
            await sender_until(lambda: stored()[-1:] == [(60, 60)])
            assert set(stored()) == {(1, 50), (60, 60)}
            assert not any(ack.refused for ack in node.acks)
        found = coordinator.query("SELECT seq, data FROM samples ORDER BY seq")
        assert [(seq, json.loads(data)) for seq, data in found] == [
            (seq, frame_data(seq)) for seq in [*range(1, 51), 60]
        ]
        reasons = [reason for (reason,) in coordinator.query("SELECT reason FROM refused ORDER BY id")]
        assert len(reasons) == len(hostile)
        assert "unpacks to 268435456 bytes; at most 524288" in reasons[0]

    try:
        asyncio.run(scene())
    finally:
        coordinator.kill()


def test_p32_a_sync_is_complete_when_every_row_is_answered_for(tmp_path: Path, broker: Broker, peer: Peer) -> None:
    store = ResultStore(tmp_path / "data" / "results.db")
    kept = [KeptResult(1_764_000_000_000 + n, "cam1", "p", "FrameResult", "cam1", frame_data(n)) for n in range(30)]
    store.write(kept, [], 0.0, {}).result()
    store.close()
    agent = Agent(tmp_path, broker.port)
    peer.coordinator(Presence.ONLINE)
    agent.start()
    try:
        until(lambda: peer.seen("edge/v1/gw-1/birth"))

        def called() -> bool:
            peer.call("syncDataToCloud", b'{"sync_id": "s1"}')
            until(lambda: peer.results("syncDataToCloud"))
            return peer.results("syncDataToCloud")[-1].state is CommandState.SUCCEEDED

        until(called)  # the file is opened a moment after the start

        def batches() -> list[SyncBatch]:
            seen = peer.seen("edge/v1/gw-1/sync")
            return [codec.decode_batch(bytes(message.payload))[0] for message in seen]

        def rows() -> dict[int, SyncRow]:
            return {row.seq: row for each in batches() for row in each.rows if row.type == "FrameResult"}

        until(lambda: len(rows()) == 30)
        assert [(row.data["sync_id"], row.data["row"]) for row in rows().values()] == [
            ("s1", n + 1) for n in range(30)
        ]
        stream, last = batches()[0].stream, max(rows())
        peer.answer(Ack(stored=[LaneAck(stream, "sample", [(1, last - 1)])]))
        until(lambda: agent.account()["sample"]["pending"] == 1)
        assert not peer.seen("edge/v1/gw-1/event/CloudSyncCompleted")
        peer.answer(Ack(stored=[LaneAck(stream, "sample", [(last, last)])]))
        (done,) = until(lambda: peer.seen("edge/v1/gw-1/event/CloudSyncCompleted"))[:1]
        data = json.loads(done.payload)["data"]
        assert (data["sync_id"], data["outcome"], data["rows"], data["skipped"]) == ("s1", "completed", 30, 0)
    finally:
        agent.end(signal.SIGKILL)


def test_p32_the_fleet_is_told_of_a_completed_sync_once(tmp_path: Path, broker: Broker, peer: Peer) -> None:
    coordinator = Process(tmp_path, broker.port)
    said = {"sync_id": "s1", "outcome": "completed", "rows": 3, "bytes": 9, "skipped": 0, "duration_s": 1.5}

    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(broker.port) as node:
            payload = event_payload("gw-1", 1, type="CloudSyncCompleted", subject="s1", data={**said, "more": [1]})
            node.publish("event/CloudSyncCompleted", payload)
            await sender_until(lambda: node.acks)
            for _ in range(3):
                node.publish("event/CloudSyncCompleted", payload)
            node.send([2])
            await sender_until(lambda: not node.waiting)
            await sender_until(lambda: peer.seen("edge/v1/fleet/event/CloudSyncCompleted"))

    try:
        asyncio.run(scene())
        (told,) = peer.seen("edge/v1/fleet/event/CloudSyncCompleted")
        assert json.loads(told.payload)["data"] == {"node": "gw-1", **said}
        assert coordinator.query("SELECT count(*) FROM events WHERE type = 'CloudSyncCompleted'") == [(2,)]
    finally:
        coordinator.kill()


def test_every_assertion_has_a_test_and_every_number_an_assertion() -> None:
    told = re.findall(r"^- \*\*P(\d+)\*\*", DOCUMENT.read_text(encoding="utf-8"), re.M)
    files = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("test_*.py"))]
    names = [name for text in files for name in re.findall(r"^def (test_p\d\w*)", text, re.M)]
    shown = {number for name in names for number in re.findall(r"(?<=_p)(\d+)(?=_)", name)}
    assert shown == set(told)
    assert len(told) == len(set(told)), "a number twice"
