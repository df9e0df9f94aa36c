"""Ranges as RFC 9110 wants them, and how fast bytes may go out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.models.pace import TokenBucket
from coordinator.models.ranges import Answer, Part, is_known, part_of

WHOLE, NONE = Answer.WHOLE, Answer.UNSATISFIABLE


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, WHOLE),
        ("bytes=0-", Part(0, 100)),
        ("bytes=0-0", Part(0, 1)),
        ("bytes=10-19", Part(10, 20)),
        ("Bytes = 10-19", Part(10, 20)),
        ("bytes=99-", Part(99, 100)),
        ("bytes=90-1000", Part(90, 100)),
        ("bytes=-1", Part(99, 100)),
        ("bytes=-1000", Part(0, 100)),
        ("bytes=100-", NONE),
        ("bytes=100-200", NONE),
        ("bytes=9999999999999999999-", NONE),
        ("bytes=-0", NONE),
        ("bytes=20-10", WHOLE),  # not a range: ignored
        ("bytes=-", WHOLE),
        ("bytes=", WHOLE),
        ("bytes", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=+1-5", WHOLE),
        ("bytes=0-1,5-6", WHOLE),
        ("bytes=00000000000000000000000-1", WHOLE),
        ("items=0-5", WHOLE),
        ("", WHOLE),
    ],
)
def test_a_range_is_a_part_or_ignored_or_cannot_be(text: str | None, part: Part | Answer) -> None:
    assert part_of(100, "abc", text, None) == part


@pytest.mark.parametrize(
    ("if_range", "part"),
    [
        ('"abc"', Part(5, 100)),
        (' "abc" ', Part(5, 100)),
        ('"other"', WHOLE),
        ('W/"abc"', WHOLE),  # weak tags do not count here
        ("abc", WHOLE),
        ("Sun, 06 Nov 1994 08:49:37 GMT", WHOLE),
        ("", WHOLE),
    ],
)
def test_a_range_holds_only_for_the_file_that_it_was_meant_for(if_range: str, part: Part | Answer) -> None:
    assert part_of(100, "abc", "bytes=5-", if_range) == part


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (None, False),
        ("*", True),
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ('"x"', False),
        ("abc", False),
    ],
)
def test_what_is_known_is_not_sent_again(text: str | None, known: bool) -> None:
    assert is_known("abc", text) is known


@given(st.integers(1, 2**50), st.text(max_size=40))
def test_any_header_gives_a_part_within_the_file(size: int, text: str) -> None:
    part = part_of(size, "abc", f"bytes={text}", None)
    if isinstance(part, Part):
        assert 0 <= part.first < part.end <= size


@given(st.integers(1, 2**50), st.integers(0, 2**50), st.integers(0, 2**50))
def test_two_numbers_are_exactly_those_bytes(size: int, first: int, last: int) -> None:
    part = part_of(size, "abc", f"bytes={first}-{last}", None)
    if last < first:
        assert part is WHOLE
    elif first >= size:
        assert part is NONE
    else:
        assert part == Part(first, min(last + 1, size))


def test_a_bucket_without_a_rate_never_waits() -> None:
    assert TokenBucket(0).take(10**12, 0.0) == 0.0


def test_a_bucket_lets_a_second_go_at_once_and_then_keeps_the_rate() -> None:
    bucket = TokenBucket(1000)
    assert bucket.take(1000, 5.0) == 0.0
    assert bucket.take(500, 5.0) == 0.5
    assert bucket.take(500, 5.5) == 0.5
    assert bucket.take(0, 6.0) == 0.0
    assert bucket.take(1000, 100.0) == 0.0  # a long pause saves no more than a second
    assert bucket.take(1, 100.0) > 0.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1000)
    bucket.take(1000, 10.0)
    assert bucket.take(100, 5.0) == pytest.approx(0.1)


@given(st.integers(1, 10**6), st.lists(st.tuples(st.integers(0, 70_000), st.floats(0, 2)), max_size=50))
def test_who_waits_as_told_never_exceeds_the_rate(rate: int, steps: list[tuple[int, float]]) -> None:
    bucket, now_s, taken = TokenBucket(rate), 0.0, 0
    for count, pause_s in steps:
        now_s += pause_s
        taken += count
        now_s += bucket.take(count, now_s)
        assert taken <= rate * (1 + now_s) * (1 + 1e-9) + 1e-3
