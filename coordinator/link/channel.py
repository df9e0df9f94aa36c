"""What goes out to one broker, within its receive maximum, and what was received over it. Driver.

Two connections: what nodes send comes over one, and what is said goes over the other. On one alone the broker's
acknowledgements of what we said stand behind all that nodes send, and with so many messages under way as may be,
nothing more is said: answers come late, rows are sent again, and that is more to answer.
"""

import asyncio
import logging
from collections.abc import Callable

from coordinator.link.outgoing import Outgoing, Rank
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerRefusedError, Connection, Delivery, Message
from schemas.messages import Ack
from schemas.topics import TopicSpace

log = logging.getLogger(__name__)

INFLIGHT_MAX = 500


class Channel:
    """One session's. `index` is that of its broker in the configuration."""

    def __init__(
        self,
        connection: Connection,
        on_confirmed: Callable[[int], None],
        *,
        intake: Connection | None = None,
        space: TopicSpace | None = None,
        index: int = 0,
    ) -> None:
        """`on_confirmed` is told the token of each message published with one, once the broker has it."""
        self.index = index
        self.outgoing = Outgoing(space or TopicSpace())
        self._connection = connection
        self._intake = intake or connection
        self._on_confirmed = on_confirmed
        self._inflight: dict[int, int] = {}
        self._pumping = False
        self._pump_is_due = False

    @property
    def idle(self) -> bool:
        return not len(self.outgoing) and not self._inflight

    @property
    def packet_bytes_max(self) -> int:
        return self._connection.limits.packet_bytes_max

    def publish(self, message: Message, token: int = 0, rank: Rank = Rank.ANSWER) -> None:
        self.outgoing.put(message, token, rank)
        if rank is not Rank.DOCUMENT:
            self.pump()
        elif not self._pump_is_due:  # some dozen come in one turn of the loop, and go out together
            self._pump_is_due = True
            asyncio.get_running_loop().call_soon(self._pump_documents)

    def answer(self, *answers: tuple[str, Ack]) -> None:
        """(node, answer) pairs: which of its rows are durable now, which are refused."""
        for node, ack in answers:
            self.outgoing.answer(node, ack)
        self.pump()

    def acknowledge(self, *deliveries: Delivery) -> None:
        self._intake.acknowledge(*deliveries)

    def puback(self, mid: int, accepted: bool) -> None:
        token = self._inflight.pop(mid, 0)
        if token and accepted:
            self._on_confirmed(token)
        self.pump()

    def _pump_documents(self) -> None:
        self._pump_is_due = False
        self.pump()

    def pump(self) -> None:
        if self._pumping:  # told of by what we say just now
            return
        self._pumping = True
        try:
            with self._connection.together():
                self._pump()
        finally:
            self._pumping = False

    def _pump(self) -> None:
        room = min(INFLIGHT_MAX, max(1, self._connection.limits.receive_max // 2))
        while len(self._inflight) < room and self._connection.is_open:
            found = self.outgoing.next(self.packet_bytes_max)
            if found is None:
                return
            message, token = found
            try:
                mid = self._connection.publish(message)
            except BrokerRefusedError as error:
                log.error("link: not published: %s", error)  # and what waits behind it may well be smaller
                continue
            except EdgewrightError as error:
                log.debug("link: %s", error)  # the end of the connection is reported by `run`
                return
            if message.qos:
                self._inflight[mid] = token
