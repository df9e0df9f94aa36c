"""A host in memory, for the tests of a platform: strict as a real one, and nothing has to run.

    BAKERY = load_folder(Path(__file__).parents[1] / "bakery")

    def test_trays_are_counted() -> None:
        host = FakeHost(BAKERY, settings={"loaves_per_tray": 12})
        host.seen("LineCrossed", {"line": "oven_exit"}, at_s=-60)
        assert host.call("countTrays", line="oven_exit")["loaves"] == 12

Arguments, results, events and state are checked against the schema, and what comes back is plain JSON data, as a
caller over MQTT would get it. Errors are those that a caller would be answered: RejectedError, FailedError.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from platforms.checking import Here, settings_error, settings_mistakes
from platforms.context import BadEventError, KeptResult, ResultQuery
from platforms.finding import Finder, in_folder
from platforms.functions import Listener, On
from platforms.host_context import Host, HostContext
from platforms.hosting import BAD_ARGUMENTS as BAD_ARGUMENTS
from platforms.hosting import FailedError as FailedError
from platforms.hosting import RejectedError as RejectedError
from platforms.hosting import run_hooks, served_functions
from platforms.loading import load_platform
from platforms.platform import Platform
from platforms.rules import rules_of
from platforms.samples import SampleWindow
from platforms.services import Stages
from platforms.stages import Fact, Stage, StageKinds
from platforms.trying import FakeMachine, StageTrial
from platforms.trying import Published as Published
from platforms.watching import Condition, MakeCondition
from schemas.fields import Owner
from schemas.language.schema import EventType, Placement, Schema
from schemas.language.validators import InvalidError, Validators, plain
from schemas.state import Entry, StateRefusedError
from schemas.topics import COORDINATOR

NOW_UTC_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
NOT_BOUND = "not_bound"


def load_folder(folder: Path, others: Sequence[Path] = ()) -> Platform:
    """The platform in a folder; `others` are those that it imports, where they are in folders too.

    Raises PlatformError with everything that is wrong with it: a test that loads it checks its bindings.
    """
    found = in_folder(folder)
    finder = Finder([folder, *others])
    return load_platform(found.name if found is not None else folder.name, finder)


@dataclass(frozen=True, slots=True)
class Emitted:
    """An event that was told, as it goes out."""

    event: str
    data: Mapping[str, Any]
    subject: str


@dataclass
class FakeState:
    """The platform's state, checked at each write. Another platform's collections are not there."""

    host: "FakeHost"
    values: dict[tuple[str, str], Entry] = field(default_factory=dict)

    async def get(self, collection: str, key: str) -> Entry | None:
        self._declared(collection)
        kept = self.values.get((collection, key))
        return None if kept is None else replace(kept, age_s=(self.host.now - kept.time_utc_ms) / 1000)

    async def put(self, collection: str, key: str, value: Any) -> None:
        name = self._writable(collection, key)
        keys, values = self.host.validators.state(name)
        try:
            kept = Entry(keys(key), values(plain(value)), self.host.now, 0.0, self.host.name)
        except InvalidError as error:
            raise StateRefusedError("bad_value", collection, key, str(error)) from error
        self.values[collection, kept.key] = kept

    async def delete(self, collection: str, key: str) -> bool:
        self._writable(collection, key)
        return self.values.pop((collection, key), None) is not None

    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        return [one.key for one in await self.entries(collection, prefix)]

    async def entries(self, collection: str, prefix: str = "") -> list[Entry]:
        self._declared(collection)
        return [
            self.values[name] for name in sorted(self.values) if name[0] == collection and name[1].startswith(prefix)
        ]

    def _declared(self, collection: str) -> str:
        schema = self.host.platform.schema
        platform, _, name = collection.partition(".")
        if platform != schema.name or name not in schema.state:
            known = ", ".join(f"{schema.name}.{one}" for one in schema.state) or "none"
            raise StateRefusedError("unknown_collection", collection, "", f"no such collection; there are {known}")
        return name

    def _writable(self, collection: str, key: str) -> str:
        name = self._declared(collection)
        owner = self.host.platform.schema.state[name].owner
        if owner is (Owner.COORDINATOR if self.host.placement is Placement.EDGE else Owner.NODE):
            raise StateRefusedError("wrong_owner", collection, key, f"{owner.value} writes it")
        return name


class FakeHost:
    """A node, or with `placement=Placement.CLOUD` a coordinator, that has one platform."""

    def __init__(
        self,
        platform: Platform,
        *,
        settings: Mapping[str, Any] | None = None,
        placement: Placement = Placement.EDGE,
        services: Mapping[type[Any], Any] | None = None,
        now_utc_ms: int = NOW_UTC_MS,
        here: Here = Here(),  # noqa: B008 - frozen
    ) -> None:
        self.platform = platform
        self.placement = placement
        self.name = "gw-test" if placement is Placement.EDGE else COORDINATOR
        self.now = now_utc_ms
        self.validators = Validators(platform.schema)
        self.state = FakeState(self)
        self.kept: list[KeptResult] = []
        self.emitted: list[Emitted] = []
        self.progressed: list[tuple[float | None, str]] = []
        self.stages: list[tuple[str, StageTrial]] = []  # with their kinds
        self._rules = rules_of(platform.schema)
        own = {Stages: self} if placement is Placement.EDGE else {}
        self._host = Host(
            self.name,
            placement,
            self.state,
            lambda: self.now,
            self._results,
            self._tell,
            {platform.name: settings or {}},
            {**own, **(services or {})},
            here=here,
        )
        hosting = served_functions(platform, placement, self._rules, lambda _, call: self.context())
        self._functions = {one.name: one for one in hosting.functions}
        self.unbound = hosting.unbound

    def context(self) -> HostContext:
        """What a function gets, for tests that call Python and not the declared function."""
        return HostContext(self._host, self.platform, self._rules, _Call(self.progressed))

    def seen(
        self,
        type_: str,
        data: Mapping[str, Any],
        *,
        at_s: float = 0.0,
        camera: str = "cam1",
        subject: str = "",
        node: str = "gw-test",
    ) -> None:
        """A result that was kept, `at_s` seconds from now: -60 is a minute ago."""
        if type_ in self.platform.schema.events:
            self.validators.event(type_).check(dict(data))
        time_ms = self.now + round(at_s * 1000)
        self.kept.append(KeptResult(node, camera, type_, subject, time_ms, json.loads(json.dumps(data))))

    def call(self, function: str, /, **arguments: Any) -> Any:
        """Calls a function and gives its plain result. Raises RejectedError and FailedError."""
        return asyncio.run(self.acall(function, **arguments))

    async def acall(self, function: str, /, **arguments: Any) -> Any:
        """The same within a loop that runs already."""
        found = self._functions.get(function)
        if found is None:
            why = self.unbound.get(function, f"{self.platform.name} declares no such function")
            raise RejectedError(NOT_BOUND, f"{function} is not served here: {why}")
        raw = json.loads(json.dumps(plain(arguments)))  # as it would come over the wire
        return found.encode(await found.run(None, found.parse(raw)))

    def mistakes(self) -> list[str]:
        """What `@check_settings` finds in the settings."""
        return settings_mistakes(self.platform, self._host.settings[self.platform.name], self._host.here)

    def start(self) -> None:
        """Runs what `@at_start` marks. Raises BrokenPlatformError, also for settings that are wrong."""
        if mistakes := self.mistakes():
            raise settings_error(self.platform.name, mistakes)
        asyncio.run(run_hooks(self.platform, self.context()))

    def heard(self, event: KeptResult) -> None:
        """Gives an event to what `@on_events` marks for its type, and for a host as this one."""
        self._listen(On.EVENTS, event, among=lambda one: event.type in one.types)

    def measured(self, window: SampleWindow) -> None:
        """Gives a window to what `@on_samples` marks."""
        self._listen(On.SAMPLES, window)

    def look(self) -> None:
        """Calls what `@every` marks, once."""
        self._listen(On.TIME)

    def condition(self, kind: str, settings: Mapping[str, Any], labels: Sequence[str] = ()) -> Condition:
        """What `@rule_kind(kind)` makes. Raises BadArgumentError."""
        make: MakeCondition = next(one.run for one in self.platform.listeners if one.name == kind)
        return make(settings, labels)

    def stage(
        self,
        kind: str,
        settings: Mapping[str, Any] | None = None,
        *,
        camera: str = "cam1",
        pipeline: str = "cam1",
        also: Sequence[str] = (),
        folder: Path = Path(),
        files: Mapping[Path, Any] | None = None,
        live: bool = True,
    ) -> StageTrial:
        """What `@stage(kind)` makes of `[pipelines.stage]`, on a camera that has begun. `files`: the pictures that it
        can read, (height, width) uint8. Raises StageError with all mistakes."""
        name = f"{self.platform.name}.{kind}"
        makers = {
            f"{self.platform.name}.{one.name}": one.run for one in self.platform.listeners if one.on is On.STAGE
        }
        kinds = StageKinds(makers, folder, (self.platform.name,))
        made = kinds.make({**(settings or {}), "kind": name, "also": list(also)}, camera, pipeline, also)
        trial = StageTrial(
            made,
            camera_id=camera,
            pipeline=pipeline,
            machine=FakeMachine(files or {}),
            told=self._said,
            now_utc_ms=self.now,
            live=live,
        )
        self.stages.append((name, trial))
        return trial

    def of(self, kind: str, camera_id: str) -> Sequence[Stage]:
        """`platforms.services.Stages`."""
        return [one.stage for name, one in self.stages if (name, one.camera_id) == (kind, camera_id)]

    def _said(self, fact: Fact, data: Mapping[str, Any]) -> None:
        """A fact of a stage. Raises BadEventError, InvalidError."""
        if fact.type not in self.platform.schema.events:
            raise BadEventError(f"{self.platform.name} declares no event {fact.type!r}")
        self.validators.event(fact.type).check(dict(data))
        self.emitted.append(Emitted(fact.type, data, fact.subject))

    def _listen(self, on: On, *given: Any, among: Callable[[Listener], bool] = lambda one: True) -> None:
        for one in self.platform.listeners:
            if one.on is on and one.is_called_at(self.placement) and among(one):
                done = one.run(self.context(), *given)
                if one.is_async:
                    asyncio.run(done)

    async def _results(self, query: ResultQuery) -> Sequence[KeptResult]:
        meant = sorted(filter(meaning(query), self.kept), key=lambda one: one.time_utc_ms)
        return meant[-query.limit :]

    async def _tell(self, schema: Schema, event: EventType, data: Mapping[str, Any], subject: str) -> None:
        self.emitted.append(Emitted(event.name, data, subject))


@dataclass(frozen=True, slots=True)
class _Call:
    """What a context wants of a call."""

    told: list[tuple[float | None, str]]

    def progress(self, share: float | None, text: str = "") -> None:
        self.told.append((share, text))


def meaning(query: ResultQuery) -> Callable[[KeptResult], bool]:
    """Whether a result is meant."""

    def among(wanted: Iterable[str], value: str) -> bool:
        return not wanted or value in wanted

    def is_meant(one: KeptResult) -> bool:
        since, until = query.since_utc_ms, query.until_utc_ms
        in_time = (since is None or one.time_utc_ms >= since) and (until is None or one.time_utc_ms < until)
        named = among(query.types, one.type) and among(query.cameras, one.camera) and among(query.nodes, one.node)
        return in_time and named

    return is_meant
