"""What `on` asks of events against what the platforms here declare: types, fields, texts that none can have. Pure."""

import difflib
import re
from collections.abc import Sequence

from agent.actions.settings import ALERTS, EVENT_TYPES, FAILED, OnSettings
from schemas.language.schema import EnumType, Kind, Nullable, Scalar, Schema, Type

WITH_ALL = ("camera_id", "time_s", "pipeline")  # goes with what a pipeline says, declared or not


def undeclared(on: OnSettings, schemas: Sequence[Schema]) -> list[str]:
    """Each as `on.key: what`; an event is what the first schema that has it says."""
    declared = {name for one in schemas for name in one.events} | EVENT_TYPES
    unknown = [kind for kind in on.types if kind not in declared and kind != FAILED]
    mistakes = [f"on.types: no event is called {kind!r}; there are {', '.join(sorted(declared))}" for kind in unknown]
    if unknown or not on.fields:
        return mistakes
    fields = _fields(on.types or ALERTS, schemas)
    for name, texts in on.fields.items():
        types = fields.get(name, [])
        if not types and name not in WITH_ALL:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            mistakes.append(f"on.fields.{name}: none of these events has such a field{hint}")
        elif types:
            mistakes += [
                f"on.fields.{name}: it is never {text!r}, but {_allowed(*types[0])}"
                for text in texts
                if not any(_may_be(text, *one) for one in types)
            ]
    return mistakes


def _fields(events: Sequence[str], schemas: Sequence[Schema]) -> dict[str, list[tuple[Schema, Type]]]:
    """The fields of these events by name, with the schemas that declare them."""
    found: dict[str, list[tuple[Schema, Type]]] = {}
    for kind in events:
        schema = next((one for one in schemas if kind in one.events), None)
        for field in schema.events[kind].fields if schema else ():
            assert schema is not None
            found.setdefault(field.name, []).append((schema, field.type))
    return found


def _may_be(text: str, schema: Schema, type_: Type) -> bool:
    bare = _bare(schema, type_)
    if isinstance(bare, Scalar) and bare.kind is Kind.STRING and bare.limits.pattern:
        return re.fullmatch(bare.limits.pattern, text) is not None
    named = schema.named(bare)
    return not isinstance(named, EnumType) or text in {choice.wire for choice in named.choices}


def _allowed(schema: Schema, type_: Type) -> str:
    bare = _bare(schema, type_)
    named = schema.named(bare)
    if isinstance(named, EnumType):
        return ", ".join(choice.wire for choice in named.choices)
    return bare.limits.pattern if isinstance(bare, Scalar) else ""


def _bare(schema: Schema, type_: Type) -> Type:
    bare = schema.bare(type_)
    return schema.bare(bare.inner) if isinstance(bare, Nullable) else bare
