from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.link.window import RowKey, Window
from schemas.identity import Lane

EVENT, ALERT = Lane.EVENT, Lane.ALERT


def sent(*seqs: int, lane: Lane = EVENT) -> Window:
    window = Window()
    for mid, seq in enumerate(seqs, 1):
        window.sent([(lane, seq)], mid, float(mid))
    return window


def test_an_acknowledged_range_frees_what_was_sent_of_it() -> None:
    window = sent(1, 2, 3, 5, 6)
    assert window.answered(EVENT, 2, 5) == [(2, 3), (5, 5)]
    assert list(window.unanswered) == [(EVENT, 1), (EVENT, 6)]
    assert window.answered(EVENT, 2, 5) == []


def test_hostile_ranges_free_nothing_that_was_not_sent() -> None:
    cases = [
        ((EVENT, 4, 4), []),  # never sent
        ((EVENT, 3, 1), []),  # reversed
        ((EVENT, 2**62, 0), []),
        ((ALERT, 0, 2**62), []),  # another lane
        ((EVENT, 0, 2**62), [(1, 3), (7, 7)]),
        ((EVENT, 3, 2**63 - 1), [(3, 3), (7, 7)]),
    ]
    for asked, freed in cases:
        assert sent(1, 2, 3, 7).answered(*asked) == freed, asked


def test_both_limits_bound_what_may_follow() -> None:
    window = Window(inflight_max=3, unanswered_max=5)
    assert window.room() == 3
    window.sent([(EVENT, 1), (EVENT, 2)], mid=1, now_s=0.0)
    assert (window.room(), window.room_for_rows()) == (2, 3)
    window.sent([(EVENT, 3)], mid=2, now_s=0.0)
    window.sent([(EVENT, 4)], mid=3, now_s=0.0)
    assert window.room() == 0
    for mid in (1, 1, 99):  # a repeated PUBACK and one of somebody else's message give no second place
        window.puback(mid)
    assert window.room() == 1
    window.puback(2)
    assert (window.room(), window.room_for_rows()) == (1, 1)
    window.answered(EVENT, 1, 2)
    assert window.room() == 2


def test_what_is_not_answered_in_time_is_forgotten_once_oldest_first() -> None:
    window = Window(resend_after_s=10.0)
    window.sent([(EVENT, 1)], 1, 0.0)
    window.sent([(EVENT, 2)], 2, 5.0)
    window.sent([(EVENT, 1)], 3, 8.0)  # sent again: its time begins anew
    assert window.overdue(14.9) == []
    assert window.overdue(15.0) == [(EVENT, 2)]
    assert window.overdue(17.9) == []
    assert window.overdue(100.0) == [(EVENT, 1)]
    assert not window.unanswered


def test_an_answer_that_comes_late_counts_until_the_row_was_sent_again() -> None:
    window = Window(resend_after_s=10.0, unanswered_max=4)
    window.sent([(EVENT, 1), (EVENT, 2), (EVENT, 3)], 1, 0.0, backlog=True)
    assert len(window.overdue(10.0)) == 3
    assert window.answered(EVENT, 1, 1) == [(1, 1)]
    assert (window.once(), window.feedback()[0]) == (0.0, 0), "it shows how long answers take"
    assert window.answered(EVENT, 1, 1) == []
    window.sent([(EVENT, 2)], 2, 11.0, backlog=True)
    assert window.answered(EVENT, 0, 2**62) == [(2, 3)]
    assert window.once() == 0.0, "of 3; of 2 nobody knows which copy was answered"
    window.sent([(EVENT, 7)], 3, 12.0)
    window.all_late()
    window.sent([(EVENT, 7)], 4, 13.0)
    window.all_late()
    assert window.answered(EVENT, 7, 7) == [(7, 7)]
    assert window.once() is None


def test_only_so_many_late_rows_are_remembered_the_oldest_go_first() -> None:
    window = Window(resend_after_s=10.0, unanswered_max=4)
    for start in (1, 5):
        window.sent([(EVENT, seq) for seq in range(start, start + 4)], start, 0.0)
        window.overdue(10.0)
    assert window.answered(EVENT, 0, 100) == [(5, 8)]


def test_while_nobody_answers_the_oldest_make_room() -> None:
    window = Window(unanswered_max=10)
    window.sent([(EVENT, seq) for seq in range(1, 11)], 1, 0.0)
    window.make_room()
    assert list(window.unanswered) == [(EVENT, seq) for seq in range(6, 11)]


