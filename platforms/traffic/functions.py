"""The functions of traffic that are bound, and what a node says of its junctions when it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from platforms.checking import Here, not_here
from platforms.context import BadArgumentError, Context, FunctionError, ResultQuery
from platforms.functions import at_start, check_settings, function
from platforms.traffic.analysis import TYPES, Window, analyse
from platforms.traffic.types import Approach, FlowAnalysis, IntersectionState, TrafficSettings
from schemas.language.validators import into
from schemas.shape import ShapeError, fields_of, read, read_what_can_be

INTERSECTIONS, APPROACHES = "traffic.intersections", "traffic.approaches"
RESULTS_MAX = 100_000  # of one window


@function("analyzeTrafficFlow")
async def analyze_traffic_flow(
    context: Context, intersection_id: str, time_window: float, until: int | None = None
) -> FlowAnalysis:
    """Flow over the last `time_window` seconds, or those before `until`."""
    end_ms = context.now_utc_ms() if until is None else until
    if end_ms > context.now_utc_ms():
        raise BadArgumentError("until", "until lies in the future: what will be is not counted yet")
    length_ms = round(time_window * 1000)
    approaches = await _approaches(context, intersection_id)
    now = await _window(context, approaches, end_ms - length_ms, end_ms)
    before = await _window(context, approaches, end_ms - 2 * length_ms, end_ms - length_ms)
    return analyse(intersection_id, approaches, now, before)


async def _approaches(context: Context, intersection_id: str) -> list[Approach]:
    entries = await context.state.entries(APPROACHES)
    known: list[Approach] = [into(Approach, entry.value) for entry in entries]
    found = [approach for approach in known if approach.intersection_id == intersection_id]
    if not found:
        names = ", ".join(sorted({approach.intersection_id or "" for approach in known})) or "there is none"
        hint = "a node names its own under [platforms.traffic.intersections]"
        raise BadArgumentError("intersection_id", f"no approach of {intersection_id!r} here ({names}); {hint}")
    return sorted(found, key=lambda approach: (approach.name, approach.node_id or ""))


async def _window(context: Context, approaches: Sequence[Approach], start_ms: int, end_ms: int) -> Window:
    silent_s = max(approach.gap_after_s for approach in approaches)
    query = ResultQuery(
        types=TYPES,
        cameras=tuple(sorted({approach.camera_id for approach in approaches})),
        nodes=tuple(sorted({approach.node_id for approach in approaches if approach.node_id})),
        since_utc_ms=start_ms - round(silent_s * 1000),
        until_utc_ms=end_ms,
        limit=RESULTS_MAX,
    )
    results = await context.results(query)
    if len(results) >= RESULTS_MAX:
        raise FunctionError("too_much", f"the window has {RESULTS_MAX} results or more; ask for a shorter one")
    return Window(start_ms, end_ms, results)


@check_settings
def check_intersections(settings: Mapping[str, Any], here: Here) -> list[str]:
    """Every mistake in `[platforms.traffic]`."""
    known, mistakes = read_what_can_be(TrafficSettings, settings)
    for intersection_id, junction in known.intersections.items() if known else ():
        names: list[str] = []
        for n, approach in enumerate(junction.approaches if junction else ()):
            if not approach:  # too wrong to be read, which is told
                continue
            where = f"intersections.{intersection_id}.approaches[{n}]"
            mistakes += not_here(f"{where}.camera_id", "camera", approach.camera_id, here.cameras)
            if approach.name in names:
                mistakes.append(f"{where}.name: the approach {approach.name!r} is there twice")
            names.append(approach.name)
    return mistakes


@at_start
async def publish_intersections(context: Context) -> None:
    """Writes the junctions of `[platforms.traffic]` to the state; approaches that are gone from there are deleted."""
    try:
        settings = read(TrafficSettings, context.settings, strict=True)
    except ShapeError as error:
        raise FunctionError("bad_settings", f"[platforms.traffic]: {error}") from error
    approaches: dict[str, Approach] = {}
    for intersection_id, junction in settings.intersections.items():
        for approach in junction.approaches:
            key = f"{intersection_id}/{approach.name}"
            if key in approaches:
                raise FunctionError("bad_settings", f"[platforms.traffic]: the approach {key} is there twice")
            approaches[key] = replace(approach, intersection_id=intersection_id, node_id=context.host)
        state = IntersectionState(junction.name, junction.location)  # alike from all its nodes
        await _put(context, INTERSECTIONS, intersection_id, state)
    for key, approach in approaches.items():
        await _put(context, APPROACHES, key, approach)
    for entry in await context.state.entries(APPROACHES):
        if entry.written_by == context.host and entry.key not in approaches:
            await context.state.delete(APPROACHES, entry.key)


async def _put(context: Context, collection: str, key: str, value: Any) -> None:
    """Only what is new is written: a restart is no change."""
    entry = await context.state.get(collection, key)
    plain = fields_of(value)
    if entry is None or entry.value != plain:
        await context.state.put(collection, key, plain)
