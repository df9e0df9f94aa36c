"""What a coordinator lacks, told from the numbers alone."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.ingest.dedupe import Range, merged
from coordinator.ingest.holes import Hole, holes


@pytest.mark.parametrize(
    ("streams", "missing"),
    [
        ({}, []),
        ({"a": [(1, 9)]}, []),
        ({"a": [(1, 9), (12, 20), (30, 30)]}, [("a", 10, 11), ("a", 21, 29)]),
        ({"a": [(5, 9)]}, [("a", 1, 4)]),  # of an earlier stream, or of a backup that has forgotten it
        ({"a": [(1, 9)], "b": [(10, 20)]}, []),  # the outbox went on under a new name
        ({"a": [(1, 9)], "b": [(13, 20)]}, [("b", 10, 12)]),
        ({"a": [(1, 9)], "b": [(1, 20)]}, []),  # an outbox that was new
        ({"a": [(1, 9), (15, 30)], "b": [(10, 40)]}, [("a", 10, 14)]),  # the same numbers, other rows
        ({"a": [(1, 9), (15, 30)], "b": [(12, 40)]}, [("a", 10, 14)]),
        ({"a": [(4, 9)], "b": [(12, 13)]}, [("a", 1, 3), ("b", 10, 11)]),
        ({"a": [(2**60, 2**61)]}, [("a", 1, 2**60 - 1)]),
    ],
)
def test_holes(streams: Mapping[str, Sequence[Range]], missing: list[tuple[str, int, int]]) -> None:
    assert holes(streams) == [Hole(*item) for item in missing]


@given(st.sets(st.integers(1, 60), min_size=1), st.integers(1, 59))
def test_one_outbox_under_two_names_lacks_what_its_numbers_lack(seqs: set[int], boundary: int) -> None:
    parts = {"a": [seq for seq in seqs if seq <= boundary], "b": [seq for seq in seqs if seq > boundary]}
    found = {seq for hole in holes({s: merged(part) for s, part in parts.items()})
             for seq in range(hole.first, hole.last + 1)}  # fmt: skip
    assert found == set(range(1, max(seqs) + 1)) - seqs
