"""The coordinator's side: revisions, stale writes, new epochs, reports and conflicts, in a real database."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from coordinator.documents.changes import Change, ChangeRefusedError, next_version
from coordinator.fleet.registry import FleetEvent
from coordinator.store import documents
from coordinator.store.place import Place, open_alone, open_store
from coordinator.store.reader import Reader
from coordinator.store.reports import Taken, take_reports
from coordinator.store.store import Batch, ReportedRow
from runtime.database import transaction
from runtime.timeline import MachineTime
from schemas.codec import encode_event
from schemas.documents import Conflict, Desired, Reported, Version, Write, sealed
from schemas.fields import Rule
from schemas.hlc import Stamp
from schemas.identity import Identity
from schemas.messages import Event

NOON_MS = 1_795_521_600_000
DAY_MS = 86_400_000
NODE = "gw-1"
ENABLED = "pipelines.door.enabled"


class Desk:
    """A coordinator's database, and time that a test turns."""

    def __init__(self, place: Place) -> None:
        self.db = open_alone(place)
        self.now = MachineTime("a", 0, NOON_MS)

    def pass_time(self, ms: int, jump_ms: int = 0) -> None:
        self.now = MachineTime("a", self.now.steady_ms + ms, self.now.wall_ms + ms + jump_ms)

    def change(self, *unset: str, if_revision: int | None = None, **values: Any) -> Desired:
        asked = Change({path.replace("__", "."): value for path, value in values.items()}, unset, if_revision, "test")
        with transaction(self.db):
            return documents.change(self.db, NODE, asked, self.now).desired

    def report(self, document: Reported, *, named: bool = False) -> Taken:
        with transaction(self.db):
            row = ReportedRow(NODE, sealed(document), self.now.wall_ms, named)
            return take_reports(self.db, [row], self.now)[0]


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    made = Desk(place)
    yield made
    made.db.close()


def answer(desired: Desired, serial: int = 1, boot: int = 1, **local: Write) -> Reported:
    """What a node reports that has taken `desired` and written `local`."""
    writes = {path.replace("__", "."): write for path, write in local.items()}
    return Reported(
        boot, serial, desired.epoch, desired.revision, desired.hash,
        local={path: write.value for path, write in writes.items()},
        stamps={path: write.written for path, write in writes.items()},
    )  # fmt: skip


def kinds(events: list[FleetEvent]) -> list[str]:
    return [event.type for event in events]


def test_revisions_count_and_only_changes_make_one(desk: Desk) -> None:
    first = desk.change(heartbeat_s=5)
    assert first.version == (1, 1)
    assert desk.change(heartbeat_s=5) == first
    second = desk.change(log__level="DEBUG")
    assert (second.version, second.fields) == ((1, 2), {"heartbeat_s": 5, "log.level": "DEBUG"})
    third = desk.change("heartbeat_s", "log.level")
    assert third.fields == {"log.level": None}  # taken back, with a stamp
    assert third.writes()["log.level"].at > second.writes()["log.level"].at
    assert desk.change("heartbeat_s", "log.level", "labels.line") == third
    assert [step.changes for step in documents.history(desk.db, NODE)] == [
        {"heartbeat_s": [None, 5]},
        {"log.level": [None, "DEBUG"]},
        {"heartbeat_s": [5, None], "log.level": ["DEBUG", None]},
    ]


def test_the_same_value_of_a_shared_field_once_more_is_a_write(desk: Desk) -> None:
    """It overrules what the node may have written meanwhile; and the history shows who insisted."""
    first, second = desk.change(log__level="DEBUG"), desk.change(log__level="DEBUG")
    assert second.version == (1, 2)
    assert second.writes()["log.level"].at > first.writes()["log.level"].at


def test_a_stale_change_is_refused_with_what_is_current(desk: Desk) -> None:
    desk.change(heartbeat_s=5)
    current = desk.change(heartbeat_s=6, if_revision=1)
    with pytest.raises(ChangeRefusedError) as refused:
        desk.change(heartbeat_s=7, if_revision=1)
    assert (refused.value.code, refused.value.current) == ("stale", current)
    assert "revision 2 of epoch 1 is current, not 1; there heartbeat_s = 6" in str(refused.value)
    assert documents.desired(desk.db, NODE) == current


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"warp": 1}, "there is no field 'warp'"),
        ({"heartbeat_s": "fast", "log__level": "LOUD"}, "log.level = 'LOUD': must be one of"),
        ({"pipelines__door__model": "m"}, "NAME@VERSION"),
        ({}, "at least one field"),
    ],
)
def test_what_cannot_be_written_is_refused_as_a_whole(desk: Desk, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ChangeRefusedError) as refused:
        desk.change(**values)
    assert said in str(refused.value)
    assert documents.desired(desk.db, NODE) == Desired()


