"""Availability from the marks of decided frames. Pure, but for reading the file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Span = tuple[float, float]
"""From, to: seconds of the monotonic clock."""


def read_marks(path: Path) -> NDArray[np.float64]:
    """The moments of decided frames, in seconds of the monotonic clock; a half-written one at the end is left out."""
    data = path.read_bytes() if path.exists() else b""
    return np.frombuffer(data[: len(data) // 8 * 8], dtype="<i8") / 1e9


def downs(marks: NDArray[np.float64], over: Span, gap_s: float) -> list[Span]:
    """The spans within `over` in which no frame was decided for longer than `gap_s`.

    `gap_s` is a few frame times: what is shorter is no outage. A span begins with the last frame before it.
    """
    inside = marks[(marks >= over[0]) & (marks <= over[1])]
    edges = np.concatenate(([over[0]], np.sort(inside), [over[1]]))
    found = np.flatnonzero(np.diff(edges) > gap_s)
    return [(float(edges[at]), float(edges[at + 1])) for at in found]


def overlap_s(spans: Sequence[Span], within: Span) -> float:
    """How many seconds of `within` the spans cover; they do not overlap one another."""
    return sum(max(0.0, min(end, within[1]) - max(begin, within[0])) for begin, end in spans)


def availability(down_s_per_fault: dict[str, float], faults_per_year: dict[str, float]) -> float:
    """Share of node-seconds in which frames are decided, for nodes that meet each kind so often.

    down_s_per_fault: mean seconds without frames that one fault of the kind costs a node.
    1 - sum(rate * seconds) / seconds of a year: the outages are rare, so none falls into another.
    """
    year_s = 365.25 * 86_400
    lost_s = sum(seconds * faults_per_year[kind] for kind, seconds in down_s_per_fault.items())
    return 1.0 - lost_s / year_s
