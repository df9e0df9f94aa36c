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
from typing import Any, TypeVar

from platforms.context import BadEventError, FunctionError, KeptResult, NotHereError, ResultQuery
from platforms.finding import Finder, in_folder
from platforms.hosting import BAD_ARGUMENTS as BAD_ARGUMENTS
from platforms.hosting import FailedError as FailedError
from platforms.hosting import RejectedError as RejectedError
from platforms.hosting import run_hooks, served_functions
from platforms.loading import load_platform
from platforms.platform import Platform
from platforms.rules import rules_of
from schemas.fields import Owner
from schemas.language.schema import Placement
from schemas.language.validators import InvalidError, Validators, plain
from schemas.state import Entry

T = TypeVar("T")
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
        name = self._declared(collection)
        owner = self.host.platform.schema.state[name].owner
        theirs = Owner.COORDINATOR if self.host.placement is Placement.EDGE else Owner.NODE
        if owner is theirs:
            raise FunctionError("wrong_owner", f"{collection} is written by {owner.value}, and not here")
        keys, values = self.host.validators.state(name)
        try:
            kept = Entry(keys(key), values(plain(value)), self.host.now, 0.0, self.host.name)
            self.values[collection, kept.key] = kept
        except InvalidError as error:
            raise FunctionError("bad_value", f"{collection} {key!r}: {error}") from error

    async def delete(self, collection: str, key: str) -> bool:
        self._declared(collection)
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
            raise FunctionError("unknown_collection", f"there is no collection {collection}; there are {known}")
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
    ) -> None:
        self.platform = platform
        self.placement = placement
        self.name = "gw-test" if placement is Placement.EDGE else "coordinator"
        self.settings = dict(settings or {})
        self.services = dict(services or {})
        self.now = now_utc_ms
        self.validators = Validators(platform.schema)
        self.state = FakeState(self)
        self.kept: list[KeptResult] = []
        self.emitted: list[Emitted] = []
        self.progressed: list[tuple[float | None, str]] = []
        hosting = served_functions(platform, placement, rules_of(platform.schema), lambda _, __: FakeContext(self))
        self._functions = {one.name: one for one in hosting.functions}
        self.unbound = hosting.unbound

    def seen(
        self,
        type_: str,
        data: Mapping[str, Any],
        *,
        at_s: float = 0.0,
        camera: str = "cam1",
        subject: str = "",
    ) -> None:
        """A result that the host has kept, `at_s` seconds from now: -60 is a minute ago."""
        if type_ in self.platform.schema.events:
            self.validators.event(type_).check(dict(data))
        time_ms = self.now + round(at_s * 1000)
        self.kept.append(KeptResult(self.name, camera, type_, subject, time_ms, json.loads(json.dumps(data))))

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

    def start(self) -> None:
        """Runs what `@at_start` marks."""
        asyncio.run(run_hooks(self.platform, FakeContext(self)))


class FakeContext:
    """A `Context` of a `FakeHost`."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    @property
    def host(self) -> str:
        return self._host.name

    @property
    def placement(self) -> Placement:
        return self._host.placement

    @property
    def settings(self) -> Mapping[str, Any]:
        return self._host.settings

    @property
    def state(self) -> FakeState:
        return self._host.state

    def now_utc_ms(self) -> int:
        return self._host.now

    def progress(self, share: float | None, text: str = "") -> None:
        self._host.progressed.append((share, text))

    async def results(self, query: ResultQuery) -> Sequence[KeptResult]:
        meant = sorted(filter(meaning(query), self._host.kept), key=lambda one: one.time_utc_ms)
        return meant[-query.limit :]

    async def emit(self, event: str, data: Any, *, subject: str = "") -> None:
        self._host.emitted.append(Emitted(event, checked_event(self._host, event, data), subject))

    def service(self, kind: type[T]) -> T:
        found = self._host.services.get(kind)
        if found is None:
            raise NotHereError(kind.__name__)
        service: T = found
        return service


def checked_event(host: FakeHost, event: str, data: Any) -> Mapping[str, Any]:
    """The data as it goes out. Raises BadEventError."""
    declared = host.platform.schema.events.get(event)
    if declared is None:
        known = ", ".join(host.platform.schema.events) or "none"
        raise BadEventError(f"{host.platform.name} declares no event {event}; there are {known}")
    if declared.placement not in (host.placement, Placement.ANY):
        raise BadEventError(f"{event} is told by {declared.placement}, not by {host.name}")
    try:
        made: Mapping[str, Any] = host.validators.event(event)(plain(data))
    except InvalidError as error:
        raise BadEventError(f"{event}: {error}") from error
    names = {one.name for one in declared.fields}
    if extra := [name for name in made if name not in names]:
        raise BadEventError(f"{event}: {extra[0]}: the schema does not declare it")
    return made


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
