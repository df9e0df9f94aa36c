"""An action that runs a program: no shell, the event as JSON on its input, an environment of its own."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

from agent.actions.event import LocalEvent
from agent.actions.runner import ActionError

TAIL_BYTES = 2000  # of what it said on stderr
_KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")  # of our environment; the rest may hold secrets
_END_S = 5.0


class ProgramRunner:
    """Program and all it started must be done within the action's time; then its process group is killed."""

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self._command = command
        self.limit_s: float | None = timeout_s

    def open(self) -> None:
        """Nothing is held between two events."""

    async def run(self, event: LocalEvent) -> str:
        """Raises ActionError when it cannot be started, or ends with another status than 0."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(event),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ActionError(f"{self._command[0]} cannot be started: {error}") from error
        try:
            tail, _ = await asyncio.gather(_tail(process.stderr), _feed(process.stdin, event.json().encode()))
            status = await process.wait()
        except BaseException:
            await _kill(process)
            raise
        said = tail.decode("utf-8", "replace").strip()
        if status:
            raise ActionError(f"{self._command[0]} ended with status {status}" + (f": {said}" if said else ""))
        return "status 0" + (f": {said}" if said else "")

    def close(self) -> None:
        """Nothing is held between two events."""


async def _kill(process: asyncio.subprocess.Process) -> None:
    """The whole group: the program's own children too, also when the program itself has ended.

    Its number cannot be another's while it runs, or while one of the group does, which holds its stderr open.
    """
    if process.returncode is not None and (process.stderr is None or process.stderr.at_eof()):
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            await process.wait()
            while process.stderr is not None and await process.stderr.read(4096):
                continue  # to its end, which closes the pipe


async def _feed(stdin: asyncio.StreamWriter | None, payload: bytes) -> None:
    assert stdin is not None
    try:
        stdin.write(payload)
        await stdin.drain()
        stdin.close()
        await stdin.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        return  # it does not read it, and need not


async def _tail(stderr: asyncio.StreamReader | None) -> bytes:
    assert stderr is not None
    tail = b""
    while chunk := await stderr.read(4096):
        tail = (tail + chunk)[-TAIL_BYTES:]
    return tail


def _environment(event: LocalEvent) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    named = {f"EDGE_{k.upper()}": str(v).replace("\0", "") for k, v in event.values().items() if v and k != "json"}
    return kept | named
