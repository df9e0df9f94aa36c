"""Compiled validation: what is coerced, what is refused and how it is said, and that fast and slow agree."""

import copy
import enum
import json
import math
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.language.catalogue import Catalogue
from schemas.language.check import MISTAKES_MAX, Reader
from schemas.language.load import load_text
from schemas.language.schema import Kind, Ref, Scalar
from schemas.language.validators import InvalidError, Validator, Validators, into, plain
from tests.language.values import SCHEMA, objects, spoilt, values

TREE = Ref("Tree")
EVENT = SCHEMA.events["Grown"].fields
VALIDATORS = Validators(SCHEMA)
LEAF = {"n": 1, "far": None, "colour": "red", "when": None, "wait": 5.0, "raw": "", "class": "x"}


def one_field(declared: str) -> Validator:
    text = f"record R {{ a: {declared} }}\nenum E {{ left, right }}"
    return Validators(load_text(text, "one").schema).type(Ref("R"))


def refusal(validator: Validator, raw: object) -> InvalidError:
    with pytest.raises(InvalidError) as caught:
        validator(raw)
    with pytest.raises(InvalidError) as again:
        validator.check(raw)
    assert again.value.mistakes == caught.value.mistakes
    return caught.value


# ---- coercion -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "raw", "value"),
    [
        ("Integer", 3.0, 3),
        ("Integer", -(2**63), -(2**63)),
        ("Float", 3, 3.0),
        ("Duration", "1h30m", 5400.0),
        ("Duration", "250ms", 0.25),
        ("Duration", 7, 7.0),
        ("Timestamp", "2026-11-24T12:00:00Z", 1_795_521_600_000),
        ("Timestamp", "2026-11-24T14:00:00.123+02:00", 1_795_521_600_123),
        ("Timestamp", 5, 5),
        ("Map[Integer, String]", {"007": "x"}, None),
        ("Map[Integer, String]", {"7": "x"}, {"7": "x"}),
        ("Map[Integer, String]", {7: "x"}, {"7": "x"}),
        ("E", "left", "left"),
        ("Float[]", (1, 2), [1.0, 2.0]),
        ("Json", {"a": [1, None]}, {"a": [1, None]}),
        ("Float?", None, None),
    ],
)
def test_what_means_the_same_is_taken(declared: str, raw: object, value: object) -> None:
    if value is None and raw is not None:
        assert "whole number" in str(refusal(one_field(declared), {"a": raw}))
        return
    found = one_field(declared)({"a": raw})["a"]
    assert found == value and type(found) is type(value)


def test_defaults_are_filled_in_down_to_the_last_record_and_are_not_shared() -> None:
    grow = VALIDATORS.arguments("grow")
    tree = grow({"tree": {"leaf": {"n": 1}}})["tree"]
    assert tree == {
        "leaf": LEAF, "on": False, "children": [], "by_colour": {}, "by_number": {}, "by_name": {}, "more": None,
        "next": None,
    }  # fmt: skip
    tree["children"].append("changed")
    assert grow({"tree": {"leaf": {"n": 1}}}) == {"tree": {**tree, "children": []}, "by": 1.5, "times": 1}


