"""A real agent, a real broker: values that somebody publishes, or that lie in a file, become advice."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from platforms.manufacturing.maintenance.bearing import Fault
from platforms.manufacturing.maintenance.synthetic import Machine, vibration
from schemas.messages import CommandState
from tests.agent_process.agents import AgentProcess, Peer, mosquitto_pub, wait_until
from tests.broker import Broker, broker

RATE = 8192
BEARING = Machine(resonance_hz=2500.0)
PLANT = """
[platforms]
enabled = ["manufacturing"]
[[actions]]
name = "call"
do = "command"
command = ["/bin/sh", "-c", "cat >> ADVISED"]
on = { types = ["MaintenanceAdvised"] }
[platforms.manufacturing.machines.press1]
name = "Press 1"
vibration_class = "medium_rigid"
shaft_rpm = 1770.0
bearing = { elements = 9, element_diameter = 7.94, pitch_diameter = 39.04 }
learn_windows = 5
sample_s = 0.0
[[platforms.manufacturing.machines.press1.points]]
sensor = "vib1"
channel = "x"
[[platforms.manufacturing.machines.press1.points]]
sensor = "temp1"
quantity = "temperature"
limit = 80.0
"""
SENSORS = """
[local_broker]
port = {port}
[[sensors]]
id = "vib1"
kind = "mqtt"
topic = "plant/press1/vibration"
unit = "m/s2"
rate_hz = 8192
window_s = 1.0
channels = [{{ name = "x", path = "acc.x" }}]
[[sensors]]
id = "temp1"
kind = "mqtt"
topic = "plant/press1/temperature"
unit = "C"
rate_hz = 100
window_s = 0.02
stuck_s = 1000.0
"""


def plant(folder: Path) -> str:
    """Advice is acted upon at once: a local action writes it down."""
    return PLANT.replace("ADVISED", str(folder / "advised.jsonl"))


def block(fault: Fault | None, rng: np.random.Generator) -> bytes:
    signal = vibration(BEARING, fault, 0.0, seconds=1.0, rate_hz=RATE, rng=rng)
    return json.dumps({"acc": {"x": np.round(0.5 * signal, 4).tolist()}}).encode()


def ask(peer: Peer, running: Broker, function: str, payload: str) -> Any:
    count = len(peer.results(function))
    mosquitto_pub(running, function, payload)
    wait_until(lambda: [one for one in peer.results(function)[count:] if one.state.final])
    result = peer.results(function)[-1]
    assert result.state is CommandState.SUCCEEDED, result.error
    return result.result


def condition(peer: Peer) -> str:
    changes = peer.events("ConditionChanged")
    return str(changes[-1].data["condition"]) if changes else ""


def said(site: Broker, topic: str, payload: bytes) -> None:
    """As a sensor's gateway publishes it on the plant's own broker."""
    command = ["mosquitto_pub", "-p", str(site.port), "-q", "1", "-t", topic, "-s"]
    subprocess.run(command, input=payload, check=True, timeout=30)


def sending(
    site: Broker, topic: str, payload: Callable[[], bytes], until: Callable[[], object]
) -> Callable[[], object]:
    """Publishes once more each time it is asked and not yet so."""

    def ask_again() -> object:
        if until():
            return True
        said(site, topic, payload())
        time.sleep(0.15)
        return until()

    return ask_again


def test_a_bearing_that_breaks_is_told_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    topic = "plant/press1/vibration"
    with broker(tmp_path) as running, broker(tmp_path) as site, Peer(running, answers=True) as peer:  # noqa: SIM117
        with AgentProcess(tmp_path, running.port, SENSORS.format(port=site.port) + plant(tmp_path)) as agent:
            agent.start()
            peer.wait_online(agent)
            agent.wait_for_log("sensor vib1: live")
            healthy = sending(site, topic, lambda: block(None, rng), lambda: condition(peer) == "good")
            peer.wait(healthy, agent)
            agent.terminate()

            agent.start()
            peer.wait_online(agent, 2)
            agent.wait_for_log("sensor vib1: live", 2)
            broken = sending(site, topic, lambda: block(Fault.BPFO, rng), lambda: peer.events("MaintenanceAdvised"))
            peer.wait(broken, agent)
            advice = peer.events("MaintenanceAdvised")[0].data
            assert advice["machine_id"] == "press1" and advice["point"] == "vib1.x"
            assert (advice["reason"], advice["about"]) == ("damage", "bpfo")
            wait_until(lambda: condition(peer) == "warning")
            wait_until((tmp_path / "advised.jsonl").exists)
            assert "learning" not in [event.data["condition"] for event in peer.events("ConditionChanged")[1:]]

            (report,) = ask(peer, running, "machineCondition", '{"machine_id": "press1"}')
            assert report["state"]["condition"] == "warning" and report["state"]["name"] == "Press 1"
            assert report["state"]["points"]["vib1.x"]["faults"] == ["bpfo"]
            assert report["state"]["points"]["vib1.x"]["usual"] is not None

            hot = sending(site, "plant/press1/temperature", lambda: b"95.5", lambda: condition(peer) == "critical")
            peer.wait(hot, agent)
            assert {event.data["reason"] for event in peer.events("MaintenanceAdvised")} >= {"damage", "limit"}

            state = ask(peer, running, "relearnMachine", '{"machine_id": "press1"}')
            assert state["points"]["vib1.x"]["usual"] is None

            said(site, topic, b"no json")
            said(site, topic, b'{"acc": {}}')
            agent.wait_for_log("sensor vib1: not as its settings say")
            status = ask(peer, running, "status", "{}")
            (vib1, _) = status["sensors"]
            assert vib1["state"] == "live" and vib1["windows"] > 0 and vib1["dropped"] == 0
            wait_until(lambda: ask(peer, running, "status", "{}")["sensors"][0]["refused"] == 2)


def test_a_csv_file_is_replayed_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    signals = [vibration(BEARING, None, 0.0, seconds=1.0, rate_hz=RATE, rng=rng) for _ in range(6)]
    signals += [vibration(BEARING, Fault.BPFI, 0.0, seconds=1.0, rate_hz=RATE, rng=rng) for _ in range(3)]
    signal = np.concatenate(signals)
    lines = ["time,x", *(f"{n / RATE:.5f},{value:.4f}" for n, value in enumerate(signal))]
    (tmp_path / "record.csv").write_text("\n".join(lines))
    sensor = """
