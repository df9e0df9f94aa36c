"""Whether a lane may send now: windows, budget and meter first, then the rate. Counts what goes out, by lane."""

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from agent.link.gate import Gate
from agent.sync.budget import BudgetMeter
from agent.sync.windows import is_open
from schemas.identity import Lane
from schemas.sync import Metered, Priority, SyncPolicy

WINDOW_KNOWN_S = 1.0  # how long an answer about the windows holds: they change by the minute


class SyncGate:
    """Alerts and life-cycle events never wait here, whatever a policy says; the lanes that it names do."""

    def __init__(
        self, inner: Gate, policy: SyncPolicy, *, clock: Callable[[], int] = time.time_ns, run_base_s: float = 0.0
    ) -> None:
        """`clock`: UTC nanoseconds. `run_base_s`: run time of the agent minus the monotonic clock."""
        self._inner = inner
        self._clock = clock
        self._run_base_s = run_base_s
        self._asked_s: float | None = None
        self._is_open = True
        self.meter = BudgetMeter(policy.budget)
        self.link_is_metered = False  # as last found out; counts where the policy says `auto`
        self.bytes_total: Counter[Lane] = Counter()
        self.messages_total: Counter[Lane] = Counter()
        self.on_change: Callable[[], None] = lambda: None  # what was held back may be free now
        self.set_policy(policy)

    def set_policy(self, policy: SyncPolicy) -> None:
        """From now on by this policy; what is spent stays spent."""
        self._policy = policy
        self.meter.limits = policy.budget
        self._held = frozenset(Lane(lane.value) for lane in policy.lanes) | {lane_of(policy)}
        self._asked_s = None
        self.on_change()

    def may_send(self, lane: Lane, size: int, now_s: float) -> bool:
        """As `Gate`."""
        if lane in self._held and self.reason(now_s):
            return False
        return self._inner.may_send(lane, size, now_s)

    def look_again_s(self, lane: Lane, size: int, now_s: float) -> float:
        """As `Gate`. Another policy and another meter are told to `on_change` instead."""
        why = self.reason(now_s) if lane in self._held else ""
        if why == "metered":
            return math.inf
        if why == "window":  # they open and close with a minute; what was answered just now holds for a moment
            next_minute_s = 60.0 - self._utc_ms() % 60_000 / 1000
            return max(now_s + next_minute_s, (self._asked_s or now_s) + WINDOW_KNOWN_S)
        if why == "budget":
            return now_s + self.meter.begins_anew_in_s(self._utc_ms(), now_s + self._run_base_s)
        return self._inner.look_again_s(lane, size, now_s)

    def found_metered(self, link_is_metered: bool) -> None:
        """Whether the link is, as far as the machine knows."""
        if link_is_metered != self.link_is_metered:
            self.link_is_metered = link_is_metered
            self.on_change()

    def sent(self, lane: Lane, size: int, now_s: float) -> None:
        """As `Gate`. Whatever the lane, it counts against the budget."""
        self.bytes_total[lane] += size
        self.messages_total[lane] += 1
        self.meter.spend(size, self._utc_ms(), now_s + self._run_base_s)
        self._inner.sent(lane, size, now_s)

    def reason(self, now_s: float) -> str:
        """Why what can wait waits now: metered, window or budget; empty when it does not."""
        metered = self._policy.metered
        if metered is Metered.YES or (metered is Metered.AUTO and self.link_is_metered):
            return "metered"
        if not self._in_a_window(now_s):
            return "window"
        return "" if self.meter.is_left(self._utc_ms(), now_s + self._run_base_s) else "budget"

    def report(self, now_s: float) -> dict[str, Any]:
        """For `status`."""
        return {
            "waiting_for": self.reason(now_s),
            "lanes_that_wait": sorted(lane.value for lane in self._held),
            "link_is_metered": self.link_is_metered,
            "budget": self.meter.report(self._utc_ms(), now_s + self._run_base_s),
        }

    def _in_a_window(self, now_s: float) -> bool:
        if not self._policy.windows:
            return True
        if self._asked_s is None or not 0 <= now_s - self._asked_s < WINDOW_KNOWN_S:
            self._is_open = is_open(self._policy.windows, self._policy.timezone, self._utc_ms())
            self._asked_s = now_s
        return self._is_open

    def _utc_ms(self) -> int:
        return self._clock() // 1_000_000


def lane_of(policy: SyncPolicy) -> Lane:
    """In which lane results travel."""
    return Lane.STATE if policy.priority is Priority.HIGH else Lane.SAMPLE
