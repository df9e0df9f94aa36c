"""RTSP through an `ffmpeg` child: every hardware decoder of the host, and the system cleans up after any hang.

The child speaks RTSP, decodes, and writes raw YUV in the NUT container to a pipe, which PyAV reads in this process:
stamps and size come along, a frame is one copy out of the pipe, and Python touches no pixel. NUT costs the same CPU
as reading bare planes with readv into a fresh buffer (0.11 ms for 640x352 with a pipe of 1 MiB; 0.23 ms with the
system's default of 64 KiB). A picture size that changes in mid-stream is scaled to the first one by the child.

Credentials: an address that carries any goes to the child through its standard input, as a one-line concat list, so
that it appears neither in the process list nor in a file. ffmpeg repeats addresses in its messages: each line is
scrubbed before anything looks at it.
"""

import contextlib
import fcntl
import functools
import logging
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from time import monotonic, monotonic_ns
from typing import IO

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame

from agent.capture.address import redact, scrub, with_credentials, without_credentials
from agent.capture.diagnosis import diagnose, input_format, is_damage
from agent.capture.errors import CaptureInterruptedError, CaptureToolError
from agent.capture.pacing import StreamClock
from agent.capture.pyav import AvPicture, describe
from agent.capture.settings import CameraConfig
from agent.capture.source import Captured

log = logging.getLogger(__name__)

_PIPE_BYTES = 1 << 20
_LINES_MAX = 40
_LINE_BYTES_MAX = 2000
_EXIT_WAIT_S = 2.0


