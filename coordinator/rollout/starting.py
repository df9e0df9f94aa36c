"""Workloads in a roll-out: a node that has taken a spec has not shown yet that it runs. Pure."""

from collections.abc import Mapping
from typing import Any

from coordinator.rollout.plan import Plan

_HEAD, _SPEC, _STATE = "workloads.", ".spec", ".state"
_FAILED, _DONE = "failed", ("running", "stopped")


def failed_to_start(plan: Plan, holds: Mapping[str, Any]) -> dict[str, str]:
    """The specs of this plan whose workload the node says has failed, with its reason."""
    found = {}
    for path, report in _reports(plan, holds):
        if report.get("state") == _FAILED:
            found[path] = str(report.get("reason") or "it does not run")
    return found


def is_starting(plan: Plan, holds: Mapping[str, Any], refused: Mapping[str, str]) -> bool:
    """Some spec of this plan is neither refused nor does its workload run, or has ended, or has failed."""
    settled = {path for path, report in _reports(plan, holds) if report.get("state") in (*_DONE, _FAILED)}
    return any(path not in settled and path not in refused for path in plan.set if _is_spec(path))


def _reports(plan: Plan, holds: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What the node says of the generations that the plan brings, by the path of the spec."""
    found = []
    for path, spec in plan.set.items():
        if _is_spec(path) and isinstance(spec, Mapping):
            report = holds.get(path.removesuffix(_SPEC) + _STATE)
            if isinstance(report, Mapping) and report.get("generation") == spec.get("generation"):
                found.append((path, report))
    return found


def _is_spec(path: str) -> bool:
    return path.startswith(_HEAD) and path.endswith(_SPEC)
