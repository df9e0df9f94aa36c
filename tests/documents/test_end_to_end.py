"""Real agent, broker and coordinator: changes from both sides, kill -9, no network, and an old backup."""

import asyncio
import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.__main__ import main as agent_main
from coordinator.edgectl import main as edgectl_main
from tests.agent_process.agents import AgentProcess, bundle, camera, clip, pipeline, wait_until
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process

ENABLED = "pipelines.cam1.enabled"


def run_main(main: Callable[[list[str]], int], *arguments: str) -> tuple[int, str, str]:
    """Status, output and complaints."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(list(arguments))
    return status, out.getvalue(), err.getvalue()


@dataclass(frozen=True, slots=True)
class System:
    broker: Broker
    coordinator: Process
    agent: AgentProcess

    def ctl(self, *arguments: str, fails: bool = False) -> Any:
        """`edgectl`, in this process: starting another costs half a second."""
        status, out, err = run_main(edgectl_main, "--config", str(self.coordinator.config), *arguments)
        assert (status != 0) == fails, out + err
        return err if fails else json.loads(out) if "--json" in arguments else out

    def local(self, *arguments: str) -> str:
        """`edge-agent local`."""
        status, out, err = run_main(agent_main, "local", *arguments, "--config", str(self.agent.config))
        assert status == 0, err
        return out

    def reported(self) -> dict[str, Any]:
        found: list[tuple[str]] = []
        try:
            found = self.coordinator.query("SELECT document FROM reported WHERE node = 'gw-1'")
        except sqlite3.OperationalError:
            pass  # not begun yet
        return dict(json.loads(found[0][0])) if found else {}

    def until_reported(self, true: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        wait_until(
            lambda: (said := self.reported()) and true(said), lambda: f"{self.reported()}\n{self.agent.log[-3000:]}"
        )
        return self.reported()

    def state(self) -> str:
        rows = self.coordinator.query("SELECT document FROM stream_reports WHERE node = 'gw-1'")
        return str(json.loads(rows[0][0])["state"]) if rows else ""

    def figures(self) -> tuple[int, int]:
        """Frames and detections so far, as the newest heartbeat has them."""
        ((text,),) = self.coordinator.query("SELECT document FROM stream_reports WHERE node = 'gw-1'")
        report = json.loads(text)
        return report["frames_total"], report["detections_total"]

    def events(self, kind: str) -> list[dict[str, Any]]:
        rows = self.coordinator.query("SELECT data FROM events WHERE type = ? ORDER BY id", kind)
        return [json.loads(data) for (data,) in rows]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    broker = start_broker(tmp_path)
    (tmp_path / "c").mkdir()
    coordinator = Process(tmp_path / "c", broker.port)
    body = camera("cam1", clip(tmp_path / "a.mp4", [3] * 40), "loop = true")
    body += pipeline("cam1", bundle(tmp_path / "cells"), 'rules = [{ name = "gate", classes = ["c3"] }]\n')
    with AgentProcess(tmp_path, broker.port, body) as agent:
        coordinator.start()
        asyncio.run(coordinator.connected())
        agent.start()
        yield System(broker, coordinator, agent)
    coordinator.kill()
    broker.stop()


def test_changes_from_both_sides_meet_and_are_applied_without_a_restart(system: System) -> None:
    wait_until(lambda: system.state() == "streaming" or system.state() == "running", lambda: system.agent.log)
    said = system.ctl(
        "desired", "set", "gw-1", f"{ENABLED}=false", "log.level=DEBUG", "pipelines.nowhere.enabled=true"
    )
    assert "epoch 1, revision 1" in said
    reported = system.until_reported(lambda said: said["revision"] == 1)
    assert (reported["fields"][ENABLED], reported["fields"]["log.level"]) == (False, "DEBUG")
    assert "no pipeline 'nowhere' here (cam1)" in reported["refused"]["pipelines.nowhere.enabled"]
    wait_until(lambda: system.state() == "paused", lambda: system.agent.log)
    stale = system.ctl("desired", "set", "gw-1", "log.level=INFO", "--if-revision", "7", fails=True)
    assert 'revision 1 of epoch 1 is current, not 7; there log.level = "DEBUG"' in stale

    # A local operator, while the agent runs: the coordinator sees it, and that it knew of its own.
    assert f"{ENABLED}: true" in system.local("set", f"{ENABLED}=true")
    reported = system.until_reported(lambda said: said["fields"][ENABLED] is True)
    assert reported["conflicts"] == []
    wait_until(lambda: system.state() != "paused", lambda: system.agent.log)
    system.local("set", 'pipelines.cam1.classes_ignored=["c3"]')  # the only one that there is
    system.until_reported(lambda said: said["fields"].get("pipelines.cam1.classes_ignored") == ["c3"])
    first = system.figures()
    wait_until(lambda: system.figures()[0] > first[0], lambda: system.agent.log)
    first = system.figures()
    wait_until(lambda: system.figures()[0] > first[0] + 20, lambda: system.agent.log)
    assert system.figures()[1] == first[1]

    # Both, without knowing of each other: the agent is down meanwhile.
    system.agent.kill()
    system.local("set", f"{ENABLED}=false", "labels.line=3")
    system.ctl("desired", "set", "gw-1", f"{ENABLED}=true", "labels.line=5", "labels.shift=early")
    system.agent.start()
    reported = system.until_reported(lambda said: said["revision"] == 2)
    assert reported["fields"][ENABLED] is True  # the later one
    assert (reported["fields"]["labels.line"], reported["fields"]["labels.shift"]) == ("3", "early")
    wait_until(lambda: len(system.events("ConflictResolved")) == 2, lambda: str(system.events("ConflictResolved")))
    shown = {item["conflict"]["path"]: item["conflict"] for item in system.ctl("conflicts", "gw-1", "--json")}
    assert shown[ENABLED]["winner"] == "coordinator"
    assert (shown["labels.line"]["coordinator_value"], shown["labels.line"]["node_value"]) == ("5", "3")
    told = [json.loads(line) for line in system.local("conflicts").splitlines()]
    assert {item["path"]: item for item in told} == shown  # the same at the node
    wait_until(lambda: "line=3" in system.ctl("nodes"), lambda: system.ctl("nodes"))  # the birth has it too
    assert json.loads(system.local("show", "--json"))["fields"][ENABLED]["holds"] is True
    assert "labels.line" in system.ctl("desired", "show", "gw-1")
    assert "labels.line" in system.ctl("reported", "gw-1")
    assert "labels.line" in system.ctl("desired", "history", "gw-1")
    assert "edge_wins" in system.ctl("conflicts")
    assert [event["revision"] for event in system.events("DesiredApplied")] == [1, 2]


def test_kill_9_no_network_and_an_old_backup(system: System, tmp_path: Path) -> None:
    system.ctl("desired", "set", "gw-1", "log.level=DEBUG", "heartbeat_s=1")
    system.until_reported(lambda said: said["revision"] == 1)
    system.coordinator.stop()
    backup = tmp_path / "backup"
    shutil.copytree(system.coordinator.data_dir, backup)
    system.coordinator.start()
    asyncio.run(system.coordinator.connected(2))
    for level in ("ERROR", "WARNING"):
        system.ctl("desired", "set", "gw-1", f"log.level={level}")
    system.until_reported(lambda said: said["fields"]["log.level"] == "WARNING")

    # Killed, and started without any broker: what was wanted is in force.
    system.agent.kill()
    system.broker.kill()
    system.agent.start()
    system.agent.wait_for_log("cannot connect", 1)
    assert json.loads(system.local("show", "--json"))["revision"] == 3
    held = json.loads(system.local("show", "--json"))["fields"]["log.level"]
    assert (held["holds"], held["coordinator"]) == ("WARNING", "WARNING")
    assert f"{ENABLED}: false" in system.local("set", f"{ENABLED}=false")
    system.agent.kill()
    system.agent.start()

    # The coordinator comes back from a backup that has revision 1: it begins an epoch, and its document holds.
    system.coordinator.kill()
    shutil.rmtree(system.coordinator.data_dir)
    shutil.copytree(backup, system.coordinator.data_dir)
    system.broker.start()
    system.coordinator.start()
    reported = system.until_reported(lambda said: said["epoch"] == 2)
    assert (reported["revision"], reported["fields"]["log.level"], reported["fields"][ENABLED]) == (4, "DEBUG", False)
    assert [event["reported_revision"] for event in system.events("DesiredEpochBegun")] == [3]
    assert "Traceback" not in system.agent.log
    assert "Traceback" not in system.coordinator.log.read_text()
