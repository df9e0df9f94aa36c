"""Named points in a process at which it kills itself with -9: wrapped from outside, production code knows nothing.

A point is given as `name:n`, the n-th time it is reached.
"""

import os
import signal
import sqlite3
from collections.abc import Callable
from typing import Any


def die() -> None:
    """The real thing: no handler, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: Any, name: str, at: int, *, after: bool = False) -> None:
    """`owner.name` kills the process before, or `after`, its `at`-th call."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at and not after:
            die()
        result = original(*args, **kwargs)
        if calls == at and after:
            die()
        return result

    setattr(owner, name, wrapped)


def wrap_async(owner: Any, name: str, at: int, *, after: bool = False) -> None:
    """The same for a coroutine function: `after` is when it has returned."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls
        if mine == at and not after:
            die()
        result = await original(*args, **kwargs)
        if mine == at and after:
            die()
        return result

    setattr(owner, name, wrapped)


def _agent(name: str, at: int) -> None:
    from agent.link.sender import Sender
    from agent.outbox.file import OutboxFile

    match name:
        case "append":  # committed, not yet handed to the link
            wrap(Sender, "committed", at)
        case "publish":  # handed to the link, no PUBACK yet
            wrap(Sender, "committed", at, after=True)
        case "puback":  # the broker has it, no answer of the coordinator yet
            wrap(Sender, "puback", at)
        case "ack":  # the coordinator's answer is here, nothing freed
            wrap_async(Sender, "answer", at)
        case "acked":  # freed
            wrap_async(Sender, "answer", at, after=True)
        case "commit":  # inside the writer's transaction
            wrap(OutboxFile, "_append", at, after=True)
        case "start":  # the file is being opened
            wrap(OutboxFile, "__init__", 1, after=at > 1)
        case "stop":  # the file is being closed
            wrap(OutboxFile, "close", 1, after=at > 1)
        case _:
            raise SystemExit(f"no point {name} in the agent")


def _coordinator(name: str, at: int) -> None:
    from coordinator.store.sqlite import SqliteStore

    match name:
        case "received":  # messages taken, nothing committed
            wrap_async(SqliteStore, "commit", at)
        case "committed":  # committed, not answered
            wrap_async(SqliteStore, "commit", at, after=True)
        case "transaction":  # written, not committed
            wrap(SqliteStore, "_quarantine", at, after=True)
        case "refuse":  # a disk that refuses every n-th commit, at its very end
            refuse_commits(SqliteStore, at)
        case "start":
            wrap(SqliteStore, "__init__", 1, after=at > 1)
        case "stop":
            wrap(SqliteStore, "close", 1, after=at > 1)
        case _:
            raise SystemExit(f"no point {name} in the coordinator")


def refuse_commits(store: Any, every: int) -> None:
    """All the writing is done, then the disk refuses: nothing of it may be answered."""
    original: Callable[..., Any] = store._quarantine
    calls = 0

    def refused(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        found = original(*args, **kwargs)
        if calls % every == 0:
            raise sqlite3.OperationalError("database or disk is full (on purpose)")
        return found

    store._quarantine = refused


AGENT_POINTS = ("append", "publish", "puback", "ack", "acked", "commit", "start", "stop")
COORDINATOR_POINTS = ("received", "committed", "transaction", "start", "stop")


def arm_agent(point: str) -> None:
    """Empty: no point."""
    if point:
        name, _, at = point.partition(":")
        _agent(name, int(at))


def arm_coordinator(point: str) -> None:
    """Empty: no point."""
    if point:
        name, _, at = point.partition(":")
        _coordinator(name, int(at))
