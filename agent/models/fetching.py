"""Getting one thing after the other from several sources: which source is asked next, and when. Pure.

    next ─► Ask(item, source, offset) ─► progressed…, then got | cut | missing | wrong
         ─► Rest(until)                  every source rests
         ─► None                         all is here

Rules kept here:
- sources are asked in their order; one that was cut rests, longer each time, with jitter, while the next is asked;
- bytes that came end the growth of that rest: a line that breaks every few megabytes still gets there;
- a source that does not have the thing, or has something else by its name, is asked again after the longest rest;
- `trouble` says why it does not go on, once nobody has the thing or nothing has come for `patience_s`. It goes on
  trying all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.backoff import Backoff


@dataclass(frozen=True, slots=True)
class Item:
    """Something to be got. `key` is a SHA-256 or another name that the driver understands."""

    key: str
    size: int = 0  # bytes; 0: not known before


@dataclass(frozen=True, slots=True)
class Ask:
    """Get the rest of `item` from a source, from `offset` on."""

    item: Item
    source: int
    offset: int


@dataclass(frozen=True, slots=True)
class Rest:
    """Nobody is to be asked before."""

    until_s: float
    why: str


@dataclass(slots=True)
class _Source:
    attempts: int = 0
    rests_until_s: float = 0.0
    why: str = ""
    final: bool = False  # it does not have it, or not the right one


class Fetching:
    """One release's files, or its document. `offset` and times are the caller's to know; jitter is 0..1."""

    def __init__(
        self, items: Sequence[Item], sources: Sequence[str], *, backoff: Backoff, patience_s: float, now_s: float
    ) -> None:
        """`sources` are their names, for people."""
        self._items = list(items)
        self._names = list(sources)
        self._sources = [_Source() for _ in sources]
        self._backoff = backoff
        self._patience_s = patience_s
        self._moved_s = now_s
        self._offset = 0
        self._done_bytes = 0
        self._all_bytes = sum(item.size for item in items)

    def next(self, now_s: float) -> Ask | Rest | None:
        """What is to be done now."""
        if not self._items:
            return None
        ready = [i for i, one in enumerate(self._sources) if one.rests_until_s <= now_s]
        if not ready:
            until_s = min((one.rests_until_s for one in self._sources), default=now_s + self._backoff.max_s)
            return Rest(until_s, self._reasons())
        return Ask(self._items[0], ready[0], self._offset)

    def begin_at(self, offset: int) -> None:
        """So much of the next item is here."""
        self._offset = offset

    def progressed(self, ask: Ask, count: int, now_s: float) -> None:
        """So many bytes more of it came."""
        self._offset += count
        if count:
            self._moved_s = now_s
            self._sources[ask.source].attempts = 0
            self._sources[ask.source].final = False

    def got(self, ask: Ask, now_s: float) -> None:
        """It is here, whole and right."""
        self._done_bytes += self._items.pop(0).size
        self._offset, self._moved_s = 0, now_s
        for one in self._sources:
            one.attempts, one.rests_until_s, one.why, one.final = 0, 0.0, "", False

    def cut(self, ask: Ask, why: str, now_s: float, jitter: float, *, at_least_s: float = 0.0) -> None:
        """It broke off, or did not begin: the source is asked again after a while."""
        one = self._sources[ask.source]
        rest_s = max(at_least_s * (1.0 + jitter), self._backoff.delay_s(one.attempts, jitter))
        one.attempts += 1
        one.rests_until_s, one.why, one.final = now_s + rest_s, why, False

    def missing(self, ask: Ask, why: str, now_s: float, jitter: float) -> None:
        """The source does not have it."""
        one = self._sources[ask.source]
        one.rests_until_s = now_s + self._backoff.max_s * (0.5 + 0.5 * jitter)
        one.why, one.final = why, True

    def wrong(self, ask: Ask, why: str, now_s: float, jitter: float) -> None:
        """What it has is something else; what came of it is thrown away."""
        self._offset = 0
        self.missing(ask, why, now_s, jitter)

    @property
    def share(self) -> float:
        """How much is here, 0..1."""
        return min(1.0, (self._done_bytes + self._offset) / self._all_bytes) if self._all_bytes else 0.0

    def trouble(self, now_s: float) -> str:
        """Why it does not go on; empty while there is hope."""
        if not self._items:
            return ""
        if not self._sources:
            return "there is nowhere to get it from; set models.sources"
        if all(one.final for one in self._sources):
            return f"nobody serves it: {self._reasons()}"
        if now_s - self._moved_s >= self._patience_s:
            return f"nothing has come for {now_s - self._moved_s:.0f} s: {self._reasons()}"
        return ""

    def _reasons(self) -> str:
        said = [f"{name}: {one.why}" for name, one in zip(self._names, self._sources, strict=True) if one.why]
        return "; ".join(said) or "no source is set"
