"""Platform state at the coordinator, on a real file: rows of nodes, own writes, refusals, limits, forgetting."""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from coordinator.ingest.decode import Facts
from coordinator.state.judge import Judge
from coordinator.state.view import CoordinatorState
from coordinator.store import state as tables
from coordinator.store.place import Place, open_store
from coordinator.store.reader import Reader
from coordinator.store.sql import SqlStore, StoreLimits
from coordinator.store.state_views import KeyView, Wanted
from coordinator.store.store import Batch, Committed, Row
from schemas.fields import Owner, Rule
from schemas.hlc import Stamp
from schemas.state import Collection, Collections, StateRefusedError
from schemas.state_registers import StateChange
from schemas.topics import Kind
from tests.platform_state.nodes import COLLECTIONS

T = TypeVar("T")
AT = 1_795_521_600_000
DAY_MS = 86_400_000
ROADS, COUNTS, LIMITS, PLANS = "traffic.intersections", "traffic.counts", "traffic.limits", "traffic.plans"
RED = {"phase": "red"}


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


class Rows:
    """Rows of nodes, numbered as outboxes do."""

    def __init__(self) -> None:
        self._seq = 0

    def row(self, path: str, key: str, value: Any, at: int = 0, *, node: str = "gw-1") -> Row:
        self._seq += 1
        data = StateChange(path, key, value, Stamp(AT + at, 0, node)).data()
        return Row(
            node, "s1", "state", self._seq, "StateChanged", key, None, AT + at, AT + at + 9, 1, json.dumps(data)
        )


@pytest.fixture
def store(place: Place) -> Iterator[SqlStore]:
    opened = open_store(place, StoreLimits(state_rows_max=100))
    yield opened
    opened.close()


@pytest.fixture
def state(store: SqlStore) -> CoordinatorState:
    return CoordinatorState(store, COLLECTIONS)


rows = Rows()


def with_data(row: Row, **data: Any) -> Row:
    return row._replace(data=json.dumps(json.loads(row.data) | data))


def take(store: SqlStore, *said: Row) -> Committed:
    return run(store.commit(Batch(samples=list(said))))


def views(place: Place, **wanted: Any) -> dict[str, KeyView]:
    reader = Reader(place)
    try:
        return {view.path: view for view in reader.state(Wanted(**wanted), 1000)}
    finally:
        reader.close()


def held(state: CoordinatorState, path: str) -> dict[str, Any]:
    return {entry.key: entry.value for entry in run(state.entries(path))}


def test_what_a_node_says_is_there_with_the_row_that_said_it(
    store: SqlStore, state: CoordinatorState, place: Place
) -> None:
    done = take(store, rows.row(ROADS, "IS-001", RED), rows.row(ROADS, "IS-002", RED))
    assert (done.new, done.state.changed) == (2, 2)
    entry = run(state.get(ROADS, "IS-001"))
    assert entry is not None
    assert (entry.value, entry.written_by, entry.time_utc_ms) == (RED, "gw-1", AT)
    assert run(state.keys(ROADS, "IS-00")) == ["IS-001", "IS-002"]
    assert run(state.get(ROADS, "IS-003")) is None
    take(store, rows.row(ROADS, "IS-001", None, 1))
    assert run(state.keys(ROADS)) == ["IS-002"]
    assert list(views(place)) == [f"{ROADS}.IS-002"]
    deleted = views(place, key="IS-001")[f"{ROADS}.IS-001"]
    assert (deleted.value, deleted.written_by) == (None, ())


def test_an_older_write_of_the_same_node_changes_nothing(store: SqlStore, state: CoordinatorState) -> None:
    done = take(store, rows.row(COUNTS, "a", 2, 5), rows.row(COUNTS, "a", 1, 4), rows.row(COUNTS, "a", 2, 5))
    assert (done.state.changed, done.state.stale) == (1, 2)
    assert held(state, COUNTS) == {"a": 2}


