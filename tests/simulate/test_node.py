"""A simulated node with a list as its wire: the contract's assertions, by plain numbers for time."""

import itertools
import random
from typing import Any

import pytest

from coordinator.simulate.documents import Character, Papers
from coordinator.simulate.hardware import birth_of, birth_payload, birth_rest
from coordinator.simulate.mqtt5 import Reader
from coordinator.simulate.node import Node
from coordinator.simulate.outbox import ROWS_AT_FIRST
from coordinator.simulate.packets import (
    ConnAck,
    Connect,
    Packet,
    PingReq,
    PingResp,
    Property,
    PubAck,
    Publish,
    Subscribe,
)
from coordinator.simulate.presence import FRAMES_S, heartbeat_payload, status_payload
from coordinator.simulate.scenario import DesiredTable, FleetTable, LoadTable, Scenario, WorkloadsTable
from coordinator.simulate.world import Timer, World
from schemas.codec import (
    decode_document,
    decode_packed,
    decode_result,
    document_hash,
    encode_document,
    encode_packed,
)
from schemas.documents import Desired, decode_desired, decode_reported, encode
from schemas.messages import (
    Ack,
    Birth,
    CommandState,
    Heartbeat,
    LaneAck,
    Presence,
    Refusal,
    Status,
    StreamReport,
)
from schemas.topics import Kind

NAME = "sim-00001"
BASE = f"edge/v1/{NAME}/"


class Wire:
    """A node, a broker that is a list, and the time."""

    def __init__(self, receive_maximum: int | None = None, **tables: Any) -> None:
        tables.setdefault("load", LoadTable(events_per_node=0.0))
        self.world = World(Scenario(**tables), "run", 1_764_000_000.0, random.Random(1))
        self.now_s = 100.0
        self.node = Node(self.world, 0, boot=10)
        self.node.start(self.now_s)
        self.receive_maximum = receive_maximum
        self.said: list[Packet] = []
        self.gave_up = False
        self._reader = Reader()

    def out(self, data: bytes | None) -> list[Packet]:
        if data is None:
            self.gave_up = True
            return []
        found = self._reader.feed(data)
        self.said += found
        return found

    def connect(self) -> list[Packet]:
        self._reader = Reader()
        first = self.out(self.node.connect(self.now_s))
        limits = {} if self.receive_maximum is None else {Property.RECEIVE_MAXIMUM: self.receive_maximum}
        return first + self.out(self.node.receive(ConnAck(0, properties=limits), self.now_s))

    def hear(self, below: str, payload: bytes, *, retain: bool = False, **properties: Any) -> list[Packet]:
        about = {Property[name]: value for name, value in properties.items()}
        packet = Publish(BASE + below, payload, 1, retain, 9, properties=about)
        return self.out(self.node.receive(packet, self.now_s))

    def run(self, seconds: float, *, pings: bool = True) -> list[Packet]:
        """Time passes; what is due happens."""
        found: list[Packet] = []
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += 0.5
            for _, (_, timer, of) in self.world.wheel.take(self.now_s):
                said = self.out(self.node.due(timer, of, self.now_s))
                found += said
                if pings and PingReq() in said:
                    self.out(self.node.receive(PingResp(), self.now_s))
        return found

    def confirm(self, packets: list[Packet]) -> list[Packet]:
        """The broker's PUBACK for each."""
        found: list[Packet] = []
        for packet in packets:
            if isinstance(packet, Publish) and packet.qos:
                found += self.out(self.node.receive(PubAck(packet.mid), self.now_s))
        return found

    def event(self, count: int = 1) -> list[Packet]:
        found: list[Packet] = []
        for _ in range(count):
            found += self.out(self.node.due(Timer.EVENT, self.node.boot, self.now_s))
        return found


def on(packets: list[Packet], below: str) -> list[Publish]:
    return [one for one in packets if isinstance(one, Publish) and one.topic.startswith(BASE + below)]


def status(packet: Publish) -> tuple[Presence, int, int]:
    found = decode_document(Status, Kind.STATUS, packet.payload)
    return found.state, found.boot, found.session


