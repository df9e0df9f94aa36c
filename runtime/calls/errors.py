"""What can become of a call, for those who serve functions and for those who call them.

    CallError
    ├── CallRejectedError   not acceptable as it was put; nothing was run
    ├── CallFailedError     acceptable, and did not work out
    ├── CallExpiredError    came too late; nothing was run
    └── CallCancelledError  somebody cancelled it
    NoAnswerError           nobody answered in time: it may have run. Asked again with the same id it runs once

`code` is for programs, the message for people.
"""

from typing import Any

from runtime.errors import EdgewrightError, TemporaryError


class CallError(EdgewrightError):
    """A call did not succeed. `value` is what the answer carries beside the error."""

    def __init__(self, code: str, message: str, value: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.value = value


class CallRejectedError(CallError):
    """The call is not acceptable; `field` names the argument at fault."""

    def __init__(self, code: str, message: str, field: str = "", value: Any = None) -> None:
        super().__init__(code, message, value)
        self.field = field


class CallFailedError(CallError):
    """The call was acceptable and did not work out."""


class CallExpiredError(CallError):
    """The call came later than it was good for, and was not run."""


class CallCancelledError(CallError):
    """The call was cancelled while it ran, or before it began."""


class NoAnswerError(TemporaryError):
    """Nobody answered in time."""
