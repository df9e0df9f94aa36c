"""Values that somebody publishes: each message holds a number, or JSON with numbers or lists of samples."""

import asyncio
from collections import deque
from typing import Any

from agent.sensors.parse import Block, PayloadError, at, block_of, number
from agent.sensors.reader import SensorError, Sink
from agent.sensors.settings import SensorConfig
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress, Connection, Delivery

MESSAGES_MAX = 256  # read and not yet looked at; beyond it the oldest is dropped and told as refused
SMALL_BYTES = 2048  # a payload that is looked at on the loop; larger ones in a thread


class MqttReader:
    """One connection for one sensor."""

    lossless = False

    def __init__(self, config: SensorConfig, address: BrokerAddress, client_id: str) -> None:
        self._config, self._address, self._client_id = config, address, client_id

    async def run(self, sink: Sink) -> None:
        waiting: deque[Delivery] = deque()
        there = asyncio.Event()

        def arrived(delivery: Delivery) -> None:
            connection.acknowledge(delivery)
            if delivery.retain:
                return  # of some time ago: it is no sample of now
            if len(waiting) >= MESSAGES_MAX:
                waiting.popleft()
                sink.refused(f"more than {MESSAGES_MAX} messages wait: the oldest is dropped")
            waiting.append(delivery)
            there.set()

        connection = Connection(self._address, client_id=self._client_id, on_message=arrived)
        try:
            await connection.connect()
            await connection.subscribe({self._config.topic: 1})
            sink.connected()
            ended = asyncio.ensure_future(connection.wait_closed())
            try:
                await self._serve(sink, waiting, there, ended)
            finally:
                ended.cancel()
        except EdgewrightError as error:
            raise SensorError(f"{self._config.topic}: {error}") from error
        finally:
            await connection.close()

    async def _serve(
        self, sink: Sink, waiting: deque[Delivery], there: asyncio.Event, ended: "asyncio.Future[Any]"
    ) -> None:
        while True:
            while waiting:
                await self._look(sink, waiting.popleft().payload)
            there.clear()
            more: asyncio.Future[Any] = asyncio.ensure_future(there.wait())
            try:
                await asyncio.wait([more, ended], return_when=asyncio.FIRST_COMPLETED)
            finally:
                more.cancel()
            if ended.done() and not waiting:
                raise SensorError(f"{self._address}: {ended.result()}")

    async def _look(self, sink: Sink, payload: bytes) -> None:
        try:
            if len(payload) > SMALL_BYTES:
                block, source_s = await asyncio.to_thread(self._read, payload)
            else:
                block, source_s = self._read(payload)
        except PayloadError as error:
            sink.refused(str(error))
            return
        if len(block):
            await sink.take(block, source_s=source_s)

    def _read(self, payload: bytes) -> tuple[Block, float | None]:
        block, said = block_of(payload, self._config.channels)
        if not self._config.time_path:
            return block, None
        try:
            time = number(at(said, self._config.time_path))
        except (TypeError, ValueError):
            raise PayloadError(f"{self._config.time_path} is no number of seconds or milliseconds") from None
        return block, time / 1000 if abs(time) > 1e11 else time  # since 1970: milliseconds are that large
