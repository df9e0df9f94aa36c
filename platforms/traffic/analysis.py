"""Traffic at a junction from what is kept of its cameras. Pure: time and results are arguments.

    results of the window and of the one before ─▶ by camera ─▶ coverage, crossings, zone counts ─▶ figures (flow.py)

What was not observed is None and a note, never nought: a silent camera and an empty road are different things.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from platforms.context import KeptResult
from platforms.coverage import Coverage, coverage, least_share
from platforms.traffic import flow
from platforms.traffic.types import (
    Approach,
    ApproachFlow,
    CameraCoverage,
    FlowAnalysis,
    FlowDirection,
    FlowPeak,
    FlowQuality,
    FlowTendency,
    FlowTrend,
    LevelOfService,
)

TYPES = ("LineCrossed", "ZoneCountChanged", "StreamSample", "ResultAggregate", "ObjectSeen", "ObjectGone")
"""What is looked at: crossings and counts, and whatever else shows that a camera was watching."""

PEAK_COVERAGE_MIN = 0.9  # below it the busiest interval may be the one that was not observed
TREND_COVERAGE_MIN = 0.5  # of both windows
SERVICE_S_MIN = 900.0  # the HCM grades 15 minutes
_TENDENCIES = {1: FlowTendency.RISING, 0: FlowTendency.STEADY, -1: FlowTendency.FALLING}

Camera = tuple[str, str]
"""Node and camera."""


@dataclass(frozen=True, slots=True)
class Window:
    """[start_ms, end_ms) and the results in it, and before it for as long as a camera may be silent."""

    start_ms: int
    end_ms: int
    results: Sequence[KeptResult]


@dataclass(frozen=True, slots=True)
class _Crossing:
    time_ms: int
    direction: FlowDirection
    class_name: str


@dataclass(frozen=True, slots=True)
class _Watched:
    """An approach in one window."""

    approach: Approach
    coverage: Coverage
    crossings: Sequence[_Crossing]
    results: Sequence[KeptResult]
    earlier: Sequence[KeptResult]  # of the window before

    def vehicle_times(self, direction: FlowDirection) -> list[int]:
        classes = self.approach.vehicle_classes
        return [one.time_ms for one in self.crossings if one.direction is direction and one.class_name in classes]


def analyse(intersection_id: str, approaches: Sequence[Approach], now: Window, before: Window) -> FlowAnalysis:
    """All approaches in the window, each against itself in the one before."""
    earlier = _watch(approaches, before)
    watched = _watch(approaches, now, earlier)
    counted = [_counted(here, there) for here, there in zip(watched, earlier, strict=True)]
    flows = [_approach(here, [count]) for here, count in zip(watched, counted, strict=True)]
    known = [each.flow_vph for each in flows if each.flow_vph is not None]
    inbound = [time_ms for each in watched for time_ms in each.vehicle_times(FlowDirection.INBOUND)]
    coverages = [each.coverage for each in watched]
    return FlowAnalysis(
        intersection_id,
        now.start_ms,
        now.end_ms,
        vehicles=sum(each.vehicles for each in flows),
        vehicles_out=sum(each.vehicles_out for each in flows),
        approaches=tuple(flows),
        quality=FlowQuality(round(least_share(coverages), 4), _cameras(watched), _notes(watched, earlier)),
        counts=_counts([one for each in watched for one in each.crossings]),
        flow_vph=round(sum(known), 1) if known else None,
        heavy_vehicle_share=_heavy_share(watched),
        peak=_peak(inbound, coverages),
        trend=_trend(counted, watched),
    )


# ---- one approach --------------------------------------------------------------------------------


def _watch(approaches: Sequence[Approach], window: Window, before: Sequence[_Watched] = ()) -> list[_Watched]:
    by_camera: dict[Camera, list[KeptResult]] = defaultdict(list)
    for result in window.results:
        by_camera[result.node, result.camera].append(result)
    watched = []
    for approach, there in zip_longest(approaches, before):
        results = by_camera[_camera_of(approach)]
        times_ms = [result.time_utc_ms for result in results]
        heard = coverage(times_ms, window.start_ms, window.end_ms, round(approach.gap_after_s * 1000))
        inside = [result for result in results if window.start_ms <= result.time_utc_ms < window.end_ms]
        earlier = there.results if there else ()
        watched.append(_Watched(approach, heard, _crossings(approach, inside), results, earlier))
    return watched


def _crossings(approach: Approach, results: Iterable[KeptResult]) -> list[_Crossing]:
    """Each object's first crossing of the line in each direction."""
    found, seen = [], set()
    for result in results:
        data = result.data
        if result.type != "LineCrossed" or data.get("line") != approach.line:
            continue
        into = data.get("direction") == approach.inbound
        object_id = data.get("object_id")
        if object_id and (object_id, into) in seen:
            continue
        seen.add((object_id, into))
        direction = FlowDirection.INBOUND if into else FlowDirection.OUTBOUND
        found.append(_Crossing(result.time_utc_ms, direction, str(data.get("class", ""))))
    return found


