"""What an operator's change, or a node's report, makes of a desired document. Pure; time is an argument."""

from dataclasses import dataclass, field, replace
from typing import Any

from schemas.documents import (
    FIELDS_MAX,
    PATH_CHARS_MAX,
    Conflict,
    Desired,
    Reported,
    Version,
    Write,
    Written,
    canonical,
    sealed,
)
from schemas.fields import Owner, mistakes, rule_of
from schemas.hlc import Clock, Stamp
from schemas.resolve import Known, resolve
from schemas.topics import COORDINATOR

VALUE_CHARS_MAX = 4096
REFUSED_TOLD_MAX = 50


@dataclass(frozen=True, slots=True)
class Change:
    """What is asked for. `if_revision`: only if that is the revision now."""

    set: dict[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    if_revision: int | None = None
    source: str = ""  # who asks, for the history


class ChangeRefusedError(Exception):
    """The change is not made. `code` is for programs; `current` is what holds."""

    def __init__(self, code: str, text: str, current: Desired) -> None:
        super().__init__(text)
        self.code = code
        self.current = current


@dataclass(frozen=True, slots=True)
class Changed:
    """The document after a change, and each field's value before and after; no fields: nothing was to be changed."""

    desired: Desired
    clock: Clock
    fields: dict[str, list[Any]]


def new_clock() -> Clock:
    return Clock(COORDINATOR)


def apply_change(change: Change, current: Desired, reported: Reported, clock: Clock, now_ms: int) -> Changed:
    """The next revision. Raises ChangeRefusedError: stale, or fields that cannot be written so."""
    asked = {**change.set, **dict.fromkeys(change.unset)}
    if change.if_revision is not None and change.if_revision != current.revision:
        raise ChangeRefusedError("stale", _stale(change.if_revision, current, list(asked)), current)
    wrong = mistakes(asked, Owner.COORDINATOR)
    if not asked:
        wrong = ["name at least one field"]
    if wrong:
        raise ChangeRefusedError("bad_fields", "; ".join(wrong), current)
    values, stamps = dict(current.fields), dict(current.stamps)
    changed: dict[str, list[Any]] = {}
    local = reported.writes()
    is_shared = any(rule_of(path) is not None for path in asked)
    holds = resolve(Known(current, local)).values if is_shared else {}
    for path, value in asked.items():
        before = values.get(path)
        if rule_of(path) is None:
            values.pop(path, None)
            if value is not None:
                values[path] = value
        elif before is value is holds.get(path) is None:
            continue  # nothing to take back
        else:
            clock = clock.tick(now_ms)
            over = local[path].at if path in local else Stamp()
            values[path], stamps[path] = value, Write(value, clock.last, over).written
        if rule_of(path) is not None or canonical(before) != canonical(value):
            changed[path] = [before, value]
    if not changed:
        return Changed(current, clock, {})
    if len(values) > FIELDS_MAX:
        text = f"{len(values)} fields; at most {FIELDS_MAX} are allowed"
        raise ChangeRefusedError("too_many_fields", text, current)
    version = next_version(current.version, reported.version)
    return Changed(sealed(Desired(*version, values, stamps)), clock, changed)


def next_version(own: Version, reported: Version) -> Version:
    """Later than both. A node that has seen a later document than ours has it from a time that we have lost."""
    epoch = max(own[0], 1) if reported <= own else reported[0] + 1
    return epoch, max(own[1], reported[1]) + 1


def renewed(current: Desired, reported: Reported) -> Desired | None:
    """The same document in a new epoch, where the node answers to one that we no longer have; else None.

    So it is after this coordinator's database was put back from a backup. Without any document of our own there is
    nothing that we could say instead: the node keeps what it has.
    """
    if not current.revision:
        return None
    is_ours = reported.version != current.version or reported.desired_hash == current.hash
    if reported.version <= current.version and is_ours:
        return None
    epoch = max(current.epoch, reported.epoch) + 1
    return sealed(replace(current, epoch=epoch, revision=max(current.revision, reported.revision) + 1))


def seen_stamps(clock: Clock, before: Reported, reported: Reported, now_ms: int) -> tuple[Clock, dict[str, int]]:
    """The clock after the node's stamps, and which new ones are too far ahead, by how many milliseconds."""
    known = {one.at for one in before.stamps.values()}
    ahead = {}
    for path, one in reported.stamps.items():
        for text in _stamps(one):
            seen = clock.merge(Stamp.parse(text), now_ms)
            clock = seen.clock
            if seen.ahead_ms and text == one.at and text not in known:
                ahead[path] = seen.ahead_ms
    return clock, ahead


def conflicts(current: Desired, reported: Reported) -> list[Conflict]:
    """Those that the node tells, and those found here between two documents that know of each other."""
    found = {_key(conflict): conflict for conflict in reported.conflicts if rule_of(conflict.path)}
    if reported.version == current.version and reported.desired_hash == current.hash:
        for conflict in resolve(Known(current, reported.writes())).conflicts:
            found.setdefault(_key(conflict), conflict)
    return [
        replace(
            one,
            coordinator_value=shortened(one.coordinator_value),
            node_value=shortened(one.node_value),
            value=shortened(one.value),
        )
        for one in found.values()
    ]


def shortened(value: Any) -> Any:
    """For history and events: a value that is very long becomes the text that it begins with."""
    text = canonical(value)
    return value if len(text) <= VALUE_CHARS_MAX else f"{text[:VALUE_CHARS_MAX]}… ({len(text)} characters)"


def applied(reported: Reported) -> dict[str, Any]:
    """What is told to everybody about a report: for which revision, and the first of the refusals."""
    refused = {path[:PATH_CHARS_MAX]: text[:200] for path, text in list(reported.refused.items())[:REFUSED_TOLD_MAX]}
    return {
        "epoch": reported.epoch,
        "revision": reported.revision,
        "refused": refused,
        "refused_total": len(reported.refused),
    }


def _key(conflict: Conflict) -> tuple[str, str, str]:
    return conflict.path, conflict.coordinator_at, conflict.node_at


def _stamps(written: Written) -> list[str]:
    return [written.at, written.over] if written.over else [written.at]


def _stale(asked_for: int, current: Desired, paths: list[str]) -> str:
    shown = ", ".join(f"{path} = {canonical(current.fields.get(path))}"[:200] for path in paths[:10])
    return f"revision {current.revision} of epoch {current.epoch} is current, not {asked_for}; there {shown}"
