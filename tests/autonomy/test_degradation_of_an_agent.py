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


OVERLOAD = """
[degradation]
check_s = 0.1
down_after_s = 0.2
up_after_s = 3600.0
cpu_percent_max = 0.001
cpu_percent_ok = 0.0
"""


def test_an_overloaded_cpu_pauses_what_matters_least_and_nothing_critical(tmp_path: Path) -> None:
    """Any load at all is too much here, so each step is certain."""
    model = bundle(tmp_path / "cells")
    body = camera("cam1", clip(tmp_path / "a.mp4", [3] * 40), "loop = true") + OVERLOAD
    body += camera("cam2", tmp_path / "a.mp4", "loop = true\nrealtime = false")
    body += pipeline("cam1", model, 'name = "yard"\npriority = "low"')
    body += pipeline("cam1", model, 'name = "gate"\npriority = "critical"')
    body += pipeline("cam2", model, 'name = "replay"\npriority = "low"')
    with broker(tmp_path) as running, Peer(running, answers=True) as peer:

        def streams() -> dict[str, dict[str, Any]]:
            count = len(peer.results("status"))
            mosquitto_pub(running, "status", "{}")
            peer.wait(lambda: len(peer.results("status")) > count, agent)
            return {stream["pipeline"]: stream for stream in peer.results("status")[-1].result["streams"]}

        with AgentProcess(tmp_path, running.port, body) as agent:
            agent.start()
            peer.wait(lambda: len(peer.events("DegradationChanged")) == 3, agent)
            told = [event.data["step"] for event in peer.events("DegradationChanged")]
            assert told == ["half_rate_lowest", "no_clips", "pause_lowest"]
            peer.wait(lambda: streams()["gate"]["frames_total"] > 0, agent)
            first = streams()
            assert first["yard"]["state"] == "paused"
            later = first
            while min(later[name]["frames_total"] - first[name]["frames_total"] for name in ("gate", "replay")) < 20:
                later = streams()
            # One frame may have been on its way when the pause began.
            assert later["yard"]["frames_total"] <= first["yard"]["frames_total"] + 1
            assert later["gate"]["state"] != "paused"
            mosquitto_pub(running, "stopStream", '{"camera_id":"cam1"}')
            mosquitto_pub(running, "startStream", '{"camera_id":"cam1"}')
            peer.wait(lambda: peer.results("startStream"), agent)
            assert streams()["yard"]["state"] == "paused", "a restart of the camera undoes nothing"
            assert agent.terminate() == 0
            assert "Traceback" not in agent.log
