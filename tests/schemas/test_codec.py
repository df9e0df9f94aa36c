import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.errors import LocalWireError, RemoteWireError
from schemas.identity import Identity, Lane
from schemas.messages import (
    Ack,
    Birth,
    CallProgress,
    Command,
    CommandError,
    CommandState,
    Event,
    Gap,
    Heartbeat,
    LaneAck,
    Presence,
    Refusal,
    Result,
    Severity,
    Status,
    StreamReport,
    SyncBatch,
    SyncRow,
)
from schemas.topics import RULES, Kind

counts = st.integers(0, 2**63 - 1)
small = st.integers(0, 10**6)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
floats = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, plain, max_size=4)
lanes = st.sampled_from([lane.value for lane in Lane])
streams = st.text("0123456789abcdef", min_size=1, max_size=16)
times = st.integers(0, 253_402_300_799_999)

statuses = st.builds(Status, st.sampled_from(Presence), counts, counts, counts, texts)
births = st.builds(
    Birth,
    boot=counts,
    name=texts,
    labels=st.dictionaries(texts, texts, max_size=3),
    location=st.dictionaries(texts, floats, max_size=3),
    hardware=objects,
    functions=st.lists(texts, max_size=3),
)
reports = st.builds(StreamReport, texts, texts, texts, counts, counts, counts, floats)
beats = st.builds(
    Heartbeat,
    boot=counts,
    seq=counts,
    temperature_c=st.none() | floats,
    outbox_pending=st.dictionaries(lanes, counts, max_size=3),
    streams=st.lists(reports, max_size=2),
)
rows = st.builds(SyncRow, lanes, counts, texts, texts, counts, objects)
batches = st.builds(SyncBatch, streams, counts, st.lists(rows, max_size=3))
acks = st.builds(
    Ack,
    st.lists(st.builds(LaneAck, streams, lanes, st.lists(st.tuples(counts, counts), max_size=3)), max_size=3),
    st.lists(st.builds(Refusal, streams, lanes, counts, texts), max_size=3),
)
results = st.builds(
    Result,
    texts,
    st.sampled_from(CommandState),
    texts,
    texts,
    counts,
    plain,
    st.none() | st.builds(CommandError, texts, texts, texts),
    st.none() | st.builds(CallProgress, st.none() | st.floats(0, 1), texts),
)
events = st.builds(
    Event,
    st.builds(Identity, st.just("gw-1"), streams, lanes, st.integers(1, 2**63 - 1)),
    texts.filter(bool),
    texts,
    times,
    objects,
    counts,
    st.none() | st.sampled_from(Severity),
)
SECONDS = st.none() | st.floats(0, 1e9)
own = st.dictionaries(texts.filter(lambda key: key not in ("_id", "_expires_s", "_deadline_s")), plain, max_size=4)
commands = st.builds(Command, st.just("f"), own, texts, SECONDS, st.booleans(), SECONDS)


# ---- round trips -------------------------------------------------------------------------------


@given(statuses)
def test_status_survives(status: Status) -> None:
    assert codec.decode_document(Status, Kind.STATUS, codec.encode_document(status)) == status


@given(births)
def test_birth_survives(birth: Birth) -> None:
    assert codec.decode_document(Birth, Kind.BIRTH, codec.encode_document(birth)) == birth


@given(beats)
def test_heartbeat_survives(beat: Heartbeat) -> None:
    assert codec.decode_packed(Heartbeat, Kind.HEARTBEAT, codec.encode_packed(beat)) == beat


@given(batches)
def test_batch_survives(batch: SyncBatch) -> None:
    assert codec.decode_packed(SyncBatch, Kind.SYNC, codec.encode_packed(batch)) == batch
    assert codec.decode_batch(codec.encode_packed(batch)) == (batch, [])


@given(acks)
def test_acknowledgement_survives(ack: Ack) -> None:
    assert codec.decode_packed(Ack, Kind.ACK, codec.encode_packed(ack)) == ack


@given(results, st.booleans())
def test_result_survives(result: Result, packed: bool) -> None:
    assert codec.decode_result(codec.encode_result(result, packed=packed)) == result


@given(commands)
def test_command_survives(command: Command) -> None:
    again = codec.decode_command("f", codec.encode_command(command))
    assert again == command


@given(events)
def test_event_survives(event: Event) -> None:
    assert codec.decode_event(Kind.EVENT, "gw-1", codec.encode_event(event)) == event


# ---- CloudEvents 1.0 ---------------------------------------------------------------------------


