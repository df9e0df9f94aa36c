import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.shape import MISTAKES_MAX, TOLD_MAX, Limit, ShapeError, fields_of, read, read_what_can_be


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Inner:
    x: int
    RENAMED: ClassVar[Mapping[str, str]] = {"lable": "label", "y": "x, and the other way round"}
    label: Annotated[str, Limit(len_min=1, len_max=3)] = "a"


@dataclass(frozen=True, slots=True)
class Outer:
    number: Annotated[float, Limit(gt=0, le=10)] = 1.0
    count: Annotated[int, Limit(ge=0, lt=5)] = 0
    flag: bool = False
    name: Annotated[str, Limit(pattern="[a-z]+", means="small letters")] = "a"
    colour: Colour = Colour.RED
    place: Path | None = None
    either: int | str = 0
    inner: Inner = Inner(0)
    many: tuple[Inner, ...] = ()
    pair: tuple[int, str] = (0, "")
    points: tuple[tuple[float, float], ...] = ()
    names: frozenset[str] = frozenset()
    table: dict[str, Inner] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name == "forbidden":
            raise ValueError("name: must be something else")


def mistakes(raw: object, *, strict: bool = True) -> list[str]:
    with pytest.raises(ShapeError) as caught:
        read(Outer, raw, strict=strict)
    assert str(caught.value) == "; ".join(caught.value.mistakes)
    return caught.value.mistakes


@pytest.mark.parametrize(
    ("raw", "mistake"),
    [
        pytest.param({"number": True}, "number: True must be a number", id="bool is no number"),
        pytest.param({"count": False}, "count: False must be a whole number", id="bool is no whole number"),
        pytest.param({"count": 1.0}, "count: 1.0 must be a whole number", id="float is no whole number"),
        pytest.param({"flag": 1}, "flag: 1 must be true or false", id="number is no bool"),
        pytest.param({"number": math.nan}, "number: nan must be a finite number", id="nan"),
        pytest.param({"number": math.inf}, "number: inf must be a finite number", id="inf"),
        pytest.param({"number": 0}, "number: 0.0 must be more than 0", id="gt"),
        pytest.param({"number": 10.5}, "number: 10.5 must be at most 10", id="le"),
        pytest.param({"count": -1}, "count: -1 must be at least 0", id="ge"),
        pytest.param({"count": 5}, "count: 5 must be less than 5", id="lt"),
        pytest.param({"name": "A"}, "name: 'A' must be small letters", id="pattern"),
        pytest.param({"name": "a\n"}, "name: 'a\\n' must be small letters", id="pattern with a line end"),
        pytest.param({"colour": "green"}, "colour: 'green' must be one of red, blue", id="enum"),
        pytest.param({"colour": ["red"]}, "colour: ['red'] must be one of red, blue", id="enum from a list"),
        pytest.param({"place": 3}, "place: 3 must be a path", id="path"),
        pytest.param({"either": 1.5}, "either: 1.5 must be a whole number", id="union"),
        pytest.param({"inner": []}, "inner: [] must be a table", id="table"),
        pytest.param({"inner": {}}, "inner.x: is missing", id="missing"),
        pytest.param({"inner": {"x": 1, "label": ""}}, "inner.label: too short: 0, at least 1", id="short"),
        pytest.param({"many": [{"x": 1}, {"x": "1"}]}, "many[1].x: '1' must be a whole number", id="in a list"),
        pytest.param({"many": {"x": 1}}, "many: {'x': 1} must be a list", id="list"),
        pytest.param({"pair": [1]}, "pair: needs 2 items, has 1", id="tuple length"),
        pytest.param({"pair": [1, 2]}, "pair[1]: 2 must be a text", id="tuple item"),
        pytest.param({"points": [[0, 1], [0, "1"]]}, "points[1][1]: '1' must be a number", id="nested tuple"),
        pytest.param({"names": ["a", 1]}, "names[1]: 1 must be a text", id="set"),
        pytest.param({"table": {"k": {"x": None}}}, "table.k.x: None must be a whole number", id="in a mapping"),
        pytest.param({"free": {1: 2}}, "free: keys must be texts", id="keys"),
        pytest.param({"name": "forbidden"}, "name: must be something else", id="the class's own rule"),
        pytest.param({"nubmer": 1}, "nubmer: unknown key; did you mean number?", id="unknown with a suggestion"),
        pytest.param({"inner": {"x": 1, "labell": "a"}}, "inner.labell: unknown key; did you mean label?", id="deep"),
        pytest.param({"zzz": 1}, "zzz: unknown key", id="unknown"),
        pytest.param(
            {"inner": {"x": 1, "y": 2}}, "inner.y: is no key any more; write x, and the other way round", id="renamed"
        ),
        pytest.param({7: 1}, "7: unknown key", id="a key that is no text"),
        pytest.param([], "[] must be a table", id="not a table"),
        pytest.param(None, "None must be a table", id="nothing"),
    ],
)
def test_a_mistake_is_named_with_its_place(raw: object, mistake: str) -> None:
    assert mistakes(raw) == [mistake]


