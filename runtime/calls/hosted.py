"""Functions of platforms as functions that a process serves. Knows no platform: they come by their shape."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.calls.served import Call, Served


class Hosted(Protocol):
    """`platforms.hosting.Hosted`."""

    @property
    def name(self) -> str: ...
    @property
    def parse(self) -> Callable[[Mapping[str, Any]], Any]: ...
    @property
    def run(self) -> Callable[[Any, Any], Awaitable[Any]]: ...
    @property
    def encode(self) -> Callable[[Any], Any]: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def parallel(self) -> int: ...


class Errors(Protocol):
    """What a hosted function raises: `rejected` has `code` and `field`, `failed` has `code`."""

    @property
    def rejected(self) -> type[Exception]: ...
    @property
    def failed(self) -> type[Exception]: ...


def served_of(hosted: Hosted, errors: Errors) -> Served:
    """The same function, with the errors that a dispatcher knows."""

    def parse(raw: Mapping[str, Any]) -> Any:
        try:
            return hosted.parse(raw)
        except errors.rejected as error:
            raise _answer(error, errors) from error

    async def run(call: Call, given: Any) -> Any:
        try:
            return await hosted.run(call, given)
        except (errors.rejected, errors.failed) as error:
            raise _answer(error, errors) from error

    def encode(value: Any) -> Any:
        try:
            return hosted.encode(value)
        except errors.failed as error:
            raise _answer(error, errors) from error

    return Served(hosted.name, parse, run, encode, hosted.timeout_s, hosted.parallel)


def _answer(error: Exception, errors: Errors) -> CallRejectedError | CallFailedError:
    code = str(getattr(error, "code", "failed"))
    if isinstance(error, errors.rejected):
        return CallRejectedError(code, str(error), str(getattr(error, "field", "")))
    return CallFailedError(code, str(error))
