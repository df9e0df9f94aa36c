"""Nodes and a coordinator over a wire that repeats and reorders, cut off anywhere: after quiet both hold the same."""

import json
import sqlite3
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.platform_state import tables as node_tables
from agent.platform_state.tables import Limits, Name
from coordinator.store import state as coordinator_tables
from coordinator.store.migrations import MIGRATIONS
from coordinator.store.state import place_of
from coordinator.store.store import Row
from runtime.sqlite import Connection, migrate, transaction
from runtime.timeline import MachineTime
from schemas.fields import Owner, Rule
from schemas.hlc import Stamp
from schemas.state import Collection, Collections, canonical
from schemas.state_registers import Register, StateChange, holds
from schemas.topics import COORDINATOR

NOON_MS = 1_795_521_600_000
DAY_MS = 86_400_000
LIMITS = Limits(keys_max=1000, refresh_ms=60_000)
COLLECTIONS = Collections(
    [
        Collection("t", "last", Owner.SHARED, Rule.LAST_WRITER),
        Collection("t", "most", Owner.SHARED, Rule.MAX),
        Collection("t", "all", Owner.SHARED, Rule.UNION),
        Collection("t", "edge", Owner.SHARED, Rule.EDGE_WINS),
    ]
)
VALUES: dict[str, list[Any]] = {
    "t.last": [1, 2, {"a": 1}],
    "t.most": [1, 2, 3],
    "t.all": [["a"], ["b", "a"], []],
    "t.edge": ["x", "y"],
}
writes = st.sampled_from([(path, value) for path, values in VALUES.items() for value in [*values, None]])
KEY = "b.c"  # one in each collection, so that writes meet
keys = st.just(KEY)


def database(script: Any) -> Connection:
    db = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
    migrate(db, script, what="test")
    return db


@dataclass(slots=True)
class Node:
    """The tables as `PlatformState` uses them, an outbox that is a list, and what a power cut goes back to."""

    name: str
    db: sqlite3.Connection = field(default_factory=lambda: database(node_tables.MIGRATIONS))
    now_ms: int = NOON_MS
    outbox: list[Row] = field(default_factory=list)  # all that it holds or held; numbered from 1
    on_disk: bytes = b""  # the tables as a power cut leaves them
    rows_on_disk: int = 0  # of the outbox
    wrote: dict[Name, Any] = field(default_factory=dict)  # what its functions see

    def __post_init__(self) -> None:
        self.on_disk = self.db.serialize()

    def write(self, name: Name, value: Any) -> None:
        clock = node_tables.read_clock(self.db, self.name)
        with transaction(self.db):
            if value is None:
                node_tables.delete(self.db, name, clock, self.now_ms, LIMITS)
            else:
                node_tables.put(self.db, name, canonical(value), clock, self.now_ms, LIMITS)
        self.wrote[name] = value

    def leave(self, *, cut_before: bool = False, cut_after: bool = False) -> list[Row]:
        """What has changed goes into the outbox. Cut off before that, or before it is marked as done."""
        with transaction(self.db):
            kept = node_tables.take(self.db, node_tables.unsent(self.db))
        self.on_disk = self.db.serialize()  # fsynced: what leaves is on the disk first
        if cut_before or not kept:
            return []
        rows: list[Row] = []
        for one in kept:
            seq = len(self.outbox) + len(rows) + 1
            change = StateChange(one.collection, one.key, one.value, Stamp.parse(one.at))
            data = json.dumps(change.data())
            rows.append(Row(self.name, "s", "state", seq, "StateChanged", one.key, None, one.time_utc_ms, 0, 1, data))
        self.outbox += rows
        if not cut_after:
            with transaction(self.db):
                node_tables.mark_sent(self.db, kept, rows[-1].seq)
        return rows

    def begin(self) -> None:
        """As each start does."""
        if len(self.outbox) < int(node_tables.meta(self.db, "last_seq") or 0):
            with transaction(self.db):
                node_tables.say_again(self.db, COLLECTIONS, len(self.outbox), 0)

    def power_cut(self, rows_kept: int, *, tables_too: bool) -> None:
        """The outbox loses its end, and the tables perhaps what they have not been made to keep."""
        del self.outbox[rows_kept:]
        if tables_too:
            self.db.deserialize(self.on_disk)
        self.wrote = {(one.collection, one.key): one.value for one in node_tables.entries(self.db, "")}
        self.begin()

    def holds(self) -> dict[Name, Any]:
        return {one.name: one.value for one in node_tables.entries(self.db, "")}


