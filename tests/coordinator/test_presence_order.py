"""Presence: any order of late and duplicated messages ends in the same state; silence and wills take their time."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.fleet.registry import (
    RECOUNT_AFTER_MS,
    TRANSITIONS,
    Fleet,
    LivenessRules,
    Moment,
    NodeState,
    Signal,
)
from schemas.messages import Birth, Heartbeat, Presence, Status

RULES = LivenessRules()
ON = Presence.ONLINE


class World:
    """A fleet under a hand-moved clock."""

    def __init__(self) -> None:
        self.now = Moment(1_000, 5_000_000)
        self.fleet = Fleet([], RULES, self.now.steady_ms)
        self.fleet.broker(heard=True, now_ms=self.now.steady_ms)
        self.events: list[str] = []

    def wait(self, ms: int) -> "World":
        self.now = Moment(self.now.steady_ms + ms, self.now.utc_ms + ms)
        draft = self.fleet.draft()
        draft.sweep(self.now)
        self.events += [event.type for event in draft.events]
        self.fleet.adopt(draft)
        return self

    def hear(self, document: Status | Birth | Heartbeat, *, live: bool = True) -> "World":
        draft = self.fleet.draft()
        match document:
            case Status():
                draft.status("gw", document, self.now, live=live)
            case Birth():
                draft.birth("gw", document, self.now, live=live)
            case Heartbeat():
                draft.heartbeat("gw", document, self.now)
        self.events += [event.type for event in draft.events]
        self.fleet.adopt(draft)
        return self

    @property
    def state(self) -> NodeState:
        return self.fleet.nodes["gw"].state


def online(boot: int = 1, session: int = 1) -> Status:
    return Status(ON, boot, session, 7)


def will(boot: int = 1, session: int = 1) -> Status:
    return Status(Presence.OFFLINE, boot, session, 0, "connection lost")


def goodbye(boot: int = 1, session: int = 1) -> Status:
    return Status(Presence.OFFLINE, boot, session, 7, "stopped")


KEYS = st.tuples(st.integers(1, 3), st.integers(1, 3))
MESSAGES = st.one_of(
    st.builds(lambda key: online(*key), KEYS),
    st.builds(lambda key: will(*key), KEYS),
    st.builds(lambda key: goodbye(*key), KEYS),
    st.builds(lambda key: Status(Presence.DRAINING, *key, 7), KEYS),
    st.builds(lambda key: Birth(*key, name=f"{key}"), KEYS),
    st.builds(lambda key, seq: Heartbeat(*key, seq=seq), KEYS, st.integers(1, 3)),
)


@given(st.lists(MESSAGES, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_any_order_ends_in_the_same_state(messages: list[Status | Birth | Heartbeat], random: Random) -> None:
    def end(order: list[Status | Birth | Heartbeat]) -> tuple[object, ...]:
        world = World()
        for message in order:
            world.hear(message)
        node = world.wait(RULES.hold_ms).fleet.nodes["gw"]
        return node.state, node.boot, node.session, node.word

    shuffled = [*messages, *random.sample(messages, k=len(messages) // 2)]
    random.shuffle(shuffled)
    assert end(shuffled) == end(messages)


def test_a_late_will_of_an_older_session_changes_nothing() -> None:
    world = World().hear(online(1, 2)).hear(will(1, 1)).wait(RULES.hold_ms)
    assert world.state is NodeState.ONLINE


def test_a_will_makes_suspect_and_after_the_hold_offline() -> None:
    world = World().hear(online()).hear(will())
    assert world.state is NodeState.SUSPECT
    assert world.wait(RULES.hold_ms - 1).state is NodeState.SUSPECT
    assert world.wait(1).state is NodeState.OFFLINE
    assert world.events == ["NodeOnline", "NodeOffline"]


def test_back_within_the_hold_nobody_is_told() -> None:
    world = World().hear(online()).hear(will()).wait(1000).hear(online(1, 2)).wait(RULES.hold_ms)
    assert (world.state, world.events) == (NodeState.ONLINE, ["NodeOnline"])


def test_a_goodbye_is_offline_at_once() -> None:
    assert World().hear(online()).hear(goodbye()).state is NodeState.OFFLINE


def test_silence_makes_suspect_then_offline_and_a_heartbeat_undoes_it() -> None:
    world = World().hear(online())
    for seq in range(1, 5):
        world.wait(15_000).hear(Heartbeat(1, 1, seq))
    assert world.wait(RULES.silent_after_ms - 1).state is NodeState.ONLINE
    assert world.wait(1).state is NodeState.SUSPECT
    assert world.wait(RULES.hold_ms).state is NodeState.OFFLINE
    assert world.hear(Heartbeat(1, 1, 9)).state is NodeState.ONLINE


def test_a_retained_copy_is_no_sign_of_life() -> None:
    world = World().hear(online()).wait(RULES.silent_after_ms).wait(RULES.hold_ms)
    assert world.hear(online(), live=False).state is NodeState.OFFLINE


def test_silence_does_not_count_while_the_broker_is_away() -> None:
    world = World().hear(online())
    world.fleet.broker(heard=False, now_ms=world.now.steady_ms)
    assert world.wait(10 * RULES.silent_after_ms).state is NodeState.ONLINE
    world.fleet.broker(heard=True, now_ms=world.now.steady_ms)
    assert world.wait(RULES.silent_after_ms - 1).state is NodeState.ONLINE
    assert world.wait(1).state is NodeState.SUSPECT


def test_a_node_that_lost_its_count_is_believed_after_a_while_offline() -> None:
    world = World().hear(online(9, 9)).hear(goodbye(9, 9))
    assert world.hear(online(1, 1)).state is NodeState.OFFLINE
    world.wait(RECOUNT_AFTER_MS)
    assert world.hear(online(1, 1), live=False).state is NodeState.OFFLINE
    assert world.hear(online(1, 1)).state is NodeState.ONLINE


def test_the_first_birth_registers() -> None:
    world = World().hear(online()).hear(Birth(1, 1, site="a")).hear(Birth(1, 1, site="b"))
    assert world.events == ["NodeOnline", "NodeRegistered"]
    birth = world.fleet.nodes["gw"].birth
    assert birth is not None and birth.site == "b"


def test_nodes_of_an_earlier_run_get_the_full_time_to_speak() -> None:
    world = World().hear(online())
    later = Fleet([replace(world.fleet.nodes["gw"], heard_ms=0)], RULES, 900_000)
    later.broker(heard=True, now_ms=900_000)
    assert later.due(900_000 + RULES.silent_after_ms - 1) == []
    assert [node.name for node in later.due(900_000 + RULES.silent_after_ms)] == ["gw"]


def test_reminders_stay_one_a_node() -> None:
    world = World().hear(online())
    for seq in range(1, 200):
        world.wait(5_000).hear(Heartbeat(1, 1, seq))
    assert len(world.fleet._deadlines) <= 2


@pytest.mark.parametrize("state", NodeState)
def test_every_state_has_a_row_and_a_goodbye_always_ends_offline(state: NodeState) -> None:
    assert TRANSITIONS[state].get(Signal.GOODBYE, state) is NodeState.OFFLINE
