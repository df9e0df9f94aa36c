"""A platform's bindings as what a host serves: checked arguments in, the function run, a checked result out.

The same in an agent and in a coordinator. `runtime.calls` is out of reach from here, so a `Hosted` has its fields and
raises errors of its own; a host makes a `Served` of each:

    Served(one.name, parse(one), run(one), encode(one), one.timeout_s, one.parallel)

    the call                              the answer
    ────────                              ──────────
    an argument that the schema refuses   rejected  bad_arguments, the field
    BadArgumentError of the function      rejected  bad_arguments, the field
    FunctionError                         failed    its code
    StateRefusedError of the state        failed    its code
    a result that is not as declared      failed    bad_result, the field
    any other exception                   passes: a defect, for the host to answer and to log
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from platforms.binding import Plan, conversion_plan
from platforms.context import BadArgumentError, Context, FunctionError
from platforms.errors import BrokenPlatformError
from platforms.functions import Binding
from platforms.platform import Platform
from schemas.language.personal import value_without_personal
from schemas.language.schema import FunctionType, Placement, Schema
from schemas.state import StateRefusedError

BAD_ARGUMENTS, BAD_RESULT = "bad_arguments", "bad_result"
ANSWERED = (BadArgumentError, FunctionError, StateRefusedError)
Check = Callable[[Any], Any]
"""The value as it is used, or an exception whose `field` names the place."""


class Checks(Protocol):
    """What a schema is compiled to: `schemas.language.validators.Validators` is one."""

    def arguments(self, name: str) -> Check: ...
    def result(self, name: str) -> Check: ...
    def event(self, name: str) -> Check: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """How values are checked and converted.

    `into(annotation, value)` makes what Python code wants of a checked value, `plain(value)` what JSON has of a value
    that Python code returned. All of them raise `invalid` where they cannot.
    """

    checks: Checks
    into: Callable[[Any, Any], Any]
    plain: Callable[[Any], Any]
    invalid: type[Exception]


class RejectedError(Exception):
    """The call is not acceptable."""

    def __init__(self, code: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.field = field


class FailedError(Exception):
    """The call was acceptable and did not work out."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


MakeContext = Callable[[Platform, Any], Context]
"""The context of one call, of the platform that is called; the call is whatever the host has."""

Run = Callable[[Any, Any], Awaitable[Any]]
InThread = Callable[[Callable[[Any, Any], Any]], Run]


@dataclass(frozen=True, slots=True)
class Hosted:
    """One function. `parse` raises RejectedError; `run` gets the host's call and what `parse` made, and raises
    RejectedError and FailedError; `encode` makes the answer of what `run` returned, or raises FailedError."""

    name: str
    platform: str
    parse: Callable[[Mapping[str, Any]], Any]
    run: Run
    encode: Callable[[Any], Any]
    timeout_s: float
    parallel: int


@dataclass(frozen=True, slots=True)
class Hosting:
    """What is served here, and what is declared and is not, each with the reason."""

    functions: Sequence[Hosted] = ()
    unbound: Mapping[str, str] = field(default_factory=dict)


def in_worker_thread(run: Callable[[Any, Any], Any]) -> Run:
    """For plain functions, where a host has no threads of its own."""

    async def run_in_thread(call: Any, given: Any) -> Any:
        return await asyncio.to_thread(run, call, given)

    return run_in_thread


def served_functions(
    platform: Platform,
    here: Placement,
    rules: Rules,
    make_context: MakeContext,
    in_thread: InThread = in_worker_thread,
) -> Hosting:
    """`here` is EDGE at a node, which serves @edge and @any, and CLOUD in the coordinator, for @cloud and @any."""
    functions: list[Hosted] = []
    unbound: dict[str, str] = {}
    for name, declared in platform.schema.functions.items():
        binding = platform.bindings.get(name)
        if declared.placement not in (here, Placement.ANY):
            where = "the coordinator serves it" if here is Placement.EDGE else "nodes serve it"
            unbound[name] = f"{platform.name} declares it @{declared.placement.value}: {where}"
        elif binding is None:
            unbound[name] = f"{platform.name} declares it, and no Python is bound to it"
        elif here is Placement.EDGE and declared.personal:
            unbound[name] = "its result is @personal: it must not leave the node, and every answer does"
        else:
            hosted = _hosted(platform, declared, binding, rules, make_context, in_thread)
            functions.append(_guarded(hosted, platform.schema, declared) if here is Placement.EDGE else hosted)
    return Hosting(functions, unbound)


