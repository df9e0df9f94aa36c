"""Workloads of one simulated node: each starts for a while, and then runs or has failed. Pure."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.simulate.scenario import WorkloadsTable

_HEAD, _SPEC, _STATE = "workloads.", ".spec", ".state"
STARTING, RUNNING, FAILED = "starting", "running", "failed"


@dataclass(slots=True)
class Running:
    """One of them, of this generation."""

    generation: int
    cores: float
    state: str
    since_utc_ms: int
    due_s: float
    reason: str = ""


class Work:
    """Those of one node, over its boots."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}

    @property
    def cores(self) -> float:
        """What those that run take."""
        return sum(one.cores for one in self._running.values() if one.state == RUNNING)

    @property
    def next_s(self) -> float | None:
        """When the next one has started."""
        return min((one.due_s for one in self._running.values() if one.state == STARTING), default=None)

    def wanted(self, fields: Mapping[str, Any], now_s: float, utc_ms: int, table: WorkloadsTable, dice: Any) -> None:
        """These are to run, and no others. Another generation starts anew."""
        specs = {
            path[len(_HEAD) : -len(_SPEC)]: spec
            for path, spec in fields.items()
            if spec is not None and path.startswith(_HEAD) and path.endswith(_SPEC)
        }
        for name in self._running.keys() - specs.keys():
            del self._running[name]
        for name, spec in specs.items():
            known = self._running.get(name)
            if known is None or known.generation != spec["generation"]:
                due_s = now_s + table.start_s * dice.uniform(0.5, 1.5)
                cores = float(spec.get("resources", {}).get("cpu_cores", 0.0))
                self._running[name] = Running(spec["generation"], cores, STARTING, utc_ms, due_s)

    def rebooted(self, now_s: float, utc_ms: int, table: WorkloadsTable, dice: random.Random) -> None:
        """All of them start again."""
        for one in self._running.values():
            one.state, one.since_utc_ms, one.reason = STARTING, utc_ms, ""
            one.due_s = now_s + table.start_s * dice.uniform(0.5, 1.5)

    def started(self, now_s: float, utc_ms: int, table: WorkloadsTable, dice: random.Random) -> int:
        """Those whose time has come run, or have failed. How many."""
        due = [one for one in self._running.values() if one.state == STARTING and one.due_s <= now_s]
        for one in due:
            fails = dice.random() < table.failing
            one.state, one.since_utc_ms = (FAILED if fails else RUNNING), utc_ms
            one.reason = "simulated: it does not start" if fails else ""
        return len(due)

    def facts(self) -> dict[str, Any]:
        """As the node reports them."""
        return {
            f"{_HEAD}{name}{_STATE}": {
                "state": one.state, "generation": one.generation, "restarts": 0, "reason": one.reason,
                "since_utc_ms": one.since_utc_ms,
            }
            for name, one in self._running.items()
        }  # fmt: skip
