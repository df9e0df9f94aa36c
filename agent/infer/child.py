"""An engine in a child process, so that a crash or a hang of its driver costs one frame and not the agent."""

import logging
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import numpy as np

from agent.infer.child_protocol import (
    MESSAGE_BYTES_MAX,
    EngineRequest,
    Kind,
    Ready,
    Reason,
    pack,
    read_heartbeat,
    ready_from_bytes,
    refusal_from_bytes,
    request_to_bytes,
    tensor_views,
    unpack,
)
from agent.infer.engine import EngineError, EngineLostError, EngineUnavailableError, ModelError, Tensor
from agent.infer.litert import wrong_tensor

_log = logging.getLogger(__name__)
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_NOISE = ("INFO", "WARNING: Logging before")


class ChildEngine:
    """The Engine protocol over one child process. A lost child is killed and reaped before the error is raised."""

    def __init__(
        self, request: EngineRequest, *, load_timeout_s: float, invoke_timeout_s: float, heartbeat_timeout_s: float
    ) -> None:
        """Starts the child and waits until it is ready.

        Raises EngineUnavailableError (refused, crashed or hung while loading) or ModelError.
        """
        self.name = request.name
        self._invoke_timeout_s = invoke_timeout_s
        self._heartbeat_timeout_s = heartbeat_timeout_s
        # A compiled model holds the GIL while it runs, so its child cannot beat meanwhile.
        self._beats_while_running = not request.accelerator
        self._seq = 0
        self._process = _Process(request.name)
        try:
            self._send_request(request)
            ready, memory_fd = self._await_ready(load_timeout_s)
        except BaseException:
            self._process.end(grace_s=0)
            raise
        try:
            self._memory = memoryview(mmap.mmap(memory_fd, 0))
        finally:
            os.close(memory_fd)
        self.input, self.outputs, self.warmup_ms = ready.input, ready.outputs, ready.warmup_ms
        self._tensor, *self._results = tensor_views(self._memory, (self.input, *self.outputs))
        self._last_sign_ns = time.monotonic_ns()

    @property
    def pid(self) -> int:
        return self._process.pid

    def infer(self, tensor: Tensor) -> list[Tensor]:
        if tensor.shape != self.input.shape or tensor.dtype != self.input.dtype:
            raise wrong_tensor(self.name, self.input, tensor)
        if self._process.ended:
            raise EngineLostError(f"{self.name} is closed")
        self._check_heartbeat()
        np.copyto(self._tensor, tensor)
        self._seq += 1
        try:
            self._process.send(pack(Kind.RUN, self._seq))
        except OSError:
            raise self._lost("its process died", dying=True) from None
        kind, seq, body = self._await_reply()
        self._last_sign_ns = time.monotonic_ns()
        if seq != self._seq or kind not in (Kind.DONE, Kind.FAILED):
            raise self._lost(f"it answered {kind.name} {seq} to run {self._seq}")
        if kind is Kind.FAILED:
            raise EngineError(body.decode(errors="replace"))
        return [result.copy() for result in self._results]

    def close(self) -> None:
        """Asks the child to end, and kills it after a second."""
        self._process.end(grace_s=1.0)

    def _send_request(self, request: EngineRequest) -> None:
        with suppress(OSError):  # a child that died at once: _await_ready says so
            self._process.send(pack(Kind.REQUEST, 0, request_to_bytes(request)))

    def _await_ready(self, load_timeout_s: float) -> tuple[Ready, int]:
        message, fds = self._process.receive(time.monotonic() + load_timeout_s)
        if message is None:
            self._process.kill()
            raise EngineUnavailableError(
                f"{self.name} did not load within {load_timeout_s:g} s and was killed",
                hint="check its driver and device, or raise inference.load_timeout_s",
            )
        if not message:
            raise EngineUnavailableError(
                f"{self.name} died while loading: {self._process.obituary()}", hint="check its driver and device"
            )
        kind, _, body = unpack(message)
        if kind is Kind.REFUSED:
            reason, what, hint = refusal_from_bytes(body)
            raise (ModelError if reason is Reason.MODEL else EngineUnavailableError)(what, hint=hint)
        return ready_from_bytes(body), fds[0]

    def _await_reply(self) -> tuple[Kind, int, bytes]:
        deadline = time.monotonic() + self._invoke_timeout_s
        while True:
            now = time.monotonic()
            if now >= deadline:
                raise self._lost(f"it gave no result within {self._invoke_timeout_s:g} s and was killed")
            message, _ = self._process.receive(min(deadline, now + self._heartbeat_timeout_s / 2))
            if message:
                return unpack(message)
            if message == b"":
                raise self._lost("its process died", dying=True)
            if self._beats_while_running:
                self._check_heartbeat()

    def _check_heartbeat(self) -> None:
        sign_ns = max(read_heartbeat(self._memory), self._last_sign_ns)
        silent_s = (time.monotonic_ns() - sign_ns) / 1e9
        if silent_s > self._heartbeat_timeout_s:
            raise self._lost(f"it gave no heartbeat for {silent_s:.1f} s and was killed")

    def _lost(self, why: str, *, dying: bool = False) -> EngineLostError:
        if dying:
            # It closed its socket on the way out: its own end says more than our kill would.
            self._process.wait(1.0)
        self._process.end(grace_s=0)
        return EngineLostError(f"{self.name} is lost: {why} ({self._process.obituary()})")


