"""How a part of the agent stands with the fields that it serves in its own time, beside what holds at once. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.documents.plan import Plan

REASON_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Standing:
    """Of each path: the value that holds, or how far it is, or why it is refused.

    A refused field may hold another value than the one that is wanted; one that is pending may too.
    """

    holds: Mapping[str, Any] = field(default_factory=dict)
    pending: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def with_standings(made: Plan, standings: Iterable[Standing]) -> tuple[Plan, dict[str, str]]:
    """The plan with what these hold and refuse, and what is pending. What nobody wants any more is left out."""
    holds, refused, pending = dict(made.holds), dict(made.refused), dict[str, str]()
    for one in standings:
        holds |= one.holds
        refused |= {path: reason[:REASON_CHARS_MAX] for path, reason in one.refused.items()}
        pending |= one.pending
    return replace(made, holds=holds, refused=refused), pending
