from collections.abc import Callable
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


def yuv(rgb: Rgb, pixel_format: str = "yuv420p") -> AvPicture:
    return AvPicture(av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format))


PICTURES: dict[str, Callable[[Rgb], Picture]] = {
    "rgb": RgbPicture,
    "yuv420p": yuv,
    "nv12": lambda rgb: yuv(rgb, "nv12"),
    "bgra": lambda rgb: yuv(rgb, "bgra"),
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


@pytest.mark.parametrize("size", [(100, 90), (40, 30)], ids=["fast bilinear", "area"])
def test_scaling_keeps_things_where_they_are(size: tuple[int, int]) -> None:
    source = plain(0, 0, 0, 320, 240)
    source[60:120, 80:240] = 255
    width, height = size
    small = yuv(source).rgb(width, height)[:, :, 1]
    rows, columns = np.nonzero(small > 128)
    got = (rows.min() / height, (rows.max() + 1) / height, columns.min() / width, (columns.max() + 1) / width)
    assert got == pytest.approx((0.25, 0.5, 0.25, 0.75), abs=0.03)


@settings(deadline=None, max_examples=40)
@given(width=st.integers(1, 400), height=st.integers(1, 400))
def test_any_size_can_be_asked_for(width: int, height: int) -> None:
    assert yuv(moving(3)).rgb(width, height).shape == (height, width, 3)


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
