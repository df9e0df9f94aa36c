"""From the values that hold to what the agent does about them. Pure.

`plan` sorts every value to the part that applies it, and refuses what this node cannot apply: alone, with the reason.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.infer.thresholds import Thresholds
from schemas.documents import canonical
from schemas.fields import find_field
from schemas.release import WantedModel, WantedRelease, read_wanted_model, read_wanted_release
from schemas.resolve import Resolution
from schemas.workloads import WorkloadSpec, parse_named_pipeline, parse_workload, workload_of

IN_THEIR_TIME = frozenset({"models.<name>.release", "pipelines.<name>.model"})
"""Fields whose part says itself when they hold (standing.py)."""
ECHO_CHARS_MAX = 8192  # a value larger than this is applied, but not repeated in the report


@dataclass(frozen=True, slots=True)
class Here:
    """What the configuration of this node says, and so what there is to be changed."""

    pipelines: Mapping[str, str] = field(default_factory=dict)  # name: model
    rules: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    heartbeat_s: float = 15.0
    log_level: str = "INFO"


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is different about a pipeline."""

    enabled: bool = True
    confidence_min: float | None = None  # None: as the model's bundle has it
    classes_ignored: frozenset[str] = frozenset()

    def over(self, given: "Tuning") -> "Tuning":
        """This one, where it says something, upon what was given with the pipeline."""
        confidence = given.confidence_min if self.confidence_min is None else self.confidence_min
        ignored = self.classes_ignored | given.classes_ignored
        return Tuning(self.enabled and given.enabled, confidence, ignored)

    def thresholds(self, given: Thresholds) -> Thresholds:
        """The bundle's thresholds with these changes. A class with a threshold of its own keeps it."""
        confidence = given.confidence if self.confidence_min is None else self.confidence_min
        ignored = dict.fromkeys(sorted(self.classes_ignored), math.inf)
        return replace(given, confidence=confidence, per_class={**given.per_class, **ignored})


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be in force. `holds` is for the report, `refused` the reason for each field that is not."""

    tunings: Mapping[str, Tuning] = field(default_factory=dict)  # by pipeline, each of them
    muted_until_utc_ms: Mapping[str, int] = field(default_factory=dict)  # by alert rule
    labels: Mapping[str, str] = field(default_factory=dict)
    heartbeat_s: float = 15.0
    log_level: str = "INFO"
    sync: Mapping[str, Any] | None = None
    releases: Mapping[str, WantedRelease] = field(default_factory=dict)  # by model: to lie here
    models: Mapping[str, WantedModel] = field(default_factory=dict)  # by pipeline: to run
    sources: tuple[str, ...] | None = None  # of models; None: the configured ones
    workloads: Mapping[str, WorkloadSpec] = field(default_factory=dict)
    named: frozenset[str] = frozenset()  # those of the workloads that are named pipelines
    holds: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def muted(self, now_utc_ms: int) -> frozenset[str]:
        """The rules that raise no alert now."""
        return frozenset(rule for rule, until_ms in self.muted_until_utc_ms.items() if now_utc_ms < until_ms)


def plan(resolution: Resolution, here: Here) -> Plan:
    """What these values mean on this node."""
    changes: dict[str, dict[str, Any]] = {name: {} for name in here.pipelines}
    muted: dict[str, int] = {}
    labels, single = dict(here.labels), dict[str, Any]()
    releases, models = dict[str, WantedRelease](), dict[str, WantedModel]()
    workloads, named = dict[str, WorkloadSpec](), dict[str, WorkloadSpec]()
    refused = dict(resolution.refused)
    for path, value in resolution.values.items():
        found = find_field(path)
        assert found is not None, "resolve lets through what is in the table, nothing else"
        kind, _, leaf = found[0].path.partition(".<name>")
        name = found[1]
        if kind == "pipelines" and name in changes and leaf == ".model":
            models[name] = read_wanted_model(value)
        elif kind == "models":
            releases[name] = read_wanted_release(value)
        elif kind == "pipelines" and leaf == ".spec":
            named[name] = workload_of(parse_named_pipeline(value))
        elif kind == "pipelines" and name in changes:
            changes[name][leaf.removeprefix(".")] = value
        elif kind == "pipelines":
            refused[path] = f"there is no pipeline {name!r} here ({_listed(here.pipelines)})"
        elif kind == "alerts" and name in here.rules:
            muted[name] = value
        elif kind == "alerts":
            refused[path] = f"there is no alert rule {name!r} here ({_listed(here.rules)})"
        elif kind == "labels":
            labels[name] = value
        elif kind == "workloads":
            workloads[name] = parse_workload(value)
        else:
            single[kind] = value
    for name in workloads.keys() & named.keys():
        refused[spec_path(name, named=True)] = f"a workload is called {name} already"
        del named[name]
    tunings = {
        name: Tuning(
            given.get("enabled", True), given.get("confidence_min"), frozenset(given.get("classes_ignored", ()))
        )
        for name, given in changes.items()
    }
    made = Plan(
        tunings,
        muted,
        labels,
        float(single.get("heartbeat_s", here.heartbeat_s)),
        single.get("log.level", here.log_level),
        single.get("sync"),
        releases,
        models,
        tuple(single["models.sources"]) if "models.sources" in single else None,
        {**workloads, **named},
        frozenset(named),
        refused=refused,
    )
    applied = {
        path: value
        for path, value in resolution.values.items()
        if path not in refused and (found := find_field(path)) and found[0].path not in IN_THEIR_TIME
    }
    return replace(made, holds=_facts(made, here) | _echo(applied))


def spec_path(name: str, *, named: bool) -> str:
    """The field that a workload stands in."""
    return f"pipelines.{name}.spec" if named else f"workloads.{name}.spec"


def without(made: Plan, path: str, reasons: list[str]) -> Plan:
    """The plan after a part of the agent has refused a value of it."""
    holds = {key: value for key, value in made.holds.items() if key != path}
    return replace(made, holds=holds, refused={**made.refused, path: "; ".join(reasons)[:500]})


def _facts(made: Plan, here: Here) -> dict[str, Any]:
    """What holds although nobody wrote it."""
    found: dict[str, Any] = {"heartbeat_s": made.heartbeat_s, "log.level": made.log_level}
    found |= {f"labels.{name}": value for name, value in made.labels.items()}
    for name, model in here.pipelines.items():
        found[f"pipelines.{name}.model"] = {"model": model, "digest": ""}  # until it is known better
        found[f"pipelines.{name}.enabled"] = made.tunings[name].enabled
    return {path: value for path, value in found.items() if find_field(path)}  # some names cannot be part of a path


def _echo(values: Mapping[str, Any]) -> dict[str, Any]:
    return {path: value for path, value in values.items() if len(canonical(value)) <= ECHO_CHARS_MAX}


def _listed(names: Mapping[str, str] | frozenset[str]) -> str:
    return ", ".join(sorted(names)[:12]) or "there is none"
