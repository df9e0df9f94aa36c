"""What is refused and why; what can be attributed names its row, so that its sender hears of it."""

import json
from typing import Any

import msgpack
import pytest

from coordinator.ingest.decode import Decoder, Facts, News, Nothing
from coordinator.store.store import RefusedMessage, ResultRow
from runtime.mqtt import Delivery
from schemas.codec import encode_document, encode_packed, encode_result
from schemas.messages import (
    Birth,
    CallProgress,
    CommandState,
    Heartbeat,
    Presence,
    Result,
    Severity,
    Status,
    SyncBatch,
    SyncRow,
)
from schemas.topics import TopicSpace
from tests.coordinator.sender import alert_payload, event_payload

NOW = 1_764_000_000_000
EVENT = "edge/v1/gw-1/event/ObjectSeen"
SYNC = "edge/v1/gw-1/sync"


def decode(topic: str, payload: bytes) -> Any:
    return Decoder(TopicSpace()).decode(Delivery(topic, payload, 1, False, 1), NOW)


def changed(**fields: Any) -> bytes:
    raw = json.loads(event_payload("gw-1", 5))
    raw.update(fields)
    return json.dumps({key: value for key, value in raw.items() if value is not ...}).encode()


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return {"deep": value}


@pytest.mark.parametrize(
    ("topic", "payload", "said", "seq"),
    [
        (EVENT, b"hello", "no JSON", 0),
        (EVENT, b"\xff\xfe", "no JSON", 0),
        (EVENT, b"[1, 2]", "no object", 0),
        (EVENT, b"[" * 100_000, "no JSON", 0),
        (EVENT, b'{"specversion": NaN}', "no JSON", 0),
        (EVENT, b"", "no JSON", 0),
        (EVENT, changed(data={"x": "y" * 140_000}), "at most", 5),
        (EVENT, changed(data=nested(40)), "nested deeper", 5),
        (EVENT, changed(specversion="0.3"), "specversion", 5),
        (EVENT, changed(source="/edge/v1/gw-2"), "not node gw-1", 5),
        (EVENT, changed(source=...), "source", 5),
        (EVENT, changed(edgeseq="-1"), "edgeseq is '-1'", 0),
        (EVENT, changed(edgeseq="0"), "edgeseq", 0),
        (EVENT, changed(edgeseq=str(2**70)), "edgeseq", 0),
        (EVENT, changed(edgeseq=True), "edgeseq", 0),
        (EVENT, changed(edgeseq=5), "edgeseq", 0),
        (EVENT, changed(edgeseq=...), "edgeseq is None", 0),
        (EVENT, changed(edgestream=""), "edgestream", 0),
        (EVENT, changed(edgestream="s" * 201), "edgestream", 0),
        (EVENT, changed(edgelane="No Lane!"), "No Lane!", 0),
        (EVENT, changed(edgeboot=2**70), "edgeboot", 5),
        (EVENT, changed(edgeboot=-1), "edgeboot", 5),
        (EVENT, changed(time="yesterday"), "isoformat", 5),
        (EVENT, changed(time="2026-01-01T00:00:00"), "no zone", 5),
        (EVENT, changed(data=[1]), "data must be an object", 5),
        (EVENT, changed(type="LineCrossed"), "its topic 'ObjectSeen'", 5),
        (EVENT, changed(data={"text": "\ud800"}), "Unicode", 5),
        (EVENT, changed(subject="\ud800"), "Unicode", 5),
        (EVENT, changed(edgeseverity="mild"), "mild", 5),
        ("edge/v1/gw-1/alert/critical", alert_payload("gw-1", 5), "its topic 'critical'", 5),
        ("edge/v1/gw-1/alert/warning", event_payload("gw-1", 5), "its topic 'warning'", 5),
        ("edge/v1/gw-1/gossip", b"{}", "no known kind", 0),
        ("edge/v1/GW 1/status", b"{}", "no node name", 0),
        ("other/v1/x", b"{}", "not below", 0),
        ("edge/v1/gw-1/blob/up/x", b"{}", "no message of this kind", 0),
        ("edge/v1/gw-1/status", b'{"state": "gone"}', "must be one of", 0),
        ("edge/v1/gw-1/status", b'{"state": "online", "boot": -1}', "at least 0", 0),
        ("edge/v1/gw-1/status", b'{"state": "online", "reason": "\\ud800"}', "Unicode", 0),
        ("edge/v1/gw-1/birth", b'{"labels": {"a": "\\ud800"}}', "Unicode", 0),
        ("edge/v1/gw-1/birth", b'{"labels": [1]}', "labels", 0),
        ("edge/v1/gw-1/heartbeat", b"\x90", "no object", 0),
        (SYNC, b"\xc1", "no msgpack", 0),
        (SYNC, msgpack.packb({"stream": "", "rows": []}), "stream", 0),
        (SYNC, msgpack.packb({"stream": "s", "rows": 4}), "must be a list", 0),
        (SYNC, msgpack.packb({"stream": "s", "rows": [{"lane": "sample"}]}), "rows[0]", 0),
        ("edge/v1/gw-1/result/x", b'{"function": "x", "state": "odd"}', "must be one of", 0),
    ],
)  # fmt: skip
def test_refused_with_the_reason(topic: str, payload: bytes, said: str, seq: int) -> None:
    refused = decode(topic, payload)
    assert isinstance(refused, RefusedMessage), refused
    assert said in refused.reason
    assert refused.seq == seq
    assert refused.payload == payload
    assert len(refused.reason) <= 200