def _approach(here: _Watched, counted: Sequence[flow.Counted]) -> ApproachFlow:
    approach, heard = here.approach, here.coverage
    times_ms = here.vehicle_times(FlowDirection.INBOUND)
    vph = flow.flow_vph(len(times_ms), heard.observed_s)
    heavy = _heavy_share([here])
    zone = _occupancy(here)
    density = None
    if zone is not None and approach.zone_length_m:
        density = flow.density_per_km_lane(zone.vehicles, approach.zone_length_m, approach.lanes)
    level, basis = _service(here, density, heavy)
    return ApproachFlow(
        approach=approach.name,
        node_id=approach.node_id or "",
        camera_id=approach.camera_id,
        line=approach.line,
        vehicles=len(times_ms),
        vehicles_out=len(here.vehicle_times(FlowDirection.OUTBOUND)),
        coverage=round(heard.share, 4),
        counts=_counts(here.crossings),
        flow_vph=_rounded(vph, 1),
        heavy_vehicle_share=heavy,
        headway_mean_s=_rounded(flow.mean(flow.headways_s(times_ms, heard.silences)), 3),
        peak=_peak(times_ms, [heard]),
        occupancy=_rounded(zone.share if zone else None, 4),
        vehicles_in_zone=_rounded(zone.vehicles if zone else None, 3),
        density_vpkm_lane=_rounded(density, 2),
        level_of_service=level,
        level_of_service_basis=basis,
        trend=_trend(counted, [here]),
    )


def _occupancy(here: _Watched) -> flow.Occupancy | None:
    """Of the approach's zone: from its changes, earlier ones too; without any, from what the samples say."""
    zone, classes = here.approach.zone, here.approach.vehicle_classes
    if zone is None:
        return None
    steps, first = [], None
    for result in chain(here.earlier, here.results):
        if result.type == "ZoneCountChanged" and result.data.get("zone") == zone:
            first = _number(result.data.get("counts_before"), classes) if first is None else first
            steps.append((result.time_utc_ms, _number(result.data.get("counts"), classes)))
    if first is None:
        for result in here.results:
            if result.type == "StreamSample":
                inside = _within(result.data, "now", "zones", zone, "counts")
                first = _number(inside, classes) if inside is not None else first
    return None if first is None else flow.occupancy(first, steps, here.coverage.observed)


def _service(here: _Watched, density: float | None, heavy: float | None) -> tuple[LevelOfService | None, str]:
    if not here.approach.uninterrupted:
        return None, "not given: at a signal or sign it goes by control delay (HCM), which is not measured"
    if density is None:
        return None, "not given: no zone with a length says how dense traffic is"
    if here.coverage.observed_s < SERVICE_S_MIN:
        return None, f"not given: {here.coverage.observed_s:.0f} s were observed; the HCM grades 15 minutes"
    cars = flow.passenger_cars(density, heavy or 0.0)
    text = f"density {cars:.1f} pc/km/ln of uninterrupted flow (HCM 6, exhibit 12-15)"
    return LevelOfService(flow.level_of_service(cars)), text


# ---- of one approach or all together -------------------------------------------------------------


def _counted(here: _Watched, there: _Watched) -> flow.Counted:
    enough = min(here.coverage.share, there.coverage.share) >= TREND_COVERAGE_MIN
    return flow.Counted(
        len(here.vehicle_times(FlowDirection.INBOUND)),
        here.coverage.observed_s,
        len(there.vehicle_times(FlowDirection.INBOUND)),
        there.coverage.observed_s if enough else 0.0,
    )


