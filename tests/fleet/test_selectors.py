"""Selectors: what they mean for a node, why, and what is said of those that mean nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.fleet.facts import Facts, changed_facts, facts_of
from coordinator.fleet.registry import Node, NodeState
from coordinator.fleet.selector import Verdict, distance_m
from coordinator.fleet.selector_text import DEPTH_MAX, TERMS_MAX, TEXT_CHARS_MAX, SelectorError, parse
from schemas.messages import Birth

BIRTH = Birth(
    node_type="Industrial_Gateway",
    site="plant-7",
    labels={"line": "3", "canary": "", "ring": "blue green"},
    location={"lat": 48.1374, "lon": 11.5755},
    hardware={"arch": "arm64", "accelerators": ["edgetpu"], "fan": True},
    resources={"cores": 4, "memory_mb": 3800.5},
    versions={"agent": "1.10.0", "python": "3.11.7"},
    platforms=["core", "traffic"],
    functions=["status"],
)
FACTS = facts_of(Node("gw-1", NodeState.ONLINE, boot=3, birth=BIRTH))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("all", True),
        ("not all", False),
        ("site = plant-7", True),
        ("site != plant-7", False),
        ("name = gw-1, type = Industrial_Gateway", True),
        ("line = 3", True),
        ("label.line = 3", True),
        ("line in (1, 2)", False),
        ("line not in (1, 2)", True),
        ("row not in (1, 2)", False),  # nothing is there that could differ
        ("row != 1", False),
        ("row exists", False),
        ("not row exists", True),
        ("canary exists", False),  # it is there, and empty
        ('ring = "blue green"', True),
        ("line >= 2", True),
        ("line < 10", True),  # as a number, though a label is text
        ("hardware.arch in (arm64, x86_64)", True),
        ("hardware.accelerators has edgetpu", True),
        ("hardware.accelerators = edgetpu", True),
        ("hardware.accelerators != gpu", True),
        ("hardware.accelerators < gpu", False),
        ("hardware.fan = true", True),
        ("platform has traffic and function has status", True),
        ("platform in (retail, traffic)", True),
        ("resources.cores >= 4", True),
        ("resources.memory_mb > 3800.5", False),
        ("resources.cores = four", False),
        ("resources.cores != four", True),
        ("version.agent > 1.9", True),  # part by part, not letter by letter
        ("version.agent = 1.10.0", True),
        ("version.agent >= 1.10.0-rc1", True),
        ("version.agent < 1.10.1-rc1", True),
        ("version.python < 3.12", True),
        ("boot > 2", True),
        ("state = online", True),
        ("state = offline or site = plant-7", True),
        ("state = offline or site = plant-7 and line = 4", False),
        ("(state = offline or site = plant-7) and line = 3", True),
        ("not (state = offline) and not not line = 3", True),
        ("near(48.14, 11.58, 5 km)", True),
        ("near(48.14, 11.58, 100 m)", False),
        ("near(52.52, 13.405, 400mi)", True),
    ],
)
def test_what_a_selector_means(text: str, holds: bool) -> None:
    selector = parse(text)
    assert selector.matches(FACTS) is holds
    assert selector.explain(FACTS).holds is holds
    again = parse(str(selector.tree))
    assert again.tree == selector.tree, "its text is a selector of the same meaning"


def test_a_node_that_was_never_registered_has_its_state_alone() -> None:
    facts = facts_of(Node("gw-2"))
    assert parse("state = offline").matches(facts)
    assert not parse("near(0, 0, 30000 km)").matches(facts)
    assert parse("near(0, 0, 1 km)").explain(facts) == Verdict("near(0, 0, 1000 m)", False, "no location")


def test_why_says_what_was_found_for_each_part() -> None:
    why = parse("site = plant-7, (line = 4 or row = 1), not hardware.accelerators has gpu").explain(FACTS)
    assert why == Verdict(
        "all of", False, "",
        (
            Verdict("site = plant-7", True, "plant-7"),
            Verdict(
                "any of", False, "",
                (Verdict("line = 4", False, "3"), Verdict("row = 1", False, "not there")),
            ),
            Verdict("not", True, "", (Verdict("hardware.accelerators has gpu", False, "edgetpu"),)),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("site", 5, "expected =, !=, <, <=, >, >=, in (…), has or exists, and the text ends"),
        ("site = ", 7, "expected a value, and the text ends"),
        ("site = a b", 10, "expected and, or, a comma or the end, not 'b'"),
        ("site ~ a", 6, "'~' cannot stand here"),
        ("(site = a", 10, "expected )"),
        ("in = a", 1, "'in' cannot be a name here"),
        ("line in 3", 9, "expected (, not '3'"),
        ("near(91, 0, 1 km)", 6, "no place on earth"),
        ("near(a, 0, 1 km)", 6, "'a' is no number"),
        ("near(1, 0, 1 ly)", 12, "no distance"),
        ('site = "a', 8, "cannot stand here"),
        ("(" * (DEPTH_MAX + 1), DEPTH_MAX + 1, "nested deeper"),
        (" or ".join(["a = 1"] * (TERMS_MAX + 1)), 1801, f"more than {TERMS_MAX} conditions"),
        ("a" * (TEXT_CHARS_MAX + 1), 1, "at most"),
    ],
)
def test_a_selector_that_means_nothing_says_where(text: str, column: int, said: str) -> None:
    with pytest.raises(SelectorError) as refused:
        parse(text)
    assert said in str(refused.value)
    assert refused.value.column == column


PIECES = st.sampled_from(["a", "=", "(", ")", ",", "and", "or", "not", "in", "has", "exists", "near", "1", "km"])


@given(st.text(max_size=60) | st.lists(PIECES).map(" ".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        selector = parse(text)
    except SelectorError:
        return
    assert selector.matches(FACTS) in (True, False)
    assert parse(str(selector.tree)).tree == selector.tree


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("all", set()),
        ("line = 3 and not state = offline", {"label.line", "state"}),
        ("near(1, 2, 3 km) or version.agent exists", {"lat", "lon", "version.agent"}),
    ],
)
def test_a_selector_names_the_facts_it_asks_for(text: str, keys: set[str]) -> None:
    assert parse(text).keys == keys


def test_changed_facts_are_those_that_differ_came_or_went() -> None:
    before: Facts = {"a": 1.0, "b": "x", "c": "y"}
    assert changed_facts(before, {"a": 2.0, "b": "x", "d": "z"}) == {"a", "c", "d"}


def test_distances_are_those_of_the_globe() -> None:
    assert distance_m(48.1374, 11.5755, 52.5200, 13.4050) == pytest.approx(504_000, rel=0.005)  # Munich to Berlin
    assert distance_m(0, 179.9, 0, -179.9) == pytest.approx(22_239, rel=0.001), "across the date line"
