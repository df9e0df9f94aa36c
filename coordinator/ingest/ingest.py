"""Takes what waits, commits it in one transaction, then answers: first the nodes, then the broker.

Killed at any point nothing is lost or stored twice: what was not answered is sent again, and what is sent again is
known by its identity. A disk that refuses stops the answers, not the process.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coordinator.counters import Counters
from coordinator.fleet.beats import Beats
from coordinator.fleet.draft import Draft
from coordinator.fleet.registry import Fleet, FleetFullError, Moment
from coordinator.ingest.answer import acks
from coordinator.ingest.batch import BatchLimits, Pacing
from coordinator.ingest.decode import Decoded, Decoder, Facts, News
from coordinator.ingest.inbox import Inbox, Item, Wire
from coordinator.state.judge import Judge
from coordinator.store.leases import LeaseLostError
from coordinator.store.store import (
    Batch,
    Committed,
    GapRow,
    HeartbeatRow,
    RefusedMessage,
    ReportedRow,
    ResultRow,
    Row,
    Store,
)
from runtime.backoff import Backoff
from runtime.calls.errors import CallFailedError
from runtime.errors import EdgewrightError, TemporaryError
from runtime.mqtt import Delivery
from schemas.documents import Reported
from schemas.language.catalogue import Catalogue
from schemas.messages import Ack, Birth, Closed, Heartbeat, Status
from schemas.state import Collections
from schemas.topics import Kind, TopicSpace
from schemas.values import quick_maker

log = logging.getLogger(__name__)

RETRY = Backoff(first_s=0.2, max_s=5.0)
COMPLAIN_EVERY_S = 1.0
READING_TURNS_MAX = 10  # of the loop, before a transaction; each reads some dozen messages
READING_FEW = 16
AHEAD_AT_ONCE = 16  # messages read in one turn of the loop
AHEAD_EVERY_S = 0.005
SLOW_MS = 100.0  # a transaction's

Wish = Callable[[Draft, Moment], Any]
"""What somebody wants of the fleet: changes a draft and says what it came to, or raises and has changed nothing."""


@dataclass(slots=True)
class Work:
    """What some messages ask the store to do."""

    batch: Batch
    draft: Draft
    rows: list[Row] = field(default_factory=list)
    news: list[tuple[News, bytes]] = field(default_factory=list)  # with the bytes, whose hash heartbeats name
    stale: list[tuple[Kind, str]] = field(default_factory=list)  # what of deregistered nodes stands on their topics
    granted: list[tuple[asyncio.Future[Any], Any]] = field(default_factory=list)  # wishes with their answers
    wires: dict[str, Wire] = field(default_factory=dict)  # by node: what its newest rows came over


class Ingest:
    """The one task that changes the store and the fleet."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        inbox: Inbox,
        counters: Counters,
        space: TopicSpace,
        limits: BatchLimits,
        catalogue: Catalogue | None = None,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._inbox = inbox
        self._counters = counters
        self._space = space
        self._pacing = Pacing(limits)
        self._decoder = Decoder(space, catalogue)
        self.judge = Judge(Collections())  # of platform state
        self._began_s = 0.0
        self._complained_s = 0.0
        self._unlogged = 0
        self._beats = Beats()
        self._wishes: list[tuple[Wish, asyncio.Future[Any]]] = []
        self.problem = ""  # why nothing can be committed just now
        self.on_fleet_events: Callable[[], None] = lambda: None
        self.on_problem: Callable[[], None] = lambda: None
        self.on_news: Callable[[list[tuple[News, bytes]], Committed], None] = lambda news, committed: None
        self.names_report: Callable[[str, str], bool] = lambda node, digest: False
        self.on_stale: Callable[[list[tuple[Kind, str]]], None] = lambda topics: None
        self.on_gone: Callable[[list[str]], None] = lambda nodes: None

    async def run(self) -> None:
        """Until the inbox is closed and empty, or another coordinator leads: what waits is that one's then."""
        try:
            await self._run()
        except LeaseLostError as error:
            log.warning("nothing is stored here any more: %s", error)

    async def _run(self) -> None:
        while True:
            items = await self._gather()
            if not items and self._inbox.closed:
                self._beats.hurry()
                await self._process([])  # the newest heartbeats, which wait for their turn
                return
            self._began_s = time.monotonic()
            try:
                await self._process(items)
            except BaseException:
                self._inbox.put_back(items)
                raise
            size = sum(len(item.delivery.payload) for item in items)
            self._pacing.done(size, (time.monotonic() - self._began_s) * 1000, self._inbox.bytes)

    def figures(self) -> dict[str, int]:
        """Rows that were not as their schema declares them, and rows that no schema declares."""
        return {"invalid": self._decoder.invalid_total, "unchecked": self._decoder.unchecked_total}

    def nudge(self) -> None:
        """Something is due in the fleet, or the inbox is closed."""
        self._inbox.wake.set()

    async def ask(self, wish: Wish) -> Any:
        """Changes the fleet in its turn; answers once that is durable. Raises what the wish raises."""
        if self._inbox.closed:
            raise TemporaryError("the coordinator is stopping", hint="ask again in a moment")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._wishes.append((wish, done))
        self.nudge()
        return await done

    async def _gather(self) -> list[Item]:
        """The next messages; none when only the fleet needs a look."""
        if not len(self._inbox) and not self._inbox.closed and not self._wishes:
            self._inbox.wake.clear()
            await self._inbox.wake.wait()
        while (wait_ms := self._wait_ms()) and not self._inbox.closed:
            await self._rest(wait_ms)
        await self._let_in()
        return self._inbox.take(self._pacing.messages_max, self._pacing.bytes_max)

    def _wait_ms(self) -> float:
        inbox, since_ms = self._inbox, (time.monotonic() - self._began_s) * 1000
        return self._pacing.wait_ms(len(inbox), inbox.bytes, since_ms, urgent=inbox.alert_waits)

    async def _rest(self, wait_ms: float) -> None:
        """So long, or until the first alert comes: that one is not held back for the sake of others."""
        if self._inbox.alert_waits:
            await asyncio.sleep(wait_ms / 1000)
            return
        try:
            async with asyncio.timeout(wait_ms / 1000):
                await self._inbox.urgent.wait()
        except TimeoutError:
            return

    async def _let_in(self) -> None:
        """Reading goes before working: an alert still in the socket cannot overtake what is before it there."""
        for _ in range(READING_TURNS_MAX):
            before = len(self._inbox)
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # the loop looks at its sockets after the first
            if self._inbox.alert_waits or len(self._inbox) < before + READING_FEW:
                return

    async def _process(self, items: list[Item]) -> None:
        work = self._read(items)
        self._grant(work)
        if not len(self._inbox):
            work.draft.sweep(now())  # only when nothing waits that could say otherwise
        try:
            committed = await self._commit(work)
        except EdgewrightError as error:
            _refuse(work, error)
            raise
        except Exception:
            # The batch holds something that the database itself cannot take: find it, message by message.
            log.exception("a batch of %d messages cannot be stored", len(items))
            _refuse(work, CallFailedError("not_stored", "this cannot be stored; the log says why"))
            if not items:
                raise
            for item in items:
                await self._process_alone(item)
        else:
            self._finish(items, work, committed)

    async def _process_alone(self, item: Item) -> None:
        work = self._read([item])
        try:
            committed = await self._commit(work)
        except EdgewrightError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it stays with this one message
            work = self._refusal(item, work.rows, error)
            committed = await self._commit(work)
        self._finish([item], work, committed)

    def _refusal(self, item: Item, rows: list[Row], error: Exception) -> Work:
        """The message kept raw instead: for each of its rows, or once where it has none."""
        topic, raw, reason = item.delivery.topic, item.delivery.payload, f"cannot be stored: {error}"[:200]
        refused = [
            RefusedMessage(topic, row.node, reason, raw, item.received_utc_ms, row.stream, row.lane, row.seq)
            for row in rows
        ] or [RefusedMessage(topic, "", reason, raw, item.received_utc_ms)]
        return Work(Batch(refused=refused), self._fleet.draft())

    # ---- deciding -------------------------------------------------------------------------------

    def _read(self, items: list[Item]) -> Work:
        draft = self._fleet.draft()
        batch = Batch()
        work = Work(batch, draft)
        for item in items:
            said = self._said(item)
            if isinstance(said, Facts):
                rows, refused = said.rows, said.refused
                if said.kind is Kind.SYNC:
                    rows, unfit = self.judge.sort(rows, item.delivery.topic)
                    refused = (*refused, *unfit)
                (batch.samples if said.kind is Kind.SYNC else batch.events).extend(rows)
                work.rows += rows
                batch.refused += refused
                batch.gaps += said.gaps
                for one in (rows, refused, said.gaps):
                    if one:
                        work.wires[one[0].node] = item.wire
            elif isinstance(said, RefusedMessage):
                batch.refused.append(said)
                work.wires[said.node] = item.wire
            elif isinstance(said, ResultRow):
                batch.results.append(said)
            elif isinstance(said, News):
                self._tell(work, item, said)
        return work

    def _said(self, item: Item) -> Decoded:
        """What a message says; it is read once."""
        if item.said is None:
            item.said = self._decoder.decode(item.delivery, item.received_utc_ms)
        return item.said

    def _tell(self, work: Work, item: Item, news: News) -> None:
        draft, live, moment, is_wanted = work.draft, not item.delivery.retain, now(), True
        broker = item.wire.index
        try:
            match news.document:
                case Status() as status:
                    if not (is_wanted := draft.status(news.node, status, moment, live=live, broker=broker)):
                        work.stale.append((Kind.STATUS, news.node))
                case Birth() as birth:
                    if not (is_wanted := draft.birth(news.node, birth, moment, live=live, broker=broker)):
                        work.stale.append((Kind.BIRTH, news.node))
                case Heartbeat() as heartbeat:
                    self._counters.heartbeats += 1
                    is_wanted = draft.heartbeat(news.node, heartbeat, moment, broker)
                case Reported() as reported:
                    if draft.is_buried(news.node):
                        is_wanted = False
                        work.stale.append((Kind.REPORTED, news.node))
                    elif draft.is_registered(news.node):
                        named = self.names_report(news.node, reported.hash)
                        row = ReportedRow(news.node, reported, item.received_utc_ms, named)
                        work.batch.reported.append(row)
            if is_wanted:
                work.news.append((news, item.delivery.payload))
            else:
                self._counters.deregistered_heard += 1
        except FleetFullError as error:
            delivery = item.delivery
            work.batch.refused.append(
                RefusedMessage(delivery.topic, news.node, str(error), delivery.payload, item.received_utc_ms)
            )

    def _grant(self, work: Work) -> None:
        """What somebody asked for meanwhile."""
        wishes, self._wishes = self._wishes, []
        for wish, done in wishes:
            try:
                work.granted.append((done, wish(work.draft, now())))
            except EdgewrightError as error:
                if not done.done():
                    done.set_exception(error)

    # ---- committing and answering ---------------------------------------------------------------

    async def _commit(self, work: Work) -> Committed:
        batch = work.batch
        self._fill(batch, work.draft)
        if batch.is_empty:
            return Committed()
        committed = await self._commit_until_done(batch)
        if committed.overfull or committed.overfull_gaps:
            late = [_too_many_gaps(row, self._space) for row in committed.overfull]
            late += [_gap_too_many(gap, self._space) for gap in committed.overfull_gaps]
            await self._commit_until_done(Batch(refused=late))
            _drop(work, committed.overfull)
            batch.refused = batch.refused + late
        if committed.late:
            # Given up at the edge, closed here, and then a copy came all the same: what was said of it stays true.
            _drop(work, committed.late)
            committed.closed += [
                (row.node, Closed(row.stream, row.lane, row.seq, row.seq, [])) for row in committed.late
            ]
        return committed

    def _fill(self, batch: Batch, draft: Draft) -> None:
        """What the draft has to keep, and the heartbeats whose turn it is."""
        moment = now()
        batch.gone, batch.nodes = list(dict.fromkeys(draft.gone)), list(draft.changed.values())
        batch.tombstones, batch.lifted = list(draft.tombstones.values()), draft.lifted
        batch.windows, batch.windows_over, batch.turns = list(draft.windows.values()), draft.windows_over, draft.turns
        batch.fleet_events = draft.events
        if draft.gone:
            batch.reported = [row for row in batch.reported if draft.is_registered(row.node)]
            self._beats.forget(draft.gone)
        for name in {*draft.touched, *draft.heartbeats}:
            self._beats.heard(name, draft.heartbeats.get(name), moment.utc_ms)
        for name, (beat, utc_ms) in self._beats.take(moment.steady_ms, busy=self._is_busy).items():
            if beat is not None:
                batch.heartbeats[name] = HeartbeatRow(beat, utc_ms)
            node = draft.touched.get(name) or self._fleet.nodes.get(name)
            if node is not None and name not in draft.changed:
                batch.seen.append(node)

    @property
    def _is_busy(self) -> bool:
        """Rows wait, or the disk is slow, perhaps for others' sake."""
        took_ms = self._counters.commit_ms[-1] if self._counters.commit_ms else 0.0
        return not self._inbox.closed and (self._inbox.rows_wait or took_ms > SLOW_MS)

    def _finish(self, items: list[Item], work: Work, committed: Committed) -> None:
        """All of it is durable: the fleet is as drafted, the nodes are answered, then the broker."""
        self._fleet.adopt(work.draft)
        self._count(work.batch, committed)
        self._counters.heartbeats_unknown += work.draft.unknown
        if work.news:
            self.on_news(work.news, committed)
        if work.draft.gone:
            self.on_gone([name for name in work.draft.gone if name not in work.draft.changed])
        if work.stale:
            self.on_stale(work.stale)
        for done, answer in work.granted:
            if not done.done():
                done.set_result(answer)
        if items:
            self._answer(items, work, committed)
        if committed.fleet_events:
            self.on_fleet_events()

    def _answer(self, items: list[Item], work: Work, committed: Committed) -> None:
        """Each node over what its newest rows came over; each broker for what it delivered."""
        answers: dict[Wire, list[tuple[str, Ack]]] = {}
        for node, ack in acks(work.rows, work.batch.refused, committed.closed):
            answers.setdefault(work.wires.get(node, items[0].wire), []).append((node, ack))
        for wire, some in answers.items():
            wire.answer(*some)
        self._counters.acknowledged += len(work.rows)
        delivered: dict[Wire, list[Delivery]] = {}
        for item in items:
            delivered.setdefault(item.wire, []).append(item.delivery)
        for wire, deliveries in delivered.items():
            wire.acknowledge(*deliveries)

    async def _commit_until_done(self, batch: Batch) -> Committed:
        """Waits out a disk that refuses: nothing is acknowledged meanwhile, so nothing is lost."""
        attempt = 0
        while True:
            began_s = time.monotonic()
            try:
                committed = await self._commit_reading_ahead(batch)
            except LeaseLostError:
                raise
            except TemporaryError as error:
                self._counters.commit_failures += 1
                if not self.problem:
                    log.error("nothing can be stored: %s; trying again, nothing is acknowledged meanwhile", error)
                self._set_problem(str(error))
                await asyncio.sleep(RETRY.delay_s(attempt, 0.5))
                attempt += 1
                continue
            self._counters.commit_ms.append((time.monotonic() - began_s) * 1000)
            if self.problem:
                log.warning("storing again")
                self._set_problem("")
            return committed

    async def _commit_reading_ahead(self, batch: Batch) -> Committed:
        """While the disk works, what comes next is read."""
        committing = asyncio.ensure_future(self._store.commit(batch))
        try:
            while not committing.done():
                items = self._inbox.ahead(self._pacing.messages_max)
                if not items:
                    await asyncio.wait([committing], timeout=AHEAD_EVERY_S)
                for at in range(0, len(items), AHEAD_AT_ONCE):
                    for item in items[at : at + AHEAD_AT_ONCE]:
                        self._said(item)
                    await asyncio.sleep(0)
                    if committing.done():
                        break
            return await committing
        finally:
            committing.cancel()  # where we are

    def _set_problem(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self.on_problem()

    def _count(self, batch: Batch, committed: Committed) -> None:
        self._counters.batches += not batch.is_empty
        self._counters.stored += committed.new
        self._counters.duplicates += committed.duplicates
        self._counters.late_after_gap += len(committed.late)
        self._counters.gaps += len(batch.gaps) - committed.gaps_put_off
        self._counters.gaps_put_off += committed.gaps_put_off
        self._counters.refused += len(batch.refused)
        self._counters.count_state(committed.state)
        self._complain(batch.refused)

    def _complain(self, refused: list[RefusedMessage]) -> None:
        """Logs at most one refusal a second, with the number of those in between."""
        self._unlogged += len(refused)
        if not refused or time.monotonic() - self._complained_s < COMPLAIN_EVERY_S:
            return
        item, more = refused[-1], self._unlogged - 1
        log.warning(
            "refused a message on %s: %s%s", item.topic, item.reason, f" (and {more} more before)" if more else ""
        )
        self._complained_s = time.monotonic()
        self._unlogged = 0


_moment = quick_maker(Moment)


def now() -> Moment:
    return _moment(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)


def _refuse(work: Work, error: EdgewrightError) -> None:
    for done, _ in work.granted:
        if not done.done():
            done.set_exception(error)


def _drop(work: Work, rows: list[Row]) -> None:
    """These were not stored, nor were further copies of them: they are not answered as stored."""
    gone = {row[:4] for row in rows}
    work.rows = [row for row in work.rows if row[:4] not in gone]


def _too_many_gaps(row: Row, space: TopicSpace) -> RefusedMessage:
    topic = f"{space.root}/{row.node}"
    reason = f"lane {row.lane} of stream {row.stream[:40]} has too many gaps"
    return RefusedMessage(
        topic, row.node, reason, row.data.encode(), row.received_utc_ms, row.stream, row.lane, row.seq
    )


def _gap_too_many(gap: GapRow, space: TopicSpace) -> RefusedMessage:
    """Nobody can be told but by silence: the node says it again, and there may be room by then."""
    reason = f"lane {gap.lane} of stream {gap.stream[:40]} has too many gaps to close another that stands alone"
    return RefusedMessage(
        f"{space.root}/{gap.node}", gap.node, reason, f"{gap.first}-{gap.last}".encode(), gap.received_utc_ms
    )