@given(events)
def test_an_event_keeps_the_rules_of_cloudevents(event: Event) -> None:
    fields = json.loads(codec.encode_event(event))
    for required in ("id", "source", "specversion", "type"):
        assert isinstance(fields[required], str)
        assert fields[required]
    assert fields["specversion"] == "1.0"
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in fields)
    rfc3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
    assert re.fullmatch(rfc3339, fields["time"])
    assert datetime.fromisoformat(fields["time"]).utcoffset() is not None
    assert fields["datacontenttype"] == "application/json"
    assert isinstance(fields["data"], dict)
    extensions = fields.keys() - {
        "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data"
    }  # fmt: skip
    assert all(name.startswith("edge") and isinstance(fields[name], str | int) for name in extensions)


GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "s.event.7",
    "source": "/edge/v1/gw-1",
    "type": "ObjectSeen",
    "time": "2026-11-24T10:00:00Z",
    "edgestream": "s",
    "edgelane": "event",
    "edgeseq": "7",
    "data": {},
}


def test_an_event_by_somebody_elses_library_is_understood() -> None:
    payload = json.dumps(GOOD | {"time": "2026-11-24T12:00:00.5+02:00", "traceparent": "00-x"}, indent=1).encode()
    event = codec.decode_event(Kind.EVENT, "gw-1", payload)
    assert event.identity == Identity("gw-1", "s", "event", 7)
    assert codec.format_utc(event.time_utc_ms) == "2026-11-24T10:00:00.500Z"


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "2.0"},
        {"specversion": None},
        {"id": None},
        {"id": "something else"},
        {"source": "/edge/v1/gw-2"},
        {"source": ""},
        {"source": 3},
        {"type": ""},
        {"type": "x" * 201},
        {"time": None},
        {"time": "yesterday"},
        {"time": "2026-11-24T10:00:00"},
        {"time": "2026-11-24"},
        {"time": "1969-12-31T23:59:59Z"},
        {"time": "0001-01-01T00:00:00+23:59"},
        {"edgestream": None},
        {"edgelane": 1},
        {"edgeseq": "0"},
        {"edgeseq": "-1"},
        {"edgeseq": str(2**63)},
        {"edgeseq": "1" * 300},
        {"edgeseq": True},
        {"edgeseq": 1.0},
        {"edgeseq": 7},
        {"edgeboot": -1},
        {"edgeboot": 2**63},
        {"edgeboot": "1"},
        {"edgeseverity": "loud"},
        {"edgeseverity": ["info"]},
        {"edgeseverity": {}},
        {"data": None},
        {"data": []},
        {"data": {"x": 2**63}},
    ],
    ids=str,
)
def test_an_event_against_the_contract_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RemoteWireError) as caught:
        codec.decode_event(Kind.EVENT, "gw-1", json.dumps(GOOD | change).encode())
    assert len(str(caught.value)) < 500


# ---- hostile bytes -----------------------------------------------------------------------------

Decoder = Callable[[bytes], object]
DECODERS: dict[str, Decoder] = {
    "status": lambda payload: codec.decode_document(Status, Kind.STATUS, payload),
    "birth": lambda payload: codec.decode_document(Birth, Kind.BIRTH, payload),
    "heartbeat": lambda payload: codec.decode_packed(Heartbeat, Kind.HEARTBEAT, payload),
    "sync": lambda payload: codec.decode_packed(SyncBatch, Kind.SYNC, payload),
    "batch": codec.decode_batch,
    "ack": lambda payload: codec.decode_packed(Ack, Kind.ACK, payload),
    "event": lambda payload: codec.decode_event(Kind.EVENT, "gw-1", payload),
    "command": lambda payload: codec.decode_command("f", payload),
    "result": codec.decode_result,
    "identity": lambda payload: codec.identity_of("gw-1", payload),
}
odd = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
known = st.sampled_from(
    sorted({*GOOD, "state", "boot", "rows", "stream", "stored", "refused", "lane", "seq", "streams", "_id",
            "_expires_s", "_deadline_s", "progress", "function", "location", "edgeboot", "edgeseverity", "v"})
)  # fmt: skip
almost = st.dictionaries(known, odd, max_size=8)
hostile = st.one_of(
    st.binary(max_size=60),
    almost.map(lambda raw: json.dumps(raw).encode()),
    almost.map(lambda raw: json.dumps({**GOOD, **raw}).encode()),
    almost.map(lambda raw: msgpack.packb(raw, unicode_errors="surrogatepass")),
    st.builds(lambda raw, cut: json.dumps({**GOOD, **raw}).encode()[:cut], almost, st.integers(0, 200)),
    st.builds(
        lambda raw, at, byte: bytes(raw[:at]) + bytes([byte]) + bytes(raw[at + 1 :]),
        almost.map(lambda raw: msgpack.packb(raw, unicode_errors="surrogatepass")),
        st.integers(0, 80),
        st.integers(0, 255),
    ),
)


