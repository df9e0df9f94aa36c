"""What is on its way and how much more may follow: a pure value machine, time is an argument.

Two answers come back for each row. The broker's PUBACK frees a place in its receive maximum. The coordinator's
acknowledgement, after a durable commit, frees the row itself; until then the row is *unanswered* and is sent again
when the answer stays away; until it has been, it is *late*, and an answer to it counts. Live rows and the backlog
share the places: while both wait, each has its part.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.outbox.gaps import runs
from schemas.identity import Lane

RowKey = tuple[Lane, int]


@dataclass(slots=True)
class Window:
    """`inflight_max` messages without PUBACK, `unanswered_max` rows without the coordinator's answer.

    `bytes_max` bounds the payloads without PUBACK: a slow line fills with nothing that cannot be recalled.
    """

    inflight_max: int = 100
    unanswered_max: int = 4000
    resend_after_s: float = 15.0
    live_share: float = 0.7
    bytes_max: int = 4 * 1024 * 1024
    inflight: dict[int, tuple[bool, int]] = field(default_factory=dict)  # packet id: of the backlog, bytes
    unanswered: "OrderedDict[RowKey, tuple[float, bool]]" = field(default_factory=OrderedDict)  # oldest first
    backlog_rows: int = 0  # unanswered ones
    _backlog_inflight: int = 0
    _bytes: int = 0
    _freed: int = 0
    _freed_sent_s: float = 0.0
    _again: set[RowKey] = field(default_factory=set)  # unanswered, and sent more than once
    _late: dict[RowKey, float | None] = field(default_factory=dict)  # when it was sent; None: more than once
    _once_sent_s: float | None = None

    def room(self, *, others_wait: bool = False) -> int:
        """How many more messages may be published now; of live rows, where the backlog waits too."""
        mine = self.inflight_max
        if others_wait:
            mine -= max(0, self._backlog_places - self._backlog_inflight)
        if self._bytes >= self.bytes_max and self.inflight:
            return 0
        return max(0, min(mine - len(self.inflight), self.unanswered_max - len(self.unanswered)))

    def room_for_backlog(self) -> int:
        """How many more messages of the backlog may be published now: it never takes the places of live rows."""
        return max(0, min(self.room(), self._backlog_places - self._backlog_inflight))

    @property
    def _backlog_places(self) -> int:
        return max(1, round(self.inflight_max * (1.0 - self.live_share)))

    def room_for_rows(self) -> int:
        """How many more rows may wait for the coordinator's answer."""
        return max(0, self.unanswered_max - len(self.unanswered))

    def sent(self, rows: Iterable[RowKey], mid: int, now_s: float, *, backlog: bool = False, size: int = 0) -> None:
        """The rows left together in the message with packet id `mid`."""
        self.inflight[mid] = (backlog, size)
        self._backlog_inflight += backlog
        self._bytes += size
        for key in rows:
            self._forget(key)
            self.unanswered[key] = (now_s, backlog)
            self.backlog_rows += backlog
            if key in self._late:
                del self._late[key]
                self._again.add(key)

    def puback(self, mid: int) -> None:
        """The broker has the message."""
        backlog, size = self.inflight.pop(mid, (False, 0))
        self._backlog_inflight -= backlog
        self._bytes -= size

    def answered(self, lane: Lane, first: int, last: int) -> list[tuple[int, int]]:
        """The part of an acknowledged range that was really sent and is unanswered or late, as inclusive ranges.

        Whatever else an acknowledgement claims is ignored: nothing is freed that was never sent.
        """
        return self.answered_all(lane, [(first, last)])

    def answered_all(self, lane: Lane, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """The same for many ranges, in any order, overlapping or absurd: what was sent bounds the cost."""
        asked = sorted((first, last) for first, last in ranges if first <= last)
        out, late = self.unanswered, self._late
        if sum(last - first + 1 for first, last in asked) <= len(out) + len(late):
            keys = ((lane, seq) for first, last in asked for seq in range(first, last + 1))
            seqs = sorted({key[1] for key in keys if key in out or key in late})
        else:
            seqs = _within(sorted(seq for keys in (out, late) for sent_lane, seq in keys if sent_lane is lane), asked)
        for seq in seqs:
            key = (lane, seq)
            if key in late:
                self._answered_late(key)
                continue
            sent_s, backlog = self._forget(key)
            if backlog:
                self._freed, self._freed_sent_s = self._freed + 1, sent_s
            if key in self._again:
                self._again.discard(key)
            else:
                self._once_sent_s = sent_s if self._once_sent_s is None else min(self._once_sent_s, sent_s)
        return runs(seqs)

    def _answered_late(self, key: RowKey) -> None:
        """It shows how long answers take, but nothing of how fast the backlog may go."""
        sent_s = self._late.pop(key)
        if sent_s is not None:
            self._once_sent_s = sent_s if self._once_sent_s is None else min(self._once_sent_s, sent_s)

    def once(self) -> float | None:
        """When the row was sent, of those answered since the last call, that waited longest of all sent only once.

        None where there is none: of a row that was sent twice nobody knows which of both was answered.
        """
        found, self._once_sent_s = self._once_sent_s, None
        return found

    def feedback(self) -> tuple[int, float]:
        """Backlog rows answered since the last call, and when the last of them had been sent."""
        freed, self._freed = self._freed, 0
        return freed, self._freed_sent_s

    def overdue(self, now_s: float) -> list[RowKey]:
        """The rows whose answer is overdue: they are late from now on, and have to be sent again."""
        late = []
        while self.unanswered:
            key, (sent_s, _) = next(iter(self.unanswered.items()))
            if now_s - sent_s < self.resend_after_s:
                break
            self._be_late(key)
            late.append(key)
        return late

    def make_room(self) -> None:
        """The oldest unanswered rows beyond half of the limit are late: for when nobody answers anyway."""
        while len(self.unanswered) > self.unanswered_max // 2:
            self._be_late(next(iter(self.unanswered)))

    def all_late(self) -> None:
        """Everything is to be sent again."""
        while self.unanswered:
            self._be_late(next(iter(self.unanswered)))

    def _be_late(self, key: RowKey) -> None:
        sent_s, _ = self._forget(key)
        self._late[key] = None if key in self._again else sent_s
        self._again.discard(key)
        if len(self._late) > self.unanswered_max:
            del self._late[next(iter(self._late))]

    def _forget(self, key: RowKey) -> tuple[float, bool]:
        found = self.unanswered.pop(key, None)
        if found is None:
            return 0.0, False
        self.backlog_rows -= found[1]
        return found


def _within(seqs: list[int], ranges: list[tuple[int, int]]) -> list[int]:
    """Those numbers that lie in one of the ranges; both ascending."""
    found: list[int] = []
    at = 0
    for first, last in ranges:
        at = bisect_left(seqs, first, at)
        end = bisect_right(seqs, last, at)
        found += seqs[at:end]
        at = end
    return found