def ack(*seqs: int, lane: str = "event") -> bytes:
    return encode_packed(Ack([LaneAck("whatever", lane, [(seq, seq) for seq in seqs])]))


def test_it_connects_subscribes_and_says_who_it_is() -> None:
    wire = Wire()
    connect, subscribe, *said = wire.connect()
    assert isinstance(connect, Connect) and isinstance(subscribe, Subscribe)
    assert (connect.client_id, connect.properties) == (NAME, {Property.SESSION_EXPIRY_S: 0})
    assert connect.will is not None and connect.will.retain
    will = decode_document(Status, Kind.STATUS, connect.will.payload)
    assert (will.state, will.boot, will.session, will.time_utc_ms) == (Presence.OFFLINE, 10, 1, 0)
    assert {BASE + "ack", BASE + "desired", BASE + "cmd/+", BASE + "status"} <= {
        text for text, _ in subscribe.filters
    }
    assert status(on(said, "status")[0]) == (Presence.ONLINE, 10, 1)
    (birth,), (beat,) = on(said, "birth"), on(said, "heartbeat")
    assert birth.retain and not beat.retain and beat.qos == 0
    assert decode_packed(Heartbeat, Kind.HEARTBEAT, beat.payload).birth_hash == document_hash(birth.payload)
    told = decode_document(Birth, Kind.BIRTH, birth.payload)
    assert told.site == "site-1" and told.resources["cores"] > 0 and told.hardware["arch"] in ("x86_64", "aarch64")
    assert told.hardware["containers"] == "podman"
    without = birth_of(Scenario(workloads=WorkloadsTable(containers=0.0)), 0, 1, 1, "s")
    assert without.hardware["containers"] == ""


@pytest.mark.parametrize("state", Presence)
def test_a_status_is_as_the_codec_would_write_it(state: Presence) -> None:
    for boot, session, utc_ms, reason in ((0, 0, 0, ""), (1_764_000_000, 12, 2**60, "connection lost")):
        written = status_payload(state, boot, session, utc_ms, reason)
        assert written == encode_document(Status(state, boot, session, utc_ms, reason))


@pytest.mark.parametrize("number", [0, 1, 20, 99_999])
def test_a_birth_is_as_the_codec_would_write_it(number: int) -> None:
    scenario = Scenario(fleet=FleetTable(nodes=100_000))
    rest = birth_rest(scenario, number, "s")
    for boot, session in ((0, 0), (1, 1), (1_764_000_000, 300)):
        assert birth_payload(boot, session, rest) == encode_document(birth_of(scenario, number, boot, session, "s"))