class _Process:
    """The child, its control socket, its lifeline, and the thread that reads what it prints."""

    def __init__(self, name: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lifeline_read, self._lifeline = os.pipe()
        self._control = ours
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)
        self.ended = False
        path = os.pathsep.join(p for p in (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")) if p)
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "agent.infer.child_main", str(theirs.fileno()), str(lifeline_read)],
                pass_fds=(theirs.fileno(), lifeline_read),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
        except OSError as error:
            ours.close()
            os.close(self._lifeline)
            raise EngineUnavailableError(f"the process of {name} cannot be started: {error}") from error
        finally:
            theirs.close()
            os.close(lifeline_read)
        self._printed: deque[str] = deque(maxlen=20)
        self._drain = threading.Thread(target=self._read_stderr, name=f"infer-child-{name}", daemon=True)
        self._drain.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def send(self, message: bytes) -> None:
        self._control.send(message)

    def receive(self, deadline: float) -> tuple[bytes | None, list[int]]:
        """The next message with its descriptors; b"" when the child is gone, None at the deadline (monotonic s)."""
        # Rounded up: polling with 0 ms close to the deadline would spin.
        timeout_ms = max(0, int((deadline - time.monotonic()) * 1000) + 1)
        if not self._poll.poll(timeout_ms):
            return None, []
        try:
            message, fds, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES_MAX, 1)
        except ConnectionError:
            return b"", []
        return message, fds

    def kill(self) -> None:
        self._popen.kill()

    def wait(self, timeout_s: float) -> None:
        """Waits for the child to end, no longer than that."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout_s)

    def end(self, grace_s: float) -> None:
        """Ends and reaps the child; safe to repeat."""
        if self.ended:
            return
        self.ended = True
        if grace_s > 0:
            with suppress(OSError):
                self._control.send(pack(Kind.QUIT))
            self.wait(grace_s)
        self._popen.kill()
        try:
            self._popen.wait(5)
        except subprocess.TimeoutExpired:
            _log.error("process %d of an engine ignores SIGKILL: its driver is stuck in the kernel", self._popen.pid)
        self._control.close()
        os.close(self._lifeline)
        # A grandchild may hold the pipe open; the reader is a daemon and ends with it.
        self._drain.join(0.5)

    def obituary(self) -> str:
        """How the child ended and the last thing it printed."""
        self.wait(1.0)
        code = self._popen.poll()
        self._drain.join(0.5)
        if code is None:
            how = "still running"
        elif code < 0:
            how = f"ended by {signal.Signals(-code).name}"
        else:
            how = f"exit status {code}"
        said = [line for line in self._printed if not line.startswith(_NOISE)]
        return f"{how}, last words: {said[-1][:300]}" if said else how

    def _read_stderr(self) -> None:
        assert self._popen.stderr is not None
        with self._popen.stderr as pipe:
            for raw in iter(lambda: pipe.readline(4096), b""):
                line = raw.decode(errors="replace").rstrip()
                if line:
                    self._printed.append(line)
                    _log.debug("engine process %d: %s", self._popen.pid, line)
