"""Which results of a pipeline leave the node, by the policy: filter, thin out, sum up, or what has changed. Pure.

One `Shaper` a pipeline. Times are those of the results, in UTC milliseconds. When they jump back, thinning out begins
anew from there, and a change that was waiting waits from there.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.results.aggregate import Aggregate, Windows
from agent.results.result import Objects, Result, chosen, meant, narrowed
from schemas.sync import Mode, SyncPolicy

AGGREGATE = "ResultAggregate"
CHANGED = "CountsChanged"
COARSE_FACTOR = 10  # windows are so many times as long while the node can do no better


@dataclass(slots=True)
class _Changes:
    """Counts by class as they were last told, and other ones that have been there for a while."""

    told: Mapping[str, int] | None = None
    since_ms: int | None = None


class Shaper:
    """The way of one pipeline's results out of the node."""

    def __init__(self, policy: SyncPolicy, camera: str, pipeline: str) -> None:
        self.policy = policy
        self._camera = camera
        self._pipeline = pipeline
        self._windows = Windows(camera, pipeline)
        self._changes = _Changes()
        self._count = 0
        self._left_ms: int | None = None

    def align(self, origin_ms: int) -> None:
        """Windows begin at multiples of their length from here on, and not of UTC."""
        self._windows.origin_ms = origin_ms

    def change(self, policy: SyncPolicy) -> list[Result]:
        """From now on by this policy; what was summed up until now leaves by the old one."""
        if policy == self.policy:
            return []
        left = self.finish()
        self.policy = policy
        self._changes, self._count, self._left_ms = _Changes(), 0, None
        return left

    def frame(self, result: Result, *, coarse: bool = False) -> list[Result]:
        """What leaves because of this frame result."""
        policy, data_filter = self.policy, self.policy.filter
        if not meant(data_filter, result):
            return []
        if policy.mode is Mode.AGGREGATE:
            window_s = policy.window_s * (COARSE_FACTOR if coarse else 1)
            objects = chosen(data_filter, result.objects)
            return _rows(self._windows.add(result.time_utc_ms, objects, window_s, policy.histogram))
        if policy.mode is Mode.CHANGES:
            return self._changed(result, chosen(data_filter, result.objects))
        kept = narrowed(data_filter, result)
        return [] if kept is None or not self._is_turn(kept.time_utc_ms) else [kept]

    def sample(self, result: Result) -> Result | None:
        """A routine sample, whose pace is the pipeline's own: it leaves or it does not."""
        return narrowed(self.policy.filter, result)

    def due(self, now_utc_ms: int) -> list[Result]:
        """A window whose time is over, frames or none."""
        return _rows(self._windows.due(now_utc_ms))

    def finish(self) -> list[Result]:
        """The camera has ended, or the policy: the open window as it is."""
        return _rows(self._windows.finish())

    def _is_turn(self, time_ms: int) -> bool:
        if self.policy.every_n is not None:
            self._count += 1
            return (self._count - 1) % self.policy.every_n == 0
        if self.policy.every_s is not None:
            every_ms = self.policy.every_s * 1000
            if self._left_ms is not None and self._left_ms <= time_ms < self._left_ms + every_ms:
                return False
            self._left_ms = time_ms
        return True

    def _changed(self, result: Result, objects: Objects) -> list[Result]:
        counts = Counter(str(item.get("class")) for item in objects)
        told, now_ms = self._changes.told, result.time_utc_ms
        if told is not None and not _differ(told, counts, self.policy.deadband):
            self._changes.since_ms = None
            return []
        since_ms = self._changes.since_ms
        if since_ms is None or now_ms < since_ms:
            since_ms = self._changes.since_ms = now_ms
        if told is not None and now_ms - since_ms < self.policy.hold_s * 1000:
            return []
        self._changes = _Changes(dict(counts))
        data: dict[str, Any] = {
            "camera_id": self._camera,
            "pipeline": self._pipeline,
            "time_s": result.data.get("time_s"),
            "counts": dict(sorted(counts.items())),
            "before": None if told is None else dict(sorted(told.items())),
        }
        return [replace(result, type=CHANGED, data=data)]


def _differ(told: Mapping[str, int], counts: Mapping[str, int], deadband: int) -> bool:
    return any(abs(counts.get(name, 0) - told.get(name, 0)) > deadband for name in told.keys() | counts.keys())


def _rows(aggregate: Aggregate | None) -> list[Result]:
    if aggregate is None:
        return []
    return [
        Result(
            aggregate.from_utc_ms,
            aggregate.camera,
            aggregate.pipeline,
            AGGREGATE,
            aggregate.camera,
            aggregate.described(),
        )
    ]
