"""What can go wrong with a camera or a video, told apart by what to do about it.

    TemporaryError
    ├── CameraUnreachableError      refused, no route, no such host, device gone
    ├── CameraStalledError          connected, but no frame for too long
    ├── CameraFrozenError           frames come, the picture does not change
    └── CaptureInterruptedError     another thread ended a read on purpose
    AuthError
    └── CameraAuthError             401, 403: wrong or missing user name or password
    PermanentError
    ├── StreamNotFoundError         404, no such file, folder or stream
    ├── UnreadableVideoError        there, but no video that can be decoded here
    └── CaptureToolError            ffmpeg is missing or too old

Permanent means that trying again at once cannot help. A live camera is still asked again, slowly: someone may repair
it without touching the gateway.
"""

from runtime.errors import AuthError, PermanentError, TemporaryError


class CameraUnreachableError(TemporaryError):
    """Nothing answers at the address, or the connection broke."""


class CameraStalledError(TemporaryError):
    """Connected, but no frame came for longer than allowed."""


class CameraFrozenError(TemporaryError):
    """Frames come, but they all show the same picture."""


class CaptureInterruptedError(TemporaryError):
    """`interrupt()` ended a blocked read or open."""


class CameraAuthError(AuthError):
    """The camera refused the user name or password."""


class StreamNotFoundError(PermanentError):
    """The address leads nowhere: 404, no such file or folder."""


class UnreadableVideoError(PermanentError):
    """There is something, but no video that can be decoded here."""


class CaptureToolError(PermanentError):
    """The outside program that reads this kind of source cannot run here."""
