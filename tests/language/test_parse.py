"""Text to tree: the seed verbatim, every form of the language, documentation, places."""

import pytest

from benchmarks.fuzzlib.texts import SAMPLE
from schemas.language import tree
from schemas.language.load import load_text
from schemas.language.parse import parse, parse_what_can_be
from schemas.language.schema import EventType, Kind, ListOf, MapOf, OpaqueType, Placement, Ref, Scalar
from schemas.language.tree import Place, Range, Span, TypeRef, Word
from tests.language import seed

PLATFORMS = {
    "SmartManufacturing_Edge": ("智联边缘制造平台", 5, 3, 4),
    "SmartTraffic_Edge": ("智联交通边缘大脑", 5, 4, 4),
    "Retail_Analytics_Edge": ("智联零售边缘分析平台", 5, 3, 4),
}


@seed.needs_seed
def test_the_platforms_of_the_seed_are_read_verbatim() -> None:
    found = {}
    for text in seed.blocks():
        loaded = load_text(text)
        schema = loaded.schema
        found[schema.platform] = (schema.title, len(schema.functions), len(schema.state), len(schema.events))
        assert loaded.warnings, "types that the seed leaves open are told"
        assert all("is declared nowhere" in one.message for one in loaded.warnings)
    assert found == PLATFORMS


@seed.needs_seed
def test_what_the_seed_leaves_open_takes_anything() -> None:
    traffic = load_text(seed.blocks()[1]).schema
    assert isinstance(traffic.types["Flow_Analysis"], OpaqueType)
    flow = traffic.functions["analyzeTrafficFlow"]
    assert [one.type for one in flow.parameters] == [Scalar(Kind.STRING), Scalar(Kind.DURATION)]
    assert flow.placement is Placement.ANY
    assert traffic.functions["detectViolation"].returns == ListOf(Ref("Violation_Event"))
    assert traffic.groups["data_sources"] == ("Traffic_Camera", "Radar", "Lidar", "Inductive_Loop", "GPS")
    retail = load_text(seed.blocks()[2]).schema
    store = retail.types["Store_State"]
    assert {one.name: one.type for one in store.fields}["shelf_status"] == MapOf(Ref("Shelf_ID"), Ref("Stock_Level"))  # type: ignore[union-attr]
    assert isinstance(retail.events["StockOutDetected"], EventType)


def test_every_form_is_read() -> None:
    file = parse(SAMPLE)
    assert [type(one).__name__ for one in file.declarations] == [
        *["Import"] * 2, *["Enum"] * 2, *["Alias"] * 5, *["Record"] * 2, "Platform",
    ]  # fmt: skip
    by_name = {one.name: one for one in file.declarations if not isinstance(one, tree.Import)}
    thing = by_name["Thing"]
    assert isinstance(thing, tree.Record)
    fields = {one.name: one for one in thing.members}
    assert str(fields["more"].type) == "Map[Level, List[Thing?]]?"
    assert fields["speed"].default == Word("null")
    assert fields["stay"].default == Span(5400.0, "1.5h")
    assert fields["size"].annotations[0].arguments == (Range(None, 10),)
    assert fields["words"].default == ("a", "b\n")
    assert fields["any"].default == tree.Empty()
    assert by_name["Level"].values[1].wire == "very busy"  # type: ignore[union-attr]
    opened = by_name["Open"]
    assert isinstance(opened, tree.Alias) and opened.type is None
    platform = file.platforms[0]
    sections = {one.name: one.value for one in platform.sections}
    assert sections["platform_name"] == '样例 "sample"'
    state = sections["state"]
    assert isinstance(state, tuple)
    (things, _) = state
    assert isinstance(things, tree.Member)
    assert things.body is not None
    assert things.body[1].body is not None


