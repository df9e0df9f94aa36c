"""What is hidden is hidden: on a real picture of people, and wherever nobody knows where they are nothing leaves."""

import io
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.capture.frame import Frame, Rgb
from agent.capture.picture import RgbPicture
from agent.evidence.blur import NEAR_S, Boxes, BoxHistory, groups, heads, padded, pixelated, shares
from agent.evidence.encode import clip_of, jpeg_of, rgb_of, small_rgb
from agent.evidence.maker import ORIGINAL, UNKNOWN, Made, Maker
from agent.evidence.ring import RingFrame
from agent.evidence.settings import Blur, EvidenceSettings
from agent.evidence.watched import boxes_to_hide
from agent.infer.detections import Detections
from agent.track.tracks import Tracks
from tests.assets import ASSETS, needs_assets
from tests.capture.helpers import moving
from tests.infer.pictures import coco_truth, read_picture

LABELS = ("person", "face", "car")


def boxes(*rows: Sequence[float]) -> Boxes:
    return np.array(rows, np.float32).reshape(-1, 4)


def detail(area: Rgb) -> float:
    """How much neighbouring pixels differ, on average, up to the edges of tiles."""
    luma = area.astype(np.float32).mean(axis=2)
    steps = np.abs(np.diff(luma, axis=1))
    return float(np.mean(steps))


def colours(area: Rgb) -> int:
    return len(np.unique(area.reshape(-1, 3), axis=0))


def tracks_of(xyxy: NDArray[np.float32], classes: Sequence[int]) -> Tracks:
    n = len(xyxy)
    return Tracks(
        np.arange(n), xyxy, np.ones(n, np.float32), np.array(classes, np.int32), np.zeros(n), np.zeros(n),
        np.zeros(n, np.bool_), np.zeros(0, np.int64),
    )  # fmt: skip


def no_tracks() -> Tracks:
    return tracks_of(np.zeros((0, 4), np.float32), [])


def seen(xyxy: Sequence[Sequence[float]], classes: Sequence[int]) -> Detections:
    return Detections(boxes(*xyxy), np.ones(len(classes), np.float32), np.array(classes, np.int32))


def frame_of(rgb: Rgb, time_s: float = 1.0) -> Frame:
    return Frame("cam1", 0, time_s, 0, round(time_s * 1000), RgbPicture(rgb))


# ---- pixels ----------------------------------------------------------------------------------------


def test_a_hidden_area_has_few_colours_and_the_rest_is_untouched() -> None:
    rgb = moving(3, 320, 240)
    hidden = pixelated(rgb, boxes((0.25, 0.25, 0.5, 0.75)))
    inside = (slice(60, 180), slice(80, 160))
    mask = np.ones(rgb.shape[:2], bool)
    mask[inside] = False
    assert np.array_equal(hidden[mask], rgb[mask])
    assert colours(hidden[inside]) <= 24 < colours(rgb[inside])
    assert np.array_equal(moving(3, 320, 240), rgb)  # the given picture is not written to


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (0.99, 0.99, 1, 1), (0, 0.5, 0.001, 0.501), (0.3, 0.3, 0.3, 0.9), (0.999, 0, 1, 1)]
)
def test_boxes_at_the_edges_and_empty_ones_do_no_harm(box: tuple[float, float, float, float]) -> None:
    assert pixelated(moving(1, 161, 121), boxes(box)).shape == (121, 161, 3)


def test_boxes_that_overlap_share_one_grid_and_show_no_more_than_one() -> None:
    rgb = texture(1, 320, 240)
    shifted = boxes(*((0.2 + n / 320, 0.2 + n / 240, 0.6 + n / 320, 0.6 + n / 240) for n in range(12)))
    hidden = pixelated(rgb, shifted)
    inside = hidden[48:156, 64:204]
    assert colours(inside[12:-12, 12:-12]) <= 7 * 6
    apart = pixelated(rgb, boxes((0.1, 0.1, 0.3, 0.3), (0.7, 0.7, 0.9, 0.9)))
    assert np.array_equal(apart[80:160, 110:210], rgb[80:160, 110:210])


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], []),
        ([(0, 0, 2, 2)], [1]),
        ([(0, 0, 2, 2), (2, 0, 4, 2)], [1, 1]),  # they touch, and do not overlap
        ([(0, 0, 3, 3), (2, 2, 5, 5), (9, 9, 10, 10), (4, 4, 7, 7)], [3, 1]),
        ([(0, 0, 9, 9)] * 4, [4]),
    ],
)
def test_groups_of_boxes(given: list[tuple[int, int, int, int]], found: list[int]) -> None:
    assert [len(group) for group in groups(np.array(given, np.int64).reshape(-1, 4))] == found


