"""What a `.edge` file means: names resolved, annotations read, defaults turned into values. All of it immutable.

A type is a tree of `Scalar`, `ListOf`, `MapOf`, `Nullable` and `Ref`; a `Ref` names an entry of `Schema.types`, so
that records may refer to themselves.

    wire: String text, Integer whole number of 64 bits, Float number, Boolean, Bytes base64 text, Json anything,
          Duration seconds or a text such as `5m`, Timestamp UTC milliseconds or a text of RFC 3339,
          enum its text, record and Map an object, array a list
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.fields import Owner, Rule
from schemas.language.tree import Place


class Kind(StrEnum):
    """The built-in types; the value is the name in the language."""

    STRING = "String"
    INTEGER = "Integer"
    FLOAT = "Float"
    BOOLEAN = "Boolean"
    BYTES = "Bytes"
    DURATION = "Duration"  # seconds as a float once it is read
    TIMESTAMP = "Timestamp"  # UTC milliseconds once it is read
    JSON = "Json"


class Placement(StrEnum):
    """Who hosts a function, or says an event."""

    EDGE = "edge"
    CLOUD = "cloud"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a value must keep to; both ends belong to it. Lengths are characters, items or entries."""

    least: float | None = None
    most: float | None = None
    length_least: int | None = None
    length_most: int | None = None
    pattern: str = ""  # a whole text must match it, in the syntax that Python and ECMA 262 share

    def within(self, other: "Limits") -> "Limits":
        """Both at once; of two patterns the narrower declaration's, which is ours."""
        return Limits(
            _greater(self.least, other.least),
            _smaller(self.most, other.most),
            _greater(self.length_least, other.length_least),
            _smaller(self.length_most, other.length_most),
            self.pattern or other.pattern,
        )


def _greater(one: Any, other: Any) -> Any:
    return max((value for value in (one, other) if value is not None), default=None)


def _smaller(one: Any, other: Any) -> Any:
    return min((value for value in (one, other) if value is not None), default=None)


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Scalar:
    kind: Kind
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class ListOf:
    item: "Type"
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class MapOf:
    """`key` is a String, an Integer (as text on the wire), an enum, or another name for one."""

    key: "Type"
    value: "Type"
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class Nullable:
    """`T?`: null is a value too, and a field of it may be left out."""

    inner: "Type"


@dataclass(frozen=True, slots=True)
class Ref:
    """The entry of `Schema.types` with this name."""

    name: str


Type = Scalar | ListOf | MapOf | Nullable | Ref


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record or an event, or a parameter. `default` is what JSON has; it counts if not `required`."""

    name: str
    type: Type
    required: bool = True
    default: Any = None
    unit: str = ""
    personal: bool = False
    deprecated: str = ""
    doc: str = ""
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class RecordType:
    name: str
    fields: tuple[Field, ...]
    personal: bool = False
    doc: str = ""
    module: str = ""  # the file that declares it
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class EnumChoice:
    name: str
    wire: str
    doc: str = ""


@dataclass(frozen=True, slots=True)
class EnumType:
    name: str
    choices: tuple[EnumChoice, ...]
    doc: str = ""
    module: str = ""
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class AliasType:
    """Another name for a type, with limits of its own perhaps."""

    name: str
    type: Type
    unit: str = ""
    personal: bool = False
    doc: str = ""
    module: str = ""
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class OpaqueType:
    """A name without a meaning here: any value of JSON."""

    name: str
    doc: str = ""
    module: str = ""
    place: Place = field(default=Place(), compare=False)
    personal: bool = False


NamedType = RecordType | EnumType | AliasType | OpaqueType


@dataclass(frozen=True, slots=True)
class FunctionType:
    """`timeout_s`: longest run; `parallel`: calls at a time, 0: no limit of its own."""

    name: str
    parameters: tuple[Field, ...] = ()
    returns: Type | None = None
    placement: Placement = Placement.ANY
    timeout_s: float = 30.0
    parallel: int = 0
    personal: bool = False  # its result must not leave the node
    deprecated: str = ""
    doc: str = ""
    module: str = ""
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class EventType:
    """`sources` say who tells it: functions or workloads of the platform, `node`, `coordinator`."""

    name: str
    fields: tuple[Field, ...] = ()
    sources: tuple[str, ...] = ()
    placement: Placement = Placement.EDGE
    qos: int = 1
    keep_s: float | None = None  # how long the coordinator need keep it
    personal: bool = False
    deprecated: str = ""
    doc: str = ""
    module: str = ""
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class CollectionType:
    """One map of the platform's state: `name[key] = value`."""

    name: str
    key: Type
    value: Type
    owner: Owner = Owner.NODE
    rule: Rule = Rule.LAST_WRITER
    personal: bool = False
    doc: str = ""
    module: str = ""
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class Schema:
    """A platform as it is declared. `name` is the file's (`traffic`), `platform` the block's (`SmartTraffic_Edge`).

    `types` has everything that is reachable, imported names included; `functions`, `events` and `state` are those of
    this file's own block. A file without a block, of types alone, has an empty `platform`.
    """

    name: str
    platform: str = ""
    title: str = ""
    version: str = ""
    node_types: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # workloads, analytics_types, data_sources
    functions: Mapping[str, FunctionType] = field(default_factory=dict)
    events: Mapping[str, EventType] = field(default_factory=dict)
    state: Mapping[str, CollectionType] = field(default_factory=dict)
    types: Mapping[str, NamedType] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    doc: str = ""

    def named(self, type_: Type) -> NamedType | None:
        """The declaration behind a reference, other names for it followed; None for what has no name."""
        seen = 0
        while isinstance(type_, Ref) and seen <= len(self.types):
            found = self.types[type_.name]
            if not isinstance(found, AliasType):
                return found
            type_, seen = found.type, seen + 1
        return None

    def bare(self, type_: Type) -> Type:
        """The type with other names for it replaced: never a `Ref` to an alias."""
        while isinstance(type_, Ref) and isinstance(found := self.types[type_.name], AliasType):
            type_ = found.type
        return type_


def references(type_: Type) -> Iterator[str]:
    """The names that a type mentions."""
    match type_:
        case Ref(name):
            yield name
        case ListOf(item):
            yield from references(item)
        case MapOf(key, value):
            yield from references(key)
            yield from references(value)
        case Nullable(inner):
            yield from references(inner)


def written(type_: Type) -> str:
    """A type as the language writes it, without limits."""
    match type_:
        case Scalar(kind):
            return kind.value
        case ListOf(item):
            return f"{written(item)}[]"
        case MapOf(key, value):
            return f"Map[{written(key)}, {written(value)}]"
        case Nullable(inner):
            return f"{written(inner)}?"
        case Ref(name):
            return name
