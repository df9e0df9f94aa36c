"""One rule's conditions, told of events and of the time. Pure."""

import math

from agent.actions.settings import FAILED
from agent.alerting.rule import Rule
from platforms.conditions import Condition, Fact, parse


class Watch:
    """Whether an alert is to begin, or to be over. While both hold it goes on."""

    def __init__(self, rule: Rule) -> None:
        """Raises ConditionError."""
        self._begin: Condition = parse(rule.condition)
        self._end: Condition | None = parse(rule.clear) if rule.clear else None
        self._actions = frozenset(name for step in rule.escalate for name in step.actions) | {*rule.all_actions}
        self.types = self._begin.types | (self._end.types if self._end else frozenset())

    @property
    def window_s(self) -> float:
        """The longest."""
        return max(self._begin.window_s, self._end.window_s if self._end else 0.0)

    @property
    def clipped(self) -> int:
        """Events that were given up because a window held too many."""
        return self._begin.clipped + (self._end.clipped if self._end else 0)

    def take(self, fact: Fact, at_s: float) -> None:
        """An event. That an action of the rule's own alerts fails is none: it would keep the alert up."""
        if fact.type == FAILED and fact.data.get("action") in self._actions:
            return
        self._begin.take(fact, at_s)
        if self._end is not None:
            self._end.take(fact, at_s)

    def look(self, now_s: float) -> tuple[bool, bool]:
        """Whether it is to begin, and whether it is to be over."""
        begin = self._begin.holds(now_s)
        end = not begin if self._end is None else self._end.holds(now_s)
        return begin, end and not begin

    def due_s(self, now_s: float) -> float:
        """When to look again if no event comes."""
        return min(self._begin.due_s(now_s), self._end.due_s(now_s) if self._end else math.inf)