[[sensors]]
id = "vib1"
kind = "file"
path = "record.csv"
realtime = false
unit = "m/s2"
rate_hz = 8192
window_s = 1.0
channels = [{ name = "x", column = "x" }]
"""
    with broker(tmp_path) as running, Peer(running, answers=True) as peer:
        alone = plant(tmp_path).split('[[platforms.manufacturing.machines.press1.points]]\nsensor = "temp1"')[0]
        with AgentProcess(tmp_path, running.port, sensor + alone) as agent:
            agent.start()
            peer.wait(lambda: peer.events("MaintenanceAdvised"), agent)
            assert {event.data["about"] for event in peer.events("MaintenanceAdvised")} >= {"bpfi"}
            peer.wait(
                lambda: [one for one in peer.events("SensorStateChanged") if one.data["state"] == "ended"], agent
            )
            (row,) = ask(peer, running, "status", "{}")["sensors"]
            assert (row["windows"], row["samples"], row["dropped"]) == (9, 9 * RATE, 0)


@pytest.mark.parametrize("what", ["machine", "class", "sensor"])
def test_a_wrong_configuration_is_named(tmp_path: Path, what: str) -> None:
    """Of sensors by `check`; of machines when the platform starts, and the agent lives on."""
    body = {
        "machine": PLANT.replace("elements = 9", "elements = 2"),
        "class": PLANT.replace("medium_rigid", "huge"),
        "sensor": '[[sensors]]\nid = "a"\nkind = "mqtt"\n',
    }[what]
    with broker(tmp_path) as running, AgentProcess(tmp_path, running.port, body) as agent:
        if what == "sensor":
            assert agent.run_to_its_end() == 2 and "topic: is needed for kind = 'mqtt'" in agent.log
        else:
            agent.start()
            agent.wait_for_log("3 to 200 rolling elements" if what == "machine" else "there is no 'huge'")
            agent.terminate()
