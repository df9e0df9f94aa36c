"""Python against its declaration: every kind of mismatch is found, all in one run, and what fits is left alone."""

import dataclasses
import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NewType, Optional

import pytest

from platforms.binding import check_bindings, check_hooks, conversion_plan
from platforms.context import Context
from platforms.functions import Binding, function
from schemas.language.load import load_text
from schemas.language.schema import Schema

TEXT = """
enum Level { low, high = "HIGH" }
type Percent = Float @range(0..100)
type Anything
record Point { x: Float  y: Float  note: String? }
record Seen { class: String }
record Zone { name: String  points: Point[]  level: Level = low  inner: Zone? }
edge_computing Test_Edge {
  platform_name: "test"
  functions: [
    text(a: String): String,
    whole(a: Integer): Integer,
    number(a: Float): Float,
    yes(a: Boolean): Boolean,
    raw(a: Bytes): Bytes,
    span(a: Duration): Duration,
    moment(a: Timestamp): Timestamp,
    json(a: Json): Json,
    any_(a: Anything): Anything,
    percent(a: Percent): Percent,
    level(a: Level): Level,
    point(a: Point): Point,
    seen(a: Seen): Seen,
    zone(a: Zone): Zone,
    points(a: Point[]): Point[],
    texts(a: String[]): String[],
    by_name(a: Map[String, Integer]): Map[String, Integer],
    maybe(a: Float?): Float?,
    both(a: String, time_window: Duration = 5m): String,
    nothing(),
    odd(class: String, context: Integer): Integer
  ]
}
"""


class Level(enum.Enum):
    LOW = "low"
    HIGH = "HIGH"


class LowOnly(enum.StrEnum):
    LOW = "low"


class Wrong(enum.Enum):
    LOW = "low"
    HIGH = "HIGH"
    MIDDLE = "middle"


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    note: str | None = None


@dataclass(frozen=True)
class Zone:
    name: str
    points: Sequence[Point]
    level: Level = Level.LOW
    inner: Optional["Zone"] = None


@dataclass(frozen=True)
class BadPoint:
    x: str
    yy: float
    colour: str = ""


@dataclass(frozen=True)
class PlainPoint:
    x: float
    y: float


@dataclass(frozen=True)
class DeepZone:
    name: str
    points: list[BadPoint]
    level: LowOnly
    inner: Optional["DeepZone"]


@dataclass
class Unreadable:
    x: "NoSuchName"  # type: ignore[name-defined]  # noqa: F821
    y: float


@dataclass
class Later:
    x: float
    y: float = dataclasses.field(init=False, default=0.0)
    note: str | None = None


Meters = NewType("Meters", float)


@pytest.fixture(scope="module")
def schema() -> Schema:
    return load_text(TEXT, "test").schema


def one(a: Any, returns: Any = Any) -> Callable[..., Any]:
    """A function of one parameter `a` with these annotations."""

    def bound(a: Any) -> Any:
        return a

    bound.__annotations__ = {"a": a, "return": returns}
    return bound


def problems(schema: Schema, name: str, run: Callable[..., Any]) -> list[str]:
    return [problem.message for problem in check_bindings(schema, [Binding(name, run)])]


GOOD_PARAMETERS: list[tuple[str, list[Any]]] = [
    ("text", [str, Any, object, str | None, str | int]),
    ("whole", [int, float, int | None]),
    ("number", [float, Meters, float | str]),
    ("yes", [bool]),
    ("raw", [bytes, str]),
    ("span", [float]),
    ("moment", [int, float]),
    ("json", [Any, object, dict, str, list[int]]),
    ("any_", [Any, dict[str, Any], Point]),
    ("percent", [float]),
    ("level", [Level, str, Literal["low", "HIGH"]]),
    ("point", [Point, dict[str, Any], Mapping[str, Any], dict]),
    ("zone", [Zone, dict[str, Any]]),
    ("points", [list[Point], Sequence[Point], tuple[Point, ...], list, list[dict[str, Any]], Sequence[Any]]),
    ("texts", [list[str], Sequence[str]]),
    ("by_name", [dict[str, int], Mapping[str, float], dict]),
    ("maybe", [float | None, Optional[float], Any]),  # noqa: UP045 - as people write it
]


