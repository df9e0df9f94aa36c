"""The connection to the local broker: made when it is there, kept, made again; publishes wait for it meanwhile."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from agent.actions.event import LocalEvent
from agent.actions.runner import ActionError
from agent.actions.settings import ActionSettings
from agent.actions.template import fill, fill_topic
from runtime.backoff import Backoff
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress, BrokerUnreachableError, Connection, Delivery, Message

log = logging.getLogger(__name__)


class LocalBroker:
    """One connection for all actions. Whoever publishes waits until the broker has the message."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        *,
        filters: Mapping[str, int] | None = None,
        on_message: Callable[[Delivery], None] = lambda delivery: None,
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        """`filters` are subscribed to with their QoS on each connection."""
        self._address = address
        self._client_id = client_id
        self._filters = dict(filters or {})
        self._on_message = on_message
        self._on_connected = on_connected
        self._connection: Connection | None = None
        self._there = asyncio.Event()
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self.error = ""  # why there is no connection, empty while there is one

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    async def run(self) -> None:
        """Keeps the connection until cancelled."""
        pause, attempt = Backoff(first_s=0.5, max_s=15.0), 0
        while True:
            connection = Connection(
                self._address,
                client_id=self._client_id,
                on_message=lambda delivery: self._received(connection, delivery),  # noqa: B023 - one at a time
                on_puback=self._answered,
            )
            try:
                await connection.connect()
                if self._filters:
                    await connection.subscribe(self._filters)
                attempt = 0
                self._connection, self.error = connection, ""
                self._there.set()
                log.info("local broker %s: connected", self._address)
                self._on_connected()
                self._gone(await connection.wait_closed())
            except EdgewrightError as error:
                self._gone(str(error))
            finally:
                self._connection = None
                self._there.clear()
                await connection.close()
            await asyncio.sleep(pause.delay_s(attempt, random.random()))
            attempt += 1

    def post(self, message: Message) -> bool:
        """Hands it over at once, and nobody waits for the broker's answer. False: there is no connection now."""
        if self._connection is None:
            return False
        try:
            self._connection.publish(message)
        except EdgewrightError as error:
            log.debug("local broker: not handed over: %s", error)
            return False
        return True

    async def listen(self, filters: Mapping[str, int]) -> None:
        """Subscribes to these too, now and on each later connection."""
        self._filters |= filters
        if self._connection is not None:
            await self._connection.subscribe(filters)

    def _received(self, connection: Connection, delivery: Delivery) -> None:
        self._on_message(delivery)
        connection.acknowledge(delivery)

    async def publish(self, message: Message, timeout_s: float) -> None:
        """Waits for the broker as long as it is away, then at most `timeout_s` for its answer.

        Raises ActionError, TimeoutError.
        """
        while True:
            await self._there.wait()
            connection = self._connection
            if connection is None:
                continue
            try:
                mid = connection.publish(message)
            except BrokerUnreachableError:
                await asyncio.sleep(0)
                continue
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._answers[mid] = answer
            try:
                async with asyncio.timeout(timeout_s):
                    accepted = await answer
            except ConnectionError:
                continue  # lost on the way: again on the next connection, perhaps a second time
            finally:
                self._answers.pop(mid, None)
            if not accepted:
                raise ActionError(f"{self._address}: refused a message on {message.topic}", hint="check its ACL")
            return

    def _answered(self, mid: int, accepted: bool) -> None:
        answer = self._answers.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(accepted)

    def _gone(self, reason: str) -> None:
        """Said once when it is lost, not at each attempt."""
        if not self.error:
            log.warning("local broker: %s; what is to be published waits", reason)
        self.error = reason
        self._connection = None
        self._there.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError(reason))


class MqttRunner:
    """Publishes each event on the local broker; waits for it as long as it is away."""

    limit_s: float | None = None  # the broker's absence is waited for; its answer is not

    def __init__(self, settings: ActionSettings, broker: LocalBroker) -> None:
        self._settings = settings
        self._broker = broker

    def open(self) -> None:
        """The connection is the broker's."""

    async def run(self, event: LocalEvent) -> str:
        values, data = event.values(), event.draft.data
        topic = fill_topic(self._settings.topic, values, data)
        payload = fill(self._settings.payload, values, data).encode()
        content_type = "application/cloudevents+json" if self._settings.payload == "{json}" else ""
        message = Message(topic, payload, retain=self._settings.retain, content_type=content_type)
        await self._broker.publish(message, self._settings.timeout_s)
        return f"published {len(payload)} bytes on {topic}"

    def close(self) -> None:
        """The connection is the broker's."""
