"""Nodes as a coordinator sees them, many in one process: with wills, births and heartbeats, and back after a cut."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from agent.link.presence import Identity, heartbeat_payload
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from schemas.codec import document_hash
from schemas.messages import Birth, Heartbeat, Presence
from schemas.topics import Kind, Topic, TopicSpace

SPACE = TopicSpace()


class Fake:
    """One node. It connects again for ever, until `cut` or `leave`."""

    def __init__(self, port: int, name: str, *, boot: int = 1, beat_s: float = 1.0, **birth: Any) -> None:
        self.name, self.port, self.boot, self.beat_s = name, port, boot, beat_s
        self.birth = Birth(name=name, **birth)
        self.instance = birth.get("instance", f"{name}-{boot}")
        self.session = 0
        self.silent = False  # connected, and says nothing
        self.cpu_percent = 1.0
        self.heard: list[Delivery] = []
        self.connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> "Fake":
        self._task = asyncio.create_task(self._run(), name=self.name)
        return self

    async def cut(self) -> None:
        """As if the power went: the broker sends the will."""
        await self._end(orderly=False)

    async def leave(self) -> None:
        """Says goodbye."""
        await self._end(orderly=True)

    async def _end(self, *, orderly: bool) -> None:
        connection, task, self._task = self.connection, self._task, None
        if orderly and connection is not None:
            connection.publish(self._me.status(Presence.OFFLINE, 7, "stopped"))
            await asyncio.sleep(0.2)
            await connection.close()
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def _me(self) -> Identity:
        return Identity(self.name, self.boot, self.session, SPACE, self.instance)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(EdgewrightError):
                await self._session()
            await asyncio.sleep(0.3)

    async def _session(self) -> None:
        self.session += 1
        me = self._me
        connection = Connection(
            BrokerAddress(port=self.port, keepalive_s=5),
            client_id=f"{self.name}-{self.instance}",
            will=me.will(),
            on_message=lambda delivery: self._hear(connection, delivery),
        )
        await connection.connect(10.0)
        self.connection = connection
        try:
            await connection.subscribe({SPACE.filter(Kind.CMD, self.name): 1})
            connection.publish(me.status(Presence.ONLINE, 7))
            birth = me.birth(self.birth)
            connection.publish(birth)
            seq = 0
            while connection.is_open:
                seq += 1
                beat = Heartbeat(
                    self.boot,
                    self.session,
                    seq,
                    cpu_percent=self.cpu_percent,
                    birth_hash=document_hash(birth.payload),
                )
                if not self.silent:
                    topic = SPACE.text(Topic(Kind.HEARTBEAT, self.name))
                    connection.publish(Message(topic, heartbeat_payload(beat), qos=0))
                await asyncio.sleep(self.beat_s)
        finally:
            self.connection = None
            connection._drop("cut")  # without a goodbye

    def _hear(self, connection: Connection, delivery: Delivery) -> None:
        connection.acknowledge(delivery)
        self.heard.append(delivery)


async def all_leave(fakes: Iterable[Fake]) -> None:
    await asyncio.gather(*(fake.leave() for fake in fakes))
