"""Calls a function of a node over the broker and waits for its one result."""

import asyncio
import os
import secrets

from runtime.errors import TemporaryError
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from schemas.codec import decode_result, encode_command
from schemas.errors import RemoteWireError
from schemas.messages import Command, Result
from schemas.topics import Kind, Topic, TopicSpace


class NoAnswerError(TemporaryError):
    """Nobody answered in time."""


async def call(address: BrokerAddress, space: TopicSpace, node: str, command: Command, *, timeout_s: float) -> Result:
    """The final result. `command` has an id; one without gets a random one. Raises EdgewrightError."""
    identifier = command.id or secrets.token_hex(8)
    asked = Command(command.function, command.arguments, identifier, command.expires_s or timeout_s)
    answered: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def receive(delivery: Delivery) -> None:
        connection.acknowledge(delivery)
        try:
            result = decode_result(delivery.payload)
        except RemoteWireError:
            return  # somebody else's business
        if result.id == identifier and result.state.final and not answered.done():
            answered.set_result(result)

    connection = Connection(address, client_id=f"edgectl-{os.getpid()}-{identifier[:6]}", on_message=receive)
    await connection.connect(timeout_s=min(10.0, timeout_s))
    try:
        await connection.subscribe({space.text(Topic(Kind.RESULT, node, command.function)): 1})
        topic = space.text(Topic(Kind.CMD, node, command.function))
        connection.publish(Message(topic, encode_command(asked), correlation=identifier.encode()))
        return await asyncio.wait_for(answered, timeout_s)
    except TimeoutError as error:
        raise NoAnswerError(
            f"{node} did not answer {command.function} within {timeout_s:g} s",
            hint=f"is it online? edgectl node show {node}; its id was {identifier}",
        ) from error
    finally:
        await connection.close()
