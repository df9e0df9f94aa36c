"""The driver of alerts: it acts before anything is written, loses nothing it need not, and counts what it loses."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.actions.settings import ActionSettings
from agent.alerting.alerting import Alerting
from agent.alerting.rule import Rule
from agent.alerting.settings import AlertingSettings
from agent.alerting.store import FILE_NAME, AlertsFile, Order
from agent.decide.settings import AlertRuleSettings
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft
from agent.outbox.settings import OutboxSettings
from agent.platform_state.platform_state import PlatformState
from agent.platform_state.settings import StateSettings
from agent.platform_state.store import ValuesFile
from agent.results.result import Result
from agent.results.store import ResultStore
from platforms.assembly import Assembly, assemble
from platforms.settings import PlatformsTable
from runtime.machine_time import machine_time
from runtime.sqlite import StorageError
from runtime.timeline import MachineTime
from schemas.identity import Lane

DEFECTS = Rule("porous", "count(DefectDetected, 1h) >= 2", actions=("siren",))


class Acts:
    """The actions, which remember what they were told."""

    def __init__(self) -> None:
        self.told: list[Draft] = []
        self.brought: Mapping[str, ActionSettings] = {}

    def trigger(self, drafts: Sequence[Draft]) -> None:
        self.told += drafts

    def bring(self, wanted: Mapping[str, ActionSettings]) -> None:
        self.brought = wanted


class Camera:
    """What a pipeline would watch for."""

    def __init__(self) -> None:
        self.watched: Mapping[str, AlertRuleSettings] = {}

    def watch(self, rules: Mapping[str, AlertRuleSettings]) -> None:
        self.watched = rules

    def watch_mistake(self, rule: AlertRuleSettings) -> str:
        return ""


class Node:
    """One life of the driver on the files of a folder."""

    def __init__(self, folder: Path, assembly: Assembly, rules: Sequence[Rule], **limits: Any) -> None:
        self.acts, self.camera = Acts(), Camera()
        self.outbox = Outbox(OutboxFile(folder / "outbox.db", node="gw-1", boot=1, settings=OutboxSettings()))
        values = ValuesFile(folder / "state.db", "gw-1")
        self.state = PlatformState(values, assembly.collections, StateSettings(), self.outbox, node="gw-1")
        self.file = AlertsFile(folder / FILE_NAME)
        self.alerting = Alerting(
            AlertingSettings(**limits),
            rules,
            self.file,
            node="gw-1",
            boot=1,
            outbox=self.outbox,
            state=self.state,
            collections=["core.alerts"],
            schemas=assembly.catalogue.schemas,
            streams={"cam1": self.camera},
            actions=self.acts,
            results_path=folder / "results.db",
            taken=frozenset(),
        )
        self.outbox.on_append = lambda drafts: self.acts.trigger(self.alerting.heard(drafts))
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        alerting = self.alerting
        self.tasks = [asyncio.create_task(alerting.run()), asyncio.create_task(alerting.tell())]

    async def end(self) -> None:
        run, tell = self.tasks
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        self.alerting.stop()
        await tell
        self.alerting.close()
        self.state.close()
        self.outbox.file.close()

    def alerts(self) -> list[Draft]:
        return [draft for draft in self.acts.told if draft.lane is Lane.ALERT]


def lived(folder: Path, rules: Sequence[Rule], scene: Callable[[Node], Awaitable[None]], **limits: Any) -> None:
    async def run() -> None:
        node = Node(folder, assemble(PlatformsTable(("manufacturing",))), rules, **limits)
        try:
            await asyncio.wait_for(scene(node), 60.0)
        finally:
            await node.end()

    asyncio.run(run())


async def until(true: Callable[[], object]) -> None:
    while not true():
        await asyncio.sleep(0.005)


def defect(**more: Any) -> Draft:
    data = {"camera_id": "cam1", "defect_type": "pore", "confidence": 0.9, **more}
    return Draft(Lane.EVENT, "DefectDetected", "part", 1, data)


def test_it_acts_once_and_the_alert_is_kept_told_and_in_the_state(tmp_path: Path) -> None:
    async def scene(node: Node) -> None:
        node.begin()
        await node.outbox.append([defect()])
        await node.outbox.append([defect(), defect(sync_id="again")])  # the last is an old one, sent once more
        await until(node.alerts)
        (alert,) = node.alerts()
        assert (alert.type, alert.data["rule"], alert.data["camera_id"]) == ("AlertRaised", "porous", "cam1")
        await until(lambda: node.file.alerts())
        assert node.alerting.named(alert) == {"siren"}

        async def in_state() -> Any:
            return await node.state.get("core.alerts", alert.data["alert_id"])

        while (entry := await in_state()) is None:
            await asyncio.sleep(0.005)
        assert entry.value["state"] == "raised"
        await until(lambda: node.outbox.appended_total == 4)
        assert len(node.alerts()) == 1  # hearing itself being stored, it does not act again

    lived(tmp_path, [DEFECTS], scene)


class Stuck(AlertsFile):
    """A disk that refuses."""

    def keep_alerts(self, alerts: Any) -> None:
        raise StorageError("no room")


def test_a_disk_that_refuses_holds_up_no_action(tmp_path: Path) -> None:
    async def scene(node: Node) -> None:
        node.file.__class__ = Stuck
        node.begin()
        await node.outbox.append([defect(), defect()])
        await until(node.alerts)
        await until(lambda: node.outbox.appended_total == 3)  # told all the same

    lived(tmp_path, [DEFECTS], scene)


def test_events_beyond_the_queue_are_dropped_the_oldest_first_and_counted(tmp_path: Path) -> None:
    async def scene(node: Node) -> None:
        node.alerting.heard([defect() for _ in range(250)])
        assert node.alerting.report()["waiting"] == 100
        node.begin()
        await until(lambda: node.alerting.report()["waiting"] == 0)
        assert node.alerting.report()["dropped_total"] == 150
        assert len(node.alerts()) == 1

    lived(tmp_path, [DEFECTS], scene, queue_max=100)


def test_nothing_is_queued_that_no_condition_asks_for(tmp_path: Path) -> None:
    async def scene(node: Node) -> None:
        node.alerting.heard([Draft(Lane.EVENT, "LineCrossed", "x", 1, {})] * 5)
        node.alerting.kept(Result(1, "cam1", "p", "StreamSample", "cam1", {"frames_total": 5}))
        assert node.alerting.report()["waiting"] == 0
        node.begin()

    lived(tmp_path, [DEFECTS], scene)


def test_samples_are_heard_as_they_are_kept_and_not_again_as_they_leave(tmp_path: Path) -> None:
    rule = Rule("busy", "count(StreamSample, 1h) >= 2")
    data = {"frames_total": 5}

    async def scene(node: Node) -> None:
        node.begin()
        node.alerting.kept(Result(1, "cam1", "p", "StreamSample", "cam1", data))
        node.alerting.heard([Draft(Lane.SAMPLE, "StreamSample", "cam1", 1, data)])
        await asyncio.sleep(0.05)
        assert not node.alerts()
        node.alerting.kept(Result(1, "cam1", "p", "StreamSample", "cam1", data))
        await until(node.alerts)

    lived(tmp_path, [rule], scene)


def test_windows_are_filled_from_what_was_kept_before_the_start(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.db")
    now_ms = machine_time().wall_ms
    kept = [Result(now_ms - 600_000, "cam1", "p", "DefectDetected", "part", defect().data)]
    old = [Result(now_ms - 7_200_000, "cam1", "p", "DefectDetected", "part", defect().data)]
    store.write([*old, *kept], [], 0.0, {}).result()
    store.close()

    async def scene(node: Node) -> None:
        node.begin()
        await asyncio.sleep(0.05)
        assert not node.alerts()  # one of ten minutes ago, none of two hours ago
        await node.outbox.append([defect()])
        await until(node.alerts)

    lived(tmp_path, [DEFECTS], scene)


def test_an_order_of_an_operator_is_followed_and_one_for_nobody_is_not(tmp_path: Path) -> None:
    async def scene(node: Node) -> None:
        node.begin()
        alert = node.alerting.trigger(Rule("fire"))
        assert alert is not None
        other = AlertsFile(tmp_path / FILE_NAME)
        other.order(Order("nobody", "Kim"))
        other.order(Order("fire", "Kim", "a drill"))
        other.close()
        await until(lambda: [one for one in node.alerts() if one.type == "AlertCleared"])
        (over,) = (one for one in node.alerts() if one.type == "AlertCleared")
        assert (over.data["acknowledged_by"], over.data["note"]) == ("Kim", "a drill")

    lived(tmp_path, [], scene)


def test_times_for_people_do_not_follow_a_clock_that_jumps(tmp_path: Path) -> None:
    noon = 1_795_521_600_000
    file = AlertsFile(tmp_path / FILE_NAME)
    assert file.utc_ms(MachineTime("a", 1000, noon)) == noon
    assert file.utc_ms(MachineTime("a", 2000, noon + 86_400_000)) == noon + 1000
    file.keep_alerts({})
    file.close()
    again = AlertsFile(tmp_path / FILE_NAME)  # another start of the agent, after the jump
    assert again.utc_ms(MachineTime("a", 5000, noon + 86_403_000)) == noon + 4000
    assert again.utc_ms(MachineTime("b", 10, noon + 90_000_000)) == noon + 90_000_000  # the machine was started anew
    again.close()
