"""Whether Python functions are as their schema declares them: all that is wrong in one run, before any call.

    functions.py:12: flow binds analyzeTrafficFlow: parameter `window` is not declared; did you mean time_window?

A parameter's annotation must take every value that the schema lets through; what a return annotation allows must be
what the schema declares. No annotation promises nothing and is not checked: every call is, by the schema.
"""

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

from platforms.fitting import Fitting, Way, shown
from platforms.functions import CONTEXT, EDGE, EVERY_S_MAX, EVERY_S_MIN, PLACES, Binding, Listener, On, python_name
from schemas.language.schema import Field, FunctionType, Schema

_KINDS = {
    inspect.Parameter.VAR_POSITIONAL: "takes any number of values (*)",
    inspect.Parameter.VAR_KEYWORD: "takes any names (**)",
    inspect.Parameter.POSITIONAL_ONLY: "is positional only (/)",
}


@dataclass(frozen=True, slots=True)
class BindingProblem:
    """`function` is Python's name, `declared` the schema's."""

    file: str
    line: int
    function: str
    declared: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file else ""
        return f"{place}{self.function} binds {self.declared}: {self.message}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What arguments are converted to: by declared name, Python's name and the annotation, Any without one."""

    parameters: Mapping[str, tuple[str, Any]]
    returns: Any
    takes_context: bool


def conversion_plan(binding: Binding, declared: FunctionType) -> Plan:
    """For a binding that `check_bindings` has nothing against."""
    hints = _hints(binding)
    names = {field.name: python_name(field.name) for field in declared.parameters}
    parameters = {name: (python, hints.get(python, Any)) for name, python in names.items()}
    return Plan(parameters, hints.get("return", Any), binding.takes_context)


def check_bindings(schema: Schema, bindings: Iterable[Binding]) -> list[BindingProblem]:
    """Every problem of every binding, in their order."""
    found: list[BindingProblem] = []
    first: dict[str, Binding] = {}
    for binding in bindings:
        declared = schema.functions.get(binding.name)
        if declared is None:
            near = difflib.get_close_matches(binding.name, schema.functions, n=1)
            hint = f"did you mean {near[0]}?" if near else f"add it to the functions of {schema.name}.edge"
            messages = [f"the schema declares no function {binding.name}; {hint}"]
        elif binding.name in first:
            messages = [f"{first[binding.name].place} binds it already; take out one of them"]
        else:
            messages = list(_mistakes(schema, declared, binding))
        first.setdefault(binding.name, binding)
        found += [_problem(binding, message) for message in messages]
    return found


def check_hooks(hooks: Iterable[Callable[..., Any]]) -> list[str]:
    """What is wrong with what `@at_start` marks."""
    found = []
    for hook in hooks:
        code = hook.__code__ if inspect.isfunction(hook) else None
        place = f"{code.co_filename}:{code.co_firstlineno}: {hook.__name__}" if code is not None else repr(hook)
        if code is None or not inspect.iscoroutinefunction(hook) or len(inspect.signature(hook).parameters) != 1:
            found.append(f"{place}: what @at_start marks is `async def begin(context: Context) -> None`")
    return found


def check_checks(checks: Iterable[Callable[..., Any]]) -> list[str]:
    """What is wrong with what `@check_settings` marks."""
    looks = "`def check(settings: Mapping[str, Any], here: Here) -> Iterable[str]`"
    found = []
    for check in checks:
        code = check.__code__ if inspect.isfunction(check) else None
        place = f"{code.co_filename}:{code.co_firstlineno}: {check.__name__}" if code is not None else repr(check)
        if code is None or inspect.iscoroutinefunction(check) or len(inspect.signature(check).parameters) != 2:
            found.append(f"{place}: what @check_settings marks is {looks}")
    return found


_LOOKS = {
    On.EVENTS: "`async def heard(context: Context, event: KeptResult) -> None`",
    On.SAMPLES: "`def measured(context: Context, window: SampleWindow) -> None`, plain or async",
    On.TIME: "`async def look(context: Context) -> None`",
    On.RULE: "`def make(settings: Mapping[str, Any], labels: Sequence[str]) -> Condition`",
    On.STAGE: "`def make(table: StageTable) -> Stage`",
}


