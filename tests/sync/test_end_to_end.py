"""Policies at work between a real agent, mosquitto and a coordinator process."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process.agents import AgentProcess, Peer, bundle, camera, clip, mosquitto_pub, pipeline, run_agent
from tests.broker import Broker, broker
from tests.coordinator.process import Process, edgectl

RULE = '[[pipelines.rules]]\nname = "c3"\nclasses = ["c3"]\nfor_s = 0.1\nclear_after_s = 0.3\ncooldown_s = 0.0\n'
CELLS = [3] * 20 + [None] * 20


class Site:
    """An agent with an ordinary and a local_only camera, a coordinator, and somebody who listens and calls."""

    def __init__(self, folder: Path, running: Broker, peer: Peer) -> None:
        self.broker, self.peer = running, peer
        model = bundle(folder / "cells")
        body = "".join(
            camera(name, clip(folder / f"{name}.mp4", CELLS), "loop = true")
            + pipeline(name, model, f"sample_interval_s = 0.5\n{more}{RULE}")
            for name, more in (("open", ""), ("shut", "local_only = true\n"))
        )
        self.agent = AgentProcess(folder, running.port, body + "[sync]\nwindow_s = 1.0\n")
        (folder / "coordinator").mkdir()
        self.coordinator = Process(folder / "coordinator", running.port)

    def call(self, **arguments: Any) -> dict[str, Any]:
        function = "status" if not arguments else "syncDataToCloud"
        count = len(self.peer.results(function))
        mosquitto_pub(self.broker, function, json.dumps(arguments))
        self.peer.wait(lambda: len(self.peer.results(function)) > count, self.agent)
        result = self.peer.results(function)[-1]
        assert result.error is None, result.error
        return dict(result.result)

    def status(self) -> dict[str, Any]:
        return dict(self.call()["sync"])

    def rows(self, table: str, where: str = "1") -> list[tuple[str, str, dict[str, Any]]]:
        try:
            found = self.coordinator.query(
                f"SELECT lane, type, data FROM {table} WHERE node = 'gw-1' AND {where} ORDER BY seq"
            )
        except Exception:  # noqa: BLE001 - it is being made
            return []
        return [(lane, kind, json.loads(data)) for lane, kind, data in found]

    def kept(self, *asked: str) -> list[dict[str, Any]]:
        done = run_agent("results", "query", "--config", str(self.agent.config), "--json", *asked)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def until(self, true: Callable[[], object]) -> None:
        self.peer.wait(true, self.agent)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with broker(tmp_path) as running, Peer(running) as peer:
        made = Site(tmp_path, running, peer)
        with made.agent:
            made.coordinator.start()
            made.agent.start()
            try:
                yield made
            finally:
                made.coordinator.kill()


def closed_now() -> dict[str, str]:
    """A window that opens in about twelve hours."""
    hour = (time.gmtime().tm_hour + 12) % 24
    return {"start": f"{hour:02d}:00", "end": f"{hour:02d}:30"}


def test_policies_hold_results_back_send_what_was_kept_and_keep_what_must_stay(site: Site) -> None:
    # By the configured policy frames leave summed up, and everything is kept at the node.
    site.until(lambda: len(site.rows("samples", "type = 'ResultAggregate'")) >= 2)
    _, _, window = site.rows("samples", "type = 'ResultAggregate'")[0]
    assert (window["camera_id"], window["window_s"]) == ("open", 1.0)
    assert site.rows("samples", "type = 'FrameResult'") == []

    # Only at night: samples wait, events and alerts do not, and a restart changes nothing about it.
    site.call(sync_policy={"mode": "changes", "windows": [closed_now()], "timezone": "UTC", "metered": "no"})
    site.until(lambda: site.status()["waiting_for"] == "window")
    assert site.agent.terminate() == 0
    site.agent.start()
    site.peer.wait_online(site.agent, 2)
    status = site.status()
    assert (status["source"], status["waiting_for"], status["policy"]["mode"]) == ("command", "window", "changes")
    samples, alerts = len(site.rows("samples", "lane = 'sample'")), len(site.rows("events", "lane = 'alert'"))
    site.until(lambda: len(site.rows("events", "lane = 'alert'")) > alerts + 1)
    site.until(lambda: site.call()["outbox"][4]["pending"] > 4)
    assert len(site.rows("samples", "lane = 'sample'")) == samples

    # Taken back, what waited goes.
    assert site.call(reset=True)["source"] == "configuration"
    site.until(lambda: len(site.rows("samples", "type = 'CountsChanged'")) >= 2)

    # What was kept can be asked for: once, all of it, and not what must stay.
    done = site.call(data_filter={"types": ["FrameResult"]}, sync_id="s1")
    assert done["state"] == "running"
    site.until(lambda: site.rows("events", "type = 'CloudSyncCompleted'"))
    ((_, _, end),) = site.rows("events", "type = 'CloudSyncCompleted'")
    frames = [data for _, _, data in site.rows("samples", "type = 'FrameResult'")]
    assert end["rows"] == len(frames) > 0
    assert {frame["camera_id"] for frame in frames} == {"open"}
    assert len({frame["row"] for frame in frames}) == len(frames)
    assert end["skipped"] > 0
    site.until(lambda: [h for h in site.peer.heard if h.topic == "edge/v1/fleet/event/CloudSyncCompleted"])

    # Of the local_only camera nobody heard but by alerts, which do not say of what; here it is all there.
    for table in ("events", "samples"):
        of_shut = {kind for lane, kind, data in site.rows(table, "lane != 'lifecycle'") if "shut" in json.dumps(data)}
        assert of_shut <= {"AlertRaised", "AlertUpdated", "AlertCleared", "StateChanged"}
    states = [data for lane, _, data in site.rows("samples", "lane = 'state'") if "shut" in json.dumps(data)]
    assert {data["collection"] for data in states} == {"core.alerts"}
    shut = [data for _, _, data in site.rows("events", "lane = 'alert'") if data["camera_id"] == "shut"]
    assert shut
    said = [*shut, *(data["value"] for data in states)]
    assert not {"objects", "best_confidence", "count"} & {key for data in said for key in data}
    assert site.kept("--camera", "shut", "--type", "ObjectSeen", "--class", "c3")
    assert site.kept("--camera", "shut", "--type", "AlertRaised")[-1]["data"]["objects"]
    windows = site.kept("--camera", "shut", "--aggregate", "1h")
    assert sum(each["classes"]["c3"]["detections"] for each in windows) > 0

    # The coordinator knows what was synchronised.
    def shown() -> str:
        return edgectl(["--data-dir", str(site.coordinator.data_dir), "node", "show", "gw-1"]).stdout

    site.until(lambda: re.search(r"sync sample +synced=[1-9]\d* failed=0 retried=\d+ bytes=[1-9]", shown()))
    by_stream = edgectl(["--data-dir", str(site.coordinator.data_dir), "streams", "--json"]).stdout
    counts = {stream["camera"]: stream["report"]["counts"] for stream in json.loads(by_stream)}
    assert counts["open"]["c3"] > 0
    assert counts["shut"] == {}
