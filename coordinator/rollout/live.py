"""A roll-out that may still do something, with what it is told until its next step; whether one more may begin."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from coordinator.ingest.decode import News as Heard
from coordinator.rollout import follow, starting
from coordinator.rollout.beginning import Begun
from coordinator.rollout.engine import Engine
from coordinator.rollout.state import UNDER_CONTROL, Back, Beat, News, NodeState, Presence, Reported
from coordinator.store.rollouts import Kept
from coordinator.store.store import Committed
from runtime.calls.errors import CallRejectedError
from schemas import documents as wire
from schemas.messages import Heartbeat

UNDER_CONTROL_MAX = 20  # at a time


@dataclass(slots=True)
class Live:
    """A roll-out that may still do something."""

    kept: Kept
    engine: Engine
    joining: dict[str, None] = field(default_factory=dict)  # selected since it began, and not yet looked at
    unheard: set[str] = field(default_factory=set)  # looked at: they have yet to say what their pipelines run
    news: dict[tuple[type, str], News] = field(default_factory=dict)  # of a node the newest of each kind
    outcomes: list[News] = field(default_factory=list)  # of the step before
    wake_ms: int | None = 0
    asked: list["asyncio.Future[None]"] = field(default_factory=list)  # orders that are not durable yet

    @property
    def is_due(self) -> bool:
        return bool(self.news or self.asked or self.joining)

    def tell(self, one: News) -> None:
        self.news[type(one), one.node] = one

    def chosen(self, name: str, *, joined: bool) -> None:
        """The selector of a continuous one means the node now, or no longer."""
        if joined and name not in self.engine.nodes:
            self.joining[name] = None
        elif not joined:
            self.joining.pop(name, None)
            self.unheard.discard(name)

    def hear(self, one: Heard, committed: Committed, look: Callable[[str], Presence]) -> None:
        """A node has said something, which is durable now."""
        name, engine = one.node, self.engine
        if engine.misses(name) and look(name) is Presence.HERE:
            self.tell(Back(name))
        match one.document:
            case wire.Reported() as said if name in self.unheard and committed.reported.get(name) == said.hash:
                self.unheard.discard(name)
                self.chosen(name, joined=True)
            case wire.Reported() as said if engine.wants(name) and committed.reported.get(name) == said.hash:
                self.tell_report(Reported(name, said.epoch, said.revision, said.fields, said.refused, said.pending))
            case Heartbeat() as beat if engine.wants(name):
                self.tell(Beat(name, beat.desired_hash, follow.illness(beat), follow.p99_ms(beat)))

    def tell_report(self, said: Reported) -> None:
        """A workload that is on its way is waited for; one that has failed is refused."""
        plan = self.kept.plan
        if not starting.is_starting(plan, said.holds, said.refused):
            self.tell(replace(said, refused={**said.refused, **starting.failed_to_start(plan, said.holds)}))


def check_room(begun: Begun, there: Iterable[Live]) -> None:
    """Raises CallRejectedError where there are too many, or one of them writes the same fields of a node."""
    others = [live for live in there if live.engine.run.state in UNDER_CONTROL]
    if len(others) >= UNDER_CONTROL_MAX:
        text = f"{len(others)} roll-outs are under way; at most {UNDER_CONTROL_MAX} may be"
        raise CallRejectedError("too_many", text)
    for live in others:
        node, both = _overlap(begun, live.engine)
        if both:
            text = f"the roll-out {live.kept.id} is {live.engine.run.state} and writes {', '.join(both)}"
            hint = "wait for its end, or edgectl rollout abort it"
            raise CallRejectedError("overlaps", f"{text} of {node} too; {hint}")


def _overlap(begun: Begun, engine: Engine) -> tuple[str, list[str]]:
    """A node of both of which both write the same fields, and these fields; no fields: there is none."""
    ours, theirs = begun.plan.paths, engine.plan.paths
    common = ours & theirs
    for name in begun.names:
        node = engine.nodes.get(name)
        if node is None or node.state is NodeState.EXCLUDED:
            continue
        own = begun.own.get(name, {})
        both = (ours | own.keys()) & (theirs | node.own.keys()) if own or node.own else common
        if both:
            return name, sorted(both)
    return "", []
