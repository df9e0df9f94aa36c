"""The fields of desired and reported documents: one table says who may write each, and what holds when both did.

A field's name is a path such as `log.level` or `pipelines.door.enabled`; `<name>` in the table stands for a
pipeline, an alert rule, a label or a workload.
"""

import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.release import read_wanted_model, read_wanted_release
from schemas.shape import ShapeError
from schemas.sync import parse_policy
from schemas.workloads import parse_named_pipeline, parse_report, parse_workload

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
LIST_MAX = 100
SOURCES_MAX = 8
_URL = re.compile(r"https?://[A-Za-z0-9._~:\[\]-]{1,253}(/[A-Za-z0-9._~/-]{0,100})?")


class Owner(StrEnum):
    """Who may write a field."""

    COORDINATOR = "coordinator"  # in the desired document alone
    NODE = "node"  # a fact, in the reported document alone
    SHARED = "shared"  # both; each write carries a stamp


class Rule(StrEnum):
    """What holds where both sides have written a shared field. A side that took its value back has no say."""

    LAST_WRITER = "last_writer"  # the later write, a taking back too; by stamp if neither knew of the other
    EDGE_WINS = "edge_wins"  # what the node says, for as long as it says something
    CLOUD_WINS = "cloud_wins"  # what the coordinator says, for as long as it says something
    MAX = "max"  # the greater value
    UNION = "union"  # what either list holds


Check = Callable[[Any], str | None]
"""What a value has to be, where it is not; else None."""


@dataclass(frozen=True, slots=True)
class Field:
    """One line of the table. `meaning` is for people."""

    path: str
    owner: Owner
    check: Check
    meaning: str
    rule: Rule | None = None


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> str | None:
        sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return None if sound and low <= value <= high else f"a number from {low:g} to {high:g}"

    return check


def _moment(value: Any) -> str | None:
    sound = type(value) is int and 0 <= value < 2**53
    return None if sound else "UTC milliseconds, a whole number of at least 0"


def _choice(*texts: str) -> Check:
    return lambda value: None if isinstance(value, str) and value in texts else f"one of {', '.join(texts)}"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and len(value) <= 200 else "a text of at most 200 characters"


def _texts(value: Any) -> str | None:
    sound = isinstance(value, list) and len(value) <= LIST_MAX and all(_text(item) is None for item in value)
    return None if sound else f"a list of at most {LIST_MAX} texts"


def _policy(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "a sync policy, as an object"
    try:
        parse_policy(value)
    except ShapeError as error:
        return f"a sync policy: {'; '.join(error.mistakes)[:400]}"
    return None


def _shape(means: str, read: Callable[[object], object]) -> Check:
    """What `read` can read, which raises ShapeError."""

    def check(value: Any) -> str | None:
        try:
            read(value)
        except ShapeError as error:
            return f"{means}: {'; '.join(error.mistakes)[:400]}"
        return None

    return check


def source_mistake(text: str) -> str | None:
    """Why a text is no base URL to get models from, or None."""
    return None if _URL.fullmatch(text) else f"{text[:80]!r} must be like http://host:8090"


def _sources(value: Any) -> str | None:
    sound = isinstance(value, list) and len(value) <= SOURCES_MAX
    sound = sound and all(isinstance(one, str) and source_mistake(one) is None for one in value)
    return None if sound else f"a list of at most {SOURCES_MAX} base URLs such as http://host:8090"


FIELDS: tuple[Field, ...] = (
    Field("heartbeat_s", Owner.COORDINATOR, _number(1, 3600), "seconds between two heartbeats"),
    Field("sync", Owner.COORDINATOR, _policy, "what is sent to the cloud, and when"),
    Field(
        "log.level", Owner.SHARED, _choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "how much the agent logs", Rule.CLOUD_WINS,
    ),
    Field("labels.<name>", Owner.SHARED, _text, "a label of the node, beside or in place of the configured one",
          Rule.EDGE_WINS),
    Field("pipelines.<name>.enabled", Owner.SHARED, _flag, "whether the pipeline takes frames", Rule.LAST_WRITER),
    Field("pipelines.<name>.confidence_min", Owner.SHARED, _number(0, 1), "least confidence of a detection",
          Rule.LAST_WRITER),
    Field("pipelines.<name>.classes_ignored", Owner.SHARED, _texts, "classes whose detections are dropped",
          Rule.UNION),
    Field("pipelines.<name>.spec", Owner.SHARED, _shape("a pipeline", parse_named_pipeline),
          "a pipeline that is to run, in place of the configured one of that name", Rule.LAST_WRITER),
    Field("alerts.<name>.muted_until_utc_ms", Owner.SHARED, _moment, "until when the rule raises no alert", Rule.MAX),
    Field("workloads.<name>.spec", Owner.COORDINATOR, _shape("a workload", parse_workload),
          "what is to run beside the configured pipelines"),
    Field("workloads.<name>.state", Owner.NODE, _shape("the state of a workload", parse_report),
          "how far that is, and why"),
    Field("models.<name>.release", Owner.COORDINATOR, _shape('{"version": …, "digest": …}', read_wanted_release),
          "the release of a model that is to lie on the node"),
    Field("models.sources", Owner.COORDINATOR, _sources, "base URLs that models are downloaded from, in this order"),
    Field("pipelines.<name>.model", Owner.COORDINATOR,
          _shape('{"model": "NAME@VERSION", "digest": …}', read_wanted_model),
          "the model that the pipeline is to run, in place of the configured one"),
)  # fmt: skip

_PATTERNS = [(field, re.compile(re.escape(field.path).replace("<name>", f"({NAME})"))) for field in FIELDS]


@functools.lru_cache(maxsize=4096)
def find_field(path: str) -> tuple[Field, str] | None:
    """The line of the table for `path`, and what stands for `<name>` in it; None for an unknown one."""
    for field, pattern in _PATTERNS:
        if found := pattern.fullmatch(path):
            return field, found[1] if found.lastindex else ""
    return None


def rule_of(path: str) -> Rule | None:
    """The rule of a shared field; None for every other path."""
    found = find_field(path)
    return found[0].rule if found else None


def mistake(path: str, value: Any, writer: Owner) -> str | None:
    """What is wrong with `writer` giving `path` this value, or None; a value of None takes the own one back."""
    found = find_field(path)
    if found is None:
        return f"there is no field {path[:100]!r}; there are: {', '.join(field.path for field in FIELDS)}"
    field, _ = found
    if field.owner not in (writer, Owner.SHARED):
        return f"{path} belongs to the {field.owner}: the {writer} cannot write it"
    wanted = None if value is None else field.check(value)
    return f"{path} = {_show(value)}: must be {wanted}" if wanted else None


def mistakes(values: Mapping[str, Any], writer: Owner) -> list[str]:
    """Every mistake in what `writer` wants to write."""
    return [text for path, value in values.items() if (text := mistake(path, value, writer))]


def typed(path: str, text: str) -> Any:
    """What a person typed as the value of a field: JSON, or the text itself where that fits better."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    found = find_field(path)
    is_text = found is not None and found[0].check(value) is not None and found[0].check(text) is None
    return text if is_text else value


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
