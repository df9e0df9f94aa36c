"""Tree to schema: names are resolved, annotations read, and everything that is wrong is found in one run.

A file that declares no types and imports nothing is in the short form, as platforms are sketched on paper: a type
that it only mentions is opaque there, with a warning, and events need no source. Anywhere else both are errors.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.language import tree
from schemas.language.annotations import ANNOTATIONS, MARK_NAMES, Mark, Notes
from schemas.language.problems import Problem, Severity
from schemas.language.schema import (
    AliasType,
    EnumChoice,
    EnumType,
    Field,
    Kind,
    Limits,
    ListOf,
    MapOf,
    NamedType,
    Nullable,
    OpaqueType,
    RecordType,
    Ref,
    Scalar,
    Schema,
    Type,
)
from schemas.language.tree import Place
from schemas.language.values import plain, value_mistake

BUILT_IN = {kind.value: kind for kind in Kind}
MAP, LIST = "Map", "List"
_ANY = Scalar(Kind.JSON)


class Scope:
    """What is known while one file is built, and what was found wrong with it."""

    def __init__(self, file: tree.File, name: str, imported: Mapping[str, Schema]) -> None:
        self.file = file
        self.module = name
        self.types: dict[str, NamedType] = {}
        self.problems: list[Problem] = []
        self._lines = file.text.split("\n")
        bodies = [member for member in _state(file) if member.body is not None and len(member.type.arguments) == 2]
        self._bodies = {member.type.arguments[1].name: member for member in bodies}
        declared = [one for one in file.declarations if isinstance(one, tree.Record | tree.Enum | tree.Alias)]
        self.short_form = not declared and not file.imports
        for schema in imported.values():
            for type_ in schema.types.values():
                self._add_imported(type_)
        self._wires = {
            one.name: {value.name: value.wire for value in one.values}
            for one in declared
            if isinstance(one, tree.Enum)
        }
        for type_ in self.types.values():
            if isinstance(type_, EnumType):
                self._wires[type_.name] = {choice.name: choice.wire for choice in type_.choices}
        self._places: dict[str, Place] = {}
        for one in declared:
            self._claim(one.name, one.place)
        for member in bodies:
            self._claim(member.type.arguments[1].name, member.type.arguments[1].place)
        self.known = {*BUILT_IN, MAP, LIST, *self.types, *self._places}
        for one in declared:
            if self._places.get(one.name) == one.place:
                self.types[one.name] = self._declared(one)
        for name_, member in self._bodies.items():
            if name_ in self._places and name_ not in self.types:
                fields = self.fields(member.body or (), Mark.FIELD)
                self.types[name_] = RecordType(name_, fields, False, member.doc, name, member.place)
        self._check_cycles()

    # ---- telling --------------------------------------------------------------------------------

    def wrong(self, place: Place, message: str, hint: str = "", severity: Severity = Severity.ERROR) -> None:
        line = self._lines[place.line - 1] if place.line <= len(self._lines) else ""
        self.problems.append(Problem(self.file.name, place, message, hint, severity, line))

    def notes(self, annotations: Iterable[tree.Annotation], mark: Mark) -> Notes:
        """The annotations that may stand here, the others told of."""
        found: dict[str, tree.Annotation] = {}
        for one in annotations:
            rule = ANNOTATIONS.get(one.name)
            if rule is None:
                self.wrong(one.place, f"there is no annotation @{one.name}", nearest(one.name, ANNOTATIONS, "@"))
            elif mark not in rule.marks:
                places = " and ".join(text for flag, text in MARK_NAMES.items() if flag in rule.marks)
                self.wrong(one.place, f"@{one.name} cannot mark {MARK_NAMES[mark]}", f"it marks {places}")
            elif one.name in found:
                self.wrong(one.place, f"@{one.name} is given twice", "leave one out")
            elif wanted := rule.check(one.arguments):
                self.wrong(one.place, f"@{one.name} has the wrong arguments", f"it takes {wanted}")
            else:
                found[one.name] = one
        return Notes(found)

    # ---- types ----------------------------------------------------------------------------------

    def _add_imported(self, type_: NamedType) -> None:
        known = self.types.setdefault(type_.name, type_)
        if known is not type_ and known.module != type_.module:
            place = self.file.imports[0].place
            self.wrong(place, f"{type_.name} is declared in {known.module} and in {type_.module}", "import only one")

    def _claim(self, name: str, place: Place) -> None:
        if name in BUILT_IN or name in (MAP, LIST):
            self.wrong(place, f"{name} is a built-in type", "choose another name")
        elif name in self.types:
            self.wrong(place, f"{name} is declared in {self.types[name].module} already", "choose another name")
        elif name in self._places:
            self.wrong(
                place, f"{name} is declared twice", f"it is declared in line {self._places[name].line} already"
            )
        else:
            self._places[name] = place

    def _declared(self, one: tree.Record | tree.Enum | tree.Alias) -> NamedType:
        match one:
            case tree.Record():
                personal = self.notes(one.annotations, Mark.RECORD).has("personal")
                fields = self.fields(one.members, Mark.FIELD)
                return RecordType(one.name, fields, personal, one.doc, self.module, one.place)
            case tree.Enum():
                self.notes(one.annotations, Mark.RECORD)
                return EnumType(one.name, self._choices(one), one.doc, self.module, one.place)
            case tree.Alias(type=None):
                self.notes(one.annotations, Mark.TYPE)
                return OpaqueType(one.name, one.doc, self.module, one.place)
        assert isinstance(one, tree.Alias) and one.type is not None
        notes = self.notes(one.annotations, Mark.TYPE)
        type_ = self.limited(self.type(one.type), notes, one.place)
        return AliasType(one.name, type_, notes.text("unit"), notes.has("personal"), one.doc, self.module, one.place)

    def _choices(self, one: tree.Enum) -> tuple[EnumChoice, ...]:
        names: dict[str, EnumChoice] = {}
        wires: set[str] = set()
        if not one.values:
            self.wrong(one.place, f"{one.name} has no values", "name at least one")
        for value in one.values:
            self.notes(value.annotations, Mark.RECORD)
            if value.name in names or value.wire in wires:
                self.wrong(value.place, f"{one.name} has {value.name} twice", "leave one out")
            names.setdefault(value.name, EnumChoice(value.name, value.wire, value.doc))
            wires.add(value.wire)
        return tuple(names.values())

    def type(self, ref: tree.TypeRef) -> Type:
        """A type as written, resolved; what is unknown is told and becomes anything."""
        made = self._type(ref)
        return Nullable(made) if ref.optional else made

    def _type(self, ref: tree.TypeRef) -> Type:
        if ref.name == tree.ARRAY:
            return ListOf(self.type(ref.arguments[0]))
        if ref.name == LIST and self._takes(ref, 1):
            return ListOf(self.type(ref.arguments[0]))
        if ref.name == MAP and self._takes(ref, 2):
            key = self.type(ref.arguments[0])
            return MapOf(key, self.type(ref.arguments[1]))
        if ref.name in (LIST, MAP):
            return _ANY
        self._takes(ref, 0)
        if ref.name in BUILT_IN:
            return Scalar(BUILT_IN[ref.name])
        if ref.name in self.known:
            return Ref(ref.name)
        if self.short_form:
            if ref.name not in self.types:
                self.types[ref.name] = OpaqueType(ref.name, "", self.module, ref.place)
                text = f"{ref.name} is declared nowhere: any value will do"
                self.wrong(ref.place, text, f"declare it: record {ref.name} {{ … }}", Severity.WARNING)
            return Ref(ref.name)
        hint = nearest(ref.name, self.known) or f"declare it (record, enum or type {ref.name}), or import its file"
        self.wrong(ref.place, f"there is no type {ref.name}", hint)
        return _ANY

    def _takes(self, ref: tree.TypeRef, count: int) -> bool:
        if len(ref.arguments) == count:
            return True
        wanted = {0: f"write {ref.name}", 1: "write List[Item]", 2: "write Map[Key, Value]"}[count]
        self.wrong(ref.place, f"{ref.name} with {len(ref.arguments)} types in brackets, not {count}", wanted)
        return False

    def limited(self, type_: Type, notes: Notes, place: Place) -> Type:
        """The type within what `@range`, `@length` and `@pattern` say; limits on a name make a copy of its type."""
        given = [name for name in ("range", "length", "pattern") if notes.has(name)]
        if not given:
            return type_
        if isinstance(type_, Nullable):
            return Nullable(self.limited(type_.inner, notes, place))
        base: Type = type_
        while isinstance(base, Ref) and isinstance(found := self.types.get(base.name), AliasType):
            base = found.type
        fits = {
            "range": isinstance(base, Scalar)
            and base.kind in (Kind.INTEGER, Kind.FLOAT, Kind.DURATION, Kind.TIMESTAMP),
            "length": isinstance(base, ListOf | MapOf)
            or (isinstance(base, Scalar) and base.kind in (Kind.STRING, Kind.BYTES)),
            "pattern": isinstance(base, Scalar) and base.kind is Kind.STRING,
        }
        for name in given:
            if not fits[name]:
                hint = {"range": "numbers have one", "length": "texts, lists and maps have one"}.get(
                    name, "texts have"
                )
                self.wrong(notes.by_name[name].place, f"@{name} does not fit this type", hint)
        if not all(fits[name] for name in given):
            return type_
        span, length = notes.argument("range"), notes.argument("length")
        limits = Limits(
            span.least if isinstance(span, tree.Range) else None,
            span.most if isinstance(span, tree.Range) else None,
            _whole(length.least) if isinstance(length, tree.Range) else None,
            _whole(length.most) if isinstance(length, tree.Range) else None,
            notes.text("pattern"),
        )
        match base:
            case Scalar(kind, before):
                return Scalar(kind, limits.within(before))
            case ListOf(item, before):
                return ListOf(item, limits.within(before))
            case MapOf(key, value, before):
                return MapOf(key, value, limits.within(before))
        return type_

    # ---- fields ---------------------------------------------------------------------------------

    def fields(self, members: Sequence[tree.Member], mark: Mark) -> tuple[Field, ...]:
        found: dict[str, Field] = {}
        for member in members:
            if member.name in found:
                first = found[member.name].place.line
                self.wrong(member.place, f"{member.name} is there twice", f"it is in line {first} already")
                continue
            found[member.name] = self._field(member, mark)
        return tuple(found.values())

    def _field(self, member: tree.Member, mark: Mark) -> Field:
        notes = self.notes(member.annotations, mark)
        type_ = self.limited(self.type(member.type), notes, member.place)
        if member.body is not None:
            self.wrong(member.place, "only a map of the state can say its values' fields here", "declare a record")
        if member.name.startswith("_"):
            self.wrong(
                member.place, "names that begin with _ are the contract's own", f"write {member.name.lstrip('_')}"
            )
        default = None if member.default is None else self._default(member.type, member.default)
        required = member.default is None and not isinstance(type_, Nullable)
        return Field(
            member.name,
            type_,
            required,
            default,
            notes.text("unit"),
            notes.has("personal"),
            notes.text("deprecated"),
            member.doc,
            member.place,
        )

    def _default(self, ref: tree.TypeRef, value: tree.Value) -> Any:
        """As JSON has it; a bare name that is a value of an enum becomes what stands on the wire."""
        if isinstance(value, tuple) and ref.arguments:
            return [self._default(ref.arguments[-1], one) for one in value]
        if isinstance(value, tree.Word) and ref.name in self._wires:
            return self._wires[ref.name].get(value.text, value.text)
        return plain(value)

    def check_defaults(self, schema: Schema, fields: Iterable[Field]) -> None:
        """After all types are known: a default must be a value of its type."""
        for one in fields:
            if one.required or one.default is None:
                if not one.required and one.default is None and not isinstance(one.type, Nullable):
                    self.wrong(one.place, f"{one.name} cannot be null", "mark its type with ?")
                continue
            if mistake := value_mistake(schema, one.type, one.default):
                self.wrong(one.place, f"the default of {one.name} does not fit: {mistake}", "")

    # ---- cycles ---------------------------------------------------------------------------------

    def _check_cycles(self) -> None:
        """A record that must contain itself, or a name for itself, has no value at all."""
        done: set[str] = set()

        def visit(name: str, path: tuple[str, ...]) -> None:
            type_ = self.types.get(name)
            if name in path and type_ is not None:
                if type_.module == self.module and name not in done:
                    way = " → ".join((*path[path.index(name) :], name))
                    self.wrong(
                        type_.place,
                        f"{name} contains itself without an end: {way}",
                        "make one field optional (?) or a list",
                    )
                    done.update(path[path.index(name) :])
                return
            if name in done or type_ is None:
                return
            for needed in _needed(type_):
                visit(needed, (*path, name))
            done.add(name)

        for name in list(self.types):
            visit(name, ())
        # A name for itself would make every reader of it run for ever.
        for name in [name for name, one in self.types.items() if isinstance(one, AliasType) and self._is_loop(name)]:
            self.types[name] = OpaqueType(name, "", self.module, self.types[name].place)

    def _is_loop(self, name: str) -> bool:
        seen, at = {name}, self.types[name]
        while isinstance(at, AliasType) and isinstance(at.type, Ref):
            if at.type.name in seen:
                return True
            seen.add(at.type.name)
            following = self.types.get(at.type.name)
            if following is None:
                return False
            at = following
        return False


def _needed(type_: NamedType) -> list[str]:
    """The names without a value of which the type has none."""
    match type_:
        case RecordType(fields=fields):
            types = [one.type for one in fields if one.required]
        case AliasType(type=inner):
            types = [inner]
        case _:
            types = []
    found = []
    for each in types:
        if isinstance(each, Ref):
            found.append(each.name)
        elif isinstance(each, ListOf) and (each.limits.length_least or 0) > 0 and isinstance(each.item, Ref):
            found.append(each.item.name)
    return found


def _state(file: tree.File) -> list[tree.Member]:
    return [
        member
        for platform in file.platforms
        for section in platform.sections
        if isinstance(section.value, tuple)
        for member in section.value
        if isinstance(member, tree.Member)
    ]


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def nearest(name: str, known: Iterable[str], mark: str = "") -> str:
    """`did you mean …?`, or nothing."""
    found = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {mark}{found[0]}?" if found else ""
