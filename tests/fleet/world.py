"""A fleet under a hand-moved clock, with what it told."""

from collections.abc import Callable
from typing import Any

from coordinator.fleet.draft import Draft
from coordinator.fleet.node import FleetEvent
from coordinator.fleet.registry import Fleet, FleetRules, LivenessRules, Memory, Moment, Node
from platforms.catalogue import open_catalogue
from schemas.messages import Birth, Heartbeat, Presence, Status

RULES = LivenessRules()
CATALOGUE = open_catalogue()


class World:
    def __init__(
        self, *, memory: Memory | None = None, nodes: list[Node] | None = None, rules: FleetRules | None = None
    ) -> None:
        self.now = Moment(1_000, 5_000_000)
        self.fleet = Fleet(nodes or [], RULES, self.now.steady_ms, rules, memory)
        self.fleet.broker(heard=True, now_ms=self.now.steady_ms)
        self.events: list[FleetEvent] = []
        self.lost: list[str] = []
        self.back: list[str] = []
        self.kept: list[Draft] = []
        self.fleet.on_lost = lambda node: self.lost.append(node.name)
        self.fleet.on_back = lambda node: self.back.append(node.name)

    def do(self, change: Callable[[Draft], Any]) -> Any:
        draft = self.fleet.draft()
        answer = change(draft)
        self.events += draft.events
        for event in draft.events:
            assert CATALOGUE.check(event.type, event.data), event
        self.kept.append(draft)
        self.fleet.adopt(draft)
        return answer

    def wait(self, ms: int, step_ms: int = 500) -> "World":
        while ms > 0:
            step = min(step_ms, ms)
            ms -= step
            self.now = Moment(self.now.steady_ms + step, self.now.utc_ms + step)
            self.do(lambda draft: draft.sweep(self.now))
        return self

    def born(
        self, name: str, boot: int = 1, session: int = 1, *, live: bool = True, instance: str = "", **more: Any
    ) -> bool:
        birth = Birth(boot, session, instance=instance or f"{name}-{boot}", **more)
        return bool(self.do(lambda draft: draft.birth(name, birth, self.now, live=live)))

    def status(self, name: str, state: Presence, boot: int = 1, session: int = 1, utc_ms: int = 7) -> bool:
        return self.hear(name, Status(state, boot, session, utc_ms, "connection lost" if not utc_ms else ""))

    def will(self, name: str, boot: int = 1, session: int = 1) -> bool:
        return self.status(name, Presence.OFFLINE, boot, session, 0)

    def hear(self, name: str, status: Status, *, live: bool = True) -> bool:
        return bool(self.do(lambda draft: draft.status(name, status, self.now, live=live)))

    def beat(self, name: str, beat: Heartbeat) -> bool:
        return bool(self.do(lambda draft: draft.heartbeat(name, beat, self.now)))

    def many(self, count: int, site: str = "north") -> list[str]:
        names = [f"{site}-{n}" for n in range(count)]
        for name in names:
            self.born(name, site=site)
        return names

    def told(self, *types: str) -> list[str]:
        return [event.type for event in self.events if not types or event.type in types]

    def shown(self, name: str) -> str:
        return self.fleet.nodes[name].shown.value
