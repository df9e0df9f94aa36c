"""`countCustomers` over what is kept: at a node and in the coordinator the same function, the same counts."""

import asyncio
from typing import Any

import pytest

from platforms.context import BadArgumentError, FunctionError, KeptResult
from platforms.functions import bindings_of, hooks_of
from platforms.retail import functions
from platforms.retail.functions import count_customers, publish_entrances
from platforms.retail.types import Camera, CustomerCount, Direction, TimeRange
from schemas.language.schema import Placement
from tests.platforms.fake_context import NOON_MS, FakeContext, FakeState, kept, samples

MINUTE_MS = 60_000
DOOR: dict[str, Any] = {"camera_id": "door", "line": "sill"}
YARD: dict[str, Any] = {"camera_id": "yard", "line": "gate", "inward": "out", "staff_classes": ["staff"]}


def settings(*entrances: dict[str, Any]) -> dict[str, Any]:
    """`[platforms.retail]` as a configuration file has it."""
    return {"stores": {"S-017": {"name": "High Street", "entrances": list(entrances)}}}


def ago(minutes: float) -> int:
    return NOON_MS - round(minutes * MINUTE_MS)


def crossed(
    minutes: float, direction: str = "in", *, who: str = "", class_: str = "person", camera: str = "door", **more: Any
) -> KeptResult:
    """Somebody on the line, so many minutes ago; each is another one where no id is given."""
    data = {
        "line": "sill",
        "direction": direction,
        "class_": class_,
        "object_id": who or f"{camera}-{minutes}",
        **more,
    }
    return kept(ago(minutes), "LineCrossed", camera=camera, **data)


def watched(minutes: float = 90, camera: str = "door", node: str = "gw-1") -> list[KeptResult]:
    return samples(ago(minutes), NOON_MS, camera=camera, node=node)


def counted(context: FakeContext, *cameras: Camera, **arguments: Any) -> list[CustomerCount]:
    """After the start of the host, as it happens there; the last 15 minutes where nothing is said."""
    return asyncio.run(_counted(context, cameras or (Camera("door"),), arguments or {"last": 900.0}))


async def _counted(
    context: FakeContext, cameras: tuple[Camera, ...], arguments: dict[str, Any]
) -> list[CustomerCount]:
    await publish_entrances(context)
    return await count_customers(context, cameras, **arguments)


def test_who_came_and_went_by_the_door() -> None:
    results = [
        *watched(),
        crossed(20),
        crossed(14),
        crossed(12),
        crossed(11, "out"),
        crossed(10, class_="dog"),
        crossed(9, line="window"),
        crossed(8, who="7"),
        crossed(7.9, "out", who="7"),
        crossed(1),
    ]
    door, together = counted(FakeContext(settings=settings(DOOR), kept=results))
    assert (door.interval_start, door.interval_end) == (ago(15), NOON_MS)
    assert (door.camera_id, door.node_id, door.entered, door.left, door.turned_back) == ("door", "gw-1", 3, 1, 1)
    assert (door.occupancy, door.coverage) == (None, 1.0)
    assert (together.camera_id, together.entered, together.left, together.turned_back) == ("", 3, 1, 1)
    assert (together.occupancy, together.occupancy_peak, together.unexplained_exits) == (2, 2, 0)


def test_all_entrances_together_say_who_is_inside() -> None:
    """By the yard, `out` leads in; the one of the staff who comes that way is no customer."""
    results = [*watched(), *watched(camera="yard")]
    yard = {"camera": "yard", "line": "gate"}
    results += [crossed(14), crossed(13, "out", **yard), crossed(12, "out", class_="staff", **yard)]
    results += [crossed(10, "in", **yard), crossed(5, "out"), crossed(4, "out")]
    context = FakeContext(settings=settings(DOOR, YARD), kept=results)
    rows = counted(context, Camera("door"), Camera("yard"), last=900.0, inside_before=1)
    assert [(row.camera_id, row.entered, row.left, row.staff_entered) for row in rows] == [
        ("door", 1, 2, 0),
        ("yard", 1, 1, 1),
        ("", 2, 3, 1),
    ]
    assert (rows[2].occupancy, rows[2].occupancy_peak, rows[2].unexplained_exits) == (0, 3, 0)