def test_a_row_that_is_here_already_or_was_given_up_changes_nothing(store: SqlStore, state: CoordinatorState) -> None:
    row = rows.row(COUNTS, "a", 1, 5)
    assert take(store, row).state.changed == 1
    assert take(store, row).state == Committed().state


def test_other_rows_of_the_lane_are_no_state(store: SqlStore, state: CoordinatorState) -> None:
    sample = rows.row(COUNTS, "a", 1)._replace(type="FrameResult")
    other = rows.row(COUNTS, "b", 1)._replace(lane="sample")
    assert take(store, sample, other).state.changed == 0
    assert held(state, COUNTS) == {}


def test_a_row_that_cannot_be_read_stays_a_row(store: SqlStore, state: CoordinatorState) -> None:
    done = take(store, with_data(rows.row(COUNTS, "a", 1), collection=7), rows.row(COUNTS, "b", 1))
    assert (done.new, held(state, COUNTS)) == (2, {"b": 1})


def test_both_sides_write_a_shared_key_and_the_rule_says_what_holds(
    store: SqlStore, state: CoordinatorState, place: Place
) -> None:
    take(store, rows.row(LIMITS, "IS-1", 50), rows.row(LIMITS, "IS-1", 80, node="gw-2"))
    run(state.put(LIMITS, "IS-1", 30))
    entry = run(state.get(LIMITS, "IS-1"))
    assert entry is not None
    assert (entry.value, entry.written_by) == (80, "gw-2")
    view = views(place)[f"{LIMITS}.IS-1"]
    assert (view.rule, view.conflict, view.checked) == ("max", True, True)
    assert {one.node: one.value for one in view.writers} == {"gw-1": 50, "gw-2": 80, "coordinator": 30}
    take(store, rows.row(LIMITS, "IS-1", None, 9, node="gw-2"))
    assert held(state, LIMITS) == {"IS-1": 50}
    assert run(state.delete(LIMITS, "IS-1")) is True
    assert held(state, LIMITS) == {"IS-1": 50}


def test_the_coordinators_word_is_later_than_what_it_had_seen_however_wrong_the_clock_of_the_node(
    place: Place, store: SqlStore
) -> None:
    state = CoordinatorState(store, Collections([Collection("traffic", "x", Owner.SHARED)]))
    year_ms = 365 * DAY_MS
    ahead = rows.row("traffic.x", "a", "node", 20 * year_ms)
    take(store, ahead)
    run(state.put("traffic.x", "a", "cloud"))
    assert held(state, "traffic.x") == {"a": "cloud"}
    assert not views(place)["traffic.x.a"].conflict
    # That drew one write along and not the clock: other keys are stamped as ever.
    run(state.put("traffic.x", "b", "cloud"))
    with_stamps = {one.path: one.writers[-1].at for one in views(place, node="coordinator").values()}
    assert Stamp.parse(with_stamps["traffic.x.a"]).wall_ms >= AT + 20 * year_ms
    assert Stamp.parse(with_stamps["traffic.x.b"]).wall_ms < AT + 20 * year_ms
    take(store, rows.row("traffic.x", "a", "later", 20 * year_ms + 1))
    assert held(state, "traffic.x") == {"a": "later", "b": "cloud"}
    assert views(place)["traffic.x.a"].conflict  # it had not seen the other's


def test_the_coordinator_writes_what_is_its_own_and_nothing_else(state: CoordinatorState) -> None:
    run(state.put(PLANS, "p", {"green_s": 30}))
    entry = run(state.get(PLANS, "p"))
    assert entry is not None
    assert (entry.value, entry.written_by) == ({"green_s": 30}, "coordinator")
    assert 0 <= entry.age_s < 60
    assert run(state.delete(PLANS, "p"))
    assert not run(state.delete(PLANS, "p"))
    assert not run(state.delete(PLANS, "q"))
    for path, value, code in [
        (ROADS, RED, "wrong_owner"),
        ("traffic.x", 1, "unknown_collection"),
        (PLANS, float("inf"), "bad_value"),
        (PLANS, "x" * 70_000, "too_large"),
    ]:
        with pytest.raises(StateRefusedError) as caught:
            run(state.put(path, "k", value))
        assert caught.value.code == code
    with pytest.raises(StateRefusedError):
        run(state.delete(ROADS, "IS-1"))
    with pytest.raises(StateRefusedError):
        run(state.entries("traffic.x"))


