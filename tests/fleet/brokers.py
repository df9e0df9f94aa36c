"""A coordinator at several brokers, as a process, and somebody who listens at one of them."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process
from tests.coordinator.sender import until


class Wide(Process):
    """At the brokers `b0`, `b1` and so on."""

    def __init__(self, folder: Path, ports: list[int], extra: str = "") -> None:
        super().__init__(folder, ports[0])
        tables = "".join(f'[[brokers]]\nname = "b{n}"\nport = {port}\n' for n, port in enumerate(ports))
        self.config.write_text(f'[coordinator]\ndata_dir = "data"\n{extra}\n{tables}')


@contextmanager
def at_brokers(folder: Path, count: int, extra: str = "") -> Iterator[tuple[Wide, list[Broker]]]:
    """The coordinator is started and not yet connected."""
    brokers = [start_broker(folder) for _ in range(count)]
    process = Wide(folder, [broker.port for broker in brokers], extra)
    process.start()
    try:
        yield process, brokers
    finally:
        process.stop()
        for broker in brokers:
            broker.stop()


class Listener:
    """Keeps what is said at one broker, and may call somebody there."""

    def __init__(self, port: int, *filters: str) -> None:
        self.port = port
        self.heard: list[Delivery] = []
        self._filters = filters
        self._connection = Connection(BrokerAddress(port=port), client_id=f"ear-{port}", on_message=self._hear)

    async def __aenter__(self) -> "Listener":
        await self._connection.connect()
        await self._connection.subscribe(dict.fromkeys(self._filters, 1))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connection.close()

    def call(self, function: str, arguments: dict[str, Any]) -> None:
        """Of the coordinator."""
        topic = f"edge/v1/coordinator/cmd/{function}"
        self._connection.publish(Message(topic, json.dumps(arguments).encode()))

    def on(self, end: str) -> list[Any]:
        """What came on topics that end so, as JSON."""
        return [json.loads(one.payload) for one in self.heard if one.topic.endswith(end) and one.payload]

    async def has(self, end: str, true: Callable[[Any], bool] = lambda found: True) -> Any:
        """The first that is as asked for."""
        await until(lambda: any(true(one) for one in self.on(end)), 60.0)
        return next(one for one in self.on(end) if true(one))

    def _hear(self, delivery: Delivery) -> None:
        self._connection.acknowledge(delivery)
        self.heard.append(delivery)


async def no_sooner(seconds: float) -> None:
    """For what must not happen: there is nothing to wait for."""
    await asyncio.sleep(seconds)
