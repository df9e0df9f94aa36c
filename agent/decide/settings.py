"""What can be decided about, and the check of it.

Coordinates are shares of the picture (see `geometry`). `classes` are labels of the model; none means every class.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot
from typing import Any

from agent.decide.geometry import Anchor, Point, polygon_mistakes
from platforms.context import BadArgumentError
from platforms.watching import MakeCondition
from schemas.messages import Severity

NO_KINDS: Mapping[str, MakeCondition] = {}


@dataclass(frozen=True, slots=True)
class LineSettings:
    """A line to be crossed.

    name:       says which line in events
    start, end: its ends; seen from start to end, `in` is from left to right
    classes:    labels that count
    anchor:     the point of an object that must cross
    hysteresis: distance from the line, in shares of the picture, that an object must reach to be on a side
    """

    name: str
    start: Point
    end: Point
    classes: tuple[str, ...] = ()
    anchor: Anchor = Anchor.BOTTOM_CENTRE
    hysteresis: float = 0.01


@dataclass(frozen=True, slots=True)
class ZoneSettings:
    """An area to be in.

    name:     says which zone in events and rules
    polygon:  its corners in order, at least 3
    classes:  labels that count
    anchor:   the point of an object that must be inside
    settle_s: a count must differ for this long before it is reported; an absence shorter than it ends no stay
    """

    name: str
    polygon: tuple[Point, ...]
    classes: tuple[str, ...] = ()
    anchor: Anchor = Anchor.BOTTOM_CENTRE
    settle_s: float = 0.5


@dataclass(frozen=True, slots=True)
class AlertRuleSettings:
    """The rule "one of these classes in this zone for so long".

    name:              says which rule in alerts
    classes:           labels that fulfil it
    zone:              name of a zone; empty: the whole picture
    min_confidence:    least confidence, 0..1, of a detection that fulfils it
    for_s:             seconds it must be fulfilled before the alert is raised
    gap_s:             seconds it may be unfulfilled meanwhile
    clear_after_s:     seconds it must be unfulfilled before the alert is cleared
    cooldown_s:        seconds after that in which no new alert is raised
    update_interval_s: seconds between updates of a raised alert, at least
    severity:          info, warning or critical
    kind:              a platform's kind of condition, as `manufacturing.fallen`; empty: to be there is enough
    settings:          that kind's own
    """

    name: str
    classes: tuple[str, ...] = ()
    zone: str = ""
    min_confidence: float = 0.5
    for_s: float = 2.0
    gap_s: float = 1.5
    clear_after_s: float = 3.0
    cooldown_s: float = 30.0
    update_interval_s: float = 10.0
    severity: Severity = Severity.WARNING
    kind: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DecideSettings:
    """All decisions about one camera.

    every_frame:       an event for each frame with all its objects
    object_events:     events when an object is seen, has changed, and is gone
    update_interval_s: seconds between two events about a changed object, at least
    move_min:          share of its size that an object must move or grow by to have changed
    lines, zones, rules: what else is watched
    """

    every_frame: bool = False
    object_events: bool = True
    update_interval_s: float = 2.0
    move_min: float = 0.25
    lines: tuple[LineSettings, ...] = ()
    zones: tuple[ZoneSettings, ...] = ()
    rules: tuple[AlertRuleSettings, ...] = ()


EACH_MAX = 100
"""Lines, zones and rules of one camera, of each at most: a frame's cost grows with them."""

CORNERS_MAX = 200
SECONDS_MAX = 7 * 24 * 3600.0
HYSTERESIS_MAX = 0.25

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_decide_settings(
    settings: DecideSettings, labels: Sequence[str], kinds: Mapping[str, MakeCondition] = NO_KINDS
) -> list[str]:
    """Every mistake in `settings` for a model with `labels`, in words; empty when it can be used. `kinds`: those of
    the node's platforms."""
    mistakes = _seconds("", update_interval_s=settings.update_interval_s)
    if not 0.0 <= settings.move_min <= 100.0:
        mistakes.append(f"move_min = {settings.move_min}: must be from 0 to 100")
    for kind, names in (
        ("line", [line.name for line in settings.lines]),
        ("zone", [zone.name for zone in settings.zones]),
        ("rule", [rule.name for rule in settings.rules]),
    ):
        mistakes += _name_mistakes(kind, names)
    for line in settings.lines:
        mistakes += _line_mistakes(line, labels)
    for zone in settings.zones:
        mistakes += _zone_mistakes(zone, labels)
    for rule in settings.rules:
        mistakes += rule_mistakes(rule, labels, [zone.name for zone in settings.zones])
        mistakes += _kind_mistakes(rule, labels, kinds)
    return mistakes


