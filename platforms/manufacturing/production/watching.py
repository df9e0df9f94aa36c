"""Production_Optimization: stops, broken limits and figures as they come; figures of any window when asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from platforms.context import BadArgumentError, Context, FunctionError, KeptResult, ResultQuery
from platforms.functions import at_start, every, function, on_events
from platforms.manufacturing.production.charts import Chart
from platforms.manufacturing.production.parts import (
    CROSSED,
    DEFECT,
    PLANNED,
    SAID,
    Reader,
    types_of,
)
from platforms.manufacturing.production.report import Window, chart_of, control_charts, report, value_of
from platforms.manufacturing.production.settings import idea_of, plan_mistakes, planned, read_production
from platforms.manufacturing.production.shifts import working
from platforms.manufacturing.production.stops import Stop, Stops
from platforms.manufacturing.types import (
    ChartSettings,
    ControlChart,
    LinePlan,
    LineReport,
    ProductionLine,
    StopExplanation,
)
from schemas.language.validators import into
from schemas.shape import fields_of
from schemas.sync import TimeWindow

LINES, PLANS, FIGURES = "manufacturing.lines", "manufacturing.line_plans", "manufacturing.line_figures"
FIGURES_EVENT = "LineMeasured"
PRESENCE = ("StreamSample", "ResultAggregate", FIGURES_EVENT)
CAMERA, SEES = "CameraStateChanged", ("starting", "running")
RESULTS_MAX = 100_000
SLEPT_MS = 60_000  # from one look to the next: the node slept, or its clock was set
BEFORE_S = 4 * 3600.0  # looked at before a window: a stop that it begins with has begun there
KEPT_S = 12 * 3600.0  # of the live view
_LIVE = "production.lines"


@dataclass(slots=True)
class _Live:
    """A line as it is followed at its node."""

    line: ProductionLine
    reader: Reader
    stops: Stops
    charts: list[tuple[ChartSettings, Chart]] = field(default_factory=list)
    stopped: Stop | None = None  # that was told
    sampled_ms: int = 0
    looked_ms: int = 0
    blind: bool = False  # its camera shows nothing


# ---- at the node, as it comes --------------------------------------------------------------------


@at_start
async def open_lines(context: Context) -> None:
    """Writes the lines of `[platforms.manufacturing]` to the state; takes up their last hours from what is kept."""
    settings = read_production(context.settings)
    for line_id, configured in settings.lines.items():
        line = replace(configured, node_id=context.host)
        await _put(context, LINES, line_id, line)
        context.memory.setdefault(_LIVE, {})[line_id] = await _opened(context, line_id, line)
    for collection in (LINES, PLANS, FIGURES):
        for entry in await context.state.entries(collection):
            if entry.written_by == context.host and entry.key not in settings.lines:
                await context.state.delete(collection, entry.key)


async def _opened(context: Context, line_id: str, line: ProductionLine) -> _Live:
    plan = await _plan(context, line_id)
    line = planned(line, plan)
    idea = idea_of(line, KEPT_S)
    after_s = idea.stop_after * idea.ideal_cycle_s
    stops = Stops(after_s=after_s, minor_s=max(idea.minor_s, 2 * after_s))
    now_ms = context.now_utc_ms()
    live = _Live(line, Reader(line_id, line), stops, [(one, chart_of(one)) for one in line.charts])
    for result in await _results(context, line, types_of(line), now_ms - round(KEPT_S * 1000), now_ms):
        if (part := live.reader.part(result)) is not None:
            stops.part(part.at_s)
            for settings, chart in live.charts:
                if (value := value_of(settings, part, result)) is not None:
                    chart.add(part.at_s, value)
    stops.begin(now_ms / 1000)
    live.stopped = stops.tick(now_ms / 1000)
    live.sampled_ms = live.looked_ms = now_ms
    return live


@on_events("PartInspected", CROSSED, DEFECT, PLANNED, CAMERA)
async def follow_lines(context: Context, event: KeptResult) -> None:
    """A part, a defect, a plan, and whether the camera sees anything."""
    lines: dict[str, _Live] = context.memory.get(_LIVE, {})
    for line_id, live in lines.items():
        if event.type == CAMERA and event.camera == live.line.camera_id:
            live.blind = event.data.get("state") not in SEES
            live.stops.watched_again(context.now_utc_ms() / 1000)
        part = live.reader.part(event)
        if part is None:
            continue
        if (ended := live.stops.part(part.at_s)) is not None:
            await _resumed(context, line_id, live, ended)
        for settings, chart in live.charts:
            value = value_of(settings, part, event)
            for track, point in chart.add(part.at_s, value) if value is not None else ():
                for signal in point.signals:
                    limits = track.limits
                    assert limits is not None  # what breaks a limit has one
                    broken = {
                        "line_id": line_id,
                        "chart": track.name,
                        "rule": signal.rule.value,
                        "side": signal.side,
                        "value": round(point.value, 6),
                        "centre": limits.centre,
                        "low": limits.low,
                        "high": limits.high,
                    }
                    await context.emit("ControlLimitBroken", broken, subject=line_id)


@every(1.0)
async def look_at_lines(context: Context) -> None:
    """Stops show by what does not come; figures are told now and then."""
    now_ms = context.now_utc_ms()
    lines: dict[str, _Live] = context.memory.get(_LIVE, {})
    for line_id, live in lines.items():
        now_s = now_ms / 1000
        is_planned = bool(working(live.line.shifts, live.line.breaks, live.line.timezone, now_s - 0.001, now_s))
        if live.blind or not 0 <= now_ms - live.looked_ms <= SLEPT_MS:
            live.stops.watched_again(now_s)
        live.looked_ms = now_ms
        live.stops.tick(now_s)
        current = live.stops.current
        if current is not None and live.stopped is None and is_planned:
            live.stopped = current
            since_ms = round(current.since_s * 1000)
            await context.emit("LineStopped", {"line_id": line_id, "since": since_ms}, subject=line_id)
        if now_ms - live.sampled_ms >= live.line.sample_s * 1000 or now_ms < live.sampled_ms:
            live.sampled_ms = now_ms
            found = await _report(context, line_id, live.line, now_ms - round(live.line.figures_s * 1000), now_ms)
            await context.emit(FIGURES_EVENT, _sample(found), subject=line_id, routine=True)
            await context.state.put(FIGURES, line_id, fields_of(found))


async def _resumed(context: Context, line_id: str, live: _Live, ended: Stop) -> None:
    told, live.stopped = live.stopped, None
    if told is None:
        return  # nobody was told that it stood: it was not to run
    data = {
        "line_id": line_id,
        "since": round(ended.since_s * 1000),
        "stopped_s": round(ended.lasted_s(ended.since_s), 1),
        "reason": ended.reason,
    }
    await context.emit("LineResumed", data, subject=line_id)


def _sample(found: LineReport) -> dict[str, Any]:
    """The figures that are told again and again: numbers, and the tables that change seldom left out."""
    plain: dict[str, Any] = fields_of(found)
    return {key: value for key, value in plain.items() if key not in ("node_id", "notes", "stops", "pareto")}


# ---- asked, at the node and in the coordinator ---------------------------------------------------


@function("lineFigures")
async def line_figures(
    context: Context, line_id: str, time_window: float = 3600.0, until: int | None = None
) -> LineReport:
    """The figures of the last `time_window` seconds, or of those before `until`."""
    end_ms = _end(context, until)
    line = await _line(context, line_id)
    return await _report(context, line_id, line, end_ms - round(time_window * 1000), end_ms)


@function("controlCharts")
async def charts_of_line(
    context: Context, line_id: str, time_window: float = 28800.0, until: int | None = None
) -> list[ControlChart]:
    """The line's control charts over the window; limits are learnt from its beginning."""
    end_ms = _end(context, until)
    line = await _line(context, line_id)
    results = await _results(context, line, types_of(line), end_ms - round(time_window * 1000), end_ms)
    return control_charts(line_id, line, results)


