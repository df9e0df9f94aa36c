"""Publishes what nodes should be and asks for what is not known of them: the driver of both documents.

The desired document is published after each connect of ours, on each change, and again to a node whose heartbeat
names another. A node whose heartbeat names a birth or a report that is not here is asked for it. Both at most every
few seconds a node, and less often where it does not help. After a cut of the whole fleet heartbeats overtake births:
only so many nodes a second are asked, and those that have said it meanwhile are not.

With several brokers each has a row of its own: what is for a node goes to the one it was last heard on, and to all of
them where that is not known.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

from coordinator.counters import Counters
from coordinator.documents.asking import Asking
from coordinator.documents.changes import Change, ChangeRefusedError
from coordinator.fleet.node import NOWHERE
from coordinator.ingest.decode import News
from coordinator.store.store import Committed, Store
from runtime.backoff import Backoff
from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Served, plain
from runtime.errors import EdgewrightError
from runtime.mqtt import Message
from schemas.codec import document_hash, encode_command
from schemas.documents import Desired, encode_sealed
from schemas.errors import LocalWireError, RemoteWireError
from schemas.messages import Birth, Command, Count, Heartbeat
from schemas.shape import Limit, fields_of
from schemas.topics import Kind, Topic, TopicSpace, check_node_name

log = logging.getLogger(__name__)

AGAIN = Backoff(first_s=5.0, max_s=600.0)
# A heartbeat that does not know of a document may have waited here, behind all that came of a roll-out.
STALE_AGAIN = Backoff(first_s=30.0, max_s=600.0)
RETRY_S = 1.0
FRESH_MAX = 10_000
ROOM_EVERY_S = 0.05
AT_ONCE_MAX = 32  # documents, before others may have the loop
REPORT = "report"  # the function of a node that publishes its documents again


@dataclass(frozen=True, slots=True)
class SetDesired:
    """The arguments of the command `setDesired`."""

    node: str
    set: dict[str, Any] = field(default_factory=dict)
    unset: Annotated[tuple[str, ...], Limit(len_max=1000)] = ()
    if_revision: Count | None = None
    source: Annotated[str, Limit(len_max=200)] = ""


@dataclass(slots=True)
class _Told:
    """When a node was last told or asked again, and how often without its heartbeat having matched since."""

    at_s: float = 0.0
    times: int = 0


class Documents:
    """One coordinator's. `publish` and `has_room` are those of the connections."""

    def __init__(
        self,
        store: Store,
        space: TopicSpace,
        counters: Counters,
        now_s: Callable[[], float] = time.monotonic,
        brokers: int = 1,
    ) -> None:
        self._store = store
        self._counters = counters
        self._now_s = now_s
        self._space = space
        self._desired, self._reported = (dict(hashes) for hashes in store.document_hashes)
        self._births: dict[str, str] = {}
        self._sessions: dict[str, tuple[int, int]] = {}  # (boot, session) of the births
        self._named: dict[str, str] = {}  # the report that a node's newest heartbeat names
        self._told: dict[str, _Told] = {}
        self._due: list[dict[str, None]] = [{} for _ in range(brokers)]  # nodes to be told, by broker, oldest first
        self._asking = Asking()
        self._fresh: dict[str, Desired] = {}  # of those that are due, as they were just written
        self._wake = asyncio.Event()
        self.publish: Callable[[int, Message], None] = lambda broker, message: None
        self.is_connected: Callable[[int], bool] = lambda broker: False
        self.has_room: Callable[[int], bool] = lambda broker: False  # and connected
        self.where: Callable[[str], int] = lambda node: 0  # the broker of a node; NOWHERE where that is not known
        self.is_registered: Callable[[str], bool] = lambda node: False

    async def run(self) -> None:
        """Publishes what is due, without filling the connections' queues."""
        while True:
            await self._wait()
            while free := [i for i, due in enumerate(self._due) if due and self.has_room(i)]:
                for broker in free:
                    await self._publish_some(broker)
                await asyncio.sleep(0)
            self._ask_whose_turn_it_is(self._now_s())
            if any(due and self.is_connected(i) for i, due in enumerate(self._due)):
                await asyncio.sleep(ROOM_EVERY_S)
                self._wake.set()

    async def _wait(self) -> None:
        """Until there is something to do."""
        wait_s = self._asking.wait_s(self._now_s())
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _publish_some(self, broker: int) -> None:
        """A turn of the loop takes long where there is much else to do: one document each would be few a second."""
        for _ in range(AT_ONCE_MAX):
            if not self._due[broker] or not self.has_room(broker):
                return
            await self._publish_one(broker)

    async def _publish_one(self, broker: int) -> None:
        due = self._due[broker]
        node = next(iter(due))
        del due[node]  # before reading: a change from now on makes it due again
        try:
            # Behind a roll-out that keeps the store busy, reading each one again would take longer than telling.
            document = self._fresh.pop(node, None) or await self._store.desired(node)
        except EdgewrightError as error:
            log.error("the desired document of %s cannot be read: %s", node, error)
            due[node] = None
            await asyncio.sleep(RETRY_S)
            return
        except RemoteWireError as error:  # damaged on the disk: not to be published, and no reason to stop
            log.error("the desired document of %s is damaged: %s", node, error)
            return
        if document.revision:
            self._desired[node] = document.hash
            self._counters.desired_published += 1
            topic = self._space.text(Topic(Kind.DESIRED, node))
            self.publish(broker, Message(topic, encode_sealed(document), retain=True))

    def connected(self, broker: int = 0) -> None:
        """This broker may have forgotten everything."""
        self._due[broker].update((node, None) for node in self._desired if self.where(node) in (broker, NOWHERE))
        self._wake.set()

    def forget(self, node: str) -> None:
        """It was taken out of the fleet: nothing of it is published or asked for any more."""
        for known in (self._desired, self._reported, self._births, self._named):
            known.pop(node, None)
        self._sessions.pop(node, None)
        self._told.pop(node, None)
        self._asking.forget(node)
        for due in self._due:
            due.pop(node, None)

    # ---- what nodes say -------------------------------------------------------------------------

    def names_report(self, node: str, digest: str) -> bool:
        """True when the node's newest heartbeat names this report: then it is the one, whatever its number."""
        return self._named.get(node) == digest

    def heard(self, news: list[tuple[News, bytes]], committed: Committed) -> None:
        """It is durable now."""
        self._reported.update(committed.reported)
        for node in committed.reported:
            self._asking.heard(node, Kind.REPORTED.value)
        for node, document in committed.renewed.items():
            log.warning("%s answers to a document that is not ours: epoch %d begins", node, document.epoch)
            self._make_due(node, document.hash)
        for one, payload in news:
            match one.document:
                case Birth() as birth:
                    self._births[one.node] = document_hash(payload)
                    self._sessions[one.node] = birth.boot, birth.session
                    self._asking.heard(one.node, Kind.BIRTH.value)
                case Heartbeat() as beat:
                    self._compare(one.node, beat, self._now_s())

    def _compare(self, node: str, beat: Heartbeat, now_s: float) -> None:
        self._named[node] = beat.reported_hash
        unknown = [
            name
            for name, told, known in (
                (Kind.BIRTH.value, beat.birth_hash, self._births.get(node)),
                (Kind.REPORTED.value, beat.reported_hash, self._reported.get(node)),
            )
            if told and told != known
        ]
        stale = node in self._desired and beat.desired_hash != self._desired[node]
        if not unknown and not stale:
            self._told.pop(node, None)
            return
        told = self._told.setdefault(node, _Told())
        again = AGAIN if unknown else STALE_AGAIN
        if told.times and now_s < told.at_s + again.delay_s(told.times - 1, 0.5):
            return
        told.at_s, told.times = now_s, told.times + 1
        if stale:
            self._make_due(node, self._desired[node])
        if unknown:
            known = self._sessions.get(node, (-1, -1))
            self._asking.want(node, unknown, now_s, at_once=(beat.boot, beat.session) <= known)
            self._ask_whose_turn_it_is(now_s)
            self._wake.set()

    def _ask_whose_turn_it_is(self, now_s: float) -> None:
        for node, names in self._asking.take(now_s):
            self._ask(node, names)

    def _ask(self, node: str, names: list[str]) -> None:
        self._counters.asked_again += 1
        command = Command(REPORT, {"documents": names}, expires_s=30.0)
        message = Message(self._space.text(Topic(Kind.CMD, node, REPORT)), encode_command(command))
        for broker in self._places(node):
            self.publish(broker, message)

    def _places(self, node: str) -> Iterable[int]:
        where = self.where(node)
        return range(len(self._due)) if where == NOWHERE else (where,)

    def changed(self, node: str, document: Desired) -> None:
        """A node's desired document has another revision, and is durable: it is published."""
        self._told[node] = _Told(self._now_s(), 1)  # its next heartbeat may not know of it yet
        kept = self._fresh.get(node)
        if kept is None or kept.version < document.version:
            self._make_due(node, document.hash)
            if len(self._fresh) < FRESH_MAX:
                self._fresh[node] = document

    def _make_due(self, node: str, digest: str) -> None:
        self._fresh.pop(node, None)
        self._desired[node] = digest
        for broker in self._places(node):
            self._due[broker][node] = None
        self._wake.set()

    # ---- what operators want --------------------------------------------------------------------

    @property
    def due(self) -> int:
        """How many desired documents are still to be published."""
        return sum(len(due) for due in self._due)

    def function(self) -> Served:
        """The command `setDesired`."""
        return plain("setDesired", SetDesired, self.set_desired)

    async def set_desired(self, asked: SetDesired) -> dict[str, Any]:
        """Makes the next revision. Raises CallRejectedError, with the current document where it is stale."""
        if wrong := check_node_name(asked.node):
            raise CallRejectedError("bad_arguments", f"node: {wrong}", "node")
        change = Change(asked.set, asked.unset, asked.if_revision, asked.source)
        try:
            changed = await self._store.change_desired(asked.node, change)
        except ChangeRefusedError as error:
            raise CallRejectedError(error.code, str(error), value=fields_of(error.current)) from error
        except LocalWireError as error:
            raise CallRejectedError("too_large", str(error)) from error
        except RemoteWireError as error:
            raise CallRejectedError("damaged", f"what is stored of {asked.node} cannot be read: {error}") from error
        if changed.fields:
            self.changed(asked.node, changed.desired)
        return {
            "changed": changed.fields,
            "desired": fields_of(changed.desired),
            "registered": self.is_registered(asked.node),
        }