# ---- refusal ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "raw", "said"),
    [
        ("Integer @range(16..4096) @unit(\"px\")", 3, "3 must be a whole number from 16 to 4096 px"),
        ("Integer", 2.5, "2.5 must be a whole number of 64 bits"),
        ("Integer", 2**63, f"{2**63} must be a whole number of 64 bits"),
        ("Integer", True, "True must be a whole number of 64 bits"),
        ("Integer @range(0..)", 2**64, f"{2**64} must be a whole number of at least 0"),
        ("Float", math.nan, "nan must be a number"),
        ("Float @range(..1) @unit(\"m\")", math.inf, "inf must be a number of at most 1 m"),
        ("Float", "1", "'1' must be a number"),
        ("Json", math.nan, "nan is no number that JSON has"),
        ("Json", 2**64, "a whole number beyond 64 bits"),
        ("Json", b"x", "b'x' is nothing that JSON has"),
        ("Json", {1: 2}, "the name 1 must be a text"),
        ("Json", "\ud800", "holds half a character"),
        ("E", "rihgt", "'rihgt' must be one of left, right; did you mean right?"),
        ("E", 3, "3 must be one of left, right"),
        ("String @pattern(\"[a-z]+\")", "ab\n", "must match [a-z]+"),
        ("String @length(2..3)", "a", "1 characters are too few; at least 2"),
        ("Float[] @length(4..4)", [1, 2], "2 items are too few; at least 4"),
        ("Bytes", "%", "'%' must be bytes as text in base64"),
        ("Duration", "5 minutes", "must be a length of time, as seconds or such as 1h30m"),
        ("Timestamp", "yesterday", "must be a time, as UTC milliseconds or such as 2026-11-24T12:00:00Z"),
        ("Timestamp", -1, "must be a time"),
        ("Boolean", 0, "0 must be true or false"),
        ("Map[E, Float]", {"middle": 1.0}, "'middle' must be one of left, right"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_would_be_right(declared: str, raw: object, said: str) -> None:
    error = refusal(one_field(declared), {"a": raw})
    assert error.field.startswith("a")
    assert said in error.message


def test_a_missing_and_an_unknown_argument_are_named() -> None:
    grow = VALIDATORS.arguments("grow")
    error = refusal(grow, {"tre": {}, "times": 3})
    assert error.mistakes[0] == ("tre", "unknown argument; did you mean tree?")
    assert error.mistakes[1] == ("tree", "is missing; it must be an object, Tree")
    within = refusal(grow, {"tree": {"leaf": {"n": 1, "colr": "red"}}})
    assert (within.field, within.message) == ("tree.leaf.colr", "unknown field; did you mean colour?")
    assert str(refusal(VALIDATORS.arguments("rest"), {"a": 1})) == "a: unknown argument; there are none"
    assert str(refusal(grow, 5)) == "5 must be an object"


def test_every_mistake_is_told_up_to_a_limit() -> None:
    leaves = [{"leaf": {"n": 11}}, {"leaf": {"n": "x"}}]
    error = refusal(VALIDATORS.arguments("grow"), {"tree": {"leaf": {"n": 1}, "children": leaves}, "times": 10})
    assert [at for at, _ in error.mistakes] == ["tree.children[0].leaf.n", "tree.children[1].leaf.n", "times"]
    assert str(error).count(";") == 2
    many = refusal(one_field("Integer[]"), {"a": ["x"] * 1000})
    assert len(many.mistakes) == MISTAKES_MAX


def test_events_keep_the_fields_of_a_later_version() -> None:
    event = {"tree": {"leaf": {"n": 1, "of_later": [1]}, "of_later": {"a": 1}}, "by": 2, "of_later": "x"}
    VALIDATORS.event("Grown").check(event)
    VALIDATORS.event("Grown").check_json(json.dumps(event))
    found = VALIDATORS.event("Grown")(event)
    assert (found["of_later"], found["tree"]["of_later"], found["tree"]["leaf"]["of_later"]) == ("x", {"a": 1}, [1])
    assert found["tree"]["leaf"]["colour"] == "red"


@pytest.mark.parametrize("levels", [31, 34])
def test_what_is_nested_too_deep_is_refused(levels: int) -> None:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    raw = {"leaf": {"n": 1}, "more": value}
    validator = VALIDATORS.type(TREE)
    payload = json.dumps(raw).encode()
    if levels < 32:
        assert validator(raw) == validator.decode_json(payload) == validator.decode_msgpack(msgpack.packb(raw))
        return
    assert "deeper than 32 levels" in str(refusal(validator, raw))
    with pytest.raises(InvalidError, match="deeper"):
        validator.decode_json(payload)


def test_a_record_nested_in_itself_has_an_end() -> None:
    tree: dict[str, Any] = {"leaf": {"n": 1}}
    for _ in range(40):
        tree = {"leaf": {"n": 1}, "next": tree}
    assert "deeper" in str(refusal(VALIDATORS.type(TREE), tree))


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"\xff", b"NaN", b'{"leaf":{"n":1},"more":1e400}', b"[" * 100_000, b'{"leaf":{"n":NaN}}']
)
def test_bytes_that_are_no_json_are_refused(payload: bytes) -> None:
    with pytest.raises(InvalidError):
        VALIDATORS.type(TREE).decode_json(payload)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", msgpack.packb({"leaf": {"n": math.nan}}), msgpack.packb({"leaf": {"n": 1}, "more": b"bytes"}),
     msgpack.packb({"leaf": {"n": 1}, "more": math.inf}), msgpack.packb({"leaf": {"n": 1}, "more": 2**64 - 1}),
     msgpack.packb({"leaf": {"n": 1}, "more": msgpack.ExtType(5, b"x")}),
     msgpack.packb({"leaf": {"n": 1}, "more": msgpack.Timestamp(5, 0)})],
)  # fmt: skip
def test_msgpack_that_json_cannot_say_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidError):
        VALIDATORS.type(TREE).decode_msgpack(payload)


def test_names_that_the_schema_does_not_have() -> None:
    for ask in (VALIDATORS.arguments, VALIDATORS.result, VALIDATORS.event, VALIDATORS.state):
        with pytest.raises(KeyError):
            ask("nothing")


def test_results_and_state() -> None:
    assert VALIDATORS.result("grow")({"n": 1.0}) == LEAF
    assert VALIDATORS.result("rest")([1, {"a": None}]) == [1, {"a": None}]
    key, value = VALIDATORS.state("trees")
    assert key("oak") == "oak" and "must match" in str(refusal(key, "Oak"))
    assert value({"leaf": {"n": 1}})["leaf"] == LEAF
    assert key.decode_json(b'"oak"') == "oak" and key.decode_msgpack(msgpack.packb("oak")) == "oak"
    assert json.loads(value.encode({"leaf": {"n": 2.0}}))["leaf"]["n"] == 2
    assert msgpack.unpackb(value.encode_msgpack({"leaf": {"n": 2}}))["leaf"]["n"] == 2


