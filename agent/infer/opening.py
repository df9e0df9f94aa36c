"""Opens the engine that a rung or a request describes."""

from agent.infer.child import ChildEngine
from agent.infer.child_protocol import EngineRequest
from agent.infer.engine import Engine
from agent.infer.ladder import Rung, RungKind
from agent.infer.litert import LiteRtEngine
from agent.infer.settings import InferSettings


def request_for(rung: Rung, settings: InferSettings) -> EngineRequest:
    """What to open for this rung, with this machine's libraries and devices."""
    library, options, accelerator = "", {}, ""
    match rung.kind:
        case RungKind.DELEGATE:
            library, options = settings.delegate_library, settings.delegate_options
        case RungKind.EDGETPU:
            library = settings.edgetpu_library
            options = {"device": settings.edgetpu_device} if settings.edgetpu_device else {}
        case RungKind.GPU if settings.gpu_library:
            library = settings.gpu_library
        case RungKind.GPU | RungKind.NPU:
            accelerator = rung.kind.value
        case RungKind.CPU:
            pass
    return EngineRequest(
        name=f"delegate:{library.rpartition('/')[2]}" if rung.kind is RungKind.DELEGATE else rung.kind.value,
        model_path=str(rung.variant.path),
        threads=settings.threads,
        delegate_path=library,
        delegate_options=tuple(options.items()),
        accelerator=accelerator,
        warmup_runs=settings.warmup_runs,
        heartbeat_s=settings.heartbeat_s,
    )


def open_rung(rung: Rung, settings: InferSettings) -> Engine:
    """The CPU in this process, everything else in a child. Raises EngineUnavailableError or ModelError."""
    request = request_for(rung, settings)
    if rung.kind is RungKind.CPU:
        return LiteRtEngine.open(
            request.model_path, name="litert-cpu", threads=request.threads, warmup_runs=request.warmup_runs
        )
    return ChildEngine(
        request,
        load_timeout_s=settings.load_timeout_s,
        invoke_timeout_s=settings.invoke_timeout_s,
        heartbeat_timeout_s=settings.heartbeat_timeout_s,
    )
