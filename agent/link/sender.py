"""Rows to messages: what is committed goes out at once, what waited goes out as fast as the window lets it.

Each lane has a cursor: everything up to it has been sent on this connection. Rows that were just committed are sent
from memory when nothing waits before them; otherwise the file is read. A row leaves the file only through `answer`.
"""

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import Future

from agent.link.window import Window
from agent.outbox.encode import sync_row
from agent.outbox.file import OutboxFile
from agent.outbox.rows import BATCHED_LANES, LANES, Row
from runtime.errors import EdgewrightError, TemporaryError
from runtime.mqtt import Connection, Limits, Message
from schemas.codec import encode_packed
from schemas.errors import WireError
from schemas.identity import Lane
from schemas.messages import Ack, Refusal, SyncBatch, SyncRow
from schemas.topics import RULES, Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

FRESH_MAX = 512  # committed rows kept in memory per lane; what does not fit is read from the file later
TAKE_MAX = 256  # rows read from the file at a time
BATCH_ROWS_MAX = 500
BATCH_LINGER_S = 1.0  # samples wait this long for company
BATCH_BYTES_BESIDE = 1024  # what a batch holds beside its rows, at most
TICK_S = 0.5
PACKET_BYTES_BESIDE = 1024  # topic, properties and headers beside the payload, at most
EVENT_CONTENT_TYPE = "application/cloudevents+json"


