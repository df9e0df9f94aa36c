"""Runs a bundle on the best engine that works, steps down when it fails and up when it is back.

Used from the thread that owns inference. A frame in hand when an engine is lost is run again on the next one; a
better engine is opened by a background thread and takes over between two frames.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.infer.bundle import Bundle, Target
from agent.infer.engine import (
    Engine,
    EngineError,
    EngineLostError,
    EngineUnavailableError,
    ModelError,
    Tensor,
    TensorSpec,
)
from agent.infer.ladder import LadderPolicy, RetryRule, Rung, build_rungs
from agent.infer.opening import open_rung
from agent.infer.quantised import dequantise, quantise
from agent.infer.settings import InferSettings
from runtime.errors import ConfigError

_log = logging.getLogger(__name__)
LATENCY_WINDOW = 512
"""Inferences that the latency figures look back on."""


@dataclass(frozen=True, slots=True)
class EngineChanged:
    """A step on the ladder. `rung_from` or `rung_to` is empty where no engine runs."""

    bundle: str
    rung_from: str
    rung_to: str
    reason: str
    up: bool
    rate_fps: float = 0.0  # most frames a second on the new rung; 0: no limit


@dataclass(frozen=True, slots=True)
class EngineStats:
    rung: str  # empty when no engine runs
    invokes: int
    failures: int
    latency_ms_p50: float  # over the last LATENCY_WINDOW inferences; 0 before the first
    latency_ms_p99: float
    latency_ms_p95: float = 0.0


class EngineHost:
    """`open` first; then `infer` for each frame; `close` at the end. All from one thread at a time."""

    def __init__(
        self,
        bundle: Bundle,
        settings: InferSettings,
        announce: Callable[[EngineChanged], None],
        *,
        open_engine: Callable[[Rung, InferSettings], Engine] = open_rung,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Raises ConfigError (impossible settings) or EngineUnavailableError (the bundle has no engine here)."""
        if mistakes := settings.mistakes():
            raise ConfigError("inference settings: " + "; ".join(mistakes), hint="correct [inference] in agent.toml")
        self._bundle, self._settings, self._announce = bundle, settings, announce
        self._open_engine, self._clock, self._jitter = open_engine, clock, jitter
        self.rungs = build_rungs(bundle, settings)
        self._policy = LadderPolicy(len(self.rungs), RetryRule.of(settings))
        self._reasons: dict[int, str] = {}
        self._engine: Engine | None = None
        self._specs: tuple[TensorSpec, tuple[TensorSpec, ...]] | None = None
        self._same_format = True  # the engine's tensors are stored as those of the first one
        self._opening: _Opening | None = None
        self._latencies_ms = np.zeros(LATENCY_WINDOW, np.float32)
        self._invokes = self._failures = 0
        self.last_invoke_ms = 0.0

    @property
    def rung(self) -> Rung | None:
        current = self._policy.current
        return None if current is None else self.rungs[current]

    @property
    def is_open(self) -> bool:
        """Whether an engine runs now."""
        return self._engine is not None

    @property
    def is_opening(self) -> bool:
        """Whether a better engine is being opened, or waits to be taken over by the next `infer`."""
        return self._opening is not None

    @property
    def input(self) -> TensorSpec:
        """The tensor `infer` takes; it stays the same on every rung."""
        return self._reference()[0]

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensors `infer` returns; they stay the same on every rung."""
        return self._reference()[1]

    def open(self) -> None:
        """Opens the best rung that works. Raises EngineUnavailableError naming every rung and why."""
        self._open_first(range(len(self.rungs)))
        if self._policy.current:
            best, now = self.rungs[0].kind, self.rungs[self._policy.current]
            self._tell(best, now.kind, self._reasons[0], up=False, rate_fps=now.rate_fps)

    def infer(self, tensor: Tensor) -> list[Tensor]:
        """The raw outputs, as `outputs` states them; on the way steps down or up as needed.

        Raises EngineError (this frame failed), EngineUnavailableError (no engine runs; one is being looked for)
        or ModelError (the tensor is not what `input` states).
        """
        self._step_up()
        while True:
            if self._engine is None:
                raise self._nothing_works()
            started = time.perf_counter()
            try:
                outputs = self._run(self._engine, tensor)
            except EngineLostError as error:
                self._failures += 1
                self._step_down(str(error))
            except EngineError as error:
                self._failures += 1
                if not self._policy.failed(self._clock()):
                    raise
                self._step_down(f"{self._settings.failures_max} failures, the last: {error.what}")
            else:
                self._count((time.perf_counter() - started) * 1e3)
                return outputs

    def close(self) -> None:
        """Ends the engine; one that is still being opened is closed when it is ready. The host is not used again."""
        if self._opening is not None:
            self._opening.abandon()
            self._opening = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def stats(self) -> EngineStats:
        """Figures up to now; may be asked from any thread."""
        n = min(self._invokes, LATENCY_WINDOW)
        p50, p95, p99 = np.percentile(self._latencies_ms[:n], (50, 95, 99)) if n else (0.0, 0.0, 0.0)
        rung = self.rung
        kind = rung.kind if rung else ""
        return EngineStats(kind, self._invokes, self._failures, float(p50), float(p99), float(p95))

    def _count(self, latency_ms: float) -> None:
        self._latencies_ms[self._invokes % LATENCY_WINDOW] = latency_ms
        self._invokes += 1
        self.last_invoke_ms = latency_ms

    def _run(self, engine: Engine, tensor: Tensor) -> list[Tensor]:
        if self._same_format:
            return engine.infer(tensor)
        # A twin of another number format: through real values and back.
        given, returned = self._reference()
        outputs = engine.infer(convert(tensor, given, engine.input))
        return [convert(o, a, b) for o, a, b in zip(outputs, engine.outputs, returned, strict=True)]

    def _step_down(self, reason: str) -> None:
        left = self.rung
        assert left is not None
        current = self._policy.current
        assert current is not None
        below = self._policy.lost(self._clock(), self._jitter())
        self._reasons[current] = reason
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        try:
            self._open_first(below)
        except EngineUnavailableError:
            self._tell(left.kind, "", reason, up=False)
            return
        now = self.rung
        assert now is not None
        self._tell(left.kind, now.kind, reason, up=False, rate_fps=now.rate_fps)

    def _step_up(self) -> None:
        """Takes over an engine that was opened in the background, or starts opening one that is due."""
        opening = self._opening
        if opening is None:
            wanted = self._policy.wants(self._clock())
            if wanted is not None:
                self._opening = _Opening(wanted, lambda: self._open_engine(self.rungs[wanted], self._settings))
            return
        if not opening.done.is_set():
            return
        self._opening = None
        error = opening.error
        if opening.engine is not None:
            error = self._misfit(opening.engine)
        if error is not None or opening.engine is None:
            if opening.engine is not None:
                opening.engine.close()
            self._note_refusal(opening.rung, error)
            return
        before, old = self.rung, self._engine
        self._adopt(opening.rung, opening.engine)
        if old is not None:
            old.close()
        now = self.rungs[opening.rung]
        self._tell(before.kind if before else "", now.kind, "it works again", up=True, rate_fps=now.rate_fps)

    def _open_first(self, candidates: Sequence[int]) -> None:
        """Opens the first candidate that works. Raises EngineUnavailableError."""
        for index in candidates:
            try:
                engine = self._open_engine(self.rungs[index], self._settings)
            except (EngineUnavailableError, ModelError) as error:
                self._note_refusal(index, error)
                continue
            if misfit := self._misfit(engine):
                engine.close()
                self._note_refusal(index, misfit)
                continue
            self._adopt(index, engine)
            return
        raise self._nothing_works()

    def _adopt(self, index: int, engine: Engine) -> None:
        self._engine = engine
        if self._specs is None:
            self._specs = (engine.input, engine.outputs)
        given, returned = self._specs
        self._same_format = all(
            _format(a) == _format(b) for a, b in zip((given, *returned), (engine.input, *engine.outputs), strict=True)
        )
        self._reasons.pop(index, None)
        self._policy.opened(index, self._clock())

    def _note_refusal(self, index: int, error: Exception | None) -> None:
        for_good = isinstance(error, ModelError)
        self._reasons[index] = str(error)
        self._policy.refused(index, self._clock(), self._jitter(), for_good=for_good)
        _log.info("%s does not run on %s: %s", self._bundle.name, self.rungs[index].kind, error)

    def _misfit(self, engine: Engine) -> ModelError | None:
        """Why an engine's tensors cannot stand in for those of the first one; None when they can."""
        if self._specs is None:
            return None
        given, returned = self._specs
        ours = [given.shape, *(s.shape for s in returned)]
        theirs = [engine.input.shape, *(s.shape for s in engine.outputs)]
        if ours == theirs:
            return None
        return ModelError(
            f"the tensors on {engine.name} have the shapes {theirs}, on the first engine {ours}",
            hint="the variants of a bundle must be one model",
        )

    def _reference(self) -> tuple[TensorSpec, tuple[TensorSpec, ...]]:
        if self._specs is None:
            raise self._nothing_works()
        return self._specs

    def _nothing_works(self) -> EngineUnavailableError:
        reasons = [f"{r.kind}: {self._reasons.get(i, 'not tried')}" for i, r in enumerate(self.rungs)]
        if self._bundle.variant(Target.CPU) is None:
            reasons.append("cpu: the bundle has no cpu variant to fall back to")
        elif not any(r.kind == "cpu" for r in self.rungs):
            reasons.append("cpu: not among inference.rungs")
        return EngineUnavailableError(
            f"bundle {self._bundle.name} runs on no engine here: " + " | ".join(reasons),
            hint="repair one of them; it is tried again by itself",
        )

    def _tell(self, left: str, now: str, reason: str, *, up: bool, rate_fps: float = 0.0) -> None:
        change = EngineChanged(self._bundle.name, str(left), str(now), reason, up, rate_fps)
        _log.log(
            logging.INFO if up else logging.WARNING,
            "%s: engine %s -> %s: %s", change.bundle, left or "none", now or "none", reason,
        )  # fmt: skip
        self._announce(change)