def test_all_mistakes_are_reported_at_once() -> None:
    found = mistakes({"number": "x", "count": 9, "many": [{"x": 1}, {}, {"x": 1, "label": "long!"}], "zzz": 0})
    assert found == [
        "number: 'x' must be a number",
        "count: 9 must be less than 5",
        "many[1].x: is missing",
        "many[2].label: too long: 5, at most 3",
        "zzz: unknown key",
    ]


@pytest.mark.parametrize("raw", [{"number": 10**400}, {"count": 16**4000}, {"either": [16**5000]}])
def test_extreme_numbers_are_mistakes_like_others(raw: dict[str, Any]) -> None:
    assert len(mistakes(raw)) == 1
    assert all(len(text) < 200 for text in mistakes(raw))


def test_tolerant_reading_ignores_unknown_fields_and_nothing_else() -> None:
    assert read(Outer, {"future": [1, {}], "inner": {"x": 3, "new": 1}}, strict=False) == Outer(inner=Inner(3))
    assert mistakes({"future": 1, "count": "1"}, strict=False) == ["count: '1' must be a whole number"]


def test_values_of_every_shape_are_read() -> None:
    raw = {
        "number": 2,
        "count": 4,
        "flag": True,
        "name": "abc",
        "colour": "blue",
        "place": "/tmp/x",
        "either": "text",
        "inner": {"x": 1, "label": "b"},
        "many": [{"x": 2}],
        "pair": [3, "c"],
        "points": [[0, 1.5]],
        "names": ["n"],
        "table": {"k": {"x": 4}},
        "free": {"any": [1, None]},
    }
    value = read(Outer, raw, strict=True)
    assert value == Outer(
        2.0, 4, True, "abc", Colour.BLUE, Path("/tmp/x"), "text", Inner(1, "b"), (Inner(2),), (3, "c"),
        ((0.0, 1.5),), frozenset({"n"}), {"k": Inner(4)}, {"any": [1, None]},
    )  # fmt: skip
    assert isinstance(value.number, float)
    assert read(Outer, {"place": None}, strict=True).place is None


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([*Outer.__dataclass_fields__, "other"])


@given(st.dictionaries(names, junk, max_size=6), st.booleans())
def test_no_value_raises_anything_but_a_shape_error(raw: dict[str, Any], strict: bool) -> None:
    try:
        value = read(Outer, raw, strict=strict)
    except ShapeError as error:
        assert error.mistakes
    else:
        # A frozenset has no plain form, so it is left out on the way back.
        plain = {key: item for key, item in fields_of(value).items() if key != "names"}
        again = read(Outer, plain, strict=True)
        assert fields_of(again) | {"names": None} == fields_of(value) | {"names": None}


def test_deep_nesting_is_read_as_deep_as_it_is() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert read(Outer, {"free": {"deep": deep}}, strict=True).free["deep"] == deep
    assert len(mistakes({"count": deep})[0]) < 100


@dataclass(frozen=True, slots=True)
class Pair:
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Pairs:
    pairs: list[Pair] | None = None


def test_a_message_full_of_mistakes_makes_no_message_of_its_size() -> None:
    """Of 128 KiB of `{}` every one lacks every field: the mistakes would be a thousand times as large."""
    raw: dict[str, Any] = {"pairs": [{}] * 43_000}
    with pytest.raises(ShapeError) as caught:
        read(Pairs, raw, strict=False)
    assert len(caught.value.mistakes) == MISTAKES_MAX
    assert len(str(caught.value)) < 100 * TOLD_MAX
    assert str(caught.value).endswith(f"and {MISTAKES_MAX - TOLD_MAX} more")
    assert len(read_what_can_be(Pairs, raw)[1]) == MISTAKES_MAX