@settings(max_examples=2500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(payload=hostile)
def test_hostile_bytes_raise_nothing_but_a_wire_error(payload: bytes) -> None:
    for decode in DECODERS.values():
        try:
            decode(payload)
        except RemoteWireError as error:
            assert len(str(error)) < 3000


@given(hostile)
@settings(max_examples=500, deadline=None)
def test_what_is_understood_can_be_said_again(payload: bytes) -> None:
    try:
        command = codec.decode_command("f", payload)
    except RemoteWireError:
        return
    assert codec.decode_command("f", codec.encode_command(command)) == command


@pytest.mark.parametrize("decode", [d for n, d in DECODERS.items() if n != "identity"], ids=lambda _: "")
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"\x90", id="msgpack list"),
        pytest.param(b"\x81\x01\x02", id="msgpack whole number as key"),
        pytest.param(b"\x81\xa1a\x81\xc4\x01k\x01", id="msgpack bytes as inner key"),
        pytest.param(b"\x81\xa1a\xc4\x01x", id="msgpack bytes"),
        pytest.param(b"\x81\xa1a\xd4\x05x", id="msgpack extension"),
        pytest.param(b"\x81\xa1a\xcb\x7f\xf8" + bytes(6), id="msgpack nan"),
        pytest.param(b"\x80\x00", id="msgpack and more"),
        pytest.param(b"\x81\xa1a\xdf\xff\xff\xff\xff", id="msgpack promising four thousand million entries"),
        pytest.param(b"\x81\xa1a" + b"\x91" * 5000 + b"\x01", id="deep msgpack"),
        pytest.param(b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}", id="deep JSON"),
        pytest.param(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", id="one level too deep"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":-Infinity}', id="Infinity"),
        pytest.param(b'{"a":1e999}', id="a number beyond floats"),
        pytest.param(b'{"a":1' + b"0" * 3000 + b"}", id="a whole number beyond 64 bits"),
        pytest.param(b'{"a":"\\ud800"}', id="half a character, escaped"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="half a character, encoded"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a":1', id="cut"),
    ],
)
def test_a_payload_that_cannot_be_kept_is_refused(decode: Decoder, payload: bytes) -> None:
    with pytest.raises(RemoteWireError):
        decode(payload)


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.EVENT, Kind.CMD, Kind.RESULT, Kind.ACK])
def test_an_oversize_payload_is_refused_before_it_is_read(kind: Kind) -> None:
    codec.check_size(kind, bytes(RULES[kind].payload_bytes_max))
    with pytest.raises(RemoteWireError, match="at most"):
        codec.check_size(kind, bytes(RULES[kind].payload_bytes_max + 1))


def test_of_a_key_given_twice_the_last_counts() -> None:
    assert codec.decode_command("f", b'{"a":1,"a":2}').arguments == {"a": 2}


def test_a_row_without_shape_is_refused_alone() -> None:
    good = {"lane": "sample", "seq": 1, "type": "T", "subject": "", "time_utc_ms": 0, "data": {}}
    payload = msgpack.packb(
        {"stream": "s", "rows": [good, good | {"seq": 2, "data": 5}, good | {"seq": 3, "data": {"x": b""}}]}
    )
    batch, refused = codec.decode_batch(payload)
    assert [row.seq for row in batch.rows] == [1]
    assert [(refusal.lane, refusal.seq) for refusal, _ in refused] == [("sample", 2), ("sample", 3)]


# ---- what we must not send ---------------------------------------------------------------------

EVENT = Event(Identity("gw-1", "s", "event", 1), "T", "x", 0, {})


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("value", [object(), {1, 2}, "\ud800", object])
def test_a_result_that_cannot_travel_is_our_mistake(value: object, packed: bool) -> None:
    with pytest.raises(LocalWireError):
        codec.encode_result(Result("f", CommandState.SUCCEEDED, result=value), packed=packed)


def test_a_result_nested_beyond_reason_is_our_mistake() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    for packed in (False, True):
        with pytest.raises(LocalWireError):
            codec.encode_result(Result("f", CommandState.SUCCEEDED, result=deep), packed=packed)


