"""So many a second, evenly. Pure."""

from math import ceil

GRAIN_MS = 100  # nobody looks more often than that


class Rate:
    """A bucket that holds a second's worth, or one; it begins with what a grain gives, or one."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._tokens = max(1.0, per_s * GRAIN_MS / 1000)
        self._at_ms: int | None = None

    def take(self, now_ms: int, most: int) -> int:
        """How many may be now, at most `most`."""
        if self._at_ms is not None:
            passed_s = max(0, now_ms - self._at_ms) / 1000
            self._tokens = min(max(1.0, self._per_s), self._tokens + passed_s * self._per_s)
        self._at_ms = now_ms if self._at_ms is None else max(now_ms, self._at_ms)
        taken = min(most, int(self._tokens))
        self._tokens -= taken
        return taken

    def set(self, per_s: float) -> None:
        """From now on."""
        self._per_s = per_s

    def give_back(self, count: int) -> None:
        """Those that were not needed."""
        self._tokens += count

    def next_ms(self, now_ms: int) -> int:
        """When there is one again."""
        if self._tokens >= 1:
            return now_ms
        return now_ms + max(GRAIN_MS, ceil((1 - self._tokens) / self._per_s * 1000))
