"""Collections, paths, what holds where several wrote, when a change leaves: plain values, no files and no clocks."""

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.platform_state.leaving import Leaving
from schemas.errors import RemoteWireError
from schemas.fields import Owner, Rule
from schemas.hlc import Stamp
from schemas.state import (
    Collection,
    Collections,
    StateRefusedError,
    descend,
    key_mistake,
    possible_keys,
    split_path,
)
from schemas.state_registers import Register, StateChange, conflicting, holds, later, read_change

AT = 1_795_521_600_000


def is_phase(key: str, value: Any) -> str | None:
    good = isinstance(value, dict) and value.get("phase") in ("red", "green")
    return None if good else f"{key}: phase must be red or green"


COLLECTIONS = Collections(
    [
        Collection("traffic", "intersections", check=is_phase),
        Collection("traffic", "plans", Owner.COORDINATOR),
        Collection("traffic", "limits", Owner.SHARED, Rule.MAX),
    ]
)


# ---- collections -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Phase:
    phase: str
    since: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("path", "key", "value", "writer", "code", "said"),
    [
        ("traffic.junctions", "IS-1", {}, Owner.NODE, "unknown_collection", "traffic.intersections, traffic.plans"),
        ("traffic.plans", "IS-1", {}, Owner.NODE, "wrong_owner", "belongs to the coordinator: the node cannot"),
        ("traffic.intersections", "IS-1", {}, Owner.COORDINATOR, "wrong_owner", "belongs to the node"),
        ("traffic.intersections", "", {}, Owner.NODE, "bad_key", "1 to 200"),
        ("traffic.intersections", "x" * 201, {}, Owner.NODE, "bad_key", "1 to 200"),
        ("traffic.intersections", "a\nb", {}, Owner.NODE, "bad_key", "printable"),
        ("traffic.intersections", "IS-1", {"phase": "blue"}, Owner.NODE, "bad_value", "IS-1: phase must be red"),
        ("traffic.limits", "IS-1", None, Owner.NODE, "bad_value", "delete it instead"),
        ("traffic.limits", "IS-1", float("nan"), Owner.NODE, "bad_value", "no JSON number"),
        ("traffic.limits", "IS-1", {1: 2}, Owner.NODE, "bad_value", "key that is no text"),
        ("traffic.limits", "IS-1", {"a": {1, 2}}, Owner.NODE, "bad_value", "holds a set"),
        ("traffic.limits", "IS-1", 2**64, Owner.NODE, "bad_value", "64 bits"),
        ("traffic.limits", "IS-1", "\ud800", Owner.NODE, "bad_value", "half a character"),
        ("traffic.limits", "IS-1", "x" * 99, Owner.NODE, "too_large", "101 bytes as JSON; at most 100"),
    ],
)
def test_a_write_that_cannot_be_names_the_collection_the_key_and_what_is_wrong(
    path: str, key: str, value: Any, writer: Owner, code: str, said: str
) -> None:
    with pytest.raises(StateRefusedError, match=said.replace(".", r"\.")) as caught:
        COLLECTIONS.checked(path, key, value, writer, bytes_max=100)
    assert (caught.value.code, caught.value.collection) == (code, path)
    assert path in str(caught.value)
    assert not key or key[:100] in str(caught.value) or not key.isprintable()


def test_what_is_nested_without_end_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(StateRefusedError, match="nested"):
        COLLECTIONS.checked("traffic.limits", "k", value, Owner.NODE, bytes_max=100)


def test_a_dataclass_is_written_as_the_object_that_it_travels_as() -> None:
    declared, text = COLLECTIONS.checked(
        "traffic.intersections", "IS-1", Phase("red", (1, 2)), Owner.NODE, bytes_max=100
    )
    assert (declared.path, text) == ("traffic.intersections", '{"phase":"red","since":[1,2]}')


def test_a_collection_is_declared_once_and_has_a_sound_name() -> None:
    with pytest.raises(ValueError, match=r"traffic\.x is declared twice"):
        Collections([Collection("traffic", "x"), Collection("traffic", "x")])
    for bad in ("", "a.b", "1x", "ü"):
        with pytest.raises(ValueError, match="cannot name"):
            Collection("traffic", bad)
    assert list(Collections()) == []


# ---- paths -------------------------------------------------------------------------------------------


def test_a_path_is_a_collection_and_words() -> None:
    assert split_path("traffic.intersections.IS-001.phase") == ("traffic.intersections", ["IS-001", "phase"])
    assert split_path("traffic.intersections") == ("traffic.intersections", [])
    for bad in ("traffic", "", ".x.y", "traffic.1.x", "traffic..x"):
        with pytest.raises(ValueError, match="not like"):
            split_path(bad)


def test_the_longest_key_comes_first() -> None:
    assert possible_keys(["a", "b", "c"]) == [("a.b.c", []), ("a.b", ["c"]), ("a", ["b", "c"])]


@given(st.lists(st.text("ab.", max_size=4), min_size=1, max_size=4))
def test_each_possible_key_and_its_fields_are_the_words_again(words: list[str]) -> None:
    for key, fields in possible_keys(words):
        assert ".".join([key, *fields]) == ".".join(words)


