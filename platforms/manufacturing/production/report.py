"""The figures of a line over a window, from kept results: the same at the node and in the coordinator. Pure.

What was not watched is no lost time: a camera that was silent leaves a hole in the planned time, and the answer says
which share was observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from platforms.context import KeptResult
from platforms.coverage import Coverage, coverage
from platforms.manufacturing.production.charts import Chart, PChart, UChart, XbarR
from platforms.manufacturing.production.charts import ChartPoint as Plotted
from platforms.manufacturing.production.line import Line, LineFigures, Part
from platforms.manufacturing.production.parts import Reader, explained, measured
from platforms.manufacturing.production.settings import idea_of
from platforms.manufacturing.production.shifts import Span, both, working
from platforms.manufacturing.types import (
    ChartKind,
    ChartPoint,
    ChartSettings,
    ControlChart,
    DefectShare,
    LineReport,
    LineState,
    ProductionLine,
    StopShare,
)

COVERAGE_SAID = 0.99  # below it the answer has a note


@dataclass(frozen=True, slots=True)
class Window:
    """[start_ms, end_ms), and results from `from_ms` on: what came before it says whether the line stood."""

    from_ms: int
    start_ms: int
    end_ms: int
    results: Sequence[KeptResult]
    said: Sequence[KeptResult]  # of stops and plans; it may have been said after the window
    presence: Sequence[int]  # times at which the line's camera, or its node, was heard of


def report(line_id: str, line: ProductionLine, window: Window) -> LineReport:
    """The figures."""
    idea = Line(idea_of(line, keep_s=(window.end_ms - window.from_ms) / 1000 + 1), window.from_ms / 1000)
    reader = Reader(line_id, line, [*window.results, *window.said])
    first_s: float | None = None
    for result in window.results:
        if (part := reader.part(result)) is not None:
            first_s = part.at_s if first_s is None else first_s
            idea.part(part)
    idea.stops.tick(window.end_ms / 1000)
    for at_s, reason, planned in explained(window.said, line_id):
        if (stop := idea.stops.at(at_s)) is not None:
            idea.stops.explain(stop.number, reason, planned=planned)
    heard = coverage(window.presence, window.start_ms, window.end_ms, round(line.gap_after_s * 1000))
    spans = _watched(line, window, heard)
    found = idea.figures(window.start_ms / 1000, window.end_ms / 1000, spans)
    return _report(line_id, line, window, heard, found, _state(line, idea, window))


def _watched(line: ProductionLine, window: Window, heard: Coverage) -> list[Span]:
    planned = working(line.shifts, line.breaks, line.timezone, window.start_ms / 1000, window.end_ms / 1000)
    return both(planned, [(begin / 1000, end / 1000) for begin, end in heard.observed])


def _state(line: ProductionLine, idea: Line, window: Window) -> LineState:
    end_s = window.end_ms / 1000
    if not working(line.shifts, line.breaks, line.timezone, end_s - 0.001, end_s):
        return LineState.BREAK
    return LineState.STOPPED if idea.stops.current is not None else LineState.RUNNING


def _report(
    line_id: str, line: ProductionLine, window: Window, heard: Coverage, found: LineFigures, state: LineState
) -> LineReport:
    notes = []
    if heard.share < COVERAGE_SAID:
        notes.append(f"{heard.share:.0%} of the window was watched; the rest counts as not planned")
    if found.unsure:
        notes.append(f"{found.unsure} parts could not be judged by their pictures: they count as not good")
    return LineReport(
        line_id=line_id,
        node_id=line.node_id,
        window_start=window.start_ms,
        window_end=window.end_ms,
        state=state,
        product=line.product,
        parts=found.parts,
        good=found.good,
        rework=found.rework,
        unsure=found.unsure,
        first_pass_yield=_share(found.first_pass_yield),
        availability=_share(found.oee.availability),
        performance=_share(found.oee.performance),
        quality=_share(found.oee.quality),
        oee=_share(found.oee.oee),
        planned_s=round(found.planned_s, 1),
        stopped_s=round(found.stopped_s, 1),
        ideal_cycle_s=line.ideal_cycle_s,
        cycle_s_p50=_rounded(found.cycle_s_p50),
        cycle_s_p95=_rounded(found.cycle_s_p95),
        takt_s=_rounded(found.takt_s),
        stops=tuple(StopShare(name, count, round(s, 1)) for name, (count, s) in found.stops.items()),
        pareto=tuple(
            DefectShare(one.defect, one.count, round(one.share, 4), round(one.cumulative, 4)) for one in found.pareto
        ),
        observed=round(heard.share, 4),
        notes=tuple(notes),
    )


# ---- control charts ------------------------------------------------------------------------------


def chart_of(settings: ChartSettings) -> Chart:
    match settings.kind:
        case ChartKind.P:
            return PChart("p", settings.sample, settings.learn)
        case ChartKind.U:
            return UChart("u", settings.sample, settings.learn)
        case ChartKind.XBAR_R:
            return XbarR(settings.field, settings.sample, settings.learn)


def value_of(settings: ChartSettings, part: Part, result: KeptResult) -> float | None:
    """What a part adds to a chart; None where it was not measured, or is here again."""
    if part.rework:
        return None
    match settings.kind:
        case ChartKind.P:
            return float(not part.is_good)
        case ChartKind.U:
            count = result.data.get("defects")
            return float(count) if isinstance(count, int) else float(len(part.defects))
        case ChartKind.XBAR_R:
            return measured(result.data, settings.field)


def control_charts(line_id: str, line: ProductionLine, results: Sequence[KeptResult]) -> list[ControlChart]:
    """All charts of a line over these results; limits are learnt from the first of them."""
    reader = Reader(line_id, line, results)
    charts = [(settings, chart_of(settings)) for settings in line.charts]
    for result in results:
        if (part := reader.part(result)) is None:
            continue
        for settings, chart in charts:
            if (value := value_of(settings, part, result)) is not None:
                chart.add(part.at_s, value)
    return [
        ControlChart(
            track.name,
            settings.kind,
            centre=_rounded(track.limits.centre if track.limits else None),
            low=_rounded(track.limits.low if track.limits else None),
            high=_rounded(track.limits.high if track.limits else None),
            points=tuple(_point(one) for one in track.points),
        )
        for settings, chart in charts
        for track in chart.tracks
    ]


def _point(one: Plotted) -> ChartPoint:
    return ChartPoint(round(one.at_s * 1000), round(one.value, 6), tuple(signal.rule.value for signal in one.signals))


def _share(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
