"""How well real people are followed, and that the yardstick itself is right."""

import numpy as np
import pytest

from agent.track import TrackerSettings
from benchmarks.crowd import crowd
from benchmarks.mot import NO_BOXES, Boxes, Frames, read_mot, score, tracks_of
from tests.assets import ASSETS, needs_assets

LABELS = ASSETS / "labels"
CAMPUS = range(1, 72)


@needs_assets
def test_the_yardstick_agrees_with_the_published_one() -> None:
    """py-motmetrics publishes these figures for the same two files."""
    result = score(read_mot(LABELS / "mot_TUD-Campus/gt.txt"), read_mot(LABELS / "mot_TUD-Campus/test.txt"), CAMPUS)
    assert (result.false_positives, result.misses, result.switches) == (13, 150, 7)
    assert result.mota == pytest.approx(0.526, abs=0.001)
    assert result.idf1 == pytest.approx(0.558, abs=0.001)
    assert result.recall == pytest.approx(0.582, abs=0.001)
    assert result.precision == pytest.approx(0.941, abs=0.001)


@needs_assets
def test_perfect_detections_give_perfect_tracks() -> None:
    truth = read_mot(LABELS / "mot_TUD-Campus/gt.txt")
    result = score(truth, tracks_of(truth, CAMPUS, 25.0, TrackerSettings()), CAMPUS)
    assert (result.mota, result.idf1, result.switches) == (1.0, 1.0, 0)


@needs_assets
def test_tracks_are_no_worse_than_those_whose_boxes_they_were_made_of() -> None:
    """The detections are another tracker's result without its ids: it reached MOTA 0.526 with 7 switches, and of
    each box that it found none may be lost on the way."""
    truth, seen = read_mot(LABELS / "mot_TUD-Campus/gt.txt"), read_mot(LABELS / "mot_TUD-Campus/test.txt")
    result = score(truth, tracks_of(seen, CAMPUS, 25.0, TrackerSettings(), confidence=0.9), CAMPUS)
    assert result.mota >= 0.526
    assert result.switches <= 6
    assert result.recall >= 0.57


@needs_assets
def test_people_of_pets_are_followed() -> None:
    """The truth is known in 8 frames with 38 people. The detector alone finds 28 of them with 5 false boxes (at IoU
    0.5), so a recall of 28/38 is what a tracker must keep; half of the boxes under the right identity is the floor.
    """
    truth = read_mot(LABELS / "pets09_s2l1/gt_boxes_selected_frames_shared.txt")
    seen = read_mot(LABELS / "pets09_s2l1/det.txt")
    result = score(truth, tracks_of(seen, range(1, 70), 7.0, TrackerSettings()), sorted(truth))
    assert result.recall >= 28 / 38 - 0.02
    assert result.precision >= 0.85
    assert result.idf1 >= 0.5


@needs_assets
def test_people_of_pets_are_counted() -> None:
    """Objects shown per frame against the true number: the detector misses people who hide each other, and a track
    outlives its object by `lost_max_s`, so the mean may be off by one person, a frame by three."""
    rows = (LABELS / "pets09_s2l1/people_count_per_frame_shared.csv").read_text().split()[1:]
    people = {int(frame): int(count) for frame, count in (row.split(",") for row in rows)}
    tracks = tracks_of(read_mot(LABELS / "pets09_s2l1/det.txt"), range(1, 70), 7.0, TrackerSettings())
    off = [len(tracks[frame].ids) - people[frame] for frame in range(3, 70)]
    assert abs(sum(off)) / len(off) <= 1.0
    assert max(map(abs, off)) <= 3


@pytest.mark.parametrize(("fps", "mota_min", "idf1_min"), [(4.0, 0.7, 0.25), (12.0, 0.72, 0.5)])
def test_a_rendered_crowd_is_followed(fps: float, mota_min: float, idf1_min: float) -> None:
    """A dense crowd with 22 % of its boxes missing; the floors are what was reached less a tenth or so."""
    truth, seen = crowd(seed=1, people=14, frames=400, fps=fps)
    result = score(truth, tracks_of(seen, range(1, 401), fps, TrackerSettings()), range(1, 401))
    assert result.mota >= mota_min
    assert result.idf1 >= idf1_min
    assert result.precision >= 0.97


def swapped(frames: Frames) -> Frames:
    """The same boxes with the ids of objects 1 and 2 exchanged from frame 3 on."""
    exchange = np.arange(100)
    exchange[[1, 2]] = 2, 1
    return {f: b if f < 3 else Boxes(exchange[b.ids], b.xyxy, b.confidence) for f, b in frames.items()}


@needs_assets
def test_exchanged_ids_count_as_two_switches() -> None:
    truth = read_mot(LABELS / "mot_TUD-Campus/gt.txt")
    result = score(truth, swapped(truth), range(1, 11))
    assert result.switches == 2
    assert result.matches == result.truth


@needs_assets
def test_no_tracks_score_nothing() -> None:
    truth = read_mot(LABELS / "mot_TUD-Campus/gt.txt")
    result = score(truth, {1: NO_BOXES}, CAMPUS)
    assert (result.mota, result.idf1, result.recall) == (0.0, 0.0, 0.0)
