"""What is on its way and how much more may follow: a pure value machine, time is an argument.

Two answers come back for each row. The broker's PUBACK frees a place in its receive maximum. The coordinator's
acknowledgement, after a durable commit, frees the row itself; until then the row is *unanswered* and is sent again
when the answer stays away.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.identity import Lane

RowKey = tuple[Lane, int]


@dataclass(slots=True)
class Window:
    """`inflight_max` messages without PUBACK, `unanswered_max` rows without the coordinator's answer."""

    inflight_max: int = 100
    unanswered_max: int = 4000
    resend_after_s: float = 15.0
    inflight: set[int] = field(default_factory=set)
    unanswered: "OrderedDict[RowKey, float]" = field(default_factory=OrderedDict)  # oldest first

    def room(self) -> int:
        """How many more messages may be published now."""
        return max(0, min(self.inflight_max - len(self.inflight), self.unanswered_max - len(self.unanswered)))

    def room_for_rows(self) -> int:
        """How many more rows may wait for the coordinator's answer."""
        return max(0, self.unanswered_max - len(self.unanswered))

    def sent(self, rows: Iterable[RowKey], mid: int, now_s: float) -> None:
        """The rows left together in the message with packet id `mid`."""
        self.inflight.add(mid)
        for key in rows:
            self.unanswered.pop(key, None)
            self.unanswered[key] = now_s

    def puback(self, mid: int) -> None:
        """The broker has the message."""
        self.inflight.discard(mid)

    def answered(self, lane: Lane, first: int, last: int) -> list[tuple[int, int]]:
        """The part of an acknowledged range that was really sent and unanswered, as inclusive ranges.

        Whatever else an acknowledgement claims is ignored: nothing is freed that was never sent.
        """
        if last - first < len(self.unanswered):
            seqs = [seq for seq in range(first, last + 1) if (lane, seq) in self.unanswered]
        else:
            seqs = sorted(seq for sent_lane, seq in self.unanswered if sent_lane is lane and first <= seq <= last)
        for seq in seqs:
            del self.unanswered[(lane, seq)]
        return _ranges(seqs)

    def overdue(self, now_s: float) -> list[RowKey]:
        """Forgets the rows whose answer is overdue and returns them: they have to be sent again."""
        late = []
        while self.unanswered:
            key, sent_s = next(iter(self.unanswered.items()))
            if now_s - sent_s < self.resend_after_s:
                break
            del self.unanswered[key]
            late.append(key)
        return late

    def make_room(self) -> None:
        """Forgets the oldest unanswered rows beyond half of the limit: for when nobody answers anyway."""
        while len(self.unanswered) > self.unanswered_max // 2:
            self.unanswered.popitem(last=False)


def _ranges(seqs: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for seq in seqs:
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found
