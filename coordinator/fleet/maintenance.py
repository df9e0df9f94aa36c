"""Maintenance: nodes that somebody works on. Their absence is expected, and no new work is given to them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from coordinator.fleet.facts import Facts
from coordinator.fleet.selector import Selector

WINDOWS_MAX = 1_000
LONGEST_MS = 30 * 24 * 3600_000
REASON_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, by the coordinator's clock, in which the nodes of a selector are in maintenance."""

    id: str
    selector: Selector
    from_utc_ms: int
    until_utc_ms: int
    reason: str = ""
    by: str = ""

    def is_open(self, now_utc_ms: int) -> bool:
        return self.from_utc_ms <= now_utc_ms < self.until_utc_ms


def window_key(identifier: str) -> str:
    """The name under which a window's nodes are selected."""
    return f"maintenance:{identifier}"


def window_mistakes(window: Window, now_utc_ms: int) -> list[str]:
    """Every reason why this cannot be a window, in words."""
    mistakes = []
    if window.until_utc_ms <= window.from_utc_ms:
        mistakes.append("it ends before it begins")
    elif window.until_utc_ms <= now_utc_ms:
        mistakes.append("it is over already")
    if window.until_utc_ms - window.from_utc_ms > LONGEST_MS:
        mistakes.append(f"it is longer than {LONGEST_MS // 86_400_000} days; deregister what stays away for good")
    if window.selector.keys & {"state", "liveness"}:
        mistakes.append("its selector asks for the state, which maintenance itself changes")
    if len(window.reason) > REASON_CHARS_MAX:
        mistakes.append(f"the reason has more than {REASON_CHARS_MAX} characters")
    return mistakes


def window_of(windows: Iterable[Window], facts: Facts, now_utc_ms: int) -> Window | None:
    """The open window that a node is in; of several the one that ends last."""
    found = [one for one in windows if one.is_open(now_utc_ms) and one.selector.matches(facts)]
    return max(found, key=lambda one: one.until_utc_ms, default=None)


def next_change_ms(windows: Iterable[Window], now_utc_ms: int) -> int | None:
    """When the next window begins or ends: nothing changes by time alone before."""
    ends = [end for one in windows for end in (one.from_utc_ms, one.until_utc_ms) if end > now_utc_ms]
    return min(ends, default=None)


def over(windows: Mapping[str, Window], now_utc_ms: int) -> list[str]:
    """The ids of those that may be forgotten."""
    return [name for name, one in windows.items() if one.until_utc_ms <= now_utc_ms]
