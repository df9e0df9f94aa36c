"""Tree to schema: names are resolved, annotations read, and everything that is wrong is found in one run.

A file that declares no types and imports nothing is in the short form, as platforms are sketched on paper: a type
that it only mentions is opaque there, with a warning, and events need no source. Anywhere else both are errors.

Where the file has errors of syntax, or an import could not be read, nothing is said of what may have been there.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from schemas.language import tree
from schemas.language.annotations import ANNOTATIONS, MARK_NAMES, Mark, Notes
from schemas.language.limits import ALIASES_MAX, ERRORS_MAX, NESTING_MAX
from schemas.language.problems import Problem, Severity, shortened
from schemas.language.reach import endless, least_depths
from schemas.language.recover import NO_DAMAGE, Damage
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
from schemas.language.values import no_limits_meet, plain, value_mistake

BUILT_IN = {kind.value: kind for kind in Kind}
MAP, LIST = "Map", "List"
_ANY = Scalar(Kind.JSON)
_NUMBERS = (Kind.INTEGER, Kind.FLOAT)
_KEYS = (Kind.STRING, Kind.INTEGER, Kind.JSON)
_FITS = {
    "range": "numbers, Duration and Timestamp have one",
    "length": "texts, bytes, lists and maps have one",
    "pattern": "texts have one",
    "unit": "numbers have one, and lists and maps of numbers",
}
_NO_VALUE = object()


class Scope:
    """What is known while one file is built, and what was found wrong with it."""

    def __init__(
        self, file: tree.File, name: str, imported: Mapping[str, Schema], damage: Damage = NO_DAMAGE
    ) -> None:
        self.file = file
        self.module = name
        self.damage = damage
        self.types: dict[str, NamedType] = {}
        self.problems: list[Problem] = []
        self._counts = dict.fromkeys(Severity, 0)
        self._lines = file.text.split("\n")
        self._places: dict[str, Place] = {}
        self._keys: list[tuple[tree.TypeRef, Type]] = []  # of maps
        self._units: list[tuple[Place, Type]] = []
        declared = [one for one in file.declarations if isinstance(one, tree.Record | tree.Enum | tree.Alias)]
        lost = any(damage.has(word) for word in ("record", "enum", "type", "import"))
        self.short_form = not declared and not file.imports and not lost
        for schema in imported.values():
            for type_ in schema.types.values():
                self._add_imported(type_, schema)
        bodies = list(self._bodies())
        self._in_place = {one.place for one in bodies}
        for place, claimed in [(one.place, one.name) for one in declared] + [
            (one.type.arguments[1].place, one.type.arguments[1].name) for one in bodies
        ]:
            self._claim(claimed, place)
        self.known = {*BUILT_IN, MAP, LIST, *self.types, *self._places}
        self.check_case([*self._places.items()], "type", {*BUILT_IN, MAP, LIST, *self.types})
        self._declare(declared)
        for member in bodies:
            ref = member.type.arguments[1]
            if self._places.get(ref.name) == ref.place:
                fields = self.fields(member.body or (), Mark.FIELD)
                self.types[ref.name] = RecordType(ref.name, fields, False, member.doc, name, ref.place)
        self._check_ends()

    # ---- telling --------------------------------------------------------------------------------

    def wrong(self, place: Place, message: str, hint: str = "", severity: Severity = Severity.ERROR) -> None:
        """Told, unless the line is damaged, or there is too much already."""
        if place.line in self.damage.lines:
            return
        self._counts[severity] += 1
        if self._counts[severity] <= ERRORS_MAX:
            line = self._lines[place.line - 1] if place.line <= len(self._lines) else ""
            self.problems.append(Problem(self.file.name, place, message, hint, severity, line))

    def warn(self, place: Place, message: str, hint: str = "") -> None:
        self.wrong(place, message, hint, Severity.WARNING)

    def finish(self) -> None:
        """After everything is built: the last checks, what was found in order, and how much more there is."""
        for ref, key in self._keys:
            self._check_key(ref, key)
        for place, type_ in self._units:
            self._check_unit(place, type_)
        self.problems.sort(key=lambda problem: problem.place)
        for severity, count in self._counts.items():
            if count > ERRORS_MAX:
                text = f"{count - ERRORS_MAX} {severity.value}s more"
                last = self.problems[-1].place
                self.problems.append(Problem(self.file.name, last, text, "begin with those above", severity))

    def notes(self, annotations: Iterable[tree.Annotation], mark: Mark) -> Notes:
        """The annotations that may stand here, the others told of."""
        found: dict[str, tree.Annotation] = {}
        for one in annotations:
            rule = ANNOTATIONS.get(one.name)
            if rule is None:
                self.wrong(one.place, f"there is no annotation @{one.name}", nearest(one.name, ANNOTATIONS, "@"))
            elif mark not in rule.marks:
                places = ", ".join(text for flag, text in MARK_NAMES.items() if flag in rule.marks)

                self.wrong(one.place, f"@{one.name} cannot mark {MARK_NAMES[mark]}", f"it marks {places}")
            elif one.name in found:
                self.wrong(one.place, f"@{one.name} is given twice", "leave one out")
            elif wanted := rule.check(one.arguments):
                self.wrong(one.place, f"@{one.name} has the wrong arguments", f"it takes {wanted}")
            else:
                found[one.name] = one
        return Notes(found)

    def check_case(self, names: Iterable[tuple[str, Place]], what: str, others: Iterable[str] = ()) -> None:
        """Warns of names that are told apart by capitals alone."""
        seen = {one.lower(): one for one in others}
        for name, place in names:
            other = seen.setdefault(name.lower(), name)
            if other != name:
                self.warn(place, f"{name} differs from the {what} {other} only in capitals", "choose another name")

    # ---- names ----------------------------------------------------------------------------------

    def _add_imported(self, type_: NamedType, schema: Schema) -> None:
        known = self.types.setdefault(type_.name, type_)
        if known is not type_ and known.module != type_.module:
            place = place_of_import(self.file, schema.name)
            self.wrong(place, f"{type_.name} is declared in {known.module} and in {type_.module}", "import only one")

    def _claim(self, name: str, place: Place) -> None:
        if name in BUILT_IN or name in (MAP, LIST):
            self.wrong(place, f"{name} is a built-in type", "choose another name")
        elif name in self.types:
            self.wrong(place, f"{name} is declared in {self.types[name].module} already", "choose another name")
        elif name in self._places:
            line = self._places[name].line
            self.wrong(place, f"{name} is declared twice", f"it is declared in line {line} already")
        else:
            self._places[name] = place

    def _bodies(self) -> Iterator[tree.Member]:
        """Collections, and maps inside of them, that say their values' fields in place: `Map[K, V] { … }`."""
        blocks = self.file.platforms[:1]
        left = [
            member
            for block in blocks
            for section in block.sections
            if section.name == "state" and isinstance(section.value, tuple)
            for member in section.value
            if isinstance(member, tree.Member)
        ]
        left.reverse()
        while left:
            member = left.pop()
            if member.body is None:
                continue
            left += reversed(member.body)
            if _names_its_values(member.type):
                yield member

    def place(self, name: str) -> Place | None:
        """Where this file declares a type."""
        return self._places.get(name)

    # ---- declarations ---------------------------------------------------------------------------

    def _declare(self, declared: Sequence[tree.Record | tree.Enum | tree.Alias]) -> None:
        """Enums and names for types first: limits and defaults look through them."""
        ours = [one for one in declared if self._places.get(one.name) == one.place]
        for one in ours:
            if isinstance(one, tree.Enum):
                self.notes(one.annotations, Mark.ENUM)
                self.types[one.name] = EnumType(one.name, self._choices(one), one.doc, self.module, one.place)
        for alias in self._in_order([one for one in ours if isinstance(one, tree.Alias)]):
            self.types[alias.name] = self._alias(alias)
        for one in ours:
            if isinstance(one, tree.Record):
                personal = self.notes(one.annotations, Mark.RECORD).has("personal")
                fields = self.fields(one.members, Mark.FIELD)
                self.types[one.name] = RecordType(one.name, fields, personal, one.doc, self.module, one.place)

    def _in_order(self, aliases: Sequence[tree.Alias]) -> Iterator[tree.Alias]:
        """Each after the one that it is another name for. One that leads to itself, or too far, is made opaque."""
        left = {one.name: one for one in aliases}
        lengths: dict[str, int] = {}
        for start in aliases:
            way: dict[str, tree.Alias] = {}
            at = left.get(start.name)
            while at is not None and at.name not in way:
                way[at.name] = at
                at = left.get(at.type.name) if at.type is not None else None
            names = list(way)
            circle = names[names.index(at.name) :] if at is not None else []
            if at is not None:
                text = f"{at.name} is another name for itself: {' → '.join([*circle[:8], at.name])}"
                self.wrong(at.place, text, "say what it is: a built-in type, a record or an enum")
            for one in reversed(way.values()):
                del left[one.name]
                length = 1 + (lengths.get(one.type.name, 0) if one.type is not None else 0)
                if length > ALIASES_MAX:
                    text = f"{one.name} is a name for a name for a name, more than {ALIASES_MAX} times"
                    self.wrong(one.place, text, "say what it is: a built-in type, a record or an enum")
                if length > ALIASES_MAX or one.name in circle:
                    self.types[one.name] = OpaqueType(one.name, one.doc, self.module, one.place)
                else:
                    lengths[one.name] = length
                    yield one

    def _alias(self, one: tree.Alias) -> NamedType:
        notes = self.notes(one.annotations, Mark.TYPE)
        if one.type is None:
            for name in _FITS:
                if notes.has(name):
                    self.wrong(notes.by_name[name].place, f"@{name} does not fit a type that is open", _FITS[name])
            return OpaqueType(one.name, one.doc, self.module, one.place, notes.has("personal"))
        written = self.type(one.type)
        type_ = self.limited(written, notes)
        unit, personal = self._inherited(written, notes)
        return AliasType(one.name, type_, unit, personal, one.doc, self.module, one.place)

    def _choices(self, one: tree.Enum) -> tuple[EnumChoice, ...]:
        names: dict[str, EnumChoice] = {}
        wires: dict[str, str] = {}
        if not one.values and not self.damage:
            self.wrong(one.place, f"{one.name} has no values", "name at least one")
        for value in one.values:
            self.notes(value.annotations, Mark.CHOICE)
            if value.name in names:
                self.wrong(value.place, f"{one.name} has {value.name} twice", "leave one out")
                continue
            if value.wire in wires:
                text = f"{value.name} and {wires[value.wire]} are both {shortened(value.wire)} on the wire"
                self.wrong(value.place, text, "give each a text of its own")
            names[value.name] = EnumChoice(value.name, value.wire, value.doc)
            wires.setdefault(value.wire, value.name)
        self.check_case([(value.name, value.place) for value in one.values if value.name in names], "value")
        return tuple(names.values())

    # ---- types ----------------------------------------------------------------------------------

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
            self._keys.append((ref.arguments[0], key))
            return MapOf(key, self.type(ref.arguments[1]))
        if ref.name in (LIST, MAP):
            return _ANY
        self._takes(ref, 0)
        if ref.name in BUILT_IN:
            return Scalar(BUILT_IN[ref.name])
        if ref.name in self.known:
            return Ref(ref.name)
        if self.damage.has(ref.name) or self.damage.has("import"):
            return _ANY
        if self.short_form:
            if ref.name not in self.types:
                self.types[ref.name] = OpaqueType(ref.name, "", self.module, ref.place)
                text = f"{ref.name} is declared nowhere: any value will do"
                self.warn(ref.place, text, f"declare it: record {ref.name} {{ … }}")
            return Ref(ref.name)
        near = nearest(ref.name, self.known) if self._counts[Severity.ERROR] < ERRORS_MAX else ""
        hint = near or f"declare it (record, enum or type {ref.name}), or import its file"
        self.wrong(ref.place, f"there is no type {ref.name}", hint)
        return _ANY

    def _takes(self, ref: tree.TypeRef, count: int) -> bool:
        if len(ref.arguments) == count:
            return True
        wanted = {0: f"write {ref.name}", 1: "write List[Item]", 2: "write Map[Key, Value]"}[count]
        self.wrong(ref.place, f"{ref.name} with {len(ref.arguments)} types in brackets, not {count}", wanted)
        return False

    def bare(self, type_: Type) -> Type:
        """The type with other names for it replaced, as far as they are known by now."""
        while isinstance(type_, Ref) and isinstance(found := self.types.get(type_.name), AliasType):
            type_ = found.type
        return type_

    def _check_key(self, ref: tree.TypeRef, key: Type) -> None:
        bare = self.bare(key)
        is_text = isinstance(bare, Scalar) and bare.kind in _KEYS
        is_open = isinstance(bare, Ref) and isinstance(self.types.get(bare.name), EnumType | OpaqueType)
        if not is_text and not is_open:
            hint = "a key is a String, an Integer, an enum, or another name for one"
            self.wrong(ref.place, f"{shortened(str(ref))} cannot be a key", hint)

    def limited(self, type_: Type, notes: Notes) -> Type:
        """The type within what `@range`, `@length` and `@pattern` say; limits on a name make a copy of its type."""
        if notes.has("unit"):
            self._units.append((notes.by_name["unit"].place, type_))
        given = [name for name in ("range", "length", "pattern") if notes.has(name)]
        if not given:
            return type_
        base = self.bare(type_)
        if isinstance(base, Nullable):
            return Nullable(self.limited(base.inner, notes.without("unit")))
        if base == _ANY and self.damage:
            return type_
        kind = base.kind if isinstance(base, Scalar) else None
        fits = {
            "range": kind in (*_NUMBERS, Kind.DURATION, Kind.TIMESTAMP),
            "length": isinstance(base, ListOf | MapOf) or kind in (Kind.STRING, Kind.BYTES),
            "pattern": kind is Kind.STRING,
        }
        for name in given:
            if not fits[name]:
                self.wrong(notes.by_name[name].place, f"@{name} does not fit this type", _FITS[name])
        span, length = notes.argument("range"), notes.argument("length")
        if not all(fits[name] for name in given):
            return type_
        limits = Limits(
            span.least if isinstance(span, tree.Range) else None,
            span.most if isinstance(span, tree.Range) else None,
            _whole(length.least) if isinstance(length, tree.Range) else None,
            _whole(length.most) if isinstance(length, tree.Range) else None,
            notes.text("pattern"),
        )
        assert isinstance(base, Scalar | ListOf | MapOf)
        limits = limits.within(base.limits)
        if no_limits_meet(limits, whole=kind in (Kind.INTEGER, Kind.TIMESTAMP)):
            self.wrong(
                notes.by_name[given[0]].place,
                "no value keeps to these limits and to those of its type",
                "widen one of them",
            )
        match base:
            case Scalar(kind):
                return Scalar(kind, limits)
            case ListOf(item):
                return ListOf(item, limits)
            case MapOf(key, value):
                return MapOf(key, value, limits)

    def _check_unit(self, place: Place, type_: Type) -> None:
        """Of a number, or of a list or map of such, however many."""
        for _ in range(NESTING_MAX):
            type_ = self.bare(type_)
            if not isinstance(type_, Nullable | ListOf | MapOf):
                break
            type_ = (
                type_.value if isinstance(type_, MapOf) else type_.item if isinstance(type_, ListOf) else type_.inner
            )
        is_number = isinstance(type_, Scalar) and type_.kind in _NUMBERS
        if not is_number and not (type_ == _ANY and self.damage):
            self.wrong(place, "@unit does not fit this type", _FITS["unit"])

    def _inherited(self, type_: Type, notes: Notes) -> tuple[str, bool]:
        """Unit and whether it is personal: as said here, or as the names say that stand for the type."""
        unit, personal = notes.text("unit"), notes.has("personal")
        while True:
            if isinstance(type_, Nullable):
                type_ = type_.inner
            found = self.types.get(type_.name) if isinstance(type_, Ref) else None
            if not isinstance(found, AliasType):
                return unit, personal
            unit, personal, type_ = unit or found.unit, personal or found.personal, found.type

    # ---- fields ---------------------------------------------------------------------------------

    def fields(self, members: Sequence[tree.Member], mark: Mark) -> tuple[Field, ...]:
        found: dict[str, Field] = {}
        for member in members:
            if member.name in found:
                first = found[member.name].place.line
                self.wrong(member.place, f"{member.name} is there twice", f"it is in line {first} already")
                continue
            found[member.name] = self._field(member, mark)
        self.check_case([(one.name, one.place) for one in found.values()], "field")
        return tuple(found.values())

    def _field(self, member: tree.Member, mark: Mark) -> Field:
        notes = self.notes(member.annotations, mark)
        written = self.type(member.type)
        type_ = self.limited(written, notes)
        unit, personal = self._inherited(written, notes)
        self.check_body(member)
        if member.name.startswith("_"):
            hint = f"write {member.name.lstrip('_') or 'a word'}"
            self.wrong(member.place, "names that begin with _ are the contract's own", hint)
        default = _NO_VALUE if member.default is None else self._default(type_, member.default, member.place)
        required = default is _NO_VALUE and not isinstance(type_, Nullable)
        return Field(
            member.name,
            type_,
            required,
            None if default is _NO_VALUE else default,
            unit,
            personal,
            notes.text("deprecated"),
            member.doc,
            member.place,
        )

    def check_body(self, member: tree.Member) -> None:
        """Whether a member may say its values' fields in place."""
        if member.body is not None and member.place not in self._in_place:
            text = "only a map of the state can say its values' fields in place"
            self.wrong(member.place, text, "write name: Map[Key, Value] { … }, or declare a record")

    def _default(self, type_: Type, value: tree.Value, place: Place) -> Any:
        """As JSON has it; a bare name that is a value of an enum becomes what stands on the wire."""
        base = self.bare(type_)
        while isinstance(base, Nullable):
            base = self.bare(base.inner)
        if isinstance(value, tuple):
            item = base.item if isinstance(base, ListOf) else _ANY
            items = [self._default(item, one, place) for one in value]
            return _NO_VALUE if any(one is _NO_VALUE for one in items) else items
        if isinstance(value, tree.Range):
            self.wrong(place, "a range is no value", "write a number")
            return _NO_VALUE
        if not isinstance(value, tree.Word):
            return plain(value)
        enum = self.types.get(base.name) if isinstance(base, Ref) else None
        if isinstance(enum, EnumType):
            wire = next((one.wire for one in enum.choices if one.name == value.text), None)
            if wire is None and value.text != "null":
                names = [one.name for one in enum.choices]
                hint = nearest(value.text, names) or f"it has {shortened_list(names)}"
                if not self.damage.has(value.text):
                    self.wrong(place, f"{enum.name} has no value {value.text}", hint)
                return _NO_VALUE
            return wire
        found = plain(value)
        if isinstance(found, str):
            is_text = isinstance(base, Scalar) and base.kind is Kind.STRING
            hint = f'write "{value.text}"' if is_text else "a bare name is a value of an enum, true, false or null"
            if not self.damage:
                self.wrong(place, f"{value.text} is no value here", hint)
            return _NO_VALUE
        return found

    def check_defaults(self, schema: Schema, fields: Iterable[Field]) -> None:
        """After all types are known: a default must be a value of its type."""
        for one in fields:
            if one.required or one.default is None:
                bare = schema.bare(one.type)
                is_open = isinstance(bare, Nullable) or bare == _ANY or isinstance(schema.named(bare), OpaqueType)
                if not one.required and one.default is None and not is_open:
                    self.wrong(one.place, f"{one.name} cannot be null", "mark its type with ?")
            elif mistake := value_mistake(schema, one.type, one.default):
                self.wrong(one.place, f"the default of {one.name} does not fit: {mistake}")

    # ---- ends -----------------------------------------------------------------------------------

    def _check_ends(self) -> None:
        """A record that must contain itself has no value, and one that must nest too deep none that can be sent."""
        depths = least_depths(self.types)
        for circle in endless(self.types, depths):
            type_ = self.types[circle[0]]
            if type_.module == self.module:
                way = " → ".join([*circle[:8], *(["…"] if len(circle) > 8 else []), circle[0]])
                text = f"{circle[0]} contains itself without an end: {way}"
                self.wrong(type_.place, text, "make one field optional (?) or a list")
        for name, depth in depths.items():
            type_ = self.types[name]
            if depth == NESTING_MAX and type_.module == self.module:
                text = f"every {name} is nested {NESTING_MAX} levels deep or deeper, which no message carries"
                self.wrong(type_.place, text, "make one field optional (?) or a list")


def _names_its_values(ref: tree.TypeRef) -> bool:
    if ref.name != MAP or len(ref.arguments) != 2 or ref.optional:
        return False
    return not ref.arguments[1].arguments and not ref.arguments[1].optional


def place_of_import(file: tree.File, name: str) -> Place:
    """Where the file of this name is imported."""
    for one in file.imports:
        if one.target == name or one.target.rpartition("/")[2].rpartition(".")[0] == name:
            return one.place
    return file.imports[0].place if file.imports else Place()


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def nearest(name: str, known: Iterable[str], mark: str = "") -> str:
    """`did you mean …?`, or nothing. Looks only at names of about the same length, and at so many at most."""
    close = [one for one in known if abs(len(one) - len(name)) <= max(2, len(name) // 3)]
    alike = [one for one in close if one[:1].lower() == name[:1].lower()] if len(close) > 100 else close
    found = difflib.get_close_matches(name, sorted(alike)[:100], n=1)
    return f"did you mean {mark}{found[0]}?" if found else ""


def shortened_list(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:12])} and {len(names) - 12} more"