class TwoEnds(RuleBasedStateMachine):
    """Every row that was ever published may come, in any order and as often as it likes."""

    @initialize()
    def begin(self) -> None:
        self.nodes = [Node("gw-1"), Node("gw-2")]
        self.published: list[Row] = []
        self.busy = 0  # writes since the last quiet
        self.cloud = database(MIGRATIONS)
        self.cloud_now = MachineTime("server", 0, NOON_MS)
        with transaction(self.cloud):
            coordinator_tables.declare(self.cloud, COLLECTIONS)
        self.cloud_wrote: dict[Name, Any] = {}
        self.newest: dict[tuple[Name, str], Stamp] = {}

    @rule(at=st.integers(0, 1), said=st.lists(st.tuples(writes, keys), min_size=1, max_size=4))
    def node_writes(self, at: int, said: list[tuple[tuple[str, Any], str]]) -> None:
        for (path, value), key in said:
            self.nodes[at].write((path, key), value)
            self.nodes[at].now_ms += 7
            self.busy += 1

    @rule(write=writes, key=keys)
    def coordinator_writes(self, write: tuple[str, Any], key: str) -> None:
        path, value = write
        text = None if value is None else canonical(value)
        with transaction(self.cloud):
            coordinator_tables.write(self.cloud, path, key, text, self.cloud_now, 1000)
        self.cloud_wrote[(path, key)] = value
        self.cloud_now = replace(
            self.cloud_now, steady_ms=self.cloud_now.steady_ms + 5, wall_ms=self.cloud_now.wall_ms + 5
        )

    @rule(at=st.integers(0, 1), cut=st.sampled_from(["", "", "before", "after"]))
    def changes_leave(self, at: int, cut: str) -> None:
        self.published += self.nodes[at].leave(cut_before=cut == "before", cut_after=cut == "after")
        if cut:
            self.nodes[at].begin()

    @precondition(lambda self: self.published)
    @rule(picks=st.lists(st.integers(0, 1000), min_size=1, max_size=4))
    def rows_arrive(self, picks: list[int]) -> None:
        for pick in picks:
            self.arrive(self.published[pick % len(self.published)])

    @precondition(lambda self: any(node.outbox for node in self.nodes))
    @rule(at=st.integers(0, 1), lost=st.integers(0, 5), tables_too=st.booleans())
    def power_is_cut(self, at: int, lost: int, tables_too: bool) -> None:
        node = self.nodes[at]
        node.power_cut(max(0, len(node.outbox) - lost), tables_too=tables_too)

    @rule(at=st.integers(0, 1), jump_ms=st.sampled_from([DAY_MS, -DAY_MS, 60_000]))
    def clock_jumps(self, at: int, jump_ms: int) -> None:
        """As after a start of the machine with a wrong clock: nothing shows that it is."""
        self.nodes[at].now_ms += jump_ms

    @precondition(lambda self: self.busy > 3)
    @rule(order=st.randoms(use_true_random=False), jump_ms=st.sampled_from([0, DAY_MS, -DAY_MS]))
    def quiet(self, order: Any, jump_ms: int) -> None:
        """Everything leaves and arrives, in any order: now the coordinator has what each node has."""
        self.busy = 0
        self.cloud_now = replace(self.cloud_now, wall_ms=self.cloud_now.wall_ms + jump_ms)
        rows = []
        for node in self.nodes:
            node.begin()
            self.published += node.leave()
            rows += node.outbox + node.outbox[-3:]
        order.shuffle(rows)
        for row in rows:
            self.arrive(row)
        for node in self.nodes:
            assert self.registered(node.name) == node.holds()
            assert node.holds() == {name: value for name, value in node.wrote.items() if value is not None}
        assert self.registered(COORDINATOR) == {n: v for n, v in self.cloud_wrote.items() if v is not None}
        self.check_what_holds()

    def check_what_holds(self) -> None:
        for path in COLLECTIONS:
            declared = COLLECTIONS[path]
            for key in (KEY,):
                written = coordinator_tables.registers(self.cloud, place_of(path), key)
                held = holds(written, declared.rule)
                entry = coordinator_tables.entry(self.cloud, path, key, declared.rule, self.cloud_now)
                assert (entry and entry.value) == (held and held.value)
                said = [one.value for one in written if one.value is not None]
                if declared.rule is Rule.MAX:
                    assert (held.value if held else None) == max(said, default=None)
                elif declared.rule is Rule.UNION and said:
                    assert held is not None
                    assert sorted(held.value) == sorted({item for value in said for item in value})

    @precondition(lambda self: self.busy > 3)
    @rule(key=keys, value=st.integers(10, 20))
    def who_writes_having_seen_everything_is_the_later_one(self, key: str, value: int) -> None:
        self.busy, path = 0, "t.last"
        for node in self.nodes:
            node.begin()
            self.published += node.leave()
            for row in node.outbox:
                self.arrive(row)
        self.coordinator_writes((path, value), key)
        entry = coordinator_tables.entry(self.cloud, path, key, Rule.LAST_WRITER, self.cloud_now)
        assert entry is not None and (entry.value, entry.written_by) == (value, COORDINATOR)

    @invariant()
    def no_writer_goes_back(self) -> None:
        for key, register in self.all_registers():
            name = key, register.writer
            assert name not in self.newest or register.at >= self.newest[name]
            self.newest[name] = register.at

    def arrive(self, row: Row) -> None:
        with transaction(self.cloud):
            coordinator_tables.take(self.cloud, [row], 1000)

    def all_registers(self) -> list[tuple[Name, Register]]:
        return [
            ((path, key), one)
            for path in COLLECTIONS
            for key, written in coordinator_tables.by_key(self.cloud, place_of(path))
            for one in written
        ]

    def registered(self, writer: str) -> dict[Name, Any]:
        return {
            name: one.value for name, one in self.all_registers() if one.writer == writer and one.value is not None
        }

    def teardown(self) -> None:
        if hasattr(self, "cloud"):
            try:
                for node in self.nodes:
                    node.begin()
                    self.published += node.leave()
                    for row in node.outbox:
                        self.arrive(row)
                    assert self.registered(node.name) == node.holds()
            finally:
                for db in (self.cloud, *(node.db for node in self.nodes)):
                    db.close()


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=300, stateful_step_count=20, deadline=None)