@pytest.mark.parametrize(("name", "annotation"), [(name, one) for name, all_ in GOOD_PARAMETERS for one in all_])
def test_an_annotation_that_takes_every_value_fits(schema: Schema, name: str, annotation: Any) -> None:
    run = one(annotation)
    if name == "maybe":
        run.__defaults__ = (None,)
    assert problems(schema, name, run) == []


BAD_PARAMETERS: list[tuple[str, Any, str]] = [
    ("text", int, "parameter `a` is int, and the schema declares String; write str"),
    ("text", list[str], "parameter `a` is list[str], and the schema declares String; write str"),
    ("text", None, "parameter `a` is None, and the schema declares String; write str"),
    ("whole", str, "parameter `a` is str, and the schema declares Integer; write int"),
    ("whole", bool, "parameter `a` is bool, and the schema declares Integer; write int"),
    ("number", int, "parameter `a` is int, and the schema declares Float; write float"),
    ("yes", int, "parameter `a` is int, and the schema declares Boolean; write bool"),
    ("raw", int, "parameter `a` is int, and the schema declares Bytes; write bytes"),
    ("span", str, "parameter `a` is str, and the schema declares Duration; write float, the seconds"),
    ("moment", str, "parameter `a` is str, and the schema declares Timestamp; write int, UTC milliseconds"),
    ("percent", str, "parameter `a` is str, and the schema declares Float; write float"),
    ("level", int, "parameter `a` is int, and the schema declares Level; write str, or an Enum with HIGH, low"),
    ("level", LowOnly, "parameter `a`, LowOnly: the values HIGH of Level are missing"),
    ("level", Literal["low"], "the values HIGH of Level are missing"),
    ("level", Wrong, "parameter `a`, Wrong: 'middle' are no values of Level, which has HIGH, low"),
    ("point", str, "parameter `a` is str, and the schema declares Point; write a dataclass with the fields of Point"),
    ("point", Later, "parameter `a`, Later: field `y` cannot be given (init=False)"),
    ("point", PlainPoint, "parameter `a`, PlainPoint: field `note` of Point is missing"),
    ("point", Unreadable, "the annotations of Unreadable cannot be read: NameError"),
    ("seen", Point, "`a` is Point, and Seen has a field `class`, a word of Python; write Mapping[str, Any]"),
    ("points", Point, "parameter `a` is Point, and the schema declares Point[]; write list[Point]"),
    ("points", tuple[Point, Point], "and the schema declares a list of any length; write list[Point]"),
    ("points", list[str], "parameter each of `a` is str, and the schema declares Point"),
    ("texts", str, "parameter `a` is str, and the schema declares String[]; write list[str]"),
    ("texts", set[str], "parameter `a` is set[str], and the schema declares String[]; write list[str]"),
    ("by_name", list[int], "and the schema declares Map[String, Integer]; write dict[str, int]"),
    ("by_name", dict[int, int], "parameter each key of `a` is int, and the schema declares String; write str"),
    ("by_name", dict[str, str], "parameter each value of `a` is str, and the schema declares Integer; write int"),
    (
        "maybe",
        float,
        "parameter `a` is float, and the schema declares Float?: null comes as None; write float | None",
    ),
    ("maybe", str | None, "parameter `a` is str, and the schema declares Float; write float"),
]


@pytest.mark.parametrize(("name", "annotation", "said"), BAD_PARAMETERS)
def test_an_annotation_that_does_not_fit_is_told(schema: Schema, name: str, annotation: Any, said: str) -> None:
    run = one(annotation)
    if name == "maybe":
        run.__defaults__ = (None,)
    (only,) = problems(schema, name, run)
    assert said in only


