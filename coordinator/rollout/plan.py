"""A roll-out as it is declared: whom, what, how fast, and what is too much harm. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Annotated, Any

from coordinator.fleet.selector_text import TEXT_CHARS_MAX, SelectorError, parse
from schemas.fields import Owner, mistakes
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


class Ahead(StrEnum):
    """How far ahead of its turn a node is told what to fetch."""

    ALL = "all"  # all nodes that are there, from the beginning
    WAVE = "wave"  # those of the wave


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
    """The arguments of `startRollout`. `plan_mistakes` says whether they can be.

    With a `model` the roll-out brings it to nodes: what they fetch first and what each of their pipelines is to run
    follows from the release (coordinator/rollout/deploying.py), beside what is set.
    """

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
    model: Annotated[str, Limit(len_max=200)] = ""  # NAME, NAME@VERSION or NAME@CHANNEL; NAME is NAME@stable
    pipelines: Annotated[tuple[str, ...], Limit(len_max=FIELDS_MAX)] = ()  # that are to run it; none: those that do
    prefetch: dict[str, Any] = field(default_factory=dict)  # fields that a node is told, and holds, before its turn
    ahead: Ahead = Ahead.ALL
    fetch_s: Annotated[float, Limit(gt=0, le=7 * 24 * HOUR_S)] = HOUR_S  # for what a node says it is still working on
    fetch_rate_per_s: Annotated[float, Limit(gt=0, le=100_000)] = 50.0  # nodes told what to fetch
    fetch_at_once: Annotated[int, Limit(ge=1, le=1_000_000)] = 1000  # nodes that fetch at a time
    bandwidth_bytes_s: Annotated[float, Limit(ge=0, lt=1e12)] = 0.0  # of all that fetch a model; 0: no limit
    rate_growth: Annotated[float, Limit(ge=1, le=100)] = 1.0  # times the rate, each minute
    latency_max_ms: Annotated[float, Limit(ge=0, le=1e6)] = 0.0  # p99 of each pipeline's inference; 0: is not asked
    latency_ratio: Annotated[float, Limit(ge=0, le=1000)] = 0.0  # the same against what it was before
    id: Annotated[str, Limit(pattern=f"|{ID}", means="letters, digits, . _ -")] = ""  # "": the coordinator gives one
    source: Annotated[str, Limit(len_max=200)] = ""

    @property
    def paths(self) -> frozenset[str]:
        """The fields that it writes of every node."""
        return frozenset((*self.set, *self.unset, *self.prefetch))

    @property
    def judges_latency(self) -> bool:
        return bool(self.latency_max_ms or self.latency_ratio)

    @property
    def needs_a_beat(self) -> bool:
        """A report is not enough: a heartbeat says whether a node is well."""
        return self.healthy or self.judges_latency

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


def plan_mistakes(plan: Plan, *, has_own: bool = False, by_name: bool = False) -> list[str]:
    """Every reason why this cannot be a roll-out, in words.

    `has_own`: nodes have fields of their own beside it. `by_name`: nodes are named, `select` is for people.
    """
    found = list(_wave_mistakes(plan.waves))
    asked = {**plan.set, **dict.fromkeys(plan.unset), **plan.prefetch}
    found += mistakes(asked, Owner.COORDINATOR)
    both = {**plan.set, **plan.prefetch}
    found += [f"{path}: set to nothing; name it in unset" for path, value in both.items() if value is None]
    found += [f"{path}: both set and unset" for path in plan.unset if path in both]
    found += [f"{path}: both set and prefetched" for path in plan.prefetch if path in plan.set]
    if plan.pipelines and not plan.model:
        found.append("pipelines: they are those that are to run a model: name one")
    if not asked and not plan.model and not has_own:
        found.append("name at least one field to set or unset, or a model")
    if len(asked) > FIELDS_MAX:
        found.append(f"{len(asked)} fields; at most {FIELDS_MAX} are allowed")
    if by_name:
        return found + (["continuous: nodes are named, so none can join"] if plan.continuous else [])
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
