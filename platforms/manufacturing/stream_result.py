"""Which pipeline of a camera a call means, and what it is told of it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from platforms.context import BadArgumentError
from platforms.manufacturing.types import ProcessingPipeline, StreamResult
from platforms.services import PipelineWanted

SETTLED = frozenset({"waiting", "failed", "paused", "stopped", "ended", "auth_failed", "lost"})
"""States in which no first frame is to be waited for."""


def wanted_of(pipeline: ProcessingPipeline) -> PipelineWanted:
    """What is asked of the node's pipelines."""
    one = pipeline
    return PipelineWanted(one.name, one.model, one.confidence_min, one.classes, one.fps_max, one.version)


def chosen(camera_id: str, name: str, streams: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row of the pipeline that is meant. Raises BadArgumentError where it is not there, or not the only one."""
    rows = {str(row["pipeline"]): row for row in streams if row.get("pipeline")}
    names = ", ".join(sorted(rows)) or "there is none"
    if not rows:
        text = f"camera {camera_id} has no pipeline: name a model, or add one to agent.toml ([[pipelines]])"
        raise BadArgumentError("camera_id", text)
    if name and name not in rows:
        text = f"camera {camera_id} has no pipeline {name!r} ({names}); with a model, or other settings, it is made"
        raise BadArgumentError("pipeline.name", text)
    if not name and len(rows) > 1:
        raise BadArgumentError("pipeline.name", f"camera {camera_id} has several pipelines: {names}; name one")
    return rows[name or next(iter(rows))]


def result_of(camera_id: str, row: Mapping[str, Any], version: int = 0) -> StreamResult:
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
        version=version,
    )


def is_settled(result: StreamResult) -> bool:
    """Whether there is nothing to be waited for: it decides frames, or will not before somebody does something."""
    return result.frames > 0 or result.state in SETTLED
