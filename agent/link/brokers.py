"""Several brokers in order of preference: which to try, when to leave one, when to go back. Pure, given the time.

Rules kept here:

- Without a connection the brokers are tried in order, each once in a round. One that failed waits before it is tried
  again, longer each time; a connection that ends is a failure too. One that was steady starts the waits anew.
- On a fallback, those before it are probed. The node returns to the first of them that has answered every probe for a
  *hold*, without letting go of the fallback before the other has accepted it. A return that failed or did not last
  doubles the hold of that broker, so a broker that comes and goes is followed ever more slowly.
- A broker over which no coordinator answers is as bad as one that is away, but better than none: it is left only when
  another may be tried, and tried again ever later. A coordinator that is down for all does not send nodes round.
"""

import enum
from dataclasses import dataclass, field
from typing import Any

from runtime.backoff import Backoff

RETRY = Backoff(first_s=0.5, max_s=60.0)
RETRY_AUTH = Backoff(first_s=30.0, max_s=600.0)  # a person has to act: do not hammer the broker's log
STEADY_S = 30.0  # a connection that lasted this long starts the waits anew
SPREAD_S = 1.0  # a fleet that lost its broker does not knock at the next one all at once
HOLD_GROWTH_MAX = 16
LASTING = 10  # a return that lasted so many times `return_after_s` was right
PROBES_MISSED_MAX = 3  # what was last probed longer ago than this many times `probe_s` is not known any more
SILENT_FIRST, SILENT_MAX = 2, 32  # wait after a silence, in multiples of `silent_after_s`


class Trouble(enum.Enum):
    """Why a broker cannot be used."""

    UNREACHABLE = "unreachable"  # no connection, or refused for now
    AUTH = "auth"  # refused for who we are
    LOST = "lost"  # the connection ended
    SILENT = "silent"  # connected, and no coordinator answers


@dataclass(frozen=True, slots=True)
class BrokerRules:
    """In seconds, as in the `[link]` table."""

    probe_s: float = 30.0
    return_after_s: float = 120.0
    silent_after_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Move:
    """Go to broker `to` now, from the one in use: it `returns` to a better one, or flees from a silence."""

    to: int
    returns: bool


@dataclass(slots=True)
class Standing:
    """What is known of one broker."""

    failures_total: int = 0
    reason: str = ""  # of the last failure
    trouble: Trouble | None = None  # the last one
    failed_s: float = 0.0  # when that was
    due_s: float = 0.0  # not tried before
    hold_s: float = 0.0
    answers_since_s: float | None = None  # every probe since then was answered
    probed_s: float = float("-inf")
    probe_at_s: float = 0.0
    failures: dict[Trouble, int] = field(default_factory=dict)  # in a row

    def report(self, now_s: float) -> dict[str, Any]:
        """For people."""
        failed = self.trouble is not None
        return {
            "failures_total": self.failures_total,
            "last_trouble": self.trouble.value if self.trouble else "",
            "last_reason": self.reason,
            "last_failed_s_ago": round(now_s - self.failed_s, 1) if failed else None,
            "not_tried_for_s": round(max(0.0, self.due_s - now_s), 1) if failed else 0.0,
            "answers_probes_for_s": None if self.answers_since_s is None else round(now_s - self.answers_since_s, 1),
            "return_after_s": self.hold_s,
        }

    def wait_s(self, trouble: Trouble, rules: BrokerRules, jitter: float) -> float:
        attempt = self.failures.get(trouble, 0)
        self.failures[trouble] = attempt + 1
        silent_s = rules.silent_after_s
        policy = {
            Trouble.AUTH: RETRY_AUTH,
            Trouble.SILENT: Backoff(SILENT_FIRST * silent_s, SILENT_MAX * silent_s),
        }.get(trouble, RETRY)
        return policy.delay_s(attempt, jitter)


