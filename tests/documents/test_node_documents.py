"""The node's side: what a plan makes of values, what the journal keeps, what the driver puts into force."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.config import AgentConfig, NodeConfig, PipelineConfig
from agent.decide.settings import AlertRuleSettings
from agent.documents.documents import Documents
from agent.documents.here import here
from agent.documents.in_force import InForce
from agent.documents.journal import Journal, Journalled
from agent.documents.plan import Here, Plan, Tuning, plan
from agent.documents.report import make_report
from agent.infer.thresholds import Thresholds
from runtime.sqlite import StorageFormatError
from schemas.documents import Conflict, Desired, Reported, Written, decode_reported, encode, sealed
from schemas.fields import Rule
from schemas.resolve import Known, resolve
from tests.documents.world import DAY_MS, HERE, NODE, NOON_MS, Machine

STAMP = f"{NOON_MS}.0.coordinator"


def desired(revision: int = 1, epoch: int = 1, **fields: Any) -> Desired:
    values = {path.replace("__", "."): value for path, value in fields.items()}
    stamps = {path: Written(STAMP) for path in values if "." in path}
    return sealed(Desired(epoch, revision, values, stamps))


def planned(**fields: Any) -> Plan:
    return plan(resolve(Known(desired(**fields))), HERE)


# ---- plan --------------------------------------------------------------------------------------


def test_nothing_wanted_is_the_configuration() -> None:
    made = planned()
    assert (made.tunings, made.heartbeat_s, made.log_level, made.labels) == (
        {"door": Tuning()}, 15.0, "INFO", {"line": "a"},
    )  # fmt: skip
    assert made.holds == {
        "heartbeat_s": 15.0, "log.level": "INFO", "labels.line": "a",
        "pipelines.door.enabled": True, "pipelines.door.model": {"model": "weld", "digest": ""},
    }  # fmt: skip


def test_each_value_goes_to_its_part_and_what_is_not_here_is_refused_alone() -> None:
    made = planned(
        pipelines__door__enabled=False, pipelines__door__confidence_min=0.25,
        pipelines__door__classes_ignored=["cat"],
        pipelines__gone__enabled=True, alerts__gate__muted_until_utc_ms=5000, alerts__gone__muted_until_utc_ms=1,
        labels__line="b", labels__shift="early", heartbeat_s=2, log__level="DEBUG",
    )  # fmt: skip
    assert made.tunings == {"door": Tuning(False, 0.25, frozenset({"cat"}))}
    assert (made.muted(4999), made.muted(5000)) == (frozenset({"gate"}), frozenset())
    assert (made.labels, made.heartbeat_s, made.log_level) == ({"line": "b", "shift": "early"}, 2.0, "DEBUG")
    assert made.refused.keys() == {"pipelines.gone.enabled", "alerts.gone.muted_until_utc_ms"}
    assert "no pipeline 'gone' here (door)" in made.refused["pipelines.gone.enabled"]
    assert made.holds["pipelines.door.confidence_min"] == 0.25
    assert not made.holds.keys() & made.refused.keys()


def test_names_that_no_path_can_hold_are_left_out_of_the_report() -> None:
    odd = Here({"a b": "m", "x" * 300: "m", "door": "weld"}, frozenset(), {"ü": "1", "line": "a"})
    made = plan(resolve(Known()), odd)
    assert made.tunings.keys() == odd.pipelines.keys()
    assert made.holds.keys() == {
        "heartbeat_s", "log.level", "labels.line", "pipelines.door.enabled", "pipelines.door.model",
    }  # fmt: skip
    report = make_report(Journalled(), made, 1, Reported(1))
    assert decode_reported(encode(report)) == report


def test_thresholds() -> None:
    given = Thresholds(confidence=0.5, per_class={"dog": 0.9})
    tuned = Tuning(True, 0.2, frozenset({"cat", "unicorn"})).thresholds(given).by_class(("person", "cat", "dog"))
    assert np.allclose(tuned, [0.2, np.inf, 0.9])
    assert Tuning().thresholds(given) == given


def test_here_is_what_the_configuration_says() -> None:
    config = AgentConfig(
        NodeConfig("gw-1", labels={"line": "a"}, heartbeat_s=3.0),
        pipelines=(PipelineConfig("cam1", "/models/weld", "seam", rules=(AlertRuleSettings("gate"),)),),
    )
    assert here(config) == Here({"seam": "weld"}, frozenset({"gate"}), {"line": "a"}, 3.0, "INFO")


# ---- journal -----------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "documents.db"


def test_only_a_later_document_is_kept_and_it_stays(path: Path) -> None:
    machine, journal = Machine("a"), Journal(path, NODE)
    assert journal.accept(desired(2), machine.now)
    assert not journal.accept(desired(1), machine.now)
    assert not journal.accept(desired(2, heartbeat_s=9), machine.now)
    assert not journal.accept(desired(2), machine.now)
    assert journal.accept(desired(1, epoch=2, heartbeat_s=9), machine.now)
    journal.close()
    again = Journal(path, NODE)
    assert again.journalled().known.desired == desired(1, epoch=2, heartbeat_s=9)
    again.close()


def test_a_local_write_knows_the_coordinators_and_is_stamped_after_it(path: Path) -> None:
    machine, journal = Machine("a"), Journal(path, NODE)
    ahead = f"{NOON_MS + 30_000}.4.coordinator"
    document = Desired(1, 1, {"log.level": "DEBUG"}, {"log.level": Written(ahead)})
    journal.accept(document, machine.now)
    assert journal.write("log.level", "INFO", machine.now)
    assert not journal.write("labels.line", None, machine.now)
    write = journal.journalled().known.local["log.level"]
    assert (str(write.over), str(write.at)) == (ahead, f"{NOON_MS + 30_000}.5.gw-1")
    assert journal.journalled().ahead_ms == 0
    journal.close()


def test_a_stamp_far_ahead_is_told_and_does_not_drag_the_clock_along(path: Path) -> None:
    machine, journal = Machine("a"), Journal(path, NODE)
    document = Desired(1, 1, {"log.level": "DEBUG"}, {"log.level": Written(f"{NOON_MS + DAY_MS}.0.coordinator")})
    journal.accept(document, machine.now)
    assert journal.journalled().ahead_ms == DAY_MS
    journal.write("labels.line", "b", machine.now)
    assert journal.journalled().known.local["labels.line"].at.wall_ms <= NOON_MS + 60_000
    journal.close()


def test_two_processes_write_one_file(path: Path) -> None:
    machine, agent, operator = Machine("a"), Journal(path, NODE), Journal(path, NODE)
    before = agent.changes()
    assert operator.write("labels.line", "b", machine.now)
    assert agent.changes() != before
    agent.accept(desired(1, labels__line="c"), machine.now)
    assert operator.journalled().known == agent.journalled().known
    assert operator.write("labels.line", "d", machine.now)
    first, second = agent.journalled().conflicts, agent.journalled().known.local["labels.line"]
    assert (len(first), second.value) == (1, "d")
    agent.close()
    operator.close()


def test_a_damaged_file_is_set_aside_by_the_agent_and_by_nobody_else(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageFormatError):
        Journal(path, NODE)
    journal = Journal(path, NODE, set_aside=True)
    assert journal.journalled() == Journalled()
    journal.close()
    assert path.with_name("documents.db.damaged-1").read_bytes().startswith(b"no database")


def test_what_a_disk_has_spoilt_counts_for_nothing_and_the_rest_holds(path: Path) -> None:
    machine, journal = Machine("a"), Journal(path, NODE)
    journal.accept(desired(3, labels__line="b"), machine.now)
    for name in ("one", "two"):
        journal.write(f"labels.{name}", "x", machine.now)
    journal._db.execute("UPDATE desired SET document = replace(document, '\"b\"', '\"c\"')")
    journal._db.execute("UPDATE local SET at = 'x' WHERE path = 'labels.one'")
    journal._db.execute("INSERT INTO conflicts (path, coordinator_at, node_at, document) VALUES ('p', '', '', '{')")
    journalled = journal.journalled()
    assert (journalled.known.desired, list(journalled.known.local), journalled.conflicts) == (
        Desired(), ["labels.two"], [],
    )  # fmt: skip
    assert journal.accept(desired(3, labels__line="b"), machine.now)
    journal.close()


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    Journal(path, NODE).close()
    db = sqlite3.connect(path)
    db.execute("INSERT INTO migrations (name) VALUES ('9999_later')")
    db.commit()
    db.close()
    with pytest.raises(StorageFormatError, match="newer version"):
        Journal(path, NODE, set_aside=True)
    assert list(path.parent.glob("*.damaged*")) == []


# ---- report ------------------------------------------------------------------------------------


def test_a_report_counts_up_only_when_it_differs_and_always_fits() -> None:
    first = make_report(Journalled(Known(desired())), planned(), 1, Reported(1))
    assert (first.serial, first.version) == (1, (1, 1))
    assert make_report(Journalled(Known(desired())), planned(), 1, first) is first
    assert make_report(Journalled(Known(desired(2))), planned(), 1, first).serial == 2
    long = ["x" * 200] * 100
    conflicts = [Conflict("p", Rule.UNION, long, f"{n}.0.a", long, f"{n}.0.b", long, "both") for n in range(60)]
    large = replace(planned(), refused={f"f{n}": "because " * 60 for n in range(1000)})
    fitted = make_report(Journalled(Known(desired()), conflicts), large, 1, first)
    assert decode_reported(encode(fitted)) == fitted
    assert len(fitted.refused) == 1000


# ---- driver ------------------------------------------------------------------------------------


class Node:
    """A driver with parts that only remember what they were told."""

    def __init__(self, path: Path) -> None:
        self.applied: list[Plan] = []
        self.mutes: list[frozenset[str]] = []
        self.published = 0
        self.journal = Journal(path, NODE)
        self.documents = Documents(self.journal, HERE, boot=1, apply=self.applied.append, mute=self.mutes.append)
        self.documents.publish = self._publish

    def _publish(self) -> None:
        self.published += 1

    async def until(self, true: Callable[[], object]) -> None:
        for _ in range(3000):
            if true():
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"waited in vain: {self.applied}")


def run(path: Path, scene: Callable[[Node], Any]) -> None:
    async def play() -> None:
        node = Node(path)
        node.documents.begin()
        task = asyncio.create_task(node.documents.run())
        try:
            await scene(node)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            node.journal.close()

    asyncio.run(play())


def test_what_was_journalled_before_a_kill_is_in_force_after_the_start(path: Path) -> None:
    journal = Journal(path, NODE)
    journal.accept(desired(3, pipelines__door__enabled=False), Machine("a").now)
    journal.close()  # killed here: journalled, and not applied

    async def scene(node: Node) -> None:
        assert node.applied[-1].tunings == {"door": Tuning(enabled=False)}
        assert node.documents.reported.version == (1, 3)
        assert decode_reported(node.documents.payload()).hash == node.documents.reported.hash

    run(path, scene)


def test_documents_are_applied_in_order_of_their_revisions_whatever_comes_when(path: Path) -> None:
    async def scene(node: Node) -> None:
        newest = desired(3, heartbeat_s=3)
        for document in (desired(1, heartbeat_s=1), newest, desired(2, heartbeat_s=2), newest):
            node.documents.receive(encode(document))
        await node.until(lambda: node.documents.refused_total == 1)
        assert node.applied[-1].heartbeat_s == 3.0
        assert node.documents.desired_hash == newest.hash
        node.documents.receive(b"{}")
        await node.until(lambda: node.documents.refused_total == 2)
        assert node.documents.desired_hash == newest.hash

    run(path, scene)


def test_a_local_write_of_another_process_is_noticed(path: Path) -> None:
    async def scene(node: Node) -> None:
        operator = Journal(path, NODE)
        operator.write("labels.line", "z", Machine("a").now)
        operator.close()
        await node.until(lambda: node.applied[-1].labels == {"line": "z"})
        assert node.documents.reported.local == {"labels.line": "z"}

    run(path, scene)


def test_a_disk_that_refuses_changes_nothing_until_it_takes_the_document(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(node: Node) -> None:
        applied = len(node.applied)
        (pages,) = node.journal._db.execute("PRAGMA page_count").fetchone()
        node.journal._db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        large = desired(1, sync={"a": "x" * 100_000})
        node.documents.receive(encode(large))
        await node.until(lambda: "full" in caplog.text)
        assert (len(node.applied), node.documents.desired_hash) == (applied, "")
        node.journal._db.execute(f"PRAGMA max_page_count = {pages + 1000}").fetchone()
        node.documents.receive(encode(large))  # its heartbeat has the old hash: it is sent again
        await node.until(lambda: node.documents.desired_hash == large.hash)

    run(path, scene)


def test_a_sync_policy_goes_to_whoever_serves_it(path: Path) -> None:
    async def scene(node: Node) -> None:
        policy, too_dear = {"mode": "all"}, {"mode": "all", "budget": {"hour_bytes": 1000}}
        node.documents.receive(encode(desired(1, sync=policy)))
        await node.until(lambda: node.documents.desired_hash)
        assert "no sync policies" in node.documents.reported.refused["sync"]
        given: list[Mapping[str, Any]] = []

        def take(wanted: Mapping[str, Any]) -> list[str]:
            given.append(wanted)
            return ["too dear"] if wanted.get("budget") else []

        node.documents.on_sync_policy = take
        for revision, wanted in ((2, policy), (3, too_dear), (4, None)):
            fields: dict[str, Any] = {} if wanted is None else {"sync": wanted}
            node.documents.receive(encode(desired(revision, **fields)))
            await node.until(lambda revision=revision: node.documents.reported.revision == revision)  # type: ignore[misc]
            assert ("sync" in node.documents.reported.refused) == (revision == 3)
            assert node.documents.reported.fields.get("sync") == (policy if revision == 2 else None)
        assert given == [policy, too_dear, {}]

    run(path, scene)


def test_a_mute_ends_by_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine("a")
    monkeypatch.setattr("agent.documents.documents.machine_time", lambda: machine.now)
    monkeypatch.setattr("agent.documents.documents.LOOK_EVERY_S", 0.01)

    async def scene(node: Node) -> None:
        node.documents.receive(encode(desired(1, alerts__gate__muted_until_utc_ms=NOON_MS + 60_000)))
        await node.until(lambda: node.mutes and node.mutes[-1] == {"gate"})
        machine.jump(DAY_MS)  # somebody sets the clock: no reason to end it
        machine.pass_time(30_000)
        await asyncio.sleep(0.1)
        assert node.mutes[-1] == {"gate"}
        machine.pass_time(30_000)
        await node.until(lambda: node.mutes[-1] == frozenset())

    run(path, scene)


def test_labels_are_announced_once_and_everything_else_is_told_each_time() -> None:
    class Part:
        def __init__(self) -> None:
            self.told: list[Any] = []

        def tune(self, tunings: Mapping[str, Tuning]) -> None:
            self.told.append(tunings)

        def mute(self, rules: frozenset[str]) -> None:
            self.told.append(rules)

        def beat_every(self, heartbeat_s: float) -> None:
            self.told.append(heartbeat_s)

        def announce(self) -> None:
            self.told.append("announced")

    stream, speaker = Part(), Part()
    parts = InForce({"cam1": stream}, speaker, {"line": "a"})
    made = replace(planned(), labels={"line": "b"}, heartbeat_s=2.0, log_level="WARNING")
    parts.apply(made)
    parts.apply(made)
    parts.mute(frozenset({"gate"}))
    assert speaker.told == [2.0, "announced", 2.0]
    assert stream.told == [made.tunings, made.tunings, {"gate"}]
    assert parts.labels == {"line": "b"}
