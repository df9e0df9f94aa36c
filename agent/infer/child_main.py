"""The child process of one engine: `python -m agent.infer.child_main CONTROL_FD LIFELINE_FD`."""

import fcntl
import mmap
import os
import signal
import socket
import sys
import threading
import time

from agent.infer.child_protocol import (
    MESSAGE_BYTES_MAX,
    TEXT_MAX,
    EngineRequest,
    Kind,
    Ready,
    Reason,
    memory_bytes,
    pack,
    ready_to_bytes,
    refusal_to_bytes,
    request_from_bytes,
    tensor_views,
    unpack,
    write_heartbeat,
)
from agent.infer.compiled import CompiledEngine
from agent.infer.engine import EngineError, EngineUnavailableError, ModelError
from agent.infer.litert import LiteRtEngine


def main(control_fd: int, lifeline_fd: int) -> int:
    die_with_parent(lifeline_fd)
    # Ctrl-C and a service manager reach the whole group; when this process ends is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.dup2(2, 1)  # a delegate that prints must not surprise anybody
    control = socket.socket(fileno=control_fd)
    _, _, body = unpack(control.recv(MESSAGE_BYTES_MAX))
    request = request_from_bytes(body)
    try:
        engine = open_engine(request)
    except (EngineUnavailableError, ModelError) as error:
        reason = Reason.MODEL if isinstance(error, ModelError) else Reason.UNAVAILABLE
        control.send(pack(Kind.REFUSED, 0, refusal_to_bytes(reason, error.what, error.hint)))
        return 1
    specs = (engine.input, *engine.outputs)
    memory_fd = os.memfd_create("edgewright-tensors")
    os.ftruncate(memory_fd, memory_bytes(specs))
    memory = memoryview(mmap.mmap(memory_fd, 0))
    start_heartbeat(memory, request.heartbeat_s)
    ready = Ready(engine.input, engine.outputs, engine.warmup_ms)
    socket.send_fds(control, [pack(Kind.READY, 0, ready_to_bytes(ready))], [memory_fd])
    os.close(memory_fd)

    tensor, *outputs = tensor_views(memory, specs)
    while message := control.recv(MESSAGE_BYTES_MAX):
        kind, seq, _ = unpack(message)
        if kind is Kind.QUIT:
            break
        try:
            for view, result in zip(outputs, engine.infer(tensor), strict=True):
                if view.shape != result.shape:
                    raise EngineError(f"an output changed its shape from {view.shape} to {result.shape}")
                view[...] = result
        except EngineError as error:
            control.send(pack(Kind.FAILED, seq, error.what[:TEXT_MAX].encode()))
        else:
            control.send(pack(Kind.DONE, seq))
    engine.close()
    return 0


def open_engine(request: EngineRequest) -> LiteRtEngine | CompiledEngine:
    """Raises ModelError or EngineUnavailableError."""
    if request.accelerator:
        return CompiledEngine.open(
            request.model_path,
            accelerator=request.accelerator,
            name=request.name,
            warmup_runs=request.warmup_runs,
        )
    return LiteRtEngine.open(
        request.model_path,
        name=request.name,
        threads=request.threads,
        delegate_path=request.delegate_path,
        delegate_options=request.delegate_options,
        warmup_runs=request.warmup_runs,
    )


def die_with_parent(lifeline_fd: int) -> None:
    """Has the kernel kill this process when the other end of the pipe closes, whatever it is stuck in.

    The parent-death signal of prctl would not do: it follows the *thread* that started the child, and engines are
    opened by threads that end.
    """
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)
    os.set_blocking(lifeline_fd, False)
    try:
        closed_already = os.read(lifeline_fd, 1) == b""
    except BlockingIOError:
        closed_already = False
    if closed_already:
        sys.exit(1)


def start_heartbeat(memory: memoryview, heartbeat_s: float) -> None:
    write_heartbeat(memory, time.monotonic_ns())

    def beat() -> None:
        while True:
            write_heartbeat(memory, time.monotonic_ns())
            time.sleep(heartbeat_s)

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
