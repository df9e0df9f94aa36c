"""One file on its way to the coordinator. Pure: time is an argument, what to send is a value.

It is offered first; the answer says which bytes the coordinator holds already, whoever was cut off in between. Then
its missing pieces go out, a few at a time, until the coordinator says that it has all of it and the hash is right.
Each answer tells everything that is held and so replaces what was believed before: answers that were lost, repeated,
reordered or told by a coordinator that lost its last writes cost a piece sent twice at most. Whatever stays without
an answer is said again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from schemas.blobs import Held, Reason, Refused, Spans, missing, with_span

WINDOW_MAX = 4  # pieces without an answer
FAST_S = 0.5  # an answer within it lets the window grow
PATIENCE_MAX = 8  # an answer that stays away is waited for longer and longer, up to so many times as long
REST_FIRST_S = 30.0
REST_MAX_S = 3600.0
BAD_HASH_MAX = 3  # then the file, or the way, is broken beyond what sending again can mend
FOR_GOOD = frozenset({Reason.TOO_LARGE, Reason.BAD_CHUNK})


class Phase(Enum):
    """What is true of the upload."""

    OFFER = "offer"  # to be offered, or offered and not answered
    SEND = "send"  # the coordinator said what it holds; the rest is sent
    DONE = "done"  # it has all of it, verified
    REST = "rest"  # refused for now: to be tried again at `rest_until_s`
    REFUSED = "refused"  # refused for good


@dataclass(frozen=True, slots=True)
class Say:
    """Say to the coordinator that the file is there."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Send these bytes."""

    at: int
    length: int


@dataclass(slots=True)
class Upload:
    """Ask `next`, do it, tell `sent`; tell `held`, `refused`, `cut` as they come."""

    size: int
    chunk_bytes: int
    resend_after_s: float = 15.0
    phase: Phase = Phase.OFFER
    reason: str = ""  # of a refusal
    rest_until_s: float = 0.0
    window: int = 1
    resent_total: int = 0
    _held: Spans = field(default_factory=list)
    _inflight: dict[int, tuple[int, float]] = field(default_factory=dict)  # at: length, when
    _offered_s: float | None = None
    _quiet_since_s: float = 0.0  # nothing is left to send since then, and the last word has not come
    _patience: int = 1
    _refusals: int = 0
    _bad_hashes: int = 0

    @property
    def held_bytes(self) -> int:
        """What the coordinator last said it holds."""
        return sum(last - first for first, last in self._held)

    @property
    def is_over(self) -> bool:
        """Nothing more will be sent by itself now."""
        return self.phase in (Phase.DONE, Phase.REST, Phase.REFUSED)

    def next(self, now_s: float) -> Say | Piece | None:
        """What to send now; None for nothing."""
        if self.phase is Phase.OFFER:
            due = self._offered_s is None or now_s - self._offered_s >= self._wait_s
            return Say() if due else None
        if self.phase is not Phase.SEND:
            return None
        self._look_back(now_s)
        if len(self._inflight) >= self.window:
            return None
        piece = next(self._missing(), None)
        if piece is None and not self._inflight and now_s - self._quiet_since_s >= self._wait_s:
            return self._offer_again()
        return piece

    def sent(self, what: Say | Piece, now_s: float) -> None:
        """It went out."""
        if isinstance(what, Say):
            if self._offered_s is not None:
                self._patience = min(PATIENCE_MAX, 2 * self._patience)
                self.resent_total += 1
            self._offered_s = now_s
        else:
            self._inflight[what.at] = what.length, now_s

    def held(self, answer: Held, now_s: float) -> None:
        """The coordinator said what it holds. One about a file of another size is none of ours."""
        if answer.size != self.size or self._offered_s is None or self.phase not in (Phase.OFFER, Phase.SEND):
            return
        self._patience = 1
        if answer.complete:
            self.phase = Phase.DONE
            self._inflight.clear()
            return
        self.phase = Phase.SEND
        self._held = list(answer.ranges)
        for at, (length, sent_s) in list(self._inflight.items()):
            if with_span(self._held, at, at + length) == self._held:
                del self._inflight[at]
                self.window = (
                    min(WINDOW_MAX, self.window + 1) if now_s - sent_s <= FAST_S else max(1, self.window - 1)
                )
        self._quiet_since_s = now_s

    def refused(self, answer: Refused, now_s: float) -> None:
        """The coordinator does not take it, or not now."""
        if self._offered_s is None or self.phase not in (Phase.OFFER, Phase.SEND):
            return
        self.reason = f"{answer.reason.value}: {answer.detail}" if answer.detail else answer.reason.value
        self._inflight.clear()
        self._held = []
        self._offered_s = None
        if answer.reason is Reason.NOT_OFFERED:  # it began anew, or lost what it had begun
            self.phase = Phase.OFFER
            return
        self._bad_hashes += answer.reason is Reason.BAD_HASH
        if answer.reason in FOR_GOOD or self._bad_hashes >= BAD_HASH_MAX:
            self.phase = Phase.REFUSED
            return
        own_s = min(REST_MAX_S, REST_FIRST_S * 2.0 ** min(self._refusals, 16))
        self._refusals += 1
        self.phase = Phase.REST
        self.rest_until_s = now_s + max(1.0, min(REST_MAX_S, answer.retry_after_s or own_s))

    def rested(self, now_s: float) -> bool:
        """Takes it up again when the rest is over; says whether it is."""
        if self.phase is Phase.REST and now_s >= self.rest_until_s:
            self.phase = Phase.OFFER
        return self.phase is not Phase.REST

    def cut(self) -> None:
        """The connection, or the coordinator, is gone: it is asked anew what it holds."""
        if self.phase is Phase.SEND:
            self.phase = Phase.OFFER
        self._inflight.clear()
        self._offered_s = None
        self._patience = 1
        self.window = 1

    def wake_s(self, now_s: float) -> float:
        """In how many seconds there may be something to do, if no answer comes before."""
        if self.phase is Phase.OFFER and self._offered_s is not None:
            return max(0.0, self._offered_s + self._wait_s - now_s)
        if self.phase is Phase.SEND:
            since_s = min((sent_s for _, sent_s in self._inflight.values()), default=self._quiet_since_s)
            return max(0.0, since_s + self._wait_s - now_s)
        return 0.0

    # ---- inside ---------------------------------------------------------------------------------

    @property
    def _wait_s(self) -> float:
        return self.resend_after_s * self._patience

    def _offer_again(self) -> Say:
        self.phase = Phase.OFFER
        return Say()

    def _look_back(self, now_s: float) -> None:
        """Pieces whose answer is overdue count as not sent."""
        late = [at for at, (_, sent_s) in self._inflight.items() if now_s - sent_s >= self._wait_s]
        for at in late:
            del self._inflight[at]
        if late:
            self.resent_total += len(late)
            self._patience = min(PATIENCE_MAX, 2 * self._patience)
            self.window = max(1, self.window // 2)

    def _missing(self) -> Iterator[Piece]:
        """What is neither held nor under way, in order, cut to pieces."""
        spans = self._held
        for at, (length, _) in self._inflight.items():
            spans = with_span(spans, at, at + length)
        for first, last in missing(spans, self.size):
            for at in range(first, last, self.chunk_bytes):
                yield Piece(at, min(self.chunk_bytes, last - at))
