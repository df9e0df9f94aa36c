"""Workloads in a roll-out: a spec that a node has taken is not yet a workload that runs; and it places none."""

from pathlib import Path
from typing import Any

import pytest

from coordinator.documents.changes import Change
from coordinator.rollout.plan import Plan
from coordinator.rollout.starting import failed_to_start, is_starting
from coordinator.rollout.state import NotTold, Step, Told
from coordinator.store import documents, rollouts
from coordinator.store.migrations import MIGRATIONS
from runtime.sqlite import connect, migrate, transaction
from runtime.timeline import MachineTime

NOW = MachineTime("server", 0, 1_795_521_600_000)
PATH = "workloads.w.spec"


def spec(generation: int) -> dict[str, Any]:
    return {"type": "container", "generation": generation, "container": {"image": "x"}}


PLAN = Plan("all", {PATH: spec(2), "log.level": "DEBUG"})


@pytest.mark.parametrize(
    ("report", "refused", "starting", "failed"),
    [
        (None, {}, True, {}),
        ({"state": "starting", "generation": 2}, {}, True, {}),
        ({"state": "running", "generation": 1}, {}, True, {}),
        ({"state": "running", "generation": 2}, {}, False, {}),
        ({"state": "stopped", "generation": 2}, {}, False, {}),
        ({"state": "failed", "generation": 2, "reason": "no image"}, {}, False, {PATH: "no image"}),
        ({"state": "failed", "generation": 1, "reason": "no image"}, {}, True, {}),
        (None, {PATH: "no containers here"}, False, {}),
        ("nonsense", {}, True, {}),
    ],
)
def test_what_a_node_says_of_it(report: Any, refused: dict[str, str], starting: bool, failed: dict[str, str]) -> None:
    holds = {PATH: spec(2), "log.level": "DEBUG"} | ({} if report is None else {"workloads.w.state": report})
    assert (is_starting(PLAN, holds, refused), failed_to_start(PLAN, holds)) == (starting, failed)


def test_a_plan_without_workloads_waits_for_none() -> None:
    assert not is_starting(Plan("all", {"log.level": "DEBUG"}), {}, {})


def test_a_rollout_places_no_workload(tmp_path: Path) -> None:
    db = connect(tmp_path / "coordinator.db")
    migrate(db, MIGRATIONS, what="test")
    with transaction(db):
        documents.change(db, "a", Change({PATH: spec(1)}), NOW)
        kept = rollouts.begin(db, Plan("all", {PATH: spec(2)}), ["a", "b"], NOW.wall_ms)
    with transaction(db):
        done = rollouts.carry_out(db, kept, Step(tell=["a", "b"]), NOW)
    assert [type(one) for one in done.news] == [Told, NotTold]
    assert done.news[1] == NotTold("b", "w is not there any more", excluded=True)
    assert documents.desired(db, "b").revision == 0
