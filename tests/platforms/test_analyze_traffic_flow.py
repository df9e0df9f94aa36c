"""`analyzeTrafficFlow` over what is kept: at a node and in the coordinator the same function, the same figures."""

import asyncio
from typing import Any

import pytest

from platforms.context import BadArgumentError, Context, FunctionError, KeptResult
from platforms.functions import bindings_of, hooks_of
from platforms.traffic import functions
from platforms.traffic.functions import analyze_traffic_flow, publish_intersections
from platforms.traffic.types import ApproachFlow, FlowAnalysis, FlowTendency, LevelOfService
from schemas.language.schema import Placement
from schemas.shape import fields_of
from tests.platforms.fake_context import NOON_MS, FakeContext, FakeState, kept, samples

MINUTE_MS = 60_000
NORTH: dict[str, Any] = {"name": "north", "camera_id": "cam1", "line": "stop"}
SOUTH: dict[str, Any] = {"name": "south", "camera_id": "cam2", "line": "stop", "inbound": "out"}


def settings(*approaches: dict[str, Any], name: str = "Main and 5th") -> dict[str, Any]:
    """`[platforms.traffic]` as a configuration file has it."""
    return {"intersections": {"IS-001": {"name": name, "approaches": list(approaches)}}}


def crossed(
    time_ms: int, class_: str = "car", *, direction: str = "in", line: str = "stop", object_id: str = "", **where: str
) -> KeptResult:
    """A vehicle on the line; each is another one where no id is given."""
    return kept(
        time_ms,
        "LineCrossed",
        line=line,
        direction=direction,
        class_=class_,
        object_id=object_id or f"{time_ms}-{direction}-{class_}",
        **where,
    )


def zone_changed(time_ms: int, before: int, after: int, zone: str = "queue") -> KeptResult:
    return kept(time_ms, "ZoneCountChanged", zone=zone, counts={"car": after}, counts_before={"car": before})


def analysed(context: FakeContext, minutes: float = 5, *, until: int | None = None) -> FlowAnalysis:
    """After the start of the host, as it happens there."""
    return asyncio.run(_analysed(context, minutes, until))


async def _analysed(context: FakeContext, minutes: float, until: int | None) -> FlowAnalysis:
    await publish_intersections(context)
    return await analyze_traffic_flow(context, "IS-001", minutes * 60.0, until)


def the_only(analysis: FlowAnalysis) -> ApproachFlow:
    (flow,) = analysis.approaches
    return flow


def ago(minutes: float) -> int:
    return NOON_MS - round(minutes * MINUTE_MS)


# ---- what is counted -----------------------------------------------------------------------------


def test_vehicles_are_counted_by_direction_and_class() -> None:
    results = [
        *samples(ago(11), NOON_MS),
        *(crossed(ago(minute)) for minute in (4.5, 3.5, 2.5, 1.5, 0.5)),
        crossed(ago(2), "truck"),
        crossed(ago(1), "person"),
        crossed(ago(3), "bus", direction="out"),
        crossed(ago(3), line="exit"),
        crossed(ago(6)),
    ]
    found = analysed(FakeContext(settings=settings(NORTH), kept=results))
    assert (found.window_start, found.window_end) == (ago(5), NOON_MS)
    flow = the_only(found)
    assert fields_of(flow.counts) == {"inbound": {"car": 5, "person": 1, "truck": 1}, "outbound": {"bus": 1}}
    assert (flow.vehicles, flow.vehicles_out) == (6, 1)
    assert flow.flow_vph == 72.0  # 6 in 5 minutes
    assert flow.heavy_vehicle_share == pytest.approx(1 / 6, abs=1e-4)
    assert flow.headway_mean_s == pytest.approx(48.0)  # 4 minutes between the first and the last of 6
    assert flow.peak is not None
    assert (flow.peak.factor, flow.peak.interval_s) == (0.6, 60)  # 6 / (5 × 2)
    assert flow.coverage == 1.0
    assert found.quality.notes == ()
    assert (found.vehicles, found.flow_vph, found.heavy_vehicle_share) == (6, 72.0, flow.heavy_vehicle_share)


def test_a_vehicle_that_steps_back_and_forth_on_the_line_is_counted_once_a_direction() -> None:
    times = (ago(3), ago(2.9), ago(2.8))
    ways = zip(times, ("in", "out", "in"), strict=True)
    results = [*samples(ago(11), NOON_MS), *(crossed(at, direction=way, object_id="7") for at, way in ways)]
    flow = the_only(analysed(FakeContext(settings=settings(NORTH), kept=results)))
    assert (flow.vehicles, flow.vehicles_out) == (1, 1)


