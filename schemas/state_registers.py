"""Who wrote what under a key of platform state, and what holds. Pure, and the same in whatever order it is learnt.

Each writer, a node or the coordinator, has one register of a key: its last write, by its own stamp. So what is known
of a key is a set of registers, and joining two such sets is taking the later register of each writer. `holds` says
what comes of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import RemoteWireError
from schemas.fields import Rule
from schemas.hlc import Stamp
from schemas.state import canonical, key_mistake, split_path
from schemas.topics import COORDINATOR

STATE_CHANGED = "StateChanged"  # the type of the row


@dataclass(frozen=True, slots=True)
class StateChange:
    """One write as it travels. A value of None deletes the key."""

    collection: str
    key: str
    value: Any
    at: Stamp

    def data(self) -> dict[str, Any]:
        """Of the row."""
        return {"collection": self.collection, "key": self.key, "value": self.value, "at": str(self.at)}


def read_change(data: Mapping[str, Any], node: str) -> StateChange:
    """What the data of a row of `node` says. Raises RemoteWireError."""
    collection, key, at = data.get("collection"), data.get("key"), data.get("at")
    if not isinstance(collection, str) or not isinstance(at, str) or "value" not in data:
        raise RemoteWireError(f"{STATE_CHANGED}: needs collection, key, value and at")
    try:
        _, words = split_path(collection)
        stamp = Stamp.parse(at)
    except ValueError as error:
        raise RemoteWireError(f"{STATE_CHANGED}: {error}") from error
    if words:
        raise RemoteWireError(f"{STATE_CHANGED}: {collection[:200]!r} is no platform.collection")
    if not isinstance(key, str) or (wrong := key_mistake(key)):
        raise RemoteWireError(f"{STATE_CHANGED}: {wrong if isinstance(key, str) else 'key must be a text'}")
    if stamp.node != node:
        raise RemoteWireError(f"{STATE_CHANGED}: the stamp {at} is not one of {node}")
    return StateChange(collection, key, data["value"], stamp)


@dataclass(frozen=True, slots=True)
class Register:
    """One writer's last write to a key. `over`: the other writers' stamps that it had seen."""

    writer: str
    value: Any  # None: deleted
    at: Stamp
    time_utc_ms: int = 0  # by the writer's clock
    received_utc_ms: int = 0
    over: Mapping[str, Stamp] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Held:
    """What holds under a key, and whose writes it is made of; `register` is the latest of them."""

    value: Any
    writers: tuple[str, ...]
    register: Register


def later(a: Register, b: Register) -> Register:
    """Of two writes of one writer. Two of one stamp come only from a copied file: everybody takes the same one."""
    return max(a, b, key=_order)


def holds(registers: Iterable[Register], rule: Rule | None) -> Held | None:
    """What holds now; None where nobody says anything. A writer that deleted has no say, but under last_writer."""
    written = sorted(registers, key=_order)
    said = [register for register in written if register.value is not None]
    if not said:
        return None
    match rule:
        case Rule.EDGE_WINS:
            return _one(_preferred(said, [one for one in said if one.writer != COORDINATOR]))
        case Rule.CLOUD_WINS:
            return _one(_preferred(said, [one for one in said if one.writer == COORDINATOR]))
        case Rule.MAX:
            return _one(max(said, key=lambda one: (_rank(one.value), _order(one))))
        case Rule.UNION:
            return _union(said)
        case _:
            return _one(written[-1]) if written[-1].value is not None else None


def conflicting(registers: Sequence[Register], rule: Rule | None) -> bool:
    """True where writers say different things, and none of them had seen the others and written the last word."""
    standing = [one for one in registers if one.value is not None]
    if rule in (None, Rule.LAST_WRITER):
        standing = [one for one in standing if not any(_had_seen(other, one) for other in registers)]
    return len({canonical(one.value) for one in standing}) > 1


def _had_seen(register: Register, other: Register) -> bool:
    seen = register.over.get(other.writer)
    return seen is not None and seen >= other.at


def _one(register: Register) -> Held:
    return Held(register.value, (register.writer,), register)


def _preferred(said: Sequence[Register], better: Sequence[Register]) -> Register:
    return (better or said)[-1]


def _union(said: Sequence[Register]) -> Held:
    """Lists: what any of them holds. Objects: every field, the later one where two have it. Others: the last one."""
    writers, last = tuple(sorted(one.writer for one in said)), said[-1]
    if all(isinstance(one.value, list) for one in said):
        items = {canonical(item): item for one in said for item in one.value}
        return Held([items[text] for text in sorted(items)], writers, last)
    if all(isinstance(one.value, dict) for one in said):
        return Held({name: item for one in said for name, item in one.value.items()}, writers, last)
    return _one(last)


def _rank(value: Any) -> tuple[int, float, str]:
    """Any two values can be compared: texts are more than numbers, and numbers more than all else."""
    if isinstance(value, str):
        return 2, 0, value
    if isinstance(value, int | float):
        return 1, value, ""
    return 0, 0, canonical(value)


def _order(register: Register) -> tuple[Stamp, str]:
    return register.at, canonical(register.value)
