"""docs/protocol.md, sensors, machines and lines: each test carries the number it shows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.decide.alerts import Alerts
from agent.decide.settings import AlertRuleSettings
from agent.decide.view import View
from agent.outbox.rows import draft_of
from agent.track.tracks import Tracks
from platforms.catalogue import open_catalogue
from platforms.manufacturing.safety.rules import too_close
from schemas.codec import decode_packed
from schemas.messages import SyncBatch
from schemas.topics import Kind
from tests.agent_process.agents import AgentProcess, Peer, camera, pipeline, wait_until
from tests.broker import broker
from tests.coordinator.process import Process
from tests.hosting.test_functions_on_the_wire import LINE, Site

PLATFORMS = """
[platforms]
enabled = ["manufacturing"]
"""
PLANT = """
[platforms.manufacturing.lines.L1]
ideal_cycle_s = 1.0
source = "crossings"
camera_id = "cam1"
crossing = "gate"
sample_s = 2.0
[platforms.manufacturing.machines.press1]
sample_s = 0.0
learn_windows = 5
[[platforms.manufacturing.machines.press1.points]]
sensor = "temp1"
quantity = "temperature"
limit = 80.0
[[sensors]]
id = "temp1"
kind = "file"
path = "temperatures"
unit = "C"
rate_hz = 10.0
window_s = 1.0
"""


class Plant(Site):
    """A node with a line on the rendered weld line, and a folder of temperatures."""

    def __init__(self, folder: Path, running: Any, peer: Peer) -> None:
        self.broker, self.peer, self.folder = running, peer, folder / "temperatures"
        self.folder.mkdir()
        body = camera("cam1", "scene:weld?seed=1") + pipeline("cam1", "weld_defects", LINE) + PLATFORMS + PLANT
        self.agent = AgentProcess(folder, running.port, body)
        (folder / "coordinator").mkdir()
        self.coordinator = Process(folder / "coordinator", running.port, PLATFORMS)

    def warm(self, name: str, celsius: float, windows: int) -> None:
        text = "\n".join(str(celsius) for _ in range(10 * windows))
        (self.folder / f"{name}.tmp").write_text(text)
        (self.folder / f"{name}.tmp").replace(self.folder / f"{name}.csv")

    def rows(self, type_: str) -> list[Any]:
        batches = [
            decode_packed(SyncBatch, Kind.SYNC, heard.payload)
            for heard in list(self.peer.heard)
            if heard.topic == "edge/v1/gw-1/sync"
        ]
        return [row for batch in batches for row in batch.rows if row.type == type_]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("plant")
    with broker(folder) as running, Peer(running) as peer:
        made = Plant(folder, running, peer)
        with made.agent:
            made.coordinator.start()
            made.agent.start()
            try:
                wait_until(lambda: peer.events("LineCrossed"), lambda: made.agent.log[-3000:])
                yield made
            finally:
                made.coordinator.kill()


def test_p95_p96_sensors_and_machines(plant: Plant) -> None:
    plant.warm("a", 40.0, 7)
    wait_until(lambda: [one for one in plant.peer.events("ConditionChanged") if one.data["condition"] == "good"])
    told = {event.identity: event.data["state"] for event in plant.peer.events("SensorStateChanged")}
    assert list(told.values()) == ["live"]  # what was sent again is the same event
    wait_until(lambda: len(plant.rows("MachineMeasured")) >= 7)
    assert {row.lane for row in plant.rows("MachineMeasured")} == {"sample"}
    assert plant.peer.events("MachineMeasured") == []
    plant.warm("b", 95.0, 6)
    wait_until(lambda: plant.peer.events("MaintenanceAdvised"))
    wait_until(lambda: plant.rows("LineMeasured"))


@pytest.mark.parametrize("responder", ["gw-1", "coordinator"])
def test_p97_the_same_answer_from_the_node_and_the_coordinator(plant: Plant, responder: str) -> None:
    def figures() -> Any:
        payload = json.dumps({"line_id": "L1", "time_window": "5m"})
        result = plant.by_hand("lineFigures", payload, responder)
        assert result.error is None, result.error
        return result.result

    wait_until(lambda: figures()["parts"] >= 1)
    found = figures()
    assert (found["line_id"], found["node_id"]) == ("L1", "gw-1") and found["observed"] > 0
    assert found["window_end"] - found["window_start"] == 300_000

    def machines() -> Any:
        return plant.by_hand("machineCondition", "{}", responder).result

    wait_until(machines)
    assert [one["machine_id"] for one in machines()] == ["press1"]
    refused = plant.by_hand("lineFigures", '{"line_id":"L9"}', responder)
    assert refused.error is not None and "no line 'L9' here (L1)" in refused.error.message
    charts = plant.by_hand("controlCharts", '{"line_id":"L1"}', responder)
    assert charts.result == []


def test_p97_a_reason_is_told_and_counts_at_both(plant: Plant) -> None:
    said = plant.by_hand("explainStop", '{"line_id":"L1","reason":"no wire","by":"ann"}')
    assert said.result["reason"] == "no wire"
    wait_until(lambda: plant.peer.events("StopExplained"))
    assert plant.peer.events("StopExplained")[0].data["by"] == "ann"


def test_p98_what_a_condition_says_of_an_object() -> None:
    labels = ("person", "forklift")
    settings = {"others": ["forklift"], "distance_m": 5.0}
    rule = AlertRuleSettings("near", ("person",), for_s=0.0, kind="manufacturing.too_close", settings=settings)
    tracks = Tracks(
        track_id=np.array([1, 2]),
        xyxy=np.array([[0, 0, 100, 340], [200, 0, 400, 340]], np.float32),
        confidence=np.array([0.9, 0.9], np.float32),
        class_id=np.array([0, 1], np.int32),
        first_seen_s=np.zeros(2),
        last_seen_s=np.zeros(2),
        matched=np.ones(2, np.bool_),
        gone=np.array([], np.int64),
    )
    alerts = Alerts("cam1", [rule], "c", labels, {"manufacturing.too_close": too_close})
    (fact,) = alerts.observe(View("c", labels, tracks, 0.0, 1000, 1000), {})
    draft = draft_of(fact, camera_id="cam1", time_utc_ms=1)
    assert draft.data["objects"][0]["distance_m"] == 0.5
    assert open_catalogue().check(draft.type, draft.data)
    assert open_catalogue().check_json(draft.type, json.dumps(draft.data))