def test_a_change_that_knows_of_the_nodes_write_overrules_it_whatever_its_clock(desk: Desk) -> None:
    first = desk.change(pipelines__door__enabled=True)
    ahead = Write(False, Stamp(NOON_MS + DAY_MS, 0, NODE), first.writes()[ENABLED].at)
    taken = desk.report(answer(first, pipelines__door__enabled=ahead))
    assert kinds(taken.events) == ["DesiredApplied", "ClockAhead"]
    assert taken.events[1].data["ahead_ms"] == DAY_MS
    second = desk.change(pipelines__door__enabled=True)  # the same value as before: the node's holds, so it is news
    write = second.writes()[ENABLED]
    assert second.version == (1, 2)
    assert write.over == ahead.at
    assert write.at.wall_ms <= NOON_MS + 60_000  # our clock was not dragged along
    again = desk.report(answer(second, 2, pipelines__door__enabled=ahead))
    assert kinds(again.events) == ["DesiredApplied"]


@pytest.mark.parametrize("jump_ms", [0, DAY_MS, -DAY_MS])
def test_a_clock_that_jumps_changes_no_stamp(desk: Desk, jump_ms: int, caplog: pytest.LogCaptureFixture) -> None:
    desk.change(log__level="DEBUG")
    desk.pass_time(1000, jump_ms)
    later = desk.change(log__level="INFO").writes()["log.level"].at
    assert later == Stamp(NOON_MS + 1000, 0, "coordinator")
    desk.change(log__level="DEBUG")
    assert caplog.text.count("the wall clock has jumped") == (1 if jump_ms else 0)


def test_a_conflict_is_recorded_once_with_both_values(desk: Desk) -> None:
    first = desk.change(pipelines__door__enabled=True)
    write = Write(False, Stamp(NOON_MS + 5, 0, NODE))
    taken = desk.report(answer(first, pipelines__door__enabled=write))
    assert kinds(taken.events) == ["DesiredApplied", "ConflictResolved"]
    desk.report(answer(first, 2, pipelines__door__enabled=write))
    desk.report(answer(first, 1, boot=2, pipelines__door__enabled=write))
    (found,) = documents.found_conflicts(desk.db, "", 10)
    shown = found.conflict
    assert (shown["coordinator_value"], shown["node_value"], shown["value"], shown["winner"]) == (
        True, False, False, "node",
    )  # fmt: skip
    assert documents.found_conflicts(desk.db, "gw-2", 10) == []


def test_an_older_report_changes_nothing_unless_the_heartbeat_names_it(desk: Desk) -> None:
    first = desk.change(heartbeat_s=5)
    newer, older = answer(first, 3, boot=2), answer(first, 9, boot=1)
    desk.report(newer)
    assert desk.report(older).hash == sealed(newer).hash
    assert documents.reported(desk.db, NODE) == sealed(newer)
    assert desk.report(older, named=True).hash == sealed(older).hash  # a new disk: its count began anew


@pytest.mark.parametrize(
    ("reported", "renewed"),
    [((1, 2), None), ((1, 1), None), ((0, 0), None), ((1, 3), (2, 4)), ((4, 1), (5, 3)), ((1, 9), (2, 10))],
)
def test_a_coordinator_put_back_from_a_backup_begins_an_epoch(
    desk: Desk, reported: Version, renewed: Version | None
) -> None:
    desk.change(heartbeat_s=5)
    ours = desk.change(heartbeat_s=6)
    digest = ours.hash if reported == ours.version else "0" * 32
    taken = desk.report(Reported(1, 1, *reported, digest))
    assert (taken.renewed.version if taken.renewed else None) == renewed
    if taken.renewed:
        assert taken.renewed.fields == ours.fields
        assert "DesiredEpochBegun" in kinds(taken.events)
        assert documents.desired(desk.db, NODE) == taken.renewed
        assert desk.report(answer(taken.renewed, 2)).renewed is None


