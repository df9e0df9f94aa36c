"""Rows to messages: what is committed goes out at once, what waited goes out beside it, as fast as it is answered.

Live rows are sent from memory; the backlog is read from the file, the most urgent lane first. A row leaves the file
only through `answer`: the broker's PUBACK frees nothing but a place in its receive maximum.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from agent.link.breaker import Breaker
from agent.link.gate import Gate, RateGate
from agent.link.lanes import LaneQueue
from agent.link.pace import Pace
from agent.link.settings import LinkSettings
from agent.link.silence import Silence
from agent.link.window import Window
from agent.outbox.encode import is_sound, packed_key
from agent.outbox.file import OutboxFile
from agent.outbox.rows import BATCHED_LANES, LANES, Row
from runtime.errors import EdgewrightError, TemporaryError
from runtime.mqtt import BrokerRefusedError, Connection, Limits, Message
from schemas.codec import encode_batch, encode_packed
from schemas.compress import compress
from schemas.errors import WireError
from schemas.identity import Lane
from schemas.messages import Ack, Gap, Refusal, SyncBatch
from schemas.topics import RULES, Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

TAKE_MAX = 256  # rows read from the file at a time
BATCH_ROWS_MAX = 500
BATCH_LINGER_S = 1.0  # samples wait this long for company
BATCH_BYTES_BESIDE = 64  # what a batch holds beside its rows and the name of their stream, at most
TICK_S = 0.5
HELD_BACK_S = 0.05  # how soon a gate that said no is asked again
PACKET_BYTES_BESIDE = 64  # headers and properties beside topic and payload, at most
PATIENCE_MAX = 8  # a coordinator that stays silent is asked again less and less often, down to an eighth
UNANSWERED_MAX = 12_000
GAPS_MAX = 500  # gap records told in one message
EVENT_CONTENT_TYPE = "application/cloudevents+json"


class Sender:
    """Sends one outbox over whatever connection there is."""

    def __init__(
        self,
        file: OutboxFile,
        *,
        node: str,
        boot: int,
        space: TopicSpace,
        resend_after_s: float = 15.0,
        settings: LinkSettings | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._file = file
        self._node = node
        self._boot = boot
        self._space = space
        self._sync_topic = space.text(Topic(Kind.SYNC, node))
        self._resend_after_s = resend_after_s
        self._settings = settings or LinkSettings()
        self._gate: Gate = gate or RateGate(self._settings)
        self._topics: dict[tuple[str, object], str] = {}
        self._queues = {lane: LaneQueue(newest=file.newest()[lane]) for lane in LANES}
        self._window = Window()
        self._pace = Pace(self._settings.answer_target_s)
        self._breaker = Breaker()
        self._silence = Silence()
        self._resting = False
        self._patience = 1
        self._rewind_asked = False  # done by `run` between two rounds, never while it reads the file
        self._held_back = False  # by the gate, in this round
        self._gaps_due_s = 0.0
        self._gaps_told = 0  # `shed_total` of the file when gap records were last told
        self._connection: Connection | None = None
        self._wake = asyncio.Event()
        self._coordinator_online = False
        self.compress = True  # batches, where that pays
        self.resent_by_lane: Counter[Lane] = Counter()
        self.published_total = 0
        self.published_bytes = 0
        self.answered_total = 0
        self.resent_total = 0
        self.refused_total = 0
        self.foreign_answers_total = 0

    # ---- told by others -------------------------------------------------------------------------

    def committed(self, rows: list[Row]) -> None:
        """Rows just committed, in order: sent in this very turn of the loop, whatever waits from before."""
        if self._connection is None:
            for lane, seq in {row.lane: row.seq for row in rows}.items():
                self._queues[lane].missed(seq)
            return
        for row in rows:
            queue = self._queues[row.lane]
            queue.committed(row)
            if row.lane not in BATCHED_LANES:
                self._send_live(row.lane)
            elif len(queue.fresh) >= BATCH_ROWS_MAX:
                self._wake.set()
        self._wake_if_behind()

    def puback(self, mid: int, accepted: bool) -> None:
        """The broker answered a publish. One it refused stays unanswered and is sent again later."""
        self._window.puback(mid)
        self._wake_if_behind()

    async def answer(self, ack: Ack) -> None:
        """The coordinator's acknowledgement: frees what it stored, sets aside what it refused, closes gaps."""
        ranges = [
            (lane, first, last)
            for item in ack.stored
            if (lane := self._lane_of(item.stream, item.lane)) is not None
            for first, last in self._window.answered_all(lane, self._own(lane, item.stream, item.ranges))
        ]
        refused = [
            item
            for item in ack.refused
            if (lane := self._lane_of(item.stream, item.lane)) is not None
            and self._window.answered_all(lane, self._own(lane, item.stream, [(item.seq, item.seq)]))
        ]
        closed = [item for item in ack.closed if self._lane_of(item.stream, item.lane) is not None]
        if ranges or refused or closed:
            self._was_answered(time.monotonic())
        try:
            if ranges:
                count = await asyncio.wrap_future(self._file.acknowledge(ranges))
                self.answered_total += count  # not in one: other answers are counted during the wait
            if refused:
                self._report(refused)
                count = await asyncio.wrap_future(self._file.quarantine(refused))
                self.refused_total += count
            if closed:
                await asyncio.wrap_future(self._file.closed(closed))
                self._gaps_due_s = 0.0  # there may be more of them than one message told
        except EdgewrightError:
            self._rewind_asked = True  # still in the file: to be sent and answered again
            raise
        finally:
            self.coordinator(True)  # last: what it makes us send again is without the rows just answered

    def coordinator(self, online: bool) -> None:
        """The coordinator went or came back: what it may have missed is sent again from the oldest on."""
        if online and not self._coordinator_online:
            self._rewind_asked = True
            self._breaker.reset()
        self._coordinator_online = online
        self._wake_if_behind()

    def waiting(self) -> bool:
        """True while something sent is unanswered by a coordinator that is there, or not yet sent."""
        unsent = self._rewind_asked or any(self._is_behind(lane) and self._gate_is_open(lane) for lane in LANES)
        return unsent or bool(self._window.inflight) or (self._coordinator_online and bool(self._window.unanswered))

    @property
    def coordinator_online(self) -> bool:
        """Whether a coordinator is there, as far as is known."""
        return self._coordinator_online

    def is_behind(self) -> bool:
        """True while a row that travels alone waits to be sent: files are not sent meanwhile."""
        return any(queue.is_behind for lane, queue in self._queues.items() if lane not in BATCHED_LANES)

    def rest(self) -> None:
        """The backlog and the batches rest until the next connection: what is under way comes to its end."""
        self._resting = True

    @property
    def is_settled(self) -> bool:
        """True when nothing is under way; what a coordinator that is away does not answer is not."""
        return not self._window.inflight and not (self._coordinator_online and self._window.unanswered)

    @property
    def is_answered(self) -> bool:
        """A coordinator has answered over this connection."""
        return self._silence.answered_once

    def silent_s(self) -> float:
        """For how long no coordinator has answered over this connection, though something waits for an answer."""
        return self._silence.lasts_s(time.monotonic())

    def state(self) -> dict[str, Any]:
        """How the sending goes, for people."""
        return {
            "coordinator_online": self._coordinator_online,
            "breaker": self._breaker.state.value,
            "breaker_opened_total": self._breaker.opened_total,
            "silent_s": round(self.silent_s(), 1),
            "backlog_rows_under_way": self._window.backlog_rows,
            "backlog_rows_allowed": self._pace.rows_max,
            "unanswered_rows": len(self._window.unanswered),
            "published_total": self.published_total,
            "published_bytes": self.published_bytes,
            "answered_total": self.answered_total,
            "resent_total": self.resent_total,
            "refused_total": self.refused_total,
            "foreign_answers_total": self.foreign_answers_total,
        }

    def _lane_of(self, stream: str, name: str) -> Lane | None:
        """The lane that an answer is about; None, and counted, for one that is none of ours."""
        lane = _LANES_BY_NAME.get(name)
        if lane is None or self._file.span(lane, stream) is None:
            self.foreign_answers_total += 1
            return None
        return lane

    def _own(self, lane: Lane, stream: str, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Cut to the numbers that the lane has under this stream: the same ones under another mean other rows."""
        span = self._file.span(lane, stream)
        return [] if span is None else [(max(first, span[0]), min(last, span[1])) for first, last in ranges]

    def _was_answered(self, now_s: float) -> None:
        self._breaker.answered()
        self._silence.answered(now_s, still_asked=bool(self._window.unanswered))
        self._patience = 1
        self._window.resend_after_s = self._resend_after_s
        freed, sent_s = self._window.feedback()
        if freed:
            self._pace.answered(freed, now_s - sent_s, now_s)

    def _gate_is_open(self, lane: Lane) -> bool:
        """Asked before a batch is read and packed: one that has to wait for hours costs nothing meanwhile."""
        if self._gate.may_send(lane, 1, time.monotonic()):
            return True
        self._held_back = True
        return False

    def _is_behind(self, lane: Lane) -> bool:
        return self._queues[lane].is_behind

    def _wake_if_behind(self) -> None:
        """A row that went out from memory needs no further round: at full rate that is nearly all of them."""
        if self._rewind_asked or any(
            queue.has_backlog or (queue.fresh and lane not in BATCHED_LANES) for lane, queue in self._queues.items()
        ):
            self._wake.set()

    # ---- one connection -------------------------------------------------------------------------

    async def run(self, connection: Connection) -> None:
        """Sends until cancelled or the connection is gone."""
        self._connection = connection
        self._window = Window(
            inflight_max=max(1, min(100, connection.limits.receive_max // 2)),
            unanswered_max=UNANSWERED_MAX,
            resend_after_s=self._resend_after_s,
            live_share=self._settings.live_share,
        )
        self._pace = Pace(self._settings.answer_target_s)
        self._breaker.reset()
        self._silence = Silence()
        self._resting = False
        self._patience = 1
        self._gaps_due_s = 0.0
        self._rewind()
        try:
            while connection.is_open:
                self._wake.clear()
                self._held_back = False
                if self._rewind_asked:
                    self._rewind()
                self._look_back(time.monotonic())
                if not await self._round():
                    try:
                        # Not `wait_for`: in Python 3.11 it forgets a cancellation that comes together with the event.
                        async with asyncio.timeout(HELD_BACK_S if self._held_back else TICK_S):
                            await self._wake.wait()
                    except TimeoutError:
                        continue
        finally:
            self._connection = None

    def _rewind(self) -> None:
        """Everything still in the file counts as not sent."""
        self._rewind_asked = False
        self._window.forget_all()
        for queue in self._queues.values():
            queue.rewind()

    def _look_back(self, now_s: float) -> None:
        if not self._coordinator_online:
            if any(map(self._is_behind, LANES)):
                self._silence.asked(now_s)
            # Nobody answers now. Facts are published once for whoever listens and again when it is back.
            self._window.make_room()
            return
        late = self._window.overdue(now_s)
        if not late:
            return
        first: dict[Lane, int] = {}
        for lane, seq in late:
            first[lane] = min(seq, first.get(lane, seq))
            self.resent_by_lane[lane] += 1
        for lane, seq in first.items():
            self._queues[lane].go_back(seq)
        self.resent_total += len(late)
        self._patience = min(PATIENCE_MAX, 2 * self._patience)
        self._window.resend_after_s = self._resend_after_s * self._patience
        self._pace.timed_out()
        opened = self._breaker.opened_total
        self._breaker.timed_out(now_s)
        if self._breaker.opened_total > opened:
            log.warning("link: the coordinator is there and does not answer; what waits rests for a while")

    async def _round(self) -> bool:
        """Sends what may go now, live rows first. True when more can follow at once."""
        for lane in LANES:
            if lane in BATCHED_LANES:
                self._send_live_batch(lane)
            else:
                self._send_live(lane)
        await self._tell_gaps()
        for lane in LANES:
            if self._queues[lane].has_backlog and self._may_send_backlog(lane):
                if lane in BATCHED_LANES:
                    return await self._send_backlog_batch(lane)
                return await self._send_backlog(lane)
        return False

    # ---- live -----------------------------------------------------------------------------------

    def _send_live(self, lane: Lane) -> None:
        """From memory, as long as there is room."""
        fresh = self._queues[lane].fresh
        while fresh and self._connection is not None and self._room_for_live() > 0:
            if not self._publish_alone(fresh[0], backlog=False):
                return
            fresh.popleft()

    def _send_live_batch(self, lane: Lane) -> None:
        """What was committed since the last batch, when that is a while ago or there is enough of it."""
        queue, now_s = self._queues[lane], time.monotonic()
        while queue.fresh and (now_s >= queue.due_s or len(queue.fresh) >= BATCH_ROWS_MAX):
            if not self._coordinator_online or self._resting or self._room_for_live() == 0:
                return
            if not self._gate_is_open(lane):
                return
            rows = [queue.fresh[i] for i in range(min(len(queue.fresh), BATCH_ROWS_MAX))]
            seen = self._publish_batch(lane, rows, backlog=False)
            for _ in range(seen):
                queue.fresh.popleft()
            if not seen:
                return
            if seen == len(rows):  # else the message was full, and the others follow in the next
                queue.due_s = now_s + BATCH_LINGER_S

    def _room_for_live(self) -> int:
        return self._window.room(others_wait=any(queue.has_backlog for queue in self._queues.values()))

    # ---- backlog --------------------------------------------------------------------------------

    def _may_send_backlog(self, lane: Lane) -> bool:
        """Without a coordinator facts are published for whoever listens; batches are for nobody else."""
        if self._resting or self._window.room_for_backlog() == 0 or not self._gate_is_open(lane):
            return False
        if not self._coordinator_online:
            return lane not in BATCHED_LANES
        return self._breaker.may_send_backlog(time.monotonic()) and self._backlog_allowance(lane) > 0

    def _backlog_allowance(self, lane: Lane) -> int:
        """How many more rows of the backlog may be under way. For a batch not a few: half a full one at least."""
        if not self._coordinator_online:
            return TAKE_MAX
        allowance = self._pace.rows_max - self._window.backlog_rows
        least = min(self._pace.rows_max, BATCH_ROWS_MAX) // 2 if lane in BATCHED_LANES else 1
        return allowance if allowance >= least else 0

    async def _send_backlog(self, lane: Lane) -> bool:
        """Reads some rows that travel alone and sends them. True when more can follow at once."""
        queue = self._queues[lane]
        rows = await self._read(lane, min(TAKE_MAX, self._backlog_allowance(lane)))
        if self._connection is None:
            return False
        with self._connection.together():
            for row in rows:
                if (lane, row.seq) not in self._window.unanswered:
                    if self._window.room_for_backlog() == 0 or not self._publish_alone(row, backlog=True):
                        return False
                    self._breaker.sent()
                queue.sent_backlog(row.seq)
        return True

    async def _send_backlog_batch(self, lane: Lane) -> bool:
        """Reads one batch and sends it. True when more can follow at once."""
        queue = self._queues[lane]
        rows = await self._read(lane, min(BATCH_ROWS_MAX, self._backlog_allowance(lane)))
        if not rows:
            return True
        seen = self._publish_batch(lane, rows, backlog=True)
        if not seen:
            return False
        queue.sent_backlog(rows[seen - 1].seq)
        self._breaker.sent()
        return True

    async def _read(self, lane: Lane, count_max: int) -> Sequence[Row]:
        """The next rows of a lane's backlog; none, and noted, when the file holds no more of it."""
        queue = self._queues[lane]
        live_from = queue.live_from
        found = await asyncio.to_thread(self._file.take, lane, queue.cursor, count_max)
        rows = [row for row in found if row.seq < queue.live_from]
        if not rows and queue.live_from == live_from:
            queue.read_all()
        return rows

    async def _tell_gaps(self) -> None:
        """Gap records, again and again until the coordinator has answered them."""
        now_s = time.monotonic()
        due = now_s >= self._gaps_due_s or self._file.shed_total != self._gaps_told
        if not (due and self._coordinator_online and self._window.room() > 0):
            return
        self._gaps_due_s = now_s + self._window.resend_after_s
        self._gaps_told = self._file.shed_total
        gaps = await asyncio.to_thread(self._file.gaps, GAPS_MAX)
        if gaps:
            payload = self._encode_gaps(gaps)
            self._publish(Message(self._sync_topic, payload), [], backlog=True)

    def _encode_gaps(self, gaps: Sequence[Gap]) -> bytes:
        """The first of them, as many as fit what the broker takes; the others follow once these are answered."""
        while True:
            payload = encode_packed(SyncBatch(self._file.stream, self._boot, gaps=list(gaps)))
            if len(payload) <= self._payload_bytes_max(self._sync_topic) or len(gaps) == 1:
                return payload
            gaps = gaps[: len(gaps) // 2]

    # ---- messages -------------------------------------------------------------------------------

    def _publish_alone(self, row: Row, *, backlog: bool) -> bool:
        """True when the row is out, or set aside because no broker will ever take it."""
        key = (row.type, row.severity)
        topic = self._topics.get(key)
        if topic is None:
            try:
                topic = self._topics[key] = self._space.text(row.topic(self._node))
            except WireError as error:
                self._set_aside(row, str(error))
                return True
        if len(row.payload) > self._payload_bytes_max(topic):
            self._set_aside(row, f"{len(row.payload)} bytes are more than the broker takes in a packet")
            return True
        if backlog and not is_sound(self._node, row.lane, row.seq, row.payload):  # nobody could answer for it
            self._set_aside(row, f"{row.lane.value} row {row.seq}: its bytes are damaged")
            return True
        return self._publish(Message(topic, row.payload, 1, False, EVENT_CONTENT_TYPE), [row], backlog=backlog)

    def _publish_batch(self, lane: Lane, rows: Sequence[Row], *, backlog: bool) -> int:
        """Sends the first of these rows in one message, as many as fit; says how many are dealt with."""
        bytes_max = self._payload_bytes_max(self._sync_topic) - BATCH_BYTES_BESIDE - len(rows[0].stream)
        bytes_left, rows_left, seen = bytes_max, self._window.room_for_rows(), 0
        taken: list[Row] = []
        for row in rows:
            if (lane, row.seq) not in self._window.unanswered and self._fits_a_batch(row, bytes_max):
                bytes_left -= len(row.payload)
                # Rows of one stream travel together: the batch names it once.
                if bytes_left < 0 or len(taken) == rows_left or (taken and row.stream != taken[0].stream):
                    break
                taken.append(row)
            seen += 1
        if not taken:
            return seen
        payload = encode_batch(taken[0].stream, self._boot, [row.payload for row in taken])
        if self.compress:
            payload = compress(payload)
        return seen if self._publish(Message(self._sync_topic, payload), taken, backlog=backlog) else 0

    def _publish(self, message: Message, rows: list[Row], *, backlog: bool) -> bool:
        if self._connection is None:
            return False
        now_s, size = time.monotonic(), len(message.payload)
        lane = rows[0].lane if rows else Lane.LIFECYCLE
        if not self._gate.may_send(lane, size, now_s):
            self._held_back = True
            return False
        try:
            mid = self._connection.publish(message)
        except (TemporaryError, BrokerRefusedError) as error:
            log.debug("link: %s", error)  # the connection's end is reported by the link itself
            return False
        if rows:
            self._silence.asked(now_s)
        self._gate.sent(lane, size, now_s)
        self._window.sent([(row.lane, row.seq) for row in rows], mid, now_s, backlog=backlog, size=size)
        self.published_total += len(rows)
        self.published_bytes += size
        return True

    # ---- what cannot be sent --------------------------------------------------------------------

    def _payload_bytes_max(self, topic: str) -> int:
        limits = Limits() if self._connection is None else self._connection.limits
        room = limits.packet_bytes_max - PACKET_BYTES_BESIDE - len(topic.encode())
        return min(room, RULES[Kind.SYNC].payload_bytes_max) if topic == self._sync_topic else room

    def _fits_a_batch(self, row: Row, bytes_max: int) -> bool:
        """False for a row that cannot travel and is set aside."""
        if len(row.payload) > bytes_max:
            self._set_aside(row, f"{len(row.payload)} bytes do not fit a batch of {bytes_max}")
            return False
        if packed_key(row.payload) != (row.lane.value, row.seq):
            self._set_aside(row, f"{row.lane.value} row {row.seq}: its bytes are damaged")
            return False
        return True

    def _set_aside(self, row: Row, reason: str) -> None:
        """Quarantines a row that can never be sent, so that it blocks nobody."""
        refusal = Refusal(row.stream, row.lane.value, row.seq, reason)
        self._report([refusal])
        self.refused_total += 1
        try:
            self._file.quarantine([refusal]).add_done_callback(_log_failure)
        except TemporaryError as error:
            log.error("outbox: %s", error)  # it stays in the file and is set aside at the next attempt

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


_LANES_BY_NAME = {lane.value: lane for lane in Lane}
