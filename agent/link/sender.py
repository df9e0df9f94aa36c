"""Rows to messages: what is committed goes out at once, what waited goes out beside it, as fast as it is answered.

Live rows are sent from memory; the backlog is read from the file, the most urgent lane first. A row leaves the file
only through `answer`: the broker's PUBACK frees nothing but a place in its receive maximum.

    committed ──► lanes (what is next) ──► publisher: parcels (as a message), gate (may it go now) ──► connection
    answer ─────► answers (what leaves the file), underway (what may follow) ◄── puback
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from agent.link.answers import Answers
from agent.link.gate import Gate, RateGate
from agent.link.lanes import LaneQueues
from agent.link.parcels import Parcels
from agent.link.publisher import Publisher
from agent.link.settings import LinkSettings
from agent.link.underway import UnderWay
from agent.outbox.file import OutboxFile
from agent.outbox.rows import BATCHED_LANES, LANES, Row
from runtime.errors import EdgewrightError
from runtime.mqtt import Connection
from schemas.identity import Lane
from schemas.messages import Ack
from schemas.topics import TopicSpace

log = logging.getLogger(__name__)

TAKE_MAX = 256  # rows read from the file at a time
BATCH_ROWS_MAX = 500
BATCH_LINGER_S = 1.0  # samples wait this long for company
TICK_S = 0.5  # at least so often: what is overdue, what lingers, what was given up is seen by looking
LOOK_AGAIN_MIN_S = 0.001  # a gate that said no is not asked more often
GAPS_MAX = 500  # gap records told in one message


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
        settings = settings or LinkSettings()
        self._queues = LaneQueues(file.newest())
        self._under_way = UnderWay(settings, resend_after_s)
        self._answers = Answers(file)
        parcels = Parcels(node=node, boot=boot, stream=file.stream, space=space, set_aside=self._answers.set_aside)
        self._out = Publisher(gate or RateGate(settings), parcels, self._under_way)
        self._resting = False
        self._rewind_asked = False  # done by `run` between two rounds, never while it reads the file
        self._gaps_due_s = 0.0
        self._gaps_told = 0  # `shed_total` of the file when gap records were last told
        self._wake = asyncio.Event()
        self.resent_by_lane: Counter[Lane] = Counter()
        self.resent_total = 0

    # ---- told by others -------------------------------------------------------------------------

    def committed(self, rows: list[Row]) -> None:
        """Rows just committed, in order: sent in this very turn of the loop, whatever waits from before."""
        if self._out.connection is None:
            self._queues.missed(rows)
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
        self._under_way.window.puback(mid)
        self._wake_if_behind()

    async def answer(self, ack: Ack) -> None:
        """The coordinator's acknowledgement: frees what it stored, sets aside what it refused, closes gaps."""
        said = self._answers.heard(ack, self._under_way.window)
        if said:
            self._under_way.answered(time.monotonic())
        try:
            await self._answers.keep(said)
            if said.closed:
                self._gaps_due_s = 0.0  # there may be more of them than one message told
        except EdgewrightError:
            self._rewind_asked = True  # still in the file: to be sent and answered again
            raise
        finally:
            self.coordinator(True)  # last: what it makes us send again is without the rows just answered

    def coordinator(self, online: bool) -> None:
        """The coordinator went or came back: what it may have missed is sent again from the oldest on."""
        if self._under_way.coordinator(online):
            self._rewind_asked = True
        self._wake_if_behind()

    def compress(self, wanted: bool) -> None:
        """Whether batches are compressed from now on, where that pays."""
        self._out.compress = wanted

    def wake(self) -> None:
        """The gate is to be asked again now: by another policy it may say otherwise."""
        self._wake.set()

    def rest(self) -> None:
        """The backlog and the batches rest until the next connection: what is under way comes to its end."""
        self._resting = True

    # ---- asked by others ------------------------------------------------------------------------

    def waiting(self) -> bool:
        """True while something sent is unanswered by a coordinator that is there, or not yet sent."""
        unsent = any(self._queues[lane].is_behind and self._out.gate_is_open(lane) for lane in LANES)
        return self._rewind_asked or unsent or not self.is_settled

    @property
    def coordinator_online(self) -> bool:
        """Whether a coordinator is there, as far as is known."""
        return self._under_way.coordinator_online

    def is_behind(self) -> bool:
        """True while a row that travels alone waits to be sent: files are not sent meanwhile."""
        return self._queues.is_behind_alone

    @property
    def is_settled(self) -> bool:
        """True when nothing is under way; what a coordinator that is away does not answer is not."""
        return self._under_way.is_settled

    @property
    def is_answered(self) -> bool:
        """A coordinator has answered over this connection."""
        return self._under_way.is_answered

    def silent_s(self) -> float:
        """For how long no coordinator has answered over this connection, though something waits for an answer."""
        return self._under_way.silent_s(time.monotonic())

    def state(self) -> dict[str, Any]:
        """How the sending goes, for people."""
        return {
            **self._under_way.state(time.monotonic()),
            "published_total": self._out.published_total,
            "published_bytes": self._out.published_bytes,
            "answered_total": self._answers.answered_total,
            "resent_total": self.resent_total,
            "refused_total": self._answers.refused_total,
            "foreign_answers_total": self._answers.foreign_total,
        }

    # ---- one connection -------------------------------------------------------------------------

    async def run(self, connection: Connection) -> None:
        """Sends until cancelled or the connection is gone."""
        self._out.connected(connection)
        self._resting = False
        self._gaps_due_s = 0.0
        self._rewind()
        try:
            while connection.is_open:
                self._wake.clear()
                self._out.look_again_s = math.inf
                if self._rewind_asked:
                    self._rewind()
                self._look_back(time.monotonic())
                if not await self._round():
                    await self._sleep()
        finally:
            self._out.connection = None

    async def _sleep(self) -> None:
        """Until woken, or the gate that held something back wants to be asked again, or a tick is over."""
        wait_s = min(TICK_S, max(LOOK_AGAIN_MIN_S, self._out.look_again_s - time.monotonic()))
        try:
            # Not `wait_for`: in Python 3.11 it forgets a cancellation that comes together with the event.
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _rewind(self) -> None:
        """Everything still in the file counts as not sent."""
        self._rewind_asked = False
        self._under_way.window.all_late()
        self._queues.rewind()

    def _look_back(self, now_s: float) -> None:
        if not self.coordinator_online:
            if self._queues.is_behind:
                self._under_way.waits_in_vain(now_s)
            # Nobody answers now. Facts are published once for whoever listens and again when it is back.
            self._under_way.window.make_room()
            return
        opened = self._under_way.opened_total
        late = self._under_way.overdue(now_s)
        self._queues.go_back(late)
        self.resent_by_lane.update(lane for lane, _ in late)
        self.resent_total += len(late)
        if self._under_way.opened_total > opened:
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

    def _wake_if_behind(self) -> None:
        if self._rewind_asked or self._queues.has_work:
            self._wake.set()

    # ---- live -----------------------------------------------------------------------------------

    def _send_live(self, lane: Lane) -> None:
        """From memory, as long as there is room."""
        fresh = self._queues[lane].fresh
        while fresh and self._out.connection is not None and self._room_for_live() > 0:
            if not self._out.alone(fresh[0], backlog=False):
                return
            fresh.popleft()

    def _send_live_batch(self, lane: Lane) -> None:
        """What was committed since the last batch, when that is a while ago or there is enough of it."""
        queue, now_s = self._queues[lane], time.monotonic()
        while queue.fresh and (now_s >= queue.due_s or len(queue.fresh) >= BATCH_ROWS_MAX):
            if not self.coordinator_online or self._resting or self._room_for_live() == 0:
                return
            if not self._out.gate_is_open(lane):
                return
            rows = [queue.fresh[i] for i in range(min(len(queue.fresh), BATCH_ROWS_MAX))]
            seen = self._out.batch(lane, rows, backlog=False)
            for _ in range(seen):
                queue.fresh.popleft()
            if not seen:
                return
            if seen == len(rows):  # else the message was full, and the others follow in the next
                queue.due_s = now_s + BATCH_LINGER_S

    def _room_for_live(self) -> int:
        return self._under_way.window.room(others_wait=self._queues.has_backlog)

    # ---- backlog --------------------------------------------------------------------------------

    def _may_send_backlog(self, lane: Lane) -> bool:
        """Without a coordinator facts are published for whoever listens; batches are for nobody else."""
        if self._resting or not (self.coordinator_online or lane not in BATCHED_LANES):
            return False
        ready = self._under_way.may_send_backlog(time.monotonic()) and self._backlog_rows(lane) > 0
        return ready and self._out.gate_is_open(lane)

    def _backlog_rows(self, lane: Lane) -> int:
        """How many rows of the backlog to read next."""
        most, batch_rows = (BATCH_ROWS_MAX, BATCH_ROWS_MAX) if lane in BATCHED_LANES else (TAKE_MAX, 0)
        allowance = self._under_way.backlog_allowance(batch_rows)
        return most if allowance is None else min(most, allowance)

    async def _send_backlog(self, lane: Lane) -> bool:
        """Reads some rows that travel alone and sends them. True when more can follow at once."""
        queue, window = self._queues[lane], self._under_way.window
        rows = await self._read(lane, self._backlog_rows(lane))
        if self._out.connection is None:
            return False
        with self._out.connection.together():
            for row in rows:
                if (lane, row.seq) not in window.unanswered:
                    if window.room_for_backlog() == 0 or not self._out.alone(row, backlog=True):
                        return False
                    self._under_way.sent_backlog()
                queue.sent_backlog(row.seq)
        return True

    async def _send_backlog_batch(self, lane: Lane) -> bool:
        """Reads one batch and sends it. True when more can follow at once."""
        queue = self._queues[lane]
        rows = await self._read(lane, self._backlog_rows(lane))
        if not rows:
            return True
        seen = self._out.batch(lane, rows, backlog=True)
        if not seen:
            return False
        queue.sent_backlog(rows[seen - 1].seq)
        self._under_way.sent_backlog()
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
        now_s, window = time.monotonic(), self._under_way.window
        due = now_s >= self._gaps_due_s or self._file.shed_total != self._gaps_told
        if not (due and self.coordinator_online and window.room() > 0):
            return
        self._gaps_due_s = now_s + window.resend_after_s
        self._gaps_told = self._file.shed_total
        gaps = await asyncio.to_thread(self._file.gaps, GAPS_MAX)
        if gaps:
            self._out.gaps(gaps)
