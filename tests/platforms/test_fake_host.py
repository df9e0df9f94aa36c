"""The host in memory is as strict as a real one: it refuses what a real one would."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from platforms.context import BadEventError, Context, FunctionError, ResultQuery
from platforms.errors import BrokenPlatformError
from platforms.finding import Kind, Origin
from platforms.functions import Binding
from platforms.platform import Platform
from platforms.testing import FailedError, FakeHost, RejectedError, load_folder
from schemas.language.load import load_text
from schemas.language.schema import Placement

SCHEMA = load_text(
    """
enum Level { low, high }
record Loaf { weight_g: Float @range(0..) @unit("g") }
edge_computing Test_Edge {
  platform_name: "test"
  functions: [ act(much: Integer = 1 @range(0..9)): Json @any, slow(): Json @cloud ]
  state: {
    loaves: Map[String, Loaf] @owner(node)
    plans: Map[String, Loaf] @owner(coordinator)
    both: Map[String, Loaf] @owner(shared)
  }
  events: [
    Baked(loaf: Loaf, level: Level = low) @source(act),
    Planned(loaf: Loaf) @source(coordinator)
  ]
}
""",
    "test",
).schema


class Oven:
    def heat(self) -> int:
        return 200


def host(act: Callable[..., Any], **given: Any) -> FakeHost:
    origin = Origin("test", Kind.FOLDER, Path(), "test")
    return FakeHost(Platform("test", SCHEMA, {"act": Binding("act", act)}, [], origin), **given)


def failure(act: Callable[..., Any], **given: Any) -> FailedError:
    with pytest.raises(FailedError) as raised:
        host(act, **given).call("act")
    return raised.value


def test_arguments_are_checked_and_defaults_filled_in() -> None:
    async def act(context: Context, much: int = 1) -> Any:
        context.progress(0.5, "half")
        return {"much": much, "host": context.host, "settings": dict(context.settings)}

    one = host(act, settings={"a": 1})
    assert one.call("act") == {"much": 1, "host": "gw-test", "settings": {"a": 1}}
    assert one.progressed == [(0.5, "half")]
    with pytest.raises(RejectedError) as raised:
        one.call("act", much=10)
    assert raised.value.field == "much"
    with pytest.raises(RejectedError, match="the coordinator serves it"):
        one.call("slow")
    with pytest.raises(RejectedError, match="declares no such function"):
        one.call("nothing")


@pytest.mark.parametrize(
    ("event", "data", "said"),
    [
        ("Burnt", {}, "test declares no event 'Burnt' (Baked, Planned)"),
        ("Planned", {"loaf": {"weight_g": 1.0}}, "Planned is told by cloud, not by gw-test"),
        ("Baked", {}, "loaf"),
        ("Baked", {"loaf": {"weight_g": -1.0}}, "loaf.weight_g"),
        ("Baked", {"loaf": {"weight_g": 1.0}, "level": "middle"}, "level"),
        ("Baked", {"loaf": {"weight_g": 1.0}, "colour": "brown"}, "Baked has no field 'colour'"),
    ],
)
def test_an_event_that_is_not_as_declared_is_refused(event: str, data: Any, said: str) -> None:
    async def act(context: Context, much: int = 1) -> None:
        await context.emit(event, data)

    error = failure(act)
    assert error.code == "bad_event"
    assert said in str(error)


def test_what_is_told_is_kept_with_its_defaults() -> None:
    async def act(context: Context, much: int = 1) -> None:
        await context.emit("Baked", {"loaf": {"weight_g": 2}}, subject="oven1")

    one = host(act)
    one.call("act")
    (told,) = one.emitted
    assert (told.event, told.subject, told.data) == ("Baked", "oven1", {"loaf": {"weight_g": 2.0}, "level": "low"})
    assert issubclass(BadEventError, FunctionError)


@pytest.mark.parametrize(
    ("collection", "value", "placement", "code"),
    [
        ("test.nothing", {"weight_g": 1.0}, Placement.EDGE, "unknown_collection"),
        ("loaves", {"weight_g": 1.0}, Placement.EDGE, "unknown_collection"),
        ("other.loaves", {"weight_g": 1.0}, Placement.EDGE, "unknown_collection"),
        ("test.loaves", {"weight_g": "heavy"}, Placement.EDGE, "bad_value"),
        ("test.loaves", {}, Placement.EDGE, "bad_value"),
        ("test.plans", {"weight_g": 1.0}, Placement.EDGE, "wrong_owner"),
        ("test.loaves", {"weight_g": 1.0}, Placement.CLOUD, "wrong_owner"),
    ],
)
def test_state_that_is_not_as_declared_is_refused(
    collection: str, value: Any, placement: Placement, code: str
) -> None:
    async def act(context: Context, much: int = 1) -> None:
        await context.state.put(collection, "a", value)

    assert failure(act, placement=placement).code == code


def test_state_is_kept_from_call_to_call() -> None:
    async def act(context: Context, much: int = 1) -> Any:
        before = await context.state.get("test.both", "a")
        await context.state.put("test.both", "a", {"weight_g": much})
        entries = await context.state.entries("test.both")
        return [None if before is None else before.value, {one.key: one.value for one in entries}]

    one = host(act, now_utc_ms=5000)
    assert one.call("act", much=3) == [None, {"a": {"weight_g": 3.0}}]
    assert one.call("act", much=4) == [{"weight_g": 3.0}, {"a": {"weight_g": 4.0}}]
    entry = one.state.values["test.both", "a"]
    assert (entry.time_utc_ms, entry.written_by) == (5000, "gw-test")


def test_results_are_those_that_are_meant_in_the_order_of_their_times() -> None:
    async def act(context: Context, much: int = 1) -> Any:
        now_ms = context.now_utc_ms()
        query = ResultQuery(
            types=("Seen",), cameras=("cam1",), since_utc_ms=now_ms - 10_000, until_utc_ms=now_ms, limit=2
        )
        return [dict(one.data) for one in await context.results(query)]

    one = host(act)
    for number, at_s in enumerate((-1.0, -3.0, -2.0, 0.0, -10.5)):
        one.seen("Seen", {"number": number}, at_s=at_s)
    one.seen("Other", {"number": 10}, at_s=-1.0)
    one.seen("Seen", {"number": 11}, at_s=-1.0, camera="cam2")
    assert one.call("act") == [{"number": 2}, {"number": 0}]


def test_services_are_there_or_not() -> None:
    async def act(context: Context, much: int = 1) -> int:
        return context.service(Oven).heat()

    assert host(act, services={Oven: Oven()}).call("act") == 200
    assert failure(act).code == "not_here"


def test_a_running_loop_may_call_too() -> None:
    def act(much: int = 1) -> int:
        return much

    assert asyncio.run(host(act).acall("act", much=2)) == 2


def test_a_folder_is_loaded_with_its_mistakes(tmp_path: Path) -> None:
    (tmp_path / "plat_small").mkdir()
    schema = tmp_path / "plat_small" / "plat_small.edge"
    schema.write_text('edge_computing Small { platform_name: "small" functions: [ f(): Integer ] }\n')
    assert load_folder(tmp_path / "plat_small").unbound == ["f"]
    schema.write_text("edge_computing Small {")
    with pytest.raises(BrokenPlatformError, match=r"plat_small\.edge:1:"):
        load_folder(tmp_path / "plat_small")
