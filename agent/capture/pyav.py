"""Decoding, scaling and JPEG by PyAV (FFmpeg's libraries in this process), and video files read with it.

Why not OpenCV: PyAV keeps the decoder's YUV, so that only the small RGB picture a model wants is ever made, and it
costs a fraction of the memory.
"""

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from time import monotonic_ns

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from agent.capture.errors import CaptureInterruptedError, StreamNotFoundError, UnreadableVideoError
from agent.capture.frame import Picture, Rgb
from agent.capture.picture import pick_points
from agent.capture.source import Captured

# Formats whose first plane is 8-bit luma, one byte a pixel.
_LUMA_FIRST = frozenset(
    ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuv411p", "nv12", "nv21", "gray")
)

# The format between the two steps to RGB, of the same colour range as the decoder's.
_MIDDLE = {
    "yuv420p": "yuv420p",
    "yuv422p": "yuv420p",
    "yuv444p": "yuv420p",
    "nv12": "yuv420p",
    "yuvj420p": "yuvj420p",
    "yuvj422p": "yuvj420p",
    "yuvj444p": "yuvj420p",
}

_JPEG_Q_BEST, _JPEG_Q_WORST = 2, 31  # the encoder's scale


class _Scalers(threading.local):
    """The swscale contexts of one thread: each is rebuilt only when sizes change, and no two threads share them."""

    def __init__(self) -> None:
        self.size = VideoReformatter()
        self.colour = VideoReformatter()


_scalers = _Scalers()


def scale(frame: VideoFrame, width: int, height: int, pixel_format: str) -> VideoFrame:
    """`frame` in another size and pixel format.

    RGB from the usual YUV is made in two steps, size first and colours second, because swscale has fast code for each
    and slow code for both at once. AREA, because it averages what it leaves out. CPU time for 640x352 to 300x300 on
    the reference machine, and how well coco_ssd's boxes agree with those of an exactly averaged picture (mean IoU):

        one step   FAST_BILINEAR 0.18 ms 0.81   BILINEAR 0.32 ms 0.91   AREA 0.29 ms 0.94
        two steps  FAST_BILINEAR 0.10 ms 0.82   BILINEAR 0.14 ms 0.90   AREA 0.10 ms 0.94
    """
    middle = _MIDDLE.get(frame.format.name) if pixel_format == "rgb24" else None
    if middle is not None and (frame.width, frame.height) != (width, height):
        frame = _reformat(_scalers.size, frame, width, height, middle)
    return _reformat(_scalers.colour, frame, width, height, pixel_format)


def _reformat(scaler: VideoReformatter, frame: VideoFrame, width: int, height: int, pixel_format: str) -> VideoFrame:
    # One thread: the default starts slice threads for a tenth of a millisecond of work, which adds a quarter to it.
    full_range = ColorRange.JPEG if pixel_format.startswith("yuvj") else None
    return scaler.reformat(
        frame,
        width,
        height,
        pixel_format,
        interpolation=Interpolation.AREA,
        dst_color_range=full_range,
        threads=1,
    )


def scale_rgb(rgb: Rgb, width: int, height: int) -> Rgb:
    """An RGB array in another size."""
    frame = VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgb), "rgb24")
    return _contiguous(scale(frame, width, height, "rgb24"))


def _contiguous(frame: VideoFrame) -> Rgb:
    # Rows of the frame are padded for SIMD; consumers want them without gaps (10 us for 300x300, if `malloc` helps).
    return np.ascontiguousarray(frame.to_ndarray(), dtype=np.uint8)


class AvPicture:
    """A picture over a decoded frame, kept as the decoder made it."""

    __slots__ = ("frame",)

    def __init__(self, frame: VideoFrame) -> None:
        self.frame = frame

    @property
    def width(self) -> int:
        return self.frame.width

    @property
    def height(self) -> int:
        return self.frame.height

    def rgb(self, width: int | None = None, height: int | None = None) -> Rgb:
        return _contiguous(scale(self.frame, width or self.width, height or self.height, "rgb24"))

    def luma(self) -> NDArray[np.uint8]:
        """See `picture.luma`; the luma plane itself where there is one."""
        if self.frame.format.name in _LUMA_FIRST:
            plane = self.frame.planes[0]
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
            visible: NDArray[np.uint8] = rows[: self.height, : self.width]
            return visible
        return self.rgb()[:, :, 1]

    def luma_points(self, across: int, down: int) -> NDArray[np.uint8]:
        """See `picture.fingerprint`."""
        return pick_points(self.luma(), across, down)


