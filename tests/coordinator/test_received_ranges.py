"""Dedupe ranges against a plain set, and against the copy that a database keeps from the additions alone."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from coordinator.ingest.dedupe import Addition, Received, merged

SEQS = st.integers(1, 40)
BATCHES = st.lists(st.lists(SEQS, max_size=12), max_size=12)


@given(BATCHES)
def test_every_number_is_new_once_and_ranges_are_the_set(batches: list[list[int]]) -> None:
    received, seen, stored = Received(), set[int](), dict[int, int]()
    for batch in batches:
        done = received.add(batch)
        expected_new = list(dict.fromkeys(seq for seq in batch if seq not in seen))
        assert done.new == expected_new
        assert len(done.new) + len(done.duplicates) == len(batch)
        seen.update(batch)
        for first in done.deleted:
            stored.pop(first, None)
        stored.update(done.written)
        assert received.ranges() == merged(seen)
        assert sorted(stored.items()) == received.ranges()
        assert Received(received.ranges()).ranges() == received.ranges()
    assert all((seq in received) == (seq in seen) for seq in range(43))


@given(BATCHES, st.integers(1, 4))
def test_a_gap_too_many_is_told_and_not_taken(batches: list[list[int]], limit: int) -> None:
    received = Received(ranges_max=limit)
    for batch in batches:
        done = received.add(batch)
        assert len(received.ranges()) <= limit
        assert all(seq in received for seq in done.new)
        assert len(done.new) + len(done.duplicates) + len(done.overfull) == len(batch)


def test_numbers_in_order_stay_one_range() -> None:
    received = Received()
    for seq in range(1, 5001):
        received.add([seq])
    assert received.ranges() == [(1, 5000)]


def test_a_copy_goes_its_own_way() -> None:
    received = Received([(1, 3)])
    received.copy().add([4])
    assert received.ranges() == [(1, 3)]


@given(st.lists(SEQS))
def test_merged_ranges_are_disjoint_and_not_adjacent(seqs: list[int]) -> None:
    ranges = merged(seqs)
    assert {seq for first, last in ranges for seq in range(first, last + 1)} == set(seqs)
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(ranges))


@given(st.lists(st.tuples(SEQS, SEQS, st.booleans()), max_size=15))
def test_a_range_is_as_if_each_of_its_numbers_had_come(steps: list[tuple[int, int, bool]]) -> None:
    """And its changes bring a stored copy up to date, those of several steps together too."""
    received, seen, stored, done = Received(), set[int](), dict[int, int](), Addition()
    for one, other, writes in steps:
        first, last = min(one, other), max(one, other)
        taken = received.take(first, last, done)
        assert taken is not None
        whole = set(range(first, last + 1))
        assert taken == (merged(seen & whole), merged(whole - seen))
        seen |= whole
        assert received.ranges() == merged(seen)
        if writes:
            for number in done.deleted:
                stored.pop(number, None)
            stored.update(done.written)
            assert sorted(stored.items()) == received.ranges()
            done = Addition()


def test_a_range_of_absurd_length_costs_nothing() -> None:
    received = Received([(5, 7), (2**40, 2**41)])
    closed = received.take(1, 2**62, Addition())
    assert closed is not None
    assert closed[0] == [(5, 7), (2**40, 2**41)]
    assert closed[1] == [(1, 4), (8, 2**40 - 1), (2**41 + 1, 2**62)]
    assert received.ranges() == [(1, 2**62)]


def test_a_closed_range_that_stands_alone_is_one_range_too_many() -> None:
    received = Received([(1, 3), (10, 12)], ranges_max=2)
    assert received.take(5, 8, Addition()) is None
    assert received.ranges() == [(1, 3), (10, 12)]
    assert received.take(4, 9, Addition()) is not None
    assert received.ranges() == [(1, 12)]
