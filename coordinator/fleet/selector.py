"""Selectors: which nodes are meant, yes or no and why. `selector_text` reads them. Pure.

    site = plant-7, line in (3, 4), not canary exists
    resources.memory_mb >= 4096 and hardware.accelerators has edgetpu
    state = online or near(48.14, 11.58, 5 km)

`,` and `and` bind more closely than `or`; `not` and parentheses as everywhere. A comparison with a fact that a node
does not have is false, `!=` and `not in` included where nothing is there to differ: say `exists` to ask for it.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from coordinator.fleet.facts import Fact, Facts, fact_name

EARTH_RADIUS_M = 6_371_008.8  # mean, IUGG

ORDERED: dict[str, Callable[[object, object], bool]] = {
    "<": lambda a, b: a < b,  # type: ignore[operator]
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
}
KEYWORDS = frozenset({"and", "or", "not", "in", "has", "exists", "near", "all"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why one part of a selector holds for a node or not; `inner` are its own parts."""

    text: str
    holds: bool
    found: str = ""  # what the node has
    inner: tuple["Verdict", ...] = ()


@dataclass(frozen=True, slots=True)
class All:
    """Every node; also the empty selector."""

    def __str__(self) -> str:
        return "all"


@dataclass(frozen=True, slots=True)
class Compare:
    """`key op value`: =, !=, <, <=, >, >=. Numbers as numbers, versions part by part, all else as text."""

    key: str
    op: str
    value: str

    def __str__(self) -> str:
        return f"{self.key} {self.op} {_quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class In:
    """`key in (a, b)`, `key not in (a, b)`; of a list: one of its items."""

    key: str
    values: tuple[str, ...]
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.key} {'not ' if self.negated else ''}in ({', '.join(map(_quoted, self.values))})"


@dataclass(frozen=True, slots=True)
class Exists:
    """`key exists`: the node has it, and it is not empty."""

    key: str

    def __str__(self) -> str:
        return f"{self.key} exists"


@dataclass(frozen=True, slots=True)
class Has:
    """`key has value`: the value is in the list."""

    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key} has {_quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class Near:
    """`near(lat, lon, distance)`, along the great circle; degrees to 9 decimals, metres to 3."""

    lat: float
    lon: float
    metres: float

    def __str__(self) -> str:
        return f"near({_decimal(self.lat)}, {_decimal(self.lon)}, {_decimal(self.metres)} m)"


@dataclass(frozen=True, slots=True)
class Not:
    inner: "Node"

    def __str__(self) -> str:
        return f"not ({self.inner})"


@dataclass(frozen=True, slots=True)
class Both:
    """All of them (`and`), or any of them (`or`)."""

    parts: tuple["Node", ...]
    any: bool = False

    def __str__(self) -> str:
        return (" or " if self.any else " and ").join(
            f"({part})" if isinstance(part, Both) else str(part) for part in self.parts
        )


Node = All | Compare | In | Exists | Has | Near | Not | Both


@dataclass(frozen=True, slots=True)
class Selector:
    """`text` as it was given; `keys` are the facts that it asks for: other facts may change as they like."""

    text: str
    tree: Node
    keys: frozenset[str] = field(compare=False)

    @classmethod
    def of(cls, text: str, tree: Node) -> "Selector":
        return cls(text, tree, frozenset(_keys(tree)))

    def matches(self, facts: Facts) -> bool:
        return _holds(self.tree, facts)

    def explain(self, facts: Facts) -> Verdict:
        """The whole tree with what was found for each part."""
        return _verdict(self.tree, facts)


# ---- meaning ------------------------------------------------------------------------------------


def _holds(node: Node, facts: Facts) -> bool:
    match node:
        case All():
            return True
        case Compare(key, op, value):
            fact = facts.get(fact_name(key))
            return fact is not None and _compare(fact, op, value)
        case In(key, values, negated):
            fact = facts.get(fact_name(key))
            return fact is not None and any(_compare(fact, "=", value) for value in values) is not negated
        case Exists(key):
            return facts.get(fact_name(key)) not in (None, "", ())
        case Has(key, value):
            fact = facts.get(fact_name(key))
            return value in fact if isinstance(fact, tuple) else fact is not None and _compare(fact, "=", value)
        case Near():
            distance = _distance_to(node, facts)
            return distance is not None and distance <= node.metres
        case Not(inner):
            return not _holds(inner, facts)
        case Both(parts, any_of_them):
            return (any if any_of_them else all)(_holds(part, facts) for part in parts)


def _compare(fact: Fact, op: str, value: str) -> bool:
    if isinstance(fact, tuple):
        found = [_compare(item, "=", value) for item in fact]
        return any(found) if op == "=" else not any(found) if op == "!=" else False
    if isinstance(fact, float):
        number = number_of(value)
        if number is None:
            return op == "!="
        return fact == number if op == "=" else fact != number if op == "!=" else ORDERED[op](fact, number)
    if op in ("=", "!="):
        return (fact == value) is (op == "=")
    return ORDERED[op](_version(fact), _version(value))


def _version(text: str) -> tuple[tuple[int, int, str], ...]:
    """Part by part: numbers as numbers, and a release after its pre-releases (1.10 > 1.9, 1.2.0 > 1.2.0-rc1)."""
    release, dash, early = text.partition("-")
    parts = [_part(part) for part in release.lstrip("v").split(".")]
    while parts and parts[-1] == (1, 0, ""):
        parts.pop()
    return (*parts, (0, 0, early) if dash else (0, 1, ""))


def _part(text: str) -> tuple[int, int, str]:
    return (1, int(text), "") if text.isdecimal() and len(text) < 19 else (1, -1, text)


def _distance_to(near: Near, facts: Facts) -> float | None:
    lat, lon = facts.get("lat"), facts.get("lon")
    if not isinstance(lat, float | int) or not isinstance(lon, float | int):
        return None
    return distance_m(near.lat, near.lon, float(lat), float(lon))


def distance_m(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Metres along the great circle between two places in degrees, by the haversine formula (Sinnott 1984)."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_lat, half_lon = (phi2 - phi1) / 2, math.radians(lon2 - lon1) / 2
    h = math.sin(half_lat) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(h)))


def _verdict(node: Node, facts: Facts) -> Verdict:
    holds = _holds(node, facts)
    match node:
        case Both(parts):
            return Verdict(
                "any of" if node.any else "all of", holds, "", tuple(_verdict(part, facts) for part in parts)
            )
        case Not(inner):
            return Verdict("not", holds, "", (_verdict(inner, facts),))
        case Near():
            distance = _distance_to(node, facts)
            return Verdict(str(node), holds, "no location" if distance is None else f"{distance:.0f} m away")
        case All():
            return Verdict("all", True)
    return Verdict(str(node), holds, _shown(facts.get(fact_name(node.key))))


def _shown(fact: Fact | None) -> str:
    match fact:
        case None:
            return "not there"
        case tuple():
            return ", ".join(fact) or "none"
        case float():
            return f"{fact:g}"
    return fact


def _keys(node: Node) -> Iterator[str]:
    match node:
        case Both(parts):
            for part in parts:
                yield from _keys(part)
        case Not(inner):
            yield from _keys(inner)
        case Near():
            yield from ("lat", "lon")
        case All():
            return
        case _:
            yield fact_name(node.key)


def number_of(text: str) -> float | None:
    """A finite decimal number, or None."""
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z0-9_.:/+*-]+", value) and value not in KEYWORDS else f'"{value}"'


def _decimal(value: float) -> str:
    text = f"{value:.9f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
