"""Whether a model that has just been swapped in keeps its place. Pure; times are monotonic seconds."""

from dataclasses import dataclass

from agent.infer.settings import RUNGS


@dataclass(frozen=True, slots=True)
class Probation:
    """From the swap on: counts as they were then, and the engine that it was opened on."""

    until_s: float
    engine: str
    frames: int
    failures: int


def complaint(since: Probation, engine: str, failures: int, failures_max: int) -> str:
    """Why it does not keep its place; empty while all is well."""
    if failures - since.failures >= failures_max:
        return f"{failures - since.failures} frames failed"
    if not engine:
        return f"its engine {since.engine} was lost, and none runs it any more"
    if since.engine in RUNGS and engine in RUNGS and RUNGS.index(engine) > RUNGS.index(since.engine):
        return f"its engine {since.engine} was lost; {engine} stands in"
    return ""
