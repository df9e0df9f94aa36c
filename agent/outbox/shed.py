"""What is given up when more waits than may: the lane of lowest value first, in a lane the oldest first. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.outbox.settings import OutboxSettings
from schemas.identity import Lane

# Least valuable first. Life-cycle and alerts come last: only when nothing else is left, or against their own cap.
SHED_ORDER = (Lane.EVIDENCE, Lane.SAMPLE, Lane.STATE, Lane.EVENT, Lane.LIFECYCLE, Lane.ALERT)
PROTECTED = frozenset({Lane.LIFECYCLE, Lane.ALERT})
CHUNK_ROWS = 200  # at most so many more go than must, so that an outbox at its cap does not pay with each row


@dataclass(frozen=True, slots=True)
class Fill:
    """What waits in a lane: payloads and what the file needs beside them."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Shed:
    """Give up the oldest rows of a lane until `rows` or `bytes` are freed, whichever asks for more."""

    lane: Lane
    rows: int
    bytes: int
    reason: str


def over_caps(settings: OutboxSettings, fills: Mapping[Lane, Fill]) -> list[Shed]:
    """What has to go now. Each lane's own caps first, then the total."""
    found = []
    left = dict(fills)
    for lane, fill in fills.items():
        caps = settings.lane(lane)
        rows = fill.rows - caps.rows_max if caps.rows_max else 0
        size = fill.bytes - caps.bytes_max if caps.bytes_max else 0
        if rows > 0 or size > 0:
            found.append(Shed(lane, max(rows, _spare(lane, fill)), max(size, 0), "rows" if rows > 0 else "bytes"))
            left[lane] = Fill(fill.rows, fill.bytes - max(size, 0))
    return found + _over_total(settings, left)


def _over_total(settings: OutboxSettings, fills: Mapping[Lane, Fill]) -> list[Shed]:
    found = []
    total = sum(fill.bytes for fill in fills.values())
    protected = sum(fills[lane].bytes for lane in PROTECTED if lane in fills)
    # The others may use what is outside the reserve, or what the protected lanes leave of the whole: the smaller.
    over_reserve = total - protected - (settings.bytes_max - settings.reserve_bytes)
    over = max(over_reserve, total - settings.bytes_max)
    for lane in SHED_ORDER:
        if over <= 0:
            break
        if lane in PROTECTED:
            over = min(over, total - settings.bytes_max)
        size = min(over, fills[lane].bytes) if lane in fills else 0
        if size > 0:
            found.append(Shed(lane, _spare(lane, fills[lane]), size, "bytes"))
            over -= size
            total -= size
    return found


def _spare(lane: Lane, fill: Fill) -> int:
    """Of what is precious not one row more than needed."""
    return 0 if lane in PROTECTED else min(CHUNK_ROWS, fill.rows // 20)


def for_disk(fills: Mapping[Lane, Fill], blocked: Lane, bytes_max: int, *, own_lane: bool) -> Shed | None:
    """What goes when the disk takes no more and something of lane `blocked` has to be stored: of the lane of lowest
    value that has anything and is worth less. With `own_lane` the oldest of its own lane give way too, alerts never.
    """
    for lane in SHED_ORDER:
        if lane in PROTECTED or (lane is blocked and not own_lane):
            break
        if lane in fills and fills[lane].rows:
            return Shed(lane, 0, min(bytes_max, fills[lane].bytes), "disk")
        if lane is blocked:
            break
    return None