class Brokers:
    """Numbered from 0, the preferred one. `jitter` is a random number in 0..1 given by the caller."""

    def __init__(self, count: int, rules: BrokerRules) -> None:
        self._rules = rules
        self._standings = [Standing(hold_s=rules.return_after_s) for _ in range(count)]
        self._tried: set[int] = set()  # in this round
        self._returned = False  # the connection in use is a return
        self.current: int | None = None
        self.since_s = 0.0  # connected to it
        self.moves_total = 0

    def __getitem__(self, which: int) -> Standing:
        return self._standings[which]

    def __len__(self) -> int:
        return len(self._standings)

    # ---- without a connection -------------------------------------------------------------------

    def next(self, now_s: float) -> tuple[int, float]:
        """Which broker to try, and when."""
        which = self._choose(now_s, self._others(None))
        return which, max(now_s, self._standings[which].due_s)

    def failed(self, which: int, trouble: Trouble, reason: str, now_s: float, jitter: float) -> None:
        """An attempt to use it came to nothing; also one made while another is in use."""
        standing = self._standings[which]
        standing.failures_total += 1
        standing.reason, standing.trouble, standing.failed_s = reason, trouble, now_s
        standing.due_s = now_s + standing.wait_s(trouble, self._rules, jitter)
        standing.answers_since_s = None
        first_probe_s = now_s + self._rules.probe_s * (0.5 + 0.5 * jitter)
        standing.probe_at_s = max(first_probe_s, standing.due_s) if trouble is Trouble.AUTH else first_probe_s
        if trouble is Trouble.SILENT or (self.current is not None and which < self.current):
            self._hold_longer(standing)
        if self.current is None:
            for other in self._others(which):
                self._standings[other].due_s = max(self._standings[other].due_s, now_s + SPREAD_S * jitter)
        self._tried.add(which)
        if len(self._tried) == len(self):
            self._tried.clear()

    # ---- with one -------------------------------------------------------------------------------

    def connected(self, which: int, now_s: float) -> None:
        """It accepted us, and is in use from now on."""
        self._returned = self.current is not None and which < self.current
        if self.current is not None:
            self.moves_total += 1
            self._forgive(self._standings[self.current], now_s - self.since_s)
        self.current, self.since_s = which, now_s
        for better in range(which):
            standing = self._standings[better]
            standing.probe_at_s = max(standing.probe_at_s, now_s)

    def answered(self) -> None:
        """A coordinator answers over the one in use."""
        if self.current is not None:
            self._standings[self.current].failures.pop(Trouble.SILENT, None)

    def lost(self, reason: str, now_s: float, jitter: float) -> None:
        """The connection in use has ended."""
        assert self.current is not None, "not connected"
        which, self.current = self.current, None
        standing, lasted_s = self._standings[which], now_s - self.since_s
        self._forgive(standing, lasted_s)
        if lasted_s >= LASTING * self._rules.return_after_s:
            standing.hold_s = self._rules.return_after_s
        elif self._returned:
            self._hold_longer(standing)
        self.failed(which, Trouble.LOST, reason, now_s, jitter)

    def move(self, silent_s: float, now_s: float) -> Move | None:
        """Where to go now, if anywhere; `silent_s` is for how long nobody has answered over the one in use."""
        assert self.current is not None, "not connected"
        for better in range(self.current):
            standing = self._standings[better]
            if standing.due_s <= now_s and self._answers_s(standing, now_s) >= standing.hold_s:
                return Move(better, returns=True)
        if silent_s < self._rules.silent_after_s:
            return None
        due = [which for which in self._others(self.current) if self._standings[which].due_s <= now_s]
        return Move(self._choose(now_s, due), returns=False) if due else None

    # ---- probes ---------------------------------------------------------------------------------

    def probe(self, now_s: float) -> int | None:
        """Which broker to probe now, if any: one before the one in use."""
        for better in range(self.current or 0):
            if self._standings[better].probe_at_s <= now_s:
                return better
        return None

    def probed(self, which: int, problem: str, now_s: float, jitter: float) -> None:
        """The probe's outcome; no problem: it answered."""
        standing = self._standings[which]
        if problem:
            standing.answers_since_s, standing.reason = None, problem
        elif self._answers_s(standing, now_s) < 0:
            standing.answers_since_s = now_s
        standing.probed_s = now_s
        standing.probe_at_s = now_s + self._rules.probe_s * (0.8 + 0.2 * jitter)

    # ---- small things ---------------------------------------------------------------------------

    def _others(self, than: int | None) -> list[int]:
        return [which for which in range(len(self)) if which != than]

    def _choose(self, now_s: float, among: list[int]) -> int:
        """Of those that may be tried next or a moment later: first what this round has not tried yet, in order."""
        when_s = {which: max(now_s, self._standings[which].due_s) for which in among}
        soon = [which for which in among if when_s[which] <= min(when_s.values()) + SPREAD_S]
        return min(soon, key=lambda which: (which in self._tried, which))

    def _forgive(self, standing: Standing, lasted_s: float) -> None:
        """After a steady connection its failures before that count no more."""
        if lasted_s >= STEADY_S:
            self._tried.clear()
            standing.failures = {t: n for t, n in standing.failures.items() if t is Trouble.SILENT}

    def _answers_s(self, standing: Standing, now_s: float) -> float:
        """For how long it has answered all probes; negative when that is not known."""
        known = now_s - standing.probed_s <= PROBES_MISSED_MAX * self._rules.probe_s
        return now_s - standing.answers_since_s if known and standing.answers_since_s is not None else -1.0

    def _hold_longer(self, standing: Standing) -> None:
        longest_s = HOLD_GROWTH_MAX * self._rules.return_after_s
        standing.hold_s = min(longest_s, max(2 * standing.hold_s, self._rules.return_after_s))
