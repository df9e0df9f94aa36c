"""What a host's platforms listen to: its events, its sensors, the time.

    an event of the node ──► queue of each @on_events ──► called, one after the other
    a window of a sensor ──────────────────────────────► each @on_samples, in order
    the time             ──────────────────────────────► each @every

That is a node's. In the coordinator events wait in the store instead (`coordinator/hosting/listening.py`).

The host supervises the tasks; nothing is called before the start hooks have run. A call that fails is the task's
failure: the host logs it and starts the task again, and the next event is the next.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from platforms.context import Context, KeptResult
from platforms.functions import Listener, On
from platforms.platform import Platform
from schemas.language.schema import Placement

if TYPE_CHECKING:  # numpy: a host without sensors need not load it
    from platforms.samples import SampleWindow

QUEUE_MAX = 1000  # events that wait for one listener; beyond it the oldest is dropped and counted
MakeContext = Callable[[Platform, Any], Context]
Task = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Ear:
    """One listener of one platform, and what waits for it."""

    platform: Platform
    listener: Listener
    waiting: deque[KeptResult] = field(default_factory=deque)
    there: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def title(self) -> str:
        return f"{self.platform.name}.{self.listener.title}"


class Listening:
    """All on the host's loop."""

    def __init__(
        self, platforms: list[Platform], make_context: MakeContext, here: Placement = Placement.EDGE
    ) -> None:
        self._context = make_context
        ears = [Ear(one, heard) for one in platforms for heard in one.listeners if heard.is_called_at(here)]
        self.events = [ear for ear in ears if ear.listener.on is On.EVENTS]
        self._samples = [ear for ear in ears if ear.listener.on is On.SAMPLES]
        self._times = [ear for ear in ears if ear.listener.on is On.TIME]
        self._by_type: dict[str, list[Ear]] = {}
        for ear in self.events:
            for type_ in ear.listener.types:
                self._by_type.setdefault(type_, []).append(ear)
        self._started = asyncio.Event()
        self.calls_total: Counter[str] = Counter()
        self.dropped_total: Counter[str] = Counter()

    def started(self) -> None:
        """The start hooks have run."""
        self._started.set()

    async def until_started(self) -> None:
        """Nothing is called before."""
        await self._started.wait()

    def wants(self, type_: str) -> bool:
        """Whether anybody listens to events of this type."""
        return type_ in self._by_type

    def heard(self, event: KeptResult) -> None:
        """Returns at once."""
        for ear in self._by_type.get(event.type, ()):
            if len(ear.waiting) >= QUEUE_MAX:
                ear.waiting.popleft()
                self.dropped_total[ear.title] += 1
            ear.waiting.append(event)
            ear.there.set()

    async def measured(self, window: "SampleWindow") -> None:
        """Returns when every listener is done with it. Those of one sensor are to be given one after the other."""
        await self._started.wait()
        for ear in self._samples:
            run, context = ear.listener.run, self._context(ear.platform, None)
            self.calls_total[ear.title] += 1
            if ear.listener.is_async:
                await run(context, window)
            else:
                await asyncio.to_thread(run, context, window)

    def tasks(self) -> Iterator[tuple[str, Task]]:
        """(name, what to run until cancelled)."""
        for ear in self.events:
            yield ear.title, _bound(self._hear, ear)
        yield from self.times()

    def times(self) -> Iterator[tuple[str, Task]]:
        """Those that the time alone calls."""
        for ear in self._times:
            yield ear.title, _bound(self._look, ear)

    def report(self) -> dict[str, dict[str, int]]:
        """By listener, since the start."""
        ears = [*self.events, *self._samples, *self._times]
        return {
            ear.title: {
                "calls": self.calls_total[ear.title],
                "waiting": len(ear.waiting),
                "dropped": self.dropped_total[ear.title],
            }
            for ear in ears
        }

    async def call(self, ear: Ear, event: KeptResult) -> None:
        """One that listens to events. Raises what it raises."""
        self.calls_total[ear.title] += 1
        await ear.listener.run(self._context(ear.platform, None), event)

    async def _hear(self, ear: Ear) -> None:
        await self._started.wait()
        while True:
            await ear.there.wait()
            while ear.waiting:
                await self.call(ear, ear.waiting.popleft())
            ear.there.clear()

    async def _look(self, ear: Ear) -> None:
        await self._started.wait()
        while True:
            self.calls_total[ear.title] += 1
            await ear.listener.run(self._context(ear.platform, None))
            await asyncio.sleep(ear.listener.every_s)


def _bound(run: Callable[[Ear], Awaitable[None]], ear: Ear) -> Task:
    async def task() -> None:
        await run(ear)

    return task
