"""A real agent with a station: signals of mosquitto_pub and of an input line, verdicts on the line's broker."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.actions.fake_gpio import FakeLine
from schemas.messages import Event
from tests.agent_process.agents import WAIT_S, AgentProcess, Heard, Peer, mosquitto_pub, run_agent, wait_until
from tests.broker import Broker, broker, free_port

BODY = """
[local_broker]
port = {port}
[platforms]
enabled = ["manufacturing"]
[evidence]
enabled = true
clip = false
cooldown_s = 0.0
free_bytes_min = 0
on = {{ types = ["DefectDetected"] }}
[[cameras]]
id = "cam1"
source = "scene:weld_station?seed=7&fps=10&line=stainless"
[[pipelines]]
camera = "cam1"
model = "weld_defects"
[pipelines.stage]
kind = "manufacturing.inspection"
station = "weld"
trigger = "signal"
also = ["second"]
wait_s = 5.0
part = {{ find = "none", frames = 2 }}
calibration = {{ mm_per_px = 0.5 }}
rules = [{{ verdict = "reject", confidence_min = 0.05 }}]
[pipelines.stage.signal]
topic = "line/signal"
chip = "fake:{folder}/inputs.json"
line = 7
before_s = 1.0
after_s = 5.0
debounce_s = 0.0
[pipelines.stage.serial]
source = "mqtt"
pattern = "W[0-9]+"
wait_s = 0.0
[pipelines.stage.output]
topic = "line/verdict"
retain = true
{more}
[[pipelines]]
camera = "cam1"
model = "weld_defects"
name = "second"
[[actions]]
name = "stopper"
do = "gpio"
chip = "fake:{folder}/outputs.json"
line = 3
pulse_s = 0.05
on = {{ types = ["PartInspected"], fields = {{ verdict = ["reject"] }} }}
"""


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Broker]:
    with broker(tmp_path) as running:
        yield running


class Line:
    """The PLC: hears all of its broker."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def verdicts(self) -> list[dict[str, object]]:
        return [json.loads(h.payload) for h in list(self.peer.heard) if h.topic == "line/verdict"]


class LinePeer(Peer):
    """Topics of the line are no topics of the fleet."""

    def _on_message(self, client, userdata, message) -> None:  # type: ignore[no-untyped-def]
        self.heard.append(Heard(message.topic, bytes(message.payload), message.retain))


def start(folder: Path, port: int, fleet_port: int, *, more: str = "") -> AgentProcess:
    body = BODY.format(port=port, folder=folder, more=more)
    return AgentProcess(folder, fleet_port, body)


def pub(port: int, topic: str, payload: str = "") -> None:
    subprocess.run(
        ["mosquitto_pub", "-p", str(port), "-t", topic, "-q", "1", "-m", payload], check=True, timeout=WAIT_S
    )


def test_signals_get_verdicts_with_the_fleet_away_and_the_facts_follow(tmp_path: Path, line: Broker) -> None:
    fleet_port = free_port()
    inputs = FakeLine(tmp_path / "inputs.json", 7, active_low=False)
    with LinePeer(line) as peer, start(tmp_path, line.port, fleet_port) as agent:
        plc = Line(peer)
        agent.start()
        agent.wait_for_log("camera cam1 is running")
        agent.wait_for_log("local broker .*: connected")

        def said(count: int) -> bool:
            return len(plc.verdicts()) >= count

        def rejected() -> bool:
            return any(one["verdict"] == "reject" for one in plc.verdicts())

        # Half of the plates are defective. Signals go on until one has its reject.
        deadline_s = time.monotonic() + WAIT_S
        while not rejected():
            assert time.monotonic() < deadline_s, agent.log[-3000:]
            pub(line.port, "line/signal", json.dumps({"serial": "W1"}))
            time.sleep(0.5)
        time.sleep(1.0)
        known = len(plc.verdicts())
        inputs.set(True)
        inputs.set(False)
        wait_until(lambda: said(known + 1), lambda: agent.log[-3000:])
        pub(line.port, "line/signal", "not a serial")
        wait_until(lambda: said(known + 2), lambda: agent.log[-3000:])
        pub(line.port, "line/signal", "W1")  # it was here before
        wait_until(lambda: said(known + 3), lambda: agent.log[-3000:])
        first = plc.verdicts()[0]
        assert (first["station"], first["serial"]) == ("weld", "W1")
        for one in plc.verdicts():  # while there is no picture yet, or no second model, nobody is sure
            assert one["code"] == {"ok": 1, "reject": 3, "unsure": 4}[str(one["verdict"])]
            assert one["verdict"] != "unsure" or one["reason"] in ("no_picture", "model_silent second")
        counted = sum(one["part"] != 0 for one in plc.verdicts())
        assert plc.verdicts()[known]["serial"] == ""
        wait_until(lambda: outputs(tmp_path) >= 1)

        with broker(tmp_path / "..", port=fleet_port) as fleet, Peer(fleet, answers=True) as coordinator:
            wait_until(lambda: len(inspected(coordinator)) >= counted, lambda: agent.log[-3000:])
            parts = inspected(coordinator)
            assert [part.data["part"] for part in parts] == list(range(1, len(parts) + 1))
            assert {part.data["verdict"] for part in parts[-3:]} <= {"ok", "reject"}
            assert {part.data["frames"] for part in parts[-3:]} == {4}  # two pictures, two models
            problems = [event.data["problem"] for event in coordinator.events("InspectionProblem")]
            assert "wrong_serial" in problems
            assert "duplicate_serial" in problems
            assert coordinator.events("InvalidEvent") == []
            wait_until(lambda: coordinator.events("DefectDetected"))
            defect = coordinator.events("DefectDetected")[0]
            assert defect.data["part_id"] in {part.data["part_id"] for part in parts}
            assert defect.data["length_mm"] > 0
            wait_until(lambda: coordinator.events("EvidenceStored"))
            assert coordinator.events("EvidenceStored")[0].data["event_type"] == "DefectDetected"
            mosquitto_pub(fleet, "inspectPart", '{"camera_id": "cam1", "serial": "W9", "wait": 30}')
            coordinator.wait(lambda: coordinator.results("inspectPart"), agent)
            result = coordinator.results("inspectPart")[0].result
            assert isinstance(result, dict)
            assert (result["station"], result["serial"], result["verdict"] in ("ok", "reject")) == (
                "weld",
                "W9",
                True,
            )
            agent.terminate()


