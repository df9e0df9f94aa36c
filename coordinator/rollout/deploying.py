"""A model as a roll-out: what a node fetches first, and what each of its pipelines is to run then. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from coordinator.fleet.facts import Facts
from coordinator.models.choosing import choose
from coordinator.models.release import Release, Role
from coordinator.rollout.plan import REASON_CHARS_MAX, Plan

REASONS_TOLD_MAX = 10


@dataclass(frozen=True, slots=True)
class Fit:
    """What a node's own fields are, or why it takes no part. `unheard`: it has yet to say what its pipelines run."""

    own: Mapping[str, Any] = field(default_factory=dict)
    excluded: str = ""
    unheard: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """A release on its way. `pipelines`: those that are to run it; none: those that run a model of its name."""

    release: Release
    digest: str
    pipelines: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """The most that a node has to fetch: all but the variants that are not its own."""
        common = sum(one.bytes for one in self.release.files if one.role is not Role.MODEL)
        return common + max(one.bytes for one in self.release.variants)

    def planned(self, asked: Plan) -> Plan:
        """The roll-out with what follows from the release."""
        release = {"version": self.release.version, "digest": self.digest}
        rate_per_s = asked.fetch_rate_per_s
        if asked.bandwidth_bytes_s:
            rate_per_s = max(0.001, min(rate_per_s, asked.bandwidth_bytes_s / self.bytes))
        prefetch = {**asked.prefetch, f"models.{self.release.name}.release": release}
        return replace(asked, model=self.release.reference, prefetch=prefetch, fetch_rate_per_s=rate_per_s)

    def fit(self, facts: Facts, holds: Mapping[str, Any] | None) -> Fit:
        """What follows for a node. `holds`: the fields that it reports; None where it never did."""
        choice = choose(self.release, facts)
        if choice.variant is None:
            return Fit(excluded=f"it cannot run {self.release.reference}: {choice.why_not}"[:REASON_CHARS_MAX])
        if holds is None:
            return Fit(excluded="it has not reported what its pipelines run", unheard=True)
        found = pipelines_of(holds)
        names = [name for name, model in found.items() if model == self.release.name]
        if self.pipelines:
            names = [name for name in self.pipelines if name in found]
        if not names:
            return Fit(excluded=self._no_pipeline(found)[:REASON_CHARS_MAX])
        value = {"model": self.release.reference, "digest": self.digest}
        return Fit({f"pipelines.{name}.model": value for name in sorted(names)})

    def _no_pipeline(self, found: Mapping[str, str]) -> str:
        has = ", ".join(f"{name} runs {model or 'none'}" for name, model in sorted(found.items())) or "it has none"
        if self.pipelines:
            return f"it has no pipeline {' or '.join(self.pipelines)}: {has}"
        return f"no pipeline of it runs a model named {self.release.name}: {has}; name one with --pipelines"


def pipelines_of(holds: Mapping[str, Any]) -> dict[str, str]:
    """By pipeline the name of the model that it runs, as a node reports its fields."""
    found = {}
    for path, value in holds.items():
        if path.startswith("pipelines.") and path.endswith(".model"):
            said = value.get("model", "") if isinstance(value, dict) else value
            found[path.removeprefix("pipelines.").removesuffix(".model")] = str(said).partition("@")[0]
    return found


def shared(fits: Mapping[str, Fit]) -> dict[str, Mapping[str, Any]]:
    """The own fields by node, each value held once: most nodes have the same."""
    known: dict[tuple[str, ...], Mapping[str, Any]] = {}
    return {node: known.setdefault(tuple(fit.own), fit.own) for node, fit in fits.items() if fit.own}


def told(excluded: Iterable[str]) -> str:
    """Why nodes take no part, each reason once with how many: the most frequent first."""
    counts = Counter(excluded).most_common()
    parts = [f"{count} {'nodes' if count > 1 else 'node'}: {reason}" for reason, count in counts[:REASONS_TOLD_MAX]]
    more = len(counts) - len(parts)
    return "; ".join([*parts, f"and {more} more reasons"] if more else parts)
