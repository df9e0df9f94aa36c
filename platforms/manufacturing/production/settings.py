"""`[platforms.manufacturing.lines.<id>]`: how a line's parts are counted, how fast it could be, when it is to run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from zoneinfo import ZoneInfoNotFoundError

from platforms.context import FunctionError
from platforms.manufacturing.production.line import LineSettings
from platforms.manufacturing.types import ChartKind, LinePlan, PartSource, ProductionLine
from schemas.shape import Limit, ShapeError, read
from schemas.sync import TimeWindow, minute_of, zone

PRODUCTION_KEYS = ("lines",)


@dataclass(frozen=True, slots=True)
class ProductionSettings:
    """The keys of `[platforms.manufacturing]` that are about lines."""

    lines: Annotated[dict[str, ProductionLine], Limit(len_max=64)] = field(default_factory=dict)

    def mistakes(self) -> list[str]:
        return [f"lines.{name}.{text}" for name, line in self.lines.items() if line for text in line_mistakes(line)]


def line_mistakes(line: ProductionLine) -> list[str]:
    """What the shape alone does not show."""
    found = []
    if line.ideal_cycle_s <= 0:
        found.append("ideal_cycle_s: seconds of a part at full speed, above 0")
    if line.source is PartSource.CROSSINGS and not (line.camera_id and line.crossing):
        found.append("crossing: source = 'crossings' needs camera_id and crossing, a line of its pipeline")
    if line.stop_after <= 1 or line.minor_s <= 0 or line.sample_s <= 0 or line.gap_after_s <= 0:
        found.append("stop_after: cycles, above 1; minor_s, sample_s, gap_after_s: seconds, above 0")
    for n, chart in enumerate(line.charts):
        if not 2 <= chart.sample <= (10 if chart.kind is ChartKind.XBAR_R else 100_000):
            found.append(f"charts[{n}].sample: 2 to 10 parts of a subgroup, of p and u at least 2")
        if chart.learn < 2:
            found.append(f"charts[{n}].learn: at least 2 points")
        if (chart.kind is ChartKind.XBAR_R) != bool(chart.field):
            found.append(f"charts[{n}].field: names the measured value of kind = 'xbar_r', and of no other")
    return found + plan_mistakes(LinePlan(shifts=line.shifts, breaks=line.breaks, timezone=line.timezone))


def plan_mistakes(plan: LinePlan) -> list[str]:
    found = []
    for kind, windows in (("shifts", plan.shifts or ()), ("breaks", plan.breaks or ())):
        for n, window in enumerate(windows):
            found += [f"{kind}[{n}]: {text}" for text in _times(window)]
    if (plan.shifts or plan.breaks) and not plan.timezone:
        found.append('timezone: is needed with shifts and breaks, as "Europe/Berlin"')
    if plan.timezone:
        try:
            zone(plan.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            found.append(f"timezone: there is no {plan.timezone!r}")
    return found


def _times(window: TimeWindow) -> list[str]:
    wrong = [text for text in (window.start, window.end) if minute_of(text) is None]
    return [f"{text!r} is no time of day; write 06:30" for text in wrong]


def read_production(settings: Mapping[str, Any]) -> ProductionSettings:
    """Raises FunctionError with every mistake."""
    mine = {key: settings[key] for key in PRODUCTION_KEYS if key in settings}
    try:
        found = read(ProductionSettings, mine, strict=True)
    except ShapeError as error:
        raise FunctionError("bad_settings", f"[platforms.manufacturing]: {error}") from error
    if mistakes := found.mistakes():
        raise FunctionError("bad_settings", f"[platforms.manufacturing]: {'; '.join(mistakes)}")
    return found


def planned(line: ProductionLine, plan: LinePlan | None) -> ProductionLine:
    """The line as a later plan has it: what the plan leaves out is the line's."""
    if plan is None:
        return line
    given: dict[str, Any] = {
        "product": plan.product,
        "ideal_cycle_s": plan.ideal_cycle_s,
        "demand_per_h": plan.demand_per_h,
        "shifts": plan.shifts,
        "breaks": plan.breaks,
        "timezone": plan.timezone or None,
    }
    return replace(line, **{key: value for key, value in given.items() if value is not None})


def idea_of(line: ProductionLine, keep_s: float) -> LineSettings:
    """What the ideas want of it."""
    return LineSettings(
        line.ideal_cycle_s,
        stop_after=line.stop_after,
        minor_s=line.minor_s,
        demand_per_h=line.demand_per_h,
        keep_s=keep_s,
    )
