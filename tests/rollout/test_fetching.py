"""What a node fetches before its turn; nodes that flap; latency as a condition; a rate that grows."""

from dataclasses import replace
from typing import Any

import pytest

from coordinator.rollout.plan import Ahead, Plan
from coordinator.rollout.state import NodeState, State
from tests.rollout.field import FETCH, RELEASE, SOUND, Field

FETCHING, READY, TOLD, VERIFIED, FAILED, NOTIFIED = (
    NodeState.FETCHING, NodeState.READY, NodeState.TOLD, NodeState.VERIFIED, NodeState.FAILED, NodeState.NOTIFIED,
)  # fmt: skip


def field(count: int, *waves: str, **changes: Any) -> Field:
    plan = Plan(
        "all", SOUND, waves=waves or ("100%",), rate_per_s=1000, accept_s=20, verify_s=20, fetch_s=600,
        prefetch={FETCH: RELEASE}, fetch_rate_per_s=1000,
    )  # fmt: skip
    return Field(replace(plan, **changes), [f"n{i:02}" for i in range(count)])


def fetch(world: Field) -> None:
    """Those that were told fetch it, at once."""
    world.say(*world.of(NOTIFIED, FETCHING))
    world.settle()


def test_a_node_is_told_the_change_once_it_holds_what_it_needs() -> None:
    world = field(3)
    world.settle()
    assert (world.of(NOTIFIED), world.of(TOLD)) == (["n00", "n01", "n02"], [])
    assert {node.value for node in world.nodes.values()} == {"INFO"}
    world.beat("n00")
    world.say("n01", pending="prefetching 43 %")
    world.settle()
    assert world.of(FETCHING) == ["n00", "n01"]
    assert (world.kept["n01"].reason, world.kept["n01"].pending) == ("prefetching 43 %", True)
    world.say("n01")
    world.settle()
    assert (world.of(TOLD), world.of(READY)) == (["n01"], [])
    fetch(world)
    world.say(*world.nodes)
    world.settle()
    assert (world.state, world.of(VERIFIED)) == (State.COMPLETED, ["n00", "n01", "n02"])


def test_all_fetch_ahead_of_the_waves_or_those_of_the_wave_alone() -> None:
    ahead, by_wave = field(20, "10%", "100%"), field(20, "10%", "100%", ahead=Ahead.WAVE)
    ahead.settle()
    by_wave.settle()
    assert (len(ahead.of(NOTIFIED)), len(by_wave.of(NOTIFIED))) == (20, 2)
    for world in (ahead, by_wave):
        fetch(world)
        assert len(world.of(TOLD)) == 2
        world.say(*world.of(TOLD))
        world.settle()
        fetch(world)
        assert len(world.of(TOLD)) == 18


def test_so_many_fetch_at_a_time_and_so_many_are_told_a_second() -> None:
    world = field(10, fetch_at_once=4)
    world.settle()
    assert len(world.of(NOTIFIED)) == 4
    world.say(world.of(NOTIFIED)[0])
    world.settle()
    assert len(world.of(NOTIFIED)) == 4
    slow = field(10, fetch_rate_per_s=2)
    slow.settle()
    assert len(slow.of(NOTIFIED)) == 1
    assert slow.wake_ms is not None and slow.wake_ms - slow.now_ms == 500


def test_who_cannot_fetch_has_failed_and_counts_beside_the_wave() -> None:
    world = field(20, "1", "100%", budget=0.1, sample_min=5)
    world.settle()
    world.say("n00", "n01", refused="no such variant")
    world.settle()
    assert str(world.state) == "running"  # 2 of 20: as much as is allowed
    assert (world.kept["n00"].state, world.kept["n00"].told) == (FAILED, False)
    assert world.kept["n00"].reason == "refused models.finder.release: no such variant"
    world.say("n02")
    world.settle()
    assert world.of(TOLD) == ["n02"]  # the wave of one is still to come: those that failed are not of it
    world.say("n03", refused="no such variant")
    world.settle()
    assert world.state is State.PAUSED
    assert world.run.reason == (
        "the failure budget is spent: 3 of 20 could not fetch what they need, 10.0% are allowed"
    )
    world.engine.resume(world.now_ms)
    world.settle()
    world.say("n03")  # late, but it could
    world.settle()
    assert world.of(READY) == ["n03"]


def test_when_nobody_can_fetch_it_there_is_no_wave() -> None:
    world = field(3, "1", "100%")
    world.settle()
    world.say(*world.nodes, refused="no space")
    world.settle()
    assert (world.state, world.of(TOLD)) == (State.PAUSED, [])


