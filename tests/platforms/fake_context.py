"""A host of platform functions in memory: state, results, events and services are what a test puts there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from platforms.context import KeptResult, NotHereError, ResultQuery
from schemas.language.schema import Placement
from schemas.shape import fields_of
from schemas.state import Entry

T = TypeVar("T")
NOON_MS = 1_795_521_600_000


@dataclass(slots=True)
class FakeState:
    """What holds by collection and key. `writes` counts them; `host` is who writes."""

    host: str = "gw-1"
    held: dict[str, dict[str, Entry]] = field(default_factory=dict)
    writes: int = 0

    async def get(self, collection: str, key: str) -> Entry | None:
        return self.held.get(collection, {}).get(key)

    async def put(self, collection: str, key: str, value: Any) -> None:
        self.writes += 1
        self.held.setdefault(collection, {})[key] = Entry(key, fields_of(value), NOON_MS, 0.0, self.host)

    async def delete(self, collection: str, key: str) -> bool:
        self.writes += 1
        return self.held.get(collection, {}).pop(key, None) is not None

    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        return [entry.key for entry in await self.entries(collection, prefix)]

    async def entries(self, collection: str, prefix: str = "") -> list[Entry]:
        return [entry for key, entry in sorted(self.held.get(collection, {}).items()) if key.startswith(prefix)]


@dataclass(slots=True)
class FakeContext:
    """One host. `events` and `steps` have what a function told."""

    host: str = "gw-1"
    placement: Placement = Placement.EDGE
    settings: Mapping[str, Any] = field(default_factory=dict)
    state: FakeState = field(default_factory=FakeState)
    kept: list[KeptResult] = field(default_factory=list)
    now_ms: int = NOON_MS
    services: Mapping[type[Any], Any] = field(default_factory=dict)
    events: list[tuple[str, Any, str]] = field(default_factory=list)
    steps: list[tuple[float | None, str]] = field(default_factory=list)
    queries: list[ResultQuery] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)

    def now_utc_ms(self) -> int:
        return self.now_ms

    def progress(self, share: float | None, text: str = "") -> None:
        self.steps.append((share, text))

    async def results(self, query: ResultQuery) -> Sequence[KeptResult]:
        self.queries.append(query)
        found = (result for result in self.kept if _meant(query, result))
        return sorted(found, key=lambda result: result.time_utc_ms)[: query.limit]

    async def emit(self, event: str, data: Any, *, subject: str = "", routine: bool = False) -> None:
        self.events.append((event, fields_of(data), subject))

    def service(self, kind: type[T]) -> T:
        if kind not in self.services:
            raise NotHereError(kind.__name__.lower())
        return cast(T, self.services[kind])


def _meant(query: ResultQuery, result: KeptResult) -> bool:
    since, until = query.since_utc_ms, query.until_utc_ms
    return (
        (not query.types or result.type in query.types)
        and (not query.cameras or result.camera in query.cameras)
        and (not query.nodes or result.node in query.nodes)
        and (since is None or result.time_utc_ms >= since)
        and (until is None or result.time_utc_ms < until)
    )


def kept(time_ms: int, kind: str, *, node: str = "gw-1", camera: str = "cam1", **data: Any) -> KeptResult:
    """A kept result; `class_` stands for `class`."""
    fields = {name.rstrip("_"): value for name, value in data.items()}
    return KeptResult(node, camera, kind, camera, time_ms, {"camera_id": camera, **fields})


def samples(
    from_ms: int, to_ms: int, *, every_ms: int = 10_000, node: str = "gw-1", camera: str = "cam1"
) -> list[KeptResult]:
    """A camera that was watching: a routine sample every so often."""
    return [kept(time_ms, "StreamSample", node=node, camera=camera) for time_ms in range(from_ms, to_ms, every_ms)]