@pytest.mark.parametrize("pipelines", [(), ("door",), ("door", "gate")])
def test_a_heartbeat_is_as_the_codec_would_write_it(pipelines: tuple[str, ...]) -> None:
    papers = Papers(Character.APPLIES)
    papers.wanted(decode_desired(encode(Desired(1, 1, {"heartbeat_s": 5}))))
    papers.apply(7)
    papers.encode()
    for uptime_s, waiting, cores in ((0.0, 0, 0.0), (123_456.78, 1000, 1.5)):
        frames = int(uptime_s * FRAMES_S)
        streams = [
            StreamReport("cam1", name, "running", frames, frames // 7, 0, FRAMES_S, 3.8, 5.1, 6.0, "litert-cpu")
            for name in pipelines or ("cam1",)
        ]
        beat = Heartbeat(
            boot=7,
            session=2,
            seq=300,
            uptime_s=round(uptime_s, 1),
            time_utc_ms=1_764_000_000_000,
            cpu_percent=35.0 + 100.0 * cores,
            memory_mb=96.0,
            temperature_c=51.5,
            disk_free_mb=20_000.0,
            outbox_pending={"event": waiting},
            streams=streams,
            birth_hash="abc",
            desired_hash=papers.desired.hash if papers.desired else "",
            reported_hash=papers.report_hash,
        )
        written = heartbeat_payload(7, 2, 300, uptime_s, 1_764_000_000_000, waiting, "abc", papers, cores, pipelines)
        assert written == encode_packed(beat)
        assert beat.desired_hash and beat.reported_hash


def test_sessions_and_boots_count_up() -> None:
    wire = Wire()
    wire.connect()
    wire.node.disconnected()
    assert status(on(wire.connect(), "status")[0]) == (Presence.ONLINE, 10, 2)
    wire.node.disconnected()
    wire.node.start(wire.now_s)
    assert status(on(wire.connect(), "status")[0]) == (Presence.ONLINE, 11, 1)


def test_heartbeats_come_at_the_interval_with_jitter() -> None:
    wire = Wire()
    wire.connect()
    beats = [decode_packed(Heartbeat, Kind.HEARTBEAT, one.payload) for one in on(wire.run(303), "heartbeat")]
    assert 19 <= len(beats) <= 23
    assert [beat.seq for beat in beats] == list(range(2, len(beats) + 2))
    gaps = {round(b.uptime_s - a.uptime_s, 1) for a, b in itertools.pairwise(beats[1:])}
    assert len(gaps) > 3 and min(gaps) >= 13.0 and max(gaps) <= 17.5


def test_a_silent_broker_is_asked_and_then_given_up() -> None:
    wire = Wire()
    wire.connect()
    assert wire.run(21, pings=False).count(PingReq()) == 1
    assert not wire.gave_up
    wire.run(25, pings=False)
    assert wire.gave_up


def test_a_broker_that_answers_is_kept() -> None:
    wire = Wire(fleet=FleetTable(heartbeat_s=3600))
    wire.connect()
    pings = wire.run(200).count(PingReq())
    assert 8 <= pings <= 10
    assert not wire.gave_up


def test_a_row_is_sent_until_it_is_answered_byte_for_byte_the_same() -> None:
    wire = Wire()
    wire.connect()
    (row,) = on(wire.event(), "event/ObjectSeen")
    wire.confirm([row])
    (again,) = on(wire.run(16), "event/")
    wire.node.disconnected()
    (third,) = on(wire.connect(), "event/")
    assert row.payload == again.payload == third.payload
    wire.hear("ack", ack(1))
    assert on(wire.run(300), "event/") == []
    figures = wire.world.figures
    assert (figures.produced, figures.sent, figures.resent, figures.acked, figures.waiting_now) == (1, 1, 2, 1, 0)
    wire.hear("ack", ack(1))
    assert figures.answered_again == 1


def test_a_refused_row_is_not_sent_again() -> None:
    wire = Wire()
    wire.connect()
    wire.event()
    wire.hear("ack", encode_packed(Ack([], [Refusal("s", "event", 1, "no good")])))
    assert on(wire.run(100), "event/") == []
    assert (wire.world.figures.refused, wire.world.figures.waiting_now) == (1, 0)
    assert "no good" in wire.world.figures.first_error


def test_what_happened_without_a_link_is_sent_with_the_next_one() -> None:
    wire = Wire()
    assert wire.event(12) == []
    assert len(on(wire.connect(), "event/")) == ROWS_AT_FIRST
    assert len(on(wire.hear("ack", ack(1)), "event/")) == 2


@pytest.mark.parametrize(("in_order", "streams"), [(True, 1), (False, 2)])
def test_a_kill_begins_a_new_stream_and_a_reboot_does_not(in_order: bool, streams: int) -> None:
    wire = Wire()
    wire.connect()
    old = on(wire.event(), "event/")
    wire.node.disconnected()
    wire.node.start(wire.now_s, in_order=in_order)
    first = on(wire.connect(), "event/")
    assert [one.payload for one in first] == [one.payload for one in old]
    (new,) = on(wire.event(), "event/")
    found = {payload.split(b'"edgestream":"')[1][:16] for payload in (old[0].payload, new.payload)}
    assert len(found) == streams
    assert b'"edgeseq":"2"' in new.payload


def test_the_brokers_receive_maximum_is_kept() -> None:
    wire = Wire(receive_maximum=3)
    open_ = [one for one in wire.connect() if isinstance(one, Publish) and one.qos]
    assert len(open_) == 2
    wire.event(10)
    mids: set[int] = {one.mid for one in open_}
    everything, seen = list(wire.said), 0
    while True:
        fresh = [one for one in wire.said[seen:] if isinstance(one, Publish) and one.qos]
        seen = len(wire.said)
        mids |= {one.mid for one in fresh}
        assert len(mids) <= 3
        if not mids:
            break
        mid = mids.pop()
        wire.out(wire.node.receive(PubAck(mid), wire.now_s))
        wire.hear("ack", ack(*range(1, len(on(wire.said, "event/")) + 1)))
    assert len(on(wire.said, "event/")) == 10
    assert len(everything) < len(wire.said)


def test_rows_under_way_are_limited_by_their_answers() -> None:
    wire = Wire(load=LoadTable(events_per_node=0.0, rows_under_way_max=4))
    wire.connect()
    wire.confirm(wire.event(10))
    assert len(on(wire.said, "event/")) == ROWS_AT_FIRST == 2
    assert len(on(wire.hear("ack", ack(1, 2)), "event/")) == 4
    assert len(on(wire.hear("ack", ack(3, 4, 5, 6)), "event/")) == 4
    assert on(wire.event(), "event/") == []


def test_a_late_will_is_published_over() -> None:
    wire = Wire()
    wire.connect()
    late = encode_document(Status(Presence.OFFLINE, 10, 1))
    (said,) = on(wire.hear("status", late, retain=True), "status")
    assert status(said)[0] is Presence.ONLINE
    later = encode_document(Status(Presence.OFFLINE, 11, 1))
    assert on(wire.hear("status", later), "status") == []


def desired(revision: int, **fields: Any) -> bytes:
    return encode(Desired(1, revision, fields))


def test_a_desired_document_is_applied_after_a_while_and_reported() -> None:
    wire = Wire(desired=DesiredTable(delay_s=2.0))
    wire.connect()
    assert on(wire.hear("desired", desired(3, heartbeat_s=5), retain=True), "reported") == []
    (said,) = on(wire.run(4), "reported")
    found = decode_reported(said.payload)
    assert (found.version, found.fields, found.refused) == ((1, 3), {"heartbeat_s": 5}, {})
    beats = on(wire.run(60), "heartbeat")
    assert len(beats) >= 10
    beat = decode_packed(Heartbeat, Kind.HEARTBEAT, beats[-1].payload)
    assert (beat.desired_hash, beat.reported_hash) == (found.desired_hash, found.hash)
    wire.hear("desired", desired(2), retain=True)
    wire.hear("desired", desired(3, heartbeat_s=5), retain=True)
    assert on(wire.run(30), "reported") == []
    wire.node.disconnected()
    assert decode_reported(on(wire.connect(), "reported")[0].payload) == found


def test_a_reboot_before_it_is_applied_does_not_lose_it() -> None:
    wire = Wire(desired=DesiredTable(delay_s=2.0))
    wire.connect()
    wire.hear("desired", desired(1, heartbeat_s=5))
    wire.node.disconnected()
    wire.node.start(wire.now_s)
    wire.connect()
    wire.hear("desired", desired(1, heartbeat_s=5), retain=True)
    assert len(on(wire.run(4), "reported")) == 1


def test_a_failing_node_refuses_and_a_silent_one_says_nothing() -> None:
    wire = Wire(desired=DesiredTable(failing=1.0))
    wire.connect()
    wire.hear("desired", desired(1, heartbeat_s=5))
    found = decode_reported(on(wire.run(4), "reported")[0].payload)
    assert (found.version, found.fields, set(found.refused)) == ((1, 1), {}, {"heartbeat_s"})
    wire = Wire(desired=DesiredTable(silent=1.0))
    wire.connect()
    wire.hear("desired", desired(1, heartbeat_s=5))
    said = wire.run(60)
    assert on(said, "reported") == []
    beat = decode_packed(Heartbeat, Kind.HEARTBEAT, on(said, "heartbeat")[-1].payload)
    assert (beat.desired_hash, wire.world.figures.desired_silent) == ("", 1)


def test_commands_are_answered() -> None:
    wire = Wire()
    wire.connect()
    (said,) = on(wire.hear("cmd/status", b'{"_id":"7"}'), "result/status")
    result = decode_result(said.payload)
    assert (result.state, result.id, result.node) == (CommandState.SUCCEEDED, "7", NAME)
    own = BASE + "result/status/x"
    both = on(wire.hear("cmd/status", b"", RESPONSE_TOPIC=own, CORRELATION_DATA=b"c"), "result/")
    assert [one.topic for one in both] == [BASE + "result/status", own]
    assert {one.properties[Property.CORRELATION_DATA] for one in both} == {b"c"}
    for payload, retain, function, code in (
        (b"{}", True, "status", "retained"),
        (b"}{", False, "status", "bad_message"),
        (b"{}", False, "destroy", "unknown_function"),
    ):
        (said,) = on(wire.hear(f"cmd/{function}", payload, retain=retain), "result/")
        error = decode_result(said.payload).error
        assert error is not None and error.code == code
    said_again = wire.hear("cmd/report", b'{"documents":["birth"]}')
    assert len(on(said_again, "birth")) == 1


def test_nonsense_is_counted_and_harms_nobody() -> None:
    wire = Wire()
    wire.connect()
    for below in ("ack", "desired", "status"):
        wire.hear(below, b"\xff")
    assert wire.world.figures.bad_messages == 3
    assert len(on(wire.event(), "event/")) == 1


def test_a_node_that_stops_says_so() -> None:
    wire = Wire()
    wire.connect()
    said = on(wire.out(wire.node.stop(wire.now_s)), "status")
    assert [status(one)[0] for one in said] == [Presence.DRAINING, Presence.OFFLINE]


def test_timers_of_an_earlier_session_or_boot_do_nothing() -> None:
    wire = Wire()
    wire.connect()
    wire.node.disconnected()
    assert wire.run(60) == []
    wire.connect()
    assert on(wire.out(wire.node.due(Timer.HEARTBEAT, 1, wire.now_s)), "heartbeat") == []


def spec_of(generation: int) -> dict[str, Any]:
    return {
        "type": "container",
        "generation": generation,
        "container": {"image": "x"},
        "resources": {"cpu_cores": 1.5},
    }


def states(packets: list[Packet]) -> list[tuple[str, int]]:
    found = [decode_reported(one.payload).fields.get("workloads.w.state") for one in on(packets, "reported")]
    return [(one["state"], one["generation"]) for one in found if one]


def test_a_workload_starts_and_runs_and_another_generation_starts_anew() -> None:
    wire = Wire(workloads=WorkloadsTable(start_s=2.0))
    wire.connect()
    wire.hear("desired", encode(Desired(1, 1, {"workloads.w.spec": spec_of(1)})))
    assert states(wire.run(10)) == [("starting", 1), ("running", 1)]
    beat = decode_packed(Heartbeat, Kind.HEARTBEAT, on(wire.run(20), "heartbeat")[-1].payload)
    assert beat.cpu_percent == 185.0
    wire.hear("desired", encode(Desired(1, 2, {"workloads.w.spec": spec_of(2), "heartbeat_s": 15})))
    assert states(wire.run(10)) == [("starting", 2), ("running", 2)]
    wire.hear("desired", encode(Desired(1, 3, {"heartbeat_s": 15})))
    (last,) = on(wire.run(10), "reported")
    assert "workloads.w.state" not in decode_reported(last.payload).fields


def test_a_workload_that_fails_says_so_and_starts_again_with_its_node() -> None:
    wire = Wire(workloads=WorkloadsTable(start_s=1.0, failing=1.0))
    wire.connect()
    wire.hear("desired", encode(Desired(1, 1, {"workloads.w.spec": spec_of(1)})))
    assert states(wire.run(5)) == [("starting", 1), ("failed", 1)]
    wire.node.disconnected()
    wire.node.start(wire.now_s)
    assert states(wire.connect()) == [("starting", 1)]
    assert states(wire.run(5)) == [("failed", 1)]
