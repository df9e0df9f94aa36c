"""What arrives over a session: commands, answers, documents, presence, each to whom it concerns."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from agent.link.session import Session
from runtime.mqtt import Delivery
from schemas.codec import decode_document, decode_packed
from schemas.errors import RemoteWireError
from schemas.messages import Ack, Status
from schemas.topics import Kind, TopicSpace

log = logging.getLogger(__name__)

OnCommand = Callable[[Delivery, str, Callable[[Delivery], None]], None]


class FileAnswers(Protocol):
    """Who sends files beside the rows."""

    def received(self, sha256: str, payload: bytes) -> None:
        """An answer of the coordinator. Raises RemoteWireError for one that is none."""

    def disconnected(self) -> None:
        """The connection is gone."""


class CallAnswers(Protocol):
    """Who calls functions of the coordinator."""

    @property
    def filter(self) -> str:
        """The subscription that its answers come by."""

    def received(self, topic: str, payload: bytes) -> bool:
        """True: it was an answer, or something where only answers are."""

    def disconnected(self) -> None:
        """The connection is gone."""


class RowAnswers(Protocol):
    """Who sends the rows."""

    async def answer(self, ack: Ack) -> None:
        """An acknowledgement of the coordinator. Raises EdgewrightError when it cannot be kept."""


class Arrivals:
    """All but a command are acknowledged to the broker at once: what is lost with us is said again by its sender."""

    def __init__(
        self,
        space: TopicSpace,
        sender: RowAnswers,
        on_command: OnCommand,
        on_status: Callable[[Session, str, Status, bool], None],
    ) -> None:
        """`on_command(delivery, function, acknowledge)` acknowledges itself; `on_status(session, node, status,
        live)`: not kept by the broker."""
        self._space = space
        self._sender = sender
        self._on_command = on_command
        self._on_status = on_status
        self._answers: set[asyncio.Task[None]] = set()
        self.bad_messages_total = 0
        self.on_desired: Callable[[bytes], None] = lambda payload: None
        self.files: FileAnswers | None = None  # who hears what the coordinator says of files
        self.calls: CallAnswers | None = None  # who hears what it answers to our own calls

    def take(self, session: Session, delivery: Delivery) -> None:
        """One message. A bad one is counted, reported and done with."""
        connection = session.connection
        try:
            if self.calls is not None and self.calls.received(delivery.topic, delivery.payload):
                connection.acknowledge(delivery)
                return
            topic = self._space.parse(delivery.topic)
            if topic.kind is Kind.CMD:
                self._on_command(delivery, topic.leaf, connection.acknowledge)
                return
            connection.acknowledge(delivery)
            if topic.kind is Kind.ACK:
                self._answer(decode_packed(Ack, Kind.ACK, delivery.payload))
            elif topic.kind is Kind.BLOB_DOWN and self.files is not None:
                self.files.received(topic.leaf, delivery.payload)
            elif topic.kind is Kind.DESIRED and delivery.payload:
                self.on_desired(delivery.payload)
            elif topic.kind is Kind.STATUS and delivery.payload:
                status = decode_document(Status, Kind.STATUS, delivery.payload)
                self._on_status(session, topic.node, status, not delivery.retain)
        except RemoteWireError as error:
            self.bad_messages_total += 1
            connection.acknowledge(delivery)
            log.warning("refused a message on %s: %s", delivery.topic, error)

    def disconnected(self) -> None:
        """The connection is gone."""
        for one in (self.files, self.calls):
            if one is not None:
                one.disconnected()

    def _answer(self, ack: Ack) -> None:
        task = asyncio.create_task(self._sender.answer(ack), name="link.answer")
        self._answers.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self._answers.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # The rows stay in the file and are sent and answered again.
            log.error("outbox: an acknowledgement could not be kept: %s", task.exception())
