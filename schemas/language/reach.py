"""What types lead to: which of them end, how deep they nest at least, and which are reached. No walk here recurses
along declarations: a file may have thousands, each of which needs the next."""

from collections.abc import Iterable, Iterator, Mapping

from schemas.language.schema import (
    AliasType,
    ListOf,
    MapOf,
    NamedType,
    RecordType,
    Ref,
    Type,
    references,
)


def least_depths(types: Mapping[str, NamedType]) -> dict[str, int]:
    """How many levels the flattest value of each type nests; without those that have no end."""
    needs = {name: _needs(type_) for name, type_ in types.items()}
    waiting = {name: sum(1 for other in needed if other in types) for name, needed in needs.items()}
    users: dict[str, list[str]] = {}
    for name, needed in needs.items():
        for other in needed:
            users.setdefault(other, []).append(name)
    ready = [name for name, count in waiting.items() if count == 0]
    found: dict[str, int] = {}
    while ready:
        name = ready.pop()
        least = 1 if isinstance(types[name], RecordType) else _own(types[name])
        found[name] = max([least, *(levels + found.get(other, 0) for other, levels in needs[name].items())])
        for user in users.get(name, ()):
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    return found


def endless(types: Mapping[str, NamedType], depths: Mapping[str, int]) -> Iterator[list[str]]:
    """The circles of types that contain themselves without an end, each once."""
    done: set[str] = set()
    for start in types:
        way: dict[str, None] = {}
        name = start
        while name not in depths and name not in done and name not in way:
            way[name] = None
            name = next(other for other in _needs(types[name]) if other in types and other not in depths)
        if name in way:
            names = list(way)
            yield names[names.index(name) :]
        done.update(way)


def _needs(type_: NamedType) -> dict[str, int]:
    """The names without a value of which the type has none, and how many levels above them it adds."""
    pairs: list[tuple[str, int]] = []
    if isinstance(type_, RecordType):
        pairs = [pair for one in type_.fields if one.required for pair in _needed(one.type, 1)]
    elif isinstance(type_, AliasType):
        pairs = list(_needed(type_.type, 0))
    found: dict[str, int] = {}
    for name, levels in pairs:
        found[name] = max(levels, found.get(name, 0))
    return found


def _needed(type_: Type, levels: int) -> Iterator[tuple[str, int]]:
    """A type as written nests no deeper than NESTING_MAX, so this may recurse."""
    match type_:
        case Ref(name):
            yield name, levels
        case ListOf(item, limits) if (limits.length_least or 0) > 0:
            yield from _needed(item, levels + 1)
        case MapOf(_, value, limits) if (limits.length_least or 0) > 0:
            yield from _needed(value, levels + 1)


def _own(type_: NamedType) -> int:
    """Levels of a name for something that needs no other name."""
    return 1 if isinstance(type_, AliasType) and isinstance(type_.type, ListOf | MapOf) else 0


def reached(types: Mapping[str, NamedType], starts: Iterable[Type]) -> set[str]:
    """The names that a message of these types can hold, directly or by others."""
    left = [name for type_ in starts for name in references(type_)]
    found: set[str] = set()
    while left:
        name = left.pop()
        if name in found or name not in types:
            continue
        found.add(name)
        left += mentioned(types[name])
    return found


def mentioned(type_: NamedType) -> list[str]:
    """The names that a declaration mentions."""
    match type_:
        case RecordType(fields=fields):
            return [name for one in fields for name in references(one.type)]
        case AliasType(type=inner):
            return list(references(inner))
    return []
