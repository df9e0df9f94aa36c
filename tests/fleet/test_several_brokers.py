"""A fleet at several brokers: silence counts by broker, and who moves is where it was last heard."""

import pytest

from coordinator.fleet.guard import FLEET, Guard, scope_of_broker
from coordinator.fleet.node import NOWHERE
from coordinator.fleet.registry import Fleet, LivenessRules, Moment, NodeState
from schemas.messages import Birth, Heartbeat, Presence, Status

RULES = LivenessRules(heartbeat_ms=1000, missed_max=3, hold_ms=1000)


class Two:
    """Two brokers, `north` and `south`, under a hand-moved clock."""

    def __init__(self, fleet: Fleet | None = None) -> None:
        self.now = Moment(10_000, 5_000_000)
        self.fleet = fleet or Fleet([], RULES, self.now.steady_ms, brokers=("north", "south"))
        self.told: list[tuple[str, str]] = []
        for index in (0, 1):
            self.fleet.broker(heard=True, now_ms=self.now.steady_ms, index=index)

    def born(self, name: str, broker: int, session: int = 1, *, live: bool = True) -> None:
        draft = self.fleet.draft()
        draft.status(name, Status(Presence.ONLINE, 1, session, 7), self.now, live=live, broker=broker)
        draft.birth(name, Birth(1, session, instance=name), self.now, live=live, broker=broker)
        self.fleet.adopt(draft)

    def beat(self, name: str, broker: int, seq: int, session: int = 1) -> None:
        draft = self.fleet.draft()
        draft.heartbeat(name, Heartbeat(1, session, seq), self.now, broker)
        self.fleet.adopt(draft)

    def leave(self, name: str, broker: int, session: int) -> None:
        draft = self.fleet.draft()
        draft.status(name, Status(Presence.OFFLINE, 1, session, 7, "moved"), self.now, live=True, broker=broker)
        self.fleet.adopt(draft)

    def wait(self, ms: int) -> None:
        for _ in range(ms // 100):
            self.now = Moment(self.now.steady_ms + 100, self.now.utc_ms + 100)
            draft = self.fleet.draft()
            draft.sweep(self.now)
            self.told += [(event.type, event.node) for event in draft.events]
            self.fleet.adopt(draft)

    def state(self, name: str) -> NodeState:
        return self.fleet.nodes[name].state


def test_while_a_broker_is_not_heard_its_nodes_are_not_taken_for_lost() -> None:
    two = Two()
    two.born("a", 0)
    two.born("b", 1)
    two.fleet.broker(heard=False, now_ms=two.now.steady_ms, index=1)
    two.wait(60_000)
    assert (two.state("a"), two.state("b")) == (NodeState.OFFLINE, NodeState.ONLINE)
    two.fleet.broker(heard=True, now_ms=two.now.steady_ms, index=1)
    two.wait(3_000)
    assert two.state("b") is NodeState.ONLINE  # its silence counts from now on
    two.wait(3_000)
    assert two.state("b") is NodeState.OFFLINE


def test_a_node_that_moves_is_where_it_was_last_heard() -> None:
    two = Two()
    two.born("a", 0)
    assert two.fleet.where("a") == 0
    two.born("a", 1, session=2)
    two.leave("a", 0, session=1)  # the goodbye of the session before
    assert (two.fleet.where("a"), two.state("a")) == (1, NodeState.ONLINE)
    two.born("a", 0, session=1, live=False)  # what its former broker has kept
    assert two.fleet.where("a") == 1
    two.fleet.broker(heard=False, now_ms=two.now.steady_ms, index=0)
    two.wait(10_000)
    assert two.state("a") is NodeState.OFFLINE  # it is silent at a broker that is heard


def test_a_node_of_an_earlier_run_is_lost_only_while_all_are_heard() -> None:
    before = Two()
    before.born("a", 1)
    node = before.fleet.nodes["a"]
    after = Two(Fleet([node], RULES, 10_000, brokers=("north", "south")))
    after.fleet.nodes["a"] = kept = type(node)(**{**{n: getattr(node, n) for n in node.__slots__}, "broker": NOWHERE})
    assert kept.broker == after.fleet.where("a") == NOWHERE
    after.fleet.broker(heard=False, now_ms=10_000, index=0)
    after.wait(20_000)
    assert after.state("a") is NodeState.ONLINE
    after.beat("a", 1, 2)
    after.wait(20_000)
    assert after.state("a") is NodeState.OFFLINE


def test_a_probe_that_does_not_come_back_freezes_the_nodes_of_its_broker_alone() -> None:
    two = Two()
    for name, broker in (("a", 0), ("b", 1)):
        two.born(name, broker)
    two.fleet.guard.probe(ok=False, now_ms=two.now.steady_ms, scope=two.fleet.scope(1))
    two.wait(8_000)
    assert (two.state("a"), two.state("b")) == (NodeState.OFFLINE, NodeState.SUSPECT)
    assert ("FailoverFrozen", "(broker south)") in two.told
    two.beat("b", 1, 2)
    two.fleet.guard.probe(ok=True, now_ms=two.now.steady_ms, scope=two.fleet.scope(1))
    for seq in range(3, 70):
        two.wait(1_000)
        two.beat("b", 1, seq)
    assert ("FailoverResumed", "(broker south)") in two.told
    assert two.state("b") is NodeState.ONLINE


def test_with_one_broker_the_probe_freezes_everything() -> None:
    fleet = Fleet([], RULES, 0)
    assert fleet.scope(0) == FLEET
    assert fleet.where("anybody") == 0


@pytest.mark.parametrize(("broker", "held"), [("(broker a)", True), ("(broker b)", False), (FLEET, False)])
def test_a_freeze_of_a_broker_holds_its_nodes(broker: str, held: bool) -> None:
    guard = Guard()
    guard.probe(ok=False, now_ms=0, scope=scope_of_broker("a"))
    guard.tick({}, 0)
    assert (guard.holds("site", broker) is not None) is held
