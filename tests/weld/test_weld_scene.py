"""The rendered weld scene: what it promises to demos and to training."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from platforms.manufacturing.weld_parts import KINDS, LINES, STAINLESS, STEEL, Line
from platforms.manufacturing.weld_samples import INPUT_HEIGHT, INPUT_WIDTH, Split, scene_samples, stretched
from platforms.manufacturing.weld_scene import WeldDefect, WeldScene

MOMENTS = range(0, 2400, 60)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_same_seed_gives_the_same_bytes_in_any_order_of_frames(line: Line) -> None:
    forward, backward = WeldScene(4, line=line), WeldScene(4, line=line)
    frames = {index: forward.render(index) for index in (0, 7, 400)}
    for index in (400, 0, 7):
        assert np.array_equal(backward.render(index), frames[index])
    assert forward.truth(400) == backward.truth(400)


def test_a_frame_is_rgb_of_the_asked_size_and_belongs_to_the_caller() -> None:
    scene = WeldScene(1, 320, 180, 15.0)
    first = scene.render(3)
    assert (first.shape, scene.size, scene.fps) == ((180, 320, 3), (320, 180), 15.0)
    assert first.dtype == np.uint8
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(scene.render(3), kept)


@pytest.mark.parametrize(("a", "b"), [(WeldScene(1), WeldScene(2)), (WeldScene(1), WeldScene(1, line=STAINLESS))])
def test_two_seeds_and_two_lines_show_different_things(a: WeldScene, b: WeldScene) -> None:
    assert np.abs(a.render(0).astype(int) - b.render(0)).mean() > 8
    assert [a.truth(index) for index in MOMENTS] != [b.truth(index) for index in MOMENTS]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_four_kinds_good_parts_and_gaps_come_by(seed: int) -> None:
    scene = WeldScene(seed)
    seen: Counter[str] = Counter()
    for index in range(0, 6000, 30):
        seen.update({defect.label for defect in scene.truth(index)})
    assert set(seen) == set(KINDS)
    assert min(seen.values()) >= 5
    assert any(not scene.truth(index) for index in MOMENTS)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_truth_lies_inside_the_frame(line: Line) -> None:
    scene = WeldScene(5, line=line)
    width, height = scene.size
    for defect in (defect for index in MOMENTS for defect in scene.truth(index)):
        x0, y0, x1, y1 = defect.xyxy
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert 0 < defect.visible_share <= 1


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_defect_changes_its_box_and_nothing_outside(line: Line) -> None:
    scene, good = WeldScene(6, line=line), WeldScene(6, line=line, defects=False)
    shown: Counter[str] = Counter()
    for index in MOMENTS:
        assert good.truth(index) == []
        change = np.abs(scene.render(index).astype(int) - good.render(index)).max(axis=2)
        outside = np.ones(change.shape, bool)
        for defect in scene.truth(index):
            x0, y0, x1, y1 = (round(v) for v in defect.xyxy)
            outside[max(y0 - 4, 0) : y1 + 4, max(x0 - 4, 0) : x1 + 4] = False
            if defect.visible_share > 0.9:
                shown[defect.label] += 1
                inside = change[y0:y1, x0:x1]
                assert (inside > 15).mean() > 0.04, f"{defect} at frame {index} can hardly be seen"
                assert inside[:, 0].max(initial=0) < inside.max(), f"{defect}: the box cuts through"
        assert change[outside].max(initial=0) <= 6
    assert set(shown) == set(KINDS)


@pytest.mark.parametrize("line", [STEEL, STAINLESS], ids=["leftward", "rightward"])
def test_a_defect_keeps_its_id_and_moves_with_the_belt(line: Line) -> None:
    scene = WeldScene(2, line=line)
    step = line.speed_px_s / scene.fps * (-1 if line.leftward else 1)
    follows = 0
    for index in range(0, 900, 25):
        now, later = _whole(scene.truth(index)), _whole(scene.truth(index + 10))
        for defect_id in now.keys() & later.keys():
            follows += 1
            moved = np.subtract(later[defect_id].xyxy, now[defect_id].xyxy)
            assert moved == pytest.approx([10 * step, 0, 10 * step, 0], abs=1.01)
            assert later[defect_id].label == now[defect_id].label
    assert follows > 10


def _whole(truth: list[WeldDefect]) -> dict[int, WeldDefect]:
    found = {defect.defect_id: defect for defect in truth if defect.visible_share == 1}
    assert len({defect.defect_id for defect in truth}) == len(truth)
    return found


def test_memory_stays_bounded_over_two_thousand_frames() -> None:
    scene = WeldScene(1, 320, 180)
    sizes = []
    for index in range(2000):
        scene.render(index)
        sizes.append(scene.cached_bytes)
    assert max(sizes[1000:]) <= max(sizes[:200])
    assert max(sizes) < 2_000_000


@pytest.mark.parametrize(("seed", "width", "height", "fps"), [(-1, 640, 360, 30), (1, 8, 360, 30), (1, 640, 360, 0)])
def test_impossible_scenes_are_refused(seed: int, width: int, height: int, fps: float) -> None:
    with pytest.raises(ValueError, match="no scene"):
        WeldScene(seed, width, height, fps)


def test_a_negative_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        WeldScene().render(-1)


def test_splits_share_no_scene() -> None:
    first = {split: scene_samples(split, 0)[0].image for split in Split}
    for a, b in product(Split, Split):
        assert (a is b) or not np.array_equal(first[a], first[b])
        assert (a is b) or abs(int(a) - int(b)) >= 100_000


def test_samples_have_the_models_geometry_and_boxes_as_fractions() -> None:
    for sample in scene_samples(Split.VALIDATION, 1):
        assert sample.image.shape == (INPUT_HEIGHT, INPUT_WIDTH, 3)
        assert sample.image.dtype == np.uint8
        assert ((sample.boxes >= 0) & (sample.boxes <= 1)).all()
        assert len(sample.boxes) == len(sample.class_id) == len(sample.visible)


@pytest.mark.parametrize("antialias", [True, False])
def test_stretching_keeps_flat_colour_and_position(antialias: bool) -> None:
    flat = np.full((36, 64, 3), 77, np.uint8)
    assert (stretched(flat, 32, 19, antialias) == 77).all()
    half = np.zeros((36, 64, 3), np.uint8)
    half[:, 32:] = 200
    small = stretched(half, 32, 18, antialias)
    assert (small[:, :15] == 0).all()
    assert (small[:, 17:] == 200).all()