def test_an_event_becomes_one_row() -> None:
    facts = decode(EVENT, event_payload("gw-1", 5))
    assert isinstance(facts, Facts)
    (row,) = facts.rows
    assert row == (
        "gw-1", "s1", "event", 5, "ObjectSeen", "cam1", None, 1_764_000_000_005, NOW, 1, '{"n":5}',
    )  # fmt: skip


def test_an_alert_keeps_its_severity() -> None:
    facts = decode("edge/v1/gw-1/alert/critical", alert_payload("gw-1", 5, Severity.CRITICAL))
    assert facts.rows[0].severity == "critical"


def test_unknown_fields_are_tolerated() -> None:
    assert isinstance(decode(EVENT, changed(edgenew={"a": 1}, other=2)), Facts)


def test_a_bad_row_of_a_batch_bars_no_other() -> None:
    rows = [SyncRow("sample", seq, "Counts", "cam1", 7, {"n": seq}) for seq in (1, 2, 3)]
    raw = msgpack.unpackb(encode_packed(SyncBatch("s1", 1, rows)))
    raw["rows"][1]["data"] = [1]
    raw["rows"][2]["data"] = {"raw": b"bytes are no JSON"}
    facts = decode(SYNC, msgpack.packb(raw))
    assert [row.seq for row in facts.rows] == [1]
    assert {item.seq: item.payload[:1] for item in facts.refused} == {2: b"{", 3: b"{"}
    assert all(item.stream == "s1" and item.lane == "sample" for item in facts.refused)


@pytest.mark.parametrize(
    ("below", "payload", "kind"),
    [
        ("status", encode_document(Status(Presence.ONLINE)), Status),
        ("birth", encode_document(Birth()), Birth),
        ("heartbeat", encode_packed(Heartbeat()), Heartbeat),
    ],
)
def test_news_of_a_node(below: str, payload: bytes, kind: type) -> None:
    news = decode(f"edge/v1/gw-1/{below}", payload)
    assert isinstance(news, News) and isinstance(news.document, kind) and news.node == "gw-1"


@pytest.mark.parametrize("topic", ["edge/v1/fleet/event/NodeOnline", "edge/v1/coordinator/status"])
def test_our_own_words_are_not_taken_again(topic: str) -> None:
    assert isinstance(decode(topic, b"anything"), Nothing)


def test_a_cleared_retained_status_is_nothing() -> None:
    assert isinstance(decode("edge/v1/gw-1/status", b""), Nothing)


def test_how_far_a_call_is_is_not_kept() -> None:
    running = Result("analyse", CommandState.RUNNING, "id1", "gw-1", NOW, progress=CallProgress(0.4))
    assert isinstance(decode("edge/v1/gw-1/result/analyse", encode_result(running, packed=False)), Nothing)


def test_a_large_result_is_kept_without_its_body() -> None:
    result = Result("snapshot", CommandState.SUCCEEDED, "id1", "gw-1", NOW, {"jpeg": "x" * 100_000})
    row = decode("edge/v1/gw-1/result/snapshot", encode_result(result, packed=False))
    assert isinstance(row, ResultRow)
    assert json.loads(row.document)["result"] is None
    assert json.loads(row.document)["result_bytes"] > 100_000
