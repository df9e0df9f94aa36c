"""What a function may do with its host: events checked and placed, state, services; and what is personal stays."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from platforms.assembly import Assembly
from platforms.context import BadEventError, Context, KeptResult, NotHereError, ResultQuery
from platforms.finding import Kind, Origin
from platforms.functions import Binding
from platforms.host_context import Host
from platforms.hosting import FailedError, Hosted, RejectedError
from platforms.platform import Platform, Platforms
from platforms.services import Cameras
from schemas.language.load import load_text
from schemas.language.schema import EventType, Placement, Schema
from tests.platforms.fake_context import FakeState

SCHEMA = load_text(
    """
record Guest { name: String @personal  table: Integer @range(1..50) }
edge_computing Inn_Edge {
  platform_name: "Inn"
  functions: [
    seat(table: Integer @range(1..50)): Guest @any,
    whisper(): String @edge @personal,
    tell(kind: String, data: Json) @any
  ]
  state: { tables: Map[String, Guest] @owner(node) }
  events: [
    Seated(guest: Guest, covers: Integer = 1) @source(seat),
    Closed(reason: String) @source(coordinator)
  ]
}
""",
    "inn",
).schema


class Told:
    """A host that writes down what it is told."""

    def __init__(self, here: Placement) -> None:
        self.events: list[tuple[str, Mapping[str, Any], str]] = []

        async def results(query: ResultQuery) -> list[KeptResult]:
            return [KeptResult("gw-1", "cam1", one, "s", 7, {}) for one in query.types]

        async def tell(schema: Schema, event: EventType, data: Mapping[str, Any], subject: str) -> None:
            assert schema is SCHEMA
            self.events.append((event.name, data, subject))

        self.host = Host(
            "gw-1" if here is Placement.EDGE else "coordinator", here, FakeState(), lambda: 1000, results, tell,
            settings={"inn": {"stars": 4}},
        )  # fmt: skip


def hosted(told: Told, name: str, run: Callable[..., Any]) -> Hosted:
    origin = Origin("inn", Kind.FOLDER, Path(), "inn")
    platform = Platform("inn", SCHEMA, {name: Binding(name, run)}, [], origin)
    (only,) = Assembly(Platforms({"inn": platform})).hosting(told.host).functions
    return only


def called(told: Told, name: str, run: Callable[..., Any], **raw: Any) -> Any:
    one = hosted(told, name, run)
    return one.encode(asyncio.run(_run(one, raw)))


async def _run(one: Hosted, raw: Mapping[str, Any]) -> Any:
    return await one.run(None, one.parse(raw))


@pytest.mark.parametrize(
    ("here", "left"),
    [(Placement.EDGE, {"table": 3}), (Placement.CLOUD, {"name": "Ann", "table": 3})],
)
def test_an_answer_of_a_node_is_without_what_is_personal(here: Placement, left: dict[str, Any]) -> None:
    async def seat(context: Context, table: int) -> dict[str, Any]:
        assert (context.settings, context.now_utc_ms(), context.placement) == ({"stars": 4}, 1000, here)
        return {"name": "Ann", "table": table}

    assert called(Told(here), "seat", seat, table=3) == left


def test_a_function_whose_result_is_personal_answers_nobody() -> None:
    platform = Platform(
        "inn", SCHEMA, {"whisper": Binding("whisper", lambda: "Ann")}, [], Origin("inn", Kind.FOLDER, Path(), "inn")
    )
    hosting = Assembly(Platforms({"inn": platform})).hosting(Told(Placement.EDGE).host)
    assert hosting.functions == []
    assert "@personal" in hosting.unbound["whisper"]


@pytest.mark.parametrize(
    ("here", "kind", "data", "said"),
    [
        (Placement.EDGE, "Seated", {"guest": {"name": "Ann", "table": 51}}, "guest.table"),
        (
            Placement.EDGE,
            "Seated",
            {"guest": {"name": "Ann", "table": 5}, "cover": 2},
            "Seated has no field 'cover'; did you mean covers?",
        ),
        (Placement.EDGE, "Sated", {}, "inn declares no event 'Sated' (Seated, Closed)"),
        (Placement.EDGE, "Closed", {"reason": "late"}, "Closed is told by cloud, not by gw-1"),
    ],
)
def test_an_event_that_is_not_declared_so_is_refused_and_nothing_is_stored(
    here: Placement, kind: str, data: Any, said: str
) -> None:
    told = Told(here)

    async def tell(context: Context, kind: str, data: Any) -> None:
        await context.emit(kind, data)

    with pytest.raises(FailedError) as failed:
        called(told, "tell", tell, kind=kind, data=data)
    assert failed.value.code == "bad_event"
    assert said in str(failed.value)
    assert told.events == []


def test_an_event_is_told_with_its_defaults_and_a_subject() -> None:
    told = Told(Placement.CLOUD)

    async def tell(context: Context, kind: str, data: Any) -> None:
        await context.emit(kind, data, subject="door")
        await context.emit("Closed", {"reason": "late"})
        assert [one.type for one in await context.results(ResultQuery(types=("Seated",)))] == ["Seated"]
        with pytest.raises(NotHereError):
            context.service(Cameras)  # type: ignore[type-abstract]
        context.progress(0.5, "nobody asked")
        with pytest.raises(BadEventError):
            await context.emit("Closed", {"reason": 5})

    called(told, "tell", tell, kind="Seated", data={"guest": {"name": "Ann", "table": 1}})
    assert told.events == [
        ("Seated", {"guest": {"name": "Ann", "table": 1}, "covers": 1}, "door"),
        ("Closed", {"reason": "late"}, "coordinator"),
    ]


def test_what_the_schema_refuses_names_the_field() -> None:
    async def seat(table: int) -> dict[str, Any]:
        return {"name": "Ann", "table": 99}

    with pytest.raises(RejectedError) as rejected:
        called(Told(Placement.EDGE), "seat", seat, table=51)
    assert (rejected.value.code, rejected.value.field) == ("bad_arguments", "table")
    with pytest.raises(FailedError, match="table") as failed:
        called(Told(Placement.EDGE), "seat", seat, table=1)
    assert failed.value.code == "bad_result"
