"""How two types differ, and for whom that matters: who still writes the old one, and who still reads it.

    narrower: what was a value is none any more    breaks readers of the new one, when old writers are about (IN)
    wider: there are values that were none         breaks readers of the old one, when new writers are about (OUT)

Fields that a reader does not know are no trouble anywhere, arguments of a call excepted (diff.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Flag
from typing import Any

from schemas.language.reach import mentioned
from schemas.language.schema import (
    AliasType,
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
    written,
)

DIFFERENCES_MAX = 200  # of one message
PATH_CHARS_MAX = 200


class Breaks(Flag):
    """Which way of using both versions at once a difference breaks."""

    NOTHING = 0
    IN = 1  # old writers, new readers
    OUT = 2  # new writers, old readers
    BOTH = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """`path` is where: `zones[].name`; empty for the whole."""

    path: str
    text: str
    breaks: Breaks = Breaks.NOTHING


# A kind, and one that takes all of its values and more.
_WIDER = {
    (Kind.INTEGER, Kind.FLOAT),
    (Kind.INTEGER, Kind.TIMESTAMP),
    (Kind.INTEGER, Kind.DURATION),
    (Kind.FLOAT, Kind.DURATION),
}
_Pair = tuple[str, Type, Type, bool]
"""Path, old type, new type, and whether their units are still to be compared."""


class Comparison:
    """Of the types of two versions of a schema."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = old
        self._new = new
        self._touched = _touched(old, new)

    def types(self, old: Type, new: Type, path: str = "") -> list[Difference]:
        """All differences between two types, those of the records in them included."""
        return self._walk([(path, old, new, True)])

    def fields(self, old: Sequence[Field], new: Sequence[Field]) -> list[Difference]:
        """The same of parameters, or of the fields of an event."""
        found, pairs = self._fields("", old, new)
        return found + self._walk(pairs)

    def same(self, old: Type, new: Type) -> bool:
        return not self.types(old, new)

    def _walk(self, left: list[_Pair]) -> list[Difference]:
        found: list[Difference] = []
        seen: set[tuple[str, str]] = set()
        left = left[::-1]
        while left and len(found) < DIFFERENCES_MAX:
            path, old, new, units = left.pop()
            if old == new and isinstance(old, Ref) and old.name not in self._touched:
                continue
            more, pairs = self._step(path[:PATH_CHARS_MAX], old, new, units, seen)
            found += more
            left += reversed(pairs)
        return found

    # ---- one level ------------------------------------------------------------------------------

    def _step(
        self, path: str, old: Type, new: Type, units: bool, seen: set[tuple[str, str]]
    ) -> tuple[list[Difference], list[_Pair]]:
        """What differs here, and what is to be compared next. Two names are compared once."""

        old, old_unit, old_null = _opened(self._old, old)
        new, new_unit, new_null = _opened(self._new, new)
        found = []
        if units and old_unit != new_unit:
            found.append(_unit(path, old_unit, new_unit))
        if old_null and not new_null:
            found.append(Difference(path, "cannot be null any more", Breaks.IN))
        if new_null and not old_null:
            found.append(Difference(path, "can be null now", Breaks.OUT))
        if isinstance(old, Ref) and isinstance(new, Ref):
            if (old.name, new.name) in seen:
                return found, []
            seen.add((old.name, new.name))

        if isinstance(old, ListOf) and isinstance(new, ListOf):
            found += _limits(path, old.limits, new.limits, "items")
            return found, [(f"{path}[]", old.item, new.item, True)]
        if isinstance(old, MapOf) and isinstance(new, MapOf):
            found += _limits(path, old.limits, new.limits, "entries")
            inner = f"{path}{{}}"
            return found, [(f"{path}{{key}}", old.key, new.key, True), (inner, old.value, new.value, True)]
        old_named, new_named = self._old.named(old), self._new.named(new)
        if isinstance(old_named, RecordType) and isinstance(new_named, RecordType):
            more, pairs = self._fields(path, old_named.fields, new_named.fields)
            return found + _personal(path, old_named.personal, new_named.personal) + more, pairs
        if isinstance(old_named, EnumType) and isinstance(new_named, EnumType):
            return found + list(_choices(path, old_named, new_named)), []
        if isinstance(old, Scalar) and isinstance(new, Scalar) and old.kind is new.kind:
            return found + list(_limits(path, old.limits, new.limits, "characters")), []
        if not (isinstance(old_named, OpaqueType) and isinstance(new_named, OpaqueType)):
            text = f"{written(old)} before, {written(new)} now"
            found.append(Difference(path, text, self._breaks(old, old_named, new, new_named)))
        return found, []

    @staticmethod
    def _breaks(old: Type, old_named: NamedType | None, new: Type, new_named: NamedType | None) -> Breaks:
        """Of two types of different kinds."""
        old_kind = old.kind if isinstance(old, Scalar) else Kind.JSON if isinstance(old_named, OpaqueType) else None
        new_kind = new.kind if isinstance(new, Scalar) else Kind.JSON if isinstance(new_named, OpaqueType) else None
        if new_kind is Kind.JSON:
            return Breaks.NOTHING if old_kind is Kind.JSON else Breaks.OUT
        if old_kind is Kind.JSON:
            return Breaks.IN
        if (old_kind, new_kind) in _WIDER or (isinstance(old_named, EnumType) and new_kind is Kind.STRING):
            return Breaks.OUT
        if (new_kind, old_kind) in _WIDER or (isinstance(new_named, EnumType) and old_kind is Kind.STRING):
            return Breaks.IN
        return Breaks.BOTH

    def _fields(self, path: str, old: Sequence[Field], new: Sequence[Field]) -> tuple[list[Difference], list[_Pair]]:
        before, now = {one.name: one for one in old}, {one.name: one for one in new}
        found: list[Difference] = []
        pairs: list[_Pair] = []
        gone = [one for one in old if one.name not in now]
        added = [one for one in new if one.name not in before]
        for one in gone:
            renamed = next((other.name for other in added if self._is_like(one, other)), "")
            text = "is gone" + (f"; was it renamed to {renamed}?" if renamed else "")
            found.append(Difference(_at(path, one), text, Breaks.OUT if one.required else Breaks.NOTHING))
        for one in added:
            text = "is new and required" if one.required else "is new and may be left out"
            found.append(Difference(_at(path, one), text, Breaks.IN if one.required else Breaks.NOTHING))
        for one in old:
            if (other := now.get(one.name)) is not None:
                found += _field(_at(path, one), one, other)
                pairs.append((_at(path, one), one.type, other.type, False))
        return found, pairs

    def _is_like(self, old: Field, new: Field) -> bool:
        """Whether one may be the other by a new name."""
        return written(old.type) == written(new.type) and old.unit == new.unit and old.required == new.required