@pytest.mark.parametrize(
    ("value", "words", "found"),
    [
        ({"a": {"b": 1}}, ["a", "b"], 1),
        ({"a": {"b": 1}, "a.b": 2}, ["a", "b"], 2),  # of names with dots the longest
        ({"a": [5, {"b": 6}]}, ["a", "1", "b"], 6),
        (7, [], 7),
    ],
)
def test_fields_of_a_value(value: Any, words: list[str], found: Any) -> None:
    assert descend(value, words) == found


@pytest.mark.parametrize(
    ("value", "words", "said"),
    [
        ({"a": 1}, ["b"], r"no field 'b' \(a\)"),
        ({}, ["b"], "it is empty"),
        ([1], ["1"], "1 items, counted from 0"),
        ([1], ["x"], "a list has no field 'x'"),
        (1, ["x"], "a int has no field"),
    ],
)
def test_a_field_that_is_not_there_is_said(value: Any, words: list[str], said: str) -> None:
    with pytest.raises(LookupError, match=said):
        descend(value, words)


# ---- what holds ------------------------------------------------------------------------------------------


def stamp(n: int, writer: str) -> Stamp:
    return Stamp(AT + n, 0, writer)


def wrote(writer: str, value: Any, n: int, **over: int) -> Register:
    seen = {name.replace("_", "-"): stamp(at, name.replace("_", "-")) for name, at in over.items()}
    return Register(writer, value, stamp(n, writer), AT + n, AT + n, seen)


A, B, CLOUD = "gw-a", "gw-b", "coordinator"


@pytest.mark.parametrize(
    ("rule", "registers", "value", "writers", "conflict"),
    [
        (None, [], None, (), False),
        (None, [wrote(A, 1, 1)], 1, (A,), False),
        (None, [wrote(A, 1, 1), wrote(B, 2, 2)], 2, (B,), True),
        (None, [wrote(A, 1, 1), wrote(B, 1, 2)], 1, (B,), False),
        (Rule.LAST_WRITER, [wrote(A, 1, 3), wrote(CLOUD, 2, 2)], 1, (A,), True),
        (Rule.LAST_WRITER, [wrote(A, 1, 1), wrote(CLOUD, 2, 2, gw_a=1)], 2, (CLOUD,), False),  # it had seen it
        (Rule.LAST_WRITER, [wrote(A, 1, 3), wrote(CLOUD, 2, 4, gw_a=1)], 2, (CLOUD,), True),
        (Rule.LAST_WRITER, [wrote(A, 1, 1), wrote(B, None, 2)], None, (), False),  # the last word is a deletion
        (Rule.LAST_WRITER, [wrote(A, 1, 3), wrote(B, None, 2)], 1, (A,), False),
        (Rule.EDGE_WINS, [wrote(A, 1, 1), wrote(CLOUD, 2, 2, gw_a=1)], 1, (A,), True),
        (Rule.EDGE_WINS, [wrote(A, None, 3), wrote(CLOUD, 2, 2)], 2, (CLOUD,), False),
        (Rule.EDGE_WINS, [wrote(A, 1, 1), wrote(B, 3, 2), wrote(CLOUD, 2, 9)], 3, (B,), True),
        (Rule.CLOUD_WINS, [wrote(A, 1, 3), wrote(CLOUD, 2, 2)], 2, (CLOUD,), True),
        (Rule.CLOUD_WINS, [wrote(A, 1, 1), wrote(CLOUD, None, 2)], 1, (A,), False),
        (Rule.MAX, [wrote(A, 5, 1), wrote(B, 3, 2)], 5, (A,), True),
        (Rule.MAX, [wrote(A, 5, 1), wrote(B, 5, 2)], 5, (B,), False),
        (Rule.MAX, [wrote(A, None, 9), wrote(B, 3, 2)], 3, (B,), False),
        (Rule.MAX, [wrote(A, "x", 1), wrote(B, 3, 2), wrote(CLOUD, {}, 3)], "x", (A,), True),
        (Rule.UNION, [wrote(A, ["x", "y"], 1), wrote(B, ["y", 1], 2)], ["x", "y", 1], (A, B), True),
        (Rule.UNION, [wrote(A, {"p": 1, "q": 1}, 1), wrote(B, {"q": 2}, 2)], {"p": 1, "q": 2}, (A, B), True),
        (Rule.UNION, [wrote(A, ["x"], 1), wrote(B, None, 2)], ["x"], (A,), False),
        (Rule.UNION, [wrote(A, ["x"], 1), wrote(B, 7, 2)], 7, (B,), True),
    ],
)
def test_what_holds_in_whatever_order_it_is_told(
    rule: Rule | None, registers: list[Register], value: Any, writers: tuple[str, ...], conflict: bool
) -> None:
    for order in itertools.permutations(registers):
        held = holds(order, rule)
        assert (held.value, held.writers) == (value, writers) if held else value is None
        assert conflicting(order, rule) is conflict


