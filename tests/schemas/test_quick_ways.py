"""The quick ways of reading messages and the slow ones agree: on what they read, and on what they refuse."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.ingest.decode import Decoder, Facts
from coordinator.store.store import RefusedMessage
from platforms.catalogue import open_catalogue
from runtime.mqtt import Delivery
from schemas import codec
from schemas.compiled import json_of, packed_of
from schemas.documents import Conflict, Reported, Written, canonical, content_hash, decode_reported, encode, sealed
from schemas.errors import RemoteWireError
from schemas.fields import Rule
from schemas.messages import Ack, Birth, Heartbeat, Status
from schemas.shape import fields_of
from schemas.shape import read as read_shape
from schemas.topics import Kind, TopicSpace

ODD: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["\ud800", 3.0, 2**63, 2**63 - 1, -1, "online", "info", "critical", "x" * 201]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
STREAM = {"camera": "cam1", "state": "running", "fps": 9.5, "counts": {"person": 3}, "frames_total": 7}
SOUND: dict[type, tuple[Kind, bool, dict[str, Any]]] = {
    Heartbeat: (
        Kind.HEARTBEAT,
        True,
        {"boot": 1, "session": 2, "seq": 3, "cpu_percent": 4, "outbox_pending": {"event": 1}, "streams": [STREAM]},
    ),
    Birth: (
        Kind.BIRTH,
        False,
        {"boot": 1, "labels": {"a": "b"}, "hardware": {"accelerators": ["gpu"]}, "resources": {"cores": 4}},
    ),
    Status: (Kind.STATUS, False, {"state": "online", "boot": 1, "reason": ""}),
    Ack: (
        Kind.ACK,
        True,
        {
            "stored": [{"stream": "s", "lane": "event", "ranges": [[1, 4], [6, 6]]}],
            "refused": [{"stream": "s", "lane": "event", "seq": 5, "reason": "no"}],
            "closed": [{"stream": "s", "lane": "alert", "first": 1, "last": 9, "held": [[2, 3]]}],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        read_shape(Heartbeat, SOUND[Heartbeat][2], strict=False),
        read_shape(Birth, SOUND[Birth][2], strict=False),
        Conflict("a", Rule.LAST_WRITER, {"b": [None, 1.5, True, "é\n\x00"]}, "1", 2**62, "2", None, "node"),
        Reported(stamps={"a": Written("1", "2")}, local={"a": 2**62}),
        {"rule": Rule.LAST_WRITER, "path": Path("/a")},
    ],
)
def test_json_is_made_as_the_slow_way_makes_it(value: object) -> None:
    assert json.loads(json_of(value)) == fields_of(value)
    assert msgpack.unpackb(packed_of(value)) == fields_of(value)


@st.composite
def messages(draw: st.DrawFn) -> tuple[type, bytes]:
    """One as it should be, with a few places changed to something else."""
    cls = draw(st.sampled_from(list(SOUND)))
    _, packed, sound = SOUND[cls]
    fields = json.loads(json.dumps(sound))
    for _ in range(draw(st.integers(0, 2))):
        where = fields
        if draw(st.booleans()) and fields.get("streams") == [STREAM]:
            where = fields["streams"][0]
        if "stored" in fields and draw(st.booleans()):
            fields["stored"] = [{"stream": "s", "lane": "event", "ranges": draw(ODD)}]
        where[draw(st.sampled_from([*where, "later", "v", "instance"]))] = draw(ODD)
    try:
        return cls, msgpack.packb(fields) if packed else json.dumps(fields, ensure_ascii=draw(st.booleans())).encode()
    except (OverflowError, ValueError):  # more than msgpack has, or half a character
        return cls, b"\x80" if packed else b"{}"


def read(cls: type, payload: bytes) -> Any:
    kind, packed, _ = SOUND[cls]
    try:
        return (codec.decode_packed if packed else codec.decode_document)(cls, kind, payload)
    except RemoteWireError as error:
        return str(error)


@settings(max_examples=400)
@given(messages())
def test_documents_are_read_and_refused_alike(message: tuple[type, bytes]) -> None:
    cls, payload = message
    quickly = read(cls, payload)
    with patch("schemas.codec.quick_reader", lambda *args, **more: None):
        assert read(cls, payload) == quickly


@pytest.mark.parametrize("cls", SOUND)
def test_what_is_sound_takes_the_quick_way(cls: type) -> None:
    _, packed, fields = SOUND[cls]
    payload = msgpack.packb(fields) if packed else json.dumps(fields).encode()
    with patch("schemas.codec._shaped", side_effect=AssertionError):
        assert fields_of(read(cls, payload)).items() >= {k: v for k, v in fields.items() if k != "streams"}.items()


REPORT: dict[str, Any] = fields_of(
    Reported(
        3, 4, 1, 2, "f" * 32, {"heartbeat_s": 15, "pipelines.door.model": {"model": "finder@1.0.0", "digest": ""}},
        {"log.level": "INFO"}, {"log.level": Written("1795521600123.0.gw-1")}, {"sync": "cannot be"},
        [Conflict("log.level", Rule.CLOUD_WINS, "INFO", "1.0.c", "DEBUG", "2.0.n", "INFO", "coordinator")],
        pending={"models.finder.release": "prefetching 40 %"},
    )
)  # fmt: skip


@st.composite
def reports(draw: st.DrawFn) -> bytes:
    """A report with a few places changed, or gone; as agents write it or otherwise; mostly with the right hash."""
    fields = json.loads(json.dumps(REPORT))
    for _ in range(draw(st.integers(0, 2))):
        inner = [fields["fields"], fields["stamps"], *(one for one in fields["conflicts"] if isinstance(one, dict))]
        where = draw(st.sampled_from([fields, *(one for one in inner if isinstance(one, dict))]))
        key = draw(st.sampled_from([*where, "later", "hash"]))
        if key != "hash" and draw(st.booleans()) and where is not fields:
            where.pop(key, None)
        elif where is not fields or key in ("boot", "serial", "later", "clock_ahead_ms", "pending", "desired_hash"):
            where[key] = draw(ODD)
    fields["hash"] = draw(st.sampled_from([None, "f" * 32]))
    try:
        fields["hash"] = fields["hash"] or content_hash(fields)
        if draw(st.booleans()):
            return canonical(fields).encode()
        return json.dumps(fields, sort_keys=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))).encode()
    except (ValueError, UnicodeEncodeError):
        return b"{}"


def report_of(payload: bytes) -> Any:
    try:
        return decode_reported(payload)
    except RemoteWireError as error:
        return str(error)


@settings(max_examples=400)
@given(reports())
def test_reports_are_read_and_refused_alike(payload: bytes) -> None:
    quickly = report_of(payload)
    with patch("schemas.documents.quick_document", lambda *args: None):
        assert repr(report_of(payload)) == repr(quickly)


def test_a_report_as_agents_write_it_takes_the_quick_way() -> None:
    for report in (read_shape(Reported, REPORT, strict=True), Reported(1, 1)):
        payload = encode(report)
        with patch("schemas.documents.decode_object", side_effect=AssertionError):
            found = decode_reported(payload)
        assert found == sealed(report) == decode_reported(json.dumps(json.loads(payload), indent=1).encode())


EVENT: dict[str, Any] = {
    "specversion": "1.0", "id": "0f1e.event.4", "source": "/edge/v1/gw-1", "type": "ObjectSeen", "subject": "cam1/7",
    "time": "2026-11-24T12:00:00.123Z", "datacontenttype": "application/json", "edgestream": "0f1e",
    "edgelane": "event", "edgeseq": "4", "edgeboot": 3,
    "data": {
        "camera_id": "cam1", "object_id": "7", "class": "person", "confidence": 0.5, "box": [0, 0, 10, 10],
        "age_s": 0.0, "frame_width": 640, "frame_height": 480,
    },
}  # fmt: skip
ALERT = EVENT | {"type": "AlertRaised", "edgeseverity": "warning", "id": "0f1e.alert.4", "edgelane": "alert"}
ALERT["data"] = {"camera_id": "cam1", "rule": "r", "alert_id": "a"}
CATALOGUE = open_catalogue()


@st.composite
def events(draw: st.DrawFn) -> tuple[str, bytes]:
    alert = draw(st.booleans())
    fields = json.loads(json.dumps(ALERT if alert else EVENT))
    for _ in range(draw(st.integers(0, 2))):
        where = fields["data"] if draw(st.booleans()) and isinstance(fields.get("data"), dict) else fields
        key = draw(st.sampled_from([*where, "later", "edgeseverity"]))
        if draw(st.booleans()):
            where[key] = draw(ODD)
        else:
            where.pop(key, None)
    indent = draw(st.sampled_from([None, 1]))
    text = json.dumps(fields, indent=indent, ensure_ascii=draw(st.booleans()))
    return ("alert/warning" if alert else "event/ObjectSeen"), text.encode("utf-8", "surrogatepass")


def decoded(topic: str, payload: bytes) -> Any:
    found = Decoder(TopicSpace(), CATALOGUE).decode(Delivery(f"edge/v1/gw-1/{topic}", payload, 1, False, 1), 5)
    if isinstance(found, RefusedMessage):
        return found
    assert isinstance(found, Facts)
    rows = [(row[:-1], json.loads(row.data)) for row in found.rows]
    return rows, found.refused


@settings(max_examples=400)
@given(events())
def test_events_are_read_and_refused_alike(event: tuple[str, bytes]) -> None:
    quickly = decoded(*event)
    with patch("schemas.codec.open_event", lambda *args: None):
        assert decoded(*event) == quickly


@pytest.mark.parametrize(("topic", "event"), [("event/ObjectSeen", EVENT), ("alert/warning", ALERT)])
def test_an_event_as_declared_takes_the_quick_way(topic: str, event: dict[str, Any]) -> None:
    with patch("schemas.codec.decode_event", side_effect=AssertionError):
        rows, refused = decoded(topic, json.dumps(event).encode())
    assert not refused
    assert rows[0][1] == event["data"]
    assert len(rows) == 1
