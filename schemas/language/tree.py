"""A `.edge` file as it is written: declarations with their places. What the names mean is `schema.py`'s business.

Lines and columns count from 1, columns in characters.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands: from (line, column) up to, and without, (end_line, end_column)."""

    line: int = 1
    column: int = 1
    end_line: int = 1
    end_column: int = 1


@dataclass(frozen=True, slots=True)
class Word:
    """A bare name as a value: a member of an enum, `true`, `null`, `coordinator`."""

    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time as a value. `written` is `5m`."""

    seconds: float
    written: str


@dataclass(frozen=True, slots=True)
class Range:
    """`0..100`, `0..` or `..100`; both ends belong to it."""

    least: float | None
    most: float | None


@dataclass(frozen=True, slots=True)
class Empty:
    """`{}`: an empty map."""


Value = str | int | float | Word | Span | Range | Empty | tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """`@range(0..100)`, after what it marks."""

    name: str
    arguments: tuple[Value, ...] = ()
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class TypeRef:
    """A type as written: `String`, `Map[Node_ID, Edge_Node]`, `Zone[]`, `Float?`.

    An array is a reference to `[]` with the item as its one argument.
    """

    name: str
    arguments: tuple["TypeRef", ...] = ()
    optional: bool = False
    place: Place = Place()

    def __str__(self) -> str:
        if self.name == ARRAY:
            text = f"{self.arguments[0]}[]"
        else:
            text = self.name + (f"[{', '.join(map(str, self.arguments))}]" if self.arguments else "")
        return text + ("?" if self.optional else "")


ARRAY = "[]"


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a record, a parameter, or a collection of the state. `body` are the fields of its map's values."""

    name: str
    type: TypeRef
    default: Value | None = None  # None: there is none; the value null is Word("null")
    annotations: tuple[Annotation, ...] = ()
    body: tuple["Member", ...] | None = None
    doc: str = ""
    place: Place = Place()  # of the name
    end: Place = Place()  # of the body's last bracket


@dataclass(frozen=True, slots=True)
class Record:
    """`record Name { … }`"""

    name: str
    members: tuple[Member, ...]
    annotations: tuple[Annotation, ...] = ()
    doc: str = ""
    place: Place = Place()
    end: Place = Place()  # of the last bracket


@dataclass(frozen=True, slots=True)
class EnumValue:
    """One value; `written` is what stands on the wire, empty: the name itself."""

    name: str
    written: str = ""
    annotations: tuple[Annotation, ...] = ()
    doc: str = ""
    place: Place = Place()

    @property
    def wire(self) -> str:
        return self.written or self.name


@dataclass(frozen=True, slots=True)
class Enum:
    """`enum Name { a, b = "B" }`"""

    name: str
    values: tuple[EnumValue, ...]
    annotations: tuple[Annotation, ...] = ()
    doc: str = ""
    place: Place = Place()
    end: Place = Place()  # of the last bracket


@dataclass(frozen=True, slots=True)
class Alias:
    """`type Name = String @length(1..63)`; without a type the name is opaque: anything goes."""

    name: str
    type: TypeRef | None = None
    annotations: tuple[Annotation, ...] = ()
    doc: str = ""
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Entry:
    """An item of a platform's list: a bare word, or a function or event with a signature."""

    name: str
    parameters: tuple[Member, ...] | None = None  # None: no parentheses
    returns: TypeRef | None = None
    annotations: tuple[Annotation, ...] = ()
    doc: str = ""
    place: Place = Place()
    end: Place = Place()  # of the signature's last character


@dataclass(frozen=True, slots=True)
class Section:
    """`name: …` of a platform: a text, a list of entries, or members."""

    name: str
    value: "str | tuple[Entry, ...] | tuple[Member, ...]"
    doc: str = ""
    place: Place = Place()
    end: Place = Place()  # of the last bracket


@dataclass(frozen=True, slots=True)
class Platform:
    """`edge_computing Name { … }`"""

    name: str
    sections: tuple[Section, ...]
    annotations: tuple[Annotation, ...] = ()
    doc: str = ""
    place: Place = Place()
    end: Place = Place()  # of the last bracket


@dataclass(frozen=True, slots=True)
class Import:
    """`import core`, or `import "types.edge"`, a path from the folder of this file."""

    target: str
    is_path: bool = False
    doc: str = ""
    place: Place = Place()


Declaration = Record | Enum | Alias | Platform | Import


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment with its marks, as written. `own_line`: nothing stands before it on its line."""

    text: str
    own_line: bool
    place: Place = Place()

    @property
    def is_doc(self) -> bool:
        return self.text.startswith("///") and not self.text.startswith("////")


@dataclass(frozen=True, slots=True)
class File:
    """One file. `name` is for messages; `comments` are all of them in order, documentation included.

    `documented` has the comments that document something by the place of its name.
    """

    name: str
    declarations: tuple[Declaration, ...]
    comments: tuple[Comment, ...] = ()
    text: str = field(default="", repr=False, compare=False)
    documented: Mapping[Place, tuple[Comment, ...]] = field(default_factory=dict, repr=False, compare=False)

    def of(self, kind: type) -> Iterator[Declaration]:
        return (one for one in self.declarations if isinstance(one, kind))

    @property
    def platforms(self) -> list[Platform]:
        return [one for one in self.declarations if isinstance(one, Platform)]

    @property
    def imports(self) -> list[Import]:
        return [one for one in self.declarations if isinstance(one, Import)]