def convert(tensor: Tensor, given: TensorSpec, wanted: TensorSpec) -> Tensor:
    """The same real values in another tensor's storage."""
    if _format(given) == _format(wanted):
        return tensor
    return quantise(dequantise(tensor, given), wanted)


def _format(spec: TensorSpec) -> tuple[str, float, int]:
    return spec.dtype.str, spec.scale, spec.zero_point


class _Opening:
    """One engine being opened in a thread of its own."""

    def __init__(self, rung: int, open_engine: Callable[[], Engine]) -> None:
        self.rung = rung
        self.engine: Engine | None = None
        self.error: Exception | None = None
        self.done = threading.Event()
        self._lock = threading.Lock()
        self._abandoned = False
        self._open_engine = open_engine
        threading.Thread(target=self._run, name=f"infer-open-{rung}", daemon=True).start()

    def abandon(self) -> None:
        """Nobody will take the engine: whoever comes last closes it."""
        with self._lock:
            self._abandoned = True
            engine, self.engine = self.engine, None
        if engine is not None:
            engine.close()

    def _run(self) -> None:
        try:
            engine = self._open_engine()
        except Exception as error:  # noqa: BLE001 - handed to the owner, who counts the rung as refused
            self.error = error
        else:
            with self._lock:
                if not self._abandoned:
                    self.engine, engine = engine, None  # type: ignore[assignment]
            if engine is not None:
                engine.close()
        self.done.set()