def test_other_values_that_cannot_travel() -> None:
    with pytest.raises(LocalWireError):
        codec.encode_packed(Heartbeat(boot=2**70))
    with pytest.raises(LocalWireError, match="no time"):
        codec.encode_event(Event(EVENT.identity, "T", "x", 2**62, {}))
    with pytest.raises(LocalWireError, match="before 1970"):
        codec.encode_event(Event(EVENT.identity, "T", "x", -1, {}))
    with pytest.raises(LocalWireError):
        codec.encode_event(Event(EVENT.identity, "T", "x", 0, {"a": float("nan")}))


def test_data_of_an_event_may_hold_what_stands_for_plain_values() -> None:
    data = {
        "gap": Gap("s", "event", 1, 2, "age"),
        "how": Severity.INFO,
        "at": Path("/x"),
        "in": MappingProxyType({"a": (1,)}),
    }
    fields = json.loads(codec.encode_event(Event(EVENT.identity, "T", "x", 0, data)))
    assert fields["data"] == {
        "gap": {"stream": "s", "lane": "event", "first": 1, "last": 2, "reason": "age"},
        "how": "info",
        "at": "/x",
        "in": {"a": [1]},
    }
    with pytest.raises(LocalWireError, match="a set has no place"):
        codec.encode_event(Event(EVENT.identity, "T", "x", 0, {"a": {1, 2}}))


@pytest.mark.parametrize("node", ["gw-1", "fleet"])
@pytest.mark.parametrize("severity", [None, Severity.CRITICAL])
def test_an_event_is_as_large_as_its_topic_allows_and_no_larger(node: str, severity: Severity | None) -> None:
    kind = Kind.EVENT if severity is None else Kind.ALERT

    def event(size: int) -> Event:
        return Event(Identity(node, "s", "event", 1), "T", "x", 0, {"a": "x" * size}, 1, severity)

    room = RULES[kind].payload_bytes_max - len(codec.encode_event(event(0)))
    payload = codec.encode_event(event(room))
    assert codec.decode_event(kind, node, payload) == event(room)
    with pytest.raises(LocalWireError, match=f"event T of {len(payload) + 1} bytes; at most {len(payload)} are"):
        codec.encode_event(event(room + 1))


@given(times)
def test_times_survive(utc_ms: int) -> None:
    assert codec.parse_utc(codec.format_utc(utc_ms)) == utc_ms


# ---- commands typed by hand --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "command"),
    [
        (b"", Command("f", {})),
        (b" \n", Command("f", {})),
        (b"{}", Command("f", {})),
        (b'{"camera_id":"cam1"}', Command("f", {"camera_id": "cam1"})),
        (b' {"camera_id": "cam1"}\n', Command("f", {"camera_id": "cam1"})),
        (b'{"_id":"7","x":1}', Command("f", {"x": 1}, "7")),
        (b'{"_expires_s":0}', Command("f", {}, "", 0)),
        (b'{"_expires_s":2.5,"_id":"a"}', Command("f", {}, "a", 2.5)),
        (b'{"_deadline_s":9}', Command("f", {}, deadline_s=9)),
        (msgpack.packb({"x": 1, "_id": "b"}), Command("f", {"x": 1}, "b", None, True)),
        (msgpack.packb({}), Command("f", {}, "", None, True)),
        (msgpack.packb({str(i): i for i in range(20)}), Command("f", {str(i): i for i in range(20)}, packed=True)),
    ],
)
def test_a_command_by_hand(payload: bytes, command: Command) -> None:
    assert codec.decode_command("f", payload) == command


@pytest.mark.parametrize(
    "payload",
    [
        b"camera1",
        b"'{}'",
        b'"x"',
        b"{camera_id:cam1}",
        b'{"_id":7}',
        b'{"_id":null}',
        b'{"_id":"' + b"x" * 129 + b'"}',
        b'{"_expires_s":"1"}',
        b'{"_expires_s":true}',
        b'{"_expires_s":-1}',
        b'{"_expires_s":1e999}',
        b'{"_expires_s":1' + b"0" * 400 + b"}",
        b'{"_deadline_s":"1"}',
        b'{"_deadline_s":-0.1}',
        b"{}{}",
        b" " * (64 * 1024 + 1),
    ],
)
def test_a_refused_command_by_hand(payload: bytes) -> None:
    with pytest.raises(RemoteWireError):
        codec.decode_command("f", payload)


def test_a_result_is_told_from_its_first_byte() -> None:
    assert codec.decode_result(b' {"function":"f","state":"succeeded"}').state is CommandState.SUCCEEDED
