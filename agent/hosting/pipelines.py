"""The node's named pipelines as platforms' functions see them: made, changed, gone back to and taken away.

What a call makes takes the way of everything that is changed at the node itself: the field `pipelines.<name>.spec` of
the documents, as `edge-agent local set` would write it. Versions that were there are remembered.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from agent.config import PipelineConfig
from agent.documents.plan import Plan
from agent.infer.bundle_files import load_bundle
from agent.state import StateFile
from agent.stream import Stream
from agent.workloads.errors import NotNowError
from agent.workloads.models import FindModel
from platforms.context import BadArgumentError, FunctionError
from platforms.services import PipelineWanted
from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.calls.served import Served, plain
from runtime.errors import EdgewrightError
from schemas.fields import Owner, mistake
from schemas.shape import Limit, fields_of
from schemas.workloads import NamedPipeline, PipelineSpec, WorkloadReport, parse_named_pipeline

MEMORY = "pipelines.versions"  # in state.db: by name, the newest last
VERSIONS_MAX = 10  # of one name
NAMES_MAX = 100  # the longest unused goes


class Deciding(Protocol):
    """The documents."""

    @property
    def plan(self) -> Plan: ...

    async def write(self, path: str, value: Any) -> bool: ...


@dataclass(slots=True)
class _Kept:
    versions: dict[int, NamedPipeline] = field(default_factory=dict)


class NodePipelines:
    """`platforms.services.Pipelines` of one agent."""

    def __init__(
        self,
        streams: Mapping[str, Stream],
        configured: Sequence[PipelineConfig],
        state: StateFile,
        find_model: FindModel,
        documents: Callable[[], Deciding],
        reports: Callable[[], Mapping[str, WorkloadReport]],
        at_work: Callable[[str], bool],
    ) -> None:
        """`at_work`: whether a workload of a name runs, or has not ended yet."""
        self._at_work = at_work
        self._streams = streams
        self._configured = {one.title: one for one in configured}
        self._state = state
        self._find_model = find_model
        self._documents = documents
        self._reports = reports
        self._changing = asyncio.Lock()

    # ---- asked ------------------------------------------------------------------------------------

    def version(self, name: str) -> int:
        """Of what runs of this name, or ran last; 0: as configured."""
        if name not in self._documents().plan.named:
            return 0
        found = self._reports().get(name)
        return found.generation if found else 0

    def standing(self, name: str) -> tuple[str, str]:
        """State and reason of a pipeline that is to run and does not yet; ("", "") where it runs as it should."""
        if name not in self._documents().plan.named:
            return ("starting", "") if self._at_work(name) else ("", "")
        found = self._reports().get(name)
        if found is None:
            return "", ""
        wanted = self._documents().plan.workloads[name].generation
        if found.generation != wanted and found.state.value == "running":
            return "starting", ""
        return ("", "") if found.state.value == "running" else (found.state.value, found.reason)

    def versions(self, name: str) -> list[int]:
        """Those that can be gone back to."""
        return sorted(self._kept().get(name, _Kept()).versions)

    # ---- changed ----------------------------------------------------------------------------------

    async def put(self, camera_id: str, wanted: PipelineWanted) -> tuple[str, int]:
        """From now on, and after restarts; its name and version. Raises BadArgumentError, FunctionError."""
        async with self._changing:
            name = self._name(camera_id, wanted)
            if wanted.version is not None:
                named = self._of_version(camera_id, name, wanted)
                if named is None:
                    await self._write(name, None)
                    return name, 0
            else:
                named = await self._new(camera_id, name, wanted)
            await self._write(name, named)
            return name, named.version

    async def take_away(self, camera_id: str, name: str) -> bool:
        """One that was made is gone; a configured one takes no frames until it is put again. False: so it was."""
        async with self._changing:
            made = name in self._documents().plan.named
            there = self._configured.get(name)
            if made:
                await self._documents().write(_spec(name), None)
            if there is None:
                return made
            was = self._documents().plan.tunings[name].enabled
            await self._documents().write(f"pipelines.{name}.enabled", False)
            return was

    def of_camera(self, camera_id: str, name: str) -> str:
        """The pipeline of that name, or the only one. Raises BadArgumentError."""
        names = sorted(config.title for config in self._stream(camera_id).configs)
        known = ", ".join(names) or "there is none"
        if name and name not in names:
            raise BadArgumentError("pipeline", f"camera {camera_id} has no pipeline {name!r} ({known})")
        if not name and len(names) != 1:
            raise BadArgumentError("pipeline", f"camera {camera_id} does not have one pipeline: {known}; name one")
        return name or names[0]

    async def enable(self, name: str) -> None:
        """A configured one that was taken away takes frames again."""
        tuning = self._documents().plan.tunings.get(name)
        if tuning is not None and not tuning.enabled:
            await self._documents().write(f"pipelines.{name}.enabled", True)

    def _stream(self, camera_id: str) -> Stream:
        found = self._streams.get(camera_id)
        if found is None:
            known = ", ".join(sorted(self._streams)) or "there is none"
            raise BadArgumentError("camera_id", f"no camera {camera_id!r} here ({known})")
        return found

    def _name(self, camera_id: str, wanted: PipelineWanted) -> str:
        """The one that is asked for, or the camera's only one, or the camera's own name where it has none."""
        names = [config.title for config in self._stream(camera_id).configs]
        name = wanted.name or (names[0] if len(names) == 1 else camera_id if not names else "")
        if not name:
            text = f"camera {camera_id} has several pipelines: {', '.join(sorted(names))}; name one"
            raise BadArgumentError("pipeline.name", text)
        if mistake(_spec(name), None, Owner.NODE):
            raise BadArgumentError("pipeline.name", f"{name[:80]!r} must be 1 to 63 letters, digits, . _ -")
        for other, stream in self._streams.items():
            if other != camera_id and any(config.title == name for config in stream.configs):
                raise BadArgumentError(
                    "pipeline.name", f"{name!r} is a pipeline of camera {other}: take another name"
                )
        plan = self._documents().plan
        if name in plan.workloads and name not in plan.named:
            raise BadArgumentError("pipeline.name", f"a workload of the coordinator is called {name!r}")
        return name

    def _of_version(self, camera_id: str, name: str, wanted: PipelineWanted) -> NamedPipeline | None:
        """None for 0: as configured."""
        if wanted.says_more:
            raise BadArgumentError(
                "pipeline.version", "goes back to a version as it was: leave out all else but the name"
            )
        if wanted.version == 0 and name in self._configured:
            return None
        kept = self._kept().get(name, _Kept()).versions
        found = kept.get(wanted.version or 0)
        if found is None or found.pipeline.camera != camera_id:
            there = ([0] if name in self._configured else []) + sorted(kept)
            known = ", ".join(map(str, there)) or "there is none"
            raise BadArgumentError("pipeline.version", f"there is no version {wanted.version} of {name!r} ({known})")
        return found

    async def _new(self, camera_id: str, name: str, wanted: PipelineWanted) -> NamedPipeline:
        model = wanted.model or ""
        if model and name in self._documents().plan.models:
            text = f"the coordinator says which model it runs: pipelines.{name}.model of the desired state"
            raise BadArgumentError("pipeline.model", text)
        labels = await asyncio.to_thread(self._labels, camera_id, name, model)
        if unknown := [one for one in wanted.classes if one not in labels]:
            known = ", ".join(labels[:12]) + (", …" if len(labels) > 12 else "")
            raise BadArgumentError("pipeline.classes", f"the model has no class {unknown[0]!r} ({known})")
        settings: dict[str, Any] = {}
        if wanted.classes:
            settings["classes"] = list(wanted.classes)
        if wanted.fps_max:
            settings["fps_max"] = wanted.fps_max
        there = self._configured.get(name)
        if there is None and any(one.local_only for one in self._configured.values() if one.camera == camera_id):
            settings["local_only"] = True  # nothing of this camera leaves the node
        spec = PipelineSpec(camera_id, model, wanted.confidence_min, (), settings)
        kept = self._kept().get(name, _Kept()).versions
        same = next((one for one in kept.values() if one.pipeline == spec), None)
        return same or NamedPipeline(spec, max(kept, default=0) + 1)

    def _labels(self, camera_id: str, name: str, model: str) -> Sequence[str]:
        there = self._configured.get(name) or next(
            (one for one in self._configured.values() if one.camera == camera_id), None
        )
        if not model and there is None:
            raise BadArgumentError(
                "pipeline.model", f"is needed: no configured pipeline of camera {camera_id} has one"
            )
        try:
            folder = self._find_model(model) if model else there.model if there else ""
            return load_bundle(folder).labels
        except NotNowError as error:
            raise BadArgumentError("pipeline.model", str(error)) from error
        except EdgewrightError as error:
            raise BadArgumentError("pipeline.model", f"cannot be used: {error}") from error

    async def _write(self, name: str, named: NamedPipeline | None) -> None:
        value = None if named is None else fields_of(named)
        try:
            if named is not None:
                await self._remember(name, named)
            await self._documents().write(_spec(name), value)
            await self.enable(name)
        except EdgewrightError as error:
            raise FunctionError("not_kept", f"pipeline {name} is as it was: {error}") from error
        if (why := self._documents().plan.refused.get(_spec(name))) is not None:
            await self._documents().write(_spec(name), None)
            raise FunctionError("refused", f"pipeline {name}: {why}")

    # ---- versions ---------------------------------------------------------------------------------

    def _kept(self) -> dict[str, _Kept]:
        """By name, that which was changed last at the end; what cannot be read is not there."""
        found: dict[str, _Kept] = {}
        try:
            raw = json.loads(self._state.recall(MEMORY) or "{}")
        except ValueError:
            return found
        for name, versions in raw.items():
            read = [parse_named_pipeline(one) for one in versions]
            found[name] = _Kept({one.version: one for one in read})
        return found

    async def _remember(self, name: str, named: NamedPipeline) -> None:
        kept = self._kept()
        one = kept.pop(name, _Kept())
        one.versions.pop(named.version, None)
        one.versions[named.version] = named
        for version in list(one.versions)[:-VERSIONS_MAX]:
            del one.versions[version]
        kept[name] = one
        for unused in list(kept)[:-NAMES_MAX]:
            del kept[unused]
        text = json.dumps({name: [fields_of(v) for v in one.versions.values()] for name, one in kept.items()})
        await asyncio.wrap_future(self._state.remember(MEMORY, text))


@dataclass(frozen=True, slots=True)
class StopVideoStream:
    """`{"camera_id": "cam1", "pipeline": "weld"}`"""

    camera_id: Annotated[str, Limit(len_min=1, len_max=63)]
    pipeline: Annotated[str, Limit(len_max=63)] = ""


def stop_function(pipelines: NodePipelines) -> Served:
    """The function `stopVideoStream`."""

    async def stop(call: StopVideoStream) -> dict[str, Any]:
        try:
            name = pipelines.of_camera(call.camera_id, call.pipeline)
            stopped = await pipelines.take_away(call.camera_id, name)
        except BadArgumentError as error:
            raise CallRejectedError("bad_arguments", str(error), error.field) from error
        except EdgewrightError as error:
            raise CallFailedError("not_kept", f"pipeline {call.pipeline} goes on: {error}") from error
        return {"camera_id": call.camera_id, "pipeline": name, "stopped": stopped}

    return plain("stopVideoStream", StopVideoStream, stop)


def _spec(name: str) -> str:
    return f"pipelines.{name}.spec"