def test_an_approach_says_which_direction_of_its_line_leads_in() -> None:
    results = [
        *samples(ago(11), NOON_MS),
        *samples(ago(11), NOON_MS, camera="cam2"),
        crossed(ago(2)),
        crossed(ago(2), camera="cam2", direction="out"),
        crossed(ago(1), camera="cam2", direction="out", class_="bus"),
        crossed(ago(1), camera="cam2", direction="in"),
    ]
    found = analysed(FakeContext(settings=settings(NORTH, SOUTH), kept=results))
    assert [(flow.approach, flow.vehicles, flow.vehicles_out) for flow in found.approaches] == [
        ("north", 1, 0),
        ("south", 2, 1),
    ]
    assert (found.vehicles, found.vehicles_out, found.flow_vph) == (3, 1, 36.0)


def test_the_window_may_end_in_the_past() -> None:
    results = [*samples(ago(40), NOON_MS), crossed(ago(12)), crossed(ago(4))]
    found = analysed(FakeContext(settings=settings(NORTH), kept=results), until=ago(10))
    assert (found.window_end, found.vehicles) == (ago(10), 1)


# ---- trend ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "tendency", "change"),
    [
        (5, 30, FlowTendency.RISING, 5.0),
        (30, 5, FlowTendency.FALLING, -0.8333),
        (10, 12, FlowTendency.STEADY, 0.2),
        (0, 0, FlowTendency.STEADY, None),
    ],
)
def test_the_trend_is_against_the_window_before(
    before: int, now: int, tendency: FlowTendency, change: float | None
) -> None:
    results = samples(ago(12), NOON_MS)
    results += [crossed(ago(9.9) + n * 9_000) for n in range(before)]
    results += [crossed(ago(4.9) + n * 9_000) for n in range(now)]
    found = analysed(FakeContext(settings=settings(NORTH), kept=results))
    for trend in (found.trend, the_only(found).trend):
        assert trend is not None
        assert (trend.tendency, trend.change, trend.flow_before_vph) == (tendency, change, before * 12.0)


def test_there_is_no_trend_when_the_window_before_was_not_observed() -> None:
    results = [*samples(ago(6), NOON_MS), crossed(ago(2))]
    found = analysed(FakeContext(settings=settings(NORTH), kept=results))
    assert found.trend is None
    assert the_only(found).trend is None
    assert any("no trend" in note for note in found.quality.notes)


# ---- what is not known ---------------------------------------------------------------------------


def test_a_silent_camera_is_no_empty_road() -> None:
    found = analysed(FakeContext(settings=settings(NORTH), kept=[*samples(ago(30), ago(20)), crossed(ago(21))]))
    flow = the_only(found)
    assert (flow.flow_vph, flow.headway_mean_s, flow.peak, flow.trend, flow.coverage) == (None, None, None, None, 0.0)
    assert found.flow_vph is None
    assert found.quality.coverage == 0.0
    (camera,) = found.quality.cameras
    assert (camera.results, camera.gaps, camera.longest_gap_s, camera.newest_age_s) == (0, 1, 300.0, None)
    assert found.quality.notes == (
        "north: nothing was heard of camera cam1 of gw-1; its traffic is unknown, not nought",
    )


def test_an_empty_road_is_no_silent_camera() -> None:
    found = analysed(FakeContext(settings=settings(NORTH), kept=samples(ago(11), NOON_MS)))
    flow = the_only(found)
    assert (flow.vehicles, flow.flow_vph, flow.coverage) == (0, 0.0, 1.0)
    assert (flow.heavy_vehicle_share, flow.headway_mean_s, flow.peak) == (None, None, None)
    assert found.quality.notes == ()


def test_rates_are_over_the_time_that_was_observed() -> None:
    """The camera was away for the last 3 of 10 minutes: 7 vehicles in 7 minutes are 60 an hour."""
    results = samples(ago(21), ago(3) + 1)
    results += [crossed(ago(9.9) + n * MINUTE_MS) for n in range(7)]
    found = analysed(FakeContext(settings=settings(NORTH), kept=results), 10)
    flow = the_only(found)
    assert flow.coverage == pytest.approx(0.7)
    assert flow.flow_vph == pytest.approx(60.0)
    assert flow.peak is None
    (camera,) = found.quality.cameras
    assert (camera.gaps, camera.longest_gap_s, camera.newest_age_s) == (1, 180.0, 180.0)
    assert any("silent for 180 s" in note for note in found.quality.notes)
    assert any("no peak" in note for note in found.quality.notes)


