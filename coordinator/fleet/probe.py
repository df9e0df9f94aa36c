"""Does the coordinator hear itself through the broker? Pure.

It sends itself a message every so often. While none comes back nothing can be concluded from the silence of others.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProbeRules:
    every_ms: int = 10_000
    lost_after_ms: int = 15_000


class Probe:
    """One connection after another; `link` says when they begin and end."""

    def __init__(self, rules: ProbeRules | None = None) -> None:
        self.rules = rules or ProbeRules()
        self._up = False
        self._number = 0
        self._next_ms = 0
        self._waiting_since_ms: int | None = None  # the oldest that has not come back, or the loss of the link

    def link(self, *, up: bool, now_ms: int) -> None:
        """The connection is there, or gone."""
        if self._up and not up and self._waiting_since_ms is None:
            self._waiting_since_ms = now_ms
        self._up, self._next_ms = up, now_ms

    def send(self, now_ms: int) -> int | None:
        """The number of the message to be sent now, if one is."""
        if not self._up or now_ms < self._next_ms:
            return None
        self._number += 1
        self._next_ms = now_ms + self.rules.every_ms
        if self._waiting_since_ms is None:
            self._waiting_since_ms = now_ms
        return self._number

    def back(self, number: int) -> None:
        """It came back. An older one than the newest says nothing of now."""
        if number == self._number:
            self._waiting_since_ms = None

    def is_lost(self, now_ms: int) -> bool:
        return self._waiting_since_ms is not None and now_ms - self._waiting_since_ms >= self.rules.lost_after_ms
