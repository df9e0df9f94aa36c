"""The functions of retail that are bound, and what a node says of its entrances when it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from platforms.checking import Here, not_here
from platforms.context import BadArgumentError, Context, FunctionError, KeptResult, ResultQuery
from platforms.functions import at_start, check_settings, function
from platforms.retail.counting import Interval, pieces
from platforms.retail.entrances import TYPES, customer_counts
from platforms.retail.types import Camera, CustomerCount, Entrance, RetailSettings, TimeRange
from schemas.language.validators import into
from schemas.shape import ShapeError, fields_of, read, read_what_can_be

STORES, ENTRANCES = "retail.stores", "retail.entrances"
RESULTS_MAX = 100_000
INTERVALS_MAX = 1_000


@function("countCustomers")
async def count_customers(
    context: Context,
    entrance_cameras: tuple[Camera, ...],
    time_range: TimeRange | None = None,
    last: float | None = None,
    interval: float | None = None,
    inside_before: int = 0,
) -> list[CustomerCount]:
    """Customers who came and went at these entrances, by interval: each camera, then all of them together."""
    start_ms, end_ms = _range(time_range, last, context.now_utc_ms())
    intervals = pieces(start_ms, end_ms, None if interval is None else round(interval * 1000))
    if len(intervals) > INTERVALS_MAX:
        raise BadArgumentError("interval", f"{len(intervals)} intervals; at most {INTERVALS_MAX} are counted at once")
    entrances = await _entrances(context, entrance_cameras)
    results = await _results(context, entrances, start_ms, end_ms)
    return customer_counts(entrances, results, intervals, inside_before)


def _range(time_range: TimeRange | None, last: float | None, now_ms: int) -> Interval:
    if (time_range is None) == (last is None):
        raise BadArgumentError("time_range", 'needs a time_range, or "last" such as "15m": one of the two')
    if last is not None:
        return now_ms - round(last * 1000), now_ms
    assert time_range is not None
    if time_range.start >= time_range.end:
        raise BadArgumentError("time_range", "the range ends before it starts")
    if time_range.start >= now_ms:
        raise BadArgumentError("time_range", "the range lies in the future: nobody has come yet")
    return time_range.start, min(time_range.end, now_ms)


# ---- which entrances -----------------------------------------------------------------------------


async def _entrances(context: Context, cameras: Sequence[Camera]) -> list[Entrance]:
    known: list[Entrance] = [into(Entrance, entry.value) for entry in await context.state.entries(ENTRANCES)]
    found: list[Entrance] = []
    for number, camera in enumerate(cameras):
        entrance = _entrance(f"entrance_cameras[{number}]", camera, known)
        if entrance in found:
            raise BadArgumentError(f"entrance_cameras[{number}]", f"camera {camera.camera_id!r} is named twice")
        found.append(entrance)
    return found


def _entrance(where: str, camera: Camera, known: Sequence[Entrance]) -> Entrance:
    """The configured entrance with what the call says in place of it; or what the call says alone."""
    meant = [each for each in known if each.camera_id == camera.camera_id and camera.node_id in (None, each.node_id)]
    if len(meant) > 1 and camera.line:
        meant = [each for each in meant if each.line == camera.line] or meant
    if len(meant) > 1:
        places = ", ".join(f"{each.node_id}/{each.camera_id}, line {each.line}" for each in meant)
        raise BadArgumentError(where, f"{camera.camera_id!r} may be any of {places}; add node_id or line")
    if meant:
        return replace(meant[0], line=camera.line or meant[0].line, inward=camera.inward or meant[0].inward)
    if not camera.line:
        names = ", ".join(sorted(f"{each.node_id}/{each.camera_id}" for each in known)) or "there is none"
        hint = "name its line, or configure it under [platforms.retail.stores]"
        raise BadArgumentError(where, f"camera {camera.camera_id!r} is no entrance known here ({names}); {hint}")
    made = Entrance(camera.camera_id, camera.line, node_id=camera.node_id)
    return replace(made, inward=camera.inward) if camera.inward else made


async def _results(
    context: Context, entrances: Sequence[Entrance], start_ms: int, end_ms: int
) -> Sequence[KeptResult]:
    nodes = {each.node_id for each in entrances}
    query = ResultQuery(
        types=TYPES,
        cameras=tuple(sorted({each.camera_id for each in entrances})),
        nodes=() if None in nodes else tuple(sorted(node for node in nodes if node)),
        since_utc_ms=start_ms - round(max(each.gap_after_s for each in entrances) * 1000),
        until_utc_ms=end_ms,
        limit=RESULTS_MAX,
    )
    results = await context.results(query)
    if len(results) >= RESULTS_MAX:
        raise FunctionError("too_much", f"the range has {RESULTS_MAX} results or more; ask for a shorter one")
    return results


@check_settings
def check_entrances(settings: Mapping[str, Any], here: Here) -> list[str]:
    """Every mistake in `[platforms.retail]`."""
    known, mistakes = read_what_can_be(RetailSettings, settings)
    for store_id, store in known.stores.items() if known else ():
        seen: list[tuple[str, str]] = []
        for n, entrance in enumerate(store.entrances if store else ()):
            if not entrance:  # too wrong to be read, which is told
                continue
            where = f"stores.{store_id}.entrances[{n}]"
            mistakes += not_here(f"{where}.camera_id", "camera", entrance.camera_id, here.cameras)
            if (entrance.camera_id, entrance.line) in seen:
                mistakes.append(f"{where}.line: {entrance.line!r} of {entrance.camera_id} is there twice")
            seen.append((entrance.camera_id, entrance.line))
    return mistakes


@at_start
async def publish_entrances(context: Context) -> None:
    """Writes the shops and entrances of `[platforms.retail]` to the state; entrances gone from there are deleted."""
    try:
        settings = read(RetailSettings, context.settings, strict=True)
    except ShapeError as error:
        raise FunctionError("bad_settings", f"[platforms.retail]: {error}") from error
    entrances = {
        f"{store_id}/{entrance.camera_id}/{entrance.line}": replace(entrance, store_id=store_id, node_id=context.host)
        for store_id, store in settings.stores.items()
        for entrance in store.entrances
    }
    stores = {entry.key: entry for entry in await context.state.entries(STORES)}
    for store_id, store in settings.stores.items():
        known = stores[store_id].value if store_id in stores else {}
        if known.get("name") != store.name:  # what else is known of the shop is somebody else's to write
            await context.state.put(STORES, store_id, {**known, "name": store.name})
    present = {entry.key: entry for entry in await context.state.entries(ENTRANCES)}
    for key, entrance in entrances.items():
        plain = fields_of(entrance)
        if key not in present or present[key].value != plain:
            await context.state.put(ENTRANCES, key, plain)
    for key, entry in present.items():
        if entry.written_by == context.host and key not in entrances:
            await context.state.delete(ENTRANCES, key)
