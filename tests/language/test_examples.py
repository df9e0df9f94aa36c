"""Examples: allowed by their types, the same each time, or an error that says why there is none."""

import json
import re
import string
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.language.contract import EXAMPLES, contract
from schemas.language.examples import NoExampleError, example, example_key, example_of
from schemas.language.json_schema import definitions, fields_schema, json_schema
from schemas.language.load import Loaded, load_text
from schemas.language.patterns import matching
from schemas.language.schema import Field, Kind, Limits, ListOf, MapOf, Ref, Scalar, Schema, Type
from schemas.language.values import value_mistake
from schemas.shape import fields_of
from tests.language.samples import every_sample, harbour


def check(schema: Schema, body: Any, value: Any, defs: Any = None) -> None:
    document = {**body, "$defs": defs or definitions(schema, schema.types)}
    jsonschema.Draft202012Validator(document).validate(value)


@pytest.mark.parametrize("sample", every_sample())
@pytest.mark.parametrize("spoken", [True, False])
def test_an_example_is_allowed_by_its_type(sample: Callable[[], Loaded], spoken: bool) -> None:
    schema = sample().schema
    defs = definitions(schema, schema.types)
    for function in schema.functions.values():
        for brief in (True, False):
            value = example_of(schema, function.parameters, spoken=spoken, brief=brief)
            check(schema, fields_schema(schema, function.parameters, closed=True), value, defs)
        if function.returns is not None:
            check(
                schema, json_schema(schema, function.returns), example(schema, function.returns, spoken=spoken), defs
            )
    for event in schema.events.values():
        check(schema, fields_schema(schema, event.fields), example_of(schema, event.fields, spoken=spoken), defs)
    for one in schema.state.values():
        value = {example_key(schema, one.key): example(schema, one.value, spoken=spoken)}
        check(schema, json_schema(schema, MapOf(one.key, one.value)), value, defs)
    for name in schema.types:
        check(schema, json_schema(schema, Ref(name)), example(schema, Ref(name), spoken=spoken), defs)


def test_examples_say_something() -> None:
    schema = harbour().schema
    count = schema.functions["countShips"]
    assert example_of(schema, count.parameters, spoken=True) == {
        "berth_id": "berth-1", "time_window": "5m", "levels": ["free"],
    }  # fmt: skip
    assert example_of(schema, count.parameters, brief=True) == {"berth_id": "berth-1"}
    assert example_of(schema, count.parameters)["time_window"] == 300.0
    assert example(schema, Ref("Ship_ID")) == "IMO1234567"
    assert example(schema, Ref("Way_Point"))["next"] is None


finite = st.floats(-1e9, 1e9)
limits = st.builds(
    lambda a, b, c, d: Limits(
        None if a is None or b is None else min(a, b), None if a is None or b is None else max(a, b), c, d
    ),
    st.none() | finite,
    st.none() | finite,
    st.none() | st.integers(0, 20),
    st.none() | st.integers(20, 60),
)
scalars = st.builds(Scalar, st.sampled_from(list(Kind)), limits)
types = st.recursive(
    scalars,
    lambda inner: (
        st.builds(ListOf, inner, limits)
        | st.builds(MapOf, st.just(Scalar(Kind.STRING)), inner, limits)
        | st.builds(MapOf, st.just(Scalar(Kind.INTEGER)), inner, limits)
    ),
    max_leaves=4,
)


@given(types, st.text(string.ascii_letters + "_", max_size=12), st.booleans())
def test_whatever_the_limits_an_example_keeps_to_them(type_: Type, name: str, spoken: bool) -> None:
    schema = Schema("t")
    try:
        value = example(schema, type_, name, spoken=spoken)
    except NoExampleError:
        return
    assert value == example(schema, type_, name, spoken=spoken)
    assert json.loads(json.dumps(value)) == value
    if not spoken:
        assert value_mistake(schema, type_, value) is None


@pytest.mark.parametrize(
    ("type_", "said"),
    [
        (Scalar(Kind.STRING, Limits(pattern=r"(?=a)a")), "no text was found"),
        (Scalar(Kind.STRING, Limits(length_least=10**9)), "at most"),
        (Scalar(Kind.INTEGER, Limits(0.2, 0.8)), "no whole number"),
        (Scalar(Kind.BYTES, Limits(length_least=1, length_most=3)), "no base64"),
        (ListOf(Scalar(Kind.BOOLEAN), Limits(length_least=10**9)), "more than"),
    ],
)
def test_where_there_is_no_example_it_says_why(type_: Type, said: str) -> None:
    with pytest.raises(NoExampleError, match=said):
        example(Schema("t"), type_)


def test_an_example_that_would_grow_without_bounds_is_none() -> None:
    wide = "\n".join(f"record R{n} {{ a: R{n + 1} b: R{n + 1} c: R{n + 1} }}" for n in range(14))
    schema = load_text(wide + "\nrecord R14 { x: Integer }").schema
    with pytest.raises(NoExampleError):
        example(schema, Ref("R0"))
    assert example_of(schema, [Field("r", Ref("R13"))])["r"]["a"] == {"x": 3}


@pytest.mark.parametrize(
    ("pattern", "least", "most", "text"),
    [
        ("IMO[0-9]{7}", 0, None, "IMO1234567"),
        ("IS-[0-9]{3}", 0, None, "IS-123"),
        ("[a-z0-9][a-z0-9._-]{0,62}", 0, None, "aaa"),
        ("[a-z0-9][a-z0-9._-]{0,62}", 10, 12, "a" * 10),
        (r"v\d+\.\d+", 0, None, "v12.12"),
        ("a|bc", 0, None, "a"),
        ("^x?(?:yz)*$", 0, 0, ""),
        ("(?P<n>q)+", 3, None, "qqq"),
        (r"[^\w]", 0, None, "-"),
        (r"\u4e00", 0, None, "一"),
    ],
)
def test_a_text_for_a_pattern(pattern: str, least: int, most: int | None, text: str) -> None:
    found = matching(pattern, least, most)
    assert found == text
    assert re.fullmatch(pattern, found)


@pytest.mark.parametrize(
    "pattern", ["(a", "a{", r"(a)\1x", "(?=a)b", "[", "((((a{99}){99}){99}){99})", "*", "(?<!x)y"]
)
def test_a_pattern_that_is_too_clever_has_no_text(pattern: str) -> None:
    found = matching(pattern)
    assert found is None or re.fullmatch(pattern, found)


@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")
@given(st.text("ab1(){}[]|?*+\\d.^$-,w:", max_size=20))
def test_no_pattern_makes_the_generator_fail(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return
    found = matching(pattern, 0, 50)
    assert found is None or re.fullmatch(pattern, found)


def test_the_messages_of_the_contract_are_what_their_dataclasses_say() -> None:
    schema = contract()
    for one in EXAMPLES:
        name = type(one).__name__
        check(schema, json_schema(schema, Ref(name)), fields_of(one))
        with pytest.raises(jsonschema.ValidationError):
            check(schema, json_schema(schema, Ref(name)), {**fields_of(one), "v": "one"})
        check(schema, json_schema(schema, Ref(name)), example(schema, Ref(name)))
    beat: Any = schema.types["Heartbeat"]
    assert {one.name for one in beat.fields} >= {"streams", "temperature_c", "outbox_pending"}
