"""Opens the engine a request describes, in this process."""

from agent.infer.child_protocol import EngineRequest
from agent.infer.compiled import CompiledEngine
from agent.infer.litert import LiteRtEngine


def open_here(request: EngineRequest) -> LiteRtEngine | CompiledEngine:
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
