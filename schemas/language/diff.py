"""Whether two versions of a schema can be used at once: per message, what has changed, and whom it breaks.

    call      old callers still call            the new function must take what the old one took
    result    old callers still read            the new function must answer what they know
    event     old readers still listen          the new event must be what they know
    state     values are kept, and read by all  each must read what the other writes

Arguments are the one thing of which a reader takes nothing that it does not know.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from schemas.fields import Owner
from schemas.language.difference import Breaks, Comparison, Difference
from schemas.language.schema import CollectionType, EventType, FunctionType, Placement, Schema

ALIKE_MAX = 20  # new ones that are looked at where one is gone
_HOSTS = {
    Placement.EDGE: frozenset({"nodes"}),
    Placement.CLOUD: frozenset({"the coordinator"}),
    Placement.ANY: frozenset({"nodes", "the coordinator"}),
}
_CALL = {Breaks.IN: "what old callers send can be refused"}
_RESULT = {Breaks.OUT: "old callers can get what they do not know"}
_EVENT = {Breaks.OUT: "old readers can get what they do not know"}
_STATE = {Breaks.IN: "values that are kept can be refused", Breaks.OUT: "old readers can get what they do not know"}


@dataclass(frozen=True, slots=True)
class Change:
    """`message` is what is sent: `call of countThings`, `event ThingSeen`; `path` is where in it."""

    message: str
    path: str
    reason: str
    is_breaking: bool = False

    def __str__(self) -> str:
        where = f": {self.path}" if self.path else ""
        return f"{'breaking' if self.is_breaking else 'compatible'}: {self.message}{where}: {self.reason}"


def diff(old: Schema, new: Schema) -> list[Change]:
    """Every change that is seen on the wire, those that break something first. Documentation is none."""
    comparison = Comparison(old, new)
    found = [
        *_platform(old, new),
        *_functions(comparison, old.functions, new.functions),
        *_events(comparison, old.events, new.events),
        *_state(comparison, old.state, new.state),
    ]
    return sorted(found, key=lambda change: not change.is_breaking)


def is_compatible(changes: Iterable[Change]) -> bool:
    return not any(change.is_breaking for change in changes)


def _told(message: str, differences: Iterable[Difference], whom: Mapping[Breaks, str]) -> Iterator[Change]:
    """Differences as changes of a message, in which only some ways to break matter."""
    for one in differences:
        hurt = [text for way, text in whom.items() if way in one.breaks]
        yield Change(message, one.path, "; ".join([one.text, *hurt]), bool(hurt))


# ---- the platform -------------------------------------------------------------------------------


def _platform(old: Schema, new: Schema) -> Iterator[Change]:
    if old.platform != new.platform:
        yield Change("platform", "", f"is named {new.platform or 'nothing'} now, not {old.platform or 'nothing'}")
    if old.version != new.version:
        yield Change("platform", "", f"has version {new.version or 'none'} now, not {old.version or 'none'}")
    lists = {"edge_node_types": (old.node_types, new.node_types)}
    for group in dict.fromkeys((*old.groups, *new.groups)):
        lists[group] = (old.groups.get(group, ()), new.groups.get(group, ()))
    for name, (before, now) in lists.items():
        for word in before:
            if word not in now:
                yield Change(name, word, "is gone; what names it is refused", True)
        for word in now:
            if word not in before:
                yield Change(name, word, "is new")


# ---- functions ----------------------------------------------------------------------------------


def _functions(
    comparison: Comparison, old: Mapping[str, FunctionType], new: Mapping[str, FunctionType]
) -> Iterator[Change]:
    added = [one for name, one in new.items() if name not in old]
    for name, one in old.items():
        other = new.get(name)
        if other is None:
            alike = [more.name for more in added[:ALIKE_MAX] if _is_like_function(comparison, one, more)]
            yield Change(f"function {name}", "", f"is gone{_renamed(alike)}; its callers are refused", True)
        else:
            yield from _function(comparison, one, other)
    for one in added:
        yield Change(f"function {one.name}", "", "is new")


def _function(comparison: Comparison, old: FunctionType, new: FunctionType) -> Iterator[Change]:
    message = f"function {old.name}"
    lost = _HOSTS[old.placement] - _HOSTS[new.placement]
    if old.placement is not new.placement:
        text = f"is @{new.placement} now, not @{old.placement}"
        hurt = f"; {' and '.join(sorted(lost))} cannot be called any more" if lost else ""
        yield Change(message, "", text + hurt, bool(lost))
    call = f"call of {old.name}"
    names = {one.name for one in new.parameters}
    for one in comparison.fields(old.parameters, new.parameters):
        if one.path in {gone.name for gone in old.parameters} - names:
            yield Change(call, one.path, f"{one.text}; callers that still give it are refused", True)
        else:
            yield from _told(call, [one], _CALL)
    result = f"result of {old.name}"
    if old.returns is None and new.returns is not None:
        yield Change(result, "", "is new")
    elif old.returns is not None and new.returns is None:
        yield Change(result, "", "is gone; callers wait for it", True)
    elif old.returns is not None and new.returns is not None:
        yield from _told(result, comparison.types(old.returns, new.returns), _RESULT)
    if new.personal and not old.personal:
        yield Change(result, "", "is personal now: it does not leave the node", True)
    if old.personal and not new.personal:
        yield Change(result, "", "is not personal any more: it leaves the node")
    if old.timeout_s != new.timeout_s:
        yield Change(message, "", f"may take {new.timeout_s:g} s now, not {old.timeout_s:g} s")
    if old.parallel != new.parallel:
        yield Change(
            message, "", f"{new.parallel or 'any number of'} calls at a time now, not {old.parallel or 'any'}"
        )
    if new.deprecated and not old.deprecated:
        yield Change(message, "", f"is deprecated: {new.deprecated}")


def _is_like_function(comparison: Comparison, old: FunctionType, new: FunctionType) -> bool:
    same_result = old.returns is None and new.returns is None
    if old.returns is not None and new.returns is not None:
        same_result = comparison.same(old.returns, new.returns)
    return bool(old.parameters) and same_result and not comparison.fields(old.parameters, new.parameters)


# ---- events -------------------------------------------------------------------------------------


def _events(comparison: Comparison, old: Mapping[str, EventType], new: Mapping[str, EventType]) -> Iterator[Change]:
    added = [one for name, one in new.items() if name not in old]
    for name, one in old.items():
        other = new.get(name)
        if other is None:
            alike = [
                more.name
                for more in added[:ALIKE_MAX]
                if one.fields and not comparison.fields(one.fields, more.fields)
            ]
            yield Change(f"event {name}", "", f"is gone{_renamed(alike)}; its readers wait for it", True)
        else:
            yield from _event(comparison, one, other)
    for one in added:
        yield Change(f"event {one.name}", "", "is new")


def _event(comparison: Comparison, old: EventType, new: EventType) -> Iterator[Change]:
    message = f"event {old.name}"
    lost = _HOSTS[old.placement] - _HOSTS[new.placement]
    if lost:
        yield Change(message, "", f"{' and '.join(sorted(lost))} tell it no more: its topic is another", True)
    elif old.sources != new.sources:
        text = f"is told by {', '.join(new.sources) or 'anybody'} now, not by {', '.join(old.sources) or 'anybody'}"
        yield Change(message, "", text)
    yield from _told(message, comparison.fields(old.fields, new.fields), _EVENT)
    if new.qos < old.qos:
        yield Change(message, "", f"has QoS {new.qos} now, not {old.qos}; it can be lost on the way", True)
    elif new.qos > old.qos:
        yield Change(message, "", f"has QoS {new.qos} now, not {old.qos}")
    if old.keep_s != new.keep_s:
        yield Change(message, "", f"is kept for {_span(new.keep_s)} now, not for {_span(old.keep_s)}")
    if new.personal and not old.personal:
        yield Change(message, "", "is personal now: it does not leave the node", True)
    if old.personal and not new.personal:
        yield Change(message, "", "is not personal any more: it leaves the node")
    if new.deprecated and not old.deprecated:
        yield Change(message, "", f"is deprecated: {new.deprecated}")


def _span(seconds: float | None) -> str:
    return "ever" if seconds is None else f"{seconds:g} s"


# ---- state --------------------------------------------------------------------------------------


def _state(
    comparison: Comparison, old: Mapping[str, CollectionType], new: Mapping[str, CollectionType]
) -> Iterator[Change]:
    added = [one for name, one in new.items() if name not in old]
    for name, one in old.items():
        other = new.get(name)
        if other is None:
            alike = [
                more.name
                for more in added[:ALIKE_MAX]
                if comparison.same(one.key, more.key) and comparison.same(one.value, more.value)
            ]
            text = f"is gone{_renamed(alike)}; what is kept in it is not found any more"
            yield Change(f"state {name}", "", text, True)
        else:
            yield from _collection(comparison, one, other)
    for one in added:
        yield Change(f"state {one.name}", "", "is new")


def _collection(comparison: Comparison, old: CollectionType, new: CollectionType) -> Iterator[Change]:
    message = f"state {old.name}"
    yield from _told(message, comparison.types(old.key, new.key, "{key}"), _STATE)
    yield from _told(message, comparison.types(old.value, new.value), _STATE)
    if old.owner is not new.owner:
        text = f"is written by {_owner(new.owner)} now, not by {_owner(old.owner)}"
        is_lost = new.owner is not Owner.SHARED
        yield Change(message, "", text + ("; others' writes are refused" if is_lost else ""), is_lost)
    elif old.rule is not new.rule:
        text = f"merges by {new.rule} now, not by {old.rule}; old and new come to different values"
        yield Change(message, "", text, old.owner is not Owner.COORDINATOR)
    if new.personal and not old.personal:
        yield Change(message, "", "is personal now: it does not leave the node", True)
    if old.personal and not new.personal:
        yield Change(message, "", "is not personal any more: it leaves the node")


def _owner(owner: Owner) -> str:
    return {Owner.NODE: "nodes", Owner.COORDINATOR: "the coordinator", Owner.SHARED: "both"}[owner]


def _renamed(alike: list[str]) -> str:
    return f" (was it renamed to {alike[0]}?)" if alike else ""
