"""One pipeline's way out: every result is kept here, and what the policy lets leave becomes rows of the outbox."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from agent.capture.frame import Frame
from agent.decide.view import View
from agent.degrade.switches import Switch, Switches
from agent.outbox.rows import Draft
from agent.results.recorder import Recorder
from agent.results.result import Result, frame_result
from agent.sync.gate import lane_of
from agent.sync.policy import Shaper
from schemas.identity import Lane
from schemas.sync import SyncPolicy

SAMPLES = frozenset({Lane.SAMPLE, Lane.STATE})
EVERY_FRAME = "FrameAnalyzed"
# What is said of an alert of a pipeline whose results stay here: that it is, since when, where; not of what.
OF_AN_ALERT = frozenset({"camera_id", "time_s", "rule", "alert_id", "state", "zone", "duration_s", "reason"})

Act = Callable[[Sequence[Draft]], None]
"""Tells the local actions of facts that go no further."""


class Outlet:
    """All of it on the loop, and nothing waits."""

    def __init__(
        self,
        camera: str,
        pipeline: str,
        policy: SyncPolicy,
        *,
        local_only: bool,
        recorded: bool,
        recorder: Recorder,
        switches: Switches,
        act: Act,
    ) -> None:
        self._camera = camera
        self._pipeline = pipeline
        self._local_only = local_only
        self._recorded = recorded
        self._origin_ms: int | None = None  # of a recording: when it began, by its own time
        self._recorder = recorder
        self._switches = switches
        self._act = act
        self._shaper = Shaper(policy, camera, pipeline)
        self.counts: Counter[str] = Counter()

    def frame(self, view: View | None, frame: Frame) -> list[Draft]:
        """Keeps the result of a frame; what leaves because of it."""
        if view is None:
            return []
        result = frame_result(view, frame, self._time_ms(frame), self._pipeline, local_only=self._local_only)
        self.counts["produced"] += 1
        self._recorder.keep(result)
        if self._local_only or not self._switches.is_on(Switch.SAMPLES):
            return []
        return self._out(self._shaper.frame(result, coarse=not self._switches.is_on(Switch.FINE_AGGREGATES)))

    def leaving(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Which facts and samples of the pipeline leave, in what form; samples are kept here too, and so is
        everything of a pipeline whose results do not leave."""
        found: list[Draft] = []
        stay: list[Draft] = []
        for draft in drafts:
            if draft.lane in SAMPLES:
                found += self._sample(self._result(draft))
            elif not self._local_only:
                if draft.type != EVERY_FRAME:  # what that says is kept as the frame's result
                    self._recorder.keep(self._result(draft, told=True))
                found.append(draft)
            else:
                self._recorder.keep(self._result(draft))
                if draft.severity is None:
                    stay.append(draft)
                else:
                    found.append(_without_objects(draft))
        if stay:
            self.counts["local_only"] += len(stay)
            self._act(stay)
        return found

    def due(self, now_utc_ms: int) -> list[Draft]:
        """A window whose time is over. Those of a recording are over when its frames say so."""
        if self._recorded:
            return []
        return self._out(self._shaper.due(now_utc_ms))

    def finish(self) -> list[Draft]:
        """The pipeline has ended: what is summed up so far."""
        self._recorder.end(self._pipeline)
        return self._out(self._shaper.finish())

    def change(self, policy: SyncPolicy) -> list[Draft]:
        """From now on by this policy; what the old one still had."""
        return self._out(self._shaper.change(policy))

    def _time_ms(self, frame: Frame) -> int:
        """UTC of a frame; in a recording as if it had been played at its own speed, so that what leaves because of it
        is the same however fast it is read."""
        if not self._recorded:
            return frame.captured_utc_ms
        media_ms = round(frame.time_s * 1000)
        if self._origin_ms is None:
            self._origin_ms = frame.captured_utc_ms - media_ms
            self._shaper.align(self._origin_ms)
        return self._origin_ms + media_ms

    def _sample(self, result: Result) -> list[Draft]:
        self.counts["produced"] += 1
        self._recorder.keep(result)
        kept = None if self._local_only else self._shaper.sample(result)
        return [] if kept is None else self._out([kept])

    def _out(self, results: Sequence[Result]) -> list[Draft]:
        if not results:
            return []
        if self._local_only or not self._switches.is_on(Switch.SAMPLES_SENT):
            self.counts["held"] += len(results)
            return []
        self.counts["left"] += len(results)
        lane = lane_of(self._shaper.policy)
        return [draft_of_result(result, lane) for result in results]

    def _result(self, draft: Draft, *, told: bool = False) -> Result:
        data: dict[str, Any] = {"pipeline": self._pipeline, **draft.data}
        if draft.severity is not None:
            data["severity"] = draft.severity.value
        return Result(
            *(draft.time_utc_ms, self._camera, self._pipeline, draft.type, draft.subject, data),
            local_only=self._local_only,
            told=told,
        )


def draft_of_result(result: Result, lane: Lane) -> Draft:
    """A result on its way out."""
    return Draft(lane, result.type, result.subject, result.time_utc_ms, result.data)


def _without_objects(draft: Draft) -> Draft:
    return replace(draft, data={key: value for key, value in draft.data.items() if key in OF_AN_ALERT})
