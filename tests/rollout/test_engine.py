"""One roll-out's life, with plain numbers for time."""

import json
from dataclasses import replace
from typing import Any

import pytest

from coordinator.rollout.engine import AT_ONCE_MAX, OrderRefusedError
from coordinator.rollout.plan import OnFailure, Plan
from coordinator.rollout.state import NodeState, Presence, State
from platforms.catalogue import open_catalogue
from tests.rollout.field import SOUND, WANTED, Field

VERIFIED, FAILED, SILENT, WAITING, TOLD = (
    NodeState.VERIFIED, NodeState.FAILED, NodeState.SILENT, NodeState.WAITING, NodeState.TOLD,
)  # fmt: skip


def field(count: int, *waves: str, **changes: Any) -> Field:
    plan = Plan("all", SOUND, waves=waves or ("100%",), rate_per_s=1000, accept_s=20, verify_s=20)
    return Field(replace(plan, **changes), [f"n{i:02}" for i in range(count)])


def all_answer(field: Field) -> list[str]:
    names = field.of(TOLD)
    field.say(*names)
    field.settle()
    return names


def test_waves_come_one_after_another_each_when_the_one_before_has_settled_and_baked() -> None:
    world = field(20, "1", "25%", "100%", bake_s=30.0)
    world.settle()
    first = world.of(TOLD)
    assert (len(first), world.events) == (1, ["RolloutStarted"])
    all_answer(world)
    assert (world.state, world.of(TOLD)) == (State.BAKING, [])
    world.pass_s(29)
    world.settle()
    assert (world.state, world.wake_ms) == (State.BAKING, world.now_ms + 1000)
    world.pass_s(1)
    world.settle()
    assert (len(world.of(TOLD)), world.run.wave, world.events[-1]) == (4, 1, "RolloutWaveDone")
    all_answer(world)
    world.pass_s(30)
    world.settle()
    assert len(all_answer(world)) == 15
    world.pass_s(30)
    world.settle()
    assert (world.state, len(world.of(VERIFIED))) == (State.COMPLETED, 20)
    assert world.events == ["RolloutStarted", *["RolloutWaveDone"] * 3, "RolloutCompleted"]
    assert world.engine.is_idle


def test_the_order_is_a_sample_and_always_the_same() -> None:
    one, other = field(200, "10%", "100%"), field(200, "10%", "100%")
    one.settle()
    other.settle()
    assert one.of(TOLD) == other.of(TOLD) != sorted(one.nodes)[:20]


def test_waves_that_are_the_same_for_few_nodes_are_one() -> None:
    world = field(3, "1", "5%", "25%", "100%")
    for _ in range(4):
        world.settle()
        all_answer(world)
    assert (world.state, world.events.count("RolloutWaveDone")) == (State.COMPLETED, 2)


def test_nobody_is_told_faster_than_the_rate() -> None:
    world = field(100, rate_per_s=10.0)
    world.settle()
    begun = len(world.of(TOLD))
    for _ in range(50):
        assert world.wake_ms is not None
        world.now_ms = max(world.wake_ms, world.now_ms)
        world.settle()
        if len(world.of(TOLD)) == 31:
            break
    assert (begun, world.now_ms) == (1, 1_000_000 + 3000)


def test_a_spent_budget_pauses_and_a_person_may_go_on() -> None:
    world = field(40, "50%", "100%", budget=0.1, sample_min=5)
    world.settle()
    names = world.of(TOLD)
    world.say(*names[:4])
    world.say(names[4], refused="no")
    world.settle()
    assert world.state is State.PAUSED
    assert world.run.reason == "the failure budget is spent: 1 of 5 failed or silent, 10.0% are allowed"
    all_answer(world)  # those under way are still followed
    assert (len(world.of(VERIFIED)), world.events[-1]) == (19, "RolloutPaused")
    world.engine.resume(world.now_ms)
    world.settle()
    assert (world.state, len(world.of(TOLD))) == (State.RUNNING, 20)


def test_a_small_sample_is_none_until_the_wave_has_failed_as_a_whole() -> None:
    world = field(40, "1", "10%", "100%", budget=0.05, sample_min=10)
    world.settle()
    world.say(*world.of(TOLD), refused="no")
    world.settle()
    assert (world.state, len(world.of(WAITING))) == (State.PAUSED, 39)
    assert "no node of the sample is verified" in world.run.reason


def test_a_budget_of_everything_stops_nothing() -> None:
    world = field(3, "1", "100%", budget=1.0, sample_min=1)
    for _ in range(3):
        world.settle()
        world.say(*world.of(TOLD), refused="no")
    world.settle()
    assert (world.state, len(world.of(FAILED))) == (State.COMPLETED, 3)


def test_the_last_wave_is_judged_however_few_there_are() -> None:
    world = field(4, budget=0.1, sample_min=10)
    world.settle()
    names = world.of(TOLD)
    world.say(*names[:3])
    world.say(names[3], refused="no")
    world.settle()
    assert world.state is State.PAUSED


