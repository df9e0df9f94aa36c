"""What a pipeline's facts and results become: kept here, sent, or both."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.capture.frame import Frame
from agent.decide.view import View
from agent.degrade.switches import Switch, Switches
from agent.outbox.rows import Draft
from agent.results.recorder import Recorder
from agent.results.result import FRAME, Result
from agent.results.settings import ResultsSettings
from agent.sync.outlet import Outlet
from schemas.identity import Lane
from schemas.messages import Severity
from schemas.sync import parse_policy
from tests.decide.film import LABELS, Thing, tracks_of

NOON = 1_795_521_600_000


class Noted(Recorder):
    """Keeps what it is given in a list."""

    def __init__(self) -> None:
        super().__init__(Path("unused.db"), ResultsSettings(), Switches(), lambda *what: None)
        self.given: list[Result] = []

    def keep(self, result: Result) -> None:
        self.given.append(result)


class Scene:
    def __init__(self, *, local_only: bool = False, recorded: bool = False, **policy: Any) -> None:
        self.recorder, self.switches = Noted(), Switches()
        self.acted: list[str] = []
        self.outlet = Outlet(
            "cam1", "gate", parse_policy(policy),
            local_only=local_only, recorded=recorded, recorder=self.recorder, switches=self.switches,
            act=lambda drafts: self.acted.extend(draft.type for draft in drafts),
        )  # fmt: skip

    def frame(self, at_ms: int = 0, *things: Thing, captured_ms: int | None = None) -> list[Draft]:
        view = View("run", LABELS, tracks_of(*things), at_ms / 1000, 1000, 1000)
        utc_ms = NOON + (at_ms if captured_ms is None else captured_ms)
        return self.outlet.frame(view, Frame("cam1", 0, at_ms / 1000, 0, utc_ms, None))  # type: ignore[arg-type]

    def kept(self) -> list[tuple[str, bool]]:
        return [(result.type, result.local_only) for result in self.recorder.given]


EVENT = Draft(Lane.EVENT, "ObjectSeen", "7", NOON, {"camera_id": "cam1", "class": "car", "box": [1, 2, 3, 4]})
ALERT = Draft(
    Lane.ALERT, "AlertRaised", "cam1", NOON,
    {"camera_id": "cam1", "rule": "r", "alert_id": "a1", "state": "raised", "zone": "yard", "duration_s": 2.0,
     "best_confidence": 0.9, "count": 1, "objects": [{"class": "person"}], "frame_width": 640},
    Severity.CRITICAL,
)  # fmt: skip
SAMPLE = Draft(Lane.SAMPLE, "StreamSample", "cam1", NOON, {"camera_id": "cam1", "totals": {}})


def test_a_frame_is_kept_with_what_was_detected_in_it_and_leaves_by_the_policy() -> None:
    scene = Scene(mode="all")
    (draft,) = scene.frame(0, Thing(1, 0.5, 0.5, "car"), Thing(2, 0.1, 0.5, matched=False))
    assert (draft.lane, draft.type, draft.subject, draft.time_utc_ms) == (Lane.SAMPLE, FRAME, "cam1", NOON)
    assert draft.data["objects"] == [
        {"object_id": "run-1", "class": "car", "confidence": 0.8, "box": [480.0, 400.0, 520.0, 500.0]}
    ]
    assert scene.kept() == [(FRAME, False)]
    assert scene.recorder.given[0].data == draft.data


def test_by_default_frames_leave_summed_up_and_facts_and_samples_as_they_are() -> None:
    scene = Scene(window_s=10)
    assert scene.frame(0) == scene.frame(5000) == []
    assert scene.outlet.leaving([EVENT, ALERT, SAMPLE]) == [EVENT, ALERT, Draft(
        SAMPLE.lane, SAMPLE.type, SAMPLE.subject, NOON, {"pipeline": "gate", **SAMPLE.data})]  # fmt: skip
    (row,) = scene.outlet.due(NOON + 12_000)
    assert (row.type, row.data["frames"]) == ("ResultAggregate", 2)
    scene.frame(20_000)
    assert [draft.data["frames"] for draft in scene.outlet.finish()] == [1]
    assert [(result.type, result.told) for result in scene.recorder.given] == [
        (FRAME, False), (FRAME, False), ("ObjectSeen", True), ("AlertRaised", True), ("StreamSample", False),
        (FRAME, False),
    ], "facts are kept here too, marked as told"  # fmt: skip
    assert dict(scene.outlet.counts) == {"produced": 4, "left": 3}
    assert scene.acted == [], "what is appended to the outbox reaches the local actions there"


def test_priority_is_a_lane_and_a_filter_holds_samples_back() -> None:
    scene = Scene(mode="all", priority="high", filter={"types": [FRAME]})
    assert [draft.lane for draft in scene.frame()] == [Lane.STATE]
    assert scene.outlet.leaving([SAMPLE]) == []
    assert scene.kept() == [(FRAME, False), ("StreamSample", False)]


def test_nothing_of_a_local_only_pipeline_leaves_but_alerts_without_what_they_are_about() -> None:
    scene = Scene(local_only=True, mode="all")
    assert scene.frame(0, Thing(1, 0.5, 0.5)) == []
    (alert,) = scene.outlet.leaving([EVENT, ALERT, SAMPLE])
    assert scene.outlet.finish() == []
    assert (alert.lane, alert.type, alert.severity) == (Lane.ALERT, "AlertRaised", Severity.CRITICAL)
    assert alert.data == {
        "camera_id": "cam1", "rule": "r", "alert_id": "a1", "state": "raised", "zone": "yard", "duration_s": 2.0,
    }  # fmt: skip
    assert scene.kept() == [(FRAME, True), ("ObjectSeen", True), ("AlertRaised", True), ("StreamSample", True)]
    assert scene.recorder.given[2].data["objects"] == [{"class": "person"}], "here it is whole"
    assert scene.recorder.given[2].data["severity"] == "critical"
    assert scene.acted == ["ObjectSeen"], "local actions see what goes no further"
    assert scene.outlet.counts["local_only"] == 1


@pytest.mark.parametrize(
    ("off", "left", "held"),
    [({Switch.SAMPLES_SENT}, 0, 2), ({Switch.SAMPLES}, 1, 0), (set(), 2, 0)],
)
def test_degradation_keeps_results_here(off: set[Switch], left: int, held: int) -> None:
    scene = Scene(mode="all")
    scene.switches.turn_off_only(frozenset(off))
    rows = scene.frame() + scene.outlet.leaving([SAMPLE])
    assert (len(rows), scene.outlet.counts["held"]) == (left, held)
    assert len(scene.recorder.given) == 2


def test_coarse_windows_while_the_node_can_do_no_better() -> None:
    scene = Scene(window_s=10)
    scene.switches.turn_off_only(frozenset({Switch.FINE_AGGREGATES}))
    scene.frame(0)
    assert scene.frame(50_000) == []
    assert [draft.data["window_s"] for draft in scene.outlet.finish()] == [100.0]


@pytest.mark.parametrize("captured_ms", [lambda n: 7 * n + 12_345, lambda n: 40_000 * n, lambda n: 0])
def test_a_recording_gives_the_same_rows_however_fast_and_whenever_it_is_read(
    captured_ms: Callable[[int], int],
) -> None:
    scene = Scene(recorded=True, window_s=2)
    rows: list[Draft] = []
    for n in range(50):
        rows += scene.frame(100 * n, *[Thing(k, 0.5, 0.5) for k in range(n % 3)], captured_ms=captured_ms(n))
        rows += scene.outlet.due(NOON + captured_ms(n) + 10**9)
    rows += scene.outlet.finish()
    assert [(row.data["frames"], row.data["classes"]["person"]["detections"]) for row in rows] == [
        (20, 19), (20, 20), (10, 10),
    ]  # fmt: skip
    began_ms = rows[0].time_utc_ms
    assert [row.time_utc_ms - began_ms for row in rows] == [0, 2000, 4000]
    assert "from_utc_ms" not in rows[0].data


def test_another_policy_lets_go_of_what_the_old_one_had() -> None:
    scene = Scene(window_s=10)
    scene.frame(0)
    (row,) = scene.outlet.change(parse_policy({"mode": "changes"}))
    assert row.type == "ResultAggregate"
    assert [draft.type for draft in scene.frame(1)] == ["CountsChanged"]
    assert scene.frame(2) == []
