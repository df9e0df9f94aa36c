from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from agent.capture.errors import CaptureInterruptedError, StreamNotFoundError, UnreadableVideoError
from agent.capture.picture import RgbPicture
from agent.capture.pyav import jpeg
from agent.capture.settings import CameraConfig
from agent.capture.source import Captured, FrameSource, open_source
from runtime.errors import ConfigError
from tests.assets import ASSETS, needs_assets
from tests.capture.helpers import plain


def opened(address: str | Path, loop: bool = False, fps: float = 0) -> FrameSource:
    source = open_source(CameraConfig("cam", str(address), loop=loop, fps=fps))
    source.open()
    return source


def read_all(source: FrameSource, limit: int = 100_000) -> list[Captured]:
    frames: list[Captured] = []
    while len(frames) < limit and (captured := source.read()) is not None:
        frames.append(captured)
    source.close()
    return frames


def test_a_file_gives_every_frame_at_its_time(short_clip: Path) -> None:
    source = opened(short_clip)
    assert not source.live
    frames = read_all(source)
    assert source.format == "h264 160x120"
    assert [frame.time_s for frame in frames] == pytest.approx([n / 20 for n in range(50)])
    brightness = [frame.picture.rgb().mean() for frame in frames]
    assert brightness == pytest.approx([5 * n for n in range(50)], abs=8)
    assert all(before.captured_mono_ns <= after.captured_mono_ns for before, after in pairwise(frames))


def test_a_file_address_is_a_path_as_well(short_clip: Path) -> None:
    assert len(read_all(opened(f"file://{short_clip}"))) == 50
    assert len(read_all(opened(f"file:{short_clip}"))) == 50


def test_a_loop_goes_on_in_time(short_clip: Path) -> None:
    frames = read_all(opened(short_clip, loop=True), limit=120)
    assert [frame.time_s for frame in frames] == pytest.approx([n / 20 for n in range(120)])
    assert frames[50].picture.rgb().mean() == pytest.approx(frames[0].picture.rgb().mean(), abs=1)


def test_two_readings_of_a_file_are_the_same(short_clip: Path) -> None:
    one, two = read_all(opened(short_clip)), read_all(opened(short_clip))
    assert [frame.time_s for frame in one] == [frame.time_s for frame in two]
    assert all((a.picture.rgb(100, 100) == b.picture.rgb(100, 100)).all() for a, b in zip(one, two, strict=True))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(StreamNotFoundError, match=r"/no/such/clip\.mp4"):
        opened("/no/such/clip.mp4")


@pytest.mark.parametrize("content", [b"these are words, not pictures\n" * 100, b"", bytes(5000)])
def test_a_file_that_is_no_video_is_refused_with_a_hint(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(content)
    with pytest.raises(UnreadableVideoError, match=r"clip\.mp4") as caught:
        opened(file)
    assert caught.value.hint


def to_stream_format(clip: Path, into: Path) -> bytes:
    """The clip as MPEG-TS, which can be cut anywhere."""
    with av.open(str(clip)) as source, av.open(str(into), "w", format="mpegts") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return into.read_bytes()


def test_a_cut_off_file_is_read_up_to_the_cut(short_clip: Path, tmp_path: Path) -> None:
    data = to_stream_format(short_clip, tmp_path / "whole.ts")
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[: len(data) // 2])
    assert 10 < len(read_all(opened(cut))) < 45


def test_broken_packets_are_passed_over_and_counted(moving_clip: Path, tmp_path: Path) -> None:
    data = bytearray(to_stream_format(moving_clip, tmp_path / "whole.ts"))
    rng = np.random.default_rng(1)
    for at in rng.integers(len(data) // 4, len(data), 400):
        data[at : at + 300] = rng.bytes(300)
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(data)
    source = opened(damaged)
    frames = read_all(source)
    assert 250 < len(frames) <= 1200
    times_s = [frame.time_s for frame in frames]
    assert times_s == sorted(times_s)
    assert source.broken > 0


def test_a_file_of_nothing_but_a_header_is_reported(short_clip: Path, tmp_path: Path) -> None:
    data = bytearray(short_clip.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    assert start < end
    data[start:end] = bytes(end - start)  # an index without anything behind it
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(data)
    for loop in (False, True):
        with pytest.raises(UnreadableVideoError, match=r"empty\.mp4"):
            read_all(opened(empty, loop=loop))


def test_an_interrupted_file_reads_no_further(short_clip: Path) -> None:
    source = opened(short_clip)
    source.read()
    source.interrupt()
    with pytest.raises(CaptureInterruptedError):
        source.read()
    source.close()
    source.close()


def image_folder(folder: Path, count: int) -> Path:
    for n in range(count):
        (folder / f"{n:03}.jpg").write_bytes(jpeg(RgbPicture(plain(20 * n, 20 * n, 20 * n))))
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.parametrize("prefix", ["", "images:"])
def test_a_folder_of_images_is_read_in_the_order_of_names(tmp_path: Path, prefix: str) -> None:
    frames = read_all(opened(f"{prefix}{image_folder(tmp_path, 6)}", fps=5))
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert [frame.picture.rgb().mean() for frame in frames] == pytest.approx([0, 20, 40, 60, 80, 100], abs=4)


def test_a_folder_loops_and_passes_over_what_is_no_image(tmp_path: Path) -> None:
    image_folder(tmp_path, 3)
    (tmp_path / "001.jpg").write_text("broken")
    source = opened(tmp_path, loop=True, fps=10)
    frames = read_all(source, limit=4)
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.2, 0.3, 0.5])
    assert source.broken == 2


def test_an_empty_or_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StreamNotFoundError, match="no image"):
        opened(tmp_path)
    with pytest.raises(StreamNotFoundError, match="cannot list"):
        opened(f"images:{tmp_path}/none")


@pytest.mark.parametrize("loop", [False, True])
def test_a_folder_of_broken_images_is_reported(tmp_path: Path, loop: bool) -> None:
    (tmp_path / "a.jpg").write_text("broken")
    with pytest.raises(UnreadableVideoError, match="none of the 1 images"):
        read_all(opened(tmp_path, loop=loop))


def test_an_unknown_kind_of_address_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(CameraConfig("cam", "gopher://bob:secret@host/x"))
    assert "secret" not in str(caught.value)
    assert "gopher" in str(caught.value)


@needs_assets
@pytest.mark.assets
@pytest.mark.parametrize(("clip", "frames"), [("vtest_480x360.avi", 795), ("road_counting_640x352.mp4", 905)])
def test_real_clips_give_all_their_frames(clip: str, frames: int) -> None:
    read = read_all(opened(ASSETS / "video" / clip))
    assert len(read) == frames
    assert all(before.time_s < after.time_s for before, after in pairwise(read))
