"""A line by its events: figures, charts and stops, at a node and in the coordinator, against a host in memory."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from platforms.context import KeptResult
from platforms.hosting import FailedError, RejectedError
from platforms.manufacturing.production.shifts import both, length_s, union, within, without, working
from platforms.testing import FakeHost, load_folder
from schemas.language.schema import Placement
from schemas.state import Entry
from schemas.sync import TimeWindow, Weekday

ROOT = Path(__file__).resolve().parents[2]
MANUFACTURING = load_folder(ROOT / "platforms" / "manufacturing", [ROOT / "platforms" / "core"])
LINE: dict[str, Any] = {"ideal_cycle_s": 2.0, "camera_id": "cam1", "stop_after": 5.0, "minor_s": 60.0}
NODE = "gw-test"


class Site:
    """A line with parts every `cycle_s`; times are seconds from now."""

    def __init__(self, placement: Placement = Placement.EDGE, **line: Any) -> None:
        self.line = {**LINE, **line}
        self.host = FakeHost(MANUFACTURING, settings={"lines": {"L1": self.line}}, placement=placement)
        if placement is Placement.EDGE:
            self.host.start()
        else:  # what its node has written
            value = {"node_id": NODE, **self.line}
            self.host.state.values["manufacturing.lines", "L1"] = Entry("L1", value, self.host.now, 0.0, NODE)
        self.count = 0

    def part(self, at_s: float, verdict: str = "ok", defects: tuple[str, ...] = (), **more: Any) -> None:
        self.count += 1
        part_id = str(more.pop("part_id", self.count))
        for n, kind in enumerate(defects):
            data = {"camera_id": "cam1", "defect_type": kind, "confidence": 0.9, "object_id": f"{part_id}-{n}"}
            self.host.seen("DefectDetected", data, at_s=at_s)
        data = {"camera_id": "cam1", "part_id": part_id, "verdict": verdict, **more}
        self.host.kept.append(
            KeptResult(NODE, "cam1", "PartInspected", part_id, self.host.now + round(at_s * 1000), data)
        )

    def watched(self, from_s: float, to_s: float = 0.0) -> None:
        for at in range(round(from_s), round(to_s) + 1, 10):
            self.host.kept.append(
                KeptResult(NODE, "cam1", "StreamSample", "cam1", self.host.now + at * 1000, {"camera_id": "cam1"})
            )

    def figures(self, window: str = "10m", **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.host.call("lineFigures", line_id="L1", time_window=window, **more)
        return found


@pytest.mark.parametrize("placement", [Placement.EDGE, Placement.CLOUD])
def test_figures_of_ten_minutes_by_hand(placement: Placement) -> None:
    """300 s of parts each 2 s, a stop of 100 s, 200 s of parts each 4 s."""
    site = Site(placement)
    site.watched(-1200)
    site.part(-602)
    for n in range(150):
        site.part(-598 + 2 * n, "reject" if n < 10 else "ok", ("pore",) if n < 10 else ())
    for n in range(50):
        site.part(-200 + 4 * n, "rework" if n < 5 else "ok", ("crack", "pore") if n < 5 else ())
    found = site.figures()
    assert (found["parts"], found["good"]) == (200, 185)
    assert found["planned_s"] == 600 and found["stopped_s"] == pytest.approx(100, abs=1)
    assert found["availability"] == pytest.approx(500 / 600, abs=0.01)
    assert found["performance"] == pytest.approx(400 / 500, abs=0.01)
    assert found["quality"] == pytest.approx(185 / 200)
    product = found["availability"] * found["performance"] * found["quality"]
    assert found["oee"] == pytest.approx(product, abs=1e-3)
    assert found["first_pass_yield"] == pytest.approx(0.925)
    assert (found["cycle_s_p50"], found["cycle_s_p95"]) == (2.0, 4.0)
    assert found["stops"] == [{"reason": "unknown", "count": 1, "stopped_s": pytest.approx(100, abs=2)}]
    assert [(one["defect"], one["count"]) for one in found["pareto"]] == [("pore", 15), ("crack", 5)]
    assert found["pareto"][-1]["cumulative"] == 1.0 and found["observed"] == 1.0 and found["notes"] == []


def test_a_part_that_comes_again_counts_for_first_pass_once() -> None:
    site = Site()
    site.watched(-600)
    site.part(-30, "rework", ("pore",), part_id="A")
    site.part(-20, "ok", part_id="A")
    site.part(-10, "ok", part_id="B", repeat=True)
    site.part(-5, "unsure", part_id="C")
    found = site.figures()
    assert (found["parts"], found["good"], found["rework"], found["unsure"]) == (4, 2, 2, 1)
    assert found["first_pass_yield"] == 0.0
    assert "1 parts could not be judged" in found["notes"][0]


def test_what_was_not_watched_is_no_lost_time() -> None:
    site = Site()
    site.watched(-300)
    for n in range(140):
        site.part(-290 + 2 * n)
    found = site.figures()
    assert found["observed"] == pytest.approx(0.5, abs=0.02) and "was watched" in found["notes"][0]
    assert found["planned_s"] < 400 and found["availability"] > 0.7


def test_nothing_known_is_null_and_not_nought() -> None:
    found = Site().figures()
    assert (found["parts"], found["oee"], found["availability"], found["first_pass_yield"]) == (0, None, None, None)


def test_crossings_count_parts_and_defects_since_the_last() -> None:
    site = Site(source="crossings", crossing="gate", classes=["plate"])
    site.watched(-600)
    for n in range(10):
        at_s = -100 + 2 * n
        if n in (3, 4):
            data = {"camera_id": "cam1", "defect_type": "pore", "confidence": 0.8, "object_id": f"d{n}"}
            site.host.seen("DefectDetected", data, at_s=at_s - 0.5)
        for direction, of_class, object_id in (
            ("in", "plate", f"p{n}"),
            ("out", "plate", f"q{n}"),
            ("in", "hand", "h"),
        ):
            data = {"line": "gate", "direction": direction, "class": of_class, "object_id": object_id}
            site.host.kept.append(
                KeptResult(NODE, "cam1", "LineCrossed", "gate", site.host.now + round(at_s * 1000), data)
            )
    found = site.figures()
    assert (found["parts"], found["good"]) == (10, 8)


def test_a_reason_is_given_to_a_stop_and_stays() -> None:
    site = Site()
    site.watched(-600)
    for at in range(-602, -300, 2):
        site.part(at)
    for at in range(-100, 0, 2):
        site.part(at)
    at_ms = site.host.now - 200_000
    said = site.host.call("explainStop", line_id="L1", reason="no wire", at=at_ms, by="ann")
    assert (said["reason"], said["planned"]) == ("no wire", False)
    (event,) = [one for one in site.host.emitted if one.event == "StopExplained"]
    site.host.seen("StopExplained", dict(event.data))
    assert [one["reason"] for one in site.figures()["stops"]] == ["no wire"]
    before = site.figures()
    site.host.call("explainStop", line_id="L1", reason="cleaning", planned=True, at=at_ms)
    site.host.seen("StopExplained", dict(site.host.emitted[-1].data))
    after = site.figures()
    assert after["planned_s"] < before["planned_s"] - 190 and after["availability"] > 0.95 > before["availability"]


def test_a_plan_changes_the_ideal_cycle_from_then_on() -> None:
    site = Site()
    site.watched(-600)
    plan = site.host.call("setLinePlan", line_id="L1", product="B", ideal_cycle_s=4.0, demand_per_h=900)
    assert plan["ideal_cycle_s"] == 4.0
    (changed,) = [one for one in site.host.emitted if one.event == "LinePlanChanged"]
    site.host.kept.append(KeptResult(NODE, "", "LinePlanChanged", "L1", site.host.now - 100_000, dict(changed.data)))
    for at in range(-200, 0, 4):
        site.part(at)
    found = site.figures("200s")
    assert (found["product"], found["takt_s"]) == ("B", 4.0)
    assert found["performance"] == pytest.approx((25 * 2 + 25 * 4) / 200, abs=0.05)
    site.host.call("setLinePlan", line_id="L1", demand_per_h=0.0)
    assert site.host.state.values["manufacturing.line_plans", "L1"].value["product"] == "B"


def test_control_charts_find_a_shift_of_a_measured_value() -> None:
    site = Site(
        charts=[
            {"kind": "xbar_r", "field": "length_mm", "sample": 4, "learn": 5},
            {"kind": "p", "sample": 10, "learn": 5},
        ]
    )
    for n in range(80):
        shifted = 0.5 if n >= 40 else 0.0
        site.part(-400 + 4 * n, "reject" if n >= 60 else "ok", length_mm=100 + 0.1 * (n % 4) + shifted)
    charts = site.host.call("controlCharts", line_id="L1", time_window="10m")
    means, ranges, defective = charts
    assert [one["name"] for one in charts] == ["length_mm", "length_mm.range", "p"]
    assert means["centre"] == pytest.approx(100.15) and means["low"] < means["centre"] < means["high"]
    assert any(1 in point["rules"] for point in means["points"])
    assert not any(point["rules"] for point in ranges["points"])
    assert defective["centre"] == 0.0 and defective["points"][-1]["rules"]


# ---- as it comes ---------------------------------------------------------------------------------


def live(site: Site, at_s: float, verdict: str = "ok", **more: Any) -> None:
    site.host.now = round(BASE + at_s * 1000)
    site.part(0, verdict, **more)
    site.host.heard(site.host.kept[-1])


BASE = 1_767_225_600_000


def told(site: Site, event: str) -> list[dict[str, Any]]:
    return [dict(one.data) for one in site.host.emitted if one.event == event]


def test_a_stop_is_told_when_it_is_known_and_when_it_ends() -> None:
    site = Site()
    for at in range(0, 20, 2):
        live(site, at)
        site.host.look()
    assert told(site, "LineStopped") == []
    for at in range(20, 40):
        site.host.now = BASE + at * 1000
        site.host.look()
    (stopped,) = told(site, "LineStopped")
    assert stopped["since"] == BASE + 18_000
    live(site, 50)
    assert told(site, "LineResumed") == [
        {"line_id": "L1", "since": BASE + 18_000, "stopped_s": 32.0, "reason": "unknown"}
    ]


def test_a_camera_that_is_lost_and_a_clock_that_is_set_are_no_stops() -> None:
    site = Site()
    for at in range(0, 20, 2):
        live(site, at)
        site.host.look()

    def camera(state: str) -> None:
        site.host.heard(KeptResult(NODE, "cam1", "CameraStateChanged", "cam1", site.host.now, {"state": state}))

    camera("lost")
    for at in range(20, 60):
        site.host.now = BASE + at * 1000
        site.host.look()
    camera("running")
    for jump_s in (7200, -7200):
        site.host.now += jump_s * 1000
        site.host.look()
    assert told(site, "LineStopped") == []
    now = site.host.now
    for ahead in range(30):
        site.host.now = now + ahead * 1000
        site.host.look()
    assert len(told(site, "LineStopped")) == 1


def test_figures_are_told_and_written_now_and_then() -> None:
    site = Site(sample_s=10.0)
    for at in range(0, 60, 2):
        live(site, at)
        site.host.look()
    samples = told(site, "LineMeasured")
    assert 5 <= len(samples) <= 6 and samples[-1]["parts"] > 20
    assert site.host.state.values["manufacturing.line_figures", "L1"].value["parts"] == samples[-1]["parts"]


def test_a_broken_limit_is_told_once_for_a_point() -> None:
    site = Site(charts=[{"kind": "p", "sample": 10, "learn": 3}])
    for n in range(30):
        live(site, 2 * n, "reject" if n % 10 == 0 else "ok")
    for n in range(30, 40):
        live(site, 2 * n, "reject" if n < 36 else "ok")
    (broken,) = told(site, "ControlLimitBroken")
    assert (broken["chart"], broken["rule"], broken["side"], broken["value"]) == ("p", 1, 1, 0.6)


def test_outside_of_shifts_nothing_stands_still() -> None:
    """BASE is a Thursday, midnight UTC."""
    site = Site(timezone="UTC", shifts=[{"start": "06:00", "end": "14:00", "days": ["mon"]}])
    live(site, 0)
    for at in range(1, 60):
        site.host.now = BASE + at * 1000
        site.host.look()
    assert told(site, "LineStopped") == []
    found = site.figures("50s")
    assert (found["state"], found["planned_s"], found["oee"]) == ("break", 0, None)


# ---- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"ideal_cycle_s": 0.0}, "ideal_cycle_s: seconds of a part"),
        ({"source": "crossings"}, "needs camera_id and crossing"),
        ({"shifts": [{"start": "6", "end": "14:00"}], "timezone": "UTC"}, "no time of day"),
        ({"shifts": [{"start": "06:00", "end": "14:00"}]}, "timezone: is needed"),
        ({"shifts": [{"start": "06:00", "end": "14:00"}], "timezone": "Mars"}, "there is no 'Mars'"),
        ({"charts": [{"kind": "xbar_r", "sample": 50}]}, "2 to 10 parts"),
        ({"charts": [{"kind": "p", "field": "x"}]}, "names the measured value"),
        ({"ideal_cycles": 3}, "ideal_cycles"),
    ],
)
def test_wrong_settings_are_named(line: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match="did not get through") as caught:
        Site(**line)
    assert said in str(caught.value)


def test_wrong_questions_are_refused() -> None:
    site = Site()
    with pytest.raises(RejectedError, match="no line 'L9' here \\(L1\\)"):
        site.host.call("lineFigures", line_id="L9")
    with pytest.raises(RejectedError, match="future"):
        site.figures(until=site.host.now + 5000)
    with pytest.raises(RejectedError, match="no line 'L9' at this node"):
        site.host.call("explainStop", line_id="L9", reason="x")
    with pytest.raises(RejectedError, match="no time of day"):
        site.host.call("setLinePlan", line_id="L1", shifts=[{"start": "25:00", "end": "14:00"}], timezone="UTC")
    with pytest.raises((RejectedError, FailedError)):
        Site(Placement.CLOUD).host.call("explainStop", line_id="L1", reason="x")


# ---- shifts --------------------------------------------------------------------------------------

EARLY = TimeWindow("06:00", "14:00")
NIGHT = TimeWindow("22:00", "06:00", (Weekday.SAT,))
THURSDAY = 1_767_225_600.0  # 2026-01-01, midnight UTC


@pytest.mark.parametrize(
    ("shifts", "breaks", "zone", "hours"),
    [
        ([], [], "", [(0, 24)]),
        ([EARLY], [], "UTC", [(6, 14)]),
        (
            [EARLY],
            [TimeWindow("09:00", "09:30"), TimeWindow("12:00", "12:30")],
            "UTC",
            [(6, 9), (9.5, 12), (12.5, 14)],
        ),
        ([EARLY], [], "Europe/Berlin", [(5, 13)]),
        ([replace(EARLY, days=(Weekday.FRI,))], [], "UTC", []),
        ([TimeWindow("22:00", "06:00")], [], "UTC", [(0, 6), (22, 24)]),
        ([EARLY, TimeWindow("13:00", "22:00")], [], "UTC", [(6, 22)]),
    ],
)
def test_when_a_line_is_to_run(
    shifts: list[TimeWindow], breaks: list[TimeWindow], zone: str, hours: list[tuple[float, float]]
) -> None:
    found = working(shifts, breaks, zone, THURSDAY, THURSDAY + 86400)
    assert [((begin - THURSDAY) / 3600, (end - THURSDAY) / 3600) for begin, end in found] == hours


def test_a_night_shift_in_which_the_clock_is_put_back_is_an_hour_longer() -> None:
    saturday = 1_792_872_000.0 - 12 * 3600  # 2026-10-24
    (night,) = working([NIGHT], [], "Europe/Berlin", saturday, saturday + 2 * 86400)
    assert (night[1] - night[0]) / 3600 == 9


def test_spans() -> None:
    spans = union([(5, 9), (0, 2), (8, 12), (3, 3)])
    assert spans == [(0, 2), (5, 12)]
    assert within(spans, 1, 6) == [(1, 2), (5, 6)] and length_s(spans) == 9
    assert both(spans, [(1, 7)]) == [(1, 2), (5, 7)]
    assert without(spans, [(1, 6), (7, 8)]) == [(0, 1), (6, 7), (8, 12)]


def test_a_line_whose_events_come_all_at_once_is_followed_in_a_loop() -> None:
    site = Site()

    async def flood() -> list[Any]:
        return [await site.host.acall("lineFigures", line_id="L1", time_window="1m") for _ in range(3)]

    assert len(asyncio.run(flood())) == 3
