"""The canonical layout: the seed is in it already, it keeps every comment and the meaning, and twice is once."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzzlib.readers import read_schema, without_places
from benchmarks.fuzzlib.texts import SAMPLE, make
from schemas.language import tree
from schemas.language.annotations import ANNOTATIONS
from schemas.language.format import LINE_CHARS_MAX, format_file
from schemas.language.parse import parse
from schemas.language.tree import Annotation, Empty, Member, Range, Span, TypeRef, Word
from tests.language import seed


def formatted(text: str) -> str:
    return format_file(parse(text))


@seed.needs_seed
def test_the_platforms_of_the_seed_are_in_the_layout() -> None:
    """But for blanks at the ends of lines, nothing changes."""
    assert len(seed.blocks()) == 3
    for text in seed.blocks():
        assert formatted(text) == "\n".join(line.rstrip() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ('import  core ,\n\n\n\nimport "a.edge"', 'import core\n\nimport "a.edge"\n'),
        ("record A{}", "record A {}\n"),
        ("record A{a:String,b:Float?=1@range( 0..5 )}", "record A {\n  a: String\n  b: Float? = 1 @range(0..5)\n}\n"),
        ("record A {}\nrecord B {}", "record A {}\n\nrecord B {}\n"),
        ("type A=String\ntype B\n\n\ntype C", "type A = String\ntype B\n\ntype C\n"),
        ('enum E{a,b="B"}', 'enum E { a, b = "B" }\n'),
        ("enum E {\n a, b\n}", "enum E {\n  a\n  b\n}\n"),
        ("record A {\n\n\n  a: String\n\n\n  b: String\n\n}", "record A {\n  a: String\n\n  b: String\n}\n"),
        ("// one\n\n\n\n// two\nrecord A {}", "// one\n\n// two\nrecord A {}\n"),
        ("record A { a: String } // end", "record A {\n  a: String\n} // end\n"),
        (
            "record A { // begin\n a: String // of a\n // last\n}",
            "record A { // begin\n  a: String // of a\n  // last\n}\n",
        ),
        ("record A { /* x */ a: /* y */ String }", "record A { /* x */\n  a: String /* y */\n}\n"),
        ("/// doc\nrecord A { a: String /// of a\n}", "/// doc\nrecord A {\n  a: String /// of a\n}\n"),
        ("record A {\n  /// of nobody\n\n  a: String\n}", "record A {\n  /// of nobody\n\n  a: String\n}\n"),
        ("type A = Map[String, // why\n Float] // end", "type A = Map[String, Float] // why\n// end\n"),
    ],
)
def test_the_layout(text: str, expected: str) -> None:
    assert formatted(text) == expected
    assert formatted(expected) == expected


def test_sections_and_signatures() -> None:
    text = """edge_computing P{platform_name:"p" workloads:[A,B] data_sources:[A, // first
B]
functions:[f(a:String,b:Int):X@edge,g(
a:String /// of a
),h()] state:{m:Map[K,V]{a:String}@owner(shared)}
events:[] }"""
    assert (
        formatted(text)
        == """edge_computing P {
  platform_name: "p"
  workloads: [A, B]
  data_sources: [
    A, // first
    B
  ]
  functions: [
    f(a: String, b: Int): X @edge,
    g(
      a: String /// of a
    ),
    h()
  ]
  state: {
    m: Map[K, V] {
      a: String
    } @owner(shared)
  }
  events: []
}
"""
    )


def test_what_does_not_fit_has_a_line_for_each_item() -> None:
    parameters = ", ".join(f"parameter_{i}: String" for i in range(8))
    lines = formatted(f'edge_computing P {{ platform_name: "p" functions: [f({parameters})] }}').split("\n")
    assert "    f(" in lines
    assert "      parameter_7: String" in lines
    words = ", ".join(f"A_long_name_of_a_workload_{i}" for i in range(6))
    assert max(map(len, formatted(f"edge_computing P {{ workloads: [{words}] }}").split("\n"))) <= LINE_CHARS_MAX


def test_the_sample_keeps_its_comments_and_its_meaning() -> None:
    assert read_schema(SAMPLE) in (True, False)
    text = formatted(SAMPLE)
    assert without_places(parse(text).declarations) == without_places(parse(SAMPLE).declarations)
    assert sorted(one.text for one in parse(text).comments) == sorted(one.text for one in parse(SAMPLE).comments)


@pytest.mark.parametrize("number", range(150))
def test_comments_anywhere_are_kept(number: int) -> None:
    """`read_schema` compares meaning and comments before and after, and formats twice."""
    read_schema(make(random.Random(f"format {number}")))


# ---- trees of any shape -------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "Zone", "import", "type", "x_1", "True", "record"]) | st.from_regex(
    r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True
)
unique = {"unique_by": lambda one: one.name}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
docs = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8), max_size=2
).map("\n".join)
numbers = st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
spans = st.builds(
    lambda n, unit: Span(*unit(n)),
    st.integers(0, 999),
    st.sampled_from([lambda n: (n * 60.0, f"{n}m"), lambda n: (n * 1.0, f"{n}s")]),
)
ranges = (
    st.builds(Range, numbers, numbers) | st.builds(Range, numbers, st.none()) | st.builds(Range, st.none(), numbers)
)
values: Any = st.recursive(
    texts | numbers | names.map(Word) | spans | ranges | st.just(Empty()),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
types: Any = st.recursive(
    st.builds(TypeRef, names, st.just(()), st.booleans()),
    lambda inner: (
        st.builds(TypeRef, names, st.lists(inner, min_size=1, max_size=2).map(tuple), st.booleans())
        | st.builds(TypeRef, st.just(tree.ARRAY), st.tuples(inner), st.booleans())
    ),
    max_leaves=4,
)
notes = st.lists(
    st.builds(Annotation, st.sampled_from([*ANNOTATIONS]), st.lists(values, max_size=2).map(tuple)), max_size=2
).map(tuple)
parameters = st.builds(Member, names, types, st.none() | values, notes, st.none(), docs)
members = st.recursive(
    parameters,
    lambda inner: st.builds(
        Member, names, types, st.none() | values, notes, st.lists(inner, max_size=2).map(tuple), docs
    ),
    max_leaves=4,
)
records = st.builds(tree.Record, names, st.lists(members, max_size=3).map(tuple), notes, docs)
choices = st.builds(tree.EnumValue, names, texts, notes, docs)
enums = st.builds(tree.Enum, names, st.lists(choices, max_size=3).map(tuple), notes, docs)
aliases = st.builds(tree.Alias, names, st.none() | types, notes, docs)
imports = st.builds(tree.Import, names, st.just(False), docs) | st.builds(tree.Import, texts, st.just(True), docs)
entries = st.builds(tree.Entry, names, st.none(), st.none(), notes, docs) | st.builds(
    tree.Entry, names, st.lists(parameters, max_size=3).map(tuple), st.none() | types, notes, docs
)
sections = (
    st.builds(tree.Section, names, texts, docs)
    | st.builds(tree.Section, names, st.lists(entries, max_size=3).map(tuple), docs)
    | st.builds(tree.Section, names, st.lists(members, min_size=1, max_size=3).map(tuple), docs)
)
platforms = st.builds(tree.Platform, names, st.lists(sections, max_size=3).map(tuple), notes, docs)
files = st.lists(records | enums | aliases | imports | platforms, max_size=4).map(
    lambda found: tree.File("f.edge", tuple(found))
)


@given(files)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_any_tree_is_read_back_as_it_was(file: tree.File) -> None:
    text = format_file(file)
    again = parse(text)
    assert without_places(again.declarations) == without_places(file.declarations)
    assert format_file(again) == text