def test_silent_nodes_count_and_one_that_answers_late_is_verified() -> None:
    world = field(10, budget=0.5)
    world.settle()
    names = world.of(TOLD)
    world.say(*names[2:])
    world.settle()
    world.pass_s(20)
    world.settle()
    assert (world.of(SILENT), world.state) == (names[:2], State.COMPLETED)
    assert world.kept[names[0]].reason == "no answer within 20 s"
    world.say(names[0])
    world.settle()
    assert world.kept[names[0]].state is VERIFIED


def test_silence_counts_only_while_the_broker_is_heard() -> None:
    world = field(2)
    world.settle()
    world.hearing_since_ms = None
    world.pass_s(3600)
    world.settle()
    assert (len(world.of(TOLD)), world.wake_ms) == (2, None)
    world.hearing_since_ms = world.now_ms
    world.pass_s(19)
    world.settle()
    assert (len(world.of(TOLD)), world.wake_ms) == (2, world.now_ms + 1000)
    world.pass_s(1)
    world.settle()
    assert len(world.of(SILENT)) == 2


def test_a_node_that_has_the_document_and_does_not_report_fails() -> None:
    world = field(1, budget=1.0)
    world.settle()
    world.beat("n00")
    world.settle()
    assert world.of(NodeState.ACCEPTED) == ["n00"]
    world.pass_s(20)
    world.settle()
    assert world.kept["n00"].reason == "not verified within 20 s"


@pytest.mark.parametrize(
    ("holds", "refused", "reason"),
    [("INFO", "", 'log.level holds "INFO", not "DEBUG"'), (WANTED, "no", "refused log.level: no")],
)
def test_a_node_that_does_not_hold_it_has_failed_and_says_why(holds: str, refused: str, reason: str) -> None:
    world = field(1)
    world.settle()
    world.say("n00", holds=holds, refused=refused)
    world.settle()
    assert (world.kept["n00"].state, world.kept["n00"].reason) == (FAILED, reason)


def test_a_report_for_an_older_document_says_nothing() -> None:
    world = field(1)
    world.settle()
    world.nodes["n00"].revision -= 1
    world.say("n00", refused="no")
    world.settle()
    assert world.of(TOLD) == ["n00"]


def test_health_is_a_heartbeat_after_the_report_and_goes_on_counting_while_it_bakes() -> None:
    world = field(3, healthy=True, bake_s=60.0, on_failure=OnFailure.ROLLBACK)
    world.settle()
    world.beat(*world.nodes)  # they have the document
    world.settle()
    world.say(*world.nodes)
    world.settle()
    assert len(world.of(NodeState.ACCEPTED)) == 3
    world.beat("n00", "n01")
    world.beat("n02", ill="cam1 is failed: no model")
    world.settle()
    assert world.of(VERIFIED) == ["n00", "n01"]
    world.beat("n02")
    world.settle()
    assert world.state is State.BAKING
    world.beat("n00", "n01", ill="cam1 is lost: gone")
    world.settle()
    assert (world.of(FAILED), world.state) == (["n00", "n01"], State.BAKING)  # a sample of three is none
    world.pass_s(60)
    world.settle()
    assert (world.of(NodeState.ROLLED_BACK), world.state) == (sorted(world.nodes), State.ROLLED_BACK)
    assert world.run.reason == "the failure budget is spent: 2 of 3 failed or silent, 5.0% are allowed"


def test_nodes_that_are_away_are_passed_over_and_told_when_they_are_back() -> None:
    world = field(10, "2", "100%")
    world.away(*(f"n{i:02}" for i in range(4)))
    world.start()
    world.settle()
    assert len(all_answer(world)) == 2
    all_answer(world)
    assert (world.state, len(world.of(WAITING)), world.engine.is_idle) == (State.COMPLETED, 4, False)
    world.back("n02")
    world.settle()
    assert (world.of(TOLD), world.state) == (["n02"], State.COMPLETED)


def test_a_share_is_of_the_nodes_that_are_there_also_after_a_restart() -> None:
    world = field(100, "10%", "100%")
    world.away(*(f"n{i:02}" for i in range(80)))
    for _ in range(2):
        world.start()
        world.settle()
    assert len(world.of(TOLD)) == 2


def test_a_rollout_to_nodes_that_are_all_away_waits_for_them() -> None:
    world = field(2)
    world.away("n00", "n01")
    world.start()
    world.settle()
    assert world.state is State.RUNNING
    world.back("n01")
    world.settle()
    all_answer(world)
    assert (world.state, world.of(VERIFIED)) == (State.COMPLETED, ["n01"])


def test_a_node_that_is_no_longer_registered_is_left_out() -> None:
    world = field(2)
    world.nodes["n00"].presence = Presence.GONE
    world.settle()
    all_answer(world)
    assert (world.of(NodeState.EXCLUDED), world.state) == (["n00"], State.COMPLETED)


