"""More or fewer replicas, by a rule on the load of the nodes that they run on. Pure; time is an argument."""

from dataclasses import dataclass

from coordinator.schedule.workload import Metric, Scale
from schemas.messages import Heartbeat, StreamReport


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many there should be, and why; `wake_utc_ms`: when to ask again, where time alone can change it."""

    replicas: int
    reason: str = ""
    wake_utc_ms: int | None = None


class Scaling:
    """Of one workload. Keeps the newest figure of each node; O(1) for each heartbeat."""

    def __init__(self, rule: Scale) -> None:
        self.rule = rule
        self._figures: dict[str, float] = {}
        self._sum = 0.0
        self._beyond_since_ms: int | None = None
        self._way = 0

    @property
    def mean(self) -> float | None:
        return self._sum / len(self._figures) if self._figures else None

    def hear(self, node: str, figure: float | None) -> None:
        """None: it does not say, or does not run it any more."""
        self._sum -= self._figures.pop(node, 0.0)
        if figure is not None:
            self._figures[node] = figure
            self._sum += figure

    def judge(self, now_ms: int, replicas: int, scaled_ms: int) -> Verdict:
        """`scaled_ms`: when it was last changed."""
        rule, mean = self.rule, self.mean
        if replicas < rule.min or replicas > rule.max:
            wanted = min(max(replicas, rule.min), rule.max)
            return Verdict(wanted, f"the rule says {rule.min} to {rule.max}")
        way = 0 if mean is None else 1 if mean > rule.above else -1 if mean < rule.below else 0
        if way != self._way:
            self._way, self._beyond_since_ms = way, now_ms if way else None
        if not way or not rule.min <= replicas + way <= rule.max:
            return Verdict(replicas)
        assert self._beyond_since_ms is not None and mean is not None, "it is beyond a bound"
        due_ms = self._beyond_since_ms + round(rule.for_s * 1000)
        if scaled_ms:
            due_ms = max(due_ms, scaled_ms + round(rule.cooldown_s * 1000))
        if now_ms < due_ms:
            return Verdict(replicas, wake_utc_ms=due_ms)
        self._beyond_since_ms = now_ms
        bound = f"above {rule.above:g}" if way > 0 else f"below {rule.below:g}"
        return Verdict(replicas + way, f"{rule.on} is {mean:.4g}, {bound} for {rule.for_s:g} s")


def figure_of(beat: Heartbeat, metric: Metric, cores: float, workload: str) -> float | None:
    """What a heartbeat says; of pipelines those of the workload, where there are any of its name."""
    own = [one for one in beat.streams if one.pipeline == workload]
    streams: list[StreamReport] = own or beat.streams
    match metric:
        case Metric.CPU_PERCENT:
            return beat.cpu_percent / max(1.0, cores)
        case Metric.TEMPERATURE_C:
            return beat.temperature_c
        case Metric.LOOP_STALL_MS_P99:
            return beat.loop_stall_ms_p99
        case Metric.OUTBOX_PENDING:
            return float(sum(beat.outbox_pending.values()))
        case Metric.FPS:
            return min((one.fps for one in streams), default=None)
        case Metric.INFER_MS_P99:
            return max((one.infer_ms_p99 for one in streams), default=None)
        case Metric.DECIDE_MS_P99:
            return max((one.decide_ms_p99 for one in streams), default=None)
