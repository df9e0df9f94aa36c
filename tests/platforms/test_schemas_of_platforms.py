"""What the shipped platforms declare, against the blocks of the seed as they were written, and against our Python."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import pytest

from platforms.finding import SHIPPED, find_schema
from platforms.functions import bindings_of
from platforms.manufacturing import functions as manufacturing_functions
from platforms.manufacturing import types as manufacturing_types
from platforms.retail import functions as retail_functions
from platforms.retail import types as retail_types
from platforms.traffic import functions as traffic_functions
from platforms.traffic import types as traffic_types
from schemas.language.load import Loaded, load, load_text
from schemas.language.schema import (
    EnumType,
    Field,
    ListOf,
    MapOf,
    Nullable,
    OpaqueType,
    Placement,
    RecordType,
    Ref,
    Schema,
    Type,
)
from schemas.shape import fields_of
from tests.assets import ASSETS

CASES = ASSETS.parent / "seed" / "edge-computing-schema-cases.md"
needs_seed = pytest.mark.skipif(not CASES.is_file(), reason=f"the seed is absent: {CASES}")
PLATFORMS = {
    "manufacturing": "SmartManufacturing_Edge",
    "traffic": "SmartTraffic_Edge",
    "retail": "Retail_Analytics_Edge",
}
MODULES = {
    "manufacturing": (manufacturing_functions, manufacturing_types),
    "traffic": (traffic_functions, traffic_types),
    "retail": (retail_functions, retail_types),
}


@cache
def ours(name: str) -> Loaded:
    path = find_schema(name)
    assert path is not None
    return load(path, find_schema)


@cache
def seed(name: str) -> Schema:
    """The platform's block as the seed has it."""
    blocks = re.findall(r"```dsl\n(.*?)```", CASES.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = (block for block in blocks if f"edge_computing {PLATFORMS[name]} " in block)
    return load_text(block, name).schema


def same(theirs: Schema, wanted: Type, schema: Schema, given: Type) -> bool:
    """Whether a type is that of the seed: optional perhaps, or another name for the same scalar."""
    if isinstance(given, Nullable):
        return same(theirs, wanted, schema, given.inner)
    match wanted, given:
        case ListOf(item), ListOf(our_item):
            return same(theirs, item, schema, our_item)
        case MapOf(key, value), MapOf(our_key, our_value):
            return same(theirs, key, schema, our_key) and same(theirs, value, schema, our_value)
        case Ref(name), Ref(our_name):
            return name == our_name
    bare = schema.bare(given)
    return not isinstance(wanted, Ref) and getattr(bare, "kind", None) == getattr(wanted, "kind", "")


def missing(theirs: Schema, wanted: tuple[Field, ...], schema: Schema, given: tuple[Field, ...]) -> list[str]:
    """The fields of the seed that ours has not, or not so, and those that a caller of the seed would not give."""
    known, asked = {one.name: one for one in given}, {one.name for one in wanted}
    found = [
        f"{one.name} is none, or of another type"
        for one in wanted
        if one.name not in known or not same(theirs, one.type, schema, known[one.name].type)
    ]
    return found + [f"{one.name} is required and new" for one in given if one.required and one.name not in asked]


# ---- the seed ------------------------------------------------------------------------------------


@needs_seed
@pytest.mark.parametrize("name", PLATFORMS)
def test_a_platform_bears_the_names_of_the_seed(name: str) -> None:
    schema, wanted = ours(name).schema, seed(name)
    assert (schema.platform, schema.title, schema.node_types) == (wanted.platform, wanted.title, wanted.node_types)
    assert schema.groups == wanted.groups


@needs_seed
@pytest.mark.parametrize("name", PLATFORMS)
def test_functions_have_the_signatures_of_the_seed(name: str) -> None:
    schema, wanted = ours(name).schema, seed(name)
    assert [one for one in schema.functions if one in wanted.functions] == list(wanted.functions)
    for one in wanted.functions.values():
        given = schema.functions[one.name]
        assert missing(wanted, one.parameters, schema, given.parameters) == [], one.name
        names = [parameter.name for parameter in one.parameters]
        assert [parameter.name for parameter in given.parameters][: len(names)] == names
        if one.returns is not None:
            assert given.returns is not None
            assert same(wanted, one.returns, schema, given.returns), one.name


SHARED_EVENTS = {
    "NodeRegistered": {"node"},
    "CloudSyncCompleted": {"sync_id", "outcome", "rows", "bytes", "skipped", "duration_s"},
}
"""What `core` says with events of these names besides, since before there was a schema: always there."""


@needs_seed
@pytest.mark.parametrize("name", PLATFORMS)
def test_events_have_the_fields_of_the_seed(name: str) -> None:
    schema, wanted = ours(name).schema, seed(name)
    assert [one for one in schema.events if one in wanted.events] == list(wanted.events)
    for one in wanted.events.values():
        more = SHARED_EVENTS.get(one.name, set())
        given = tuple(each for each in schema.events[one.name].fields if each.name not in more)
        assert missing(wanted, one.fields, schema, given) == [], one.name


@needs_seed
@pytest.mark.parametrize("name", PLATFORMS)
def test_state_has_the_collections_of_the_seed(name: str) -> None:
    schema, wanted = ours(name).schema, seed(name)
    for one in wanted.state.values():
        given = schema.state[one.name]
        assert same(wanted, one.key, schema, given.key)
        assert same(wanted, one.value, schema, given.value)
    for record in wanted.types.values():
        if isinstance(record, RecordType):
            given_record = schema.types[record.name]
            assert isinstance(given_record, RecordType)
            fields = {each.name for each in record.fields}
            given_fields = tuple(each for each in given_record.fields if each.name in fields)
            assert missing(wanted, record.fields, schema, given_fields) == [], record.name


# ---- ours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_platform_is_without_warnings_and_leaves_no_type_open(name: str) -> None:
    loaded = ours(name)
    # Records of settings are in no message: they say what `[platforms.<name>]` may hold.
    assert [one.message for one in loaded.warnings if not one.message.endswith("_Settings")] == []
    assert [one.name for one in loaded.schema.types.values() if isinstance(one, OpaqueType)] == []


@pytest.mark.parametrize("name", PLATFORMS)
def test_every_function_event_and_collection_says_what_it_is(name: str) -> None:
    schema = ours(name).schema
    docs = {one.name: one.doc for one in schema.functions.values()}
    docs |= {one.name: one.doc for one in schema.events.values()}
    docs |= {one.name: one.doc for one in schema.state.values()}
    assert [one for one, doc in docs.items() if not doc] == []


@pytest.mark.parametrize("name", PLATFORMS)
def test_every_type_of_a_platform_is_used(name: str) -> None:
    schema = ours(name).schema
    roots = [one.returns for one in schema.functions.values() if one.returns is not None]
    roots += [field.type for one in schema.functions.values() for field in one.parameters]
    roots += [field.type for one in schema.events.values() for field in one.fields]
    roots += [part for one in schema.state.values() for part in (one.key, one.value)]
    roots += [Ref(one) for one in schema.types if one.endswith("_Settings")]
    used = set(_reachable(schema, roots))
    assert {one.name for one in schema.types.values() if one.module == name} - used == set()


def _reachable(schema: Schema, roots: list[Type]) -> Iterator[str]:
    seen: set[str] = set()
    while roots:
        match roots.pop():
            case Nullable(inner) | ListOf(inner):
                roots.append(inner)
            case MapOf(key, value):
                roots += [key, value]
            case Ref(name) if name not in seen:
                seen.add(name)
                yield name
                named = schema.types[name]
                roots += [one.type for one in getattr(named, "fields", ())]
                roots += [named.type] if hasattr(named, "type") else []


def test_what_is_personal_stays_at_the_node() -> None:
    retail, traffic = ours("retail").schema, ours("traffic").schema
    assert retail.functions["recognizeVIP"].personal
    assert retail.functions["recognizeVIP"].placement is Placement.EDGE
    assert retail.state["customer_profiles"].personal
    assert retail.events["VIPArrived"].personal
    for record in ("Violation_Event", "Vehicle_State"):
        named = traffic.types[record]
        assert isinstance(named, RecordType)
        assert [one.name for one in named.fields if one.personal] == ["plate"]


# ---- our Python ----------------------------------------------------------------------------------


def declared_as(name: str, cls: type[Any]) -> RecordType | EnumType:
    """The record or enum that a Python class stands for: `FlowAnalysis` is `Flow_Analysis`."""
    types = ours(name).schema.types.values()
    (found,) = (one for one in types if one.name.replace("_", "") == cls.__name__)
    assert isinstance(found, RecordType | EnumType)
    return found


def classes_of(module: ModuleType) -> list[type[Any]]:
    return [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]


@pytest.mark.parametrize(
    ("name", "cls"), [(name, cls) for name, (_, types) in MODULES.items() for cls in classes_of(types)]
)
def test_a_class_is_as_its_record_is_declared(name: str, cls: type[Any]) -> None:
    declared = declared_as(name, cls)
    if isinstance(declared, EnumType):
        assert [member.value for member in cls] == [choice.wire for choice in declared.choices]
        return
    wanted = {one.name: (one.required, one.default) for one in declared.fields}
    assert {one.name: _default(one) for one in dataclasses.fields(cls)} == wanted


def _default(field: "dataclasses.Field[Any]") -> tuple[bool, Any]:
    if field.default is not dataclasses.MISSING:
        return False, fields_of(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return False, fields_of(field.default_factory())
    return True, None


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_bound_function_takes_what_is_declared(name: str) -> None:
    module, _ = MODULES[name]
    bindings = list(bindings_of(module))
    assert bindings
    for binding in bindings:
        declared = {one.name: one for one in ours(name).schema.functions[binding.name].parameters}
        given = dict(inspect.signature(binding.run).parameters)
        assert binding.takes_context
        del given["context"]
        assert list(given) == list(declared)
        for parameter in given.values():
            is_required = parameter.default is inspect.Parameter.empty
            assert is_required == declared[parameter.name].required, parameter.name
