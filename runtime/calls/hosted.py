"""Functions of platforms as functions that a process serves. Knows no platform: they come by their shape.

What a process brings itself (`own`) is checked against the declarations of the base platform, as the others are
against those of theirs.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.calls.served import Call, Served, Table

Check = Callable[[Any], Any]


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


class Hosting(Protocol):
    """`platforms.hosting.Hosting`."""

    @property
    def functions(self) -> Sequence[Hosted]: ...
    @property
    def unbound(self) -> Mapping[str, str]: ...


class Rules(Protocol):
    """`platforms.assembly.Assembly`: what hosted functions raise (`rejected` has `code` and `field`, `failed` has
    `code`), and the checks of a function of the base platform, each of which raises one of the two."""

    rejected: type[Exception]
    failed: type[Exception]

    def base_checks(self, function: str) -> tuple[Check, Check] | None: ...


def table_of(own: Sequence[Served], hosting: Hosting, rules: Rules) -> Table:
    """Everything that a process serves: `own` first, where a platform declares them too."""
    names = {one.name for one in own}
    others = [served_of(one, rules) for one in hosting.functions if one.name not in names]
    return Table([*(checked(one, rules) for one in own), *others], hosting.unbound)


def served_of(hosted: Hosted, rules: Rules) -> Served:
    """The same function, with the errors that a dispatcher knows."""
    parse, encode = _told(hosted.parse, rules), _told(hosted.encode, rules)

    async def run(call: Call, given: Any) -> Any:
        try:
            return await hosted.run(call, given)
        except (rules.rejected, rules.failed) as error:
            raise _answer(error, rules) from error

    return Served(hosted.name, parse, run, encode, hosted.timeout_s, hosted.parallel)


def checked(served: Served, rules: Rules) -> Served:
    """The same function, its arguments and result as the base platform declares them, where it does."""
    checks = rules.base_checks(served.name)
    if checks is None:
        return served
    arguments, result = (_told(check, rules) for check in checks)

    def parse(raw: Mapping[str, Any]) -> Any:
        arguments(raw)
        return served.parse(raw)

    def encode(value: Any) -> Any:
        return result(served.encode(value))

    return replace(served, parse=parse, encode=encode)


def _told(check: Check, rules: Rules) -> Check:
    def told(value: Any) -> Any:
        try:
            return check(value)
        except (rules.rejected, rules.failed) as error:
            raise _answer(error, rules) from error

    return told


def _answer(error: Exception, rules: Rules) -> CallRejectedError | CallFailedError:
    code = str(getattr(error, "code", "failed"))
    if isinstance(error, rules.rejected):
        return CallRejectedError(code, str(error), str(getattr(error, "field", "")))
    return CallFailedError(code, str(error))
