"""Recorded bytes of each wire version. Run as a program, it records those that are not there yet."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from schemas import WIRE_VERSION, codec, documents
from schemas.blobs import Chunk, Held, Offer, Reason, Refused, decode_down, decode_up, encode_blob
from schemas.compress import compress, decompress, is_compressed
from schemas.documents import Conflict, Desired, Reported, Written
from schemas.fields import Rule
from schemas.hlc import Stamp
from schemas.identity import Identity
from schemas.messages import (
    Ack,
    Birth,
    CallProgress,
    Closed,
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
from schemas.state_registers import StateChange
from schemas.topics import Kind

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "v1"
STREAM = "0f1e2d3c4b5a6978"
INSTANCE = "9c0d1e2f3a4b5c6d"
NOON_UTC_MS = 1_795_521_600_123
# Beside the others: which bytes a compressor finds for the same content is its own affair, and changes with it.
COMPRESSED = FOLDER / "sync-compressed.msgpack.zst"
COMPRESSED_BATCH = SyncBatch(
    STREAM, 3, [SyncRow("sample", n, "Rates", "cam1", NOON_UTC_MS + n, {"fps": 29.5, "n": n}) for n in range(1, 21)]
)


@dataclass(frozen=True, slots=True)
class Golden:
    """A file, the value it stands for, and both ways between them."""

    name: str
    value: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    @property
    def path(self) -> Path:
        return FOLDER / self.name


def document(name: str, kind: Kind, value: Any) -> Golden:
    cls = type(value)
    return Golden(name, value, codec.encode_document, lambda payload: codec.decode_document(cls, kind, payload))


def packed(name: str, kind: Kind, value: Any) -> Golden:
    cls = type(value)
    return Golden(name, value, codec.encode_packed, lambda payload: codec.decode_packed(cls, kind, payload))


def event(name: str, kind: Kind, value: Event) -> Golden:
    return Golden(name, value, codec.encode_event, lambda payload: codec.decode_event(kind, "gw-1", payload))


def command(name: str, value: Command) -> Golden:
    return Golden(name, value, codec.encode_command, lambda payload: codec.decode_command(value.function, payload))


def result(name: str, value: Result, *, packed: bool) -> Golden:
    return Golden(name, value, lambda one: codec.encode_result(one, packed=packed), codec.decode_result)


def blob(name: str, value: Offer | Chunk | Held | Refused) -> Golden:
    return Golden(name, value, encode_blob, decode_up if isinstance(value, Offer | Chunk) else decode_down)


def sealed_document(name: str, value: Desired | Reported) -> Golden:
    decode = documents.decode_desired if isinstance(value, Desired) else documents.decode_reported
    return Golden(name, documents.sealed(value), documents.encode, decode)


GOLDEN = [
    document("status.json", Kind.STATUS, Status(Presence.ONLINE, 3, 2, NOON_UTC_MS)),
    document("will.json", Kind.STATUS, Status(Presence.OFFLINE, 3, 2, 0, "connection lost")),
    document(
        "birth.json",
        Kind.BIRTH,
        Birth(
            3, 2, "Gate 1", "Edge_Gateway", "plant-7", {"line": "a"}, {"lat": 52.5, "lon": 13.4},
            {"arch": "x86_64", "accelerators": ["edgetpu"]}, {"cores": 4.0}, {"agent": "0.1.0"}, ["core"],
            ["snapshot", "status"], ["cam1"], STREAM,
        ),
    ),
    document("status-instance.json", Kind.STATUS, Status(Presence.ONLINE, 3, 2, NOON_UTC_MS, instance=INSTANCE)),
    document(
        "birth-instance.json",
        Kind.BIRTH,
        Birth(
            3, 2, "Gate 1", hardware={"arch": "arm64", "accelerators": ["edgetpu"]},
            resources={"cores": 4.0, "tpu": 1.0}, stream=STREAM, instance=INSTANCE, allocated={"cores": 1.0},
        ),
    ),
    packed(
        "heartbeat.msgpack",
        Kind.HEARTBEAT,
        Heartbeat(
            3, 2, 17, 240.5, NOON_UTC_MS, 41.0, 120.25, None, 9000.0, 1.5, {"event": 3},
            [StreamReport("cam1", "people", "running", 7000, 1200, 4, 29.5, 3.5, 5.25, 7.0, "litert", {"person": 9})],
            "00112233", "", "",
        ),
    ),
    event(
        "event.json",
        Kind.EVENT,
        Event(
            Identity("gw-1", STREAM, "event", 41), "ObjectSeen", "cam1/7", NOON_UTC_MS,
            {"camera_id": "cam1", "label": "pèrson", "score": 0.875, "box": [1, 2, 3.5, 4]}, 3,
        ),
    ),
    event(
        "alert.json",
        Kind.ALERT,
        Event(
            Identity("gw-1", STREAM, "alert", 5), "AlertRaised", "cam1/gate", NOON_UTC_MS,
            {"rule": "person-at-gate", "alert_id": "a1", "state": "raised"}, 3, Severity.CRITICAL,
        ),
    ),
    event(
        "event-crossed.json",
        Kind.EVENT,
        Event(
            Identity("gw-1", STREAM, "event", 42), "LineCrossed", "gate", NOON_UTC_MS,
            {
                "camera_id": "cam1", "time_s": 12.5, "line": "gate", "direction": "in", "object_id": "cam1-3.1-7",
                "class": "person", "confidence": 0.875, "box": [1.0, 2.5, 30.0, 40.0], "frame_width": 1280,
                "frame_height": 720, "counts": {"in": {"person": 4}, "out": {}},
            }, 3,
        ),
    ),
    event(
        "event-synced.json",
        Kind.EVENT,
        Event(
            Identity("gw-1", STREAM, "event", 43), "CloudSyncCompleted", "s1", NOON_UTC_MS,
            {
                "sync_id": "s1", "outcome": "completed", "rows": 12, "bytes": 3400, "skipped": 1, "duration_s": 2.25,
                "bytes_synced": 3400, "duration_ms": 2250,
            }, 3,
        ),
    ),
    event(
        "event-invalid.json",
        Kind.EVENT,
        Event(
            Identity("gw-1", STREAM, "event", 44), "InvalidEvent", "gate", NOON_UTC_MS,
            {
                "type": "LineCrossed", "field": "direction",
                "reason": "direction: 'up' must be one of in, out", "data": '{"direction": "up"}',
            }, 3,
        ),
    ),
    event(
        "alert-updated.json",
        Kind.ALERT,
        Event(
            Identity("gw-1", STREAM, "alert", 6), "AlertUpdated", "cam1", NOON_UTC_MS,
            {
                "camera_id": "cam1", "time_s": 14.0, "rule": "somebody", "zone": None, "duration_s": 1.5,
                "best_confidence": 0.9, "count": 1, "objects": [
                    {"object_id": "cam1-3.1-7", "class": "person", "confidence": 0.9, "box": [1.0, 2.0, 3.0, 4.0]}
                ],
                "frame_width": 1280, "frame_height": 720, "alert_id": "cam1-3.1-somebody-1", "state": "updated",
            }, 3, Severity.WARNING,
        ),
    ),
    packed(
        "sync-samples.msgpack",
        Kind.SYNC,
        SyncBatch(
            STREAM, 3, [
                SyncRow("sample", 10, "ResultAggregate", "cam1", NOON_UTC_MS, {
                    "camera_id": "cam1", "pipeline": "gate", "window_s": 60.0, "frames": 2,
                    "objects": {"min": 0, "max": 1, "mean": 0.5}, "bounds": [0.5, 0.8],
                    "classes": {"person": {
                        "detections": 1, "count": {"min": 0, "max": 1, "mean": 0.5},
                        "confidence": {"min": 0.75, "max": 0.75, "mean": 0.75}, "histogram": [0, 1, 0],
                    }},
                }),
                SyncRow("sample", 11, "StreamSample", "cam1", NOON_UTC_MS, {
                    "camera_id": "cam1", "pipeline": "gate", "time_s": 30.0, "frames_total": 900,
                    "detections_total": 12,
                    "totals": {
                        "objects": {"person": 2}, "detections": {"person": 12},
                        "lines": {"gate": {"in": {"person": 1}, "out": {}}},
                    },
                    "now": {
                        "objects": 1, "zones": {"dock": {"counts": {"person": 1}, "total": 1, "dwell_s_max": 2.5}},
                        "alerts": ["cam1-3.1-somebody-1"],
                    },
                }),
            ],
        ),
    ),
    packed(
        "sync.msgpack",
        Kind.SYNC,
        SyncBatch(STREAM, 3, [SyncRow("sample", 9, "Rates", "cam1", NOON_UTC_MS, {"fps": 29.5, "ok": True})]),
    ),
    packed(
        "ack.msgpack",
        Kind.ACK,
        Ack([LaneAck(STREAM, "event", [(1, 4), (6, 6)])], [Refusal(STREAM, "sample", 9, "unknown type")]),
    ),
    packed(
        "sync-gaps.msgpack",
        Kind.SYNC,
        SyncBatch(STREAM, 3, [], [Gap(STREAM, "sample", 10, 4000, "bytes"), Gap("0f" * 8, "event", 7, 7, "damaged")]),
    ),
    packed(
        "sync-state.msgpack",
        Kind.SYNC,
        SyncBatch(
            STREAM,
            3,
            [
                SyncRow(
                    "state", 17, "StateChanged", "IS-001", NOON_UTC_MS,
                    StateChange(
                        "traffic.intersections", "IS-001", {"phase": "red", "queue": [3, 0]},
                        Stamp(NOON_UTC_MS, 0, "gw-1"),
                    ).data(),
                ),
                SyncRow(
                    "state", 18, "StateChanged", "IS-002", NOON_UTC_MS,
                    StateChange("traffic.intersections", "IS-002", None, Stamp(NOON_UTC_MS, 1, "gw-1")).data(),
                ),
            ],
        ),
    ),
    packed(
        "ack-closed.msgpack",
        Kind.ACK,
        Ack([], [], [Closed(STREAM, "sample", 10, 4000, [(12, 40), (42, 42)]), Closed("0f" * 8, "event", 7, 7, [])]),
    ),
    sealed_document(
        "desired.json",
        Desired(
            2, 7, {"heartbeat_s": 5.5, "labels.line": None, "log.level": "DEBUG", "pipelines.door.enabled": False},
            {
                "labels.line": Written(f"{NOON_UTC_MS}.0.coordinator", f"{NOON_UTC_MS - 9}.1.gw-1"),
                "log.level": Written(f"{NOON_UTC_MS}.1.coordinator"),
                "pipelines.door.enabled": Written(f"{NOON_UTC_MS}.2.coordinator"),
            },
        ),
    ),
    sealed_document(
        "reported.json",
        Reported(
            3, 4, 2, 7, "0011223344556677", {"log.level": "DEBUG", "pipelines.door.enabled": True},
            {"pipelines.door.enabled": True}, {"pipelines.door.enabled": Written(f"{NOON_UTC_MS + 5}.0.gw-1")},
            {"sync": "not here"},
            [
                Conflict(
                    "pipelines.door.enabled", Rule.LAST_WRITER, False, f"{NOON_UTC_MS}.2.coordinator",
                    True, f"{NOON_UTC_MS + 5}.0.gw-1", True, "node",
                )
            ],
            61000,
        ),
    ),
    sealed_document(
        "reported-pending.json",
        Reported(
            3, 5, 2, 8, "0011223344556677",
            {"pipelines.door.model": {"model": "finder@1.3.0", "digest": "3e" * 32}},
            pending={"pipelines.door.model": "prefetching 40 %"},
        ),
    ),
    command("cmd.json", Command("snapshot", {"camera_id": "cam1"}, "c-1", 30.0)),
    command("cmd.msgpack", Command("snapshot", {"camera_id": "cam1"}, "c-2", None, packed=True)),
    command("cmd-deadline.json", Command("snapshot", {"camera_id": "cam1"}, "c-3", 30.0, deadline_s=5.5)),
    result(
        "result-progress.json",
        Result(
            "analyse", CommandState.RUNNING, "c-3", "gw-1", NOON_UTC_MS, progress=CallProgress(0.4, "2 of 5 clips")
        ),
        packed=False,
    ),
    result(
        "result.json",
        Result("snapshot", CommandState.SUCCEEDED, "c-1", "gw-1", NOON_UTC_MS, {"bytes": 3}),
        packed=False,
    ),
    result(
        "result.msgpack",
        Result(
            "snapshot", CommandState.REJECTED, "c-2", "gw-1", NOON_UTC_MS, None,
            CommandError("unknown_camera", "no camera 'cam9' here", "camera_id"),
        ),
        packed=True,
    ),
    blob(
        "blob-offer.bin",
        Offer(70_000, "video/mp4", "cam1", NOON_UTC_MS, NOON_UTC_MS + 6000, True, [f"{STREAM}.alert.5"]),
    ),
    blob("blob-chunk.bin", Chunk(65_536, b"\x00\xffbytes")),
    blob("blob-held.bin", Held(70_000, [(0, 65_536), (69_000, 70_000)])),
    blob("blob-refused.bin", Refused(Reason.QUOTA, "5 bytes beyond the quota of node gw-1", 3600.0)),
]  # fmt: skip
every = pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)


@every
def test_recorded_bytes_are_understood(golden: Golden) -> None:
    assert golden.decode(golden.path.read_bytes()) == golden.value


@every
def test_today_writes_the_same_bytes(golden: Golden) -> None:
    assert WIRE_VERSION == 1, "a new version has a folder of its own"
    assert golden.encode(golden.value) == golden.path.read_bytes()


@pytest.mark.parametrize(
    "golden",
    # A command's further fields are its arguments; messages of files have a test of their own.
    [golden for golden in GOLDEN if not golden.name.startswith(("cmd", "blob"))],
    ids=lambda golden: golden.name,
)
def test_fields_of_a_later_version_are_passed_over(golden: Golden) -> None:
    raw = golden.path.read_bytes()
    pack = golden.path.suffix == ".msgpack"
    fields = msgpack.unpackb(raw) if pack else json.loads(raw)
    fields = _extended(fields, top=True)
    if "hash" in fields:
        fields["hash"] = documents.content_hash(fields)
    later = msgpack.packb(fields) if pack else json.dumps(fields).encode()
    value = golden.decode(later)
    assert (value if isinstance(value, Event) else _versionless(value)) == _versionless(golden.value)


def test_every_recorded_file_is_tested() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {golden.name for golden in GOLDEN} | {COMPRESSED.name}


def test_a_recorded_compressed_batch_is_understood_and_written_with_the_same_content() -> None:
    recorded = COMPRESSED.read_bytes()
    assert codec.decode_packed(SyncBatch, Kind.SYNC, recorded) == COMPRESSED_BATCH
    assert codec.decode_batch(recorded) == (COMPRESSED_BATCH, [])
    plain = codec.encode_packed(COMPRESSED_BATCH)
    assert is_compressed(today := compress(plain))
    assert decompress(today, len(plain)) == decompress(recorded, len(plain)) == plain


def _extended(value: Any, *, top: bool = False) -> Any:
    """With a field of the future in every table that is ours; free tables would keep it."""
    ours = {"lane", "camera", "code", "winner"}
    if isinstance(value, list):
        return [_extended(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: item if key in ("data", "result", "hardware") else _extended(item) for key, item in value.items()}
    if top or ours & value.keys():
        inner["fromthefuture"] = {"a": [1, None]}
    return inner | ({"v": 9} if "v" in value else {})


def _versionless(value: Any) -> Any:
    sealed = {"hash": ""} if hasattr(value, "hash") else {}
    return replace(value, v=1, **sealed) if hasattr(value, "v") else value


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for one in GOLDEN:
        if not one.path.exists():
            one.path.write_bytes(one.encode(one.value))
    if not COMPRESSED.exists():
        COMPRESSED.write_bytes(compress(codec.encode_packed(COMPRESSED_BATCH)))
