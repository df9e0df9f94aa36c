"""What is wrong with the settings of platforms is told by the platforms, all of it, before anything of them runs."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from platforms.assembly import assemble
from platforms.binding import check_checks
from platforms.checking import MISTAKES_MAX, Here, not_here, settings_mistakes, unknown_keys
from platforms.finding import Finder
from platforms.functions import check_settings
from platforms.host_context import Host
from platforms.loading import load_platform
from platforms.settings import PlatformsTable
from platforms.testing import FakeHost
from schemas.language.schema import Placement
from schemas.shape import ShapeError

HERE = Here(cameras=["north", "south"], sensors=["vib1", "rpm1"])
MACHINE = {"points": [{"sensor": "vib1"}], "speed": "rpm1"}
APPROACH = {"name": "N", "camera_id": "north", "line": "stop"}
ENTRANCE = {"camera_id": "north", "line": "door"}


def crossing(**more: Any) -> dict[str, Any]:
    return {"lines": {"L1": {"ideal_cycle_s": 4.0, "source": "crossings", "crossing": "end", **more}}}


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("manufacturing", {}, []),
        ("manufacturing", {"machines": {"press1": MACHINE}, **crossing(camera_id="north")}, []),
        ("manufacturing", {"machnes": {}}, ["machnes: unknown key; did you mean machines?"]),
        ("manufacturing", {"machines": 7}, ["machines: 7 must be a table"]),
        (
            "manufacturing",
            {"machines": {"press1": {**MACHINE, "shaft_rpm": -1, "points": [{"sensor": "vib2"}, {"channel": 3}]}}},
            [
                "machines.press1.points[1].channel: 3 must be a text",
                "machines.press1.points[1].sensor: is missing",
                "machines.press1.shaft_rpm: -1.0 must be at least 0",
                "machines.press1.points[0].sensor: no sensor has the id 'vib2'; did you mean vib1? (vib1, rpm1)",
            ],
        ),
        (
            "manufacturing",
            {"machines": {"a": {"points": 1}, "b": {**MACHINE, "vibration_class": "huge", "speed": "x"}}},
            [
                "machines.a.points: 1 must be a list",
                "machines.b.vibration_class: there is no 'huge' (large_rigid, large_flexible, medium_rigid, "
                "medium_flexible)",
                "machines.b.speed: no sensor has the id 'x' (vib1, rpm1)",
            ],
        ),
        (
            "manufacturing",
            crossing(camera_id="nort", stop_after=0.5),
            [
                "lines.L1.stop_after: cycles, above 1; minor_s, sample_s, gap_after_s: seconds, above 0",
                "lines.L1.camera_id: no camera has the id 'nort'; did you mean north? (north, south)",
            ],
        ),
        ("traffic", {"intersections": {"IS-1": {"approaches": [APPROACH]}}}, []),
        (
            "traffic",
            {"intersections": {"IS-1": {"approaches": [APPROACH, {**APPROACH, "camera_id": "west", "lane": 2}]}}},
            [
                "intersections.IS-1.approaches[1].lane: unknown key; did you mean lanes?",
                "intersections.IS-1.approaches[1].camera_id: no camera has the id 'west' (north, south)",
                "intersections.IS-1.approaches[1].name: the approach 'N' is there twice",
            ],
        ),
        ("retail", {"stores": {"S-1": {"entrances": [ENTRANCE]}}}, []),
        (
            "retail",
            {"stores": {"S-1": {"entrances": [ENTRANCE, ENTRANCE, {"camera_id": "south"}]}}},
            [
                "stores.S-1.entrances[2].line: is missing",
                "stores.S-1.entrances[1].line: 'door' of north is there twice",
            ],
        ),
    ],
)
def test_each_mistake_has_its_key_and_what_would_be_right(
    name: str, settings: Mapping[str, Any], told: list[str]
) -> None:
    assert settings_mistakes(load_platform(name, Finder()), settings, HERE) == told


def test_names_are_not_judged_where_it_is_not_known_what_is_there() -> None:
    settings = {"machines": {"press1": {"points": [{"sensor": "elsewhere"}]}}, **crossing(camera_id="elsewhere")}
    host = FakeHost(load_platform("manufacturing", Finder()), settings=settings, placement=Placement.CLOUD)
    assert host.mistakes() == []


def test_a_check_that_fails_is_told_with_its_place_and_the_others_go_on() -> None:
    @check_settings
    def divides(settings: Mapping[str, Any], here: Here) -> Iterable[str]:
        yield f"share: {1 / settings['parts']}"

    @check_settings
    def refuses(settings: Mapping[str, Any], here: Here) -> Iterable[str]:
        raise ShapeError(["a: wrong", "b: wrong"])

    @check_settings
    def floods(settings: Mapping[str, Any], here: Here) -> Iterable[str]:
        return (f"key{n}: wrong" for n in range(MISTAKES_MAX))

    platform = FakeHost(load_platform("retail", Finder())).platform
    marked = type(platform)(
        platform.name, platform.schema, {}, [], platform.origin, checks=[divides, refuses, floods]
    )
    first, *others = settings_mistakes(marked, {"parts": 0}, HERE)
    assert first.startswith("divides fails on these settings: ZeroDivisionError: division by zero (")
    assert __file__ in first
    assert others[:3] == ["a: wrong", "b: wrong", "key0: wrong"]
    assert others[-1] == "and 3 more" and len(others) == MISTAKES_MAX


def test_a_check_is_a_plain_function_of_two_parameters() -> None:
    def good(settings: Mapping[str, Any], here: Here) -> list[str]:
        return []

    async def waits(settings: Mapping[str, Any], here: Here) -> list[str]:
        return []

    def alone(settings: Mapping[str, Any]) -> list[str]:
        return []

    assert check_checks([good]) == []
    assert [one.split(": ")[1] for one in check_checks([waits, alone])] == ["waits", "alone"]


def test_the_usual_texts() -> None:
    assert not_here("a.camera_id", "camera", "c", []) == ["a.camera_id: no camera has the id 'c' (there is none)"]
    assert not_here("a.camera_id", "camera", "c", None) == not_here("a", "camera", "c", ["c"]) == []
    assert unknown_keys({"a": 1, "zones": 2}, ["a", "zone"]) == ["zones: unknown key; did you mean zone?"]


def host_of(settings: Mapping[str, Mapping[str, Any]], **more: Any) -> Host:
    """The in-memory host's parts with these settings."""
    fake = FakeHost(load_platform("retail", Finder()))
    return Host("gw-1", Placement.EDGE, fake.state, lambda: 0, fake._results, fake._tell, settings, **more)


def test_a_host_says_all_mistakes_at_its_start_and_runs_nothing_of_that_platform() -> None:
    assembly = assemble(PlatformsTable(("traffic", "retail")))
    settings: dict[str, dict[str, Any]] = {
        "traffic": {"intersections": {"IS-1": {"approaches": [{"name": "N"}]}}, "x": 1},
        "retail": {"stores": {"S-1": {"name": "Corner", "entrances": [ENTRANCE]}}},
    }
    host = host_of(settings, here=HERE)
    (problem,) = asyncio.run(assembly.start(host))
    assert str(problem).splitlines() == [
        "traffic: did not get through at start, its settings are wrong:",
        "  platforms.traffic.intersections.IS-1.approaches[0].camera_id: is missing",
        "  platforms.traffic.intersections.IS-1.approaches[0].line: is missing",
        "  platforms.traffic.x: unknown key",
    ]
    assert asyncio.run(host.state.keys("retail.stores")) == ["S-1"]
