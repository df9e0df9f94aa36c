"""Which pipeline of a camera a call means, and what it is told of it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from platforms.context import BadArgumentError
from platforms.manufacturing.types import ProcessingPipeline, StreamResult

SETTLED = frozenset({"waiting", "failed", "paused", "stopped", "ended", "auth_failed", "lost"})
"""States in which no first frame is to be waited for."""

_NOT_YET = {
    "model": "the model is pipelines.model of the node's agent.toml",
    "confidence_min": "set pipelines.<name>.confidence_min of the node's desired state",
    "classes": "set pipelines.<name>.classes_ignored of the node's desired state",
    "fps_max": "the rate is cameras.fps_target of the node's agent.toml",
}


def check_can_be_had(pipeline: ProcessingPipeline) -> None:
    """Raises BadArgumentError for what a call cannot choose yet; the message says where it is set instead."""
    for name, instead in _NOT_YET.items():
        if getattr(pipeline, name) not in (None, ()):
            text = f"{name} cannot be chosen by a call yet: {instead}, and leave it out here"
            raise BadArgumentError(f"pipeline.{name}", text)


def chosen(camera_id: str, pipeline: ProcessingPipeline, streams: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row of the pipeline that is meant. Raises BadArgumentError where it is not there, or not the only one."""
    rows = {str(row["pipeline"]): row for row in streams if row.get("pipeline")}
    names = ", ".join(sorted(rows)) or "there is none"
    if not rows:
        text = f"camera {camera_id} has no pipeline: add one to agent.toml ([[pipelines]], camera = {camera_id!r})"
        raise BadArgumentError("camera_id", text)
    if pipeline.name and pipeline.name not in rows:
        text = f"camera {camera_id} has no pipeline {pipeline.name!r} ({names}); another one cannot be made yet"
        raise BadArgumentError("pipeline.name", text)
    if not pipeline.name and len(rows) > 1:
        raise BadArgumentError("pipeline.name", f"camera {camera_id} has several pipelines: {names}; name one")
    return rows[pipeline.name or next(iter(rows))]


def result_of(camera_id: str, row: Mapping[str, Any]) -> StreamResult:
    """A row of `status`, with the fields of `schemas.messages.StreamReport`."""
    return StreamResult(
        camera_id,
        pipeline=str(row["pipeline"]),
        state=str(row.get("state", "")),
        engine=str(row.get("engine", "")),
        frames=int(row.get("frames_total", 0)),
        frames_dropped=int(row.get("dropped_total", 0)),
        detections=int(row.get("detections_total", 0)),
        fps=float(row.get("fps", 0.0)),
        infer_ms_p50=float(row.get("infer_ms_p50", 0.0)),
        infer_ms_p99=float(row.get("infer_ms_p99", 0.0)),
        decide_ms_p99=float(row.get("decide_ms_p99", 0.0)),
        counts=dict(row.get("counts", {})),
        error=str(row.get("error", "")),
    )


def is_settled(result: StreamResult) -> bool:
    """Whether there is nothing to be waited for: it decides frames, or will not before somebody does something."""
    return result.frames > 0 or result.state in SETTLED
