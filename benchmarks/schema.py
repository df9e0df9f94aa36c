"""What checking a message against its schema costs. `python -m benchmarks.schema --json`

The messages are those of the contract, as JSON: a birth, a heartbeat with four streams, `LineCrossed`,
`FrameAnalyzed` with 20 objects, `StreamSample`, the arguments of `syncDataToCloud` with a policy, and a node of the
state.

- `validate_us_p50`: bytes to a checked value of plain data with its defaults filled in (`decode_json`), the median of
  the messages; each message's own is in `messages`
- `ratio_vs_pydantic`: that over `TypeAdapter.validate_json` on pydantic models made from the same schema (the same
  fields, defaults, ranges, lengths, patterns, enums; neither takes NaN), which gives model instances. Geometric mean
- `ratio_vs_jsonschema`: `Draft202012Validator.is_valid` of the schema's own JSON Schema over our `check`, both on the
  decoded message, neither filling in anything. Geometric mean. Theirs over ours: larger is better here

All of them run in turn within each repeat, so that whatever else the machine does meets all alike; a figure is the
median of the repeats. The time is that of the processor: nothing here waits.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import geometric_mean, median
from typing import Annotated, Any, Literal

import jsonschema
import pydantic

from platforms.catalogue import open_catalogue
from schemas.language.json_schema import document
from schemas.language.schema import (
    AliasType,
    EnumType,
    Field,
    Kind,
    Limits,
    ListOf,
    MapOf,
    Nullable,
    RecordType,
    Ref,
    Scalar,
    Schema,
    Type,
)
from schemas.language.validators import Validator, Validators

AIM_S = 0.004  # of one measurement
HASH = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@dataclass(frozen=True, slots=True)
class Contender:
    """One message and those who check it: from bytes (ours, pydantic's) and as a value (ours, jsonschema's)."""

    name: str
    payload: bytes
    validator: Validator
    model: pydantic.TypeAdapter[Any]
    schema: jsonschema.Draft202012Validator

    def runs(self) -> dict[str, Callable[[], object]]:
        value, validate = json.loads(self.payload), self.validator
        return {
            "validate": lambda: validate.decode_json(self.payload),
            "pydantic": lambda: self.model.validate_json(self.payload),
            "check": lambda: validate.check(value),
            "jsonschema": lambda: self.schema.is_valid(value),
        }


@dataclass(frozen=True, slots=True)
class Figures:
    """Microseconds of one message, medians."""

    bytes: int
    validate_us_p50: float
    pydantic_us_p50: float
    check_us_p50: float
    jsonschema_us_p50: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the JSON object")
    parser.add_argument("--repeats", type=int, default=60, help="measurements of each, in turn")
    options = parser.parse_args()
    figures = measured(options.repeats)
    if not options.json:
        for name, each in figures["messages"].items():
            print(f"{name:16}", "  ".join(f"{key} {value}" for key, value in each.items()))
    print(json.dumps(figures))


def measured(repeats: int) -> dict[str, Any]:
    """All figures, by the names of the docstring."""
    runs = {one.name: one.runs() for one in contenders(open_catalogue().schemas[0])}
    counts = {name: {key: _count(run) for key, run in each.items()} for name, each in runs.items()}
    taken: dict[str, dict[str, list[float]]] = {name: {key: [] for key in each} for name, each in runs.items()}
    for _ in range(repeats):
        for name, each in runs.items():
            for key, run in each.items():
                taken[name][key].append(_us(run, counts[name][key]))
    messages = {}
    for one in contenders(open_catalogue().schemas[0]):
        us = {f"{key}_us_p50": round(median(values), 3) for key, values in taken[one.name].items()}
        messages[one.name] = Figures(len(one.payload), **us)
    return {
        "validate_us_p50": round(median(one.validate_us_p50 for one in messages.values()), 3),
        "check_us_p50": round(median(one.check_us_p50 for one in messages.values()), 3),
        "ratio_vs_jsonschema": _ratio((one.jsonschema_us_p50, one.check_us_p50) for one in messages.values()),
        "ratio_vs_pydantic": _ratio((one.validate_us_p50, one.pydantic_us_p50) for one in messages.values()),
        "ratio_vs_jsonschema_least": round(min(o.jsonschema_us_p50 / o.check_us_p50 for o in messages.values()), 3),
        "ratio_vs_pydantic_most": round(max(o.validate_us_p50 / o.pydantic_us_p50 for o in messages.values()), 3),
        "repeats": repeats,
        "messages": {name: asdict(one) for name, one in messages.items()},
    }


def _ratio(pairs: Any) -> float:
    return round(geometric_mean(one / other for one, other in pairs), 3)


def _count(run: Callable[[], object]) -> int:
    """How many calls take about AIM_S; the first ones, which build things, are not counted."""
    for _ in range(3):
        run()
    return max(1, int(AIM_S * 1e6 / _us(run, 5)))


def _us(run: Callable[[], object], count: int) -> float:
    began_ns = time.thread_time_ns()
    for _ in range(count):
        run()
    return max(time.thread_time_ns() - began_ns, 1) / count / 1000


# ---- the messages -------------------------------------------------------------------------------


def contenders(schema: Schema) -> list[Contender]:
    """Every message, checked once by everybody: a figure of a refusal would be none."""
    validators, models = Validators(schema), _Models(schema)
    found = []
    for name, root, message in messages():
        section, _, leaf = root.rpartition(".")
        match section:
            case "event":
                validator, model = validators.event(leaf), models.fields(name, schema.events[leaf].fields)
            case "arguments":
                parameters = schema.functions[leaf].parameters
                validator, model = validators.arguments(leaf), models.fields(name, parameters)
            case "state":
                value = schema.state[leaf].value
                validator, model = validators.state(leaf)[1], models.annotation(value)
            case _:
                validator, model = validators.type(Ref(root)), models.annotation(Ref(root))
        one = Contender(
            name,
            json.dumps(message).encode(),
            validator,
            pydantic.TypeAdapter(model),
            jsonschema.Draft202012Validator(document(schema, root)),
        )
        validator.decode_json(one.payload)
        one.model.validate_json(one.payload)
        one.schema.validate(message)
        found.append(one)
    return found


def messages() -> list[tuple[str, str, Any]]:
    """(name, what it is in the schema, value)."""
    person = {"object_id": "cam1-3.1-7", "class": "person", "confidence": 0.87, "box": [100.5, 20.0, 180.5, 260.0]}
    size = {"frame_width": 1920, "frame_height": 1080}
    of_camera = {"camera_id": "cam1", "time_s": 12.5}
    stream = {
        "pipeline": "gate", "state": "running", "frames_total": 70_000, "detections_total": 12_000,
        "dropped_total": 4, "fps": 29.5, "infer_ms_p50": 3.5, "infer_ms_p99": 5.25, "decide_ms_p99": 7.0,
        "engine": "litert", "counts": {"person": 9000, "car": 3000}, "error": "",
    }  # fmt: skip
    birth = {
        "boot": 3, "session": 2, "name": "Gate 1", "node_type": "Edge_Gateway", "site": "plant-7",
        "labels": {"line": "a", "hall": "3"}, "location": {"lat": 52.5, "lon": 13.4},
        "hardware": {"arch": "x86_64", "cpu": "some cpu", "accelerators": ["edgetpu"]},
        "resources": {"cores": 4.0, "memory_mb": 8000.0, "storage_mb": 64000.0},
        "versions": {"agent": "0.5.0", "python": "3.11.7"}, "platforms": ["core"],
        "functions": ["listEvidence", "report", "snapshot", "startStream", "status", "stopStream", "syncDataToCloud"],
        "cameras": ["cam1", "cam2", "cam3", "cam4"], "stream": HASH[:16], "v": 1,
    }  # fmt: skip
    heartbeat = {
        "boot": 3, "session": 2, "seq": 17, "uptime_s": 240.5, "time_utc_ms": 1_795_521_600_123, "cpu_percent": 41.0,
        "memory_mb": 120.25, "temperature_c": None, "disk_free_mb": 9000.0, "loop_stall_ms_p99": 1.5,
        "outbox_pending": {"event": 3}, "streams": [{"camera": f"cam{n}", **stream} for n in range(1, 5)],
        "birth_hash": HASH, "desired_hash": HASH, "reported_hash": HASH,
        "sync": {"sample": {"synced": 100, "failed": 0, "retried": 2, "bytes": 40_000}}, "v": 1,
    }  # fmt: skip
    line_crossed = {
        **of_camera, "line": "gate", "direction": "in", **person, **size,
        "counts": {"in": {"person": 40, "car": 3}, "out": {"person": 38}},
    }  # fmt: skip
    frame_analyzed = {
        **of_camera, **size,
        "objects": [{**person, "object_id": f"cam1-3.1-{n}", "predicted": False} for n in range(20)],
        "timing": {"captured_mono_ns": 123_456_789_000, "invoke_ms": 3.5},
    }  # fmt: skip
    sample = {
        **of_camera, "pipeline": "gate", "frames_total": 900, "detections_total": 1200,
        "totals": {
            "objects": {"person": 20}, "detections": {"person": 1200},
            "lines": {"gate": {"in": {"person": 10}, "out": {"person": 9}}},
        },
        "now": {
            "objects": 2, "zones": {"dock": {"counts": {"person": 1}, "total": 1, "dwell_s_max": 2.5}},
            "alerts": ["cam1-3.1-somebody-1"],
        },
    }  # fmt: skip
    call = {
        "data_filter": {"classes": ["person"], "confidence_min": 0.5, "cameras": ["cam1", "cam2"]},
        "sync_policy": {
            "mode": "sample", "every_s": 5.0, "lanes": ["sample", "evidence"], "timezone": "Europe/Berlin",
            "windows": [{"start": "22:00", "end": "06:00", "days": ["mon", "tue", "wed"]}],
            "budget": {"day_bytes": 50_000_000},
        },
    }  # fmt: skip
    node = {
        "node_id": "gw-1", "name": "Gate 1", "location": {"lat": 52.5, "lon": 13.4, "alt": 34.0},
        "hardware_profile": {"type": "x86_64", "cpu_cores": 4, "memory_mb": 8000, "accelerators": ["edgetpu"]},
        "status": "online", "labels": {"line": "a"}, "last_seen_utc_ms": 1_795_521_600_123,
        "deployed_workloads": [
            {"workload_id": f"w{n}", "type": "video_analytics", "state": "running", "version": "1.2.0"}
            for n in range(3)
        ],
    }  # fmt: skip
    return [
        ("birth", "Birth", birth),
        ("heartbeat", "Heartbeat", heartbeat),
        ("line_crossed", "event.LineCrossed", line_crossed),
        ("frame_20_objects", "event.FrameAnalyzed", frame_analyzed),
        ("stream_sample", "event.StreamSample", sample),
        ("command", "arguments.syncDataToCloud", call),
        ("state_value", "state.nodes", node),
    ]


# ---- the same schema for pydantic ---------------------------------------------------------------


class _Models:
    """Pydantic models of a schema's records. Times are numbers here: that is the form the messages have."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._made: dict[str, Any] = {}

    def fields(self, name: str, fields: Sequence[Field]) -> Any:
        members: dict[str, Any] = {}
        for i, one in enumerate(fields):
            default = ... if one.required else one.default
            members[f"f{i}"] = (
                self.annotation(one.type),
                pydantic.Field(default, alias=one.name, validate_default=False),
            )
        return pydantic.create_model(name, **members)

    def annotation(self, type_: Type) -> Any:
        match type_:
            case Nullable(inner):
                return self.annotation(inner) | None
            case ListOf(item, limits):
                return Annotated[list[self.annotation(item)], *_lengths(limits)]  # type: ignore[misc]
            case MapOf(key, value, limits):
                return Annotated[dict[self.annotation(key), self.annotation(value)], *_lengths(limits)]  # type: ignore[misc]
            case Scalar(kind, limits):
                return _scalar(kind, limits)
            case Ref(name):
                if name not in self._made:
                    self._made[name] = self._named(name)
                return self._made[name]

    def _named(self, name: str) -> Any:
        match self._schema.types[name]:
            case RecordType(fields=fields):
                return self.fields(name, fields)
            case EnumType(choices=choices):
                return Literal.__getitem__(tuple(one.wire for one in choices))
            case AliasType(type=inner):
                return self.annotation(inner)
        return Any


def _lengths(limits: Limits, pattern: str | None = None) -> list[Any]:
    given = limits.length_least, limits.length_most, pattern
    if given == (None, None, None):
        return [pydantic.Field()]
    return [pydantic.Field(min_length=given[0], max_length=given[1], pattern=pattern)]


def _scalar(kind: Kind, limits: Limits) -> Any:
    match kind:
        case Kind.STRING | Kind.BYTES:
            return Annotated[str, *_lengths(limits, f"^(?:{limits.pattern})$" if limits.pattern else None)]
        case Kind.BOOLEAN:
            return bool
        case Kind.INTEGER | Kind.TIMESTAMP:
            least = -(2**63) if limits.least is None else int(limits.least)
            most = 2**63 - 1 if limits.most is None else int(limits.most)
            return Annotated[int, pydantic.Field(ge=least, le=most)]
        case Kind.FLOAT | Kind.DURATION:
            return Annotated[float, pydantic.Field(ge=limits.least, le=limits.most, allow_inf_nan=False)]
        case Kind.JSON:
            return Any


if __name__ == "__main__":
    main()