def test_intervals_follow_each_other_and_carry_on_who_is_inside() -> None:
    results = [*watched(), crossed(55), crossed(40), crossed(20, "out"), crossed(5)]
    context = FakeContext(settings=settings(DOOR), kept=results)
    whole = {"time_range": TimeRange(ago(60), NOON_MS), "interval": 1200.0}
    rows = counted(context, **whole)
    assert [row.camera_id for row in rows] == ["door", ""] * 3
    together = rows[1::2]
    assert [(row.interval_start, row.interval_end) for row in together] == [
        (ago(60), ago(40)),
        (ago(40), ago(20)),
        (ago(20), NOON_MS),
    ]
    assert [(row.entered, row.left, row.occupancy, row.occupancy_peak) for row in together] == [
        (1, 0, 1, 1),
        (1, 0, 2, 2),
        (1, 1, 2, 2),
    ]


def test_coverage_says_in_which_intervals_the_camera_was_watching() -> None:
    results = samples(ago(62), ago(30) + 1, camera="door")
    rows = counted(FakeContext(settings=settings(DOOR), kept=results), last=3600.0, interval=1200.0)
    assert [row.coverage for row in rows] == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]


def test_a_range_that_reaches_into_the_future_ends_now() -> None:
    context = FakeContext(settings=settings(DOOR), kept=watched())
    rows = counted(context, time_range=TimeRange(ago(30), ago(-30)))
    assert {row.interval_end for row in rows} == {NOON_MS}


@pytest.mark.parametrize(
    ("arguments", "field", "said"),
    [
        ({"time_range": None}, "time_range", "one of the two"),
        ({"time_range": TimeRange(ago(5), NOON_MS), "last": 60.0}, "time_range", "one of the two"),
        ({"time_range": TimeRange(ago(5), ago(6))}, "time_range", "before it starts"),
        ({"time_range": TimeRange(ago(-5), ago(-6))}, "time_range", "future"),
        ({"last": 86_400.0, "interval": 10.0}, "interval", "8640 intervals"),
    ],
)
def test_a_time_that_cannot_be_is_refused(arguments: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(BadArgumentError, match=said) as refused:
        counted(FakeContext(settings=settings(DOOR)), **arguments)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("cameras", "field", "said"),
    [
        ((Camera("attic"),), "entrance_cameras[0]", r"no entrance known here \(gw-1/door, gw-1/yard\)"),
        ((Camera("door"), Camera("attic")), "entrance_cameras[1]", "name its line"),
        ((Camera("door"), Camera("door")), "entrance_cameras[1]", "twice"),
        ((Camera("door", node_id="gw-2"),), "entrance_cameras[0]", "no entrance known here"),
    ],
)
def test_a_camera_that_is_no_entrance_is_refused(cameras: tuple[Camera, ...], field: str, said: str) -> None:
    with pytest.raises(BadArgumentError, match=said) as refused:
        counted(FakeContext(settings=settings(DOOR, YARD)), *cameras)
    assert refused.value.field == field


def test_a_call_may_name_the_line_itself() -> None:
    results = [*watched(camera="attic"), crossed(3, "out", camera="attic", line="hatch")]
    camera = Camera("attic", line="hatch", inward=Direction.OUT)
    row, _ = counted(FakeContext(kept=results), camera)
    assert (row.camera_id, row.node_id, row.entered) == ("attic", None, 1)


def test_one_camera_may_see_two_doors() -> None:
    results = [*watched(), crossed(4), crossed(3, line="mat"), crossed(2, line="mat")]
    context = FakeContext(settings=settings(DOOR, {**DOOR, "line": "mat"}), kept=results)
    rows = counted(context, Camera("door", line="sill"), Camera("door", line="mat"))
    assert [(row.line, row.entered) for row in rows] == [("sill", 1), ("mat", 2), (None, 3)]
    with pytest.raises(
        BadArgumentError, match=r"may be any of gw-1/door, line (sill|mat), gw-1/door, line (mat|sill)"
    ):
        counted(context, Camera("door"))


