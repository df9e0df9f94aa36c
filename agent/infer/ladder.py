"""The fallback ladder: which engines a bundle can run on, when to step down, and when to try the better one again.

    rung 0  edgetpu   ──lost or failing──►  rung 1  gpu   ──►  rung 2  cpu (at a lower rate if so configured)
      ▲                                                           │
      └───────── opened again in the background after a back-off ─┘

Rules kept here:
- a rung that was lost or refused is tried again after first, 2 x first, 4 x first … seconds, at most `max`,
  spread by +/- 25 %;
- the wait starts anew only after the rung ran for `stable_s`: opening alone proves nothing;
- a rung whose model does not fit is never tried again;
- only a better rung than the current one is tried; when none is open, any.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from agent.infer.bundle import Bundle, Target, Variant
from agent.infer.engine import EngineUnavailableError
from agent.infer.settings import RUNGS, InferSettings


class RungKind(StrEnum):
    DELEGATE = "delegate"  # an external delegate library, in a child process
    EDGETPU = "edgetpu"  # the Edge TPU delegate, in a child process
    NPU = "npu"  # LiteRT's compiled model, in a child process
    GPU = "gpu"  # a GPU delegate or LiteRT's compiled model, in a child process
    CPU = "cpu"  # the interpreter, in this process


@dataclass(frozen=True, slots=True)
class Rung:
    kind: RungKind
    variant: Variant
    rate_fps: float = 0.0  # most frames a second here; 0: no limit


# Which model file serves a rung, best first. Only the Edge TPU needs a file of its own.
_VARIANTS = {
    RungKind.DELEGATE: (Target.NPU, Target.GPU, Target.CPU),
    RungKind.EDGETPU: (Target.EDGETPU,),
    RungKind.NPU: (Target.NPU, Target.CPU),
    RungKind.GPU: (Target.GPU, Target.CPU),
    RungKind.CPU: (Target.CPU,),
}


def build_rungs(bundle: Bundle, settings: InferSettings) -> tuple[Rung, ...]:
    """The rungs this bundle has under these settings, best first. Raises EngineUnavailableError for none."""
    rungs: list[Rung] = []
    missing: list[str] = []
    for kind in _wanted(bundle, settings):
        variant = next((v for t in _VARIANTS[kind] if (v := bundle.variant(t))), None)
        if variant is None:
            missing.append(f"{kind}: the bundle has no variant for it")
            continue
        stands_in = kind is RungKind.CPU and bool(rungs)
        rungs.append(Rung(kind, variant, settings.fallback_fps if stands_in else 0.0))
    if not rungs:
        raise EngineUnavailableError(
            f"bundle {bundle.name} has no engine here: " + ("; ".join(missing) or "inference.rungs is empty"),
            hint="add a cpu variant to the bundle or another engine to inference.rungs",
        )
    return tuple(rungs)


def _wanted(bundle: Bundle, settings: InferSettings) -> list[RungKind]:
    """What the config asks for, or else what the bundle was made for."""
    if settings.rungs:
        return [RungKind(r) for r in settings.rungs]
    return [
        RungKind(r)
        for r in RUNGS
        if (settings.delegate_library if r == "delegate" else bundle.variant(Target(r)) is not None)
    ]


@dataclass(frozen=True, slots=True)
class RetryRule:
    failures_max: int = 5
    failure_window_s: float = 30.0
    first_s: float = 5.0
    max_s: float = 300.0
    stable_s: float = 60.0

    @staticmethod
    def of(settings: InferSettings) -> "RetryRule":
        return RetryRule(
            settings.failures_max,
            settings.failure_window_s,
            settings.retry_first_s,
            settings.retry_max_s,
            settings.stable_s,
        )


@dataclass(slots=True)
class _State:
    attempts: int = 0  # losses and refusals since it last ran stably
    retry_at_s: float = 0.0
    excluded: bool = False
    opened_at_s: float = 0.0


class LadderPolicy:
    """Decides by rung numbers (0 is best) and times; opens and closes nothing. `jitter` is 0..1, from the caller."""

    def __init__(self, rungs: int, rule: RetryRule) -> None:
        self._rule = rule
        self._states = [_State() for _ in range(rungs)]
        self._failures: deque[float] = deque(maxlen=rule.failures_max)
        self.current: int | None = None

    def opened(self, rung: int, now_s: float) -> None:
        """`rung` is open and is the current one from now on."""
        self.current = rung
        self._states[rung].opened_at_s = now_s
        self._failures.clear()

    def refused(self, rung: int, now_s: float, jitter: float, *, for_good: bool = False) -> None:
        """`rung` could not be opened; `for_good` when trying again cannot help."""
        state = self._states[rung]
        state.excluded = state.excluded or for_good
        self._postpone(state, now_s, jitter)

    def lost(self, now_s: float, jitter: float) -> Sequence[int]:
        """The current rung is gone. Returns the rungs to open instead, in order of preference."""
        if self.current is None:
            return ()
        gone = self.current
        state = self._states[gone]
        if now_s - state.opened_at_s >= self._rule.stable_s:
            state.attempts = 0
        self._postpone(state, now_s, jitter)
        self.current = None
        return [r for r in range(gone + 1, len(self._states)) if not self._states[r].excluded]

    def failed(self, now_s: float) -> bool:
        """One inference failed. True when the current rung should be given up for one below it."""
        self._failures.append(now_s)
        full = len(self._failures) == self._rule.failures_max
        if self.current is None or not full or now_s - self._failures[0] > self._rule.failure_window_s:
            return False
        return any(not s.excluded for s in self._states[self.current + 1 :])

    def wants(self, now_s: float) -> int | None:
        """The rung to try opening now, better than the current one; None when nothing is due."""
        better = range(len(self._states) if self.current is None else self.current)
        return next((r for r in better if not self._states[r].excluded and self._states[r].retry_at_s <= now_s), None)

    def retry_at_s(self, rung: int) -> float:
        return self._states[rung].retry_at_s

    def _postpone(self, state: _State, now_s: float, jitter: float) -> None:
        wait_s = min(self._rule.first_s * 2 ** min(state.attempts, 30), self._rule.max_s)
        state.attempts += 1
        state.retry_at_s = now_s + wait_s * (0.75 + 0.5 * jitter)
