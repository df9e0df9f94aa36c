"""Numbers of a lane that a coordinator lacks and nobody explained. Pure.

An outbox numbers the rows of a lane without holes, on and on from one stream to the next. So what lies between two
received ranges of a stream is missing, and what lies below its first number is too, unless another stream of the
same lane accounts for it. A number that was refused, or closed by a gap record, is accounted for.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from coordinator.ingest.dedupe import Range, merged_ranges


class Hole(NamedTuple):
    """`first` to `last` are missing; the stream's number after them, `last + 1`, is here."""

    stream: str
    first: int
    last: int


def holes(streams: Mapping[str, Sequence[Range]]) -> list[Hole]:
    """What is missing of one lane of one node: by stream, the ranges accounted for. In the order of the numbers."""
    known = [(merged_ranges(ranges), stream) for stream, ranges in streams.items() if ranges]
    found: list[Hole] = []
    seen_to = 0  # up to here the streams that begin lower account for the numbers, or have told what is missing
    for ranges, stream in sorted(known):
        first, last = ranges[0][0], ranges[-1][1]
        if first > seen_to + 1:
            found.append(Hole(stream, seen_to + 1, first - 1))
        found += [Hole(stream, before[1] + 1, after[0] - 1) for before, after in pairwise(ranges)]
        seen_to = max(seen_to, last)
    return found
