"""Workloads that are pipelines: a model on a camera of this node, added and removed while the others run on."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from agent.capture.camera import CameraState
from agent.config import PipelineConfig
from agent.documents.plan import Tuning
from agent.slotted import PipelineState
from agent.stages.stages import OUTSIDE
from agent.stream import Stream
from agent.track.settings import check_tracker_settings
from agent.workloads.errors import WorkloadError
from agent.workloads.machine import Ended
from agent.workloads.models import FindModel
from agent.workloads.runner import Begun, Note
from platforms.stages import StageError, StageKinds
from schemas.shape import ShapeError, read
from schemas.workloads import PipelineSpec, WorkloadSpec, WorkloadState

LOOK_EVERY_S = 0.5
OWN = ("camera", "model", "name")  # keys of a [[pipelines]] table that a spec has beside `settings`
NUMBERS = {"CONFIDENCE_MIN": "confidence_min", "SAMPLE_INTERVAL_S": "sample_interval_s"}
"""Variables that mean a setting of a pipeline; all others are refused, for a pipeline has no environment."""


class PipelineRunner:
    """A `Runner`. The pipeline bears the workload's name."""

    resumes = False

    def __init__(
        self,
        streams: Mapping[str, Stream],
        find_model: FindModel,
        *,
        configured: Mapping[str, PipelineConfig],
        gives_way: Callable[[str], bool],
        wanted: Callable[[str], bool],
        enabled: Collection[str],
        private: Collection[str],
        models: Mapping[str, str],
        stages: StageKinds,
        note: Note,
    ) -> None:
        """`configured`: pipelines by title; one that `gives_way` to a named one is back when that is not `wanted` any
        more. `enabled`: cameras that run anyway. `private`: cameras of which nothing may leave the node. `models`: of
        a configured pipeline by camera, for a spec that names none. `stages`: that a pipeline may bring."""
        self._streams = streams
        self._find_model = find_model
        self._configured = configured
        self._gives_way = gives_way
        self._wanted = wanted
        self._enabled = enabled
        self._private = private
        self._models = models
        self._stages = stages
        self._note = note
        self._standing_in: set[str] = set()  # names of configured ones that gave way
        self._woken: set[str] = set()  # cameras that run for workloads alone

    def refusal(self, name: str, spec: WorkloadSpec) -> str | None:
        assert spec.pipeline is not None
        camera = spec.pipeline.camera
        if camera not in self._streams:
            return (
                f"pipeline.camera: no camera {camera!r} here ({', '.join(sorted(self._streams)) or 'there is none'})"
            )
        if (there := self._configured.get(name)) is not None:
            if not self._gives_way(name):
                return f"a pipeline of this node's configuration is called {name} already"
            if there.camera != camera:
                return (
                    f"pipeline.camera: the pipeline {name} of this node's configuration is of camera {there.camera}"
                )
        if not spec.pipeline.model and camera not in self._models:
            return f"pipeline.model: is missing, and no configured pipeline of camera {camera} has one"
        if wrong := _mistakes(name, spec) or stage_mistakes(name, spec.pipeline, there, self._stages):
            return "; ".join(wrong)
        local = bool(spec.pipeline.settings.get("local_only"))
        if local != (camera in self._private):
            return (
                f"pipeline.settings.local_only: camera {camera} is "
                + ("configured so that nothing of it leaves the node: it must be true" if not local else
                   "not configured so; what leaves of a camera is decided in agent.toml")
            )  # fmt: skip
        return None

    async def start(self, name: str, spec: WorkloadSpec, *, resume: bool) -> Begun:
        assert spec.pipeline is not None
        stream = self._streams[spec.pipeline.camera]
        model = self._models[stream.id] if not spec.pipeline.model else self._find_model(spec.pipeline.model)
        config, tuning = read_pipeline(name, spec, model, self._configured.get(name))
        await stream.remove(name)
        if name in self._configured:
            self._standing_in.add(name)
        await stream.add(config, tuning)
        if not stream.is_running and await stream.start() and stream.id not in self._enabled:
            self._woken.add(stream.id)
        state, error = stream.part_state(name)
        if state is PipelineState.FAILED:
            await stream.remove(name)
            raise WorkloadError(error)
        return Begun(error)

    async def ended(self, name: str, spec: WorkloadSpec) -> Ended:
        assert spec.pipeline is not None
        stream = self._streams[spec.pipeline.camera]
        waiting = ""
        while True:
            state, error = stream.part_state(name)
            camera = stream.camera_stats()
            if state is PipelineState.FAILED:
                await stream.remove(name)
                return Ended(False, error)
            if camera is not None and camera.state in (CameraState.ENDED, CameraState.FAILED):
                await stream.remove(name)
                ok = camera.state is CameraState.ENDED
                return Ended(ok, "the recording has ended" if ok else f"camera {stream.id}: {camera.last_error}")
            why = "" if state is PipelineState.RUNNING else error or f"camera {stream.id} is stopped"
            if why != waiting:
                self._note(name, WorkloadState.STARTING if why else WorkloadState.RUNNING, why)
                waiting = why
            await asyncio.sleep(LOOK_EVERY_S)

    async def stop(self, name: str, spec: WorkloadSpec, grace_s: float | None = None) -> None:
        assert spec.pipeline is not None
        stream = self._streams[spec.pipeline.camera]
        back = self._configured.get(name)
        if back is not None and name not in self._standing_in:
            return  # it is the configured one that runs
        await stream.remove(name)
        if back is not None and not self._wanted(name):
            self._standing_in.discard(name)
            await stream.add(back, Tuning(), origin="")
        if stream.id in self._woken and not stream.has_pipelines:
            self._woken.discard(stream.id)
            await stream.stop()

    async def logs(self, name: str, lines: int) -> list[str] | None:
        return None