def test_another_document_of_the_same_revision_is_not_ours_either(desk: Desk) -> None:
    desk.change(heartbeat_s=5)
    taken = desk.report(Reported(1, 1, 1, 1, "0" * 32))
    assert taken.renewed
    assert taken.renewed.version == (2, 2)


def test_a_coordinator_that_knows_nothing_leaves_the_node_alone_until_it_is_told_something(desk: Desk) -> None:
    assert desk.report(Reported(1, 1, 3, 7, "0" * 32)).renewed is None
    assert desk.change(heartbeat_s=5).version == (4, 8)


@pytest.mark.parametrize(
    ("own", "reported", "following"),
    [((0, 0), (0, 0), (1, 1)), ((1, 4), (1, 4), (1, 5)), ((1, 4), (1, 2), (1, 5)), ((2, 4), (1, 9), (2, 10)),
     ((1, 4), (1, 9), (2, 10))],
)  # fmt: skip
def test_the_next_version_is_later_than_both(own: Version, reported: Version, following: Version) -> None:
    assert next_version(own, reported) == following


def test_history_and_conflicts_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "HISTORY_MAX", 3)
    monkeypatch.setattr(documents, "CONFLICTS_MAX", 2)
    for n in range(6):
        current = desk.change(pipelines__door__enabled=bool(n % 2))
        write = Write(not n % 2, Stamp(5 + n, 0, NODE))
        desk.report(answer(current, n + 1, pipelines__door__enabled=write))
        desk.pass_time(10)
    assert [step.revision for step in documents.history(desk.db, NODE)] == [4, 5, 6]
    assert len(documents.found_conflicts(desk.db, "", 10)) <= 2


def test_what_everybody_is_told_is_short_whatever_a_node_reports(desk: Desk) -> None:
    long = [f"{n}".rjust(200, "\N{SNOWMAN}") for n in range(100)]
    first = desk.change(pipelines__door__classes_ignored=long)
    write = Write([text[::-1] for text in long], Stamp(NOON_MS, 0, NODE))
    report = answer(first, pipelines__door__classes_ignored=write)
    hostile = Conflict("x" * 10_000, Rule.MAX, 1, "1.0.a", 2, "1.0.b", 2, "node")
    refused = {f"{n}" * 60: "because" * 40 for n in range(300)}
    taken = desk.report(replace(report, refused=refused, conflicts=[hostile]))
    assert kinds(taken.events) == ["DesiredApplied", "ConflictResolved"]
    for event in taken.events:
        identity = Identity("fleet", "s", "lifecycle", 1)
        assert encode_event(Event(identity, event.type, event.node, event.time_utc_ms, event.data))
    assert (len(taken.events[0].data["refused"]), taken.events[0].data["refused_total"]) == (50, 300)
    assert len(desk.db.execute("SELECT changes FROM desired_history").fetchone()[0]) < 10_000


def scene(play: Coroutine[Any, Any, None]) -> None:
    asyncio.run(play)


def test_it_is_all_there_after_a_restart_and_for_a_reader(place: Place) -> None:
    async def play() -> None:
        store = open_store(place)
        changed = await store.change_desired(NODE, Change({"log.level": "DEBUG"}, source="me"))
        report = sealed(answer(changed.desired))
        committed = await store.commit(Batch(reported=[ReportedRow(NODE, report, NOON_MS)]))
        assert committed.reported == {NODE: report.hash}
        assert [event.type for event in committed.fleet_events] == ["DesiredApplied"]
        store.close()
        store = open_store(place)
        assert store.document_hashes == ({NODE: changed.desired.hash}, {NODE: report.hash})
        assert await store.desired(NODE) == changed.desired
        assert await store.desired("gw-2") == Desired()
        later = await store.change_desired(NODE, Change({"log.level": "INFO"}))
        assert later.desired.writes()["log.level"].at > changed.desired.writes()["log.level"].at
        store.close()
        reader = Reader(place)
        shown = reader.documents(NODE)
        assert (shown.desired, shown.reported) == (later.desired, report)
        assert [step.source for step in reader.history(NODE)] == ["me", ""]
        assert reader.conflicts("", 5) == []
        reader.close()

    scene(play())
