"""The coordinator's answers to the nodes: which rows are durable now, and which are refused. Pure."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from coordinator.ingest.dedupe import merged_ranges
from coordinator.store.store import RefusedMessage, Row, runs
from schemas.messages import Ack, Closed, LaneAck, Refusal

RANGES_PER_ACK_MAX = 2000  # of at most 20 bytes each: far below the limit of the topic
REFUSALS_PER_ACK_MAX = 50  # a stream name and a reason of up to 200 characters, in up to 4 bytes each


def acks(
    stored: Sequence[Row], refused: Iterable[RefusedMessage], closed: Iterable[tuple[str, Closed]] = ()
) -> list[tuple[str, Ack]]:
    """(node, Ack) pairs that answer every row and gap: ranges merged by lane, cut to fit the topic."""
    refusals: dict[str, list[Refusal]] = {}
    for item in refused:
        if item.seq:
            refusals.setdefault(item.node, []).append(Refusal(item.stream, item.lane, item.seq, item.reason))
    by_node: dict[str, list[LaneAck]] = {}
    for (node, stream, lane), found in runs(stored).items():
        ranges = merged_ranges((run.first, run.last) for run in found)
        for at in range(0, len(ranges), RANGES_PER_ACK_MAX):
            by_node.setdefault(node, []).append(LaneAck(stream, lane, ranges[at : at + RANGES_PER_ACK_MAX]))
    answers = [(node, Ack(group)) for node, parts in by_node.items() for group in _groups(parts)]
    for node, items in refusals.items():
        cuts = range(0, len(items), REFUSALS_PER_ACK_MAX)
        answers += [(node, Ack(refused=items[at : at + REFUSALS_PER_ACK_MAX])) for at in cuts]
    gaps: dict[str, list[Closed]] = {}
    for node, said in closed:
        gaps.setdefault(node, []).append(said)
    answers += [(node, Ack(closed=group)) for node, said in gaps.items() for group in _groups(said)]
    return answers


T = TypeVar("T", LaneAck, Closed)


def _groups(parts: list[T]) -> list[list[T]]:
    """Together as long as their ranges fit; the names of lane and stream count as ten ranges."""
    groups: list[list[T]] = [[]]
    room = RANGES_PER_ACK_MAX
    for part in parts:
        cost = len(part.ranges if isinstance(part, LaneAck) else part.held) + 10
        if groups[-1] and cost > room:
            groups.append([])
            room = RANGES_PER_ACK_MAX
        groups[-1].append(part)
        room -= cost
    return groups