def test_who_joins_is_told_after_all_others_where_that_is_wanted() -> None:
    for continuous in (False, True):
        world = field(1, continuous=continuous)
        world.settle()
        all_answer(world)
        assert world.engine.is_idle is not continuous
        world.join("late")
        world.settle()
        assert world.of(TOLD) == (["late"] if continuous else [])


def test_rolling_back_puts_back_what_was_and_leaves_what_another_hand_wrote() -> None:
    world = field(6, "50%", "100%", on_failure=OnFailure.ROLLBACK, budget=0.0, sample_min=1)
    world.nodes["n00"].value = "ERROR"
    world.settle()
    names = world.of(TOLD)
    world.say(names[0], names[1])
    world.settle()
    changed = world.nodes[names[1]]
    changed.value, changed.revision, changed.other_hand = "WARNING", changed.revision + 1, True
    world.say(names[2], refused="no")
    world.settle()
    assert world.state is State.ROLLED_BACK
    assert {name: node.value for name, node in world.nodes.items()} == {
        **dict.fromkeys(world.nodes, "INFO"), "n00": "ERROR", names[1]: "WARNING",
    }  # fmt: skip
    assert (world.of(NodeState.KEPT), world.kept[names[1]].reason) == ([names[1]], "another hand")
    assert world.events == ["RolloutStarted", "RolloutAborted", "RolledBack"]
    assert world.said[-1][1]["counts"] == {"waiting": 3, "rolled_back": 2, "kept": 1}


def test_nodes_that_are_just_being_told_when_it_is_rolled_back_are_put_back_too() -> None:
    world = field(3)
    step = world.engine.step(world.now_ms, world.now_ms)
    world.engine.abort(world.now_ms, "so", roll_back=True)
    world.carry_out(step)
    assert [node.value for node in world.nodes.values()] == [WANTED] * 3
    world.settle()
    assert (world.state, [node.value for node in world.nodes.values()]) == (State.ROLLED_BACK, ["INFO"] * 3)


def test_a_large_rollback_is_put_back_in_portions_also_over_a_restart() -> None:
    world = field(1200, rate_per_s=100_000)
    for _ in range(5):
        world.pass_s(0.1)
        world.settle()
    all_answer(world)
    world.engine.abort(world.now_ms, "so", roll_back=True)
    world.step()
    assert 0 < len(world.of(NodeState.ROLLED_BACK)) < 1200
    world.start()
    world.settle()
    assert (world.state, len(world.of(NodeState.ROLLED_BACK))) == (State.ROLLED_BACK, 1200)
    assert {node.restored for node in world.nodes.values()} == {1}


def test_a_node_that_had_the_value_already_is_not_put_back() -> None:
    world = field(2)
    world.nodes["n01"].value = WANTED
    world.settle()
    all_answer(world)
    world.engine.abort(world.now_ms, "so", roll_back=True)
    world.settle()
    assert world.of(NodeState.ROLLED_BACK, VERIFIED) == ["n00", "n01"]
    assert (world.nodes["n01"].restored, world.nodes["n01"].value) == (0, WANTED)


def test_orders_that_make_no_sense_are_refused_with_the_state() -> None:
    world = field(1)
    world.settle()
    with pytest.raises(OrderRefusedError, match="running, not paused"):
        world.engine.resume(world.now_ms)
    world.engine.pause(world.now_ms, "lunch")
    with pytest.raises(OrderRefusedError, match="it is paused: there is nothing to pause"):
        world.engine.pause(world.now_ms, "lunch")
    world.settle()
    world.engine.abort(world.now_ms, "no more", roll_back=False)
    world.settle()
    with pytest.raises(OrderRefusedError, match="aborted already"):
        world.engine.abort(world.now_ms, "no more", roll_back=False)
    world.engine.abort(world.now_ms, "after all", roll_back=True)
    world.settle()
    assert (world.state, world.run.reason) == (State.ROLLED_BACK, "after all")
    with pytest.raises(OrderRefusedError, match="rolled_back already"):
        world.engine.abort(world.now_ms, "again", roll_back=True)


def test_a_step_costs_what_has_changed_not_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    world = field(2000, "1", "100%", accept_s=1000.0)
    world.settle()
    all_answer(world)
    looked: list[str] = []

    def look(name: str) -> Presence:
        looked.append(name)
        return Presence.HERE

    monkeypatch.setattr(world.engine._turns, "_look", look)
    for _ in range(50):
        world.pass_s(0.001)
        world.step()
    assert len(looked) <= AT_ONCE_MAX  # one for each that was told, at most AT_ONCE_MAX a step


def test_every_event_is_as_core_declares_it() -> None:
    catalogue = open_catalogue()
    said: dict[str, dict[str, Any]] = {}
    for on_failure in OnFailure:
        for manner in ("holds", "refuses"):
            world = field(4, "1", "100%", on_failure=on_failure, sample_min=1)
            for _ in range(3):
                world.settle()
                world.say(*world.of(TOLD), refused="" if manner == "holds" else "no")
                world.settle()
            said |= dict(world.said)
    assert len(said) == 6
    for kind, data in said.items():
        assert catalogue.check_json(kind, json.dumps(data)), kind