class FfmpegSource:
    """An RTSP stream. time_s follows the stream's own stamps, held to the monotonic clock (`pacing.StreamClock`)."""

    live = True

    def __init__(self, config: CameraConfig) -> None:
        self.broken = 0  # pictures that the child said it concealed or dropped
        self.format = ""
        self.clock = StreamClock()
        self._config = config
        self._shown = redact(config.source)
        self._url = with_credentials(config.source, config.username, config.password)
        self._child: subprocess.Popen[bytes] | None = None
        self._said: deque[str] = deque(maxlen=_LINES_MAX)
        self._listener: threading.Thread | None = None
        self._container: InputContainer | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._lock = threading.Lock()  # between starting the child and interrupting it
        self._interrupted = False

    def open(self) -> None:
        self._start()
        assert self._child is not None and self._child.stdout is not None
        try:
            self._container = av.open(
                f"pipe:{self._child.stdout.fileno()}", "r", format="nut", options={"probesize": "32"}
            )
            stream = self._container.streams.video[0]
            stream.thread_count = 1
            stream.thread_type = "NONE"
        except (av.error.FFmpegError, IndexError):
            raise self._failure() from None
        self.format = self.format or describe(stream)
        self._frames = self._container.decode(stream)

    def read(self) -> Captured | None:
        try:
            frame = next(self._frames, None)
        except av.error.FFmpegError:
            frame = None
        if frame is None:  # a live stream has no end: this is a failure
            raise self._failure()
        arrival_s = monotonic()
        stamp_s = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
        return Captured(AvPicture(frame), self.clock.time_s(stamp_s, arrival_s), monotonic_ns())

    def interrupt(self) -> None:
        with self._lock:
            self._interrupted = True
            if self._child is not None:
                self._child.kill()

    def close(self) -> None:
        self._frames = iter(())
        child = self._child
        if child is not None:
            child.kill()
            try:
                child.wait(_EXIT_WAIT_S)
            except subprocess.TimeoutExpired:  # stuck in a driver; Popen reaps it when it gets free
                log.error("camera %s: ffmpeg process %d cannot be killed", self._config.id, child.pid)
        if self._listener is not None:
            self._listener.join(_EXIT_WAIT_S)  # its pipe ends with the child
        if self._container is not None:
            self._container.close()
            self._container = None
        if child is not None:
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()

    def _start(self) -> None:
        program = shutil.which(self._config.ffmpeg)
        if program is None:
            raise CaptureToolError(
                f"{self._shown} needs the program {self._config.ffmpeg!r}, which is not here", hint="install ffmpeg"
            )
        arguments, script = _arguments(self._config, self._url)
        with self._lock:
            if self._interrupted:
                raise CaptureInterruptedError(f"opening {self._shown} was interrupted")
            self._child = subprocess.Popen(
                [*_dies_with_us(), program, *arguments],
                stdin=subprocess.PIPE if script else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        assert self._child.stdout is not None and self._child.stderr is not None
        with contextlib.suppress(OSError):  # not allowed that much: slower, not wrong
            fcntl.fcntl(self._child.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._listener = threading.Thread(
            target=self._listen, args=(self._child.stderr,), name=f"capture-ffmpeg-{self._config.id}", daemon=True
        )
        self._listener.start()
        if self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it ended at once: its messages say why
                self._child.stdin.write(script)
                self._child.stdin.close()

    def _listen(self, pipe: IO[bytes]) -> None:
        """Keep the child's last lines, scrubbed, until its pipe ends."""
        secrets = {self._config.password, without_credentials(self._url)[2]}
        while raw := pipe.readline(_LINE_BYTES_MAX):
            line = scrub(raw.decode("utf-8", "replace").strip(), *secrets)
            self.broken += is_damage(line)
            # ffmpeg describes its input before its output; only the input's codec is news.
            if not self.format:
                self.format = input_format(line) or ""
            self._said.append(line)
            log.debug("camera %s: ffmpeg: %s", self._config.id, line)

    def _failure(self) -> Exception:
        """Why the stream ended; waits for the child's last words."""
        if self._interrupted:
            return CaptureInterruptedError(f"reading {self._shown} was interrupted")
        assert self._child is not None and self._listener is not None
        try:
            self._child.wait(_EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._listener.join(_EXIT_WAIT_S)
        return diagnose(tuple(self._said), self._shown)


def _arguments(config: CameraConfig, url: str) -> tuple[list[str], bytes]:
    """The child's arguments, and what it is to read from its standard input (empty: nothing)."""
    # ffmpeg's own patience is a second net: the camera's watchdog interrupts earlier.
    timeout_us = str(int(max(config.open_timeout_s, config.stall_after_s) * 1e6) + 1_000_000)
    connect = {"rtsp_transport": config.transport, "timeout": timeout_us, "fflags": "nobuffer", "fpsprobesize": "0"}
    before = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "info", "-flags", "low_delay"]
    before += ["-threads", str(config.decode_threads)]
    if config.hwaccel:
        before += ["-hwaccel", config.hwaccel]
    if redact(url) != url:
        lines = ["ffconcat version 1.0", "file '" + url.replace("'", "%27") + "'"]
        lines += [f"option {key} {value}" for key, value in connect.items()]
        script = "\n".join(lines).encode() + b"\n"
        before += ["-fflags", "nobuffer", "-fpsprobesize", "0", "-f", "concat", "-safe", "0"]
        before += ["-protocol_whitelist", "pipe,rtsp,rtsps,rtp,udp,tcp,tls,crypto", "-i", "pipe:0"]
    else:
        script = b""
        before += [word for key, value in connect.items() for word in (f"-{key}", value)] + ["-i", url]
    after = ["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "-1"]
    if config.width:
        after += ["-vf", f"scale={config.width}:{config.height}:flags=area"]
    after += ["-c:v", "rawvideo", "-pix_fmt", "yuv420p", "-f", "nut", "-flush_packets", "1", "pipe:1"]
    return before + after, script


@functools.cache
def _dies_with_us() -> tuple[str, ...]:
    """A wrapper that has the kernel kill the child when the thread that started it ends, however that happens.

    `setpriv` (util-linux) sets the signal and becomes the child: no code of ours runs between fork and exec, which
    would not be safe beside other threads. Without it the child still ends at its next write to the broken pipe.
    """
    program = shutil.which("setpriv")
    return (program, "--pdeathsig", "KILL", "--") if program else ()
