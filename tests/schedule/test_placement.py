"""Where replicas go, who gives way, and why not elsewhere: small fleets, and any selector against each node."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.fleet.facts import facts_of
from coordinator.fleet.node import Node, NodeState, Word
from coordinator.fleet.selector_text import parse
from coordinator.schedule.index import Index, needs
from coordinator.schedule.placement import Ask, choose, ever, why_not, why_not_at
from coordinator.schedule.preemption import Lower, make_room
from coordinator.schedule.state import Phase
from coordinator.schedule.workload import Spread, selector_of
from schemas.messages import Birth, Heartbeat
from tests.schedule.yard import Yard, born, workload


def index_of(**births: Birth) -> Index:
    index = Index()
    for name, birth in births.items():
        index.put(Node(name, NodeState.ONLINE, 1, 1, birth=birth))
    return index


def ask(index: Index, count: int = 1, spread: Spread | None = None, **changes: Any) -> Ask:
    given = workload(**changes)
    index.watch("w", selector_of(given))
    return Ask("w", needs(given.resources), count, spread)


def names(index: Index, slots: list[int]) -> list[str]:
    return [index.names[slot] for slot in slots]


def test_the_least_loaded_site_comes_first_and_in_it_the_node_with_most_left() -> None:
    index = index_of(a1=born(8, site="a"), a2=born(4, site="a"), b1=born(4, site="b"), b2=born(4, site="b"))
    index.occupy(index.slots["a2"], (3.0, 0, 0, 0, 0))
    assert names(index, choose(index, ask(index, 1))) == ["b1"]
    index.beat("b1", Heartbeat(cpu_percent=120.0))
    index.beat("b2", Heartbeat(cpu_percent=160.0))
    assert names(index, choose(index, ask(index, 3))) == ["b1", "a1", "b2"]


def test_a_load_that_hardly_changes_is_no_news() -> None:
    index = index_of(a=born(4))
    for percent, known in ((200.0, 0.5), (230.0, 0.5), (241.0, 0.6025), (210.0, 0.6025)):
        index.beat("a", Heartbeat(cpu_percent=percent))
        assert index.load[0] == pytest.approx(known)


@pytest.mark.parametrize(
    ("spread", "count", "sites"),
    [
        (None, 6, "aaabbc"),
        (Spread(max=1), 6, "abc"),
        (Spread(max=2), 6, "aabbc"),
        (Spread(even=True), 3, "abc"),
        (Spread(even=True), 5, "aabbc"),
        (Spread("line", max=2), 6, "abcc"),
    ],
)
def test_spread(spread: Spread | None, count: int, sites: str) -> None:
    at = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b", "c1": "c"}
    births = {name: born(4, site=site, labels={"line": "1" if site != "c" else "2"}) for name, site in at.items()}
    index = index_of(**births)
    found = names(index, choose(index, ask(index, count, spread)))
    if spread is not None and spread.by == "line":
        lines = [births[name].labels["line"] for name in found]
        assert (lines.count("1"), lines.count("2")) == (2, 1)
    else:
        assert "".join(sorted(at[name] for name in found)) == sites


def test_what_is_there_already_counts_for_the_spread() -> None:
    index = index_of(a1=born(site="a"), a2=born(site="a"), b1=born(site="b"))
    asked = ask(index, 3, Spread(max=1))
    asked = Ask("w", asked.need, 3, asked.spread, {"a": 1}, [index.slots["a1"]])
    assert names(index, choose(index, asked)) == ["b1"]


def test_who_is_not_chosen_and_why() -> None:
    index = index_of(
        ok=born(4), small=born(0.5), full=born(4), gpu=born(4, labels={"x": "1"}), away=born(4), drained=born(4)
    )
    index.occupy(index.slots["full"], (3.5, 0, 0, 0, 0))
    index.put(Node("away", NodeState.SUSPECT, 1, 1, birth=born(4)))
    index.put(Node("unborn", NodeState.ONLINE, 1, 1))
    index.drain("drained", drained=True)
    asked = ask(index, 9, selector="not x = 1")
    assert names(index, choose(index, asked)) == ["ok"]
    assert dict(why_not(index, asked)) == {
        "is not selected": 1, "has less than 1 cores": 2, "is away": 1, "is drained": 1,
        "has less than 1 cores left": 1,
    }  # fmt: skip
    assert ever(index, asked) == 4
    assert why_not_at(index, asked, index.slots["ok"]) == []
    assert why_not_at(index, asked, index.slots["full"]) == ["0.5 of its 4 cores are left, and 1 are needed"]
    assert why_not_at(index, asked, index.slots["small"]) == ["it has 0.5 cores, and 1 are needed"]
    assert why_not_at(index, asked, index.slots["gpu"]) == ["it is not selected"]


def test_containers_go_to_nodes_that_run_them_and_to_those_that_do_not_say() -> None:
    says = {"podman": "podman", "none": "", "old": None, "docker": "docker"}
    index = index_of(
        **{name: born(hardware={} if one is None else {"containers": one}) for name, one in says.items()}
    )
    contained = replace(ask(index, 9), contained=True)
    assert set(names(index, choose(index, contained))) == {"podman", "old", "docker"}
    assert why_not(index, contained) == {"runs no containers": 1}
    assert why_not_at(index, contained, index.slots["none"]) == ["it runs no containers"]
    assert ever(index, contained) == 3
    called: dict[str, Any] = {"type": "data_processing", "container": None, "function": {"name": "f"}}
    index.put(Node("none", NodeState.ONLINE, 1, 1, birth=born(functions=["f"], hardware={"containers": ""})))
    assert names(index, choose(index, ask(index, 9, **called))) == ["none"]


def test_a_container_that_nobody_runs_says_so_and_goes_where_one_comes_to_run_it() -> None:
    yard = Yard()
    yard.add("a", "b", hardware={"containers": ""})
    yard.settle()
    yard.apply(workload())
    assert (yard.where(), yard.kept["w"].missing) == ([], 1)
    assert yard.kept["w"].reason == "no node can ever have it, of 2: 2 nodes: runs no containers"
    assert yard.scheduler.why("w", "a", yard.now_ms)["reasons"] == ["it runs no containers"]
    yard.change("b", birth=born(hardware={"containers": "podman"}))
    yard.settle()
    yard.pass_s(1)
    assert yard.where() == ["b"]


def test_one_on_every_node_means_those_that_run_containers() -> None:
    yard = Yard()
    yard.add("a", "b", hardware={"containers": "podman"})
    yard.add("c", hardware={"containers": ""})
    yard.settle()
    yard.apply(workload(replicas="all"))
    assert (yard.where(), yard.kept["w"].missing) == (["a", "b"], 0)


def test_what_a_node_says_is_allocated_counts_and_what_is_ours_of_it_only_once() -> None:
    index = index_of(a=born(4, allocated={"cores": 3.0}))
    asked = ask(index)
    assert names(index, choose(index, asked)) == ["a"]
    index.occupy(0, asked.need)
    assert index.left(0)[0] == 0
    index.put(Node("a", NodeState.ONLINE, 1, 1, birth=born(4, allocated={"cores": 4.0})))
    index.count(0, asked.need)
    assert index.left(0)[0] == 0
    index.occupy(0, asked.need, -1)
    index.count(0, asked.need, -1)
    index.put(Node("a", NodeState.ONLINE, 1, 1, birth=born(4, allocated={"cores": 3.0})))
    assert index.left(0)[0] == 1


def lower(index: Index, name: str, priority: int, cores: float, *nodes: str) -> Lower:
    need = (cores, 0.0, 0.0, 0.0, 0.0)
    for node in nodes:
        index.occupy(index.slots[node], need)
    return Lower(name, priority, need, [index.slots[node] for node in nodes])


@pytest.mark.parametrize(
    ("standing", "node", "victims"),
    [
        ([("x", 1, 4, "a"), ("y", 2, 4, "b")], "a", ("x",)),  # the least important
        ([("x", 1, 2, "a"), ("y", 1, 2, "a"), ("z", 1, 4, "b")], "b", ("z",)),  # the fewest
        ([("x", 1, 1, "a"), ("y", 2, 3, "a"), ("z", 9, 4, "b")], "a", ("x", "y")),  # all that are needed
        ([("x", 1, 1, "a"), ("y", 1, 3, "a"), ("z", 1, 1, "b"), ("v", 9, 3, "b")], "a", ("x", "y")),
        ([("x", 1, 1, "b"), ("y", 1, 3, "a")], "a", ("y",)),  # as good as the other
    ],
)
def test_who_gives_way(standing: list[tuple[str, int, float, str]], node: str, victims: tuple[str, ...]) -> None:
    index = index_of(a=born(4), b=born(4))
    below = [lower(index, *one) for one in standing]
    need = 4.0 if len(standing) != 2 or standing[0][2] == 4 else 3.5
    asked = ask(index, resources={"cpu_cores": need})
    found = make_room(index, asked, below)
    assert found is not None
    assert (index.names[found.slot], found.victims) == (node, victims)


def test_nobody_gives_way_where_it_would_not_help() -> None:
    index = index_of(a=born(2), b=born(4))
    below = [lower(index, "x", 1, 1, "a", "b")]
    index.occupy(index.slots["b"], (2.0, 0, 0, 0, 0))  # of what is more important
    assert make_room(index, ask(index, resources={"cpu_cores": 3}), below) is None
    assert make_room(index, ask(index, resources={"cpu_cores": 2}), []) is None


def test_of_many_small_ones_only_those_that_are_needed_give_way() -> None:
    index = index_of(a=born(30))
    below = [lower(index, f"x{n:02}", n % 3 + 1, 1, "a") for n in range(30)]
    found = make_room(index, ask(index, resources={"cpu_cores": 13}), below)
    assert found is not None and len(found.victims) == 13
    assert sorted(below[int(name[1:])].priority for name in found.victims) == [1] * 10 + [2] * 3


TERMS = st.sampled_from(
    [
        "site = a", "not site = a", "site != a", "line = 3", "line > 2", "line in (1, 3)", "line not in (1)",
        "line exists", "hardware.accelerators has gpu", "resources.cores >= 4", "near(10, 10, 500 km)", "name = n3",
        "name in (n1, n2)", "name > n2", "all", "state = online", "version.v > 1.9", "lat > 0",
    ]
)  # fmt: skip
BIRTHS = st.builds(
    born,
    cores=st.sampled_from([2, 4, 8]),
    site=st.sampled_from(["", "a", "b"]),
    labels=st.dictionaries(st.just("line"), st.sampled_from(["1", "2", "3", "x"])),
    hardware=st.dictionaries(st.just("accelerators"), st.sampled_from([[], ["gpu"], ["npu", "gpu"]])),
    location=st.sampled_from([{}, {"lat": 10.0, "lon": 10.0}, {"lat": -10.0, "lon": 10.0}]),
    versions=st.dictionaries(st.just("v"), st.sampled_from(["1.9", "1.10"])),
)


@settings(deadline=None, max_examples=60)
@given(
    births=st.lists(BIRTHS, min_size=1, max_size=8),
    later=st.lists(st.tuples(st.integers(0, 7), BIRTHS), max_size=4),
    text=st.lists(TERMS, min_size=1, max_size=3).flatmap(
        lambda terms: st.sampled_from([" and ".join(terms), " or ".join(terms), f"not ({' or '.join(terms)})"])
    ),
    few=st.sampled_from([0, 1000]),
)
def test_columns_mean_the_same_nodes_as_the_selector(
    births: list[Birth], later: list[tuple[int, Birth]], text: str, few: int
) -> None:
    """At once, and after changes, and of columns of many values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coordinator.schedule.index.FEW", few)
        index = Index()
        for n, birth in enumerate(births):
            index.put(Node(f"n{n}", NodeState.ONLINE, 1, 1, birth=birth))
        index.watch("early", parse(text))
        for n, birth in later:
            index.put(Node(f"n{n}", NodeState.ONLINE, 1, 1, birth=birth))
        index.remove("n1")
        index.watch("late", parse(text))
        for name, slot in index.slots.items():
            node = index.nodes[slot]
            assert node is not None
            meant = parse(text).matches(facts_of(node))
            assert (bool(index.members["early"][slot]), bool(index.members["late"][slot])) == (meant, meant), name