def _opened(schema: Schema, type_: Type) -> tuple[Type, str, bool]:
    """What the type is behind other names for it, their unit, and whether null is a value."""
    unit, is_null = "", False
    while True:
        if isinstance(type_, Nullable):
            is_null, type_ = True, type_.inner
        found = schema.types.get(type_.name) if isinstance(type_, Ref) else None
        if not isinstance(found, AliasType):
            return type_, unit, is_null
        unit, type_ = unit or found.unit, found.type


def _at(path: str, one: Field) -> str:
    return f"{path}.{one.name}" if path else one.name


def _field(path: str, old: Field, new: Field) -> Iterator[Difference]:
    """What differs beside the type."""
    if old.unit != new.unit:
        yield _unit(path, old.unit, new.unit)
    if old.required and not new.required:
        yield Difference(path, "may be left out now", Breaks.OUT)
    elif new.required and not old.required:
        yield Difference(path, "is required now", Breaks.IN)
    elif not old.required and old.default != new.default:
        yield Difference(path, f"left out it means {_show(new.default)} now, not {_show(old.default)}")
    yield from _personal(path, old.personal, new.personal)
    if new.deprecated and not old.deprecated:
        yield Difference(path, f"is deprecated: {new.deprecated}")


def _unit(path: str, old: str, new: str) -> Difference:
    return Difference(path, f"in {new or 'no unit'} now, not in {old or 'no unit'}", Breaks.BOTH)


def _personal(path: str, old: bool, new: bool) -> list[Difference]:
    if new and not old:
        return [Difference(path, "is personal now: it does not leave the node", Breaks.OUT)]
    return [Difference(path, "is not personal any more: it leaves the node")] if old and not new else []


def _choices(path: str, old: EnumType, new: EnumType) -> Iterator[Difference]:
    before, now = [one.wire for one in old.choices], [one.wire for one in new.choices]
    for wire in now:
        if wire not in before:
            yield Difference(path, f"has a new value {wire}", Breaks.OUT)
    for wire in before:
        if wire not in now:
            yield Difference(path, f"has no value {wire} any more", Breaks.IN)


def _limits(path: str, old: Limits, new: Limits, what: str) -> Iterator[Difference]:
    for name, before, now in (
        ("least", (old.least, old.most), (new.least, new.most)),
        (what, (old.length_least, old.length_most), (new.length_least, new.length_most)),
    ):
        if before == now:
            continue
        text = f"{_range(now)} now, not {_range(before)}"
        breaks = Breaks.IN if _is_tighter(before, now) else Breaks.NOTHING
        breaks |= Breaks.OUT if _is_tighter(now, before) else Breaks.NOTHING
        yield Difference(path, text if name == "least" else f"{text} {name}", breaks)
    if old.pattern != new.pattern:
        if not new.pattern:
            yield Difference(path, f"need not match {old.pattern} any more", Breaks.OUT)
        elif not old.pattern:
            yield Difference(path, f"must match {new.pattern} now", Breaks.IN)
        else:
            yield Difference(path, f"must match {new.pattern} now, not {old.pattern}", Breaks.BOTH)


def _is_tighter(old: tuple[Any, Any], new: tuple[Any, Any]) -> bool:
    """Whether something within the old ends is not within the new ones."""
    least = new[0] is not None and (old[0] is None or old[0] < new[0])
    return least or (new[1] is not None and (old[1] is None or old[1] > new[1]))


def _range(ends: tuple[Any, Any]) -> str:
    least, most = ends
    return (
        "any"
        if least is None and most is None
        else f"{'' if least is None else least}..{'' if most is None else most}"
    )


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


# ---- where nothing has to be looked for ---------------------------------------------------------


def _touched(old: Schema, new: Schema) -> set[str]:
    """The names that are declared differently, or mention one that is, at any distance."""
    users: dict[str, list[str]] = {}
    for schema in (old, new):
        for name, type_ in schema.types.items():
            for other in mentioned(type_):
                users.setdefault(other, []).append(name)
    names = old.types.keys() | new.types.keys()
    left = [name for name in names if _content(old.types.get(name)) != _content(new.types.get(name))]
    found: set[str] = set()
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += users.get(name, ())
    return found


def _content(type_: NamedType | None) -> Any:
    """What of a declaration matters on the wire."""
    match type_:
        case RecordType():
            fields = [(f.name, f.type, f.required, f.default, f.unit, f.personal, f.deprecated) for f in type_.fields]
            return "record", fields, type_.personal
        case EnumType():
            return "enum", [one.wire for one in type_.choices]
        case AliasType():
            return "name", type_.type, type_.unit, type_.personal
        case OpaqueType():
            return "open", type_.personal
    return None
