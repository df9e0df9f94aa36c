"""Bindings as what a host serves: placement, conversion, and what each error becomes. The checks are a stand-in."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from platforms.context import BadArgumentError, Context, FunctionError, NotHereError
from platforms.errors import BrokenPlatformError
from platforms.finding import Kind, Origin
from platforms.functions import Binding
from platforms.hosting import (
    FailedError,
    Hosted,
    RejectedError,
    Rules,
    in_worker_thread,
    run_hooks,
    served_functions,
    together,
)
from platforms.platform import Platform
from schemas.language.load import load_text
from schemas.language.schema import Placement, Schema
from schemas.state import StateRefusedError

SCHEMA = load_text(
    """
record Loaf { weight_g: Float }
edge_computing Test_Edge {
  platform_name: "test"
  functions: [
    at_edge(): String @edge,
    in_cloud(): String @cloud,
    weigh(loaf: Loaf, times: Integer = 1): Loaf @any @timeout(5s) @parallel(2),
    forget(class: String) @any,
    unbound(): String
  ]
}
""",
    "test",
).schema


@dataclass(frozen=True)
class Loaf:
    weight_g: float


class BadError(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class StandIn:
    """Checks as a compiled schema has them; a weight below 0 is the one thing that it refuses."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def arguments(self, name: str) -> Callable[[Any], Any]:
        fields = self._schema.functions[name].parameters

        def check(raw: Mapping[str, Any]) -> dict[str, Any]:
            self._weight("loaf.weight_g", raw.get("loaf"))
            return {**{field.name: field.default for field in fields if not field.required}, **raw}

        return check

    def result(self, name: str) -> Callable[[Any], Any]:
        def check(value: Any) -> Any:
            self._weight("weight_g", value)
            return value

        return check

    def event(self, name: str) -> Callable[[Any], Any]:
        return lambda data: data

    def _weight(self, field: str, value: Any) -> None:
        if isinstance(value, Mapping) and value["weight_g"] < 0:
            raise BadError(field, "must be at least 0")


def into(annotation: Any, value: Any) -> Any:
    return annotation(**value) if isinstance(annotation, type) and is_dataclass(annotation) else value


def plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


RULES = Rules(StandIn(SCHEMA), into, plain, BadError)


def platform(**functions: Callable[..., Any]) -> Platform:
    bindings = {name: Binding(name, run) for name, run in functions.items()}
    return Platform("test", SCHEMA, bindings, [], Origin("test", Kind.FOLDER, Path(), "test"))


class Call:
    def __init__(self) -> None:
        self.context: Any = object()


def context_of(one: Platform, call: Any) -> Context:
    assert one.name == "test"
    context: Context = call.context
    return context


def hosted(name: str, run: Callable[..., Any], here: Placement = Placement.EDGE) -> Hosted:
    found = served_functions(platform(**{name: run}), here, RULES, context_of).functions
    (only,) = [one for one in found if one.name == name]
    return only


def answer(one: Hosted, raw: Mapping[str, Any], call: Call | None = None) -> Any:
    return one.encode(asyncio.run(_run(one, raw, call or Call())))


async def _run(one: Hosted, raw: Mapping[str, Any], call: Call) -> Any:
    return await one.run(call, one.parse(raw))


@pytest.mark.parametrize(
    ("here", "served", "unbound"),
    [
        (
            Placement.EDGE,
            ["at_edge", "weigh"],
            {
                "in_cloud": "test declares it @cloud: the coordinator serves it",
                "forget": "test declares it, and no Python is bound to it",
                "unbound": "test declares it, and no Python is bound to it",
            },
        ),
        (
            Placement.CLOUD,
            ["in_cloud", "weigh"],
            {
                "at_edge": "test declares it @edge: nodes serve it",
                "forget": "test declares it, and no Python is bound to it",
                "unbound": "test declares it, and no Python is bound to it",
            },
        ),
    ],
)
def test_the_placement_says_who_serves(here: Placement, served: list[str], unbound: dict[str, str]) -> None:
    def at_edge() -> str: ...  # type: ignore[empty-body]
    def in_cloud() -> str: ...  # type: ignore[empty-body]
    def weigh(loaf: Loaf, times: int = 1) -> Loaf: ...  # type: ignore[empty-body]

    found = served_functions(platform(at_edge=at_edge, in_cloud=in_cloud, weigh=weigh), here, RULES, context_of)
    assert [one.name for one in found.functions] == served
    assert found.unbound == unbound
    assert [(one.timeout_s, one.parallel) for one in found.functions] == [(30.0, 0), (5.0, 2)]


def test_arguments_become_what_is_annotated_and_the_result_plain() -> None:
    async def weigh(context: Any, loaf: Loaf, times: int = 7) -> Loaf:
        return Loaf(loaf.weight_g * times + context)

    call = Call()
    call.context = 0.5
    assert answer(hosted("weigh", weigh), {"loaf": {"weight_g": 2.0}, "times": 3}, call) == {"weight_g": 6.5}
    assert answer(hosted("weigh", weigh), {"loaf": {"weight_g": 2.0}}, call) == {"weight_g": 2.5}  # the schema's 1


