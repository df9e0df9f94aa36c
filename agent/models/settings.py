"""The `[models]` table of the agent: where models come from, what they cost, whom to trust, when to refuse one."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from schemas.fields import SOURCES_MAX, source_mistake
from schemas.shape import Limit

MIB = 1024 * 1024


class Golden(StrEnum):
    """What is done about frames with known answers."""

    IF_THERE = "if_there"  # a release that has some must do well on them
    REQUIRED = "required"  # a release without them is refused
    OFF = "off"


@dataclass(frozen=True, slots=True)
class GateSettings:
    """The `[models.gate]` table: how much worse than the model before a new one may be. See agent/models/golden.py.

    What a release says in its `golden.toml` counts before these.
    """

    golden: Golden = Golden.IF_THERE
    accuracy_min: Annotated[float, Limit(ge=0, le=1)] = 0.5
    accuracy_drop_max: Annotated[float, Limit(ge=0, le=1)] = 0.02
    latency_factor_max: Annotated[float, Limit(ge=1, le=100)] = 1.5
    latency_slack_ms: Annotated[float, Limit(ge=0, le=10_000)] = 10.0
    runs: Annotated[int, Limit(ge=1, le=1000)] = 30  # inferences that a latency is taken from, at least


@dataclass(frozen=True, slots=True)
class NodeModelsTable:
    """Sizes in bytes, rates in bytes a second; a rate of 0 is no limit."""

    dir: Path | None = None  # None: `models` in the data folder
    bytes_max: Annotated[int, Limit(ge=MIB, lt=2**50)] = 4096 * MIB
    free_bytes_min: Annotated[int, Limit(ge=0, lt=2**50)] = 256 * MIB
    sources: Annotated[tuple[str, ...], Limit(len_max=SOURCES_MAX)] = ()
    over_mqtt: bool = True  # where no source serves it: in pieces from the coordinator
    ca_file: Path | None = None
    bytes_s_max: Annotated[int, Limit(ge=0, lt=2**40)] = 0
    when_metered: Annotated[str, Limit(pattern="wait|go", means="wait or go")] = "wait"
    spread_s: Annotated[float, Limit(ge=0, le=3600)] = 5.0
    stall_s: Annotated[float, Limit(ge=1, le=600)] = 20.0
    retry_first_s: Annotated[float, Limit(ge=0.05, le=3600)] = 2.0
    retry_max_s: Annotated[float, Limit(ge=0.05, le=86400)] = 300.0
    patience_s: Annotated[float, Limit(ge=1, le=86400)] = 600.0
    probation_s: Annotated[float, Limit(ge=0, le=86400)] = 30.0
    probation_failures_max: Annotated[int, Limit(ge=1, le=1000)] = 3
    live_frames: Annotated[int, Limit(ge=1, le=1_000_000)] = 600  # more than the latencies that are looked back on
    trusted_keys: dict[str, str] = field(default_factory=dict)  # by the key's name: base64, or a file that holds it
    gate: GateSettings = GateSettings()


def is_key(text: str) -> bool:
    """Whether a text is the base64 of 32 bytes, and so a key itself."""
    return bool(re.fullmatch(r"[A-Za-z0-9+/]{43}=", text))


def models_mistakes(table: NodeModelsTable) -> list[str]:
    """What does not fit together, each as `key: what`."""
    found = [
        f"models.sources[{i}]: {wrong}" for i, text in enumerate(table.sources) if (wrong := source_mistake(text))
    ]
    if table.retry_max_s < table.retry_first_s:
        found.append("models.retry_max_s: must not be below retry_first_s")
    return found