# ---- the life of replicas ----------------------------------------------------------------------


def test_a_sticky_one_goes_home_and_another_does_not() -> None:
    for sticky in (True, False):
        yard = Yard()
        yard.add("a", "b")
        yard.settle()
        yard.apply(workload(sticky=sticky))
        yard.run()
        (home,) = yard.where()
        yard.lose(home)
        yard.settle()
        yard.run()
        (there,) = yard.where()
        assert there != home
        yard.back(home)
        yard.settle()
        assert yard.where() == (["a", "b"] if sticky else [there])
        yard.run()
        assert yard.where() == ([home] if sticky else [there])


def test_who_says_goodbye_has_a_while_to_be_back() -> None:
    yard = Yard()
    yard.add("a", "b")
    yard.settle()
    yard.apply(workload())
    yard.run()
    (at,) = yard.where()
    yard.lose(at, word=Word.GOODBYE)
    yard.settle()
    yard.pass_s(19)
    assert yard.where() == [at]
    yard.pass_s(2)
    assert yard.where() != [at]


def test_failures_one_after_another_wait_longer() -> None:
    yard = Yard()
    yard.add(*[f"n{i}" for i in range(6)])
    yard.settle()
    yard.apply(workload())
    waited = []
    for _ in range(5):
        (at,) = yard.where()
        yard.say(at, phase=Phase.FAILED, reason="no")
        yard.settle()
        begun_ms = yard.now_ms
        while not yard.where():
            assert yard.wake_ms is not None
            yard.now_ms = yard.wake_ms
            yard.settle()
        assert yard.where() != [at]
        waited.append((yard.now_ms - begun_ms) // 1000)
    assert waited == [0, 1, 2, 4, 8]


def test_many_that_fail_together_are_one_failure() -> None:
    yard = Yard()
    yard.add(*[f"n{i:03}" for i in range(120)])
    yard.settle()
    yard.apply(workload(replicas=60))
    for failing, wait_s in ((12, 0), (3, 1), (1, 2)):
        yard.pass_s(1)
        new = [node for (_, node), one in yard.placements.items() if one.phase is Phase.DEPLOYING]
        yard.say(*new[failing:])
        for node in new[:failing]:
            yard.say(node, phase=Phase.FAILED, reason="no")
            yard.settle()
            yard.now_ms += 10
        assert len(yard.where()) == (60 - failing if wait_s else 60)
        yard.pass_s(wait_s)
        assert len(yard.where()) == 60


def test_what_a_lost_node_had_waits_for_no_failure() -> None:
    yard = Yard()
    yard.add(*[f"n{i}" for i in range(9)])
    yard.settle()
    yard.apply(workload(replicas=3))
    yard.say(*yard.where()[:2])
    yard.settle()
    steady = yard.where()[:2]
    for wait_s in (0, 1, 2, 4):
        (at,) = set(yard.where()) - set(steady)
        yard.say(at, phase=Phase.FAILED, reason="no")
        yard.settle()
        yard.pass_s(wait_s)
    (at,) = set(yard.where()) - set(steady)
    yard.say(at, phase=Phase.FAILED, reason="no")
    yard.lose(steady[0])
    yard.settle()
    assert steady[0] not in yard.where()
    assert len(yard.where()) == 2, "one is replaced, one waits"
    yard.pass_s(8)
    assert len(yard.where()) == 3


def test_on_every_node_the_bad_ones_hold_up_no_other() -> None:
    yard = Yard()
    yard.add("bad", "good")
    yard.settle()
    yard.apply(workload(replicas="all"))
    yard.say("good")
    for wait_s in (60, 120, 240):
        assert "bad" in yard.where()
        yard.say("bad", phase=Phase.FAILED, reason="no")
        yard.settle()
        assert yard.where() == ["good"]
        assert "it failed there" in yard.kept["w"].reason
        yard.pass_s(wait_s)
    yard.say("bad", phase=Phase.FAILED, reason="no")
    yard.settle()
    yard.add("new")
    yard.settle()
    assert yard.where() == ["good", "new"]


def test_a_rule_on_load_counts_replicas_within_its_bounds() -> None:
    yard = Yard()
    yard.add("a", "b", "c")
    yard.settle()
    rule = {"on": "cpu_percent", "min": 1, "max": 2, "above": 70, "below": 20, "for_s": 30, "cooldown_s": 60}
    yard.apply(workload(scale=rule))
    for _ in range(12):
        yard.run()
        yard.beat(*yard.where(), cpu_percent=320.0)
        yard.settle()
        yard.pass_s(15)
    assert (len(yard.where()), yard.kept["w"].replicas) == (2, 2)
    for _ in range(12):
        yard.beat(*yard.where(), cpu_percent=40.0)
        yard.settle()
        yard.pass_s(15)
    assert (len(yard.where()), yard.kept["w"].replicas) == (1, 1)
    assert [(one["before"], one["after"]) for one in yard.data("WorkloadScaled")] == [(1, 2), (2, 1)]
    assert "cpu_percent is 80, above 70 for 30 s" in yard.data("WorkloadScaled")[0]["reason"]


def test_an_update_reaches_its_nodes_by_the_rollout_and_others_afterwards() -> None:
    yard = Yard()
    yard.add("a", "b", "c")
    yard.settle()
    yard.apply(workload(replicas=2))
    yard.run()
    kept, names = yard.scheduler.begin_update(workload(replicas=2, env={"A": "1"}), yard.now_ms)
    yard.settle()
    assert (kept.rollout, names) == ("w-2", yard.where())
    yard.over("w", completed=True, reached=(names[0],))
    assert yard.kept["w"].generation == 2
    assert {spec["w"]["generation"] for spec in yard.specs.values() if spec} == {2}  # the other one by the scheduler
    assert yard.told[-1][:2] == (names[1], "w")
    kept, names = yard.scheduler.begin_update(workload(replicas=2, env={"A": "2"}), yard.now_ms)
    yard.settle()
    yard.over("w", rolled_back=True)
    assert (yard.kept["w"].generation, yard.kept["w"].updating) == (2, False)


def test_a_spec_that_needs_more_than_its_node_has_moves() -> None:
    yard = Yard()
    yard.add("a", cores=2)
    yard.add("b", cores=4)
    yard.settle()
    yard.apply(workload("other", selector="name = b", resources={"cpu_cores": 3}))
    yard.apply(workload(selector="name in (a, b)", resources={"cpu_cores": 2}))
    yard.run()
    assert yard.where() == ["a"]
    bigger = workload(selector="name in (a, b)", resources={"cpu_cores": 3})
    _, names = yard.scheduler.begin_update(bigger, yard.now_ms)
    yard.settle()
    assert names == []
    yard.over("w", completed=True)
    assert (yard.where(), yard.kept["w"].missing) == (["a"], 1)
    yard.scheduler.remove("other", yard.now_ms)
    yard.settle()
    yard.pass_s(1)
    assert yard.where() == ["a", "b"]
    yard.run()
    assert yard.where() == ["b"]
    assert yard.data("WorkloadMoved")[-1]["reason"] == "a has no room for its new spec"


def test_a_node_whose_document_cannot_be_changed_is_left_alone() -> None:
    yard = Yard()
    yard.add("a", "b", site="s")
    yard.refusing = {"a"}
    yard.settle()
    yard.apply(workload())
    assert (yard.where(), yard.types("WorkloadScheduled")) == (["b"], ["WorkloadScheduled"])
    yard.run()
    yard.pass_s(70)
    yard.refusing = {"b"}
    yard.lose("b")
    yard.settle()
    assert yard.where() == ["a", "b"]  # nothing can be taken from b: it is tried again
    yard.refusing = set()
    yard.pass_s(70)
    assert yard.where() == ["a"]
