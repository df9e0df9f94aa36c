"""Conditions: what they say over events and time, and what is said of those that mean nothing."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms.conditions import Condition, ConditionError, Fact, parse


def told(text: str, events: list[tuple[float, str, dict[str, Any]]], at_s: float) -> bool:
    condition = parse(text)
    condition.holds(0.0)
    for now_s, kind, data in events:
        condition.take(Fact(kind, data), now_s)
    return condition.holds(at_s)


DEFECTS: list[tuple[float, str, dict[str, Any]]] = [
    (1.0, "Defect", {"kind": "crack", "confidence": 0.9, "at": {"x": 1}}),
    (2.0, "Defect", {"kind": "pore", "confidence": 0.4, "at": {"x": 2}}),
    (3.0, "Level", {"value": 10}),
    (4.0, "Level", {"value": 20.0}),
    (5.0, "Defect", {"kind": "crack", "confidence": 0.7, "at": {"x": 2}}),
    (5.5, "Level", {"value": "broken"}),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("count(Defect, 10s) = 3", True),
        ("count(Defect, 10s) >= 4", False),
        ("count(Defect, 3s) = 1", True),  # (3, 6]: what is just as old as the window has left it
        ('count(Defect where kind = "crack", 10s) = 2', True),
        ('count(Defect where kind = "crack" and confidence > 0.8, 10s) = 1', True),
        ('count(Defect where kind in ("pore", "burn"), 10s) = 1', True),
        ('count(Defect where not kind in ("pore", "burn"), 10s) = 2', True),
        ('count(Defect where kind not in ("pore"), 10s) = 2', True),
        ("count(Defect where at.x = 2, 10s) = 2", True),
        ("count(Defect where nothing = 2, 10s) = 0", True),
        ('count(Defect where confidence = "0.9", 10s) = 0', True),  # no text is a number
        ("rate(Defect, 10s) = 0.3", True),
        ("rate(Defect, 10s) < 30 / 1m", True),
        ("avg(Level.value, 10s) = 15", True),
        ("sum(Level.value, 10s) = 30 and max(Level.value, 10s) - min(Level.value, 10s) = 10", True),
        ("last(Level.value, 10s) = 20", True),
        ("avg(Level.value, 1s) > 0", False),  # nothing is known
        ("not avg(Level.value, 1s) > 0", True),
        ("sum(Level.value, 1s) = 0", True),
        ("avg(Level.value, 10s) / count(Other, 1s) > 1", False),
        ("distinct(Defect.kind, 10s) = 2", True),
        ("since(Defect) = 1", True),
        ("since(Other) = 6", True),
        ("count(Other, 1m) = 0 or count(Defect, 1m) > 100", True),
        ("1 + 2 * 3 = 7 and (1 + 2) * 3 = 9 and -2 < -1 and 8 / 4 / 2 = 1", True),
        ("1h30m = 5400 and 500ms = 0.5 and 1m = 60 and 1d = 86400", True),
        ("true and not false", True),
        ("not not true", True),
        ('"a" = "a" and "a" != "b"', True),
    ],
)
def test_what_they_say(text: str, expected: bool) -> None:
    assert told(text, DEFECTS, 6.0) is expected


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "empty"),
        ("count(Defect, 5m)", 1, "this is a number, a truth is wanted"),
        ("cuont(Defect, 5m) > 1", 1, "did you mean count?"),
        ("count(Defect) > 1", 13, "expected ','"),
        ("count(Defect, 5) > 1", 15, "expected a window"),
        ("count(Defect, 0s) > 1", 15, "longer than 0"),
        ("count(Defect, 8d) > 1", 15, "at most 7 days"),
        ("count(Defect.kind, 5m) > 1", 7, "whole events"),
        ("avg(Level, 5m) > 1", 5, "looks at a field"),
        ("Level.value > 3", 1, "says nothing by itself"),
        ('count(Defect, 5m) > "3"', 19, "a number is compared with a text"),
        ("true < false", 6, "no order"),
        ('count(Defect, 5m) + "x" > 1', 21, "a number is wanted"),
        ('count(Defect, 5m) in ("x")', 23, "never among"),
        ("count(Defect where count(A, 1s) > 1, 1s) > 1", 20, "looks at one event"),
        ("count(Defect where a > 1 for 3s, 1s) > 1", 26, "an event lasts no time"),
        ("count(Defect, 5m) > 1 for 3", 27, "how long"),
        ("count(Defect, 5m) > 1 count", 23, "expected and, or"),
        ("(count(Defect, 5m) > 1", 23, "expected ')'"),
        ("count(Defect, 5m) > 1 and", 26, "expected a value"),
        ("count(Defect, 5m) > 5x", 21, "cannot stand here"),
        ('kind = "open', 8, "cannot stand here"),
        ("count(Defect, 5m) > 1; import os", 22, "cannot stand here"),
        ("__import__ = 1", 1, "says nothing by itself"),
        ("(" * 40 + "true", 31, "nested deeper"),
        ("not " * 40 + "true", 121, "nested deeper"),
        (" and ".join(["count(A, 1s) > 1"] * 33), 673, "more than 32 functions"),
        ("x" * 4001, 1, "4001 characters"),
        ("1 " * 1001, 2001, "more than 1000"),
    ],
)
def test_what_means_nothing(text: str, column: int, words: str) -> None:
    with pytest.raises(ConditionError) as found:
        parse(text)
    assert words in str(found.value) and found.value.column == column


def test_for_holds_only_without_a_break() -> None:
    condition = parse("last(Level.value, 1m) > 80 for 10s")
    steps = [
        (0.0, 90, False),
        (9.0, 90, False),
        (10.0, 90, True),
        (11.0, 70, False),
        (12.0, 90, False),
        (22.0, 90, True),
    ]
    for now_s, value, expected in steps:
        assert condition.take(Fact("Level", {"value": value}), now_s) is expected


def test_time_alone_makes_it_true_and_false_again() -> None:
    condition = parse("count(Defect, 5s) >= 1 for 2s")
    assert condition.due_s(0.0) == math.inf
    assert not condition.take(Fact("Defect", {}), 1.0)
    assert condition.due_s(1.0) == 3.0 and condition.holds(3.0)
    assert condition.due_s(3.0) == 6.0 and not condition.holds(6.0)
    assert condition.due_s(6.0) == math.inf


def test_silence_grows_by_itself() -> None:
    condition = parse("since(PartInspected) > 30s")
    assert not condition.holds(100.0) and condition.due_s(100.0) == 101.0
    assert condition.holds(131.0)
    assert not condition.take(Fact("PartInspected", {}), 132.0)


def test_the_subject_may_be_asked_for() -> None:
    condition = parse('count(ObjectSeen where subject = "cam1/7", 1m) = 1')
    assert not condition.take(Fact("ObjectSeen", {}, "cam1/8"), 1.0)
    assert condition.take(Fact("ObjectSeen", {}, "cam1/7"), 2.0)


def test_what_a_window_cannot_hold_is_counted() -> None:
    condition = parse("count(A, 1d) > 9999")
    for n in range(10_500):
        condition.take(Fact("A", {}), n * 0.001)
    assert condition.holds(11.0) and condition.clipped == 500


def test_types_and_fields_are_known() -> None:
    condition = parse("count(A, 1s) > 1 and avg(B.c.d, 1s) > 2")
    assert condition.types == {"A", "B"}
    assert [(kind, path) for kind, path, _ in condition.fields()] == [("A", ()), ("B", ("c", "d"))]


PIECES = [
    *("count", "(", ")", "A", "A.b", ",", "5s", "3", ">", "=", "and", "or", "not", "in"),
    *("for", "where", '"x"', "-", "+", "true", "avg", "since", "/"),
]


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join))
def test_any_text_is_a_condition_or_an_error_with_its_place(text: str) -> None:
    try:
        condition = parse(text)
    except ConditionError as error:
        assert 1 <= error.column <= len(text) + 1
    else:
        assert isinstance(condition, Condition)
        condition.take(Fact("A", {"b": 3}), 1.0)
        assert condition.due_s(1.0) >= 1.0


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=30),
    st.integers(1, 30),
)
def test_a_count_is_that_of_the_window(steps: list[tuple[int, int]], window: int) -> None:
    condition, now_s, seen = parse(f"count(A where n > 1, {window}s) >= 2"), 0, list[tuple[int, int]]()
    for wait, n in steps:
        now_s += wait
        seen.append((now_s, n))
        expected = sum(at > now_s - window and value > 1 for at, value in seen) >= 2
        assert condition.take(Fact("A", {"n": n}), float(now_s)) is expected


@given(st.lists(st.tuples(st.floats(0.01, 8), st.booleans()), min_size=1, max_size=25))
def test_nothing_changes_before_it_is_due(steps: list[tuple[float, bool]]) -> None:
    """Between two events the answer changes at no moment earlier than `due_s` says."""
    condition, now_s = parse("count(A, 4s) >= 2 for 3s or not count(A, 7s) >= 1"), 0.0
    for wait, comes in steps:
        holds, due_s = condition.holds(now_s), condition.due_s(now_s)
        until_s = now_s + wait
        if due_s > now_s + 1e-6:
            just_before_s = min(until_s, due_s - 1e-7)
            assert condition.holds(just_before_s) is holds
        now_s = until_s
        if comes:
            condition.take(Fact("A", {}), now_s)
