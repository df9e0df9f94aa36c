"""What an alert rule of a platform's kind is asked: which objects of a frame fulfil its condition.

The node decides when an alert begins and ends (how long, gaps, cool-down, severity), and which zone is meant: all
that a kind adds is the condition. It is asked in the frame's path, so it answers within a fraction of a millisecond,
reads no clock, and keeps nothing of objects that are gone: the same frames give the same answers.

    [[pipelines.rules]]
    name = "too near"
    kind = "manufacturing.too_close"      # made by what @rule_kind("too_close") marks
    settings = { others = ["forklift"], distance_m = 2.0 }
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class Seen(Protocol):
    """One object in one frame. `box`: x0 y0 x1 y1 in pixels; `matched`: detected in this very frame, else only
    predicted; `age_s`: from its first detection to its last."""

    @property
    def track_id(self) -> int: ...
    @property
    def object_id(self) -> str: ...
    @property
    def class_name(self) -> str: ...
    @property
    def confidence(self) -> float: ...
    @property
    def box(self) -> Sequence[float]: ...
    @property
    def matched(self) -> bool: ...
    @property
    def age_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Scene:
    """One frame. `time_s`: of the camera's steady clock. `meant`: by object, whether the rule's zone, classes and
    least confidence let it be the one that the alert is about; the others are there to be measured against."""

    time_s: float
    width: int
    height: int
    objects: Sequence[Seen]
    meant: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Match:
    """An object, by its place among the scene's, that fulfils the condition. `said` is added to what the alert says
    of it: numbers and texts, such as a distance."""

    index: int
    said: Mapping[str, Any] = field(default_factory=dict)


class Condition(Protocol):
    """One rule's, for as long as the camera's tracks live."""

    def matches(self, scene: Scene) -> Sequence[Match]:
        """The meant objects that fulfil it now."""


class MakeCondition(Protocol):
    """What `@rule_kind` marks."""

    def __call__(self, settings: Mapping[str, Any], labels: Sequence[str]) -> Condition:
        """`labels`: the model's classes. Raises BadArgumentError: the key of `settings` that is wrong, and why."""
