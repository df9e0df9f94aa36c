"""How inference is set up on this machine: the `[inference]` table of the agent's config."""

from dataclasses import dataclass, field

RUNGS = ("delegate", "edgetpu", "npu", "gpu", "cpu")
"""The rungs of the fallback ladder, best first where the config does not say."""


@dataclass(frozen=True, slots=True)
class InferSettings:
    """Every field has a default; the comment beside it is its line in the sample config."""

    rungs: tuple[str, ...] = ()  # engines to try, best first: delegate, edgetpu, npu, gpu, cpu; empty: by the bundle
    threads: int = 1  # CPU threads of the interpreter
    fallback_fps: float = 0.0  # most frames a second on the CPU when it stands in for an accelerator; 0: no limit
    edgetpu_library: str = "libedgetpu.so.1"  # the Edge TPU runtime
    edgetpu_device: str = ""  # which Edge TPU: usb:0, pci:0, …; empty: the first one found
    gpu_library: str = ""  # a TFLite GPU delegate library; empty: LiteRT's own compiled model on the GPU
    delegate_library: str = ""  # an external TFLite delegate library, the rung `delegate`
    delegate_options: dict[str, str] = field(default_factory=dict)  # passed to that delegate as they are
    warmup_runs: int = 3  # inferences measured before an engine counts as open
    load_timeout_s: float = 30.0  # an accelerator that has not loaded by then is killed
    invoke_timeout_s: float = 2.0  # an accelerator that has not answered by then is killed
    heartbeat_s: float = 0.25  # how often an accelerator's process shows that it lives
    heartbeat_timeout_s: float = 3.0  # silence after which it is killed
    failures_max: int = 5  # failed inferences within the window after which an engine is left
    failure_window_s: float = 30.0  # the window for `failures_max`
    retry_first_s: float = 5.0  # wait before a lost or refused engine is tried again; doubles each time
    retry_max_s: float = 300.0  # the longest such wait
    stable_s: float = 60.0  # an engine that ran this long starts again with the shortest wait

    def mistakes(self) -> list[str]:
        """What is impossible, one text a mistake, each naming its key."""
        found = [f"rungs: {rung!r} is none of {', '.join(RUNGS)}" for rung in self.rungs if rung not in RUNGS]
        if len(set(self.rungs)) < len(self.rungs):
            found.append("rungs: names a rung twice")
        if "delegate" in self.rungs and not self.delegate_library:
            found.append("rungs: `delegate` needs delegate_library")
        for key, low, high in _LIMITS:
            value = getattr(self, key)
            if not low <= value <= high:
                found.append(f"{key}: {value!r} is not within {low:g} and {high:g}")
        if self.heartbeat_timeout_s < 2 * self.heartbeat_s:
            found.append("heartbeat_timeout_s: must be at least twice heartbeat_s")
        if self.retry_max_s < self.retry_first_s:
            found.append("retry_max_s: must not be below retry_first_s")
        return found


_LIMITS = (
    ("threads", 1, 64),
    ("fallback_fps", 0, 1000),
    ("warmup_runs", 0, 100),
    ("load_timeout_s", 0.5, 600),
    ("invoke_timeout_s", 0.05, 600),
    ("heartbeat_s", 0.01, 60),
    ("heartbeat_timeout_s", 0.05, 600),
    ("failures_max", 1, 1000),
    ("failure_window_s", 0.1, 3600),
    ("retry_first_s", 0.05, 3600),
    ("retry_max_s", 0.05, 86400),
    ("stable_s", 0.1, 86400),
)