values = st.sampled_from([None, 1, 2.5, "x", ["x"], ["y", 1], {"p": 1}, {"p": [2], "q": 0}, True])
registers = st.dictionaries(st.sampled_from([A, B, CLOUD]), st.tuples(values, st.integers(0, 5)), max_size=3)


@given(registers, st.sampled_from([None, *Rule]), st.permutations([A, B, CLOUD]))
def test_every_rule_takes_any_values_and_does_not_mind_the_order(
    said: dict[str, tuple[Any, int]], rule: Rule | None, order: list[str]
) -> None:
    written = [wrote(name, *said[name]) for name in said]
    again = [wrote(name, *said[name]) for name in order if name in said]
    held = holds(written, rule)
    assert held == holds(again, rule)
    assert held is None or set(held.writers) <= set(said)
    assert conflicting(written, rule) == conflicting(again, rule)


@given(st.lists(st.tuples(values, st.integers(0, 3)), min_size=1, max_size=6), st.randoms())
def test_the_later_write_of_one_writer_is_the_same_in_any_order(said: list[tuple[Any, int]], random: Any) -> None:
    written = [wrote(A, *one) for one in said]
    shuffled = list(written)
    random.shuffle(shuffled)

    def last(found: list[Register]) -> tuple[Any, Stamp]:
        newest = found[0]
        for one in found[1:]:
            newest = later(newest, one)
        return str(newest.value), newest.at

    assert last(written) == last(shuffled)


# ---- on the wire -------------------------------------------------------------------------------------


def test_a_change_is_read_as_it_was_written() -> None:
    change = StateChange("traffic.intersections", "IS-1", {"phase": "red"}, stamp(1, A))
    assert read_change(change.data(), A) == change
    assert read_change({**change.data(), "from_the_future": 1}, A) == change


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"collection": 1}, "needs collection"),
        ({"collection": "traffic"}, "not like platform.collection"),
        ({"collection": "traffic.a.b"}, "is no platform.collection"),
        ({"key": ""}, "1 to 200"),
        ({"key": 5}, "key must be a text"),
        ({"at": "now"}, "is no stamp"),
        ({"at": str(stamp(1, B))}, "is not one of gw-a"),
        ({"value": ...}, "needs collection"),
    ],
)
def test_a_row_that_is_no_change_is_refused(wrong: dict[str, Any], said: str) -> None:
    data = {**StateChange("traffic.intersections", "IS-1", 1, stamp(1, A)).data(), **wrong}
    with pytest.raises(RemoteWireError, match=said):
        read_change({name: value for name, value in data.items() if value is not ...}, A)


@pytest.mark.parametrize("key", ["a", "a.b", "a b", "ключ", "x" * 200])
def test_keys_are_printable_texts(key: str) -> None:
    assert key_mistake(key) is None


# ---- when a change leaves ----------------------------------------------------------------------------

ONE, TWO = ("t.c", "1"), ("t.c", "2")


def test_a_change_leaves_at_once_and_then_again_when_the_interval_is_over() -> None:
    leaving = Leaving(5.0)
    leaving.changed(ONE, 100.0)
    assert leaving.due(100.0, 10) == [ONE]
    leaving.changed(ONE, 101.0)
    leaving.changed(TWO, 101.0)
    assert leaving.due(101.0, 10) == [TWO]
    leaving.changed(ONE, 102.0)  # the newest wins
    assert (leaving.due(104.9, 10), leaving.wait_s(104.0), leaving.coalesced_total) == ([], 1.0, 1)
    assert leaving.due(105.0, 10) == [ONE]
    assert (leaving.due(200.0, 10), leaving.wait_s(200.0), len(leaving)) == ([], None, 0)


def test_what_could_not_leave_is_not_forgotten_and_a_stop_waits_for_nothing() -> None:
    leaving = Leaving(5.0)
    for name in (ONE, TWO):
        leaving.changed(name, 0.0)
    assert leaving.due(0.0, 1) == [ONE]
    leaving.put_back([ONE], 1.0)
    assert leaving.due(1.0, 10) == [TWO]
    assert leaving.due(1.0, 10, all_of_them=True) == [ONE]


@given(st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.floats(0, 3), st.booleans()), max_size=40), st.floats(0, 4))
def test_the_last_value_always_leaves_and_no_key_leaves_twice_within_the_interval(
    steps: list[tuple[tuple[str, str], float, bool]], interval_s: float
) -> None:
    leaving, now_s = Leaving(interval_s), 0.0
    changed_s: dict[tuple[str, str], float] = {}
    left_s: dict[tuple[str, str], float] = {}

    def let_leave(names: list[tuple[str, str]]) -> None:
        for name in names:
            assert name not in left_s or now_s >= left_s[name] + interval_s - 1e-9
            left_s[name] = now_s

    for name, wait_s, look in steps:
        now_s += wait_s
        leaving.changed(name, now_s)
        changed_s[name] = now_s
        if look:
            let_leave(leaving.due(now_s, 10))
    while (wait := leaving.wait_s(now_s)) is not None:
        now_s += wait
        let_leave(leaving.due(now_s, 10))
    assert all(left_s[name] >= at_s for name, at_s in changed_s.items())
    assert len(leaving) == 0
