"""The coordinator's answers, taken to the file: what it stored leaves, what it refused is set aside, gaps close.

An answer is believed of rows that were sent on this connection, also where it comes late, and of this outbox's own
streams. Whatever else it claims is counted and changes nothing.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from agent.link.window import Window
from agent.outbox.file import OutboxFile
from agent.outbox.rows import Row
from runtime.errors import TemporaryError
from schemas.identity import Lane
from schemas.messages import Ack, Closed, Refusal

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says of our own rows and gaps."""

    stored: Sequence[tuple[Lane, int, int]]
    refused: Sequence[Refusal]
    closed: Sequence[Closed]

    def __bool__(self) -> bool:
        return bool(self.stored or self.refused or self.closed)


class Answers:
    """To one outbox file."""

    def __init__(self, file: OutboxFile) -> None:
        self._file = file
        self.answered_total = 0
        self.refused_total = 0
        self.foreign_total = 0  # parts of answers that were none of ours

    def heard(self, ack: Ack, window: Window) -> Said:
        """What is ours of it; the window forgets the rows."""
        stored = [
            (lane, first, last)
            for item in ack.stored
            if (lane := self._lane_of(item.stream, item.lane)) is not None
            for first, last in window.answered_all(lane, self._own(lane, item.stream, item.ranges))
        ]
        refused = [
            item
            for item in ack.refused
            if (lane := self._lane_of(item.stream, item.lane)) is not None
            and window.answered_all(lane, self._own(lane, item.stream, [(item.seq, item.seq)]))
        ]
        closed = [item for item in ack.closed if self._lane_of(item.stream, item.lane) is not None]
        return Said(stored, refused, closed)

    async def keep(self, said: Said) -> None:
        """Returns when the file says so too. Raises StorageError: then the rows are still in it."""
        if said.stored:
            count = await asyncio.wrap_future(self._file.acknowledge(said.stored))
            self.answered_total += count  # not in one: other answers are counted during the wait
        if said.refused:
            for item in said.refused:
                _report(item)
            count = await asyncio.wrap_future(self._file.quarantine(said.refused))
            self.refused_total += count
        if said.closed:
            await asyncio.wrap_future(self._file.closed(said.closed))

    def set_aside(self, row: Row, reason: str) -> None:
        """Refuses a row ourselves that can never be sent, so that it blocks nobody."""
        refusal = Refusal(row.stream, row.lane.value, row.seq, reason)
        _report(refusal)
        self.refused_total += 1
        try:
            self._file.quarantine([refusal]).add_done_callback(_log_failure)
        except TemporaryError as error:
            log.error("outbox: %s", error)  # it stays in the file and is set aside at the next attempt

    def _lane_of(self, stream: str, name: str) -> Lane | None:
        """The lane that an answer is about; None, and counted, for one that is none of ours."""
        lane = _LANES_BY_NAME.get(name)
        if lane is None or self._file.span(lane, stream) is None:
            self.foreign_total += 1
            return None
        return lane

    def _own(self, lane: Lane, stream: str, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Cut to the numbers that the lane has under this stream: the same ones under another mean other rows."""
        span = self._file.span(lane, stream)
        return [] if span is None else [(max(first, span[0]), min(last, span[1])) for first, last in ranges]


def _report(refused: Refusal) -> None:
    log.error(
        "outbox: row %s/%d was refused and set aside: %s; see edge-agent outbox quarantine",
        refused.lane,
        refused.seq,
        refused.reason,
    )


def _log_failure(done: "Future[int]") -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("outbox: a row could not be set aside: %s", error)


_LANES_BY_NAME = {lane.value: lane for lane in Lane}
