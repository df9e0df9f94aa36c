"""The table of nodes: what operators see, who is lost and who is back, what is told, who comes back after leaving."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.fleet.condition import ConditionRules, condition_of
from coordinator.fleet.guard import FLEET, NO_SITE
from coordinator.fleet.maintenance import Window
from coordinator.fleet.node import Condition, NodeState, Shown
from coordinator.fleet.registry import Memory
from coordinator.fleet.selector_text import parse
from coordinator.fleet.tombstones import BELIEVED_AFTER_MS, Tombstone
from schemas.messages import Heartbeat, Presence, Status, StreamReport
from tests.fleet.world import RULES, World

HOLD = RULES.hold_ms
MINUTE = 60_000


def beat(cpu: float, seq: int = 1, **more: object) -> Heartbeat:
    return Heartbeat(1, 1, seq, cpu_percent=cpu, **more)  # type: ignore[arg-type]


# ---- conditions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpu", "before", "condition"),
    [
        (339.0, Condition.FINE, Condition.FINE),
        (340.0, Condition.FINE, Condition.BUSY),
        (300.0, Condition.BUSY, Condition.BUSY),  # until it is below the lower bound
        (279.0, Condition.BUSY, Condition.FINE),
    ],
)
def test_busy_is_a_share_of_all_cores_with_a_gap_between(cpu: float, before: Condition, condition: Condition) -> None:
    assert condition_of(beat(cpu), {"cores": 4.0}, before, ConditionRules()) == (condition, "")


@pytest.mark.parametrize(
    ("state", "fails"),
    [("running", False), ("stalled", False), ("ended", False), ("auth_failed", True), ("lost", True)],
)
def test_an_error_is_a_camera_or_an_engine_that_fails(state: str, fails: bool) -> None:
    said = beat(
        400.0, streams=[StreamReport("door", state="running"), StreamReport("gate", state=state, error="why")]
    )
    condition, problem = condition_of(said, {}, Condition.FINE, ConditionRules())
    assert (condition is Condition.ERROR) is fails
    assert problem == (f"gate: {state}, why" if fails else "")


def test_what_operators_see() -> None:
    world = World()
    world.born("gw", resources={"cores": 2.0})
    assert world.shown("gw") == "online"
    world.beat("gw", beat(190.0))
    assert world.shown("gw") == "busy"
    world.beat("gw", beat(190.0, 2, streams=[StreamReport("door", state="failed")]))
    assert (world.shown("gw"), world.fleet.nodes["gw"].problem) == ("error", "door: failed")
    world.beat("gw", beat(3.0, 3))
    assert world.shown("gw") == "online"
    world.status("gw", Presence.DRAINING)
    assert world.shown("gw") == "draining"
    world.will("gw")
    assert world.shown("gw") == "suspect"
    world.wait(HOLD)
    assert world.shown("gw") == "offline"
    assert world.fleet.counts() == {one.value: int(one is Shown.OFFLINE) for one in Shown}


def test_a_heartbeat_that_changes_nothing_needs_no_disk() -> None:
    world = World()
    world.born("gw")
    world.beat("gw", beat(3.0))
    world.beat("gw", beat(4.0, 2))
    draft = world.kept[-1]
    assert (draft.is_empty, list(draft.touched), list(draft.heartbeats)) == (True, ["gw"], ["gw"])
    assert world.fleet.nodes["gw"].heartbeat_seq == 2
    world.beat("gw", beat(400.0, 3))
    assert not world.kept[-1].is_empty, "it is busy now"


# ---- lost and back -------------------------------------------------------------------------------


def test_suspect_moves_no_work_offline_does_and_once() -> None:
    world = World()
    world.born("gw")
    assert (world.lost, world.back) == ([], ["gw"])
    world.will("gw")
    world.wait(HOLD - 1)
    assert world.lost == []
    world.wait(1)
    assert world.lost == ["gw"]
    world.wait(10 * MINUTE)
    world.born("gw", session=2)
    assert (world.lost, world.back) == (["gw"], ["gw", "gw"])
    assert world.told() == ["NodeOnline", "NodeRegistered", "NodeOffline", "NodeOnline"]


def test_a_clock_that_jumps_makes_nobody_silent() -> None:
    world = World()
    world.born("gw")
    for jump_ms in (86_400_000, -2 * 86_400_000):
        world.now = replace(world.now, utc_ms=world.now.utc_ms + jump_ms)
        world.wait(10_000)
    assert world.shown("gw") == "online"


def test_a_mass_loss_freezes_and_nobody_is_lost_until_it_is_over() -> None:
    world = World()
    names = world.many(30)
    for name in names:
        world.will(name)
    world.wait(5 * MINUTE)
    assert set(map(world.shown, names)) == {"suspect"}
    assert (world.lost, world.told("FailoverFrozen", "NodeOffline")) == ([], ["FailoverFrozen"])
    for name in names[:28]:
        world.born(name, session=2, site="north")
    world.wait(9_000)
    assert world.told("FailoverResumed", "NodeOffline") == [], "the last two may be on their way"
    world.wait(2_000)
    assert world.told("FailoverResumed") == ["FailoverResumed"], "the fleet's; nobody was told of its site's"
    world.wait(HOLD)
    assert sorted(world.lost) == names[28:] or set(world.lost) == set(names[28:])
    assert world.told("NodeFlapping") == [], "an outage of all is nobody's flapping"


def test_a_freeze_that_lasts_too_long_ends_and_who_is_away_is_lost() -> None:
    world = World()
    for name in world.many(30):
        world.will(name)
    world.wait(14 * MINUTE)
    assert world.lost == []
    world.wait(2 * MINUTE)
    assert len(world.lost) == 30
    assert world.fleet.guard.freezes == {}
    world.wait(20 * MINUTE)
    assert world.told("FailoverFrozen") == ["FailoverFrozen"], "not begun again by the same losses"


def test_a_goodbye_during_a_freeze_is_a_goodbye() -> None:
    world = World()
    names = world.many(30)
    for name in names[1:]:
        world.will(name)
    world.wait(1000)
    world.status(names[0], Presence.OFFLINE)
    assert world.lost == [names[0]]


def test_while_the_probe_is_lost_nobody_is() -> None:
    world = World()
    world.born("gw")
    world.fleet.guard.probe(ok=False, now_ms=world.now.steady_ms)
    world.will("gw")
    world.wait(MINUTE)
    assert (world.shown("gw"), world.lost) == ("suspect", [])
    world.fleet.guard.probe(ok=True, now_ms=world.now.steady_ms)
    world.wait(MINUTE)
    assert (world.shown("gw"), world.lost) == ("offline", ["gw"])


def test_a_freeze_outlives_the_coordinator() -> None:
    world = World()
    for name in world.many(30):
        world.will(name)
    world.wait(1000)
    frozen = {scope: one.reason for scope, one in world.fleet.guard.freezes.items()}
    again = World(nodes=list(world.fleet.nodes.values()), memory=Memory(freezes=frozen))
    again.wait(MINUTE)
    assert again.lost == []
    assert set(again.fleet.guard.freezes) == {"north", FLEET}


def test_sizes_are_the_nodes_that_are_not_offline() -> None:
    world = World()
    world.born("a", site="x")
    world.born("b")
    world.born("c", site="x")
    world.status("c", Presence.OFFLINE)
    assert world.fleet.sizes == Counter({FLEET: 2, "x": 1, NO_SITE: 1})
    world.born("b", session=2, site="x")
    assert world.fleet.sizes == Counter({FLEET: 2, "x": 2})


# ---- flapping ------------------------------------------------------------------------------------


def flap(world: World, times: int, away_ms: int = 2 * HOLD) -> None:
    for _ in range(times):
        session = world.fleet.nodes["gw"].session
        world.will("gw", session=session)
        world.wait(away_ms)
        world.born("gw", session=session + 1)


def test_a_flapping_node_is_told_once_and_once_when_it_is_steady() -> None:
    world = World()
    world.born("gw")
    flap(world, 2)
    assert world.told("NodeFlapping") == []
    before = len(world.events)
    flap(world, 5)
    assert [event.type for event in world.events[before:]] == ["NodeOffline", "NodeFlapping"]
    assert world.events[-1].data["losses"] == 3
    assert world.lost == ["gw"] * 3, "the third time it is lost it stays so while it flaps"
    assert world.back == ["gw"] * 3
    world.wait(60 * MINUTE, step_ms=5000)  # silent meanwhile: it went away for good
    assert world.told()[-1] == "NodeSteady"
    assert world.events[-1].data == {"node": "gw", "state": "offline"}
    assert world.fleet.nodes["gw"].flap.flaps is False


def test_a_node_that_becomes_steady_while_it_is_there_is_back() -> None:
    world = World()
    world.born("gw")
    flap(world, 3)
    for seq in range(1, 400):
        world.beat("gw", Heartbeat(1, world.fleet.nodes["gw"].session, seq))
        world.wait(10_000, step_ms=5000)
    assert world.events[-1].data == {"node": "gw", "state": "online"}
    assert world.back[-1:] == ["gw"] and len(world.back) == len(world.lost) + 1
    assert world.told("NodeOnline") == ["NodeOnline"] * 3


def test_blinks_within_the_hold_flap_too_and_restarts_in_order_do_not() -> None:
    world = World()
    world.born("gw")
    flap(world, 3, away_ms=500)
    assert world.told("NodeFlapping", "NodeOffline") == ["NodeFlapping"]
    calm = World()
    calm.born("gw")
    for boot in range(1, 20):
        calm.status("gw", Presence.OFFLINE, boot)
        calm.born("gw", boot + 1)
    assert calm.told("NodeFlapping") == []


# ---- twins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("boots", [(5, 9), (9, 5), (7, 7)])
def test_two_agents_of_one_name_are_told_whichever_has_the_higher_numbers(boots: tuple[int, int]) -> None:
    world = World()
    for session in (1, 2, 3):
        for boot, instance in zip(boots, "ab", strict=True):
            hardware = {"host": f"box-{instance}", "arch": "x86_64"}
            world.born("gw", boot, session, instance=instance, hardware=hardware)
    (event,) = (event for event in world.events if event.type == "IdentityConflict")
    assert {event.data["one"]["instance"], event.data["other"]["instance"]} == {"a", "b"}
    assert {event.data["one"]["hardware"], event.data["other"]["hardware"]} == {"box-a, x86_64", "box-b, x86_64"}
    conflict = world.fleet.nodes["gw"].conflict
    assert conflict is not None and conflict.found_utc_ms == world.now.utc_ms


def test_restarts_and_retained_copies_are_no_twins() -> None:
    world = World()
    for boot in range(1, 20):
        world.born("gw", boot)
        world.born("gw", max(1, boot - 1), live=False)
    assert world.told("IdentityConflict") == []


# ---- maintenance ---------------------------------------------------------------------------------


def window(world: World, selector: str, for_ms: int, from_ms: int = 0) -> str:
    begin = world.now.utc_ms + from_ms
    made = Window("m-1", parse(selector), begin, begin + for_ms)
    world.do(lambda draft: draft.add_window(made, world.now))
    return made.id


def test_a_node_in_maintenance_is_not_lost_and_its_absence_is_no_outage() -> None:
    world = World()
    names = world.many(30)
    window(world, "site = north", 10 * MINUTE)
    assert set(map(world.shown, names)) == {"maintenance"}
    for name in names:
        world.will(name)
    world.wait(5 * MINUTE)
    assert {world.fleet.nodes[name].state for name in names} == {NodeState.OFFLINE}
    assert (world.lost, world.told("NodeOffline", "FailoverFrozen", "NodeFlapping")) == ([], [])
    for name in names[1:]:
        world.born(name, session=2, site="north")
    assert world.told("NodeOnline") == ["NodeOnline"] * 30, "those of the beginning"
    for seq in range(1, 40):
        for name in names[1:]:
            world.beat(name, Heartbeat(1, 2, seq))
        world.wait(10_000)
    assert world.lost == [names[0]], "who is not back when it ends is lost"
    assert world.events[-1].data["reason"] == "its maintenance is over and it is not back"
    assert world.fleet.windows == {} and len(world.fleet.selections) == 0


def test_a_window_begins_and_ends_by_the_calendar_and_can_be_ended() -> None:
    world = World()
    world.born("gw", labels={"line": "3"})
    name = window(world, "line = 3", 10 * MINUTE, from_ms=20_000)
    world.wait(19_999)
    assert world.shown("gw") == "online"
    world.wait(1)
    assert world.shown("gw") == "maintenance"
    world.do(lambda draft: draft.end_window(name, world.now))
    assert world.shown("gw") == "online"


def test_a_window_follows_the_calendar_when_its_clock_jumps() -> None:
    world = World()
    world.born("gw")
    window(world, "name = gw", 10 * MINUTE, from_ms=10_000)
    day_ms = 24 * 60 * MINUTE
    for jump_ms, state in ((11_000, "maintenance"), (-day_ms, "online"), (day_ms, "maintenance"), (day_ms, "online")):
        world.now = replace(world.now, utc_ms=world.now.utc_ms + jump_ms)
        world.wait(1)
        assert world.shown("gw") == state


def test_a_node_joins_a_window_by_a_new_label() -> None:
    world = World()
    world.born("gw")
    window(world, "line = 3", 10 * MINUTE)
    assert world.shown("gw") == "online"
    world.born("gw", labels={"line": "3"})
    assert world.shown("gw") == "maintenance"


def test_windows_come_back_with_the_coordinator() -> None:
    made = Window("m-1", parse("name = gw"), 0, 2**50)
    world = World(memory=Memory(windows={"m-1": made}))
    world.born("gw")
    assert world.shown("gw") == "maintenance"


# ---- deregistered --------------------------------------------------------------------------------


def deregistered(*, ban: bool = False) -> World:
    world = World()
    world.born("gw", 3, 4, site="north")
    world.do(lambda draft: draft.deregister("gw", world.now, ban=ban, by="me"))
    assert "gw" not in world.fleet.nodes
    assert world.fleet.sizes == Counter()
    return world


def test_what_is_late_or_kept_brings_nobody_back() -> None:
    world = deregistered()
    assert world.lost == ["gw"] and world.told()[-1] == "NodeDeregistered"
    assert not world.will("gw", 3, 4)
    assert not world.hear("gw", Status(Presence.ONLINE, 3, 5, 7), live=False)
    assert not world.born("gw", 3, 5, live=False)
    assert not world.born("gw", 3, 4, instance="gw-3")
    assert not world.beat("gw", Heartbeat(3, 4, 99))
    assert "gw" not in world.fleet.nodes


def test_a_live_birth_of_a_later_connection_brings_it_back() -> None:
    world = deregistered()
    assert world.hear("gw", Status(Presence.ONLINE, 3, 5, 7)), "its birth follows: what it says may stand"
    assert "gw" not in world.fleet.nodes
    assert world.beat("gw", Heartbeat(3, 5, 1)), "it is asked for its birth"
    assert "gw" not in world.fleet.nodes
    assert world.born("gw", 3, 5)
    assert world.shown("gw") == "online"
    assert world.told()[-3:] == ["NodeDeregistered", "NodeOnline", "NodeRegistered"]
    assert world.fleet.tombstones == {}


def test_a_new_box_with_low_numbers_is_back_too() -> None:
    assert deregistered().born("gw", 1, 1, instance="new")
    world = deregistered()
    stone = world.fleet.tombstones["gw"]
    assert not stone.gives_way(1, 1, "", world.now.utc_ms, live=True)
    assert stone.gives_way(1, 1, "", world.now.utc_ms + BELIEVED_AFTER_MS, live=True)


def test_a_banned_node_stays_out_until_it_is_admitted() -> None:
    world = deregistered(ban=True)
    assert not world.born("gw", 9, 9)
    assert not world.do(lambda draft: draft.admit("gw-2", world.now))
    assert world.do(lambda draft: draft.admit("gw", world.now))
    assert not world.born("gw", 3, 4, instance="gw-3"), "what is late stays late"
    assert world.born("gw", 3, 5)


def test_deregistered_twice_it_keeps_the_later_numbers() -> None:
    world = deregistered()
    world.do(lambda draft: draft.deregister("gw", world.now, ban=True, by="me"))
    assert (world.fleet.tombstones["gw"].boot, world.fleet.tombstones["gw"].banned) == (3, True)


def test_gone_and_back_in_one_draft() -> None:
    world = World()
    world.born("gw", 3, 4)

    def both(draft: object) -> None:
        draft.deregister("gw", world.now, ban=False, by="")  # type: ignore[attr-defined]
        assert not draft.is_registered("gw")  # type: ignore[attr-defined]
        status = Status(Presence.ONLINE, 3, 5, 7)
        draft.status("gw", status, world.now, live=True)  # type: ignore[attr-defined]
        birth = replace(world.fleet.nodes["gw"].birth, session=5)  # type: ignore[type-var]
        assert draft.birth("gw", birth, world.now, live=True)  # type: ignore[attr-defined]

    world.do(both)
    assert world.shown("gw") == "online" and world.fleet.tombstones == {}


PAIRS = st.tuples(st.integers(0, 3), st.integers(0, 3))


@given(PAIRS, PAIRS, st.sampled_from(["", "a", "b"]), st.booleans(), st.booleans())
def test_only_what_is_live_and_anew_gives_way(
    known: tuple[int, int], said: tuple[int, int], instance: str, live: bool, banned: bool
) -> None:
    stone = Tombstone("gw", *known, "a", 0, banned)
    gives_way = stone.gives_way(*said, instance, 1, live=live)
    assert not gives_way or (live and not banned)
    assert gives_way == (live and not banned and (said > known or instance == "b"))


# ---- any order of anything -----------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["birth", "will", "goodbye", "wait", "beat", "gone"]), st.integers(0, 4), st.integers(1, 3)
    ),
    max_size=40,
)


@given(STEPS)
def test_counts_and_hooks_agree_with_the_table(steps: list[tuple[str, int, int]]) -> None:
    world = World()
    for what, n, session in steps:
        name = f"gw-{n}"
        match what:
            case "birth":
                world.born(name, 1, session, site="ab"[n % 2])
            case "will":
                world.will(name, 1, session)
            case "goodbye":
                world.status(name, Presence.OFFLINE, 1, session)
            case "beat":
                world.beat(name, Heartbeat(1, session, 1, cpu_percent=100.0 * session))
            case "gone":
                world.do(lambda draft, name=name: draft.deregister(name, world.now, ban=False, by=""))  # type: ignore[misc]
            case _:
                world.wait(1000 * session, step_ms=1000)
    nodes = world.fleet.nodes
    assert +Counter(world.fleet.counts()) == Counter(node.shown.value for node in nodes.values())
    present = [node for node in nodes.values() if node.state is not NodeState.OFFLINE]
    assert world.fleet.sizes[FLEET] == len(present)
    for name, node in nodes.items():
        is_back = [*reversed([one for one in world.back if one == name])]
        assert node.lost or is_back or node.boot == -1
        assert node.state is not NodeState.OFFLINE or node.lost
