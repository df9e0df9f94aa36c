"""What ffmpeg's messages mean: from its last lines to one of our errors."""

import re
from collections.abc import Iterable

from agent.capture.errors import (
    CameraAuthError,
    CameraStalledError,
    CameraUnreachableError,
    CaptureToolError,
    StreamNotFoundError,
    UnreadableVideoError,
)
from runtime.errors import EdgewrightError

# Asked in this order of all lines together: the first cause that fits is the one to report.
_CAUSES: tuple[tuple[re.Pattern[str], type[EdgewrightError], str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), error, what, hint)
    for pattern, error, what, hint in (
        (
            r"\b40[13] (unauthorized|forbidden)|authorization failed",
            CameraAuthError,
            "refused the credentials",
            "check username and password",
        ),
        (
            r"\b404 not found|\b410 gone|stream not found",
            StreamNotFoundError,
            "has no such stream",
            "check the address's path",
        ),
        (
            r"unrecognized option|option \S+ not found|supported hwaccels:|protocol not found",
            CaptureToolError,
            "needs something this ffmpeg lacks",
            "ffmpeg 5.1 or newer is needed, with the hwaccel asked for",
        ),
        (
            r"device setup failed for decoder|hwaccel initiali[sz]ation returned error",
            CaptureToolError,
            "cannot use the hardware decoder",
            "clear hwaccel, or give the service access to the device",
        ),
        (
            r"failed to resolve|name or service not known|temporary failure in name resolution",
            CameraUnreachableError,
            "has a host name that does not resolve",
            "check the address and DNS",
        ),
        (r"connection refused", CameraUnreachableError, "refuses connections", "is the camera on, the port right?"),
        (
            r"no route to host|network is unreachable|host is unreachable",
            CameraUnreachableError,
            "cannot be reached",
            "check network and address",
        ),
        (r"timed out", CameraStalledError, "did not answer in time", "check camera and network"),
        (
            r"matches no streams|does not contain any stream|could not find codec|decoder not found"
            r"|decoder .*\(.*none.*\) not found|unknown decoder|unsupported codec",
            UnreadableVideoError,
            "sends no video that can be decoded",
            "set the camera to H.264, H.265 or MJPEG",
        ),
    )
)

_INPUT_VIDEO = re.compile(r"Stream #0:\d+.*?: Video: (\w+).*?\b(\d{2,5}x\d{2,5})\b")

_DAMAGE = re.compile(r"concealing \d+|corrupt decoded frame|could not find ref with poc", re.IGNORECASE)


def diagnose(lines: Iterable[str], shown: str) -> EdgewrightError:
    """The error behind the end of an ffmpeg child. `shown` is the redacted address; `lines` are redacted as well."""
    said = list(lines)
    text = "\n".join(said)
    for pattern, error, what, hint in _CAUSES:
        if pattern.search(text):
            return error(f"{shown} {what}", hint=hint)
    last = said[-1] if said else "without a word"
    return CameraUnreachableError(f"{shown}: the stream ended ({last})", hint="check camera and network")


def is_damage(line: str) -> bool:
    """Whether `line` tells of a picture that was shown damaged or dropped."""
    return _DAMAGE.search(line) is not None


def input_format(line: str) -> str | None:
    """Codec and size when `line` describes a video stream, such as `h264 640x352`."""
    found = _INPUT_VIDEO.search(line)
    return f"{found[1]} {found[2]}" if found else None
