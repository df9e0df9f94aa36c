"""The coordinator's answers to the nodes: which rows are durable now, and which are refused. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from coordinator.ingest.dedupe import merged_ranges
from coordinator.store.store import RefusedMessage, Row, runs
from schemas.codec import encode_packed
from schemas.messages import Ack, Closed, LaneAck, Refusal

RANGES_PER_ACK_MAX = 2000  # of at most 20 bytes each: far below the limit of the topic
PACKET_BYTES_BESIDE = 64  # headers beside topic and payload, at most
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


def merged(parts: Sequence[Ack]) -> Ack:
    """Answers to one node as one: the ranges of a lane together."""
    ranges: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for part in parts:
        for one in part.stored:
            ranges.setdefault((one.stream, one.lane), []).extend(one.ranges)
    stored = [LaneAck(stream, lane, merged_ranges(found)) for (stream, lane), found in ranges.items()]
    return Ack(
        stored, [one for part in parts for one in part.refused], [one for part in parts for one in part.closed]
    )


T = TypeVar("T", LaneAck, Closed)
Part = LaneAck | Refusal | Closed


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


def payloads(ack: Ack, bytes_max: int) -> list[bytes]:
    """The answer as it travels: in one message, or in as many as it takes for none to be larger than `bytes_max`.

    What cannot be cut (a refusal, a range with the names of its lane and stream) has about 1.5 KiB at most.
    """
    payload = encode_packed(ack)
    if len(payload) <= bytes_max or (halves := _halves(ack)) is None:
        return [payload]
    return [part for half in halves for part in payloads(half, bytes_max)]


def _halves(ack: Ack) -> tuple[Ack, Ack] | None:
    """The answer as two that say the same; None for one that says a single thing."""
    parts: list[Part] = [*ack.stored, *ack.refused, *ack.closed]
    if len(parts) == 1:
        parts = _cut(parts[0])
    middle = len(parts) // 2
    return (_ack(parts[:middle]), _ack(parts[middle:])) if middle else None


def _cut(part: Part) -> list[Part]:
    match part:
        case LaneAck(ranges=ranges) if len(ranges) > 1:
            middle = len(ranges) // 2
            return [replace(part, ranges=ranges[:middle]), replace(part, ranges=ranges[middle:])]
        case Closed(held=held) if len(held) > 1:
            middle = len(held) // 2
            at = held[middle][0]  # cut where a range begins: each half tells of all of its numbers
            return [replace(part, last=at - 1, held=held[:middle]), replace(part, first=at, held=held[middle:])]
    return [part]


def _ack(parts: Sequence[Part]) -> Ack:
    return Ack(
        [part for part in parts if isinstance(part, LaneAck)],
        [part for part in parts if isinstance(part, Refusal)],
        [part for part in parts if isinstance(part, Closed)],
    )