def test_another_limit_of_silence_can_be_set_for_a_camera_that_tells_less_often() -> None:
    results = samples(ago(21), NOON_MS, every_ms=200_000)
    patient = {**NORTH, "gap_after_s": 240.0}
    assert the_only(analysed(FakeContext(settings=settings(patient), kept=results))).coverage == 1.0
    assert the_only(analysed(FakeContext(settings=settings(NORTH), kept=results))).coverage < 0.5


def test_a_headway_never_spans_a_silence() -> None:
    results = [*samples(ago(21), ago(8)), *samples(ago(4), NOON_MS)]
    results += [crossed(ago(9)), crossed(ago(9) + 4_000), crossed(ago(2)), crossed(ago(2) + 6_000)]
    flow = the_only(analysed(FakeContext(settings=settings(NORTH), kept=results), 10))
    assert flow.headway_mean_s == 5.0


# ---- zones and level of service ------------------------------------------------------------------


QUEUE = {**NORTH, "zone": "queue", "zone_length_m": 50.0, "lanes": 2}


def test_occupancy_and_density_come_from_the_zone_of_the_approach() -> None:
    """2 vehicles for one of five minutes, on 2 lanes of 50 m: on average 0.4 on 0.1 km of lane."""
    results = [*samples(ago(11), NOON_MS), zone_changed(ago(3), 0, 2), zone_changed(ago(2), 2, 0)]
    results.append(zone_changed(ago(4), 0, 5, zone="parking"))
    flow = the_only(analysed(FakeContext(settings=settings(QUEUE), kept=results)))
    assert (flow.occupancy, flow.vehicles_in_zone, flow.density_vpkm_lane) == (0.2, 0.4, 4.0)


def test_without_a_change_a_sample_says_what_is_in_the_zone() -> None:
    now = {"zones": {"queue": {"counts": {"car": 1, "person": 3}, "total": 4}}}
    results = [kept(time.time_utc_ms, "StreamSample", now=now) for time in samples(ago(11), NOON_MS)]
    flow = the_only(analysed(FakeContext(settings=settings(QUEUE), kept=results)))
    assert (flow.occupancy, flow.vehicles_in_zone) == (1.0, 1.0)


def test_a_zone_that_nobody_knows_is_unknown_and_said() -> None:
    found = analysed(FakeContext(settings=settings(QUEUE), kept=samples(ago(11), NOON_MS)))
    assert the_only(found).occupancy is None
    assert found.quality.notes == ("north: nothing is known of zone queue; is it a zone of this camera?",)


@pytest.mark.parametrize(
    ("approach", "minutes", "level", "basis"),
    [
        (QUEUE, 15, None, "control delay"),
        ({**NORTH, "uninterrupted": True}, 15, None, "no zone with a length"),
        ({**QUEUE, "uninterrupted": True}, 5, None, "300 s were observed"),
        # 1 vehicle all the time on 0.1 km of lane: 10 veh/km/ln, no heavy ones: 16.1 pc/mi/ln.
        ({**QUEUE, "uninterrupted": True}, 15, LevelOfService.B, "density 10.0 pc/km/ln"),
    ],
)
def test_a_level_of_service_is_given_only_where_density_is_what_grades(
    approach: dict[str, Any], minutes: float, level: LevelOfService | None, basis: str
) -> None:
    results = [*samples(ago(32), NOON_MS), zone_changed(ago(2 * minutes + 1), 0, 1)]
    flow = the_only(analysed(FakeContext(settings=settings(approach), kept=results), minutes))
    assert flow.level_of_service is level
    assert basis in flow.level_of_service_basis


def test_heavy_vehicles_make_density_count_for_more() -> None:
    """Half of them are trucks: 10 veh/km/ln are 15 pc/km/ln, that is 24.1 pc/mi/ln."""
    results = [*samples(ago(32), NOON_MS), zone_changed(ago(31), 0, 1), crossed(ago(9)), crossed(ago(8), "truck")]
    flow = the_only(analysed(FakeContext(settings=settings({**QUEUE, "uninterrupted": True}), kept=results), 15))
    assert flow.level_of_service is LevelOfService.C


# ---- nodes and the coordinator -------------------------------------------------------------------