def _name_mistakes(kind: str, names: Sequence[str]) -> list[str]:
    mistakes = [f"{len(names)} {kind}s: at most {EACH_MAX} can be watched"] if len(names) > EACH_MAX else []
    mistakes += [
        f"{kind} {name!r}: a name is up to 63 letters, digits, '.', '_' and '-', and begins with a letter or digit"
        for name in names
        if not _NAME.fullmatch(name)
    ]
    return mistakes + [f"{kind} {name!r}: the name is given {n} times" for name, n in Counter(names).items() if n > 1]


def _line_mistakes(line: LineSettings, labels: Sequence[str]) -> list[str]:
    where = f"line {line.name!r}: "
    mistakes = _class_mistakes(where, line.classes, labels)
    for end, (x, y) in (("start", line.start), ("end", line.end)):
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            mistakes.append(f"{where}{end} ({x:g}, {y:g}) lies outside the picture; coordinates are shares, 0 to 1")
    if hypot(line.end[0] - line.start[0], line.end[1] - line.start[1]) < 1e-6:
        mistakes.append(f"{where}start and end are the same point")
    if not 0.0 <= line.hysteresis <= HYSTERESIS_MAX:
        mistakes.append(f"{where}hysteresis = {line.hysteresis}: must be from 0 to {HYSTERESIS_MAX}")
    return mistakes


def _zone_mistakes(zone: ZoneSettings, labels: Sequence[str]) -> list[str]:
    where = f"zone {zone.name!r}: "
    mistakes = _class_mistakes(where, zone.classes, labels) + _seconds(where, settle_s=zone.settle_s)
    if len(zone.polygon) > CORNERS_MAX:
        return [*mistakes, f"{where}has {len(zone.polygon)} points; at most {CORNERS_MAX} can be used"]
    return mistakes + [where + mistake for mistake in polygon_mistakes(zone.polygon)]


def rule_mistakes(rule: AlertRuleSettings, labels: Sequence[str], zones: Sequence[str]) -> list[str]:
    """Every mistake in an alert rule for a model with `labels`, among these zones."""
    where = f"rule {rule.name!r}: "
    mistakes = _class_mistakes(where, rule.classes, labels) + _seconds(
        where,
        for_s=rule.for_s,
        gap_s=rule.gap_s,
        clear_after_s=rule.clear_after_s,
        cooldown_s=rule.cooldown_s,
        update_interval_s=rule.update_interval_s,
    )
    if rule.zone and rule.zone not in zones:
        mistakes.append(f"{where}zone {rule.zone!r} is not among the zones ({_listed(zones)})")
    if not 0.0 <= rule.min_confidence <= 1.0:
        mistakes.append(f"{where}min_confidence = {rule.min_confidence}: must be from 0 to 1")
    return mistakes


def _kind_mistakes(rule: AlertRuleSettings, labels: Sequence[str], kinds: Mapping[str, MakeCondition]) -> list[str]:
    where = f"rule {rule.name!r}: "
    if not rule.kind:
        return [f"{where}settings belong to a kind of rule, and none is named"] if rule.settings else []
    if rule.kind not in kinds:
        return [f"{where}no platform here has rules of kind {rule.kind!r} ({_listed([*kinds])})"]
    try:
        kinds[rule.kind](rule.settings, labels)
    except BadArgumentError as error:
        return [f"{where}settings: {error}"]
    return []


def _class_mistakes(where: str, classes: Iterable[str], labels: Sequence[str]) -> list[str]:
    return [
        f"{where}class {name!r} is not among the model's labels ({_listed(labels)})"
        for name in classes
        if name not in labels
    ]


def _seconds(where: str, **values: float) -> list[str]:
    return [
        f"{where}{name} = {value}: must be from 0 to {SECONDS_MAX:g} seconds"
        for name, value in values.items()
        if not 0.0 <= value <= SECONDS_MAX
    ]


def _listed(names: Sequence[str]) -> str:
    """The names, cut short after a dozen."""
    if not names:
        return "there are none"
    return ", ".join(names[:12]) + (f", and {len(names) - 12} more" if len(names) > 12 else "")