def test_a_keyword_is_a_name_where_no_declaration_can_begin() -> None:
    (record,) = parse("record record { import: String, type: enum, enum: Float }").declarations
    assert isinstance(record, tree.Record)
    assert [(one.name, str(one.type)) for one in record.members] == [
        ("import", "String"), ("type", "enum"), ("enum", "Float"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "documented"),
    [
        ("/// one\n/// two\nrecord A {}", {"A": "one\ntwo"}),
        ("record A {} /// beside", {"A": "beside"}),
        ("/// above\nrecord A {} /// and beside", {"A": "above"}),
        ("/// apart\n\nrecord A {}", {}),
        ("//// no documentation\nrecord A {}", {}),
        ("// /// no documentation\nrecord A {}", {}),
        ("record A { /// of the record\n  a: String\n}", {"A": "of the record"}),
        ("record A { a: String } /// of the record", {"A": "of the record"}),
        ("record A {\n  a: String, b: Float /// of the last\n}", {"b": "of the last"}),
        ("record A {\n  /// of the first\n  a: String, b: Float\n}", {"a": "of the first"}),
        ("record A {\n  a: String, /// of a\n  b: Float /// of b\n} /// of nobody", {"a": "of a", "b": "of b"}),
        ("/// of the enum\nenum E { /* what */ a, b } // no", {"E": "of the enum"}),
        ("enum E {\n  a /// of a\n  b\n}", {"a": "of a"}),
        ("type T = Float @range(0..1) /// of T", {"T": "of T"}),
    ],
)
def test_documentation_belongs_to_what_it_stands_by(text: str, documented: dict[str, str]) -> None:
    found: dict[str, str] = {}
    for one in parse(text).declarations:
        assert not isinstance(one, tree.Import)
        inner = one.members if isinstance(one, tree.Record) else one.values if isinstance(one, tree.Enum) else ()
        found |= {each.name: each.doc for each in (one, *inner) if each.doc}
    assert found == documented


def test_documentation_of_parameters_and_functions() -> None:
    text = (
        'edge_computing P {\n  platform_name: "p"\n  functions: [\n    f(a: String, b: Float), /// of f\n'
        "    g( /// of g\n      a: String, /// of a\n      b: Float\n    )\n  ]\n}"
    )
    schema = load_text(text).schema
    assert [one.doc for one in schema.functions.values()] == ["of f", "of g"]
    assert [one.doc for one in schema.functions["f"].parameters] == ["", ""]
    assert [one.doc for one in schema.functions["g"].parameters] == ["of a", ""]


def test_the_first_words_of_a_file_may_be_about_the_file() -> None:
    assert load_text("/// What this file is.\n/// More of it.\n\nrecord A {}").warnings == ()


def test_places_count_lines_and_characters_from_one() -> None:
    file = parse('/* two\n lines */ record 甲 {}\nrecord B {\n\tc: "'.replace("甲", "A").replace('"', "String }"))
    second = file.declarations[1]
    assert isinstance(second, tree.Record)
    assert file.declarations[0].place == Place(2, 18, 2, 19)
    assert second.members[0].place == Place(4, 2, 4, 3)
    assert second.members[0].type == TypeRef("String", place=Place(4, 5, 4, 11))
    assert second.end == Place(4, 12, 4, 13)


@pytest.mark.parametrize("text", ["\ufeffrecord A {}", "record A {\r\n}\r\n", "", "// nothing", "\f\t \n"])
def test_odd_files_are_read(text: str) -> None:
    assert parse_what_can_be(text).problems == ()


def test_aliases_may_be_declared_after_their_use() -> None:
    """Limits and units look through names, in whatever order they are declared."""
    text = "record A { a: Small, b: Speeds }\ntype Small = Share @range(0.5..)\ntype Share = Float @range(0..1)\n"
    text += 'type Speeds = Speed[] @unit("km/h")\ntype Speed = Float @unit("km/h")'
    schema = load_text(text).schema
    small = schema.bare(Ref("Small"))
    assert isinstance(small, Scalar)
    assert (small.limits.least, small.limits.most) == (0.5, 1)


def test_unit_and_personal_come_with_the_name_of_a_type() -> None:
    """A limit on a name makes a copy of its type: what else the name says must not be lost with it."""
    text = 'type Face = Bytes @personal\ntype Speed = Float @unit("kn")\n'
    text += "record A { face: Face @length(..100), speed: Speed? @range(0..) }"
    record = load_text(text).schema.types["A"]
    face, speed = record.fields  # type: ignore[union-attr]
    assert face.personal
    assert speed.unit == "kn"
    assert load_text("type Secret @personal").schema.types["Secret"].personal  # type: ignore[union-attr]
