"""Machines by windows, against a host in memory: condition, advice, state, and what survives a restart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from platforms.checking import Here
from platforms.hosting import RejectedError
from platforms.manufacturing.maintenance.bearing import Fault
from platforms.manufacturing.maintenance.synthetic import Machine, vibration
from platforms.samples import SampleWindow, Signal, Trouble
from platforms.testing import FakeHost, load_folder
from schemas.language.schema import Placement

ROOT = Path(__file__).resolve().parents[2]
MANUFACTURING = load_folder(ROOT / "platforms" / "manufacturing", [ROOT / "platforms" / "core"])
RATE = 8192
SPINDLE = Machine(resonance_hz=2500.0)
BEARING = {"elements": 9, "element_diameter": 7.94, "pitch_diameter": 39.04}
PRESS: dict[str, Any] = {
    "name": "Press 1",
    "vibration_class": "medium_rigid",
    "shaft_rpm": 60 * SPINDLE.shaft_hz,
    "bearing": BEARING,
    "learn_windows": 6,
    "sample_s": 0.0,
    "points": [{"sensor": "vib1", "channel": "x"}, {"sensor": "temp1", "quantity": "temperature", "limit": 80.0}],
}


class Hall:
    """A node whose windows come one second after the other."""

    def __init__(self, machine: dict[str, Any] | None = None, host: FakeHost | None = None, **more: Any) -> None:
        settings = {"machines": {"press1": {**PRESS, **(machine or {})}}, **more}
        self.host = FakeHost(MANUFACTURING, settings=settings)
        if host is not None:  # a restart on the same state
            self.host.state.values = host.state.values
            self.host.now = host.now
        self.host.start()
        self.rng = np.random.default_rng(1)
        self.count = 0

    def window(
        self, sensor: str, channel: str, signal: Signal, rate: float = RATE, unit: str = "", **more: Any
    ) -> None:
        self.count += 1
        self.host.now += 1000
        self.host.measured(
            SampleWindow(sensor, self.count, unit, rate, {channel: signal}, 100.0 + self.count, self.host.now, **more)
        )

    def vibrates(self, fault: Fault | None = None, gain: float = 0.5, count: int = 1, unit: str = "m/s2") -> None:
        for _ in range(count):
            signal = gain * vibration(SPINDLE, fault, 0.0, seconds=1.0, rate_hz=RATE, rng=self.rng)
            self.window("vib1", "x", signal, unit=unit)

    def is_warm(self, celsius: float, count: int = 1) -> None:
        for _ in range(count):
            self.window("temp1", "value", np.full(10, celsius), rate=1.0, unit="C")

    def told(self, event: str) -> list[dict[str, Any]]:
        return [dict(one.data) for one in self.host.emitted if one.event == event]

    @property
    def state(self) -> dict[str, Any]:
        (report,) = self.host.call("machineCondition", machine_id="press1")
        state: dict[str, Any] = report["state"]
        return state


def test_from_learning_to_a_broken_bearing_and_back() -> None:
    hall = Hall()
    assert hall.state["condition"] == "unknown"
    hall.vibrates(count=7)
    assert [one["condition"] for one in hall.told("ConditionChanged")] == ["learning", "good"]
    hall.vibrates(Fault.BPFI, count=3)
    (advice,) = hall.told("MaintenanceAdvised")
    assert (advice["machine_id"], advice["point"], advice["reason"], advice["about"]) == (
        "press1",
        "vib1.x",
        "damage",
        "bpfi",
    )
    assert hall.told("ConditionChanged")[-1]["reasons"] == ["vib1.x: bearing, BPFI"]
    assert hall.state["points"]["vib1.x"]["faults"] == ["bpfi"]
    hall.vibrates(Fault.BPFI, count=3)
    assert len(hall.told("MaintenanceAdvised")) == 1
    hall.vibrates(count=4)
    assert hall.told("ConditionChanged")[-1]["condition"] == "good" and hall.state["reasons"] == []
    figures = hall.told("MachineMeasured")
    assert len(figures) == hall.count and figures[0]["score"] is None and figures[-1]["score"] is not None
    assert set(figures[-1]["damage"]) == {"bpfo", "bpfi", "bsf", "ftf"} and figures[-1]["zone"] == "A"
    assert figures[-1]["kurtosis"] == pytest.approx(3, abs=0.3)


def test_the_worst_point_counts_and_a_limit_is_told() -> None:
    hall = Hall()
    hall.vibrates(count=7)
    hall.is_warm(40.0, count=7)
    assert hall.state["condition"] == "good"
    hall.is_warm(95.0, count=6)
    assert hall.state["condition"] == "critical"
    assert {one["reason"] for one in hall.told("MaintenanceAdvised")} == {"limit", "change"}
    hall.is_warm(40.0, count=40)
    assert hall.state["condition"] == "good"


def test_shaking_into_zone_d() -> None:
    hall = Hall()
    hall.vibrates(gain=2.0, count=7)
    hall.vibrates(gain=200.0, count=8)
    assert hall.state["condition"] == "critical" and hall.state["points"]["vib1.x"]["zone"] == "D"
    assert "zone" in {one["reason"] for one in hall.told("MaintenanceAdvised")}


def test_a_level_that_creeps_up_is_told_with_a_date() -> None:
    hall = Hall(
        {"points": [{"sensor": "temp1", "quantity": "temperature", "limit": 80.0}], "advise_ahead_s": 10_000.0}
    )
    for n in range(60):
        hall.is_warm(40.0 + 0.2 * n + 0.05 * (n % 3))
    forecasts = [one for one in hall.told("MaintenanceAdvised") if one["reason"] == "forecast"]
    assert forecasts
    last = forecasts[-1]["forecast"]
    assert last["earliest_s"] <= last["expected_s"] <= last["latest_s"]
    assert 80 < last["expected_s"] < 220 and hall.state["condition"] == "watch"


@pytest.mark.parametrize("trouble", list(Trouble)[1:])
def test_a_sensor_in_trouble_is_no_fault_of_the_machine(trouble: Trouble) -> None:
    hall = Hall()
    hall.vibrates(count=7)
    hall.window("vib1", "x", np.zeros(RATE), unit="m/s2", troubles={"x": trouble})
    assert hall.told("MaintenanceAdvised") == []
    assert hall.told("ConditionChanged")[-1]["condition"] == "unknown"
    assert hall.state["reasons"] == [f"vib1.x: the sensor is {trouble}"]
    hall.vibrates()
    assert hall.state["condition"] == "good"


def test_a_restart_forgets_nothing_and_a_repair_does() -> None:
    hall = Hall()
    hall.vibrates(count=7)
    again = Hall(host=hall.host)
    again.vibrates()
    assert again.told("ConditionChanged") == [
        {"machine_id": "press1", "condition": "good", "before": "unknown", "reasons": []}
    ]
    half = Hall()
    half.vibrates(count=4)
    after = Hall(host=half.host)
    after.vibrates(count=2)
    assert after.state["condition"] == "good"  # 4 and 2 windows are 6
    state = after.host.call("relearnMachine", machine_id="press1")
    assert state["condition"] == "learning"
    forgotten = Hall(host=after.host)
    forgotten.vibrates()
    assert forgotten.state["condition"] == "learning"


def test_the_speed_may_come_from_a_sensor() -> None:
    hall = Hall({"shaft_rpm": 0.0, "speed": "rpm1"})
    hall.vibrates(Fault.BPFO, count=3)
    assert hall.told("MaintenanceAdvised") == []
    hall.window("rpm1", "value", np.full(5, 60 * SPINDLE.shaft_hz), rate=1.0)
    hall.vibrates(Fault.BPFO, count=3)
    assert [one["about"] for one in hall.told("MaintenanceAdvised")] == ["bpfo"]
    hall.window("rpm1", "value", np.full(5, np.nan), rate=1.0, troubles={"value": Trouble.DROPPED_OUT})
    hall.vibrates(count=1)
    assert hall.told("MachineMeasured")[-1]["shaft_hz"] == 0.0


def test_units_are_converted_and_a_wrong_one_is_no_measurement() -> None:
    plain, in_g, odd = Hall(), Hall(), Hall()
    plain.vibrates(gain=9.80665)
    in_g.vibrates(gain=1.0, unit="g")
    odd.vibrates(unit="furlong")
    assert in_g.told("MachineMeasured")[0]["rms"] == pytest.approx(plain.told("MachineMeasured")[0]["rms"])
    assert odd.told("MachineMeasured") == [] and odd.state["condition"] == "unknown"


def test_a_machine_that_is_taken_out_is_forgotten_and_others_are_none_of_our_business() -> None:
    hall = Hall()
    hall.vibrates()
    hall.window("other", "x", np.zeros(10))
    other = FakeHost(MANUFACTURING, settings={"machines": {"press2": PRESS}})
    other.state.values = hall.host.state.values
    other.start()
    assert [one["machine_id"] for one in other.call("machineCondition")] == ["press2"]
    with pytest.raises(RejectedError, match="no machine 'press1' here \\(press2\\)"):
        other.call("machineCondition", machine_id="press1")
    with pytest.raises(RejectedError, match="at this node"):
        other.call("relearnMachine", machine_id="press9")


def test_the_coordinator_answers_from_what_nodes_have_written() -> None:
    hall = Hall()
    hall.vibrates(count=7)
    coordinator = FakeHost(MANUFACTURING, placement=Placement.CLOUD)
    coordinator.state.values = hall.host.state.values
    (report,) = coordinator.call("machineCondition")
    assert report["state"]["condition"] == "good" and report["state"]["node_id"] == "gw-test"


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ({"vibration_class": "huge"}, "there is no 'huge' (large_rigid"),
        ({"bearing": {**BEARING, "elements": 2}}, "3 to 200"),
        ({"zones": {"b": 3, "c": 2, "d": 1}}, "must grow"),
        ({"points": []}, "points: too short"),
        ({"points": [{"sensor": "a", "limit": 5.0}]}, "vibration goes by the machine's zones"),
        ({"points": [{"sensor": "a"}, {"sensor": "a"}]}, "'a.value' is there twice"),
        ({"shaft_rpms": 5}, "shaft_rpms"),
    ],
)
def test_wrong_settings_are_named(machine: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match="did not get through") as caught:
        Hall(machine)
    assert said in str(caught.value)


def test_a_sensor_that_the_node_does_not_have_is_named() -> None:
    here = Here(sensors=["vib1", "rpm1"])
    host = FakeHost(MANUFACTURING, settings={"machines": {"press1": PRESS}}, here=here)
    with pytest.raises(Exception, match=r"points\[1\].sensor: no sensor has the id 'temp1' \(vib1, rpm1\)"):
        host.start()


def test_a_plant_has_classes_of_its_own() -> None:
    hall = Hall({"vibration_class": "toy"}, vibration_classes={"toy": {"b": 0.001, "c": 0.002, "d": 0.003}})
    hall.vibrates()
    assert hall.state["condition"] == "critical"
