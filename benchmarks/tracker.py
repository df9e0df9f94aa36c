"""What one tracker update costs and how well it follows. `python -m benchmarks.tracker --json`

- `update_ms_p50_<n>`, `_p99_<n>`: one update with n detections of n steadily moving objects, jittered
- `decide_ms_p50_10`: the decisions for 10 tracks with a line, a zone, a rule and an event per frame
- `<set>_mota`, `<set>_idf1`: on TUD-Campus (the detections are another tracker's output without its ids),
  PETS09-S2L1 (public detections; the truth is known in 8 frames), where ../shared/assets is there, and on rendered
  crowds at 2, 4 and 12 frames a second
- `assignment_differs`, `assignment_calls`: in how many calls the exact assignment would have paired otherwise, and
  `greedy_`, `exact_` with `_mota_mean`, `_idf1_mean`: what either reaches over all these sets
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from agent.decide.decider import Decider
from agent.decide.settings import AlertRuleSettings, DecideSettings, LineSettings, ZoneSettings
from agent.infer.detections import Detections
from agent.track import Tracker, TrackerSettings
from agent.track.assignment import Assign, Indices, greedy
from agent.track.boxes import Columns
from benchmarks.crowd import crowd
from benchmarks.mot import Score, best_pairs, read_mot, score, tracks_of
from tests.assets import ASSETS

SIZES = (1, 10, 50, 100)
FPS = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the JSON object")
    parser.add_argument("--frames", type=int, default=600, help="frames per timed size")
    options = parser.parse_args()
    figures = costs(options.frames) | quality()
    if not options.json:
        for name, value in figures.items():
            print(f"{name:28} {value}")
    print(json.dumps(figures))


def costs(frames: int) -> dict[str, float]:
    figures = {}
    for n in SIZES:
        tracker = Tracker()
        taken = timed(tracker.update, [(d, k / FPS) for k, d in enumerate(moving(n, frames))])
        figures[f"update_ms_p50_{n}"] = round(float(np.median(taken)), 4)
        figures[f"update_ms_p99_{n}"] = round(float(np.percentile(taken, 99)), 4)
    tracker = Tracker()
    tracks = [tracker.update(d, k / FPS) for k, d in enumerate(moving(10, frames))]
    decider = Decider("cam1", ("person",), everything())
    taken = timed(decider.update, [(t, k / FPS, 1920, 1080) for k, t in enumerate(tracks)])
    figures["decide_ms_p50_10"] = round(float(np.median(taken)), 4)
    figures["decide_ms_p99_10"] = round(float(np.percentile(taken, 99)), 4)
    return figures


def everything() -> DecideSettings:
    """Settings with one of each kind of decision."""
    square = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
    return DecideSettings(
        every_frame=True,
        lines=(LineSettings("middle", start=(0.5, 0.0), end=(0.5, 1.0)),),
        zones=(ZoneSettings("centre", polygon=square),),
        rules=(AlertRuleSettings("crowded", zone="centre", classes=("person",), for_s=2.0),),
    )


def timed(call: Callable[..., object], arguments: Sequence[tuple[object, ...]]) -> list[float]:
    """Milliseconds of `call` with each of `arguments`, the first tenth left out."""
    taken = []
    for each in arguments:
        began_ns = time.perf_counter_ns()
        call(*each)
        taken.append((time.perf_counter_ns() - began_ns) / 1e6)
    return taken[len(taken) // 10 :]


def moving(n: int, frames: int) -> list[Detections]:
    rng = np.random.default_rng(0)
    half = np.array((20.0, 40.0))
    centre, velocity = rng.uniform((100, 100), (1800, 1000), (n, 2)), rng.normal(0.0, 60.0, (n, 2))
    result = []
    for k in range(frames):
        at = centre + velocity * k / FPS + rng.normal(0.0, 1.0, (n, 2))
        xyxy = np.hstack((at - half, at + half)).astype(np.float32)
        confidence = rng.uniform(0.3, 1.0, n).astype(np.float32)
        result.append(Detections(xyxy, confidence, np.zeros(n, np.int32)))
    return result


def quality() -> dict[str, float]:
    counted = _Counted()
    figures: dict[str, float] = {}
    scores = all_scores(counted)
    for name, result in scores.items():
        figures[f"{name}_mota"] = round(result.mota, 4)
        figures[f"{name}_idf1"] = round(result.idf1, 4)
        figures[f"{name}_switches"] = result.switches
        figures[f"{name}_precision"] = round(result.precision, 4)
        figures[f"{name}_recall"] = round(result.recall, 4)
    figures["assignment_calls"] = counted.calls
    figures["assignment_differs"] = counted.differs
    for name, results in (("greedy", scores), ("exact", all_scores(exact))):
        figures[f"{name}_mota_mean"] = round(fmean(result.mota for result in results.values()), 4)
        figures[f"{name}_idf1_mean"] = round(fmean(result.idf1 for result in results.values()), 4)
    return figures


def all_scores(assign: Assign) -> dict[str, Score]:
    return {f"crowd_{fps:.0f}fps": crowd_score(fps, assign) for fps in (2.0, 4.0, 12.0)} | asset_scores(assign)


def asset_scores(assign: Assign) -> dict[str, Score]:
    """Scores on the label sets; none where the test data is absent."""
    labels = ASSETS / "labels"
    if not labels.is_dir():
        return {}
    settings = TrackerSettings()
    campus = range(1, 72)
    campus_truth = read_mot(labels / "mot_TUD-Campus/gt.txt")
    campus_seen = read_mot(labels / "mot_TUD-Campus/test.txt")
    pets_truth = read_mot(labels / "pets09_s2l1/gt_boxes_selected_frames_shared.txt")
    pets_seen = read_mot(labels / "pets09_s2l1/det.txt")
    pets_tracks = tracks_of(pets_seen, range(1, 796), 7.0, settings, assign=assign)
    campus_tracks = tracks_of(campus_seen, campus, 25.0, settings, confidence=0.9, assign=assign)
    return {
        "tud_campus": score(campus_truth, campus_tracks, campus),
        "tud_campus_truth": score(
            campus_truth, tracks_of(campus_truth, campus, 25.0, settings, assign=assign), campus
        ),
        "pets09_s2l1": score(pets_truth, pets_tracks, sorted(pets_truth)),
    }


def crowd_score(fps: float, assign: Assign) -> Score:
    frames = range(1, 401)
    truth, seen = crowd(seed=1, people=14, frames=400, fps=fps)
    return score(truth, tracks_of(seen, frames, fps, TrackerSettings(), assign=assign), frames)


def exact(gain: Columns) -> tuple[Indices, Indices]:
    """The assignment of the largest total gain, in the form of `agent.track.assignment.greedy`."""
    pairs = np.array(best_pairs(gain), dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


class _Counted:
    """Greedy assignment that counts how often the exact one would have chosen other pairs."""

    def __init__(self) -> None:
        self.calls = 0
        self.differs = 0

    def __call__(self, gain: Columns) -> tuple[Indices, Indices]:
        best = best_pairs(gain)
        rows, columns = greedy(gain)
        self.calls += 1
        self.differs += sorted(zip(rows.tolist(), columns.tolist(), strict=True)) != best
        return rows, columns


if __name__ == "__main__":
    main()