@function("explainStop")
async def explain_stop(
    context: Context, line_id: str, reason: str, planned: bool = False, at: int | None = None, by: str = ""
) -> StopExplanation:
    """The stop that is now, or was at `at`, has this reason."""
    await _own(context, line_id)
    at_ms = _end(context, at)
    live: _Live = context.memory[_LIVE][line_id]
    if (stop := live.stops.at(at_ms / 1000)) is not None:
        live.stops.explain(stop.number, reason, planned=planned)
        at_ms = min(at_ms, round(stop.until_s * 1000)) if stop.until_s is not None else at_ms
    said = StopExplanation(line_id, at_ms, reason, planned, by)
    await context.emit(SAID, said, subject=line_id)
    return said


@function("setLinePlan")
async def set_line_plan(
    context: Context,
    line_id: str,
    product: str | None = None,
    ideal_cycle_s: float | None = None,
    demand_per_h: float | None = None,
    shifts: list[TimeWindow] | None = None,
    breaks: list[TimeWindow] | None = None,
    timezone: str = "",
) -> LinePlan:
    """What the line makes, how fast it could, how much is wanted and when it is to run, from now on."""
    line = await _own(context, line_id)
    before = await _plan(context, line_id) or LinePlan()
    given = LinePlan(
        product,
        ideal_cycle_s,
        demand_per_h,
        None if shifts is None else tuple(shifts),
        None if breaks is None else tuple(breaks),
        timezone,
    )
    both = zip(_values(given), _values(before), strict=True)
    plan = LinePlan(*(old if new in (None, "") else new for new, old in both))
    whole = planned(line, plan)
    if mistakes := plan_mistakes(LinePlan(shifts=whole.shifts, breaks=whole.breaks, timezone=whole.timezone)):
        raise BadArgumentError(mistakes[0].split(":")[0].split("[")[0], mistakes[0])
    await context.state.put(PLANS, line_id, fields_of(plan))
    live: _Live = context.memory[_LIVE][line_id]
    live.line, live.stops.after_s = whole, whole.stop_after * whole.ideal_cycle_s
    changed = {
        "line_id": line_id,
        "product": whole.product,
        "ideal_cycle_s": whole.ideal_cycle_s,
        "ideal_cycle_s_before": line.ideal_cycle_s,
    }
    await context.emit(PLANNED, changed, subject=line_id)
    return plan