@needs_assets
def test_people_in_a_real_picture_are_hidden_and_nothing_else_is() -> None:
    path, found = real_people()
    rgb = small_rgb(read_picture(path), 640)
    people = shares(found, read_picture(path).width, read_picture(path).height)
    (made,) = Maker(EvidenceSettings(blur=Blur.PEOPLE)).still("cam1", frame_of(rgb), lambda time_s: people)
    hidden = rgb_of(made.data)
    plain = rgb_of(jpeg_of(rgb, 85))
    assert made.piece.blurred and not made.piece.local_only
    height, width = rgb.shape[:2]
    inside = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in padded(people).tolist():
        inside[int(y0 * height) : int(y1 * height) + 1, int(x0 * width) : int(x1 * width) + 1] = True
    for x0, y0, x1, y1 in people.tolist():
        place = slice(int(y0 * height), int(y1 * height)), slice(int(x0 * width), int(x1 * width))
        assert np.abs(hidden[place].astype(int) - plain[place]).mean() > 4
        assert detail(hidden[place]) < 0.5 * detail(plain[place])
    # Beyond the blocks of the JPEG that an edge runs through, the pictures are the same.
    far = ~grown(inside, 24)
    assert far.mean() > 0.05
    assert np.abs(hidden.astype(int) - plain)[far].mean() < 1.0


def real_people() -> tuple[Any, NDArray[np.float32]]:
    """A picture with people of which the truth is known, not too many and not everywhere."""
    for path in sorted((ASSETS / "images" / "coco").glob("*.jpg")):
        if not (ASSETS / "labels" / "coco" / f"{path.stem}.txt").exists():
            continue
        picture = read_picture(path)
        truth = coco_truth(picture, path.stem)
        found = truth.xyxy[truth.class_id == 0]
        area = ((found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])).sum() / (picture.width * picture.height)
        sizes = (found[:, 2:] - found[:, :2]).min(axis=1) if len(found) else np.zeros(0)
        if len(found) and 0.05 < area < 0.4 and sizes.min() > 40:
            return path, found
    raise AssertionError("no picture with people")


def grown(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    out = mask.copy()
    for axis in (0, 1):
        for step in range(1, by + 1):
            for way in (step, -step):
                rolled = np.roll(mask if axis == 0 else out, way, axis)
                out |= rolled
    return out


def test_the_head_is_the_upper_part_and_boxes_are_padded() -> None:
    (head,) = heads(boxes((0.2, 0.1, 0.4, 0.9))).tolist()
    assert head == pytest.approx([0.2, 0.1, 0.4, 0.1 + 0.8 * 0.34])
    (wide,) = padded(boxes((0.4, 0.0, 0.6, 1.0))).tolist()
    assert wide == pytest.approx([0.37, 0.0, 0.63, 1.0])


# ---- who is where ----------------------------------------------------------------------------------


def test_boxes_of_neighbouring_frames_count_and_silence_is_not_nobody() -> None:
    history = BoxHistory(10.0)
    assert history.at(1.0) is None
    history.seen(1.0, boxes((0, 0, 0.1, 0.1)))
    history.seen(1.3, boxes())
    history.seen(1.6, boxes((0.5, 0.5, 0.6, 0.6)))
    near = history.at(1.3)
    last = history.at(1.6 + NEAR_S)
    assert near is not None and last is not None
    assert (len(near), len(last)) == (2, 1)
    assert history.at(1.6 + NEAR_S + 0.01) is None
    nobody = BoxHistory(10.0)
    nobody.seen(5.0, boxes())
    found = nobody.at(5.0)
    assert found is not None and len(found) == 0


def test_old_boxes_are_forgotten_and_a_recording_may_begin_again() -> None:
    history = BoxHistory(2.0)
    for time_s in (1.0, 2.0, 5.0):
        history.seen(time_s, boxes((0, 0, 1, 1)))
    assert history.at(2.0) is None
    history.seen(0.0, boxes())
    assert history.at(5.0) is None
    assert history.at(0.0) is not None


@pytest.mark.parametrize(
    ("blur", "labels", "found"),
    [
        (Blur.NONE, LABELS, None),
        (Blur.PEOPLE, ("car", "truck"), None),  # this model says nothing about people
        (Blur.PEOPLE, ("face",), None),
        (Blur.FACES, ("car",), None),
        (Blur.PEOPLE, LABELS, [[0.1, 0.0, 0.2, 1.0], [0.5, 0.5, 0.6, 0.9]]),
        (Blur.FACES, LABELS, [[0.1, 0.0, 0.2, 0.34], [0.5, 0.5, 0.6, 0.5 + 0.4 * 0.34], [0.3, 0.3, 0.4, 0.4]]),
        (Blur.FACES, ("car", "face", "x"), [[0.3, 0.3, 0.4, 0.4]]),
    ],
)
def test_which_boxes_are_to_be_hidden(blur: Blur, labels: tuple[str, ...], found: list[list[float]] | None) -> None:
    frame = frame_of(np.zeros((100, 200, 3), np.uint8))
    detections = seen([(20, 0, 40, 100), (60, 30, 80, 40), (0, 0, 200, 100)], [0, 1, 2])
    predicted = tracks_of(boxes((100, 50, 120, 90)), [0])
    given = boxes_to_hide(EvidenceSettings(blur=blur), frame, labels, detections, predicted)
    if found is None:
        assert given is None
    else:
        assert given is not None
        assert np.allclose(sorted(given.tolist()), sorted(found), atol=1e-6)


# ---- what leaves -----------------------------------------------------------------------------------


def texture(n: int, width: int = 160, height: int = 120) -> Rgb:
    """Full of detail everywhere, as a face is to whoever looks for one."""
    coarse = np.random.default_rng(n).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((4, 4, 1), np.uint8)))


