"""JSON Schema: right by its own metaschema, and of one mind with our validation."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platforms.catalogue import open_catalogue
from schemas.language.json_schema import definitions, document, fields_schema, json_schema, roots
from schemas.language.load import load_text
from schemas.language.schema import ListOf, Nullable, Ref, Schema
from schemas.language.validators import InvalidError, Validator, Validators
from tests.language.values import SCHEMA, objects, spoilt, values

CORE = open_catalogue().schemas[0]
VALIDATORS = Validators(SCHEMA)
EVERY = [(schema, root) for schema in (SCHEMA, CORE) for root in ("", *roots(schema), *schema.types)]


@pytest.mark.parametrize(
    ("schema", "root"), EVERY, ids=lambda value: value.name if isinstance(value, Schema) else value
)
def test_every_document_is_json_schema_2020_12(schema: Schema, root: str) -> None:
    found = document(schema, root)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["$id"] == f"urn:edgewright:{schema.name}" + (f":{root}" if root else "")
    assert json.loads(json.dumps(found)) == found
    for name in _referenced(found):
        assert name in found["$defs"]


def _referenced(found: Any) -> set[str]:
    if isinstance(found, dict):
        own = {found["$ref"].removeprefix("#/$defs/")} if isinstance(found.get("$ref"), str) else set()
        return own.union(*(_referenced(item) for item in found.values()))
    return set[str]().union(*(_referenced(item) for item in found)) if isinstance(found, list) else set()


def test_what_the_language_says_more_is_there() -> None:
    grow = document(SCHEMA, "arguments.grow")
    assert grow["description"] == "Grows it."
    assert grow["required"] == ["tree"] and grow["additionalProperties"] is False
    assert grow["properties"]["by"].items() >= {"$ref": "#/$defs/Metres", "default": 1.5}.items()
    assert grow["properties"]["times"] == {
        "type": "integer", "format": "int64", "minimum": 1, "maximum": 9, "default": 1, "x-unit": "1",
    }  # fmt: skip
    assert grow["$defs"]["Metres"] == {
        "title": "Metres",
        "type": "number",
        "minimum": 0,
        "maximum": 100,
        "x-unit": "m",
    }
    assert grow["$defs"]["Tree"]["additionalProperties"] is False
    grown = document(SCHEMA, "event.Grown")
    assert "additionalProperties" not in grown and "additionalProperties" not in grown["$defs"]["Tree"]
    assert grown["properties"]["by"].items() >= {
        "$ref": "#/$defs/Metres", "deprecated": True, "x-deprecated": "use tree", "x-personal": True,
    }.items()  # fmt: skip


def test_what_marks_a_whole_event_or_result_is_there_too() -> None:
    text = """
    edge_computing A {
      platform_name: "a"
      functions: [ who(): String @edge @personal, old() @deprecated("use who") ]
      state: { faces: Map[String, String] @owner(node) @personal }
      events: [ Seen(n: Integer) @source(node) @personal @deprecated("use Met") ]
    }
    """
    schema = load_text(text, "a").schema
    assert document(schema, "result.who")["x-personal"] is document(schema, "state.faces")["x-personal"] is True
    assert document(schema, "arguments.old")["x-deprecated"] == "use who"
    seen = document(schema, "event.Seen")
    assert (seen["x-personal"], seen["deprecated"], seen["x-deprecated"]) == (True, True, "use Met")


def test_names_stay_references_below_any_prefix() -> None:
    prefix = "#/components/schemas/"
    assert json_schema(SCHEMA, Nullable(ListOf(Ref("Tree"))), ref_prefix=prefix) == {
        "type": ["array", "null"], "items": {"$ref": f"{prefix}Tree"},
    }  # fmt: skip
    found = definitions(SCHEMA, ["Tree"], ref_prefix=prefix)
    assert list(found) == ["Colour", "Leaf", "Metres", "Name", "Tree"]
    assert found["Tree"]["properties"]["children"]["items"] == {"$ref": f"{prefix}Tree"}
    assert list(definitions(SCHEMA, ["Colour"])) == ["Colour"]
    assert fields_schema(SCHEMA, [], closed=True) == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


@pytest.mark.parametrize("root", ["event.Nothing", "Nothing", "arguments.Grown", "part.grow"])
def test_what_there_is_not_cannot_be_asked_for(root: str) -> None:
    with pytest.raises(KeyError):
        document(SCHEMA, root)


def test_documents_of_a_schema_on_paper_allow_what_is_open() -> None:
    schema = load_text('edge_computing A { platform_name: "a" events: [Seen(what: Thing)] }', "a").schema
    assert document(schema, "event.Seen")["$defs"] == {"Thing": {"title": "Thing"}}


# ---- agreement ----------------------------------------------------------------------------------


def agree(validator: Validator, found: dict[str, Any], value: Any) -> None:
    try:
        validator.check(value)
    except InvalidError as error:
        ours: InvalidError | None = error
    else:
        ours = None
    theirs = next(jsonschema.Draft202012Validator(found).iter_errors(value), None)
    assert (ours is None) == (theirs is None), f"ours: {ours}; theirs: {theirs}"


either = settings(max_examples=150, deadline=None)
TREE = values(Ref("Tree"))
CALL = objects(SCHEMA.functions["grow"].parameters)
TREE_DOCUMENT, CALL_DOCUMENT = document(SCHEMA, "Tree"), document(SCHEMA, "arguments.grow")


@either
@given(st.one_of(TREE, spoilt(TREE)))
def test_both_say_the_same_of_a_record(value: Any) -> None:
    agree(VALIDATORS.type(Ref("Tree")), TREE_DOCUMENT, value)


@either
@given(st.one_of(CALL, spoilt(CALL)))
def test_both_say_the_same_of_arguments(value: Any) -> None:
    agree(VALIDATORS.arguments("grow"), CALL_DOCUMENT, value)
