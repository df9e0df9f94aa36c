"""A condition that lives: told of events and of the time, it says whether it holds."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from platforms.conditions.nodes import Held, Moment, Node, names
from platforms.conditions.windows import Call, Since

SINCE_S = 86_400.0
LOOK_AGAIN_S = 1.0  # where something grows with time alone


@dataclass(frozen=True, slots=True)
class Fact:
    """An event or a sample: its type, its data, and `subject` beside them."""

    type: str
    data: Mapping[str, Any]
    subject: str = ""


class Condition:
    """Made by `parse`. Seconds are of one clock that never goes back."""

    def __init__(self, text: str, tree: Node, calls: tuple[Call, ...], held: tuple[Held, ...]) -> None:
        self.text = text
        self._tree = tree
        self._calls = calls
        self._held = held
        self.types = frozenset(call.event for call in calls)

    @property
    def clipped(self) -> int:
        """Events that were given up because a window held too many."""
        return sum(call.clipped for call in self._calls)

    @property
    def window_s(self) -> float:
        """How far back it looks; SINCE_S where it asks since when something is so."""
        return max((SINCE_S if isinstance(call, Since) else call.window_s for call in self._calls), default=0.0)

    def fields(self) -> Iterator[tuple[str, tuple[str, ...], int]]:
        """(type, path, column) of what is looked at, `where` included, for a check against a schema. The path of an
        event as a whole is empty."""
        for call in self._calls:
            yield call.event, call.path, call.column
            if call.where is not None:
                for name in names(call.where):
                    yield call.event, name.path, name.column

    def take(self, fact: Fact, now_s: float) -> bool:
        """An event; whether the condition holds then."""
        if fact.type in self.types:
            event = {**fact.data, "subject": fact.subject} if fact.subject else fact.data
            for call in self._calls:
                if call.event == fact.type:
                    call.take(event, now_s)
        return self.holds(now_s)

    def holds(self, now_s: float) -> bool:
        """Whether it holds now."""
        return self._tree.value(Moment(now_s)) is True

    def due_s(self, now_s: float) -> float:
        """When it may change without an event: look again then. Infinite: not before the next event."""
        due_s = min((node.due_s(now_s) for node in (*self._calls, *self._held)), default=math.inf)
        if any(isinstance(call, Since) for call in self._calls):
            due_s = min(due_s, now_s + LOOK_AGAIN_S)
        return max(due_s, now_s)