def inspected(coordinator: Peer) -> list[Event]:
    """Each row once, however often it was sent."""
    return list({event.identity: event for event in coordinator.events("PartInspected")}.values())


def outputs(folder: Path) -> int:
    """How often the output line was active."""
    path = folder / "outputs.json"
    return sum(json.loads(path.read_text())["3"]["history"]) if path.exists() else 0


def test_mistakes_in_a_station_are_all_told(tmp_path: Path) -> None:
    agent = start(tmp_path, 1, 1, more="topic = 'a/+'")
    text = (
        agent.config.read_text()
        .replace('topic = "line/verdict"\n', "")
        .replace("mm_per_px = 0.5", 'file = "no.json"')
    )
    text = text.replace('verdict = "reject", ', 'verdict = "reject", classes = ["dent"], ')
    text = text.replace('trigger = "signal"', 'trigger = "singal"').replace('"second"]', '"third"]')
    agent.config.write_text(text.replace('verdict = ["reject"] }', 'verdict = ["bad"] }'))
    told = run_agent("check", "--config", str(agent.config))
    assert told.returncode == 2
    for part in (
        "pipelines[0].stage.output.topic: 'a/+' must have no + or #",
        "pipelines[0].stage.trigger: 'singal' must be one of motion, signal",
        "pipelines[0].stage.also: no other pipeline of this camera is called 'third' (second)",
        "actions[0].on.fields.verdict: it is never 'bad', but ok|rework|unsure|reject",
    ):
        assert part in told.stderr, told.stderr
    run = run_agent("run", "--config", str(agent.config))
    assert run.returncode == 2
    assert "pipelines[0].stage.trigger" in run.stderr, run.stderr
    text = text.replace("a/+", "a/b").replace("singal", "signal").replace('"third"]', '"second"]')
    agent.config.write_text(text.replace('chip = "fake:', 'chip = "/no', 1))
    told = run_agent("check", "--config", str(agent.config))
    for part in (
        f"pipelines[0].stage.calibration.file: {tmp_path}/no.json cannot be read",
        "pipelines[0].stage.rules[0].classes: no model has a class 'dent'",
        f"pipelines[0].stage: the chip /no{tmp_path}/inputs.json of its input line does not exist",
    ):
        assert part in told.stderr, told.stderr


def test_a_station_needs_its_platform_and_is_no_table_of_its_own_any_more(tmp_path: Path) -> None:
    agent = start(tmp_path, 1, 1)
    text = agent.config.read_text()
    agent.config.write_text(text.replace('enabled = ["manufacturing"]', "enabled = []"))
    told = run_agent("check", "--config", str(agent.config)).stderr
    assert 'stage.kind: manufacturing.inspection needs its platform: [platforms] enabled = ["manufacturing"]' in told
    assert told.count("no event is called 'PartInspected'") == 1
    text = text.replace("pipelines.stage", "pipelines.inspection").replace('kind = "manufacturing.inspection"\n', "")
    agent.config.write_text(text.replace('fields = { verdict = ["reject"] }', 'verdicts = ["reject"]'))
    told = run_agent("check", "--config", str(agent.config)).stderr
    assert 'inspection: is no key any more; write [pipelines.stage] with kind = "manufacturing.inspection"' in told
    assert 'on.verdicts: is no key any more; write fields = { verdict = ["reject"] }' in told
