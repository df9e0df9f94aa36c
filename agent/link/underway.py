"""What is under way on one connection, and what its answers allow to follow. Pure; time is an argument.

Window, pace, breaker and silence are told together here, of each message sent, answered or overdue.
"""

from collections.abc import Sequence
from typing import Any

from agent.link.breaker import Breaker
from agent.link.pace import Pace
from agent.link.settings import LinkSettings
from agent.link.silence import Silence
from agent.link.window import RowKey, Window

UNANSWERED_MAX = 12_000
DELAYS_WAITED = 2.0  # times as long as answers take is waited for them, where that is longer than configured
PATIENCE_MAX = 8  # a coordinator that stays silent is asked again less and less often, down to an eighth


class UnderWay:
    """One connection after another; `connected` begins anew, and so does everything but the breaker's count."""

    def __init__(self, settings: LinkSettings, resend_after_s: float) -> None:
        self._settings = settings
        self._resend_after_s = resend_after_s
        self._patience = 1
        self._pace = Pace(settings.answer_target_s)
        self._breaker = Breaker()
        self._silence = Silence()
        self.window = Window()
        self.coordinator_online = False  # as far as is known

    def connected(self, receive_max: int) -> None:
        """Another connection, on which the broker allows so many messages in flight."""
        self.window = Window(
            inflight_max=max(1, min(100, receive_max // 2)),
            unanswered_max=UNANSWERED_MAX,
            resend_after_s=self._resend_after_s,
            live_share=self._settings.live_share,
        )
        self._patience = 1
        self._pace = Pace(self._settings.answer_target_s)
        self._breaker.reset()
        self._silence = Silence()

    def coordinator(self, online: bool) -> bool:
        """It went or came. True when it is back: what it may have missed has to be sent again."""
        is_back = online and not self.coordinator_online
        if is_back:
            self._breaker.reset()
        self.coordinator_online = online
        return is_back

    # ---- what happens ---------------------------------------------------------------------------

    def sent(self, rows: Sequence[RowKey], mid: int, now_s: float, *, backlog: bool, size: int) -> None:
        """The rows left in the message with packet id `mid`; without rows it tells of gaps."""
        if rows:
            self._silence.asked(now_s)
        self.window.sent(rows, mid, now_s, backlog=backlog, size=size)

    def sent_backlog(self) -> None:
        """A message of the backlog is out: it may be the one that probes."""
        self._breaker.sent()

    def waits_in_vain(self, now_s: float) -> None:
        """Rows wait, and no coordinator is there."""
        self._silence.asked(now_s)

    def answered(self, now_s: float) -> None:
        """The coordinator answered something that was sent; the window knows already what.

        How long answers take is learnt from rows sent once (the rule of Karn, see RFC 6298): a fleet that sends
        everything again because its coordinator has much to do buries it.
        """
        self._breaker.answered()
        self._silence.answered(now_s, still_asked=bool(self.window.unanswered))
        if (once_s := self.window.once()) is not None:
            self._patience = 1
            slow_s = DELAYS_WAITED * (now_s - once_s)
            self.window.resend_after_s = min(PATIENCE_MAX * self._resend_after_s, max(self._resend_after_s, slow_s))
        freed, sent_s = self.window.feedback()
        if freed:
            self._pace.answered(freed, now_s - sent_s, now_s)

    def overdue(self, now_s: float) -> list[RowKey]:
        """Rows that have to be sent again, for their answer stayed away. The next ones wait longer for theirs."""
        late = self.window.overdue(now_s)
        if late:
            self._patience = min(PATIENCE_MAX, 2 * self._patience)
            self.window.resend_after_s = max(self.window.resend_after_s, self._resend_after_s * self._patience)
            self._pace.timed_out()
            self._breaker.timed_out(now_s)
        return late

    # ---- what may follow ------------------------------------------------------------------------

    def may_send_backlog(self, now_s: float) -> bool:
        """Whether there is a place for a message of it, and the breaker lets it pass."""
        if self.window.room_for_backlog() == 0:
            return False
        return not self.coordinator_online or self._breaker.may_send_backlog(now_s)

    def backlog_allowance(self, batch_rows: int = 0) -> int | None:
        """How many more rows of the backlog may be under way; None where no answer sets the pace.

        For a batch of up to `batch_rows` not a few: half a full one at least, or none.
        """
        if not self.coordinator_online:
            return None
        allowance = self._pace.rows_max - self.window.backlog_rows
        least = min(self._pace.rows_max, batch_rows) // 2 if batch_rows else 1
        return allowance if allowance >= least else 0

    # ---- for others -----------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """True when nothing is under way; what a coordinator that is away does not answer is not."""
        return not self.window.inflight and not (self.coordinator_online and self.window.unanswered)

    @property
    def is_answered(self) -> bool:
        """A coordinator has answered over this connection."""
        return self._silence.answered_once

    @property
    def opened_total(self) -> int:
        """How often the breaker has opened since the start."""
        return self._breaker.opened_total

    def silent_s(self, now_s: float) -> float:
        """For how long no coordinator has answered over this connection, though something waits for an answer."""
        return self._silence.lasts_s(now_s)

    def state(self, now_s: float) -> dict[str, Any]:
        """For people."""
        return {
            "coordinator_online": self.coordinator_online,
            "breaker": self._breaker.state.value,
            "breaker_opened_total": self._breaker.opened_total,
            "silent_s": round(self.silent_s(now_s), 1),
            "backlog_rows_under_way": self.window.backlog_rows,
            "backlog_rows_allowed": self._pace.rows_max,
            "unanswered_rows": len(self.window.unanswered),
        }