def test_state_and_its_clock_survive_a_restart(place: Place) -> None:
    stamps = []
    for n in range(3):
        store = open_store(place)
        state = CoordinatorState(store, COLLECTIONS)
        assert held(state, PLANS) == ({"p": n - 1} if n else {})
        run(state.put(PLANS, "p", n))
        store.close()
        (writer,) = views(place)[f"{PLANS}.p"].writers
        stamps.append(Stamp.parse(writer.at))
    assert stamps == sorted(set(stamps))


# ---- refusals ----------------------------------------------------------------------------------------


def breaks(key: str, value: Any) -> str | None:
    raise RuntimeError("a defect of the check")


JUDGE = Judge(Collections([*COLLECTIONS.values(), Collection("odd", "x", check=breaks)]))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (rows.row(ROADS, "IS-1", {"phase": "blue"}), "traffic.intersections 'IS-1': IS-1: phase must be red"),
        (rows.row(PLANS, "p", 1), "traffic.plans 'p': it belongs to the coordinator"),
        (rows.row(PLANS, "p", None), "traffic.plans 'p': it belongs to the coordinator"),
        (rows.row("odd.x", "p", 1), "cannot be checked: RuntimeError: a defect"),
        (with_data(rows.row(COUNTS, "p", 1), at="1.1.gw-2"), "is not one of gw-1"),
        (with_data(rows.row(COUNTS, "p", 1), key=[]), "key must be a text"),
        (rows.row("retail.visitors", "v", {"face": 1}), "personal data does not leave its node"),
        (with_data(rows.row("retail.visitors", "v", {"face": 1}), at=""), "is no stamp"),
        (rows.row("bakery.ovens", "o", "x" * 70_000), "as JSON; a value has at most 65536"),
    ],
)
def test_a_row_that_cannot_be_is_kept_with_the_reason(row: Row, said: str) -> None:
    good = rows.row(ROADS, "IS-1", RED)
    taken, (refused,) = JUDGE.sort([good, row], "edge/v1/gw-1/sync")
    assert taken == [good]
    assert (refused.node, refused.stream, refused.lane, refused.seq) == row[:4]
    assert said in refused.reason
    assert refused.topic == "edge/v1/gw-1/sync"
    is_personal = row.data.count("retail.visitors") > 0
    assert refused.payload == (b"" if is_personal else row.data.encode())


def test_what_is_good_unknown_or_no_state_at_all_is_taken() -> None:
    said = [
        rows.row(ROADS, "IS-1", None),
        rows.row("bakery.ovens", "o", {"anything": [1]}),
        rows.row(ROADS, "IS-1", 7)._replace(type="FrameResult"),
        rows.row(ROADS, "IS-1", 7)._replace(lane="sample"),
    ]
    assert JUDGE.sort(said, "t") == (said, [])
    assert Facts(Kind.SYNC, said).rows == said


def test_an_unknown_collection_is_kept_and_marked_until_its_platform_is_installed(place: Place) -> None:
    store = open_store(place)
    state = CoordinatorState(store, COLLECTIONS)
    take(store, rows.row("bakery.ovens", "o", 1), rows.row(COUNTS, "a", 1))
    found = views(place)
    assert [found[path].checked for path in ("bakery.ovens.o", f"{COUNTS}.a")] == [False, True]
    with pytest.raises(StateRefusedError, match="no platform here declares it"):
        run(state.get("bakery.ovens", "o"))
    installed = CoordinatorState(store, Collections([Collection("bakery", "ovens", rule=Rule.EDGE_WINS)]))
    entry = run(installed.get("bakery.ovens", "o"))
    assert entry is not None and entry.value == 1
    take(store, rows.row("bakery.ovens", "o", 2, 1), rows.row(COUNTS, "b", 1))
    found = views(place)
    assert [found[path].checked for path in ("bakery.ovens.o", f"{COUNTS}.a", f"{COUNTS}.b")] == [True, True, False]
    assert (found["bakery.ovens.o"].rule, found[f"{COUNTS}.a"].rule) == ("edge_wins", "last_writer")
    store.close()


