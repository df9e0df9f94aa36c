"""Which of several brokers a node is at: what is asked of it has to be asked there."""

import asyncio
import secrets

from coordinator.config import CoordinatorConfig
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress, Connection, Delivery
from schemas.codec import decode_document
from schemas.errors import RemoteWireError
from schemas.messages import Presence, Status
from schemas.topics import COORDINATOR, Kind, Topic, TopicSpace

LOOK_S = 2.0


def broker_of(config: CoordinatorConfig, node: str) -> BrokerAddress:
    """The one at whose topic the node says last that it is there; the first, where none has it or there is one only.

    Raises ConfigError."""
    addresses = [one.address(place) for place, one in config.named_brokers()]
    if len(addresses) == 1 or node in ("", COORDINATOR):
        return addresses[0]
    return asyncio.run(_find(addresses, TopicSpace(config.topic_root), node))


async def _find(addresses: list[BrokerAddress], space: TopicSpace, node: str) -> BrokerAddress:
    found = await asyncio.gather(*(_status(address, space, node) for address in addresses))
    there = [(status.boot, status.session, i) for i, status in enumerate(found) if status is not None]
    return addresses[max(there)[2] if there else 0]


async def _status(address: BrokerAddress, space: TopicSpace, node: str) -> Status | None:
    """What is retained there of a node that is not gone; None also where the broker does not answer."""
    said: asyncio.Future[Status | None] = asyncio.get_running_loop().create_future()

    def take(delivery: Delivery) -> None:
        try:
            status = decode_document(Status, Kind.STATUS, delivery.payload) if delivery.payload else None
        except RemoteWireError:
            status = None
        if not said.done():
            said.set_result(None if status is None or status.state is Presence.OFFLINE else status)

    connection = Connection(address, client_id=f"edgectl-{secrets.token_hex(6)}", on_message=take)
    try:
        async with asyncio.timeout(LOOK_S):
            await connection.connect()
            await connection.subscribe({space.text(Topic(Kind.STATUS, node)): 1})
            return await said
    except (EdgewrightError, TimeoutError):
        return None
    finally:
        await connection.close()