def check_listeners(listeners: Iterable[Listener]) -> list[str]:
    """What is wrong with what `@on_events`, `@on_samples`, `@every`, `@rule_kind` and `@stage` mark."""
    found = []
    for one in listeners:
        code = one.run.__code__ if inspect.isfunction(one.run) else None
        place = f"{code.co_filename}:{code.co_firstlineno}: {one.title}" if code is not None else repr(one.run)
        parameters = 1 if one.on in (On.TIME, On.STAGE) else 2
        must_wait = {On.EVENTS: True, On.TIME: True, On.RULE: False, On.STAGE: False}.get(one.on, one.is_async)
        if code is None or one.is_async is not must_wait or len(inspect.signature(one.run).parameters) != parameters:
            found.append(f"{place}: what @{one.on} marks is {_LOOKS[one.on]}")
        if one.at not in PLACES:
            found.append(f"{place}: @{one.on} is called at one of {', '.join(PLACES)}, not at={one.at!r}")
        elif one.on is On.SAMPLES and one.at != EDGE:
            text = "what sensors measure does not leave a node: listen there, emit an event, and hear that"
            found.append(f"{place}: @on_samples(at={one.at!r}): {text}")
        if one.on is On.EVENTS and not (one.types and all(name.isidentifier() for name in one.types)):
            found.append(f'{place}: @on_events wants the types of events: @on_events("LineCrossed")')
        if one.on is On.TIME and not EVERY_S_MIN <= one.every_s <= EVERY_S_MAX:
            found.append(f"{place}: @every({one.every_s:g}): {EVERY_S_MIN:g} to {EVERY_S_MAX:g} seconds")
        if one.on in (On.RULE, On.STAGE) and not one.name.isidentifier():
            found.append(f"{place}: @{one.on}({one.name!r}): its name is letters, digits and _")
    return found


def _problem(binding: Binding, message: str) -> BindingProblem:
    run = inspect.unwrap(binding.run)
    code = run.__code__ if inspect.isfunction(run) else None
    name = getattr(binding.run, "__name__", type(binding.run).__name__)
    file, line = (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
    return BindingProblem(file, line, name, binding.name, message)


def _mistakes(schema: Schema, declared: FunctionType, binding: Binding) -> Iterator[str]:
    run = inspect.unwrap(binding.run)
    if inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        yield "it is a generator; return the result, and tell of progress by context.progress"
    try:
        parameters = list(inspect.signature(binding.run).parameters.values())
    except (TypeError, ValueError) as error:
        yield f"its parameters cannot be read: {error}"
        return
    if parameters and parameters[0].name == CONTEXT:
        parameters = parameters[1:]
    try:
        hints = _hints(binding)
    except Exception as error:  # noqa: BLE001 - annotations are somebody else's code, and run here
        yield f"its annotations cannot be read: {type(error).__name__}: {error}"
        hints = {}
    yield from _parameter_mistakes(schema, declared, parameters, hints)
    if "return" in hints:
        yield from _return_mistakes(schema, declared, hints["return"])


def _parameter_mistakes(
    schema: Schema, declared: FunctionType, parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any]
) -> Iterator[str]:
    wanted = {python_name(field.name): field for field in declared.parameters}
    given = {parameter.name: parameter for parameter in parameters}
    missing = [name for name in wanted if name not in given]
    for name, parameter in given.items():
        if parameter.kind in _KINDS:
            yield f"parameter `{name}` {_KINDS[parameter.kind]}; name each declared parameter"
        elif name in wanted:
            yield from _one_parameter(schema, wanted[name], parameter, hints.get(name, inspect.Parameter.empty))
        elif name == CONTEXT:
            yield "parameter `context` is not the first; put it first"
        elif (near := _near(name, missing)) is not None:
            yield f"parameter `{name}` is not declared; did you mean {near}?"
            missing.remove(near)
        else:
            declares = ", ".join(wanted) or "none"
            yield f"parameter `{name}` is not declared; the schema has {declares}"
    for name in missing:
        if wanted[name].name == CONTEXT:
            text = "the declared context is written so, for `context` is the call's Context"
            yield f"parameter `{name}` is missing; {text}"
        else:
            yield f"parameter `{name}` is missing; the schema declares it"


def _one_parameter(schema: Schema, field: Field, parameter: inspect.Parameter, hint: Any) -> Iterator[str]:
    name = parameter.name
    if not field.required and parameter.default is parameter.empty:
        value = f" = {field.default!r}" if field.default is not None else " = None"
        yield f"parameter `{name}` may be left out of a call and has no default; write {name}{value}"
    if field.required and parameter.default is not parameter.empty:
        yield f"parameter `{name}` has a default, and the schema requires it; it would never be used"
    simple = isinstance(parameter.default, bool | int | float | str) and field.default is not None
    if not field.required and simple and parameter.default != field.default:
        yield f"parameter `{name}` is {parameter.default!r} by default, and {field.default!r} in the schema"
    if hint is not inspect.Parameter.empty:
        fitting = Fitting(schema, Way.IN)
        yield from (f"parameter {one}" for one in fitting.mistakes(field.type, hint, f"`{name}`"))


def _return_mistakes(schema: Schema, declared: FunctionType, hint: Any) -> Iterator[str]:
    if declared.returns is None:
        if hint not in (None, NoneType, Any, typing.NoReturn, typing.Never):
            yield f"it returns {shown(hint)}, and the schema declares no result; write -> None"
        return
    yield from Fitting(schema, Way.OUT).mistakes(declared.returns, hint, "its result")


def _hints(binding: Binding) -> dict[str, Any]:
    """Annotations by Python's names, forward references resolved."""
    run = inspect.unwrap(binding.run)
    target = run if inspect.isroutine(run) else type(run).__call__
    return typing.get_type_hints(target)


def _near(name: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)
