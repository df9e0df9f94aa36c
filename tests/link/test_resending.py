"""When a row is sent again: later where answers take long, so that a fleet does not bury a busy coordinator."""

import pytest

from agent.link.settings import LinkSettings
from agent.link.underway import PATIENCE_MAX, UnderWay
from schemas.identity import Lane

BASE_S = 15.0


class Line:
    """One row after another, by number."""

    def __init__(self) -> None:
        self.way = UnderWay(LinkSettings(), BASE_S)
        self.way.connected(1000)
        self.way.coordinator(online=True)

    def send(self, now_s: float, *seqs: int) -> None:
        for seq in seqs:
            self.way.sent([(Lane.EVENT, seq)], seq, now_s, backlog=False, size=100)
            self.way.window.puback(seq)

    def answer(self, now_s: float, *seqs: int) -> None:
        for seq in seqs:
            self.way.window.answered(Lane.EVENT, seq, seq)
        self.way.answered(now_s)

    def late(self, now_s: float) -> list[int]:
        return [seq for _, seq in self.way.overdue(now_s)]


def test_the_answer_to_a_row_that_was_sent_once_says_how_long_answers_take() -> None:
    line = Line()
    line.send(0.0, 1, 2)
    line.answer(10.0, 1)
    assert line.late(19.9) == []
    assert line.late(20.0) == [2], "twice as long as the first took"
    line = Line()
    line.send(0.0, 1, 2)
    line.answer(0.1, 1)
    assert line.late(14.9) == []
    assert line.late(15.0) == [2], "never sooner than configured"


def test_the_answer_to_a_row_that_was_sent_again_says_nothing() -> None:
    line = Line()
    line.send(0.0, 1, 2)
    assert line.late(15.0) == [1, 2]
    line.send(15.0, 1, 2)
    line.answer(16.0, 1)  # of the first copy, which waited 16 s
    assert line.late(30.0) == [], "as patient as before that answer"
    assert line.late(45.0) == [2]


def test_rows_are_sent_a_few_times_however_slow_the_coordinator_is() -> None:
    """The coordinator answers each row 100 s after its first copy, and the second copies never."""
    line, copies, first = Line(), dict[int, int](), dict[int, float]()
    for now in range(600):
        now_s = float(now)
        again = line.late(now_s)
        for seq in [*again, now]:
            copies[seq] = copies.get(seq, 0) + 1
            first.setdefault(seq, now_s)
            line.send(now_s, seq)
        if now >= 100:
            line.answer(now_s, now - 100)
    assert sum(copies.values()) / len(copies) < 2.0
    assert max(copies.values()) <= 4
    assert all(copies[seq] == 1 for seq in range(250, 600)), "in the long run once"


@pytest.mark.parametrize("times", [1, 2, 5, 50])
def test_patience_has_an_end(times: int) -> None:
    line, now_s = Line(), 0.0
    line.send(now_s, 1)
    for _ in range(times):
        now_s += PATIENCE_MAX * BASE_S
        assert line.late(now_s) == [1]
        line.send(now_s, 1)
    line.answer(now_s + 1000.0, 1)
    line.send(now_s, 2)
    line.answer(now_s + 1000.0, 2)
    assert line.way.window.resend_after_s == PATIENCE_MAX * BASE_S