def together(hostings: Iterable[Hosting]) -> Hosting:
    """What all platforms of a host serve: each function once, by the first that binds it."""
    functions: dict[str, Hosted] = {}
    unbound: dict[str, str] = {}
    for one in hostings:
        for hosted in one.functions:
            functions.setdefault(hosted.name, hosted)
        unbound = {**one.unbound, **unbound}
    return Hosting(list(functions.values()), {name: why for name, why in unbound.items() if name not in functions})


async def run_hooks(platform: Platform, context: Context) -> None:
    """What `@at_start` marks, in order. Raises BrokenPlatformError at the first that does not get through."""
    for hook in platform.hooks:
        try:
            await hook(context)
        except Exception as error:  # somebody else's code: the host says which, and decides what comes of it
            name = getattr(hook, "__qualname__", repr(hook))
            text = f"{platform.name}: {name} did not get through at start: {type(error).__name__}: {error}"
            raise BrokenPlatformError(text) from error


def _hosted(
    platform: Platform,
    declared: FunctionType,
    binding: Binding,
    rules: Rules,
    make_context: MakeContext,
    in_thread: InThread,
) -> Hosted:
    plan = conversion_plan(binding, declared)
    return Hosted(
        declared.name,
        platform.name,
        _parse(declared.name, plan, rules),
        _run(platform, binding, plan, make_context, in_thread),
        encoder(declared, rules),
        declared.timeout_s,
        declared.parallel,
    )


def _guarded(hosted: Hosted, schema: Schema, declared: FunctionType) -> Hosted:
    """The same function at a node, whose answers leave it: without what is personal in them."""
    returns = declared.returns
    if returns is None:
        return hosted

    def encode(value: Any) -> Any:
        return value_without_personal(schema, returns, hosted.encode(value))

    return replace(hosted, encode=encode)


def _parse(name: str, plan: Plan, rules: Rules) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    check = rules.checks.arguments(name)

    def parse(raw: Mapping[str, Any]) -> dict[str, Any]:
        """By Python's names; what is left out and has no default in the schema has one in Python."""
        try:
            given: Mapping[str, Any] = check(raw)
            found = {}
            for declared, (python, annotation) in plan.parameters.items():
                if declared in given:
                    found[python] = rules.into(annotation, given[declared])
            return found
        except rules.invalid as error:
            raise RejectedError(BAD_ARGUMENTS, str(error), field_of(error)) from error

    return parse


def _run(platform: Platform, binding: Binding, plan: Plan, make_context: MakeContext, in_thread: InThread) -> Run:
    def begin(call: Any, given: Mapping[str, Any]) -> Any:
        try:
            return binding.run(make_context(platform, call), **given) if plan.takes_context else binding.run(**given)
        except ANSWERED as error:
            raise answer_of(error) from error

    if not binding.is_async:
        return in_thread(begin)

    async def run(call: Any, given: Mapping[str, Any]) -> Any:
        try:
            return await begin(call, given)
        except ANSWERED as error:
            raise answer_of(error) from error

    return run


def encoder(declared: FunctionType, rules: Rules) -> Check:
    """Makes plain data of what a function returned. Raises FailedError where that is not as declared."""
    if declared.returns is None:
        return lambda value: None
    check = rules.checks.result(declared.name)

    def encode(value: Any) -> Any:
        try:
            return check(rules.plain(value))
        except rules.invalid as error:
            raise FailedError(BAD_RESULT, f"{declared.name} returned what is not declared: {error}") from error

    return encode


def answer_of(error: BadArgumentError | FunctionError | StateRefusedError) -> RejectedError | FailedError:
    """What a function says, as the host answers it."""
    if isinstance(error, BadArgumentError):
        return RejectedError(BAD_ARGUMENTS, str(error), error.field)
    return FailedError(error.code, str(error))


def field_of(error: Exception) -> str:
    """Where in a value it is wrong, or empty."""
    found = getattr(error, "field", "")
    return found if isinstance(found, str) else ""
