"""A real agent on a real small disk that fills up and is emptied again."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process.agents import AgentProcess, Peer, bundle, camera, clip, mosquitto_pub, pipeline
from tests.broker import broker

DEGRADATION = """
[degradation]
check_s = 0.1
down_after_s = 0.3
up_after_s = 0.3
disk_free_mb_min = 24.0
disk_free_mb_ok = 40.0
cpu_percent_max = 100.0
loop_late_ms_max = 100000.0
memory_free_mb_min = 1.0
"""
ORDER = ["no_clips", "short_retention", "no_raw", "no_samples"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("a disk of 64 MiB cannot be made here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_filling_disk_steps_down_in_order_and_back_up(tmp_path: Path, small_disk: Path) -> None:
    with broker(tmp_path) as running, Peer(running, answers=True) as peer:
        body = camera("cam1", clip(tmp_path / "a.mp4", [3] * 40), "loop = true") + DEGRADATION
        body += pipeline("cam1", bundle(tmp_path / "cells"), "sample_interval_s = 0.2\n")

        def steps(direction: str) -> list[str]:
            events = [event.data for event in peer.events("DegradationChanged")]
            return [data["step"] for data in events if data["direction"] == direction]

        def status() -> dict[str, Any]:
            count = len(peer.results("status"))
            mosquitto_pub(running, "status", "{}")
            peer.wait(lambda: len(peer.results("status")) > count, agent)
            return dict(peer.results("status")[-1].result)

        with AgentProcess(tmp_path, running.port, body) as agent:
            agent.start()
            peer.wait(lambda: peer.on("sync"), agent)
            assert status()["degradation"] == {"levels": {}, "steps": [], "switched_off": []}
            (small_disk / "full").write_bytes(b"\0" * 50 * 2**20)
            peer.wait(lambda: len(steps("down")) == 4, agent)
            assert steps("down") == ORDER
            degradation = status()["degradation"]
            assert degradation["levels"] == {"disk": 4}
            assert "samples" in degradation["switched_off"]
            figures = peer.events("DegradationChanged")[0].data
            assert figures["figure"] < figures["threshold"] == 24.0
            (small_disk / "full").unlink()
            peer.wait(lambda: len(steps("up")) == 4, agent)
            assert steps("up") == ORDER[::-1]
            count = len(peer.on("sync"))
            peer.wait(lambda: len(peer.on("sync")) > count, agent)
            assert json.dumps(status()["degradation"]["levels"]) == "{}"
            assert agent.terminate() == 0
            assert "Traceback" not in agent.log
