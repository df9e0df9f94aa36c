"""One file on its way: tables for each word that comes back, and a state machine against everything a way can do."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.evidence.upload import BAD_HASH_MAX, WINDOW_MAX, Phase, Piece, Say, Upload
from schemas.blobs import Held, Reason, Refused, Spans, missing, with_span


def begun(size: int = 1000, chunk: int = 100) -> Upload:
    """Offered, and nothing is held."""
    upload = Upload(size, chunk, resend_after_s=10.0)
    assert upload.next(0.0) == Say()
    upload.sent(Say(), 0.0)
    upload.held(Held(size), 0.1)
    return upload


def pieces(upload: Upload, now_s: float) -> list[Piece]:
    """All that may go now."""
    found = []
    while isinstance(what := upload.next(now_s), Piece):
        upload.sent(what, now_s)
        found.append(what)
    return found


def test_it_is_offered_before_anything_is_sent_and_offered_again_without_an_answer() -> None:
    upload = Upload(1000, 100, resend_after_s=10.0)
    upload.held(Held(1000, [(0, 1000)], complete=True), 0.0)
    assert upload.phase is Phase.OFFER  # nobody was asked
    upload.sent(Say(), 0.0)
    assert upload.next(9.9) is None
    assert upload.wake_s(4.0) == 6.0
    assert upload.next(10.0) == Say()
    upload.sent(Say(), 10.0)
    assert upload.next(29.9) is None  # it is waited for longer each time
    assert upload.next(30.0) == Say()


def test_only_what_is_missing_is_sent_whatever_the_pieces_were_before() -> None:
    upload = Upload(1000, 300)
    upload.sent(Say(), 0.0)
    upload.held(Held(1000, [(0, 250), (400, 500), (950, 1000)]), 0.1)
    upload.window = 9
    assert [(one.at, one.length) for one in pieces(upload, 1.0)] == [(250, 150), (500, 300), (800, 150)]


def test_the_window_opens_with_quick_answers_and_closes_with_slow_ones() -> None:
    upload = begun()
    counts, held = [], 0
    for n in range(5):
        sent = pieces(upload, float(n))
        counts.append(len(sent))
        held += sum(one.length for one in sent)
        upload.held(Held(1000, [(0, min(held, 999))]), n + 0.1)
    assert counts[:3] == [1, 2, 4]
    assert max(counts) <= WINDOW_MAX
    upload.window = 4
    upload.held(Held(1000, [(0, 100)]), 10.0)
    sent = pieces(upload, 10.0)
    upload.held(Held(1000, [(0, 100 + sum(one.length for one in sent))]), 15.0)
    assert upload.window == 1


def test_a_piece_without_an_answer_is_sent_again() -> None:
    upload = begun()
    assert pieces(upload, 1.0) == [Piece(0, 100)]
    assert upload.next(10.9) is None
    assert upload.wake_s(5.0) == 6.0
    assert upload.next(11.0) == Piece(0, 100)
    assert upload.resent_total == 1


def test_all_is_held_and_the_last_word_stays_away() -> None:
    upload = begun(size=100)
    pieces(upload, 1.0)
    upload.held(Held(100, [(0, 100)]), 2.0)  # it verifies now
    assert upload.next(11.9) is None
    assert upload.next(12.0) == Say()
    upload.sent(Say(), 12.0)
    upload.held(Held(100, [(0, 100)], complete=True), 12.1)
    assert upload.phase is Phase.DONE


def test_a_coordinator_that_lost_its_last_writes_is_believed() -> None:
    upload = begun()
    upload.held(Held(1000, [(0, 900)]), 1.0)
    upload.held(Held(1000, [(0, 300)]), 2.0)
    assert upload.held_bytes == 300
    assert upload.next(2.0) == Piece(300, 100)


def test_an_answer_about_another_size_changes_nothing() -> None:
    upload = begun()
    upload.held(Held(999, [(0, 999)], complete=True), 1.0)
    assert upload.phase is Phase.SEND
    assert upload.held_bytes == 0


def test_a_cut_asks_anew_what_is_held() -> None:
    upload = begun()
    upload.held(Held(1000, [(0, 500)]), 1.0)
    pieces(upload, 1.0)
    upload.cut()
    assert upload.next(1.0) == Say()
    upload.sent(Say(), 1.0)
    upload.held(Held(1000, [(0, 600)]), 1.1)
    assert upload.next(1.2) == Piece(600, 100)


@pytest.mark.parametrize(
    ("reason", "retry_s", "phase", "rest_s"),
    [
        (Reason.TOO_LARGE, 0.0, Phase.REFUSED, None),
        (Reason.BAD_CHUNK, 0.0, Phase.REFUSED, None),
        (Reason.QUOTA, 600.0, Phase.REST, 600.0),
        (Reason.QUOTA, 10**7, Phase.REST, 3600.0),  # nobody rests us for ever
        (Reason.NO_ROOM, 0.0, Phase.REST, 30.0),
        (Reason.OFF, 0.0, Phase.REST, 30.0),
        (Reason.BAD_HASH, 5.0, Phase.REST, 5.0),
        (Reason.NOT_OFFERED, 0.0, Phase.OFFER, None),
    ],
)
def test_what_a_refusal_leads_to(reason: Reason, retry_s: float, phase: Phase, rest_s: float | None) -> None:
    upload = begun()
    pieces(upload, 1.0)
    upload.refused(Refused(reason, "why", retry_s), 100.0)
    assert upload.phase is phase
    assert upload.is_over == (phase is not Phase.OFFER)
    assert upload.reason == f"{reason.value}: why"
    if rest_s is not None:
        assert upload.rest_until_s == 100.0 + rest_s
        assert not upload.rested(99.0 + rest_s)
        assert upload.rested(100.0 + rest_s)
        assert upload.next(100.0 + rest_s) == Say()


def test_rests_grow_and_a_hash_that_stays_wrong_ends_it() -> None:
    upload = Upload(10, 10)
    rests = []
    for n in range(4):
        upload.phase = Phase.OFFER
        upload.sent(Say(), n)
        upload.refused(Refused(Reason.NO_ROOM), 0.0)
        rests.append(upload.rest_until_s)
    assert rests == [30.0, 60.0, 120.0, 240.0]
    for n in range(BAD_HASH_MAX):
        upload.phase = Phase.OFFER
        upload.sent(Say(), n)
        upload.refused(Refused(Reason.BAD_HASH, retry_after_s=1.0), 0.0)
    assert upload.phase is Phase.REFUSED


class Way(RuleBasedStateMachine):
    """Messages wait on the way in both directions and are delivered in any order, twice, or never.

    The coordinator is a model that writes, loses what it had not synced, forgets, and is started anew.
    """

    @initialize(size=st.integers(1, 900), chunk=st.integers(50, 400), later=st.integers(50, 400))
    def begin(self, size: int, chunk: int, later: int) -> None:
        self.size, self.later = size, later
        self.now_s = 0.0
        self.upload = Upload(size, chunk, resend_after_s=5.0)
        self.up: list[Say | Piece] = []
        self.down: list[Held | Refused] = []
        self.spans: Spans | None = None  # None: not offered
        self.durable: Spans = []
        self.done = False

    # the node

    @rule()
    def send(self) -> None:
        what = self.upload.next(self.now_s)
        if what is not None:
            self.upload.sent(what, self.now_s)
            self.up.append(what)

    @rule(step_s=st.sampled_from([0.1, 1.0, 6.0, 50.0]))
    def wait(self, step_s: float) -> None:
        self.now_s += step_s
        self.upload.rested(self.now_s)

    @rule()
    def cut(self) -> None:
        self.up.clear()
        self.down.clear()
        self.upload.cut()

    @rule()
    def node_is_killed(self) -> None:
        """A new life, perhaps with other pieces."""
        if self.upload.phase is not Phase.DONE:
            self.upload = Upload(self.size, self.later, resend_after_s=5.0)
        self.up.clear()

    # the way

    @precondition(lambda self: self.up)
    @rule(data=st.data(), keep=st.booleans())
    def arrive(self, data: st.DataObject, keep: bool) -> None:
        at = data.draw(st.integers(0, len(self.up) - 1))
        self.take(self.up[at] if keep else self.up.pop(at))

    @precondition(lambda self: self.down)
    @rule(data=st.data(), keep=st.booleans())
    def answer(self, data: st.DataObject, keep: bool) -> None:
        at = data.draw(st.integers(0, len(self.down) - 1))
        self.hear(self.down[at] if keep else self.down.pop(at))

    @precondition(lambda self: self.up or self.down)
    @rule()
    def lose(self) -> None:
        (self.up or self.down).pop()

    # the coordinator

    @rule(keeps=st.booleans())
    def coordinator_is_killed(self, keeps: bool) -> None:
        self.down.clear()
        if not self.done:
            self.spans = list(self.durable) if keeps and self.spans is not None else None
            self.durable = self.durable if keeps else []

    @rule()
    def coordinator_syncs(self) -> None:
        self.durable = list(self.spans or [])

    @rule(reason=st.sampled_from([Reason.QUOTA, Reason.NO_ROOM]))
    def coordinator_refuses(self, reason: Reason) -> None:
        if not self.done:
            self.down.append(Refused(reason, "", 20.0))

    def take(self, what: Say | Piece) -> None:
        if self.done:
            self.down.append(Held(self.size, [(0, self.size)], complete=True))
            return
        if isinstance(what, Say):
            self.spans = [] if self.spans is None else self.spans
        elif self.spans is None:
            self.down.append(Refused(Reason.NOT_OFFERED))
            return
        else:
            assert 0 <= what.at < what.at + what.length <= self.size
            self.spans = with_span(self.spans, what.at, what.at + what.length)
        assert self.spans is not None
        self.done = not missing(self.spans, self.size)
        self.down.append(Held(self.size, list(self.spans), complete=self.done))

    def hear(self, said: Held | Refused) -> None:
        if isinstance(said, Held):
            self.upload.held(said, self.now_s)
        else:
            self.upload.refused(said, self.now_s)

    @invariant()
    def done_only_when_all_of_it_is_there(self) -> None:
        if hasattr(self, "upload"):
            assert self.upload.phase is not Phase.DONE or self.done
            assert len(self.upload._inflight) <= WINDOW_MAX

    def teardown(self) -> None:
        """From here on nothing is lost any more: then it gets done, whatever was before."""
        if not hasattr(self, "upload"):
            return
        self.down = [said for said in self.down if isinstance(said, Held)]
        for _ in range(400):
            if self.upload.phase is Phase.DONE:
                break
            while self.up:
                self.take(self.up.pop(0))
            while self.down:
                self.hear(self.down.pop(0))
            self.upload.rested(self.now_s)
            while (what := self.upload.next(self.now_s)) is not None:
                self.upload.sent(what, self.now_s)
                self.up.append(what)
            self.now_s += 30.0
        assert self.upload.phase is Phase.DONE
        assert self.done


TestWay = Way.TestCase
TestWay.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(
    ("spans", "span", "found"),
    [
        ([], (0, 5), [(0, 5)]),
        ([(0, 5)], (5, 8), [(0, 8)]),
        ([(0, 5), (9, 12)], (4, 10), [(0, 12)]),
        ([(5, 6)], (0, 2), [(0, 2), (5, 6)]),
        ([(5, 6)], (3, 3), [(5, 6)]),
        ([(0, 10)], (2, 4), [(0, 10)]),
    ],
)
def test_ranges_become_one_where_they_touch(spans: Spans, span: tuple[int, int], found: Spans) -> None:
    assert with_span(spans, *span) == found


@pytest.mark.parametrize(
    ("spans", "size", "found"),
    [([], 5, [(0, 5)]), ([(0, 5)], 5, []), ([(1, 2), (4, 5)], 6, [(0, 1), (2, 4), (5, 6)]), ([(0, 9)], 5, [])],
)
def test_what_is_missing(spans: Spans, size: int, found: Spans) -> None:
    assert missing(spans, size) == found