def test_each_field_of_a_record_that_differs_is_named(schema: Schema) -> None:
    assert problems(schema, "zone", one(DeepZone)) == [
        "parameter each of `a`, DeepZone: field `points`, BadPoint: field `yy` is not declared; did you mean y?",
        "parameter each of `a`, DeepZone: field `points`, BadPoint: field `colour` is not declared; "
        "Point has x, y, note",
        "parameter each of `a`, DeepZone: field `points`, BadPoint: field `note` of Point is missing",
        "parameter each of `a`, DeepZone: field `points`, BadPoint: field `x` is str, and the schema declares Float; "
        "write float",
        "parameter `a`, DeepZone: field `level`, LowOnly: the values HIGH of Level are missing",
    ]


RESULTS: list[tuple[str, Any, str]] = [
    ("text", str, ""),
    ("text", LowOnly, ""),
    ("text", Literal["x"], ""),
    ("text", int, "its result is int, and the schema declares String; write str"),
    ("text", str | None, "its result may be None, and the schema declares String, never null"),
    ("text", None, "its result may be None, and the schema declares String, never null"),
    ("whole", float, "its result is float, and the schema declares Integer; write int"),
    ("number", int, ""),
    ("number", int | str, "its result is str, and the schema declares Float; write float"),
    ("maybe", float | None, ""),
    ("maybe", float, ""),
    ("maybe", None, ""),
    ("json", None, ""),
    ("any_", dict[str, int] | None, ""),
    ("level", LowOnly, ""),
    ("level", Wrong, "its result, Wrong: 'middle' are no values of Level, which has HIGH, low"),
    ("point", PlainPoint, ""),
    ("point", BadPoint, "its result, BadPoint: field `yy` is not declared; did you mean y?"),
    ("points", list[Point], ""),
    ("points", Point, "its result is Point, and the schema declares Point[]; write list[Point]"),
    ("points", Awaitable[list[Point]], ""),
    ("nothing", None, ""),
    ("nothing", int, "it returns int, and the schema declares no result; write -> None"),
]


@pytest.mark.parametrize(("name", "annotation", "said"), RESULTS)
def test_a_result_must_be_what_is_declared(schema: Schema, name: str, annotation: Any, said: str) -> None:
    def bare() -> Any: ...

    run = one(Any, annotation)
    if name == "nothing":
        run = bare
        run.__annotations__ = {"return": annotation}
    if name == "maybe":
        run.__defaults__ = (None,)
    found = problems(schema, name, run)
    assert (said in found[0]) if said else found == []


def test_parameters_are_those_of_the_declaration(schema: Schema) -> None:
    def missing() -> str: ...  # type: ignore[empty-body]
    def misspelled(a: str, window: float = 300.0) -> str: ...  # type: ignore[empty-body]
    def required(a: str, time_window: float) -> str: ...  # type: ignore[empty-body]
    def other_default(a: str, time_window: float = 60.0) -> str: ...  # type: ignore[empty-body]
    def needless(a: str = "x", time_window: float = 300.0) -> str: ...  # type: ignore[empty-body]
    def extra(a: str, zzz: int, time_window: float = 300.0) -> str: ...  # type: ignore[empty-body]
    def stars(*a: str, time_window: float = 300.0, **rest: Any) -> str: ...  # type: ignore[empty-body]
    def positional(a: str, /, time_window: float = 300.0) -> str: ...  # type: ignore[empty-body]
    def late(a: str, context: Context, time_window: float = 300.0) -> str: ...  # type: ignore[empty-body]
    def good(context: Context, *, time_window: float = 300.0, a: str) -> str: ...  # type: ignore[empty-body]
    def none(a: str, time_window: float | None = None) -> str: ...  # type: ignore[empty-body]

    said = {run.__name__: problems(schema, "both", run) for run in (missing, misspelled, required, other_default)}
    said |= {run.__name__: problems(schema, "both", run) for run in (needless, extra, stars, positional, late)}
    assert said == {
        "missing": [
            "parameter `a` is missing; the schema declares it",
            "parameter `time_window` is missing; the schema declares it",
        ],
        "misspelled": ["parameter `window` is not declared; did you mean time_window?"],
        "required": [
            "parameter `time_window` may be left out of a call and has no default; write time_window = 300.0"
        ],
        "other_default": ["parameter `time_window` is 60.0 by default, and 300.0 in the schema"],
        "needless": ["parameter `a` has a default, and the schema requires it; it would never be used"],
        "extra": ["parameter `zzz` is not declared; the schema has a, time_window"],
        "stars": [
            "parameter `a` takes any number of values (*); name each declared parameter",
            "parameter `rest` takes any names (**); name each declared parameter",
        ],
        "positional": ["parameter `a` is positional only (/); name each declared parameter"],
        "late": ["parameter `context` is not the first; put it first"],
    }
    assert problems(schema, "both", good) == problems(schema, "both", none) == []


