"""Which nodes are asked for a birth or a report that is not here, and when. Pure.

A node whose session is new has a moment to say it: its heartbeat (QoS 0) overtakes the birth before it. Others are
asked at once where hardly anybody is, and only so many a second, whatever happens.
"""

from dataclasses import dataclass

PER_S = 50.0
AT_ONCE_MAX = 20  # after a rest
GRACE_S = 5.0  # of one that found no place at once, or whose session is new


@dataclass(slots=True)
class _Wanted:
    names: list[str]
    from_s: float


class Asking:
    """One fleet's. `take` gives whom to ask now, `wait_s` when to ask again."""

    def __init__(self) -> None:
        self._wanted: dict[str, _Wanted] = {}  # in the order in which they are asked
        self._tokens = float(AT_ONCE_MAX)
        self._filled_s = 0.0

    def __len__(self) -> int:
        return len(self._wanted)

    def want(self, node: str, names: list[str], now_s: float, *, at_once: bool = True) -> None:
        """These documents of the node are to be asked for; they replace what was wanted of it. Not `at_once`: they
        may well be on their way."""
        known = self._wanted.get(node)
        if known is not None:
            known.names = names
            return
        self._fill(now_s)
        crowded = self._wanted or self._tokens < 1 or not at_once
        self._wanted[node] = _Wanted(names, now_s + GRACE_S if crowded else now_s)

    def heard(self, node: str, name: str) -> None:
        """It has said this one."""
        known = self._wanted.get(node)
        if known is not None and name in known.names:
            known.names = [one for one in known.names if one != name]
            if not known.names:
                del self._wanted[node]

    def forget(self, node: str) -> None:
        self._wanted.pop(node, None)

    def take(self, now_s: float) -> list[tuple[str, list[str]]]:
        """(node, names) of those whose turn it is."""
        self._fill(now_s)
        found = []
        while self._wanted and self._tokens >= 1:
            node, wanted = next(iter(self._wanted.items()))
            if wanted.from_s > now_s:
                break
            self._tokens -= 1
            del self._wanted[node]
            found.append((node, wanted.names))
        return found

    def wait_s(self, now_s: float) -> float | None:
        """How long until somebody may be asked; None while nobody is to be."""
        wanted = next(iter(self._wanted.values()), None)
        if wanted is None:
            return None
        self._fill(now_s)
        return max(0.0, wanted.from_s - now_s, (1 - self._tokens) / PER_S)

    def _fill(self, now_s: float) -> None:
        self._tokens = min(AT_ONCE_MAX, self._tokens + max(0.0, now_s - self._filled_s) * PER_S)
        self._filled_s = max(now_s, self._filled_s)
