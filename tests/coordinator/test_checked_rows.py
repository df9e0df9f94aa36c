"""Rows against the schemas at the coordinator: refused with the field, kept raw, or counted as unchecked."""

import json
from typing import Any

import pytest

from coordinator.ingest.decode import Decoded, Decoder, Facts
from coordinator.store.store import RefusedMessage
from platforms.catalogue import open_catalogue
from runtime.mqtt import Delivery
from schemas.codec import encode_packed
from schemas.messages import SyncBatch, SyncRow
from schemas.topics import TopicSpace
from tests.coordinator.sender import alert_payload, event_payload

CATALOGUE = open_catalogue()


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(TopicSpace(), CATALOGUE)


def decode(decoder: Decoder, below: str, payload: bytes) -> Facts:
    said: Decoded = decoder.decode(Delivery(f"edge/v1/gw-1/{below}", payload, 1, False, 1), 7)
    assert isinstance(said, Facts)
    return said


def row(seq: int, kind: str, data: dict[str, Any]) -> SyncRow:
    return SyncRow("sample", seq, kind, "cam1", 7, data)


def test_what_is_as_declared_is_taken_with_the_fields_of_later_versions(decoder: Decoder) -> None:
    facts = decode(decoder, "event/ObjectSeen", event_payload("gw-1", 5))
    assert json.loads(facts.rows[0].data) == {"camera_id": "cam1", "box": [0, 0, 1, 1], "n": 5}
    assert len(decode(decoder, "alert/warning", alert_payload("gw-1", 1)).rows) == 1
    assert (decoder.invalid_total, decoder.unchecked_total) == (0, 0)


def test_an_event_that_is_not_as_declared_is_refused_with_the_field_and_kept_raw(decoder: Decoder) -> None:
    payload = event_payload("gw-1", 5, data={"camera_id": "cam1", "box": [0, 0, 1], "confidence": 1.5})
    facts = decode(decoder, "event/ObjectSeen", payload)
    assert facts.rows == []
    (refused,) = facts.refused
    assert isinstance(refused, RefusedMessage)
    assert (refused.stream, refused.lane, refused.seq, refused.payload) == ("s1", "event", 5, payload)
    assert refused.reason.startswith("ObjectSeen: confidence: 1.5 must be a number from 0 to 1; box: 3 items")
    assert decoder.invalid_total == 1


def test_of_a_batch_only_the_wrong_rows_are_refused(decoder: Decoder) -> None:
    counts = {"camera_id": "cam1", "pipeline": "p", "counts": {"car": 1}}
    rows = [
        row(1, "CountsChanged", counts),
        row(2, "CountsChanged", {"camera_id": "cam1"}),
        row(3, "Rates", {"n": 1}),
    ]
    facts = decode(decoder, "sync", encode_packed(SyncBatch("s1", 1, rows)))
    assert [one.seq for one in facts.rows] == [1, 3]
    (refused,) = facts.refused
    assert (refused.seq, refused.lane, refused.payload) == (2, "sample", b'{"camera_id":"cam1"}')
    assert "CountsChanged: pipeline: is missing" in refused.reason
    assert (decoder.invalid_total, decoder.unchecked_total) == (1, 1)


def test_without_schemas_nothing_is_checked() -> None:
    payload = event_payload("gw-1", 5, data={})
    assert len(decode(Decoder(TopicSpace()), "event/ObjectSeen", payload).rows) == 1
