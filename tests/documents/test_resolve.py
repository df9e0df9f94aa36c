"""Merging what two places know, and what holds then: rules, causality, conflicts."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.documents import Desired, Write, Written, canonical, sealed
from schemas.fields import Rule
from schemas.hlc import Stamp
from schemas.resolve import Known, Side, merge, resolve, settle

EARLY, LATE = Stamp(100, 0, "coordinator"), Stamp(200, 0, "gw-1")
PATHS = ["log.level", "pipelines.door.enabled", "alerts.gate.muted_until_utc_ms", "pipelines.door.classes_ignored"]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "log.level": st.sampled_from(["DEBUG", "INFO", None, 7]),
    "pipelines.door.enabled": st.sampled_from([True, False, None]),
    "alerts.gate.muted_until_utc_ms": st.sampled_from([5, 9, None, "never"]),
    "pipelines.door.classes_ignored": st.sampled_from([[], ["cat"], ["dog", "cat"], None, [3]]),
}


def stamps(node: str) -> st.SearchStrategy[Stamp]:
    return st.builds(Stamp, st.integers(1, 4), st.integers(0, 1), st.just(node))


@st.composite
def writes(draw: st.DrawFn, path: str, node: str, other: str) -> Write:
    return Write(draw(VALUES[path]), draw(stamps(node)), draw(st.just(Stamp()) | stamps(other)))


@st.composite
def places(draw: st.DrawFn) -> Known:
    """What a place may know: any document, any writes of the node."""
    cloud = {path: draw(writes(path, "coordinator", "gw-1")) for path in PATHS if draw(st.booleans())}
    desired = Desired(
        draw(st.integers(1, 2)),
        draw(st.integers(1, 2)),
        {path: write.value for path, write in cloud.items()} | {"heartbeat_s": draw(st.sampled_from([5, 9, 99999]))},
        {path: write.written for path, write in cloud.items()},
    )
    local = {path: draw(writes(path, "gw-1", "coordinator")) for path in PATHS if draw(st.booleans())}
    return Known(sealed(desired), local)


@settings(max_examples=40, deadline=None)
@given(places(), places(), places())
def test_merge_is_commutative_associative_and_idempotent(a: Known, b: Known, c: Known) -> None:
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@settings(max_examples=60, deadline=None)
@given(places())
def test_what_holds_is_always_a_value_that_somebody_may_write(known: Known) -> None:
    resolution = resolve(known)
    for path, outcome in resolution.outcomes.items():
        said = [known.desired.fields.get(path)] + ([known.local[path].value] if path in known.local else [])
        assert outcome.winner is Side.BOTH or canonical(outcome.value) in [canonical(value) for value in said]
    wrong = {path for path, value in known.desired.fields.items() if value in (7, "never", [3], 99999)}
    wrong |= {path for path, write in known.local.items() if write.value in (7, "never", [3])}
    assert resolution.refused.keys() == wrong
    for conflict in resolution.conflicts:
        outcome_value = resolution.outcomes[conflict.path].value if conflict.path in resolution.outcomes else None
        assert outcome_value == conflict.value
        assert canonical(conflict.coordinator_value) != canonical(conflict.node_value)


@pytest.mark.parametrize(
    ("rule", "cloud", "edge", "holds", "winner", "is_conflict"),
    [
        # Neither knew of the other: the later stamp, or the rule.
        (Rule.LAST_WRITER, Write(1, EARLY), Write(2, LATE), 2, Side.NODE, True),
        (Rule.LAST_WRITER, Write(1, EARLY), Write(1, LATE), 1, Side.NODE, False),
        (Rule.LAST_WRITER, Write(1, EARLY), Write(None, LATE), None, None, True),
        (Rule.EDGE_WINS, Write(1, Stamp(900, 0, "coordinator")), Write(2, LATE), 2, Side.NODE, True),
        (Rule.EDGE_WINS, Write(1, EARLY), Write(None, LATE), 1, Side.COORDINATOR, False),
        (Rule.CLOUD_WINS, Write(1, EARLY), Write(2, LATE), 1, Side.COORDINATOR, True),
        (Rule.CLOUD_WINS, Write(None, EARLY), Write(2, LATE), 2, Side.NODE, False),
        (Rule.CLOUD_WINS, Write(None, EARLY), Write(None, LATE), None, None, False),
        (Rule.MAX, Write(5, EARLY), Write(4, LATE), 5, Side.COORDINATOR, True),
        (Rule.MAX, Write(5, EARLY), Write(6, LATE), 6, Side.NODE, True),
        (Rule.UNION, Write(["b"], EARLY), Write(["a", "b"], LATE), ["a", "b"], Side.BOTH, True),
        # The coordinator knew of the node's write, whose clock was far ahead: it is later all the same.
        (Rule.LAST_WRITER, Write(1, EARLY, LATE), Write(2, LATE), 1, Side.COORDINATOR, False),
        (Rule.LAST_WRITER, Write(None, EARLY, LATE), Write(2, LATE), None, None, False),
        # The node knew of the coordinator's, whose clock was far ahead.
        (Rule.LAST_WRITER, Write(1, Stamp(900, 0, "coordinator")),
         Write(2, LATE, Stamp(900, 0, "coordinator")), 2, Side.NODE, False),
        # The later write does not hold: that is told too.
        (Rule.EDGE_WINS, Write(1, EARLY, LATE), Write(2, LATE), 2, Side.NODE, True),
        (Rule.MAX, Write(5, EARLY, LATE), Write(6, LATE), 6, Side.NODE, True),
        (Rule.MAX, Write(7, EARLY, LATE), Write(6, LATE), 7, Side.COORDINATOR, False),
        (Rule.UNION, Write(["b"], EARLY, LATE), Write(["a"], LATE), ["a", "b"], Side.BOTH, False),
        # Only one side ever wrote.
        (Rule.LAST_WRITER, Write(1, EARLY), None, 1, Side.COORDINATOR, False),
        (Rule.MAX, None, Write(2, LATE), 2, Side.NODE, False),
        (Rule.UNION, None, None, None, None, False),
    ],
)  # fmt: skip
def test_rules(
    rule: Rule, cloud: Write | None, edge: Write | None, holds: Any, winner: Side | None, is_conflict: bool
) -> None:
    outcome, conflict = settle("x", rule, cloud, edge)
    assert (outcome.value if outcome else None) == holds
    assert (outcome.winner if outcome else None) == winner
    assert (conflict is not None) == is_conflict
    if conflict is not None:
        assert cloud and edge
        assert (conflict.coordinator_value, conflict.node_value, conflict.value) == (cloud.value, edge.value, holds)
        assert (conflict.coordinator_at, conflict.node_at) == (str(cloud.at), str(edge.at))


def test_fields_of_a_later_version_and_of_others_are_refused_each_alone() -> None:
    desired = Desired(
        1, 1, {"warp": 9, "pipelines.door.model": "x", "heartbeat_s": 5, "log.level": "DEBUG"},
        {"log.level": Written("5.0.coordinator")},
    )  # fmt: skip
    local = {"heartbeat_s": Write(9, LATE), "warp": Write(1, LATE)}
    resolution = resolve(Known(desired, local))
    assert resolution.values == {"heartbeat_s": 5, "log.level": "DEBUG"}
    assert "there is no field 'warp'" in resolution.refused["warp"]
    assert "NAME@VERSION" in resolution.refused["pipelines.door.model"]
    assert "belongs to the coordinator" in resolution.refused["heartbeat_s"]