def test_names_that_python_cannot_use_get_an_underscore(schema: Schema) -> None:
    def good(context: Context, class_: str, context_: int) -> int: ...  # type: ignore[empty-body]
    def taken(context: int, class_: str) -> int: ...  # type: ignore[empty-body]

    assert problems(schema, "odd", good) == []
    (only,) = problems(schema, "odd", taken)
    assert only.startswith("parameter `context_` is missing; the declared context is written so")
    plan = conversion_plan(Binding("odd", good), schema.functions["odd"])
    assert plan.takes_context
    assert plan.parameters == {"class": ("class_", str), "context": ("context_", int)}
    assert plan.returns is int


def test_unknown_and_double_names_are_told_with_file_and_line(schema: Schema) -> None:
    @function("text")
    def first(a: str) -> str: ...  # type: ignore[empty-body]
    @function("text")
    def second(a: str) -> str: ...  # type: ignore[empty-body]
    @function("txet")
    def third(a: str) -> str: ...  # type: ignore[empty-body]
    @function("stranger")
    def fourth(a: str) -> str: ...  # type: ignore[empty-body]

    bindings = [Binding("text", first), Binding("text", second), Binding("txet", third), Binding("stranger", fourth)]
    found = check_bindings(schema, bindings)
    line = first.__code__.co_firstlineno
    assert [str(problem) for problem in found] == [
        f"{__file__}:{line + 2}: second binds text: {__file__}:{line} binds it already; take out one of them",
        f"{__file__}:{line + 4}: third binds txet: the schema declares no function txet; did you mean text?",
        f"{__file__}:{line + 6}: fourth binds stranger: the schema declares no function stranger; "
        "add it to the functions of test.edge",
    ]


def test_generators_and_annotations_that_cannot_be_read_are_told(schema: Schema) -> None:
    def many(a: str) -> Any:
        yield a

    def unreadable(a: "Nowhere") -> str: ...  # type: ignore[name-defined, empty-body]  # noqa: F821

    assert problems(schema, "text", many)[0].startswith("it is a generator")
    assert problems(schema, "text", unreadable)[0].startswith("its annotations cannot be read: NameError")


def test_all_problems_come_in_one_run(schema: Schema) -> None:
    def wrong(b: int, a: int) -> int: ...  # type: ignore[empty-body]

    assert len(problems(schema, "text", wrong)) == 3


def test_a_hook_is_a_coroutine_function_of_one_parameter() -> None:
    async def good(context: Context) -> None: ...
    def plain(context: Context) -> None: ...
    async def bare() -> None: ...

    assert check_hooks([good]) == []
    assert [one.split(": ")[1] for one in check_hooks([plain, bare])] == ["plain", "bare"]