def test_a_declared_name_that_python_cannot_use_arrives_with_an_underscore() -> None:
    seen = []

    async def forget(class_: str) -> None:
        seen.append(class_)

    assert answer(hosted("forget", forget), {"class": "rye"}) is None
    assert seen == ["rye"]


def test_a_plain_function_runs_in_a_thread_and_gets_the_context_too() -> None:
    threads = []

    def weigh(context: Any, loaf: Loaf, times: int = 1) -> Loaf:
        threads.append(threading.current_thread())
        return Loaf(loaf.weight_g + context)

    call = Call()
    call.context = 1.0
    assert answer(hosted("weigh", weigh), {"loaf": {"weight_g": 2.0}}, call) == {"weight_g": 3.0}
    assert threads[0] is not threading.main_thread()


def test_the_host_may_bring_threads_of_its_own() -> None:
    used = []

    def own(run: Callable[[Any, Any], Any]) -> Any:
        used.append(run)
        return in_worker_thread(run)

    def at_edge() -> str:
        return "here"

    (only,) = served_functions(platform(at_edge=at_edge), Placement.EDGE, RULES, context_of, own).functions
    assert answer(only, {}) == "here"
    assert len(used) == 1


def raising(error: Exception) -> list[Callable[..., Any]]:
    async def soon(loaf: Loaf, times: int = 1) -> Loaf:
        raise error

    def now(loaf: Loaf, times: int = 1) -> Loaf:
        raise error

    return [soon, now]


@pytest.mark.parametrize("run", raising(BadArgumentError("times", "too often")))
def test_a_senseless_argument_is_rejected_with_its_field(run: Callable[..., Any]) -> None:
    with pytest.raises(RejectedError, match="too often") as raised:
        answer(hosted("weigh", run), {"loaf": {"weight_g": 1.0}})
    assert (raised.value.code, raised.value.field) == ("bad_arguments", "times")


@pytest.mark.parametrize(
    "run",
    [
        *raising(FunctionError("oven_cold", "no heat")),
        *raising(NotHereError("oven")),
        *raising(StateRefusedError("full", "test.ovens", "", "no room")),
    ],
)
def test_what_did_not_work_out_fails_with_its_code(run: Callable[..., Any]) -> None:
    with pytest.raises(FailedError) as raised:
        answer(hosted("weigh", run), {"loaf": {"weight_g": 1.0}})
    assert (raised.value.code, str(raised.value)) in (
        ("oven_cold", "no heat"),
        ("not_here", "this host has no oven"),
        ("full", "test.ovens: no room"),
    )


@pytest.mark.parametrize("run", raising(ZeroDivisionError("a defect")))
def test_a_defect_passes_as_it_is(run: Callable[..., Any]) -> None:
    with pytest.raises(ZeroDivisionError, match="a defect"):
        answer(hosted("weigh", run), {"loaf": {"weight_g": 1.0}})


def test_an_argument_that_the_schema_refuses_is_rejected_before_anything_runs() -> None:
    async def weigh(loaf: Loaf, times: int = 1) -> Loaf:
        raise AssertionError

    with pytest.raises(RejectedError, match="must be at least 0") as raised:
        hosted("weigh", weigh).parse({"loaf": {"weight_g": -1.0}})
    assert (raised.value.code, raised.value.field) == ("bad_arguments", "loaf.weight_g")


def test_a_result_that_is_not_as_declared_fails_with_its_field() -> None:
    async def weigh(loaf: Loaf, times: int = 1) -> Loaf:
        return Loaf(-loaf.weight_g)

    with pytest.raises(
        FailedError, match="weigh returned what is not declared: weight_g: must be at least 0"
    ) as raised:
        answer(hosted("weigh", weigh), {"loaf": {"weight_g": 1.0}})
    assert raised.value.code == "bad_result"


def test_the_platforms_of_a_host_serve_each_function_once() -> None:
    def at_edge() -> str: ...  # type: ignore[empty-body]
    def weigh(loaf: Loaf, times: int = 1) -> Loaf: ...  # type: ignore[empty-body]

    one = served_functions(platform(at_edge=at_edge), Placement.EDGE, RULES, context_of)
    two = served_functions(platform(at_edge=at_edge, weigh=weigh), Placement.EDGE, RULES, context_of)
    both = together([one, two])
    assert [hosted.name for hosted in both.functions] == ["at_edge", "weigh"]
    assert both.functions[0] is one.functions[0]
    assert set(both.unbound) == {"in_cloud", "forget", "unbound"}


def test_hooks_run_in_order_and_the_one_that_fails_is_named() -> None:
    ran = []

    async def first(context: Any) -> None:
        ran.append(context)

    async def second(context: Any) -> None:
        raise ValueError("no oven")

    one = Platform("test", SCHEMA, {}, [first, second], Origin("test", Kind.FOLDER, Path(), "test"))
    context: Any = object()
    with pytest.raises(
        BrokenPlatformError, match=r"test: .*second did not get through at start: ValueError: no oven"
    ):
        asyncio.run(run_hooks(one, context))
    assert ran == [context]