def test_the_coordinator_puts_together_what_several_nodes_watch() -> None:
    """Both nodes have a camera of the same name; each has written its own approach."""
    state = FakeState()
    for host, approach in (("gw-1", NORTH), ("gw-2", {**SOUTH, "camera_id": "cam1"})):
        state.host = host
        asyncio.run(publish_intersections(FakeContext(host=host, state=state, settings=settings(approach))))
    results = [
        *samples(ago(11), NOON_MS),
        *samples(ago(11), NOON_MS, node="gw-2"),
        crossed(ago(2)),
        crossed(ago(2), node="gw-2", direction="out"),
        crossed(ago(1), node="gw-2", direction="out", class_="bus"),
        crossed(ago(1), node="gw-3"),
    ]
    state.host = "coordinator"
    context = FakeContext(host="coordinator", placement=Placement.CLOUD, state=state, kept=results)
    found = analysed(context)
    assert [(flow.approach, flow.node_id, flow.vehicles) for flow in found.approaches] == [
        ("north", "gw-1", 1),
        ("south", "gw-2", 2),
    ]
    assert [(camera.node_id, camera.coverage) for camera in found.quality.cameras] == [("gw-1", 1.0), ("gw-2", 1.0)]


def test_a_junction_that_is_not_known_here_is_refused_with_those_that_are() -> None:
    context: Context = FakeContext(settings=settings(NORTH))
    with pytest.raises(BadArgumentError, match=r"no approach of 'IS-009' here \(IS-001\)") as refused:
        asyncio.run(_unknown(context))
    assert refused.value.field == "intersection_id"


async def _unknown(context: Context) -> None:
    await publish_intersections(context)
    await analyze_traffic_flow(context, "IS-009", 60.0)


def test_a_window_that_has_not_come_to_its_end_is_refused() -> None:
    with pytest.raises(BadArgumentError, match="future") as refused:
        analysed(FakeContext(settings=settings(NORTH)), until=NOON_MS + 1)
    assert refused.value.field == "until"


def test_a_window_with_more_than_can_be_looked_at_is_refused_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "RESULTS_MAX", 30)
    with pytest.raises(FunctionError, match="shorter"):
        analysed(FakeContext(settings=settings(NORTH), kept=samples(ago(11), NOON_MS)))


# ---- the start of a node -------------------------------------------------------------------------


def test_a_node_writes_its_junctions_at_its_start_and_nothing_at_the_next() -> None:
    state = FakeState()
    context = FakeContext(state=state, settings=settings(NORTH, SOUTH))
    asyncio.run(publish_intersections(context))
    junction = state.held["traffic.intersections"]["IS-001"].value
    assert junction == {"name": "Main and 5th", "location": None}
    assert list(state.held["traffic.approaches"]) == ["IS-001/north", "IS-001/south"]
    north = state.held["traffic.approaches"]["IS-001/north"].value
    assert (north["node_id"], north["intersection_id"], north["inbound"]) == ("gw-1", "IS-001", "in")
    writes = state.writes
    asyncio.run(publish_intersections(context))
    assert state.writes == writes


def test_nodes_of_one_junction_say_the_same_of_it() -> None:
    said = []
    for host, approach in (("gw-1", NORTH), ("gw-2", SOUTH)):
        context = FakeContext(host=host, settings=settings(approach))
        asyncio.run(publish_intersections(context))
        said.append(context.state.held["traffic.intersections"]["IS-001"].value)
    assert said[0] == said[1]


def test_an_approach_that_is_gone_from_the_configuration_is_deleted_and_others_nodes_are_not() -> None:
    state = FakeState()
    for host, approaches in (("gw-1", (NORTH, SOUTH)), ("gw-2", ({**NORTH, "name": "east"},)), ("gw-1", (NORTH,))):
        state.host = host
        asyncio.run(publish_intersections(FakeContext(host=host, state=state, settings=settings(*approaches))))
    assert list(state.held["traffic.approaches"]) == ["IS-001/north", "IS-001/east"]


def test_wrong_settings_are_told_with_their_place() -> None:
    wrong = {**NORTH, "lanes": "two"}
    with pytest.raises(FunctionError, match=r"intersections.IS-001.approaches\[0\].lanes"):
        asyncio.run(publish_intersections(FakeContext(settings=settings(wrong))))


def test_an_approach_that_is_named_twice_is_told() -> None:
    with pytest.raises(FunctionError, match="the approach IS-001/north is there twice"):
        asyncio.run(publish_intersections(FakeContext(settings=settings(NORTH, {**SOUTH, "name": "north"}))))


def test_the_module_binds_what_it_says() -> None:
    assert [binding.name for binding in bindings_of(functions)] == ["analyzeTrafficFlow"]
    assert list(hooks_of(functions)) == [publish_intersections]