def test_fetching_has_a_time_of_its_own() -> None:
    world = field(2, budget=1.0)
    world.settle()
    world.say("n00", pending="prefetching 1 %")
    world.settle()
    world.pass_s(20)
    world.settle()
    assert (world.kept["n01"].state, world.kept["n01"].reason) == (NodeState.SILENT, "no answer within 20 s")
    world.pass_s(580)
    world.settle()
    assert world.kept["n00"].reason == "not fetched within 600 s: prefetching 1 %"


def test_a_node_that_still_works_on_it_is_accepted_with_the_longer_time() -> None:
    world = field(1)
    world.settle()
    fetch(world)
    world.say("n00", pending="proving 3 of 9 frames")
    world.settle()
    world.pass_s(599)
    world.settle()
    assert (world.kept["n00"].state, world.kept["n00"].reason) == (NodeState.ACCEPTED, "proving 3 of 9 frames")
    world.pass_s(1)
    world.settle()
    assert world.kept["n00"].reason == "not verified within 600 s: proving 3 of 9 frames"


def test_what_was_only_fetched_is_put_back_too() -> None:
    world = field(4, "1", "100%", bake_s=60.0)
    world.settle()
    fetch(world)
    world.engine.abort(world.now_ms, "so", roll_back=True)
    world.settle()
    assert (world.state, len(world.of(NodeState.ROLLED_BACK))) == (State.ROLLED_BACK, 4)


def test_a_completed_rollout_of_a_model_says_so() -> None:
    world = field(2, model="finder@2.0.0")
    world.settle()
    fetch(world)
    world.say(*world.nodes)
    world.settle()
    told = {"model_id": "finder", "version": "2.0.0", "node_count": 2, "deployment": "r-1"}
    assert world.said[-1] == ("ModelDeployed", told)


# ---- nodes that flap, or are in maintenance -----------------------------------------------------


def test_who_flaps_holds_up_nobody_and_counts_as_nothing_until_it_is_steady() -> None:
    world = field(3, prefetch={})
    world.unsteady = {"n00", "n01"}
    world.settle()
    world.say("n02")
    world.settle()
    world.pass_s(20)
    world.settle()
    assert (world.of(NodeState.UNSTEADY), world.state) == (["n00", "n01"], State.COMPLETED)
    world.say("n00")  # late
    world.settle()
    assert world.of(VERIFIED) == ["n00", "n02"]
    world.unsteady.clear()
    world.pass_s(20)
    world.settle()
    assert world.of(TOLD) == ["n01"]  # its time begins anew
    world.pass_s(20)
    world.settle()
    assert world.kept["n01"].state is NodeState.SILENT


# ---- latency, growth ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "before", "now", "said"),
    [
        ({"latency_max_ms": 20}, {}, 19.0, ""),
        ({"latency_max_ms": 20}, {}, 21.0, "door needs 21 ms (p99), 20 ms are allowed"),
        ({"latency_ratio": 1.2}, {"door": 10.0}, 12.0, ""),
        ({"latency_ratio": 1.2}, {"door": 10.0}, 13.0, "door needs 13 ms (p99, 10 ms before), 12 ms are allowed"),
        ({"latency_ratio": 1.2}, {}, 99.0, ""),
        ({"latency_max_ms": 11, "latency_ratio": 1.2}, {"door": 10.0}, 11.5, "11 ms are allowed"),
        ({"latency_ratio": 1.2}, {"door": 10.0}, 0.0, "door has not run since"),
    ],
)
def test_latency_is_judged_by_a_heartbeat_after_the_report(
    limits: dict[str, float], before: dict[str, float], now: float, said: str
) -> None:
    world = field(1, prefetch={}, **limits)
    world.settle()
    world.kept["n00"] = replace(world.kept["n00"], p99_ms=before)
    world.start()
    world.say("n00")
    world.settle()
    world.beat("n00", p99_ms=now)
    world.settle()
    node = world.kept["n00"]
    assert (node.state is VERIFIED) == (not said) and said in node.reason
    if said:
        world.pass_s(20)
        world.settle()
        assert world.kept["n00"].state is FAILED and said in world.kept["n00"].reason


def test_the_rate_grows_with_the_minutes() -> None:
    world = field(2000, prefetch={}, rate_per_s=1.0, rate_growth=10.0, accept_s=10_000)
    counts = []
    for _ in range(3):
        for _ in range(60):
            world.pass_s(1)
            world.settle()
        counts.append(len(world.of(TOLD)))
    assert counts[0] < 400 and counts[1] - counts[0] > 5 * counts[0]
