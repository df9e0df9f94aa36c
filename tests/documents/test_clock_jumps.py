"""Real processes whose wall clocks jump by a day, either way: the outcome is that of clocks that do not."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process.agents import ROOT, WAIT_S, AgentProcess, camera, wait_until
from tests.broker import broker
from tests.coordinator.process import Process, edgectl

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
PATH = "pipelines.cam1.enabled"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")]


class FakeClock:
    """The wall clock of some processes, as a file says; their other clocks are true."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jump("+0")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, to: str) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(f"{to}\n")
        shutil.move(fresh, self.path)


def test_a_day_either_way_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edge, cloud = FakeClock(tmp_path / "edge.time"), FakeClock(tmp_path / "cloud.time")
    (tmp_path / "c").mkdir()
    with broker(tmp_path) as running:
        coordinator = Process(tmp_path / "c", running.port)
        body = camera("cam1", "absent.mp4") + '[[pipelines]]\ncamera = "cam1"\nmodel = "absent"\n'
        agent = AgentProcess(tmp_path, running.port, body)
        agent.environment = edge.environment

        def local(*arguments: str) -> None:
            command = [sys.executable, "-m", "agent", "local", *arguments, "--config", str(agent.config)]
            environment = os.environ | edge.environment
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=WAIT_S, env=environment)

        def want(*fields: str) -> None:
            done = edgectl(["--config", str(coordinator.config), "desired", "set", "gw-1", *fields])
            assert done.returncode == 0, done.stderr

        def said() -> Any:
            rows = coordinator.query("SELECT document FROM reported WHERE node = 'gw-1'")
            return json.loads(rows[0][0]) if rows else {"fields": {}, "revision": 0}

        def until_said(path: str, value: Any, revision: int) -> None:
            wait_until(
                lambda: (said()["fields"].get(path), said()["revision"]) == (value, revision),
                lambda: f"{said()}\n{agent.log[-2000:]}",
            )

        with monkeypatch.context() as patched, agent:
            for name, value in cloud.environment.items():
                patched.setenv(name, value)
            coordinator.start()
            for name in cloud.environment:
                patched.delenv(name)
            try:
                asyncio.run(coordinator.connected())
                agent.start()
                want(f"{PATH}=false")
                until_said(PATH, False, 1)
                edge.jump("+1d")  # while it runs
                local("set", f"{PATH}=true")
                until_said(PATH, True, 1)
                cloud.jump("-1d")
                want(f"{PATH}=false")
                until_said(PATH, False, 2)

                # Neither knows of the other: the one that was made later holds, whatever the clocks showed.
                agent.kill()
                edge.jump("+1d")
                local("set", f"{PATH}=true")
                edge.jump("-1d")
                cloud.jump("+1d")
                want(f"{PATH}=false", "heartbeat_s=2")
                local("set", "labels.line=e")
                agent.start()
                until_said(PATH, False, 3)
                assert said()["fields"]["labels.line"] == "e"
                assert [conflict["winner"] for conflict in said()["conflicts"]] == ["coordinator"]
                assert coordinator.query("SELECT count(*) FROM events WHERE type = 'ClockAhead'") == [(0,)]
            finally:
                coordinator.kill()
