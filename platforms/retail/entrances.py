"""Customer counts from what is kept of the entrances' cameras. Pure: time and results are arguments."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from platforms.context import KeptResult
from platforms.coverage import Coverage, coverage, least_share
from platforms.retail.counting import Crossing, Interval, Piece, Tally, count, settle
from platforms.retail.types import CustomerCount, Entrance

TYPES = ("LineCrossed", "StreamSample", "ResultAggregate", "ObjectSeen", "ObjectGone")
"""What is looked at: crossings, and whatever else shows that a camera was watching."""


def customer_counts(
    entrances: Sequence[Entrance], results: Sequence[KeptResult], intervals: Sequence[Interval], inside_before: int
) -> list[CustomerCount]:
    """For each interval a row for each entrance, and one for all of them.

    `results` begin as long before the first interval as a camera may be silent; intervals are in order, without gaps.
    """
    of_entrance = [[result for result in results if _is_of(entrance, result)] for entrance in entrances]
    crossings = [
        crossing
        for number, (entrance, found) in enumerate(zip(entrances, of_entrance, strict=True))
        for crossing in _crossings(number, entrance, found)
        if intervals[0][0] <= crossing.time_ms < intervals[-1][1]
    ]
    settled = settle(crossings, [round(entrance.turn_back_s * 1000) for entrance in entrances])
    times_ms = [sorted(result.time_utc_ms for result in found) for found in of_entrance]
    rows = []
    for piece in count(settled, len(entrances), intervals, inside_before):
        heard = [_heard(each, times, piece.interval) for each, times in zip(entrances, times_ms, strict=True)]
        rows += [
            _row(piece.interval, entrance, tally, each.share)
            for entrance, tally, each in zip(entrances, piece.tallies, heard, strict=True)
        ]
        rows.append(_together(piece, least_share(heard)))
    return rows


def _is_of(entrance: Entrance, result: KeptResult) -> bool:
    return result.camera == entrance.camera_id and entrance.node_id in (None, result.node)


def _crossings(number: int, entrance: Entrance, results: Iterable[KeptResult]) -> Iterable[Crossing]:
    for result in results:
        data = result.data
        name = data.get("class")
        is_staff = name in entrance.staff_classes
        if result.type != "LineCrossed" or data.get("line") != entrance.line:
            continue
        if is_staff or name in entrance.customer_classes:
            # A track's id names the run of the pipeline, not the node: two nodes may use the same one.
            object_id = data.get("object_id")
            person = f"{result.node}/{object_id}" if object_id else ""
            yield Crossing(result.time_utc_ms, number, person, data.get("direction") == entrance.inward, is_staff)


def _heard(entrance: Entrance, times_ms: Sequence[int], interval: Interval) -> Coverage:
    gap_ms = round(entrance.gap_after_s * 1000)
    first, last = bisect_left(times_ms, interval[0] - gap_ms), bisect_left(times_ms, interval[1])
    return coverage(times_ms[first:last], *interval, gap_ms)


def _row(interval: Interval, entrance: Entrance, tally: Tally, share: float) -> CustomerCount:
    return CustomerCount(
        camera_id=entrance.camera_id,
        node_id=entrance.node_id,
        line=entrance.line,
        interval_start=interval[0],
        interval_end=interval[1],
        entered=tally.entered,
        left=tally.left,
        turned_back=tally.turned_back,
        staff_entered=tally.staff_entered,
        staff_left=tally.staff_left,
        coverage=round(share, 4),
    )


def _together(piece: Piece, share: float) -> CustomerCount:
    return CustomerCount(
        interval_start=piece.interval[0],
        interval_end=piece.interval[1],
        entered=sum(tally.entered for tally in piece.tallies),
        left=sum(tally.left for tally in piece.tallies),
        coverage=round(share, 4),
        turned_back=sum(tally.turned_back for tally in piece.tallies),
        staff_entered=sum(tally.staff_entered for tally in piece.tallies),
        staff_left=sum(tally.staff_left for tally in piece.tallies),
        occupancy=piece.inside.customers,
        occupancy_peak=piece.inside.peak,
        unexplained_exits=piece.inside.unexplained,
    )
