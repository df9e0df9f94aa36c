"""What agent and coordinator really say is as core declares it: today's facts, and recorded bytes of each version."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from agent.decide.decider import Decider
from agent.decide.facts import Fact
from agent.outbox.rows import draft_of
from agent.results.result import FRAME, Result
from agent.sync.policy import Shaper
from agent.sync.progress import Progress
from coordinator.fleet.news import fleet_news
from coordinator.fleet.registry import Fleet, LivenessRules, Moment
from coordinator.store.store import Row
from platforms.catalogue import open_catalogue
from schemas import codec
from schemas.blobs import Held, Offer, Refused
from schemas.language.schema import Ref
from schemas.language.validators import InvalidError, Validators
from schemas.messages import Birth, SyncBatch
from schemas.shape import fields_of
from schemas.sync import DataFilter, parse_policy
from schemas.topics import Kind
from tests.decide.film import LABELS, Thing, show
from tests.decide.test_decider import EVERYTHING
from tests.schemas.test_golden import GOLDEN

CATALOGUE = open_catalogue()
CORE = Validators(CATALOGUE.schemas[0])
NOON = 1_795_521_600_000


def check(kind: str, data: Mapping[str, Any]) -> str:
    assert CATALOGUE.check(kind, data), f"{kind} is declared nowhere"
    assert CATALOGUE.check_json(kind, json.dumps(data))
    return kind


def film() -> list[Fact]:
    rules = tuple(replace(rule, update_interval_s=0.5) for rule in EVERYTHING.rules)
    decider = Decider("cam1", LABELS, replace(EVERYTHING, rules=rules))
    facts: list[Fact] = []
    for k in range(40):
        things = [Thing(7, 0.25 + 0.015 * k, 0.5, last_seen_s=k / 10), Thing(8, 0.5, 0.5, "car", last_seen_s=k / 10)]
        facts += show(decider, k / 10, *things[: 1 + (k < 20)])
    facts += show(decider, 9.0)
    return facts + decider.finish(9.5)


def test_every_fact_of_a_film_is_as_declared() -> None:
    drafts = [draft_of(fact, camera_id="cam1", time_utc_ms=NOON) for fact in film()]
    assert {check(draft.type, draft.data) for draft in drafts} == {
        "ObjectSeen", "ObjectUpdated", "ObjectGone", "LineCrossed", "ZoneCountChanged", "FrameAnalyzed",
        "AlertRaised", "AlertUpdated", "AlertCleared",
    }  # fmt: skip


@pytest.mark.parametrize(
    "policy",
    [{"mode": "all"}, {"mode": "aggregate", "window_s": 1}, {"mode": "changes"}],
    ids=lambda one: one["mode"],
)
def test_every_sample_under_every_policy_is_as_declared(policy: dict[str, Any]) -> None:
    shaper = Shaper(parse_policy(policy), "cam1", "gate")
    seen = {"object_id": "1", "class": "car", "confidence": 0.5, "box": [0.0, 0.0, 5.0, 5.0]}
    rows = []
    for n in range(50):
        data = {
            "camera_id": "cam1", "pipeline": "gate", "time_s": n / 10, "frame_width": 640, "frame_height": 480,
            "objects": [seen] * (n % 3),
        }  # fmt: skip
        rows += shaper.frame(Result(NOON + n * 100, "cam1", "gate", FRAME, "cam1", data))
    rows += shaper.finish()
    assert len({check(row.type, row.data) for row in rows}) == 1
    check(rows[0].type, {**rows[0].data, "sync_id": "s1", "row": 3})  # as a part of one sending


def test_what_the_fleet_is_told_of_a_sending_has_what_platforms_declare() -> None:
    progress = Progress("s1", DataFilter(), "e", 5, 5, 1.0, rows=3, bytes=900)
    data = progress.result(2.5, "completed")
    check("CloudSyncCompleted", data)
    news = fleet_news(Row("gw-1", "s", "event", 1, "CloudSyncCompleted", "s1", None, 1, 2, 1, json.dumps(data)))
    assert news is not None
    check(news.type, news.data)
    assert (news.data["bytes_synced"], news.data["duration_ms"], news.data["node"]) == (900, 1500, "gw-1")


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ({"lat": 52.5, "lon": 13.4}, {"lat": 52.5, "lon": 13.4}),
        ({"lat": 52.5, "lon": 13.4, "alt": 34.0}, {"lat": 52.5, "lon": 13.4, "alt": 34.0}),
        ({}, None),
        ({"lat": 52.5}, None),
        ({"lat": 520.5, "lon": 13.4}, None),
    ],
)
def test_a_registration_has_what_platforms_declare(location: dict[str, float], told: dict[str, float] | None) -> None:
    draft = Fleet([], LivenessRules(), 0).draft()
    draft.birth("gw-1", Birth(1, 1, location=location, labels={"line": "3"}), Moment(1, 2), live=True)
    for event in draft.events:
        check(event.type, event.data)
    (event,) = (one for one in draft.events if one.type == "NodeRegistered")
    assert (event.data["node"], event.data["node_id"], event.data["location"]) == ("gw-1", "gw-1", told)


# ---- recorded bytes -----------------------------------------------------------------------------

WHAT = {
    "status.json": "Status", "will.json": "Status", "birth.json": "Birth", "heartbeat.msgpack": "Heartbeat",
    "sync.msgpack": "Sync_Batch", "sync-gaps.msgpack": "Sync_Batch",
    "sync-samples.msgpack": "Sync_Batch", "ack.msgpack": "Ack",
    "ack-closed.msgpack": "Ack", "desired.json": "Desired", "reported.json": "Reported",
    "reported-pending.json": "Reported", "result.json": "Result",
    "result.msgpack": "Result",
}  # fmt: skip


@pytest.mark.parametrize("golden", [one for one in GOLDEN if one.name in WHAT], ids=lambda golden: golden.name)
def test_recorded_documents_are_as_declared(golden: Any) -> None:
    validator = CORE.type(Ref(WHAT[golden.name]))
    payload = golden.path.read_bytes()
    read = validator.decode_msgpack if golden.name.endswith(".msgpack") else validator.decode_json
    assert read(payload) == validator(fields_of(golden.value))


def test_every_recorded_file_is_looked_at() -> None:
    others = {"cmd", "event", "alert", "blob"}
    assert {one.name for one in GOLDEN if one.name.split("-")[0].split(".")[0] not in others} >= set(WHAT)


@pytest.mark.parametrize(
    "golden", [one for one in GOLDEN if one.name.startswith(("event", "alert"))], ids=lambda golden: golden.name
)
def test_recorded_events_are_as_declared(golden: Any) -> None:
    check(golden.value.type, golden.value.data)
    check(golden.value.type, {**golden.value.data, "of_a_later_version": {"a": [1]}})


def test_recorded_commands_and_heads_of_blobs_are_as_declared() -> None:
    for golden in GOLDEN:
        if golden.name.startswith("cmd"):
            CORE.arguments(golden.value.function)(golden.value.arguments)
        if golden.name.startswith("blob") and isinstance(golden.value, Offer | Held | Refused):
            payload = golden.path.read_bytes()
            head = msgpack.unpackb(payload[2 : 2 + int.from_bytes(payload[:2], "big")])
            CORE.type(Ref(type(golden.value).__name__)).check(head)


@pytest.mark.parametrize(
    ("name", "types"),
    [("sync.msgpack", {"Rates": False}), ("sync-samples.msgpack", {"ResultAggregate": True, "StreamSample": True})],
)
def test_recorded_rows_pass_and_some_are_of_types_that_nobody_declares(name: str, types: dict[str, bool]) -> None:
    golden = next(one for one in GOLDEN if one.name == name)
    batch = codec.decode_packed(SyncBatch, Kind.SYNC, golden.path.read_bytes())
    assert {row.type: CATALOGUE.check(row.type, row.data) for row in batch.rows} == types


def test_a_fact_that_lacks_something_is_none() -> None:
    with pytest.raises(InvalidError, match="line: is missing; it must be a text"):
        CATALOGUE.check("LineCrossed", {"camera_id": "cam1"})
