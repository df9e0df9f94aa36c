"""Which broker is used: tables for the idea, and a machine that lets brokers come and go as they like."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.link.brokers import (
    HOLD_GROWTH_MAX,
    LASTING,
    RETRY,
    RETRY_AUTH,
    SPREAD_S,
    STEADY_S,
    BrokerRules,
    Brokers,
    Move,
    Trouble,
)
from agent.link.silence import Silence

RULES = BrokerRules(probe_s=30.0, return_after_s=120.0, silent_after_s=60.0)
A, B, C = 0, 1, 2
LOST, UNREACHABLE, AUTH, SILENT = Trouble.LOST, Trouble.UNREACHABLE, Trouble.AUTH, Trouble.SILENT


def brokers(count: int = 3) -> Brokers:
    return Brokers(count, RULES)


def on_fallback(which: int = B, now_s: float = 0.0) -> Brokers:
    """Those before `which` have failed."""
    some = brokers()
    for better in range(which):
        some.failed(better, UNREACHABLE, "refused", now_s, 0.5)
    some.connected(which, now_s)
    return some


def answers(some: Brokers, which: int, since_s: float, until_s: float) -> None:
    at_s = since_s
    while at_s <= until_s:
        some.probed(which, "", at_s, 1.0)
        at_s += RULES.probe_s


# ---- without a connection ----------------------------------------------------------------------


def test_the_preferred_one_is_tried_first_and_at_once() -> None:
    assert brokers().next(7.0) == (A, 7.0)


@pytest.mark.parametrize("jitter", [0.0, 0.3, 1.0])
def test_a_failure_leads_to_the_next_in_order_and_round_again(jitter: float) -> None:
    some, now_s, tried = brokers(), 0.0, []
    for _ in range(9):
        which, now_s = some.next(now_s)
        tried.append(which)
        some.failed(which, UNREACHABLE, "refused", now_s, jitter)
    assert tried == [A, B, C] * 3


def test_a_slow_failure_does_not_starve_those_further_back() -> None:
    """Each attempt takes ten seconds, longer than the first waits."""
    some, now_s, tried = brokers(), 0.0, []
    for _ in range(6):
        which, at_s = some.next(now_s)
        tried.append(which)
        now_s = at_s + 10.0
        some.failed(which, UNREACHABLE, "no answer", now_s, 0.5)
    assert tried == [A, B, C] * 2


def test_one_that_wants_a_person_is_left_alone_for_long_and_the_others_are_not() -> None:
    some = brokers(2)
    some.failed(A, AUTH, "wrong password", 0.0, 0.0)
    tried = []
    now_s = 0.0
    while now_s < RETRY_AUTH.first_s / 2:
        which, now_s = some.next(now_s)
        tried.append(which)
        some.failed(which, UNREACHABLE, "refused", now_s, 0.0)
    assert tried[:-1] == [B] * (len(tried) - 1)
    assert tried[-1] == A


def test_only_one_broker_is_tried_as_ever_longer_waits_allow() -> None:
    some, now_s, waits = brokers(1), 0.0, []
    for _ in range(10):
        which, at_s = some.next(now_s)
        assert which == A
        waits.append(at_s - now_s)
        now_s = at_s
        some.failed(A, UNREACHABLE, "refused", now_s, 1.0)
    assert waits == pytest.approx([0.0] + [RETRY.delay_s(n, 1.0) for n in range(9)])


@pytest.mark.parametrize(("lasted_s", "next_wait_s"), [(STEADY_S - 1, 2.0), (STEADY_S, 0.5)])
def test_only_a_steady_connection_starts_the_waits_anew(lasted_s: float, next_wait_s: float) -> None:
    some = brokers(1)
    for _ in range(2):
        some.connected(A, 0.0)
        some.lost("reset", 1.0, 1.0)
    some.connected(A, 10.0)
    some.lost("reset", 10.0 + lasted_s, 1.0)
    assert some.next(10.0 + lasted_s) == (A, 10.0 + lasted_s + next_wait_s)


def test_a_fleet_that_lost_its_broker_does_not_knock_at_the_next_all_at_once() -> None:
    waits = []
    for n in range(11):
        some = brokers(2)
        some.connected(A, 0.0)
        some.lost("reset", 100.0, n / 10)
        which, at_s = some.next(100.0)
        assert which == B
        waits.append(at_s - 100.0)
    assert waits == pytest.approx([SPREAD_S * n / 10 for n in range(11)])


def test_when_the_fallback_ends_the_preferred_one_is_tried_first() -> None:
    some = on_fallback(C)
    some.lost("reset", 1000.0, 0.0)
    assert some.next(1000.0)[0] == A


# ---- back --------------------------------------------------------------------------------------


def test_it_returns_when_the_better_one_has_answered_long_enough() -> None:
    some = on_fallback()
    assert some.probe(0.0) is None
    assert some.probe(30.0) == A
    answers(some, A, 30.0, 150.0)
    assert some.move(0.0, 149.9) is None
    assert some.move(0.0, 150.0) == Move(A, returns=True)
    some.connected(A, 150.0)
    assert (some.current, some.moves_total) == (A, 1)
    assert some.probe(1e6) is None  # nothing is better


def test_one_probe_without_an_answer_begins_the_hold_anew() -> None:
    some = on_fallback()
    answers(some, A, 30.0, 120.0)
    some.probed(A, "refused", 140.0, 1.0)
    answers(some, A, 170.0, 260.0)
    assert some.move(0.0, 289.9) is None
    answers(some, A, 290.0, 290.0)
    assert some.move(0.0, 290.0) == Move(A, returns=True)


def test_what_was_last_probed_long_ago_is_not_known() -> None:
    """The machine slept."""
    some = on_fallback()
    answers(some, A, 30.0, 60.0)
    assert some.move(0.0, 10_000.0) is None
    some.probed(A, "", 10_000.0, 1.0)
    assert some.move(0.0, 10_000.0) is None
    answers(some, A, 10_030.0, 10_120.0)
    assert some.move(0.0, 10_120.0) == Move(A, returns=True)


def test_from_the_third_it_returns_to_the_second_where_the_first_is_dead() -> None:
    some = on_fallback(C)
    for n in range(6):
        some.probed(A, "refused", 30.0 * n, 1.0)
        some.probed(B, "", 30.0 * n, 1.0)
    assert some.move(0.0, 150.0) == Move(B, returns=True)
    some.connected(B, 150.0)
    assert some.probe(190.0) == A


def test_a_return_that_fails_or_does_not_last_doubles_the_hold() -> None:
    some = on_fallback()
    now_s, holds = 0.0, []
    for n in range(8):
        began_s = now_s
        while (move := some.move(0.0, now_s)) is None:
            now_s += RULES.probe_s
            some.probed(A, "", now_s, 1.0)
        assert move == Move(A, returns=True)
        holds.append(now_s - began_s - RULES.probe_s)
        if n % 2:
            some.failed(A, UNREACHABLE, "no answer", now_s, 0.0)  # still on B
            assert some.current == B
        else:
            some.connected(A, now_s)
            some.lost("reset", now_s + 5.0, 0.0)
            some.connected(B, now_s + 6.0)
            now_s += 6.0
    grown = [RULES.return_after_s * min(2**n, HOLD_GROWTH_MAX) for n in range(8)]
    assert holds == pytest.approx(grown, abs=RULES.probe_s + 6.0)


def test_a_return_that_lasted_sets_the_hold_back() -> None:
    some = on_fallback()
    some.connected(A, 0.0)
    some.lost("reset", 5.0, 0.0)
    assert some[A].hold_s == 2 * RULES.return_after_s
    some.connected(B, 6.0)
    some.connected(A, 500.0)
    some.lost("reset", 500.0 + LASTING * RULES.return_after_s, 0.0)
    assert some[A].hold_s == RULES.return_after_s


def test_one_that_wants_a_person_is_not_probed_meanwhile() -> None:
    some = brokers(2)
    some.failed(A, AUTH, "wrong password", 0.0, 1.0)
    some.connected(B, 0.0)
    assert some.probe(RETRY_AUTH.first_s - 0.1) is None
    assert some.probe(RETRY_AUTH.first_s) == A


# ---- silence -----------------------------------------------------------------------------------


def test_a_broker_over_which_nobody_answers_is_left_for_the_next() -> None:
    some = brokers()
    some.connected(A, 0.0)
    assert some.move(59.9, 60.0) is None
    assert some.move(60.0, 60.0) == Move(B, returns=False)
    some.failed(B, UNREACHABLE, "refused", 60.0, 0.0)  # still on A
    assert some.move(60.1, 60.1) == Move(C, returns=False)
    some.failed(A, SILENT, "nobody answers", 61.0, 0.0)
    some.connected(C, 61.0)
    assert some.current == C


def test_a_silent_one_is_better_than_none() -> None:
    some = brokers(1)
    some.connected(A, 0.0)
    assert some.move(1e6, 1e6) is None


def test_a_coordinator_that_is_down_for_all_does_not_send_nodes_round_and_round() -> None:
    some, now_s, moves = brokers(2), 0.0, 0
    some.connected(A, 0.0)
    since_s = 0.0
    while now_s < 24 * 3600:
        now_s += 1.0
        if which := some.probe(now_s):
            some.probed(which, "", now_s, 1.0)
        move = some.move(now_s - since_s, now_s)
        if move is not None:
            assert some.current is not None
            if not move.returns:
                some.failed(some.current, SILENT, "nobody answers", now_s, 0.5)
            some.connected(move.to, now_s)
            since_s, moves = now_s, moves + 1
    assert 2 <= moves <= 100  # of 1440 that the silence alone would ask for


def test_an_answer_ends_what_is_held_against_a_silent_one() -> None:
    some = brokers(2)
    some.connected(A, 0.0)
    for _ in range(3):
        some.failed(A, SILENT, "nobody answers", 0.0, 1.0)
    some.answered()
    some.failed(A, SILENT, "nobody answers", 0.0, 1.0)
    assert some[A].due_s == 2 * RULES.silent_after_s


def test_silence_begins_with_a_question_and_ends_with_an_answer() -> None:
    silence = Silence()
    assert silence.lasts_s(100.0) == 0.0
    silence.asked(100.0)
    silence.asked(130.0)
    assert silence.lasts_s(140.0) == 40.0
    silence.answered(150.0, still_asked=True)
    assert silence.lasts_s(160.0) == 10.0
    silence.answered(165.0, still_asked=False)
    assert silence.lasts_s(1000.0) == 0.0 and silence.answered_once


def test_what_people_are_shown() -> None:
    some = on_fallback(now_s=10.0)
    some.probed(A, "", 20.0, 1.0)
    assert some[A].report(25.0) == {
        "failures_total": 1,
        "last_trouble": "unreachable",
        "last_reason": "refused",
        "last_failed_s_ago": 15.0,
        "not_tried_for_s": 0.0,
        "answers_probes_for_s": 5.0,
        "return_after_s": 120.0,
    }
    assert some[B].report(25.0)["last_failed_s_ago"] is None


# ---- any weather -------------------------------------------------------------------------------


@dataclass
class Real:
    """A broker as it is, whatever the node believes."""

    up: bool = True
    known: bool = True  # our password is right
    heard: bool = True  # a coordinator hears it


class Weather(RuleBasedStateMachine):
    """Drives `Brokers` as the link does, against brokers that change at any time."""

    STEP_S = 1.0
    STALL_S = 10.0  # an attempt at a broker that does not answer

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        self.brokers = Brokers(count, RULES)
        self.real = [Real() for _ in range(count)]
        self.now_s = 0.0
        self.asked_s = 0.0
        self.attempts: list[list[float]] = [[] for _ in range(count)]

    @rule(data=st.data(), up=st.booleans(), known=st.sampled_from([True, True, False]), heard=st.booleans())
    def change(self, data: st.DataObject, up: bool, known: bool, heard: bool) -> None:
        which = data.draw(st.integers(0, len(self.real) - 1))
        self.real[which] = Real(up, known, heard)
        if self.brokers.current == which and not (up and known):
            self.brokers.lost("reset", self.now_s, data.draw(st.floats(0, 1)))

    @rule(jitter=st.floats(0, 1), steps=st.sampled_from([1, 5, 40, 300]))
    def time_passes(self, jitter: float, steps: int) -> None:
        for _ in range(steps):
            self.step(jitter)

    @rule()
    def a_while_of_good_weather_ends_on_the_preferred_broker(self) -> None:
        self.real = [Real() for _ in self.real]
        longest_s = 2 * HOLD_GROWTH_MAX * RULES.return_after_s + 2 * RETRY_AUTH.max_s + 64 * RULES.silent_after_s
        until_s = self.now_s + longest_s
        while self.brokers.current != A and self.now_s < until_s:
            self.step(0.5)
        assert self.brokers.current == A
        moves = self.brokers.moves_total
        for _ in range(300):
            self.step(0.5)
        assert (self.brokers.current, self.brokers.moves_total) == (A, moves)

    def attempt(self, which: int, jitter: float) -> bool:
        self.attempts[which].append(self.now_s)
        real = self.real[which]
        if real.up and real.known:
            self.brokers.connected(which, self.now_s)
            self.asked_s = self.now_s
            return True
        self.now_s += 0.0 if real.up else self.STALL_S
        self.brokers.failed(which, UNREACHABLE if real.known else AUTH, "no", self.now_s, jitter)
        return False

    def step(self, jitter: float) -> None:
        self.now_s += self.STEP_S
        some = self.brokers
        if some.current is None:
            which, at_s = some.next(self.now_s)
            assert at_s <= self.now_s + RETRY_AUTH.max_s + 32 * RULES.silent_after_s  # it never gives up
            if at_s <= self.now_s:
                self.attempt(which, jitter)
            return
        if self.real[some.current].heard:
            self.asked_s = self.now_s
            some.answered()
        if (which_probed := some.probe(self.now_s)) is not None:
            problem = "" if self.real[which_probed].up else "refused"
            some.probed(which_probed, problem, self.now_s, jitter)
        move = some.move(self.now_s - self.asked_s, self.now_s)
        if move is not None:
            assert move.to != some.current
            assert move.to < some.current or not move.returns
            old = some.current
            if not move.returns and self.real[move.to].up and self.real[move.to].known:
                some.failed(old, SILENT, "nobody answers", self.now_s, jitter)
            self.attempt(move.to, jitter)

    @invariant()
    def no_broker_is_knocked_at_too_often(self) -> None:
        for attempts in getattr(self, "attempts", []):
            for before_s, after_s in pairwise(attempts[-40:]):
                assert after_s - before_s >= RETRY.first_s / 2
            # A failure in a row doubles the wait, so a quarter of an hour has room for few attempts in vain.
            recent = [at_s for at_s in attempts if at_s > self.now_s - 900.0]
            assert len(recent) <= 900.0 / 5.0


TestWeather = Weather.TestCase
TestWeather.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