def ring(count: int = 6) -> list[RingFrame]:
    return [RingFrame(n / 5, n * 200, jpeg_of(texture(n), 90)) for n in range(count)]


def pictures(data: bytes) -> list[Rgb]:
    with av.open(io.BytesIO(data), "r") as container:
        return [np.asarray(one.to_ndarray(format="rgb24"), np.uint8) for one in container.decode(video=0)]


def make(settings: EvidenceSettings, known: Boxes | None) -> list[Made]:
    maker = Maker(settings)
    still = maker.still("cam1", frame_of(texture(0)), lambda time_s: known)
    return [*still, *maker.clip("cam1", ring(), lambda time_s: known)]


def test_without_blurring_everything_may_leave() -> None:
    still, clip = make(EvidenceSettings(), None)
    assert (still.piece.content_type, clip.piece.content_type) == ("image/jpeg", "video/mp4")
    assert not any(made.piece.local_only or made.piece.blurred for made in (still, clip))
    assert (clip.piece.from_utc_ms, clip.piece.to_utc_ms) == (0, 1000)
    assert len(pictures(clip.data)) == 6


def test_where_nobody_looked_for_people_it_stays_and_says_why() -> None:
    made = make(EvidenceSettings(blur=Blur.PEOPLE), None)
    assert len(made) == 2
    assert all(one.piece.local_only and one.piece.reason == UNKNOWN and not one.piece.blurred for one in made)


def test_a_clip_leaves_without_the_frames_of_which_nobody_knows() -> None:
    maker = Maker(EvidenceSettings(blur=Blur.PEOPLE))
    (clip,) = maker.clip("cam1", ring(), lambda time_s: boxes() if time_s >= 0.6 else None)
    assert (clip.piece.from_utc_ms, clip.piece.local_only, clip.piece.blurred) == (600, False, True)
    assert len(pictures(clip.data)) == 3
    assert maker.frames_unknown_total == 3


def test_every_frame_of_a_clip_is_hidden() -> None:
    whole = boxes((0.25, 0.25, 0.75, 0.75))
    (_, clip) = make(EvidenceSettings(blur=Blur.PEOPLE), whole)
    for hidden, original in zip(pictures(clip.data), (rgb_of(one.jpeg) for one in ring()), strict=True):
        assert detail(hidden[35:85, 45:115]) < 0.5 * detail(original[35:85, 45:115])


def test_the_original_stays_when_it_is_kept() -> None:
    still, plain_still, clip, plain_clip = make(
        EvidenceSettings(blur=Blur.FACES, keep_original=True), boxes((0, 0, 1, 1))
    )
    assert [made.piece.local_only for made in (still, plain_still, clip, plain_clip)] == [False, True, False, True]
    assert plain_still.piece.reason == plain_clip.piece.reason == ORIGINAL
    assert colours(rgb_of(plain_still.data)) > colours(rgb_of(still.data))


def test_regions_are_hidden_always() -> None:
    settings = EvidenceSettings(blur_regions=((0.0, 0.0, 0.5, 1.0),))
    still, _ = make(settings, None)
    rgb = rgb_of(still.data)
    assert still.piece.blurred
    assert detail(rgb[:, :72]) < 0.5 * detail(rgb[:, 88:])


def test_a_clip_of_frames_that_change_their_size_is_one_clip() -> None:
    sizes = [(160, 120), (160, 120), (320, 240), (160, 90)]
    data = clip_of((n / 5, moving(n, *size)) for n, size in enumerate(sizes))
    assert {one.shape for one in pictures(data)} == {(120, 160, 3)}
