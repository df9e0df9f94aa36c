"""A schema as a Python module: dataclasses, enums and protocols of the standard library alone.

The module reads as a person would have written it: `ruff check`, `ruff format --check` and strict mypy are content.

    String str, Integer int, Float float, Boolean bool, Bytes str (base64), Json and opaque types Any,
    Duration float (seconds), Timestamp int (UTC milliseconds), array list, Map dict, `T?` T | None
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from schemas.language.describe import allowed, bare_type, span, unit_of, used_types
from schemas.language.python_names import BUILT_IN, RESERVED, Names, class_name, member_name, snake_name
from schemas.language.python_text import clean, docstring, note, quoted, signature, statement, width
from schemas.language.schema import (
    AliasType,
    EnumType,
    EventType,
    Field,
    FunctionType,
    Kind,
    ListOf,
    MapOf,
    NamedType,
    Nullable,
    OpaqueType,
    Placement,
    RecordType,
    Ref,
    Scalar,
    Schema,
    Type,
    references,
)

_SCALARS = {
    Kind.STRING: "str",
    Kind.INTEGER: "int",
    Kind.FLOAT: "float",
    Kind.BOOLEAN: "bool",
    Kind.BYTES: "str",
    Kind.DURATION: "float",
    Kind.TIMESTAMP: "int",
    Kind.JSON: "Any",
}
_NOTES = {Kind.DURATION: "seconds", Kind.TIMESTAMP: "UTC milliseconds", Kind.BYTES: "base64"}
_PLACES = {
    Placement.EDGE: ("EdgeFunctions", "Functions that nodes host."),
    Placement.CLOUD: ("CloudFunctions", "Functions that the coordinator hosts."),
    Placement.ANY: ("AnyFunctions", "Functions that a node hosts if it can, else the coordinator."),
}
PERSONAL = "personal: does not leave the node"
COLUMNS_MAX = 118  # beyond that a line is told to ruff


def python_module(schema: Schema) -> str:
    """The source of the module."""
    return _Module(schema).text()


@dataclass(slots=True)
class _Module:
    schema: Schema
    used: set[str] = field(default_factory=set)  # names to import
    silenced: set[str] = field(default_factory=set)  # rules of ruff that declared names break
    out: set[str] = field(default_factory=set)  # types that stand above already
    names: dict[str, str] = field(default_factory=dict)  # of the types, in Python
    scope: Names = field(default_factory=lambda: Names(RESERVED))

    def text(self) -> str:
        for name in used_types(self.schema):
            self.names[name] = self.scope.claim(class_name(name))
        blocks = [block for block in self._blocks() if block]
        body = blocks[0][0] if blocks else ""
        for before, after in pairwise(blocks):
            apart = "\n\n\n" if _is_class(before) or _is_class(after) else "\n"
            body += apart + after[0]
        if any(width(line) > COLUMNS_MAX for line in body.split("\n")):
            self.silenced.add("E501")
        head = self._head()
        return (
            head + ("\n\n\n" if blocks and _is_class(blocks[0]) else "\n\n") + body + "\n" if blocks else head + "\n"
        )

    def _blocks(self) -> Iterator[tuple[str, bool]]:
        """Each top-level piece, and whether it is a class. Enums first: defaults name their members."""
        types = list(used_types(self.schema).values())
        for one in types:
            if isinstance(one, EnumType):
                yield self._enum(one), True
                self.out.add(one.name)
        waiting = [one for one in types if isinstance(one, AliasType | OpaqueType)]
        for one in [one for one in waiting if self._is_ready(one)]:
            yield self._alias(one), False
            waiting.remove(one)
        for one in types:
            if isinstance(one, RecordType):
                doc = _paragraphs(one.doc or f"`{one.name}`.", f"{PERSONAL.capitalize()}." if one.personal else "")
                yield self._record(self.names[one.name], one.fields, doc), True
                self.out.add(one.name)
        for one in waiting:
            yield self._alias(one), False
        yield from self._events()
        if self.schema.state:
            yield self._state(), True
        for placement, (name, doc) in _PLACES.items():
            functions = [one for one in self.schema.functions.values() if one.placement is placement]
            if functions:
                yield self._protocol(name, doc, functions), True

    def _head(self) -> str:
        schema = self.schema
        title = f"{schema.title} ({schema.platform})" if schema.title else schema.platform or schema.name
        about = f"{clean(title)}{f', version {clean(schema.version)}' if schema.version else ''}."
        made = (
            f"Written by `edgectl schema export python`: change the schema `{clean(schema.name)}` and run that again."
        )
        lines = docstring(_paragraphs(about, schema.doc, made), "")
        lines.append("")
        if self.silenced:
            lines += [f"# ruff: noqa: {', '.join(sorted(self.silenced))}", ""]
        lines.append("from __future__ import annotations")
        modules = {
            "dataclasses": ("dataclass", "field"),
            "enum": ("StrEnum",),
            "typing": ("Any", "Protocol", "TypeAlias"),
        }
        found = {module: [name for name in names if name in self.used] for module, names in modules.items()}
        imports = [f"from {module} import {', '.join(names)}" for module, names in found.items() if names]
        return "\n".join([*lines, *(["", *imports] if imports else [])])

    # ---- types ----------------------------------------------------------------------------------

    def type(self, type_: Type) -> str:
        """A type as an annotation."""
        match type_:
            case Scalar(kind):
                if kind is Kind.JSON:
                    self.used.add("Any")
                return _SCALARS[kind]
            case ListOf(item):
                return f"list[{self.type(item)}]"
            case MapOf(key, value):
                return f"dict[{self.type(key)}, {self.type(value)}]"
            case Nullable(inner):
                return f"{self.type(inner)} | None"
            case Ref(name):
                return self.names[name]

    def _enum(self, one: EnumType) -> str:
        self.used.add("StrEnum")
        lines = [f"class {self.names[one.name]}(StrEnum):"]
        if one.doc:
            lines += [*docstring(one.doc, "    "), ""]
        for choice, name in zip(one.choices, self._members(one).values(), strict=True):
            lines += statement(f"    {name} = {quoted(choice.wire)}")
            lines += docstring(choice.doc, "    ")
        return "\n".join(lines)

    def _members(self, one: EnumType) -> dict[str, str]:
        """What stands on the wire, and the member's name."""
        scope = Names()
        return {choice.wire: scope.claim(member_name(choice.name)) for choice in one.choices}

    def _is_ready(self, one: AliasType | OpaqueType) -> bool:
        ready = isinstance(one, OpaqueType) or self.out.issuperset(references(one.type))
        if ready:
            self.out.add(one.name)
        return ready

    def _alias(self, one: NamedType) -> str:
        name = self.names[one.name]
        if not isinstance(one, AliasType):
            self.used.add("Any")
            lines = statement(f"{name} = Any", "" if one.doc else "not defined by the schema")
        else:
            made = self.type(one.type)
            if self.out.issuperset(references(one.type)):
                line = f"{name} = {made}"
            else:
                self.used.add("TypeAlias")
                line = f'{name}: TypeAlias = "{made}"'
            lines = statement(line, note(self._note(one.type, one.unit), PERSONAL if one.personal else ""))
            self.out.add(one.name)
        return "\n".join([*lines, *docstring(one.doc, "")])

    # ---- records and events ---------------------------------------------------------------------

    def _record(self, name: str, fields: Sequence[Field], doc: str) -> str:
        self.used.add("dataclass")
        lines = ["@dataclass(frozen=True, slots=True, kw_only=True)", f"class {name}:"]
        lines += [*docstring(doc, "    "), *([""] if fields else [])]
        scope = Names(self.names.values())
        for one in fields:
            own = scope.claim(one.name)
            if own.lower() != own and own.lstrip("_")[:1].islower():
                self.silenced.add("N815")
            default = self._field_default(one)
            lines += statement(f"    {own}: {self.type(one.type)}{default}", self._field_note(one, own))
            lines += docstring(self._said(one), "    ")
        return "\n".join(lines)

    def _field_default(self, one: Field) -> str:
        if one.required:
            return ""
        made = self.default(one.type, one.default)
        if made is not None:
            return f" = {made}"
        self.used.add("field")
        return f" = field(default_factory={self._factory(one.type, one.default)})"

    def default(self, type_: Type, value: Any) -> str | None:
        """An immutable default as an expression; None for one that has to be made anew each time."""
        if value is None:
            return "None"
        bare = bare_type(self.schema, type_)
        named = self.schema.types.get(bare.name) if isinstance(bare, Ref) else None
        if isinstance(named, EnumType):
            return f"{self.names[named.name]}.{self._members(named)[value]}"
        if isinstance(named, RecordType) or isinstance(value, list | dict):
            return None
        if isinstance(bare, Scalar) and bare.kind in (Kind.FLOAT, Kind.DURATION):
            value = float(value)
        return _literal(value)

    def _factory(self, type_: Type, value: Any) -> str:
        bare = bare_type(self.schema, type_)
        if isinstance(bare, Ref) and isinstance(self.schema.types[bare.name], RecordType):
            return f"lambda: {self.names[bare.name]}()"
        if not value:
            return "list" if isinstance(value, list) else "dict"
        if isinstance(bare, ListOf):
            items = [self.default(bare.item, one) or _literal(one) for one in value]
            return f"lambda: [{', '.join(items)}]"
        return f"lambda: {_literal(value)}"

    def _field_note(self, one: Field, own: str) -> str:
        renamed = f"`{one.name}` on the wire" if own != one.name else ""
        return note(renamed, self._note(one.type, unit_of(self.schema, one)), PERSONAL if one.personal else "")

    def _note(self, type_: Type, unit: str) -> str:
        bare = bare_type(self.schema, type_)
        kind = _NOTES.get(bare.kind, "") if isinstance(bare, Scalar) else ""
        return ", ".join(part for part in (kind, allowed(self.schema, type_, unit)) if part)

    def _said(self, one: Field) -> str:
        return _paragraphs(one.doc, f"Deprecated: {one.deprecated}" if one.deprecated else "")

    def _events(self) -> Iterator[tuple[str, bool]]:
        found = {}
        for one in self.schema.events.values():
            name = class_name(one.name)
            if name in self.names.values():
                name = f"{name}Event"
            found[one.name] = self.scope.claim(name)
            yield self._record(found[one.name], one.fields, self._event_doc(one)), True
        if found:
            lines = ["EVENTS = {", *(f"    {quoted(name)}: {python}," for name, python in found.items()), "}"]
            yield "\n".join([*lines, '"""By the type of the CloudEvent whose `data` it is."""']), False

    def _event_doc(self, one: EventType) -> str:
        told = f"Told by {', '.join(one.sources)}." if one.sources else ""
        gone = f"Deprecated: {one.deprecated}" if one.deprecated else ""
        personal = f"{PERSONAL.capitalize()}." if one.personal else ""
        return _paragraphs(one.doc or f"Event `{one.name}`.", told, personal, gone)

    def _state(self) -> str:
        self.used |= {"dataclass", "field"}
        lines = ["@dataclass(frozen=True, slots=True, kw_only=True)", "class State:"]
        lines += ['    """What the platform keeps: one map a collection."""', ""]
        scope = Names(self.names.values())
        for one in self.schema.state.values():
            own = scope.claim(one.name)
            line = f"    {own}: dict[{self.type(one.key)}, {self.type(one.value)}] = field(default_factory=dict)"
            lines += [*statement(line), *docstring(one.doc, "    ")]
        return "\n".join(lines)

    # ---- functions ------------------------------------------------------------------------------

    def _protocol(self, name: str, doc: str, functions: Sequence[FunctionType]) -> str:
        self.used.add("Protocol")
        lines = [f"class {name}(Protocol):", f'    """{doc}"""']
        scope = Names()
        for one in functions:
            lines += ["", *self._function(one, scope.claim(snake_name(one.name)))]
        return "\n".join(lines)

    def _function(self, one: FunctionType, name: str) -> list[str]:
        returns = "None" if one.returns is None else self.type(one.returns)
        parameters = list(self._parameters(one))
        written = [f"{own}: {kind}{default}" for _, own, kind, default in parameters]
        lines = signature(f"async def {name}", ["self", *written], f" -> {returns}:", "    ")
        renamed = " ".join(f"`{own}` is `{wire}` on the wire." for wire, own, *_ in parameters if own != wire)
        called = f"`{one.name}`, at most {span(one.timeout_s)}. {renamed}"
        result = "Its result does not leave the node." if one.personal else ""
        gone = f"Deprecated: {one.deprecated}" if one.deprecated else ""
        return [*lines, *docstring(_paragraphs(one.doc, called, result, gone), "        ")]

    def _parameters(self, one: FunctionType) -> Iterator[tuple[str, str, str, str]]:
        """Name on the wire, name, type, default; those with a default last, as Python wants it."""
        scope = Names()
        for each in sorted(one.parameters, key=lambda parameter: not parameter.required):
            own = scope.claim(each.name)
            self.silenced |= _broken_by(own)
            default = "" if each.required else f" = {self.default(each.type, each.default) or '...'}"
            yield each.name, own, self.type(each.type), default


def _broken_by(parameter: str) -> set[str]:
    """The rules of ruff that the name of a parameter breaks."""
    rules = {
        "A002": parameter in BUILT_IN,
        "N803": parameter.lower() != parameter,
        "E741": parameter in ("l", "O", "I"),
    }
    return {rule for rule, broken in rules.items() if broken}


def _literal(value: Any) -> str:
    match value:
        case str():
            return quoted(value)
        case list():
            return f"[{', '.join(map(_literal, value))}]"
        case dict():
            return f"{{{', '.join(f'{quoted(key)}: {_literal(one)}' for key, one in value.items())}}}"
    return repr(value)


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _is_class(block: tuple[str, bool]) -> bool:
    return block[1]
