"""A schema with one of everything, and Hypothesis strategies for values of any type, and for spoilt ones."""

import string
from typing import Any

from hypothesis import strategies as st

from schemas.language.load import load_text
from schemas.language.schema import (
    EnumType,
    Field,
    Kind,
    Limits,
    ListOf,
    MapOf,
    Nullable,
    RecordType,
    Ref,
    Scalar,
    Type,
)

TEXT = """
enum Colour { red, green = "GREEN" }
type Name = String @pattern("[a-z]{1,4}")
type Metres = Float @range(0..100) @unit("m")
record Leaf {
  n: Integer @range(0..10)
  far: Metres?
  colour: Colour = red
  when: Timestamp?
  wait: Duration = 5s
  raw: Bytes = ""
  class: String = "x" @length(..5)
}
record Tree {
  leaf: Leaf
  on: Boolean = false
  children: Tree[] = [] @length(..3)
  by_colour: Map[Colour, Leaf] = {}
  by_number: Map[Integer, String] = {}
  by_name: Map[Name, Boolean] = {} @length(..2)
  more: Json?
  next: Tree?
}
/// One of everything.
edge_computing Sample @version("1") {
  platform_name: "Sample"
  functions: [
    /// Grows it.
    grow(
      tree: Tree,
      by: Metres = 1.5,
      times: Integer = 1 @range(1..9) @unit("1")
    ): Leaf @any,
    rest()
  ]
  state: { trees: Map[Name, Tree] @owner(node) }
  events: [ Grown(tree: Tree, by: Metres @deprecated("use tree") @personal) @source(node) ]
}
"""
LOADED = load_text(TEXT, "sample")
SCHEMA = LOADED.schema

WORDS = st.text(string.ascii_letters + string.digits + " äö", max_size=6)
JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-50, 200), st.floats(-50, 200), WORDS, st.just([]), st.just({}),
    st.lists(st.integers(0, 3), max_size=3), st.dictionaries(WORDS, st.integers(0, 3), max_size=2),
    st.sampled_from(["red", "GREEN", "green", "5m", "1h30m", "2026-11-24T12:00:00Z", "aGk=", "5"]),
)  # fmt: skip


def values(type_: Type, depth: int = 0) -> st.SearchStrategy[Any]:
    """What the type allows."""
    match type_:
        case Nullable(inner):
            return st.none() if depth > 6 else st.none() | values(inner, depth)
        case Scalar(kind, limits):
            return _scalars(kind, limits)
        case ListOf(item, limits):
            most = 0 if depth > 3 else limits.length_most or 3
            return st.lists(st.deferred(lambda: values(item, depth + 1)), max_size=most)
        case MapOf(key, value, limits):
            most = 0 if depth > 4 else limits.length_most or 2
            return st.dictionaries(_keys(key), st.deferred(lambda: values(value, depth + 1)), max_size=most)
        case Ref(name):
            declared = SCHEMA.types[name]
            if isinstance(declared, RecordType):
                return objects(declared.fields, depth + 1)
            if isinstance(declared, EnumType):
                return st.sampled_from([one.wire for one in declared.choices])
            return values(declared.type, depth)  # type: ignore[union-attr]


def objects(fields: tuple[Field, ...], depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {one.name: values(one.type, depth) for one in fields if one.required},
        optional={one.name: values(one.type, depth) for one in fields if not one.required},
    )


def _keys(key: Type) -> st.SearchStrategy[str]:
    if key == Scalar(Kind.INTEGER):
        return st.integers(-99, 99).map(str)
    return values(key)


def _scalars(kind: Kind, limits: Limits) -> st.SearchStrategy[Any]:
    least, most = limits.least, limits.most
    match kind:
        case Kind.STRING:
            if limits.pattern:
                return st.from_regex(limits.pattern, fullmatch=True)
            return st.text(string.printable.strip() + " äß", max_size=limits.length_most or 5)
        case Kind.INTEGER:
            return st.integers(-50 if least is None else int(least), 50 if most is None else int(most))
        case Kind.FLOAT:
            return st.floats(least or 0, 100 if most is None else most) | st.integers(1, 9)
        case Kind.BOOLEAN:
            return st.booleans()
        case Kind.BYTES:
            return st.sampled_from(["", "aGk=", "aGkh"])
        case Kind.DURATION:
            return st.floats(0, 1e6) | st.sampled_from(["5m", "1h30m", "250ms"])
        case Kind.TIMESTAMP:
            return st.integers(0, 2**41) | st.sampled_from(["2026-11-24T12:00:00Z", "2026-11-24T12:00:00.5+02:00"])
        case Kind.JSON:
            return JUNK


@st.composite
def spoilt(draw: st.DrawFn, sound: st.SearchStrategy[Any]) -> Any:
    """A value with one thing in it replaced, left out or added."""
    value = draw(sound)
    places: list[tuple[Any, Any]] = []

    def look(at: Any) -> None:
        for key, item in at.items() if isinstance(at, dict) else enumerate(at):
            places.append((at, key))
            if isinstance(item, dict | list):
                look(item)

    if isinstance(value, dict | list):
        look(value)
    if not places or draw(st.integers(0, 9)) == 0:
        return draw(JUNK)
    at, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(["replace", "replace", "remove", "add"])):
        case "replace":
            at[key] = draw(JUNK)
        case "remove":
            del at[key]
        case "add" if isinstance(at, dict):
            at[draw(WORDS)] = draw(JUNK)
    return value
