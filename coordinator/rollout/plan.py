"""A roll-out as it is declared: whom, what, how fast, and what is too much harm. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Annotated, Any

from coordinator.fleet.selector_text import TEXT_CHARS_MAX, SelectorError, parse
from schemas.documents import PATH_CHARS_MAX, canonical
from schemas.fields import Owner, Rule, mistakes, rule_of
from schemas.shape import Limit

WAVES_MAX = 50
FIELDS_MAX = 100
REASON_CHARS_MAX = 300
ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
HOUR_S = 3600.0


class OnFailure(StrEnum):
    """What is done by itself when the failure budget is spent."""

    PAUSE = "pause"  # nobody more is told until somebody says so
    ABORT = "abort"  # it ends; what was changed stays
    ROLLBACK = "rollback"  # it ends, and the former values are put back


@dataclass(frozen=True, slots=True)
class Wave:
    """How many nodes have been told at its end, of all those that are there: a count, or percent."""

    count: int = 0
    percent: float = 0.0

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.percent else str(self.count)

    def quota(self, nodes: int) -> int:
        """Of so many nodes; at least one where there is one."""
        return min(nodes, self.count or max(1, ceil(self.percent * nodes / 100 - 1e-9)))


@dataclass(frozen=True, slots=True)
class Plan:
    """The arguments of `startRollout`. `plan_mistakes` says whether they can be."""

    select: Annotated[str, Limit(len_max=TEXT_CHARS_MAX)]
    set: dict[str, Any] = field(default_factory=dict)
    unset: Annotated[tuple[str, ...], Limit(len_max=FIELDS_MAX)] = ()
    waves: Annotated[tuple[str, ...], Limit(len_min=1, len_max=WAVES_MAX)] = ("100%",)
    bake_s: Annotated[float, Limit(ge=0, le=7 * 24 * HOUR_S)] = 0.0  # after each wave, before the next
    budget: Annotated[float, Limit(ge=0, le=1)] = 0.05  # share of failed and silent among those that have settled
    sample_min: Annotated[int, Limit(ge=1, le=1_000_000)] = 10  # fewer settled nodes are no sample
    rate_per_s: Annotated[float, Limit(gt=0, le=100_000)] = 50.0  # nodes told
    accept_s: Annotated[float, Limit(gt=0, le=24 * HOUR_S)] = 60.0  # until a node that was told has it, else silent
    verify_s: Annotated[float, Limit(gt=0, le=24 * HOUR_S)] = 60.0  # from then until it is verified, else failed
    on_failure: OnFailure = OnFailure.PAUSE
    continuous: bool = False  # nodes that come to be selected later are included
    healthy: bool = False  # a node is verified by a heartbeat too: every pipeline runs, none has an error
    id: Annotated[str, Limit(pattern=f"|{ID}", means="letters, digits, . _ -")] = ""  # "": the coordinator gives one
    source: Annotated[str, Limit(len_max=200)] = ""

    @property
    def paths(self) -> frozenset[str]:
        """The fields that it writes."""
        return frozenset((*self.set, *self.unset))

    @property
    def prefetch(self) -> tuple[str, ...]:
        """What a node must have on its disk before it is told. Plain fields need nothing; what names a file will."""
        return ()

    @property
    def steps(self) -> tuple[Wave, ...]:
        """The waves as values. Raises ValueError for a text that is none."""
        return tuple(wave_of(text) for text in self.waves)


def wave_of(text: str) -> Wave:
    """`5` or `5%`. Raises ValueError."""
    found = re.fullmatch(r"\s*([0-9]{1,7})(\.[0-9]{1,4})?\s*(%?)\s*", text)
    if found is None:
        raise ValueError(f"wave {text[:40]!r}: write a count such as 5, or a share such as 5%")
    value = float(found[1] + (found[2] or ""))
    if found[3]:
        if not 0 < value <= 100:
            raise ValueError(f"wave {text.strip()}: more than 0% and at most 100%")
        return Wave(percent=value)
    if found[2] or not value:
        raise ValueError(f"wave {text.strip()}: a count is a whole number of at least 1")
    return Wave(count=int(value))


def plan_mistakes(plan: Plan) -> list[str]:
    """Every reason why this cannot be a roll-out, in words."""
    found = list(_wave_mistakes(plan.waves))
    asked = {**plan.set, **dict.fromkeys(plan.unset)}
    found += mistakes(asked, Owner.COORDINATOR)
    found += [f"{path}: set to nothing; name it in unset" for path, value in plan.set.items() if value is None]
    found += [f"{path}: both set and unset" for path in plan.unset if path in plan.set]
    if not asked:
        found.append("name at least one field to set or unset")
    if len(asked) > FIELDS_MAX:
        found.append(f"{len(asked)} fields; at most {FIELDS_MAX} are allowed")
    if not plan.select.strip():
        found.append("select: it is empty; write all where every node is meant")
    try:
        parse(plan.select)
    except SelectorError as error:
        found.append(f"select: {error}")
    return found


def _wave_mistakes(texts: tuple[str, ...]) -> Iterator[str]:
    waves = []
    for text in texts:
        try:
            waves.append(wave_of(text))
        except ValueError as error:
            yield str(error)
    if len(waves) < len(texts):
        return
    if waves[-1].percent != 100:
        yield f"the last wave is {waves[-1]}, not 100%: narrow the selector where not all of them are meant"
    for kind in ("count", "percent"):
        sizes = [size for wave in waves if (size := getattr(wave, kind))]
        if sizes != sorted(set(sizes)):
            yield f"waves {','.join(map(str, waves))}: each is the total at its end, so they grow"


# ---- what a node says --------------------------------------------------------------------------


def refusal(plan: Plan, refused: Mapping[str, str]) -> str:
    """Why a node could not apply some field of ours; "" where it refused none of them."""
    said = [f"{path}: {refused[path]}" for path in sorted(plan.paths) if path in refused]
    return ("refused " + "; ".join(said))[:REASON_CHARS_MAX] if said else ""


def missing(plan: Plan, holds: Mapping[str, Any]) -> str:
    """Which field does not hold at a node as it was set, by the rule of the field; "" where all do.

    A node leaves a value out of its report where it is long: what is neither told nor refused holds.
    """
    for path, wanted in plan.set.items():
        if path in holds and not _covers(rule_of(path), holds[path], wanted):
            text = f"{path} holds {canonical(holds[path])[:60]}, not {canonical(wanted)[:60]}"
            return text[:REASON_CHARS_MAX]
    return ""


def _covers(rule: Rule | None, found: Any, wanted: Any) -> bool:
    match rule:
        case Rule.MAX:
            return isinstance(found, int | float) and found >= wanted
        case Rule.UNION:
            return isinstance(found, list) and set(wanted) <= set(found)
    return found is not None and canonical(_plain(found)) == canonical(_plain(wanted))


def _plain(value: Any) -> Any:
    """Whole numbers as such, however they are written: 5 and 5.0 are the same setting."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


assert PATH_CHARS_MAX < REASON_CHARS_MAX  # so that a reason names its field