def test_a_call_may_take_another_line_of_a_configured_entrance() -> None:
    results = [*watched(), crossed(3), crossed(2, line="mat")]
    row, _ = counted(FakeContext(settings=settings(DOOR), kept=results), Camera("door", line="mat"))
    assert row.entered == 1


# ---- nodes and the coordinator -------------------------------------------------------------------


def two_nodes() -> FakeState:
    """Both have a camera `door`."""
    state = FakeState()
    for host in ("gw-1", "gw-2"):
        state.host = host
        store = {"stores": {f"S-{host}": {"entrances": [DOOR]}}}
        asyncio.run(publish_entrances(FakeContext(host=host, state=state, settings=store)))
    state.host = "coordinator"
    return state


def test_the_coordinator_counts_the_door_of_the_node_that_is_named() -> None:
    results = [*watched(), *watched(node="gw-2"), crossed(3, who="7"), crossed(3, who="7", node="gw-2")]
    results.append(crossed(2, node="gw-2"))
    context = FakeContext(host="coordinator", placement=Placement.CLOUD, state=two_nodes(), kept=results)
    rows = counted(context, Camera("door", node_id="gw-1"), Camera("door", node_id="gw-2"))
    assert [(row.node_id, row.entered) for row in rows] == [("gw-1", 1), ("gw-2", 2), (None, 3)]


def test_a_door_that_may_be_one_of_several_is_refused() -> None:
    context = FakeContext(host="coordinator", state=two_nodes())
    with pytest.raises(BadArgumentError, match=r"gw-1/door, line sill, gw-2/door, line sill; add node_id"):
        counted(context, Camera("door"))


def test_a_range_with_more_than_can_be_looked_at_is_refused_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "RESULTS_MAX", 30)
    with pytest.raises(FunctionError, match="shorter"):
        counted(FakeContext(settings=settings(DOOR), kept=watched()))


# ---- the start of a node -------------------------------------------------------------------------


def test_a_node_writes_its_entrances_at_its_start_and_nothing_at_the_next() -> None:
    state = FakeState()
    context = FakeContext(state=state, settings=settings(DOOR, YARD))
    asyncio.run(publish_entrances(context))
    assert list(state.held["retail.entrances"]) == ["S-017/door/sill", "S-017/yard/gate"]
    yard = state.held["retail.entrances"]["S-017/yard/gate"].value
    assert (yard["node_id"], yard["store_id"], yard["inward"]) == ("gw-1", "S-017", "out")
    assert state.held["retail.stores"]["S-017"].value == {"name": "High Street"}
    writes = state.writes
    asyncio.run(publish_entrances(context))
    assert state.writes == writes


def test_a_shop_keeps_what_is_known_of_it_when_its_name_changes() -> None:
    state = FakeState()
    asyncio.run(state.put("retail.stores", "S-017", {"name": "Low Street", "customer_count": 9}))
    asyncio.run(publish_entrances(FakeContext(state=state, settings=settings(DOOR))))
    assert state.held["retail.stores"]["S-017"].value == {"name": "High Street", "customer_count": 9}


def test_an_entrance_that_is_gone_from_the_configuration_is_deleted_and_others_nodes_are_not() -> None:
    state = two_nodes()
    state.host = "gw-1"
    asyncio.run(publish_entrances(FakeContext(state=state, settings=settings(YARD))))
    assert sorted(state.held["retail.entrances"]) == ["S-017/yard/gate", "S-gw-2/door/sill"]


def test_wrong_settings_are_told_with_their_place() -> None:
    wrong = {**DOOR, "inwards": "in"}
    with pytest.raises(FunctionError, match=r"entrances\[0\].inwards: unknown key; did you mean inward\?"):
        asyncio.run(publish_entrances(FakeContext(settings=settings(wrong))))


def test_the_module_binds_what_it_says() -> None:
    assert [binding.name for binding in bindings_of(functions)] == ["countCustomers"]
    assert list(hooks_of(functions)) == [publish_entrances]