def _values(plan: LinePlan) -> list[Any]:
    return [plan.product, plan.ideal_cycle_s, plan.demand_per_h, plan.shifts, plan.breaks, plan.timezone]


# ---- what both need ------------------------------------------------------------------------------


async def _report(context: Context, line_id: str, line: ProductionLine, start_ms: int, end_ms: int) -> LineReport:
    from_ms = start_ms - round(BEFORE_S * 1000)
    results = await _results(context, line, types_of(line), from_ms, end_ms)
    said = await _results(context, line, (SAID, PLANNED), from_ms, context.now_utc_ms() + 1)
    gap_ms = round(line.gap_after_s * 1000)
    presence = await _results(context, line, PRESENCE, start_ms - gap_ms, end_ms)
    heard = [one for one in presence if one.type != FIGURES_EVENT and one.camera == line.camera_id]
    if not heard:  # no camera of ours: the node itself says that it was there
        heard = [one for one in presence if one.type == FIGURES_EVENT and one.subject == line_id]
    times = [one.time_utc_ms for one in (*results, *heard)]
    return report(line_id, line, Window(from_ms, start_ms, end_ms, results, said, times))


async def _results(
    context: Context, line: ProductionLine, types: tuple[str, ...], from_ms: int, to_ms: int
) -> Sequence[KeptResult]:
    query = ResultQuery(
        types=types, nodes=(line.node_id,), since_utc_ms=from_ms, until_utc_ms=to_ms, limit=RESULTS_MAX
    )
    found = await context.results(query)
    if len(found) >= RESULTS_MAX:
        raise FunctionError("too_much", f"the window has {RESULTS_MAX} results or more; ask for a shorter one")
    return found


async def _line(context: Context, line_id: str) -> ProductionLine:
    entry = await context.state.get(LINES, line_id)
    if entry is None:
        known = ", ".join(await context.state.keys(LINES)) or "there is none"
        hint = "a node names its own under [platforms.manufacturing.lines]"
        raise BadArgumentError("line_id", f"no line {line_id!r} here ({known}); {hint}")
    return planned(into(ProductionLine, entry.value), await _plan(context, line_id))


async def _own(context: Context, line_id: str) -> ProductionLine:
    """A line of this node. Raises BadArgumentError for another's."""
    if line_id not in context.memory.get(_LIVE, {}):
        known = ", ".join(context.memory.get(_LIVE, {})) or "there is none"
        raise BadArgumentError("line_id", f"no line {line_id!r} at this node ({known})")
    return await _line(context, line_id)


async def _plan(context: Context, line_id: str) -> LinePlan | None:
    entry = await context.state.get(PLANS, line_id)
    return None if entry is None else into(LinePlan, entry.value)


def _end(context: Context, until: int | None) -> int:
    now_ms = context.now_utc_ms()
    if until is not None and until > now_ms:
        raise BadArgumentError("until", "this time lies in the future")
    return now_ms if until is None else until


async def _put(context: Context, collection: str, key: str, value: Any) -> None:
    """Only what is new is written: a restart is no change."""
    entry = await context.state.get(collection, key)
    plain = fields_of(value)
    if entry is None or entry.value != plain:
        await context.state.put(collection, key, plain)
