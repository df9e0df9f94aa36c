import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.infer.engine import ModelError, TensorSpec
from agent.infer.preprocess import Geometry, InputRule, Preprocessor
from tests.infer.pictures import ArrayPicture


def spec(shape: tuple[int, ...], dtype: str, scale: float = 0.0, zero_point: int = 0) -> TensorSpec:
    return TensorSpec("picture", shape, np.dtype(dtype), scale, zero_point)


def gradient(height: int, width: int) -> ArrayPicture:
    values = np.arange(height * width * 3, dtype=np.int64) % 256
    return ArrayPicture(values.astype(np.uint8).reshape(height, width, 3))


def test_a_uint8_input_takes_the_pixels_without_a_copy() -> None:
    picture = gradient(16, 16)
    tensor, _ = Preprocessor(InputRule(), spec((1, 16, 16, 3), "uint8", 1 / 128, 128)).prepare(picture)
    assert tensor.shape == (1, 16, 16, 3)
    assert np.shares_memory(tensor, picture.pixels)


@pytest.mark.parametrize(
    ("rule", "tensor", "expected"),
    [
        (InputRule(), spec((1, 2, 2, 3), "int8"), lambda p: p - 128.0),
        (InputRule(mean=(0,) * 3, std=(255,) * 3), spec((1, 2, 2, 3), "int8", 1 / 255, -128), lambda p: p - 128.0),
        (
            InputRule(mean=(0,) * 3, std=(255,) * 3),
            spec((1, 2, 2, 3), "int8", 0.0186584, -14),
            lambda p: np.rint(p / 255 / 0.0186584) - 14,
        ),
        (
            InputRule(mean=(100, 110, 120), std=(50, 60, 70)),
            spec((1, 2, 2, 3), "int8", 0.02, 3),
            lambda p: np.clip(np.rint((p - [100, 110, 120]) / [50, 60, 70] / 0.02) + 3, -128, 127),
        ),
        (InputRule(), spec((1, 2, 2, 3), "float32"), lambda p: p),
        (InputRule(mean=(127.5,) * 3, std=(127.5,) * 3), spec((1, 2, 2, 3), "float32"), lambda p: p / 127.5 - 1),
        (
            InputRule(mean=(1, 2, 3), std=(4, 5, 6)),
            spec((1, 2, 2, 3), "float16"),
            lambda p: (p - [1, 2, 3]) / [4, 5, 6],
        ),
        (InputRule(color="bgr"), spec((1, 2, 2, 3), "float32"), lambda p: p[..., ::-1]),
    ],
)
def test_pixels_become_what_the_tensor_stores(rule: InputRule, tensor: TensorSpec, expected: object) -> None:
    picture = ArrayPicture(np.array([[[0, 1, 2], [127, 128, 129]], [[253, 254, 255], [7, 77, 177]]], np.uint8))
    got, _ = Preprocessor(rule, tensor).prepare(picture)
    assert got.dtype == tensor.dtype
    assert got.flags.c_contiguous
    want = expected(picture.pixels.astype(np.float64))  # type: ignore[operator]
    np.testing.assert_allclose(got[0].astype(np.float64), want, rtol=1e-3, atol=1e-3)


def test_nchw_puts_channels_first() -> None:
    picture = gradient(4, 6)
    tensor, _ = Preprocessor(InputRule(layout="nchw"), spec((1, 3, 4, 6), "uint8")).prepare(picture)
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor[0].transpose(1, 2, 0), picture.pixels)


def test_grey_is_the_luma() -> None:
    picture = ArrayPicture(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8))
    tensor, _ = Preprocessor(InputRule(color="gray"), spec((1, 1, 4, 1), "uint8")).prepare(picture)
    assert tensor.ravel().tolist() == [76, 149, 28, 255]


def test_letterbox_keeps_the_shape_and_fills_the_rest() -> None:
    picture = ArrayPicture(np.full((90, 160, 3), 200, np.uint8))
    prepare = Preprocessor(InputRule(resize="letterbox", fill=7), spec((1, 64, 64, 3), "uint8"))
    tensor, placement = prepare.prepare(picture)
    assert (tensor[0, :14] == 7).all()
    assert (tensor[0, 14:50] == 200).all()
    assert (tensor[0, 50:] == 7).all()
    corners = np.array([[0, 14, 64, 50]], np.float32)
    np.testing.assert_allclose(placement.to_frame(corners), [[0, 0, 160, 90]], atol=1e-4)


@given(
    st.integers(1, 4000), st.integers(1, 4000), st.integers(8, 640), st.integers(8, 640),
    st.sampled_from(["stretch", "letterbox"]),
)  # fmt: skip
def test_the_content_maps_back_to_exactly_the_frame(
    frame_width: int, frame_height: int, width: int, height: int, resize: str
) -> None:
    geometry = Geometry(width, height, resize)
    x, y, w, h = geometry.content(frame_width, frame_height)
    assert 0 <= x <= x + w <= width
    assert 0 <= y <= y + h <= height
    back = geometry.placement(frame_width, frame_height).to_frame(np.array([[x, y, x + w, y + h]], np.float32))
    np.testing.assert_allclose(back, [[0, 0, frame_width, frame_height]], rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize(
    ("rule", "tensor", "said"),
    [
        (InputRule(), spec((1, 3, 8, 8), "uint8"), r"shape \(1, 3, 8, 8\), but layout nhwc"),
        (InputRule(color="gray"), spec((1, 8, 8, 3), "uint8"), "color gray"),
        (InputRule(), spec((2, 8, 8, 3), "uint8"), r"\(2, 8, 8, 3\)"),
        (InputRule(), spec((1, 48), "uint8"), r"\(1, 48\)"),
        (InputRule(), spec((1, 8, 8, 3), "int32"), "stores int32"),
    ],
)
def test_a_tensor_that_is_no_such_picture_is_refused(rule: InputRule, tensor: TensorSpec, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Preprocessor(rule, tensor)
