"""Pictures to JPEG and MP4 by PyAV. Everything here takes its time and belongs in a thread of low priority."""

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import av.codec
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from agent.capture.frame import Picture, Rgb
from agent.capture.picture import RgbPicture
from agent.capture.pyav import jpeg, scale_rgb
from runtime.errors import PermanentError

# Best first. The wheel of PyAV brings x264; a distribution's FFmpeg may have only the others.
_CLIP_CODECS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"preset": "veryfast", "crf": "28"}),
    ("libopenh264", {}),
    ("mpeg4", {"qscale": "6"}),
)
_TICK = Fraction(1, 1000)


class UndecodableError(PermanentError):
    """A picture of the ring cannot be read back."""


def small_rgb(picture: Picture, width_max: int) -> Rgb:
    """The picture as RGB, shrunk to `width_max` when it is wider; width and height are even, as video wants them."""
    width = min(picture.width, width_max)
    height = max(2, round(picture.height * width / picture.width))
    return picture.rgb(max(2, width - width % 2), height - height % 2 or 2)


def jpeg_of(rgb: Rgb, quality: int) -> bytes:
    """A JPEG file."""
    return jpeg(RgbPicture(np.ascontiguousarray(rgb)), quality)


def rgb_of(data: bytes) -> Rgb:
    """A JPEG file as RGB. Raises UndecodableError."""
    decoder = av.CodecContext.create("mjpeg", "r")
    try:
        for frame in [*decoder.decode(av.Packet(data)), *decoder.decode(None)]:
            assert isinstance(frame, VideoFrame)
            return np.ascontiguousarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    except av.error.FFmpegError as error:
        raise UndecodableError(f"a picture of the ring cannot be decoded: {error}") from error
    raise UndecodableError(f"{len(data)} bytes of the ring hold no picture")


def clip_of(frames: Iterator[tuple[float, Rgb]]) -> bytes:
    """An MP4 file of (time in seconds, picture), at least one; all as large as the first."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: VideoStream | None = None
        began_s, last_tick = 0.0, -1
        for time_s, rgb in frames:
            if stream is None:
                stream = _stream(container, rgb.shape[1], rgb.shape[0])
                began_s = time_s
            if rgb.shape[:2] != (stream.height, stream.width):
                rgb = scale_rgb(rgb, stream.width, stream.height)
            frame = VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p", threads=1)
            last_tick = max(last_tick + 1, round((time_s - began_s) / _TICK))
            frame.pts, frame.time_base = last_tick, _TICK
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("a clip needs at least one picture")
        container.mux(stream.encode(None))
    return file.getvalue()


def _stream(container: av.container.OutputContainer, width: int, height: int) -> VideoStream:
    name, options = next((name, options) for name, options in _CLIP_CODECS if name in av.codec.codecs_available)
    stream = container.add_stream(name, options=options)
    assert isinstance(stream, VideoStream) and isinstance(stream.codec_context, VideoCodecContext)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = _TICK
    stream.codec_context.thread_count = 1
    return stream
