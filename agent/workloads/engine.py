"""podman or docker, by their command: the one file that starts them. Every call has a time limit and a size limit."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import PurePath

from agent.workloads.errors import NotNowError, WorkloadError

OUTPUT_BYTES_MAX = 4 * 2**20
_TAIL_CHARS = 400
_END_S = 5.0
# Of our environment. The rest may hold secrets, or talk to systemd in our name.
_KEPT = (
    "PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME",
    "DBUS_SESSION_BUS_ADDRESS", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "REGISTRY_AUTH_FILE", "CONTAINER_HOST",
    "DOCKER_HOST", "DOCKER_CONFIG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
_COMMAND_STATUSES = (126, 127)  # of `run`: the container's own command cannot be run, or is not there


def said_of(enabled: bool, program: str) -> str:
    """As a birth has it in `hardware.containers`: podman, docker, or "" where this node runs no containers."""
    if not enabled or shutil.which(program) is None:
        return ""
    return "docker" if _is_docker(program) else "podman"


def _is_docker(program: str) -> bool:
    return "docker" in PurePath(program).name


class EngineError(NotNowError):
    """The engine did not do it, or is not there."""


class Engine:
    """Calls may go on side by side; a cancelled one ends its process."""

    def __init__(self, program: str, args: tuple[str, ...], timeout_s: float) -> None:
        self._program = program
        self._args = args
        self._timeout_s = timeout_s

    @property
    def is_docker(self) -> bool:
        return _is_docker(self._program)

    async def call(self, *words: str, timeout_s: float | None = None, both: bool = False) -> bytes:
        """What it said on stdout (`both`: and on stderr, as it came).

        Raises EngineError, and WorkloadError where a container's own command cannot be run.
        """
        limit_s, what = timeout_s or self._timeout_s, f"{self._program} {words[0]}"
        try:
            process = await asyncio.create_subprocess_exec(
                self._program, *self._args, *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT if both else asyncio.subprocess.PIPE,
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                cwd=tempfile.gettempdir(),  # podman's monitor leaves a file `oom` where it was started
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise EngineError(
                f"{what}: cannot be started: {error}", hint="install it, or set workloads.engine"
            ) from error
        try:
            async with asyncio.timeout(limit_s):
                said, complaint = await asyncio.gather(_all_of(process.stdout), _all_of(process.stderr))
                status = await process.wait()
        except TimeoutError as error:
            await _kill(process)
            raise EngineError(f"{what}: no answer within {limit_s:g} s") from error
        except BaseException:
            await _kill(process)
            raise
        if status:
            text = _shortened((complaint or said).decode("utf-8", "replace"))
            if words[0] == "run" and status in _COMMAND_STATUSES:
                raise WorkloadError(f"its command cannot be run: {text}")
            raise EngineError(f"{what}: {text or f'status {status}'}")
        return said


async def wait_for_end(pid: int, timeout_s: float) -> bool:
    """Waits until the process has ended, at most so long. False: it may still run, or cannot be watched."""
    try:
        watched = os.pidfd_open(pid)
    except OSError as error:
        if isinstance(error, ProcessLookupError):
            return True
        await asyncio.sleep(timeout_s)
        return False
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(watched, over.set)
        async with asyncio.timeout(timeout_s):
            await over.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(watched)
        os.close(watched)
    return True


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    """To its end; beyond the limit the newest stays."""
    said = b""
    while stream is not None and (chunk := await stream.read(65536)):
        said = (said + chunk)[-OUTPUT_BYTES_MAX:]
    return said


def _shortened(text: str) -> str:
    """The last line that says something is the error; what came before are warnings and retries."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_TAIL_CHARS] if lines else ""


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            await process.wait()