def _trend(counted: Sequence[flow.Counted], watched: Sequence[_Watched]) -> FlowTrend | None:
    """None as soon as one approach cannot be compared: the others' sum would be another junction's."""
    found = flow.change(counted) if watched and all(each.comparable for each in counted) else None
    if found is None:
        return None
    return FlowTrend(round(found.flow_before_vph, 1), _TENDENCIES[found.sign], _rounded(found.share, 4))


def _peak(times_ms: Sequence[int], coverages: Sequence[Coverage]) -> FlowPeak | None:
    if least_share(coverages) < PEAK_COVERAGE_MIN:
        return None
    found = flow.peak(times_ms, coverages[0].start_ms, coverages[0].end_ms)
    if found is None:
        return None
    return FlowPeak(round(found.factor, 4), found.interval_s, found.begins_ms, round(found.flow_vph, 1))


def _heavy_share(watched: Sequence[_Watched]) -> float | None:
    """Of all vehicles into the junction; None where there was none."""
    vehicles = heavy = 0
    for each in watched:
        for one in each.crossings:
            if one.direction is FlowDirection.INBOUND and one.class_name in each.approach.vehicle_classes:
                vehicles += 1
                heavy += one.class_name in each.approach.heavy_classes
    return round(heavy / vehicles, 4) if vehicles else None


def _counts(crossings: Iterable[_Crossing]) -> dict[FlowDirection, dict[str, int]]:
    counts: dict[FlowDirection, Counter[str]] = {direction: Counter() for direction in FlowDirection}
    for one in crossings:
        counts[one.direction][one.class_name] += 1
    return {direction: dict(sorted(of_class.items())) for direction, of_class in counts.items()}


# ---- what it rests on ----------------------------------------------------------------------------


def _cameras(watched: Sequence[_Watched]) -> tuple[CameraCoverage, ...]:
    by_camera = {_camera_of(each.approach): each for each in watched}
    return tuple(_camera(each) for each in by_camera.values())


def _camera(each: _Watched) -> CameraCoverage:
    heard = each.coverage
    times_ms = [result.time_utc_ms for result in each.results if result.time_utc_ms < heard.end_ms]
    return CameraCoverage(
        node_id=each.approach.node_id or "",
        camera_id=each.approach.camera_id,
        results=sum(time_ms >= heard.start_ms for time_ms in times_ms),
        coverage=round(heard.share, 4),
        gaps=len(heard.silences),
        longest_gap_s=round(heard.longest_silence_s, 3),
        newest_age_s=round((heard.end_ms - max(times_ms)) / 1000, 3) if times_ms else None,
    )


def _notes(watched: Sequence[_Watched], earlier: Sequence[_Watched]) -> tuple[str, ...]:
    notes = []
    for here, there in zip(watched, earlier, strict=True):
        heard, name = here.coverage, here.approach.name
        if not heard.observed:
            camera = f"camera {here.approach.camera_id} of {here.approach.node_id}"
            notes.append(f"{name}: nothing was heard of {camera}; its traffic is unknown, not nought")
        elif heard.silences:
            silent_s = (heard.end_ms - heard.start_ms) / 1000 - heard.observed_s
            notes.append(f"{name}: silent for {silent_s:.0f} s; rates are over the {heard.observed_s:.0f} s observed")
        if heard.observed and heard.share < PEAK_COVERAGE_MIN:
            notes.append(f"{name}: no peak, since the busiest interval may not have been observed")
        if heard.observed and min(heard.share, there.coverage.share) < TREND_COVERAGE_MIN:
            notes.append(f"{name}: no trend, since {there.coverage.share:.0%} of the window before were observed")
        if here.approach.zone and heard.observed and _occupancy(here) is None:
            notes.append(f"{name}: nothing is known of zone {here.approach.zone}; is it a zone of this camera?")
    return tuple(notes)


def _camera_of(approach: Approach) -> Camera:
    return approach.node_id or "", approach.camera_id


def _number(counts: Any, classes: Sequence[str]) -> int:
    if not isinstance(counts, Mapping):
        return 0
    return sum(count for name, count in counts.items() if name in classes and isinstance(count, int))


def _within(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
