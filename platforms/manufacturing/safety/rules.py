"""The kinds of alert rules that manufacturing brings, and their settings.

[[pipelines.rules]]
name = "too_near"
kind = "manufacturing.too_close"
classes = ["person"]                       # the rule's own keys say who is meant, where, and for how long
for_s = 0.3
settings = { others = ["forklift"], distance_m = 2.0, ground = [[0.1, 0.9, 0.0, 0.0], …] }
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from platforms.context import BadArgumentError
from platforms.functions import rule_kind
from platforms.manufacturing.safety.conditions import REGIONS, Alone, Fallen, Missing, TooClose
from platforms.manufacturing.safety.ground import Ground, GroundError, Ruler
from schemas.shape import Limit, ShapeError, read

T = TypeVar("T")
Share = Annotated[float, Limit(ge=0, le=1)]
Seconds = Annotated[float, Limit(gt=0, le=3600)]
Names = Annotated[tuple[str, ...], Limit(len_max=100)]


@dataclass(frozen=True, slots=True)
class TooCloseSettings:
    """`ground`: (x, y, X, Y), shares of the picture and metres on the floor; without it distances go by
    `person_height_m`. `moving_m_s`: what is slower stands, and is left out; 0: nothing is."""

    others: Annotated[tuple[str, ...], Limit(len_min=1, len_max=100)]
    distance_m: Annotated[float, Limit(gt=0, le=1000)] = 2.0
    ground: Annotated[tuple[tuple[float, ...], ...], Limit(len_max=100)] = ()
    person_height_m: Annotated[float, Limit(gt=0, le=3)] = 1.7
    moving_m_s: Annotated[float, Limit(ge=0, le=100)] = 0.0


@dataclass(frozen=True, slots=True)
class FallenSettings:
    """`lying_classes`: of the model, where it has them. `aspect_min`: width over height of a box that lies."""

    lying_classes: Names = ()
    aspect_min: Annotated[float, Limit(gt=0, le=10)] = 1.2
    still_s: Seconds = 2.0
    still_share: Annotated[float, Limit(gt=0, le=10)] = 0.25


@dataclass(frozen=True, slots=True)
class MissingSettings:
    """`needs`: class of the equipment -> where it is worn: head, torso, body. `against`: class that says that it is
    missing -> the equipment."""

    needs: Annotated[dict[str, str], Limit(len_min=1, len_max=20)]
    against: dict[str, str] = field(default_factory=dict)
    over_s: Seconds = 2.0
    share_min: Share = 0.3
    height_min: Share = 0.15


@dataclass(frozen=True, slots=True)
class AloneSettings:
    """`company`: classes that are company to one another."""

    company: Names = ("person",)


@rule_kind("too_close")
def too_close(settings: Mapping[str, Any], labels: Sequence[str]) -> TooClose:
    given = _read(TooCloseSettings, settings)
    _known("others", given.others, labels)
    try:
        ground = Ground(given.ground) if given.ground else None
    except GroundError as error:
        raise BadArgumentError("ground", f"ground: {error}") from error
    return TooClose(given.others, given.distance_m, Ruler(ground, given.person_height_m), given.moving_m_s)


@rule_kind("fallen")
def fallen(settings: Mapping[str, Any], labels: Sequence[str]) -> Fallen:
    given = _read(FallenSettings, settings)
    _known("lying_classes", given.lying_classes, labels)
    return Fallen(given.lying_classes, given.aspect_min, given.still_s, given.still_share)


@rule_kind("missing_equipment")
def missing_equipment(settings: Mapping[str, Any], labels: Sequence[str]) -> Missing:
    given = _read(MissingSettings, settings)
    _known("needs", [*given.needs], [*labels, *given.against.values()])
    _known("against", [*given.against], labels)
    for item, region in given.needs.items():
        if region not in REGIONS:
            raise BadArgumentError("needs", f"needs.{item}: {region!r} is none of {', '.join(REGIONS)}")
    for name, item in given.against.items():
        if item not in given.needs:
            raise BadArgumentError("against", f"against.{name}: {item!r} is not among needs")
    return Missing(given.needs, given.against, given.over_s, given.share_min, given.height_min)


@rule_kind("alone")
def alone(settings: Mapping[str, Any], labels: Sequence[str]) -> Alone:
    given = _read(AloneSettings, settings)
    _known("company", given.company, labels)
    return Alone(given.company)


def _read(cls: type[T], settings: Mapping[str, Any]) -> T:
    try:
        return read(cls, settings, strict=True)
    except ShapeError as error:
        raise BadArgumentError("settings", str(error)) from error


def _known(key: str, classes: Sequence[str], labels: Sequence[str]) -> None:
    for name in classes:
        if labels and name not in labels:
            shown = ", ".join(labels[:12])
            raise BadArgumentError(key, f"{key}: class {name!r} is not among the model's labels ({shown})")
