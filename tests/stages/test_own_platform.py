"""A user's own platform brings a stage: in a real agent, on a film, with the line's broker and the fleet's."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.actions.fake_gpio import FakeLine
from agent.capture.frame import Rgb
from schemas.codec import decode_packed
from schemas.messages import Heartbeat
from schemas.topics import Kind
from tests.agent_process.agents import (
    WAIT_S,
    AgentProcess,
    Heard,
    Peer,
    bundle,
    camera,
    mosquitto_pub,
    pipeline,
    run_agent,
    wait_until,
)
from tests.broker import Broker, broker
from tests.capture.helpers import write_clip
from tests.stages import acme_buns


def tray(buns: int) -> Rgb:
    """64x64: so many bright cells in a row."""
    plane = np.full((64, 64), 20, np.uint8)
    for n in range(buns):
        plane[24:32, n * 16 : n * 16 + 8] = 255
    return np.repeat(plane[..., None], 3, axis=2)


BODY = """
[local_broker]
port = {port}
[platforms]
folders = ["acme_buns"]
[evidence]
enabled = true
clip = false
cooldown_s = 0.0
free_bytes_min = 0
on = {{ types = ["TrayFilled"] }}
[[actions]]
name = "lamp"
do = "gpio"
chip = "fake:{folder}/outputs.json"
line = 3
pulse_s = 0.05
on = {{ types = ["TrayTaken"], fields = {{ by = ["line"] }} }}
"""
STAGE = """
[pipelines.stage]
kind = "acme_buns.buns"
also = ["second"]
per_tray = 3
names = "names.txt"
count_topic = "oven/buns"
taken_topic = "oven/taken"
chip = "fake:{folder}/inputs.json"
taken_line = 7
"""


class LinePeer(Peer):
    """Topics of the line are no topics of the fleet."""

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        self.heard.append(Heard(message.topic, bytes(message.payload), message.retain))


def counts(plc: Peer) -> list[int]:
    return [json.loads(one.payload)["buns"] for one in list(plc.heard) if one.topic == "oven/buns"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Broker]:
    (tmp_path / "fleet").mkdir()
    with broker(tmp_path / "fleet") as running:
        yield running


def agent_with(folder: Path, line_port: int, fleet_port: int, stage: str = STAGE) -> AgentProcess:
    acme_buns.write(folder)
    (folder / "names.txt").write_text("tray 7\n")
    write_clip(folder / "film.mp4", (tray(n) for n in (*[0] * 15, *[2] * 10, *[3] * 15)))
    model = bundle(folder / "cells")
    body = BODY.format(port=line_port, folder=folder) + camera("cam1", "film.mp4", "loop = true")
    body += pipeline("cam1", model, "object_events = false" + stage.format(folder=folder))
    body += pipeline("cam1", model, 'name = "second"\nobject_events = false')
    return AgentProcess(folder, fleet_port, body)


def outputs(folder: Path) -> int:
    """How often the output line was active."""
    path = folder / "outputs.json"
    return sum(json.loads(path.read_text())["3"]["history"]) if path.exists() else 0


def test_it_counts_publishes_says_shows_and_answers(tmp_path: Path, fleet: Broker) -> None:
    inputs = FakeLine(tmp_path / "inputs.json", 7, active_low=False)
    (tmp_path / "line").mkdir()
    with (
        broker(tmp_path / "line") as line,
        LinePeer(line) as plc,
        Peer(fleet, answers=True) as coordinator,
        agent_with(tmp_path, line.port, fleet.port) as agent,
    ):
        agent.start()
        wait_until(lambda: {0, 2, 3} <= set(counts(plc)), lambda: agent.log[-3000:])
        coordinator.wait(lambda: coordinator.events("TrayFilled"), agent)
        filled = coordinator.events("TrayFilled")[0]
        assert (filled.data["buns"], filled.data["tray"], filled.data["camera_id"]) == (3, "tray 7", "cam1")
        coordinator.wait(lambda: coordinator.events("EvidenceStored"), agent)
        stored = coordinator.events("EvidenceStored")[0].data
        assert (stored["event_type"], stored["event_id"]) == ("TrayFilled", filled.identity.id)

        inputs.set(True)
        coordinator.wait(lambda: taken(coordinator, "line"), agent)
        wait_until(lambda: outputs(tmp_path) == 1, lambda: agent.log[-3000:])  # by `fields` of an action
        words = ["mosquitto_pub", "-p", str(line.port), "-t", "oven/taken", "-m", "now"]
        subprocess.run(words, check=True, timeout=WAIT_S)
        coordinator.wait(lambda: taken(coordinator, "topic"), agent)
        assert outputs(tmp_path) == 1

        mosquitto_pub(fleet, "bunsOn", '{"camera_id": "cam1"}')
        coordinator.wait(lambda: coordinator.results("bunsOn"), agent)
        answer = coordinator.results("bunsOn")[0].result
        assert isinstance(answer, dict)
        assert answer["trays"] >= 1
        mosquitto_pub(fleet, "status", "{}")
        coordinator.wait(lambda: coordinator.results("status"), agent)
        status = coordinator.results("status")[0].result
        assert isinstance(status, dict)
        (stage,) = status["stages"]["stages"]
        assert (stage["kind"], stage["camera"], stage["pipelines"]) == (
            "acme_buns.buns",
            "cam1",
            ["cam1", "second"],
        )
        assert stage["others"] > 0
        assert stage["failures_total"] == 0
        assert coordinator.events("InvalidEvent") == []
        assert agent.terminate() == 0


def taken(coordinator: Peer, by: str) -> list[Any]:
    return [event for event in coordinator.events("TrayTaken") if event.data["by"] == by]


@pytest.mark.parametrize("command", ["check", "run"])
def test_the_start_and_the_check_tell_the_same_mistakes(tmp_path: Path, command: str) -> None:
    stage = STAGE.replace("per_tray", "per_try").replace('"second"', '"third"').replace("taken_line = 7", "level = 2")
    agent = agent_with(tmp_path, 1, 1, stage)
    told = run_agent(command, "--config", str(agent.config))
    assert told.returncode == 2
    for said in (
        "stage.per_tray: is missing",
        "stage.per_try: unknown key; did you mean per_tray?",
        "stage.level: 2.0 must be less than 1",
        "stage.also: no other pipeline of this camera is called 'third' (second)",
    ):
        assert f"pipelines[0].{said}" in told.stderr, told.stderr


def test_what_the_machine_lacks_is_told_by_the_check(tmp_path: Path) -> None:
    agent = agent_with(tmp_path, 1, 1, STAGE.replace("names.txt", "no.txt").replace("fake:{folder}", "{folder}/no"))
    told = run_agent("check", "--config", str(agent.config)).stderr
    assert f"pipelines[0].stage.names: {tmp_path}/no.txt is not there" in told
    assert f"pipelines[0].stage: the chip {tmp_path}/no/inputs.json of its input line does not exist" in told


def test_a_defect_of_a_stage_ends_its_pipeline_and_nothing_else(tmp_path: Path, fleet: Broker) -> None:
    agent = agent_with(tmp_path, 1, fleet.port, STAGE.replace('also = ["second"]\n', ""))
    code = tmp_path / "acme_buns" / "buns.py"
    code.write_text(code.read_text().replace("bright = (", 'bright = {}["nothing"] or ('))
    with Peer(fleet, answers=True) as coordinator, agent:
        agent.start()
        coordinator.wait(lambda: coordinator.events("PipelineFailed"), agent)
        failed = coordinator.events("PipelineFailed")[0]
        assert failed.subject == "cam1"
        assert "KeyError('nothing')" in failed.data["reason"]
        assert "buns.py" in agent.log
        count = len(coordinator.on("heartbeat"))

        def second_goes_on() -> bool:
            beats = [
                decode_packed(Heartbeat, Kind.HEARTBEAT, heard.payload)
                for heard in coordinator.on("heartbeat")[count:]
            ]
            rows = [row for beat in beats for row in beat.streams if row.pipeline == "second"]
            return bool(rows) and rows[-1].state == "running" and rows[-1].frames_total > 20

        coordinator.wait(second_goes_on, agent)
        assert agent.terminate() == 0
