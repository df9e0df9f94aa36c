"""Calls for a person at a terminal: how far it is on one line, and Ctrl-C cancels."""

import asyncio
import secrets
import signal
from dataclasses import replace
from types import TracebackType
from typing import TextIO

from runtime.calls.client import Client
from runtime.calls.errors import CallError
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress
from schemas.messages import CallProgress, Command, CommandState, Result
from schemas.topics import TopicSpace

EXIT_INTERRUPTED = 130  # as a shell says it of a program that was ended by Ctrl-C
CANCELLED_S = 5.0  # how long the answer of a cancelled call is waited for


class InterruptedCallError(Exception):
    """Ctrl-C; the message says what became of the call."""


class Telling:
    """Writes over one line of a terminal; into a file one line after another."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begun = False

    def __enter__(self) -> "Telling":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def say(self, progress: CallProgress) -> None:
        share = "" if progress.share is None else f"{progress.share:4.0%} "
        text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in share + progress.text)
        if self._out.isatty():
            self._begun = True
            self._out.write(f"\r\x1b[K{text[:200]}")
        else:
            self._out.write(f"{text}\n")
        self._out.flush()

    def clear(self) -> None:
        if self._begun:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._begun = False


async def call(address: BrokerAddress, space: TopicSpace, node: str, command: Command, *, timeout_s: float) -> Result:
    """The one answer. Raises EdgewrightError."""
    async with Client(address, space=space, name="edgectl") as client:
        return await client.ask(node, command, timeout_s=timeout_s)


async def watched_call(
    address: BrokerAddress, space: TopicSpace, node: str, command: Command, telling: Telling, *, timeout_s: float
) -> Result:
    """The one answer. Raises InterruptedCallError after Ctrl-C, and EdgewrightError."""
    command = replace(command, id=command.id or secrets.token_hex(8))
    async with Client(address, space=space, name="edgectl") as client:
        asking = asyncio.create_task(
            client.ask(node, command, timeout_s=timeout_s, on_progress=telling.say), name="edgectl.call"
        )
        loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGINT, interrupted.set)
        waiting = asyncio.create_task(interrupted.wait(), name="edgectl.interrupted")
        try:
            await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            loop.remove_signal_handler(signal.SIGINT)  # a second Ctrl-C ends us at once
        if asking.done():
            return asking.result()
        telling.clear()
        try:
            raise InterruptedCallError(await _give_up(client, node, command, asking))
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def cancel(address: BrokerAddress, space: TopicSpace, node: str, identifier: str, *, timeout_s: float) -> str:
    """Why it is not cancelled; "" when it is."""
    async with Client(address, space=space, name="edgectl") as client:
        return await client.cancel(node, identifier, timeout_s=timeout_s)


async def _give_up(client: Client, node: str, command: Command, asking: "asyncio.Task[Result]") -> str:
    """What became of the call."""
    what = f"{command.function} of {node} (id {command.id})"
    try:
        why = await client.cancel(node, command.id, timeout_s=CANCELLED_S)
    except EdgewrightError as error:
        reason = error if isinstance(error, CallError) else f"{node} does not answer"
        return f"interrupted; {what} may go on: {reason}"
    if why:
        return f"interrupted; {what} was not cancelled: {why}"
    await asyncio.wait({asking}, timeout=CANCELLED_S)
    if asking.done() and asking.exception() is None and asking.result().state is CommandState.CANCELLED:
        return f"interrupted; {what} is cancelled"
    return f"interrupted; {what} is being cancelled"