def read_pipeline(
    name: str, spec: WorkloadSpec, model: str, there: PipelineConfig | None = None
) -> tuple[PipelineConfig, Tuning]:
    """The pipeline that is meant, with what `settings` do not have as the one that is `there` has it. Raises
    WorkloadError with every mistake."""
    pipeline = spec.pipeline
    assert pipeline is not None
    if wrong := _mistakes(name, spec):
        raise WorkloadError("; ".join(wrong))
    given = _numbers(spec.env)
    confidence = given.pop("confidence_min", pipeline.confidence_min)
    config = read(PipelineConfig, {**_table(name, pipeline), **given, "model": model}, strict=True)
    if there is not None:
        config = replace(there, model=model, **{key: getattr(config, key) for key in (*pipeline.settings, *given)})
    return config, Tuning(True, confidence, frozenset(pipeline.classes_ignored))


def stage_mistakes(name: str, pipeline: PipelineSpec, there: PipelineConfig | None, stages: StageKinds) -> list[str]:
    """What is wrong with the stage that a pipeline brings, if it brings one of its own."""
    table = pipeline.settings.get("stage")
    if table is None or (there is not None and there.stage == table):
        return []
    where = "pipeline.settings.stage"
    try:
        made = stages.make(table, pipeline.camera, name)
    except StageError as error:
        return [f"{where}.{text}" for text in error.mistakes]
    return [f"{where}: {OUTSIDE}"] if made.wires.come_from_outside else []


def _table(name: str, pipeline: PipelineSpec) -> dict[str, Any]:
    return {**pipeline.settings, "camera": pipeline.camera, "model": pipeline.model or "-", "name": name}


def _mistakes(name: str, spec: WorkloadSpec) -> list[str]:
    pipeline = spec.pipeline
    assert pipeline is not None
    found = [f"pipeline.settings.{key}: belongs beside settings" for key in OWN if key in pipeline.settings]
    known = ", ".join(NUMBERS)
    found += [f"env.{key}: means nothing to a pipeline ({known})" for key in spec.env if key not in NUMBERS]
    try:
        numbers = _numbers(spec.env)
        if not 0 <= numbers.get("confidence_min", 0.0) <= 1:
            found.append(f"env.CONFIDENCE_MIN: {numbers['confidence_min']:g} is not within 0 and 1")
        numbers.pop("confidence_min", None)
        config = read(PipelineConfig, {**_table(name, pipeline), **numbers}, strict=True)
        found += [f"pipeline.settings.tracker.{text}" for text in check_tracker_settings(config.tracker)]
    except ShapeError as error:
        found += [f"pipeline.settings.{text}" for text in error.mistakes]
    except ValueError as error:
        found.append(str(error))
    return found


def _numbers(env: Mapping[str, str]) -> dict[str, float]:
    found = {}
    for key, text in env.items():
        if key in NUMBERS:
            try:
                found[NUMBERS[key]] = float(text)
            except ValueError:
                raise ValueError(f"env.{key}: {text[:40]!r} is no number") from None
    return found