class Sender:
    """Sends one outbox over whatever connection there is."""

    def __init__(
        self, file: OutboxFile, *, node: str, boot: int, space: TopicSpace, resend_after_s: float = 15.0
    ) -> None:
        self._file = file
        self._node = node
        self._boot = boot
        self._space = space
        self._resend_after_s = resend_after_s
        self._topics: dict[tuple[str, object], str] = {}
        self._fresh: dict[Lane, deque[Row]] = {lane: deque() for lane in LANES}
        self._cursor: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._newest: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._unread: set[Lane] = set(LANES)  # lanes whose file may hold more beyond the cursor than we know of
        self._again: dict[Lane, int] = {}  # lanes to go back to, and to which sequence
        self._window = Window()
        self._rewind_asked = False  # done by `run` between two rounds, never while it reads the file
        self._connection: Connection | None = None
        self._wake = asyncio.Event()
        self._coordinator_online = False
        self._batch_due_s: dict[Lane, float] = dict.fromkeys(BATCHED_LANES, 0.0)
        self.published_total = 0
        self.answered_total = 0
        self.resent_total = 0
        self.refused_total = 0

    # ---- told by others -------------------------------------------------------------------------

    def committed(self, rows: list[Row]) -> None:
        """Rows just committed, in order: sent in this very turn of the loop when nothing waits before them."""
        for row in rows:
            self._newest[row.lane] = row.seq
            fresh = self._fresh[row.lane]
            if len(fresh) < FRESH_MAX:
                fresh.append(row)
            if row.lane not in BATCHED_LANES:
                self._send_fresh(row.lane)
        self._wake_if_behind()

    def puback(self, mid: int, accepted: bool) -> None:
        """The broker answered a publish. One it refused stays unanswered and is sent again later."""
        self._window.puback(mid)
        self._wake_if_behind()

    async def answer(self, ack: Ack) -> None:
        """The coordinator's acknowledgement: frees what it stored, sets aside what it refused."""
        ranges = [
            (Lane(item.lane), first, last)
            for item in ack.stored
            if item.stream == self._file.stream and item.lane in _LANE_NAMES
            for asked in item.ranges
            for first, last in self._window.answered(Lane(item.lane), *asked)
        ]
        refused = [
            item
            for item in ack.refused
            if item.stream == self._file.stream
            and item.lane in _LANE_NAMES
            and self._window.answered(Lane(item.lane), item.seq, item.seq)
        ]
        try:
            if ranges:
                self.answered_total += await asyncio.wrap_future(self._file.acknowledge(ranges))
            if refused:
                self._report(refused)
                self.refused_total += await asyncio.wrap_future(self._file.quarantine(refused))
        except EdgewrightError:
            self._rewind_asked = True  # still in the file: to be sent and answered again
            raise
        finally:
            self.coordinator(True)  # last: what it makes us send again is without the rows just answered

    def coordinator(self, online: bool) -> None:
        """The coordinator went or came back: what it may have missed is sent again from the oldest on."""
        if online and not self._coordinator_online:
            self._rewind_asked = True
        self._coordinator_online = online
        self._wake_if_behind()

    def _wake_if_behind(self) -> None:
        """A row that went out from memory needs no further round: at full rate that is nearly all of them."""
        if self._rewind_asked or any(self._is_behind(lane) for lane in _LANES_ALONE):
            self._wake.set()

    def waiting(self) -> bool:
        """True while something sent is unanswered by a coordinator that is there, or not yet sent."""
        unsent = self._rewind_asked or any(map(self._is_behind, LANES))
        return unsent or bool(self._window.inflight) or (self._coordinator_online and bool(self._window.unanswered))

    # ---- one connection -------------------------------------------------------------------------

    async def run(self, connection: Connection) -> None:
        """Sends until cancelled or the connection is gone."""
        self._connection = connection
        self._window = Window(
            inflight_max=max(1, min(100, connection.limits.receive_max // 2)),
            resend_after_s=self._resend_after_s,
        )
        self._rewind()
        try:
            while connection.is_open:
                self._wake.clear()
                if self._rewind_asked:
                    self._rewind()
                self._look_back(time.monotonic())
                if not await self._send_waiting():
                    try:
                        await asyncio.wait_for(self._wake.wait(), TICK_S)
                    except TimeoutError:
                        continue
        finally:
            self._connection = None

    def _rewind(self) -> None:
        """Everything still in the file counts as not sent."""
        self._rewind_asked = False
        self._window.unanswered.clear()
        self._again.clear()
        for lane in LANES:
            self._cursor[lane] = 0
            self._fresh[lane].clear()
        self._unread.update(LANES)

    def _look_back(self, now_s: float) -> None:
        if not self._coordinator_online:
            # Nobody answers now. Rows are published once for whoever listens and again when it is back.
            self._window.make_room()
            return
        for lane, seq in self._window.overdue(now_s):
            self._again[lane] = min(seq, self._again.get(lane, seq))
            self.resent_total += 1
        for lane, seq in self._again.items():
            self._cursor[lane] = min(self._cursor[lane], seq - 1)
            self._fresh[lane].clear()
            self._unread.add(lane)
        self._again.clear()

    async def _send_waiting(self) -> bool:
        """One round over the lanes, most urgent first. True when there is more to send and room for it."""
        for lane in LANES:
            if self._window.room() == 0:
                return False
            if lane in BATCHED_LANES:
                if await self._send_batches(lane):
                    return True
                continue
            if self._is_behind(lane) and not self._send_fresh(lane) and await self._send_from_file(lane):
                return True
        return False

    def _send_fresh(self, lane: Lane) -> bool:
        """Sends from memory while it continues the cursor. True when nothing of the lane waits any more."""
        fresh = self._fresh[lane]
        while fresh and self._connection is not None and self._window.room() > 0:
            row = fresh[0]
            if row.seq <= self._cursor[lane]:
                fresh.popleft()
                continue
            if row.seq != self._cursor[lane] + 1:
                return False
            if not self._publish_alone(row):
                return False
            fresh.popleft()
        return not self._is_behind(lane)

    def _is_behind(self, lane: Lane) -> bool:
        return lane in self._unread or self._cursor[lane] < self._newest[lane]

    async def _send_from_file(self, lane: Lane) -> bool:
        rows = await asyncio.to_thread(self._file.take, lane, self._cursor[lane], TAKE_MAX)
        if not rows:
            self._caught_up(lane)
            return False
        for row in rows:
            if (lane, row.seq) in self._window.unanswered:
                self._cursor[lane] = max(self._cursor[lane], row.seq)
                continue
            if self._window.room() == 0 or not self._publish_alone(row):
                return False
        return True

    def _caught_up(self, lane: Lane) -> None:
        """The file holds nothing beyond the cursor but what was committed while it was read: that is in memory."""
        fresh = self._fresh[lane]
        self._cursor[lane] = max(self._cursor[lane], fresh[0].seq - 1 if fresh else self._newest[lane])
        self._unread.discard(lane)

    def _publish_alone(self, row: Row) -> bool:
        """True when the row is out, or set aside because no broker will ever take it."""
        key = (row.type, row.severity)
        topic = self._topics.get(key)
        if topic is None:
            try:
                topic = self._topics[key] = self._space.text(row.topic(self._node))
            except WireError as error:
                self._set_aside(row, str(error))
                return True
        if len(row.payload) > self._payload_bytes_max():
            self._set_aside(row, f"{len(row.payload)} bytes are more than the broker takes in a packet")
            return True
        return self._publish(Message(topic, row.payload, 1, False, EVENT_CONTENT_TYPE), [row])

    async def _send_batches(self, lane: Lane) -> bool:
        """Sends one batch when it is due. True when another full one can follow at once."""
        now_s = time.monotonic()
        if not self._is_behind(lane) or now_s < self._batch_due_s[lane]:
            return False
        rows = await asyncio.to_thread(self._file.take, lane, self._cursor[lane], BATCH_ROWS_MAX)
        if not rows:
            self._caught_up(lane)
            return False
        if self._window.room() == 0:
            return False
        batch = SyncBatch(self._file.stream, self._boot)
        bytes_max = min(RULES[Kind.SYNC].payload_bytes_max, self._payload_bytes_max()) - BATCH_BYTES_BESIDE
        bytes_left, rows_left = bytes_max, self._window.room_for_rows()
        taken: list[Row] = []
        seen = self._cursor[lane]
        for row in rows:
            if (lane, row.seq) not in self._window.unanswered and (unpacked := self._unpack(row, bytes_max)):
                bytes_left -= len(row.payload)
                if bytes_left < 0 or len(taken) == rows_left:
                    break
                taken.append(row)
                batch.rows.append(unpacked)
            seen = row.seq
        topic = self._space.text(Topic(Kind.SYNC, self._node))
        if taken and not self._publish(Message(topic, encode_packed(batch)), taken):
            return False
        self._cursor[lane] = max(self._cursor[lane], seen)
        self._fresh[lane].clear()
        more = seen < rows[-1].seq or len(rows) == BATCH_ROWS_MAX
        self._batch_due_s[lane] = now_s if more else now_s + BATCH_LINGER_S
        return more

    def _publish(self, message: Message, rows: list[Row]) -> bool:
        if self._connection is None:
            return False
        try:
            mid = self._connection.publish(message)
        except TemporaryError as error:
            log.debug("link: %s", error)  # the connection's end is reported by the link itself
            return False
        self._window.sent([(row.lane, row.seq) for row in rows], mid, time.monotonic())
        self._cursor[rows[-1].lane] = max(self._cursor[rows[-1].lane], rows[-1].seq)
        self.published_total += len(rows)
        return True

    # ---- what cannot be sent --------------------------------------------------------------------

    def _payload_bytes_max(self) -> int:
        limits = Limits() if self._connection is None else self._connection.limits
        return limits.packet_bytes_max - PACKET_BYTES_BESIDE

    def _set_aside(self, row: Row, reason: str) -> None:
        """Quarantines a row that can never be sent, so that it blocks nobody."""
        self._cursor[row.lane] = max(self._cursor[row.lane], row.seq)
        refusal = Refusal(self._file.stream, row.lane.value, row.seq, reason)
        self._report([refusal])
        self.refused_total += 1
        try:
            self._file.quarantine([refusal]).add_done_callback(_log_failure)
        except TemporaryError as error:
            log.error("outbox: %s", error)  # it stays in the file and is set aside at the next attempt

    def _unpack(self, row: Row, bytes_max: int) -> SyncRow | None:
        """The row as it travels in a batch; None when it cannot and is set aside."""
        if len(row.payload) > bytes_max:
            self._set_aside(row, f"{len(row.payload)} bytes do not fit a batch of {bytes_max}")
            return None
        try:
            return sync_row(row)
        except WireError as error:
            self._set_aside(row, str(error))
            return None

    def _report(self, refused: list[Refusal]) -> None:
        for item in refused:
            log.error(
                "outbox: row %s/%d was refused and set aside: %s; see edge-agent outbox quarantine",
                item.lane,
                item.seq,
                item.reason,
            )


def _log_failure(done: "Future[int]") -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("outbox: a row could not be set aside: %s", error)


_LANE_NAMES = frozenset(lane.value for lane in Lane)
_LANES_ALONE = tuple(lane for lane in LANES if lane not in BATCHED_LANES)