# ---- limits and forgetting ---------------------------------------------------------------------------


def test_a_full_collection_gives_up_deleted_keys_and_then_what_changed_longest_ago(
    store: SqlStore, state: CoordinatorState, place: Place
) -> None:
    take(store, *(rows.row(COUNTS, f"{n:03d}", n) for n in range(100)))
    take(store, rows.row(COUNTS, "050", None, 999), rows.row(COUNTS, "000", "again", 999))
    assert take(store, rows.row(COUNTS, "100", 1)).state.shed == 0  # the deleted one went
    done = take(store, rows.row(COUNTS, "101", 1), rows.row(COUNTS, "102", 1), rows.row(LIMITS, "a", 1))
    assert done.state.shed == 2
    kept = run(state.keys(COUNTS))
    assert len(kept) == 100
    assert not {"050", "001", "002"} & set(kept)
    assert {"000", "003", "100", "101", "102"} <= set(kept)
    reader = Reader(place)
    (counts, *_) = [one for one in reader.state_collections() if one.collection == "counts"]
    assert (counts.rows, counts.shed, counts.declared) == (100, 2, True)
    reader.close()


def test_collections_that_nobody_declares_are_not_without_number(
    store: SqlStore, state: CoordinatorState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "COLLECTIONS_MAX", 3)
    done = take(store, *(rows.row(f"odd.x{n}", "a", n) for n in range(5)), rows.row(COUNTS, "a", 1))
    assert (done.new, done.state.changed, done.state.left_out) == (6, 4, 2)
    assert held(state, COUNTS) == {"a": 1}


def test_a_node_that_is_no_more_leaves_nothing_behind(store: SqlStore, state: CoordinatorState, place: Place) -> None:
    take(store, rows.row(COUNTS, "a", 1), rows.row(COUNTS, "b", 2), rows.row(COUNTS, "a", 3, 1, node="gw-2"))
    take(store, rows.row(COUNTS, "b", None, 1))
    assert run(state.forget_node("gw-1")) == 2
    assert held(state, COUNTS) == {"a": 3}
    assert [one.node for view in views(place).values() for one in view.writers] == ["gw-2"]
    reader = Reader(place)
    assert [one.rows for one in reader.state_collections() if one.collection == "counts"] == [1]
    reader.close()
    assert run(state.forget_node("gw-1")) == 0
    take(store, rows.row("bakery.ovens", "o", 1, node="gw-3"))
    assert run(state.forget_node("gw-3")) == 1
    reader = Reader(place)
    assert "bakery" not in {one.platform for one in reader.state_collections()}
    reader.close()


def test_changes_are_told_in_the_order_in_which_they_came_and_each_once(
    store: SqlStore, state: CoordinatorState, place: Place
) -> None:
    reader = Reader(place)
    take(store, rows.row(COUNTS, "a", 1))
    after = reader.last_state_change()
    take(store, rows.row(COUNTS, "b", 1), rows.row(COUNTS, "a", 2, 1), rows.row(ROADS, "IS-1", RED))
    run(state.put(PLANS, "p", 1))
    take(store, rows.row(COUNTS, "c", 1))
    run(state.forget_node("gw-1"))  # numbers are not given twice for it
    take(store, rows.row(COUNTS, "d", 1))
    after, found = reader.state_changes(Wanted(), after, 1)
    assert [path for path, _ in found] == [f"{PLANS}.p"]
    after, found = reader.state_changes(Wanted("traffic", "counts"), after, 10)
    assert [(path, one.value) for path, one in found] == [(f"{COUNTS}.d", 1)]
    assert reader.state_changes(Wanted(), after, 10) == (after, [])
    reader.close()