def test_live_rows_and_the_backlog_share_the_places() -> None:
    window = Window(inflight_max=10, live_share=0.7)
    assert (window.room(), window.room(others_wait=True), window.room_for_backlog()) == (10, 7, 3)
    for mid in range(3):
        window.sent([(EVENT, mid)], mid, 0.0, backlog=True)
    assert (window.room(others_wait=True), window.room_for_backlog()) == (7, 0)
    for mid in range(3, 10):
        window.sent([(EVENT, mid)], mid, 0.0)
    assert (window.room(), window.room_for_backlog()) == (0, 0)
    window.puback(0)
    assert (window.room(), window.room(others_wait=True), window.room_for_backlog()) == (1, 0, 1)


def test_bytes_on_their_way_are_bounded_but_one_message_always_passes() -> None:
    window = Window(bytes_max=100)
    window.sent([(EVENT, 1)], 1, 0.0, size=500)
    assert window.room() == 0
    window.puback(1)
    assert window.room() == 100


def test_the_delay_of_answers_is_that_of_the_backlog() -> None:
    window = Window()
    window.sent([(EVENT, 1), (EVENT, 2)], 1, 5.0, backlog=True)
    window.sent([(ALERT, 1)], 2, 7.0)
    window.answered(ALERT, 1, 1)
    assert window.feedback()[0] == 0
    window.answered(EVENT, 1, 9)
    assert window.feedback() == (2, 5.0)
    assert window.feedback()[0] == 0


class WindowLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.window = Window(inflight_max=4, unanswered_max=12, resend_after_s=10.0)
        self.out: dict[RowKey, float] = {}
        self.late: list[RowKey] = []
        self.ever: set[RowKey] = set()
        self.mids: set[int] = set()
        self.mid = 0
        self.now_s = 0.0

    @precondition(lambda self: self.window.room() > 0)
    @rule(
        lane=st.sampled_from([EVENT, ALERT]), seq=st.integers(1, 30), count=st.integers(1, 4), backlog=st.booleans()
    )
    def send(self, lane: Lane, seq: int, count: int, backlog: bool) -> None:
        keys = [(lane, seq + i) for i in range(min(count, self.window.room_for_rows()))]
        self.mid += 1
        self.mids.add(self.mid)
        self.window.sent(keys, self.mid, self.now_s, backlog=backlog)
        for key in keys:
            self.out[key] = self.now_s
            self.ever.add(key)
        self.late = [key for key in self.late if key not in keys]

    @rule(mid=st.integers(0, 40))
    def puback(self, mid: int) -> None:
        self.window.puback(mid)
        self.mids.discard(mid)

    @rule(
        lane=st.sampled_from(list(Lane)),
        first=st.integers(0, 35) | st.integers(0, 2**63 - 1),
        last=st.integers(0, 35) | st.integers(0, 2**63 - 1),
    )
    def answer(self, lane: Lane, first: int, last: int) -> None:
        ranges = self.window.answered(lane, first, last)
        freed = [(lane, seq) for low, high in ranges for seq in range(low, high + 1)]
        assert set(freed) <= self.ever
        assert sorted(seq for _, seq in freed) == sorted(
            seq for out_lane, seq in (*self.out, *self.late) if out_lane is lane and first <= seq <= last
        )
        for key in freed:
            self.out.pop(key, None)
        self.late = [key for key in self.late if key not in freed]

    @rule(seconds=st.floats(0, 20))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        late = self.window.overdue(self.now_s)
        assert sorted((lane.value, seq) for lane, seq in late) == sorted(
            (lane.value, seq) for (lane, seq), at_s in self.out.items() if self.now_s - at_s >= 10.0
        )
        self.are_late(late)

    @rule(all_of_them=st.booleans())
    def begin_anew_or_make_room(self, all_of_them: bool) -> None:
        before = list(self.window.unanswered)
        if all_of_them:
            self.window.all_late()
        else:
            self.window.make_room()
        self.are_late([key for key in before if key not in self.window.unanswered])

    def are_late(self, keys: list[RowKey]) -> None:
        for key in keys:
            del self.out[key]
        self.late = [*self.late, *keys][-12:]

    @invariant()
    def knows_what_is_out(self) -> None:
        assert {key: sent_s for key, (sent_s, _) in self.window.unanswered.items()} == self.out
        assert self.window.inflight.keys() == self.mids
        assert self.window.backlog_rows == sum(backlog for _, backlog in self.window.unanswered.values())
        assert self.window.room_for_backlog() <= self.window.room()
        assert len(self.mids) <= 4
        assert len(self.out) <= 12


WindowLife.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestWindowLife = WindowLife.TestCase