def jpeg(picture: Picture, quality: int = 80, width_max: int | None = None) -> bytes:
    """The picture as a JPEG file, shrunk to `width_max` when wider. quality: 1 (small) to 100 (best)."""
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality is 1 to 100, not {quality}")
    width, height = picture.width, picture.height
    if width_max is not None and width > width_max:
        width, height = width_max, max(1, round(height * width_max / width))
    if isinstance(picture, AvPicture):
        frame = picture.frame
    else:
        frame = VideoFrame.from_numpy_buffer(np.ascontiguousarray(picture.rgb()), "rgb24")
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    step = round(_JPEG_Q_WORST - (quality - 1) / 99 * (_JPEG_Q_WORST - _JPEG_Q_BEST))
    encoder.qmin = encoder.qmax = step
    full = scale(frame, width, height, "yuvj420p")
    full.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(full), *encoder.encode(None)])


class VideoFile:
    """A video file. time_s is media time from the first frame on; with `loop` it goes on growing over each restart.

    Broken packets are passed over and counted, a cut-off file is read up to the cut.
    open raises StreamNotFoundError or UnreadableVideoError; read raises UnreadableVideoError when not a single frame
    could be decoded.
    """

    live = False

    def __init__(self, path: Path, *, loop: bool = False, decode_threads: int = 1) -> None:
        self.broken = 0
        self.format = ""
        self._path = path
        self._loop = loop
        self._decode_threads = decode_threads
        self._container: InputContainer | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._interrupted = False
        self._frame_step_s = 0.04
        self._start_s: float | None = None  # media time of the first frame of this round
        self._round_s = 0.0  # time_s at which this round began
        self._last_s: float | None = None

    def open(self) -> None:
        self._container, stream = open_video(self._path)
        self.format = describe(stream)
        rate = stream.average_rate or stream.guessed_rate
        if rate:
            self._frame_step_s = float(1 / rate)
        self._frames = self._decode(self._container, stream)

    def read(self) -> Captured | None:
        while True:
            if self._interrupted:
                raise CaptureInterruptedError(f"reading {self._path} was interrupted")
            frame = next(self._frames, None)
            if frame is not None:
                return Captured(AvPicture(frame), self._time_s(frame), monotonic_ns())
            if self._last_s is None:
                raise UnreadableVideoError(
                    f"no frame of {self._path} could be decoded ({self.broken} broken packets)",
                    hint="the file is cut off or damaged; copy it again",
                )
            if not self._loop:
                return None
            self._round_s = self._last_s + self._frame_step_s
            self._start_s = None
            self.close()
            self.open()

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self) -> None:
        self._frames = iter(())
        if self._container is not None:
            self._container.close()
            self._container = None

    def _decode(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        stream.thread_count = self._decode_threads
        stream.thread_type = "NONE" if self._decode_threads == 1 else "AUTO"
        for packet in self._packets(container, stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.broken += 1
                continue
            for frame in frames:
                assert isinstance(frame, VideoFrame)
                yield frame

    def _packets(self, container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
        try:
            yield from container.demux(stream)
        except av.error.FFmpegError:
            self.broken += 1  # nothing can be read beyond the damage

    def _time_s(self, frame: VideoFrame) -> float:
        media_s = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
        if self._start_s is None:
            self._start_s = media_s or 0.0
        time_s = self._round_s if media_s is None else self._round_s + media_s - self._start_s
        if self._last_s is not None and time_s <= self._last_s:  # missing or repeated stamps
            time_s = self._last_s + self._frame_step_s
        self._last_s = time_s
        return time_s


def open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a file and find its video. Raises StreamNotFoundError or UnreadableVideoError."""
    try:
        container = av.open(str(path), "r")
    except FileNotFoundError:
        raise StreamNotFoundError(f"there is no {path}", hint="check the path in the camera's source") from None
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideoError(
            f"{path} cannot be read as a video: {getattr(error, 'strerror', None) or error}",
            hint="check with `ffprobe` that it is a video",
        ) from None
    if not container.streams.video:
        container.close()
        raise UnreadableVideoError(f"{path} holds no video stream", hint="check with `ffprobe` that it is a video")
    return container, container.streams.video[0]


def describe(stream: VideoStream) -> str:
    """Codec and size: `h264 640x352`."""
    context = stream.codec_context
    return f"{context.name} {context.width}x{context.height}"