def test_an_alias_for_lists_of_itself_is_read_slowly_and_right() -> None:
    validator = Validators(load_text("type Nest = Nest[]", "nest").schema).type(Ref("Nest"))
    assert validator([[], [[]]]) == validator.decode_json(b"[[],[[]]]") == [[], [[]]]
    assert "[1][0]" in str(refusal(validator, [[], [3]]))


# ---- fast and slow ------------------------------------------------------------------------------

either = settings(max_examples=150, deadline=None)


def outcome(run: Any, raw: object) -> Any:
    try:
        return run(raw)
    except InvalidError as error:
        return error.mistakes


@either
@given(st.one_of(values(TREE), spoilt(values(TREE))))
def test_fast_and_slow_agree_on_values(raw: Any) -> None:
    before = copy.deepcopy(raw)
    validator, slow = VALIDATORS.type(TREE), Reader(SCHEMA, strict=False)
    expected = outcome(lambda each: slow.value(TREE, each), raw)
    assert outcome(validator, raw) == expected
    assert (outcome(validator.check, raw) is None) == (not isinstance(expected, tuple))
    assert outcome(validator.decode_json, json.dumps(raw).encode()) == expected
    assert outcome(validator.decode_msgpack, msgpack.packb(raw)) == expected
    assert raw == before, "what was given is not changed"


@either
@given(st.one_of(objects(EVENT), spoilt(objects(EVENT))))
def test_fast_and_slow_agree_on_events(raw: Any) -> None:
    expected = outcome(lambda each: Reader(SCHEMA, strict=False).fields(EVENT, each), raw)
    event = VALIDATORS.event("Grown")
    assert outcome(event, raw) == expected
    assert (outcome(event.check_json, json.dumps(raw)) is None) == (not isinstance(expected, tuple))


@either
@given(st.one_of(st.binary(max_size=60), values(TREE).map(msgpack.packb), values(TREE).map(json.dumps)), st.data())
def test_whatever_bytes_come_they_are_read_or_refused(payload: bytes | str, data: st.DataObject) -> None:
    raw = bytearray(payload.encode() if isinstance(payload, str) else payload)
    for _ in range(data.draw(st.integers(0, 3)) if raw else 0):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for read in (VALIDATORS.type(TREE).decode_json, VALIDATORS.type(TREE).decode_msgpack):
        found = outcome(read, bytes(raw))
        assert isinstance(found, tuple) or VALIDATORS.type(TREE)(found) == found


@either
@given(values(TREE))
def test_what_came_out_goes_in_again_unchanged(raw: Any) -> None:
    validator = VALIDATORS.type(TREE)
    once = validator(raw)
    assert validator(once) == once
    assert validator.decode_json(validator.encode(once)) == once
    assert validator.decode_msgpack(validator.encode_msgpack(once)) == once


# ---- catalogue, Python's own types ---------------------------------------------------------------


def test_a_catalogue_finds_what_any_of_its_schemas_declares() -> None:
    other = load_text('edge_computing B { platform_name: "b" events: [Rung(loud: Boolean)] }', "b").schema
    catalogue = Catalogue([SCHEMA, other])
    assert catalogue.check("Rung", {"loud": True}) and catalogue.check_json("Rung", '{"loud":true}')
    assert not catalogue.check("Unknown", {}) and not catalogue.check_json("Unknown", "{}")
    with pytest.raises(InvalidError, match="loud: is missing"):
        catalogue.check("Rung", {})
    with pytest.raises(InvalidError, match="tree: is missing"):
        catalogue.check_json("Grown", '{"by":1}')
    assert catalogue.arguments("grow") is not None and catalogue.arguments("shrink") is None
    assert catalogue.result("grow") is not None and catalogue.result("shrink") is None
    assert catalogue.state("sample.trees") is not None
    assert catalogue.state("b.trees") is None and catalogue.state("trees") is None


class Colour(enum.Enum):
    RED = "red"
    GREEN = "GREEN"


@dataclass(frozen=True, slots=True)
class Leaf:
    n: int
    colour: Colour = Colour.RED
    far: float | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    leaves: tuple[Leaf, ...]
    by_name: dict[str, Leaf] = field(default_factory=dict)


def test_checked_data_becomes_what_an_annotation_names_and_back() -> None:
    leaf = VALIDATORS.type(Ref("Leaf"))({"n": 2, "colour": "GREEN"})
    assert into(Leaf, leaf) == Leaf(2, Colour.GREEN)
    assert into(list[Leaf], [leaf]) == [Leaf(2, Colour.GREEN)]
    assert into(Colour, "red") is Colour.RED
    branch = Branch((Leaf(1),), {"a": Leaf(3, far=2.5)})
    assert into(Branch, plain(branch)) == branch
    assert plain({"a": (Leaf(1), Colour.RED)}) == {"a": [{"n": 1, "colour": "red", "far": None}, "red"]}
    with pytest.raises(InvalidError) as caught:
        into(Branch, {"leaves": [{"n": 1}, {"n": "x"}]})
    assert caught.value.field == "leaves[1].n"


def test_a_type_without_a_name_is_built_once() -> None:
    assert VALIDATORS.type(Scalar(Kind.FLOAT)) is VALIDATORS.type(Scalar(Kind.FLOAT))
