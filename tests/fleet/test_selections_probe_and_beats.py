"""Selections kept from what changes, the probe through the broker, and heartbeats on their way to the disk."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.fleet.beats import Beats
from coordinator.fleet.facts import LazyFacts, changed_facts, facts_of
from coordinator.fleet.node import Node, NodeState
from coordinator.fleet.probe import Probe, ProbeRules
from coordinator.fleet.selection import Selections, facts_changed
from coordinator.fleet.selector_text import parse
from schemas.messages import Birth, Heartbeat
from tests.fleet.test_selectors import BIRTH

# ---- selections ----------------------------------------------------------------------------------

SELECTORS = [
    "all",
    "site = a",
    "site != a",
    "line = 1 and state = online",
    "not line exists",
    "boot >= 2",
    "name = n1",
]
NODES = st.builds(
    lambda number, state, boot, site, line: Node(
        f"n{number}", state, boot, birth=Birth(site=site, labels={"line": line} if line else {})
    ),
    st.integers(0, 3), st.sampled_from(NodeState), st.integers(1, 3), st.sampled_from(["a", "b", ""]),
    st.sampled_from(["", "1", "2"]),
)  # fmt: skip


SAID = st.fixed_dictionaries(
    {
        "session": st.integers(1, 2),
        "site": st.sampled_from(["a", "b"]),
        "labels": st.sampled_from([{}, {"line": "1"}, {"line": "2"}]),
        "location": st.sampled_from([{}, {"lat": 48.1, "lon": 11.5}, {"lat": 48.1}]),
        "functions": st.sampled_from([[], ["count"]]),
        "resources": st.sampled_from([{}, {"cores": 4}]),
        "versions": st.sampled_from([{}, {"agent": "1.0.0"}]),
    }
)
SAYING = st.builds(
    lambda state, boot, said: Node("gw", state, boot, birth=None if said is None else Birth(boot=boot, **said)),
    st.sampled_from(NodeState), st.integers(1, 2), st.none() | SAID,
)  # fmt: skip


@given(SAYING, SAYING)
def test_the_facts_that_changed_are_found_the_quick_way_too(before: Node, after: Node) -> None:
    assert facts_changed(before, after) == changed_facts(facts_of(before), facts_of(after))


@given(st.lists(st.tuples(NODES, st.booleans()), max_size=25))
def test_kept_from_changes_it_is_what_a_look_at_every_node_finds(steps: list[tuple[Node, bool]]) -> None:
    nodes: dict[str, Node] = {}
    selections, joins = Selections(), Counter[tuple[str, str]]()
    for text in SELECTORS:
        selection = selections.add(text, parse(text), [])
        selection.on_change = lambda name, joined, text=text: joins.update({(text, name): 1 if joined else -1})  # type: ignore[misc]
    for node, leaves in steps:
        before = nodes.pop(node.name, None)
        if leaves:
            selections.changed(node.name, before, None)
        else:
            nodes[node.name] = node
            selections.changed(node.name, before, node)
    for text in SELECTORS:
        meant = {node.name for node in nodes.values() if parse(text).matches(facts_of(node))}
        assert selections[text].members == meant
        assert {name for (one, name), count in joins.items() if one == text and count} == meant
        assert set(joins.values()) <= {0, 1}


def test_only_selectors_that_ask_for_a_changed_fact_are_asked_again() -> None:
    selections = Selections()
    for n in range(100):
        selections.add(f"line-{n}", parse(f"line = {n}"), [])
    selections.add("state", parse("state = online"), [])
    node = Node("gw", NodeState.ONLINE, 1, 1, birth=Birth(1, 1, labels={"line": "7"}))
    assert selections.changed("gw", None, node) == 101
    assert selections.changed("gw", node, replace(node, last_seen_utc_ms=9, heartbeat_seq=3)) == 0
    assert selections.changed("gw", node, replace(node, birth=replace(BIRTH, labels={"line": "7"}))) == 0
    assert selections.changed("gw", node, replace(node, state=NodeState.SUSPECT)) == 1
    assert selections.changed("gw", node, replace(node, birth=Birth(1, 2, labels={"line": "8"}))) == 100
    selections.remove("state")
    assert selections.changed("gw", node, replace(node, state=NodeState.OFFLINE)) == 0


def test_facts_made_when_asked_for_are_the_facts() -> None:
    for node in (Node("gw-1", NodeState.ONLINE, 3, birth=BIRTH), Node("gw-2")):
        lazy, all_of_them = LazyFacts(node), facts_of(node)
        assert dict(lazy) == all_of_them and len(lazy) == len(all_of_them)
        assert all(lazy.get(name) == fact for name, fact in all_of_them.items())
        for absent in ("label.absent", "hardware.", "nonsense", "label", "resources.gpu"):
            assert lazy.get(absent) is None and absent not in lazy


# ---- the probe -----------------------------------------------------------------------------------


def test_a_probe_that_comes_back_in_time_is_never_lost() -> None:
    probe = Probe(ProbeRules(10_000, 15_000))
    probe.link(up=True, now_ms=0)
    for now_ms in range(0, 100_000, 500):
        if probe.send(now_ms) is not None:
            assert now_ms % 10_000 == 0
        elif now_ms % 10_000 == 9_500:
            probe.back(1 + now_ms // 10_000)
        assert not probe.is_lost(now_ms)


def test_one_that_does_not_is_lost_until_the_newest_is_back() -> None:
    probe = Probe(ProbeRules(10_000, 15_000))
    assert not probe.is_lost(10**9), "nothing was sent yet: the broker may never have been there"
    probe.link(up=True, now_ms=0)
    assert probe.send(0) == 1
    assert not probe.is_lost(14_999)
    assert probe.is_lost(15_000)
    assert probe.send(15_000) == 2
    probe.back(1)
    assert probe.is_lost(15_001), "an old one says nothing of now"
    probe.back(2)
    assert not probe.is_lost(15_001)


def test_a_link_that_is_away_for_long_is_a_lost_probe_and_a_short_restart_is_none() -> None:
    probe = Probe(ProbeRules(10_000, 15_000))
    probe.link(up=True, now_ms=0)
    assert probe.send(0) == 1
    probe.back(1)
    probe.link(up=False, now_ms=5_000)
    probe.link(up=False, now_ms=9_000)
    assert probe.send(12_000) is None
    assert not probe.is_lost(19_999) and probe.is_lost(20_000)
    probe.link(up=True, now_ms=21_000)
    assert probe.send(21_000) == 2
    probe.back(2)
    assert not probe.is_lost(21_001)


# ---- heartbeats ----------------------------------------------------------------------------------


def test_of_each_node_the_newest_is_written_and_not_too_often() -> None:
    beats = Beats(2_000, 10)
    assert not beats.is_due(10**9)
    for seq in range(5):
        beats.heard("gw", Heartbeat(seq=seq), 100 + seq)
    assert beats.take(1) == {"gw": (Heartbeat(seq=4), 104)}
    beats.heard("gw", Heartbeat(seq=5), 200)
    beats.heard("gw", None, 300)  # heard otherwise
    assert beats.take(2_000) == {}
    assert beats.take(2_001) == {"gw": (Heartbeat(seq=5), 300)}


def test_where_others_wait_for_the_disk_few_go() -> None:
    beats = Beats(2_000, 100)
    for n in range(300):
        beats.heard(f"n{n}", None, 1)
    assert len(beats.take(1, busy=True)) == 10
    assert beats.take(2, busy=True) == {}
    assert len(beats.take(501)) == 100
    beats.hurry()
    assert len(beats.take(502)) == 190


def test_of_many_neighbours_go_together_and_all_get_their_turn() -> None:
    beats = Beats(2_000, 10)
    written = Counter[str]()
    for turn in range(8):
        for n in range(40):
            beats.heard(f"n{n}", Heartbeat(seq=turn), turn)
        taken = beats.take(turn * 2_000)
        assert list(taken) == sorted(f"n{n}" for n in range(40))[turn % 4 * 10 :][:10]
        written.update(taken.keys())
    assert set(written.values()) == {2}
    beats.forget([f"n{n}" for n in range(40)])
    assert not beats.is_due(10**9)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=60), st.integers(1, 4))
def test_no_heartbeat_waits_more_than_a_round(steps: list[tuple[str, bool]], rows_max: int) -> None:
    beats, waiting = Beats(0, rows_max), dict[str, int]()
    for at, (node, gone) in enumerate(steps):
        if gone:
            beats.forget([node])
            waiting.pop(node, None)
        else:
            beats.heard(node, Heartbeat(seq=at), at)
            waiting[node] = at
        taken = beats.take(at)
        assert len(taken) == min(rows_max, len(waiting))
        for name, (beat, utc_ms) in taken.items():
            assert beat == Heartbeat(seq=waiting[name]) and utc_ms == waiting.pop(name)
    left = [name for _ in range(8) for name in beats.take(len(steps))]
    assert sorted(left) == sorted(waiting)


@pytest.mark.parametrize("resources", [{"cores": -1.0}, {"memory_mb": 1e300}, {"gpu": float("nan")}, {"tpu": "many"}])
def test_resources_that_cannot_be_are_refused_by_their_name(resources: dict[str, Any]) -> None:
    from coordinator.ingest.decode import Decoder
    from coordinator.store.store import RefusedMessage
    from runtime.mqtt import Delivery
    from schemas.topics import TopicSpace

    (name, value), text = next(iter(resources.items())), '{"boot": 1, "resources": {"%s": %s}}'
    payload = (text % (name, f'"{value}"' if isinstance(value, str) else repr(value).replace("nan", "NaN"))).encode()
    said = Decoder(TopicSpace()).decode(Delivery("edge/v1/gw-1/birth", payload, 1, False, 1), 7)
    assert isinstance(said, RefusedMessage)
    assert "NaN" in said.reason or f"resources.{name}" in said.reason, said.reason
