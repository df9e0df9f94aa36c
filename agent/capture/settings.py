"""What a camera can be told: plain values, checked in one go."""

import math
from dataclasses import dataclass, field, fields

from agent.capture.address import redact
from runtime.errors import ConfigError


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """One camera or video.

    id:              name of the camera in events and topics
    source:          where the frames come from: a file, a folder of images, `rtsp://…`, `http://…` (MJPEG),
                     `/dev/video0`, or a rendered scene such as `scene:weld?seed=1`
    fps_target:      frames a second to hand on, picked evenly; 0: every frame
    loop:            files and folders: begin again at the end, for ever
    realtime:        files and folders: replay at recorded speed; false: as fast as the frames are taken
    username:        for RTSP and HTTP, if not part of the address
    password:        for RTSP and HTTP; never shown or logged
    fps:             image folders: pictures a second; V4L2: the rate asked of the device (0: its own choice)
    width:           RTSP and V4L2: width in pixels to ask for; 0: as the source has it
    height:          RTSP and V4L2: height in pixels to ask for; 0: as the source has it
    pixel_format:    V4L2: the format to ask for, such as `mjpeg` or `yuyv422`; empty: the device's choice
    open_timeout_s:  longest time to connect and get the first frame
    stall_after_s:   live sources: without a frame for this long the stream has stalled and is opened again
    frozen_after_s:  live sources: with the same picture for this long it is frozen; 0: never
    retry_first_s:   pause before the first attempt to reconnect; doubles from there
    retry_max_s:     longest pause between attempts
    retry_slow_s:    pause when a person is needed: wrong password, no such stream, not a video
    decode_threads:  decoder threads; more than one adds latency and memory, and helps only above 1080p
    hwaccel:         RTSP: ffmpeg's hardware decoder, such as `vaapi`, `cuda`, `v4l2m2m`, `auto`; empty: none
    transport:       RTSP: `tcp` or `udp`
    ffmpeg:          RTSP: name or path of the ffmpeg program (5.1 or newer)
    tls_verify:      HTTPS: check the certificate; false for a camera that signed its own (RTSPS: not checked)
    """

    id: str
    source: str
    fps_target: float = 0.0
    loop: bool = False
    realtime: bool = True
    username: str = ""
    password: str = field(default="", repr=False)
    fps: float = 0.0
    width: int = 0
    height: int = 0
    pixel_format: str = ""
    open_timeout_s: float = 10.0
    stall_after_s: float = 5.0
    frozen_after_s: float = 30.0
    retry_first_s: float = 1.0
    retry_max_s: float = 30.0
    retry_slow_s: float = 60.0
    decode_threads: int = 1
    hwaccel: str = ""
    transport: str = "tcp"
    ffmpeg: str = "ffmpeg"
    tls_verify: bool = True

    def __repr__(self) -> str:
        """Without credentials."""
        shown = {item.name: getattr(self, item.name) for item in fields(self)}
        shown |= {"source": redact(self.source), "password": "***" if self.password else ""}
        return f"CameraConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def problems(self) -> list[str]:
        """Everything wrong with these values, one sentence each; empty when all is well."""
        found = [f"{name}: must not be empty" for name in ("id", "source", "ffmpeg") if not getattr(self, name)]
        limits: list[tuple[str, float, float]] = [
            ("fps_target", 0.0, 1000.0),
            ("fps", 0.0, 1000.0),
            ("width", 0, 16384),
            ("height", 0, 16384),
            ("open_timeout_s", 0.1, 600.0),
            ("stall_after_s", 0.1, 3600.0),
            ("frozen_after_s", 0.0, 86400.0),
            ("retry_first_s", 0.01, 3600.0),
            ("retry_max_s", 0.01, 86400.0),
            ("retry_slow_s", 0.01, 86400.0),
            ("decode_threads", 1, 64),
        ]
        for name, low, high in limits:
            value = getattr(self, name)
            if not math.isfinite(value) or not low <= value <= high:
                found.append(f"{name}: {value} is not between {low:g} and {high:g}")
        if self.retry_max_s < self.retry_first_s:
            found.append(f"retry_max_s: {self.retry_max_s:g} is less than retry_first_s {self.retry_first_s:g}")
        if (self.width == 0) != (self.height == 0):
            found.append("width, height: give both or neither")
        if self.transport not in ("tcp", "udp"):
            found.append(f"transport: {self.transport!r} is neither tcp nor udp")
        if any(ord(char) < 32 for char in self.source + self.username + self.password):
            found.append("source, username, password: must not contain control characters")
        return found

    def check(self) -> None:
        """Raises ConfigError with all problems at once."""
        if found := self.problems():
            raise ConfigError(f"camera {self.id!r}: " + "; ".join(found))
