"""What is kept here, asked for by people and programs: results one by one, or summed up in windows."""

import sqlite3
from itertools import islice
from typing import Any

from agent.results.aggregate import BOUNDS, Aggregate, Summary
from agent.results.result import FRAME, Result, chosen, meant, narrowed
from agent.results.store import aggregates, first_times, results
from schemas.sync import DataFilter

Key = tuple[int, str, str]


def newest(db: sqlite3.Connection, data_filter: DataFilter, limit: int) -> list[Result]:
    """The newest results that the filter means, at most `limit`, in the order in which they came."""
    found = (narrowed(data_filter, stored.result) for stored in results(db, data_filter, newest_first=True))
    return list(islice((result for result in found if result is not None), limit))[::-1]


def in_windows(db: sqlite3.Connection, data_filter: DataFilter, window_s: float) -> list[Aggregate]:
    """Frame results of each pipeline in windows of this length, from the raw ones as far back as they reach, and
    before that from the windows that were kept (unless the filter asks for confidences, which these cannot tell). A
    kept window counts where it begins.
    """
    length_ms = max(1, round(window_s * 1000))
    made: dict[Key, Summary] = {}
    if data_filter.types and FRAME not in data_filter.types:
        return []
    edges = first_times(db, data_filter, FRAME)
    if not data_filter.confidence_min:
        for kept in list(aggregates(db, data_filter)):
            source = kept.camera, kept.pipeline
            first_ms = edges.get(source)
            if first_ms is None or kept.from_utc_ms <= first_ms:
                _add(made, kept, data_filter, length_ms)
                end_ms = kept.from_utc_ms + round(kept.window_s * 1000)
                if first_ms is not None and first_ms < end_ms:
                    edges[source] = end_ms  # it holds these frames whole, the raw results perhaps only some of them
    for stored in results(db, data_filter):
        result = stored.result
        if result.type != FRAME or not meant(data_filter, result):
            continue
        if result.time_utc_ms >= edges.get((result.camera, result.pipeline), 0):
            summary = _of(made, result.time_utc_ms, result.camera, result.pipeline, length_ms)
            summary.add(chosen(data_filter, result.objects))
    return [
        Aggregate(camera, pipeline, from_ms, length_ms / 1000, made[from_ms, camera, pipeline])
        for from_ms, camera, pipeline in sorted(made)
    ]


def _of(made: dict[Key, Summary], time_ms: int, camera: str, pipeline: str, length_ms: int) -> Summary:
    key = (time_ms - time_ms % length_ms, camera, pipeline)
    summary = made.get(key)
    if summary is None:
        summary = made[key] = Summary(BOUNDS)
    return summary


def _add(made: dict[Key, Summary], kept: Aggregate, data_filter: DataFilter, length_ms: int) -> None:
    summary = _of_classes(kept.summary, data_filter.classes) if data_filter.classes else kept.summary
    _of(made, kept.from_utc_ms, kept.camera, kept.pipeline, length_ms).merge(summary)


def _of_classes(whole: Summary, names: tuple[str, ...]) -> Summary:
    """Some classes of a kept window. Least and most objects of several together are bounds that hold, not counts that
    were seen: which frames they shared is not known any more."""
    classes = {name: each for name, each in whole.classes.items() if name in names}
    always = [each.count_min for each in classes.values() if each.frames == whole.frames]
    return Summary(
        whole.bounds,
        whole.frames,
        sum(always),
        sum(each.count_max for each in classes.values()),
        sum(each.detections for each in classes.values()),
        classes,
    )


def shown(result: Result) -> dict[str, Any]:
    """A result for JSON."""
    return {
        "time_utc_ms": result.time_utc_ms,
        "camera_id": result.camera,
        "pipeline": result.pipeline,
        "type": result.type,
        "subject": result.subject,
        "local_only": result.local_only,
        "told": result.told,
        "data": dict(result.data),
    }
