import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.frame import Picture, Rgb
from agent.capture.picture import RgbPicture, fingerprint
from agent.capture.pyav import AvPicture, jpeg
from tests.capture.helpers import moving, plain

ROOT = Path(__file__).resolve().parents[2]


def yuv(rgb: Rgb, pixel_format: str = "yuv420p") -> AvPicture:
    return AvPicture(av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format))


PICTURES: dict[str, Callable[[Rgb], Picture]] = {
    "rgb": RgbPicture,
    **{name: partial(yuv, pixel_format=name) for name in ("yuv420p", "yuvj420p", "yuvj422p", "nv12", "bgra")},
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("size", [None, (300, 300), (64, 48), (33, 17), (640, 480)])
def test_rgb_has_the_size_asked_for_and_no_gaps(kind: str, size: tuple[int, int] | None) -> None:
    picture = PICTURES[kind](plain(200, 100, 50))
    rgb = picture.rgb(*size) if size else picture.rgb()
    width, height = size or (160, 120)
    assert rgb.shape == (height, width, 3)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert np.abs(rgb.astype(int) - (200, 100, 50)).max() <= 6


@pytest.mark.parametrize("size", [(250, 200), (100, 90), (40, 30)])
def test_scaling_keeps_things_where_they_are(size: tuple[int, int]) -> None:
    source = plain(0, 0, 0, 320, 240)
    source[60:120, 80:240] = 255
    width, height = size
    small = yuv(source).rgb(width, height)[:, :, 1]
    rows, columns = np.nonzero(small > 128)
    got = (rows.min() / height, (rows.max() + 1) / height, columns.min() / width, (columns.max() + 1) / width)
    assert got == pytest.approx((0.25, 0.5, 0.25, 0.75), abs=0.02)


@settings(deadline=None, max_examples=40)
@given(width=st.integers(1, 400), height=st.integers(1, 400))
def test_any_size_can_be_asked_for(width: int, height: int) -> None:
    assert yuv(moving(3)).rgb(width, height).shape == (height, width, 3)


@pytest.mark.parametrize("space", ["ITU601", "ITU709"])
@pytest.mark.parametrize("levels", ["MPEG", "JPEG"])
def test_colours_are_those_the_stream_declares(space: str, levels: str) -> None:
    colour = (210, 60, 120)
    frame = av.VideoFrame.from_ndarray(plain(*colour), "rgb24").reformat(
        format="yuv420p", dst_colorspace=space, dst_color_range=levels
    )
    for size in ((160, 120), (100, 80)):
        assert np.abs(AvPicture(frame).rgb(*size).astype(int) - colour).max() <= 4


def test_shrinking_averages_what_it_leaves_out() -> None:
    stripes = plain(0, 0, 0, 320, 240)
    stripes[:, ::2] = 255
    small = RgbPicture(stripes).rgb(80, 60)
    assert np.abs(small.astype(int) - 127).max() <= 20


def test_a_picture_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="height, width, 3"):
        RgbPicture(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("kind", PICTURES)
def test_fingerprints_tell_pictures_apart(kind: str) -> None:
    make = PICTURES[kind]
    one, same, other = (fingerprint(make(moving(n))) for n in (1, 1, 2))
    assert one.shape == (576,)
    assert (one == same).all()
    assert (np.abs(one.astype(int) - other) > 2).mean() > 0.5


class OnlyTheProtocol:
    """A picture of somebody else: nothing but what `frame.Picture` promises."""

    width = 160
    height = 120

    def rgb(self, width: int | None = None, height: int | None = None) -> Rgb:
        return plain(10, 20, 30, width or self.width, height or self.height)


@pytest.mark.parametrize("picture", [yuv(moving(1)), RgbPicture(moving(1)), OnlyTheProtocol()])
def test_jpeg_can_be_read_back(picture: Picture, tmp_path: Path) -> None:
    file = tmp_path / "snapshot.jpg"
    file.write_bytes(jpeg(picture, quality=95))
    with av.open(str(file)) as container:
        back = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(back.astype(int) - picture.rgb()).mean() < 6


def test_jpeg_quality_costs_bytes_and_width_is_limited(tmp_path: Path) -> None:
    picture = yuv(moving(1))
    assert len(jpeg(picture, 20)) < len(jpeg(picture, 60)) < len(jpeg(picture, 100))
    file = tmp_path / "small.jpg"
    file.write_bytes(jpeg(picture, 80, width_max=81))
    with av.open(str(file)) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (81, 61)


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_jpeg_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        jpeg(RgbPicture(moving(1)), quality)


def test_tiny_pictures_have_fingerprints_too() -> None:
    assert fingerprint(RgbPicture(plain(1, 2, 3, 5, 3))).shape == (576,)


def test_freed_pictures_are_not_given_back_to_the_system() -> None:
    """Counted in page faults, in a process of its own, because the switch is for the whole process."""
    script = """
import resource
from agent.capture.malloc import keep_freed_memory
from tests.capture.test_pictures import moving, yuv
print(keep_freed_memory())
picture = yuv(moving(1))
def faults():
    for _ in range(100):
        picture.rgb(300, 300)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(-faults() + faults())
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    switched, faults = ran.stdout.split()
    if switched == "False":
        pytest.skip("this C library has no mallopt")
    assert int(faults) < 1000  # they were 4800
