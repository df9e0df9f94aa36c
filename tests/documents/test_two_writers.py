"""Two writers, partitions, documents out of order and more than once, clocks that jump, a coordinator put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemas.documents import encode
from schemas.fields import Rule, rule_of
from tests.documents.world import DAY_MS, World

VALUES: dict[str, list[Any]] = {
    "pipelines.door.enabled": [True, False, None],
    "log.level": ["DEBUG", "INFO", "ERROR", None],
    "labels.line": ["b", "c", None],
    "alerts.gate.muted_until_utc_ms": [1000, 2000, 3000, None],
    "pipelines.door.classes_ignored": [["cat"], ["dog"], [], None],
}
JUMPS = st.sampled_from([DAY_MS, -DAY_MS])
writes = st.sampled_from([(path, value) for path, values in VALUES.items() for value in values])


class TwoWriters(RuleBasedStateMachine):
    """Whatever happens, one exchange makes both sides hold the same, and every conflict is recorded at both."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.cloud, self.edge = self.world.cloud, self.world.edge
        self.to_edge: list[bytes] = []
        self.to_cloud: list[bytes] = []
        self.version = (0, 0)
        self.stamps: dict[str, Any] = {}
        self.backup: Path | None = None
        self.edge_backup: Path | None = None

    @rule(write=writes)
    def cloud_writes(self, write: tuple[str, Any]) -> None:
        desired = self.cloud.write(*write)
        if desired.revision:
            self.to_edge.append(encode(desired))
        self.cloud.pass_time(7)

    @rule(seconds=st.integers(1, 3600))
    def coordinator_field(self, seconds: int) -> None:
        self.to_edge.append(encode(self.cloud.write("heartbeat_s", seconds)))

    @rule(write=writes)
    def edge_writes(self, write: tuple[str, Any]) -> None:
        self.edge.write(*write)
        self.to_cloud.append(encode(self.edge.report))
        self.edge.pass_time(11)

    @rule(pick=st.integers(0, 1000))
    def desired_arrives(self, pick: int) -> None:
        """Any that was ever published: late, out of order, again."""
        if self.to_edge:
            self.edge.take(self.to_edge[pick % len(self.to_edge)])
            self.to_cloud.append(encode(self.edge.report))

    @rule(pick=st.integers(0, 1000))
    def reported_arrives(self, pick: int) -> None:
        if self.to_cloud:
            self.cloud.take(self.to_cloud[pick % len(self.to_cloud)])
            if self.cloud.desired.revision:
                self.to_edge.append(encode(self.cloud.desired))

    @rule(jump_ms=JUMPS, at_cloud=st.booleans())
    def clock_jumps(self, jump_ms: int, at_cloud: bool) -> None:
        (self.cloud if at_cloud else self.edge).jump(jump_ms)

    @rule(jump_ms=JUMPS, at_cloud=st.booleans())
    def machine_starts_anew_with_a_wrong_clock(self, jump_ms: int, at_cloud: bool) -> None:
        (self.cloud if at_cloud else self.edge).reboot(jump_ms)

    @rule()
    def edge_restarts(self) -> None:
        self.edge.start()

    @rule()
    def cloud_is_backed_up(self) -> None:
        self.backup = self.cloud.back_up()

    @rule()
    def cloud_is_put_back(self) -> None:
        if self.backup:
            self.cloud.put_back(self.backup)

    @rule()
    def edge_is_backed_up(self) -> None:
        self.edge_backup = self.edge.back_up()

    @rule()
    def edge_is_put_back(self) -> None:
        """What was written at the node since then is lost; how far it had come, too."""
        if self.edge_backup:
            self.edge.put_back(self.edge_backup)
            self.version = (0, 0)
            self.stamps.clear()

    @rule()
    def they_meet(self) -> None:
        self.world.exchange()
        known = self.edge.known
        if self.cloud.desired.revision:
            assert known.desired == self.cloud.desired
            assert self.cloud.resolved().values == {
                path: value for path, value in self.edge.report.fields.items() if path in self.cloud.resolved().values
            }
        assert self.cloud.reported == self.edge.report
        told = {(one.path, one.coordinator_at, one.node_at) for one in self.edge.report.conflicts}
        assert told <= self.cloud.conflicts()
        self.to_edge.append(encode(known.desired)) if known.desired.revision else None

    @rule(path=st.sampled_from(list(VALUES)), pick=st.integers(0, 3), at_cloud=st.booleans())
    def who_writes_after_they_met_is_the_later_one(self, path: str, pick: int, at_cloud: bool) -> None:
        self.world.exchange()
        value = VALUES[path][pick % len(VALUES[path])]
        (self.cloud if at_cloud else self.edge).write(path, value)
        self.world.exchange()
        if rule_of(path) is Rule.LAST_WRITER and value is not None:
            assert self.edge.report.fields[path] == value

    @invariant()
    def the_node_never_goes_back(self) -> None:
        known = self.edge.known
        assert known.desired.version >= self.version
        self.version = known.desired.version
        for path, write in known.local.items():
            assert path not in self.stamps or write.at >= self.stamps[path]
            self.stamps[path] = write.at

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.they_meet()
            finally:
                self.world.close()


TestTwoWriters = TwoWriters.TestCase
TestTwoWriters.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@contextmanager
def world() -> Iterator[World]:
    made = World()
    try:
        yield made
    finally:
        made.close()


STEPS = st.lists(
    st.tuples(st.sampled_from(["cloud", "edge", "meet", "wait", "restart"]), writes), min_size=1, max_size=15
)


def play(steps: list[tuple[str, tuple[str, Any]]], jumps: dict[int, tuple[bool, int]]) -> Any:
    """What both sides hold in the end, and what they recorded."""
    with world() as made:
        for n, (what, write) in enumerate(steps):
            if n in jumps:
                at_cloud, ms = jumps[n]
                (made.cloud if at_cloud else made.edge).jump(ms)
            match what:
                case "cloud":
                    made.cloud.write(*write)
                case "edge":
                    made.edge.write(*write)
                case "meet":
                    made.exchange()
                case "restart":
                    made.edge.start()
            made.cloud.pass_time(1000 if what == "wait" else 3)
            made.edge.pass_time(1000 if what == "wait" else 3)
        made.exchange()
        return made.cloud.desired, made.edge.report, made.cloud.conflicts()


@given(STEPS, st.dictionaries(st.integers(0, 14), st.tuples(st.booleans(), JUMPS), max_size=5))
@settings(max_examples=40, deadline=None)
def test_clock_jumps_of_a_day_either_way_change_nothing(
    steps: list[tuple[str, tuple[str, Any]]], jumps: dict[int, tuple[bool, int]]
) -> None:
    assert play(steps, jumps) == play(steps, {})


@given(st.lists(st.tuples(st.booleans(), st.booleans(), JUMPS, st.booleans()), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_who_knew_of_the_other_is_the_later_one_however_wrong_the_clocks(
    turns: list[tuple[bool, bool, int, bool]],
) -> None:
    """Machines that start anew with a clock a day off: there nothing shows that it is."""
    with world() as made:
        for by_cloud, reboots_cloud, jump_ms, value in turns:
            (made.cloud if reboots_cloud else made.edge).reboot(jump_ms)
            (made.cloud if by_cloud else made.edge).write("pipelines.door.enabled", value)
            made.exchange()
            assert made.edge.report.fields["pipelines.door.enabled"] is value
            assert made.cloud.resolved().values["pipelines.door.enabled"] is value
        assert made.cloud.conflicts() == set()
