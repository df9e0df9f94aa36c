"""Platform state: values by key in collections that a platform's schema declares. Pure.

A collection has a name of two words, such as `traffic.intersections`. Keys are texts and may hold dots, so a path
such as `traffic.intersections.IS-001.phase` means the longest key that is there; what is left of it are fields of the
value. Functions of a platform see state through `StateView`, at the node and at the coordinator alike.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.codec import NESTING_MAX, flaw_of
from schemas.fields import Owner, Rule
from schemas.shape import fields_of

KEY_CHARS_MAX = 200
VALUE_BYTES_MAX = 64 * 1024  # as JSON; a node may allow less
VALUE_LEVELS_MAX = NESTING_MAX - 4  # below a message, its list of rows, a row and its data

Check = Callable[[str, Any], str | None]
"""What is wrong with a value under a key; None where nothing is."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode


def _anything(key: str, value: Any) -> str | None:
    return None


class StateRefusedError(Exception):
    """A write, or a question, that cannot be. `code` is for programs.

    unknown_collection, wrong_owner, bad_key, bad_value, too_large, full.
    """

    def __init__(self, code: str, collection: str, key: str, text: str) -> None:
        super().__init__(f"{collection[:130]}{f' {key[:KEY_CHARS_MAX]!r}' if key else ''}: {text}")
        self.code = code
        self.collection = collection
        self.key = key


@dataclass(frozen=True, slots=True)
class Collection:
    """What a schema declares: `state: { intersections: Map[…] @owner(node) @merge(last_writer) }`."""

    platform: str
    name: str
    owner: Owner = Owner.NODE
    rule: Rule | None = None  # what holds where several wrote one key; None: last_writer
    check: Check = _anything
    personal: bool = False  # must not leave the node

    def __post_init__(self) -> None:
        for word in (self.platform, self.name):
            if not _NAME.fullmatch(word):
                raise ValueError(f"{word!r} cannot name a platform or a collection: letters, digits, _ and -")

    @property
    def path(self) -> str:
        return f"{self.platform}.{self.name}"


class Collections(Mapping[str, Collection]):
    """The declared collections by `platform.name`."""

    def __init__(self, collections: Iterable[Collection] = ()) -> None:
        """Raises ValueError where one is declared twice."""
        self._by_path: dict[str, Collection] = {}
        for one in collections:
            if one.path in self._by_path:
                raise ValueError(f"the collection {one.path} is declared twice")
            self._by_path[one.path] = one

    def __getitem__(self, path: str) -> Collection:
        return self._by_path[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_path)

    def __len__(self) -> int:
        return len(self._by_path)

    def find(self, path: str, key: str = "") -> Collection:
        """Raises StateRefusedError where it is not declared."""
        found = self._by_path.get(path)
        if found is None:
            known = ", ".join(self._by_path) or "there is none"
            raise StateRefusedError("unknown_collection", path, key, f"no platform here declares it ({known})")
        return found

    def writable(self, path: str, key: str, writer: Owner) -> Collection:
        """The collection, where `writer` may write under `key`. Raises StateRefusedError."""
        found = self.find(path, key)
        if found.owner not in (writer, Owner.SHARED):
            text = f"it belongs to the {found.owner}: the {writer} cannot write it"
            raise StateRefusedError("wrong_owner", path, key, text)
        if wrong := key_mistake(key):
            raise StateRefusedError("bad_key", path, key, wrong)
        return found

    def checked(self, path: str, key: str, value: Any, writer: Owner, *, bytes_max: int) -> tuple[Collection, str]:
        """The collection and the canonical text of a value that may be written. Raises StateRefusedError."""
        found = self.writable(path, key, writer)
        try:
            plain = fields_of(value)
        except RecursionError:
            raise StateRefusedError("bad_value", path, key, "the value is nested in itself, or too deep") from None
        if plain is None:
            raise StateRefusedError("bad_value", path, key, "null stands for a deleted key; delete it instead")
        if flaw := flaw_of(plain, VALUE_LEVELS_MAX):
            raise StateRefusedError("bad_value", path, key, f"the value {flaw}")
        if wrong := found.check(key, plain):
            raise StateRefusedError("bad_value", path, key, wrong)
        text = _canonical(plain)
        if (size := len(text.encode())) > bytes_max:
            text = f"the value has {size} bytes as JSON; at most {bytes_max} are allowed"
            raise StateRefusedError("too_large", path, key, text)
        return found, text


@dataclass(frozen=True, slots=True)
class Entry:
    """What holds under a key. `written_by`: a node, `coordinator`, or several of them where a rule joins values."""

    key: str
    value: Any
    time_utc_ms: int  # when it was last said
    age_s: float
    written_by: str


class StateView(Protocol):
    """State as a function of a platform sees it. A write has happened when the call returns, also for a crash.

    `put`, `delete` and all others raise StateRefusedError; StorageError where the disk refuses, and then nothing has
    changed. `collection` is `platform.name`.
    """

    async def put(self, collection: str, key: str, value: Any) -> None:
        """Writes a value: anything that JSON has but null, or a dataclass of that."""

    async def delete(self, collection: str, key: str) -> bool:
        """Takes a key away. False: there was nothing."""

    async def get(self, collection: str, key: str) -> Entry | None:
        """What holds under a key, None for nothing."""

    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        """The keys under which something holds and that begin with `prefix`, in order."""

    async def entries(self, collection: str, prefix: str = "") -> list[Entry]:
        """The same with what holds there."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: two values are alike if this is."""
    return _canonical(value)


def key_mistake(key: Any) -> str | None:
    """What is wrong with a key, or None."""
    if not isinstance(key, str) or not 0 < len(key) <= KEY_CHARS_MAX or not key.isprintable():
        return f"a key is a text of 1 to {KEY_CHARS_MAX} printable characters"
    return None


# ---- paths -------------------------------------------------------------------------------------------


def split_path(path: str) -> tuple[str, list[str]]:
    """`platform.collection` and the words after it. Raises ValueError."""
    words = path.split(".")
    if len(words) < 2 or not (_NAME.fullmatch(words[0]) and _NAME.fullmatch(words[1])):
        raise ValueError(f"{path[:200]!r} is not like platform.collection.key")
    return ".".join(words[:2]), words[2:]


def possible_keys(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each key that the words may begin with, and the fields that are left then; the longest key first.

    >>> possible_keys(["IS-001", "phase"])
    [('IS-001.phase', []), ('IS-001', ['phase'])]
    """
    return [(".".join(words[:n]), list(words[n:])) for n in range(len(words), 0, -1)]


def descend(value: Any, words: Sequence[str]) -> Any:
    """The field of a value that the words name; of names with dots in them the longest. Raises LookupError."""
    if not words:
        return value
    if isinstance(value, Mapping):
        for name, rest in possible_keys(words):
            if name in value:
                return descend(value[name], rest)
        known = ", ".join(map(str, value)) or "it is empty"
        raise LookupError(f"there is no field {words[0]!r} ({known[:300]})")
    if isinstance(value, list) and re.fullmatch(r"\d{1,9}", words[0]):
        if int(words[0]) < len(value):
            return descend(value[int(words[0])], words[1:])
        raise LookupError(f"there are {len(value)} items, counted from 0; none is number {words[0]}")
    raise LookupError(f"a {type(value).__name__} has no field {words[0]!r}")
