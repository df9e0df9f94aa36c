"""What operators ask for, through ingest and a real store: granted in turn, durable before it is answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.fleet.functions import AddMaintenance, Admit, Deregister, EndMaintenance, FleetFunctions
from coordinator.fleet.maintenance import WINDOWS_MAX, Window
from coordinator.fleet.selector_text import parse
from coordinator.store.reader import Reader
from coordinator.store.sqlite import SqliteStore
from runtime.calls.errors import CallRejectedError
from runtime.errors import TemporaryError
from schemas.codec import encode_document, encode_packed
from schemas.messages import Birth, Heartbeat, Presence, Status
from tests.coordinator.sender import until
from tests.coordinator.test_ingest_driver import Bench, ListWire, running

Scene = Callable[[Bench, FleetFunctions], Awaitable[None]]


def play(folder: Path, scene: Scene) -> None:
    async def run() -> None:
        async with running(SqliteStore(folder)) as bench:
            await scene(bench, FleetFunctions(bench.ingest.ask))

    asyncio.run(run())


async def refusal(call: Awaitable[Any]) -> str:
    with pytest.raises(CallRejectedError) as refused:
        await call
    return refused.value.code


async def born(bench: Bench, wire: ListWire) -> None:
    bench.deliver(wire, "birth", encode_document(Birth(1, 1, site="a")))
    await until(lambda: bench.ingest._fleet.nodes)


def test_deregistration_is_on_the_disk_when_it_is_answered(tmp_path: Path) -> None:
    async def scene(bench: Bench, functions: FleetFunctions) -> None:
        wire, gone, stale = ListWire(), list[str](), list[Any]()
        bench.ingest.on_gone, bench.ingest.on_stale = gone.extend, stale.extend
        await born(bench, wire)
        assert await refusal(functions.deregister(Deregister("gw-1"))) == "online"
        done = await functions.deregister(Deregister("gw-1", force=True))
        assert done == {"node": "gw-1", "was": "online", "banned": False}
        assert Reader(tmp_path).nodes() == []
        assert gone == ["gw-1"]
        bench.deliver(wire, "status", encode_document(Status(Presence.OFFLINE, 1, 1, 0)))
        await until(lambda: stale)
        assert bench.counters.deregistered_heard == 1
        assert await refusal(functions.deregister(Deregister("gw-1"))) == "unknown_node"
        assert await refusal(functions.deregister(Deregister("GW 1"))) == "bad_arguments"

    play(tmp_path, scene)


def test_a_name_that_nobody_bears_can_be_banned_and_admitted(tmp_path: Path) -> None:
    async def scene(bench: Bench, functions: FleetFunctions) -> None:
        await functions.deregister(Deregister("gw-1", ban=True))
        assert Reader(tmp_path).is_banned("gw-1")
        bench.deliver(ListWire(), "birth", encode_document(Birth(9, 9, instance="new")))
        await until(lambda: bench.counters.deregistered_heard)
        assert Reader(tmp_path).nodes() == []
        await functions.admit(Admit("gw-1"))
        assert await refusal(functions.admit(Admit("gw-1"))) == "not_banned"
        await born(bench, ListWire())

    play(tmp_path, scene)


def test_windows_are_made_and_ended_and_not_without_limit(tmp_path: Path) -> None:
    async def scene(bench: Bench, functions: FleetFunctions) -> None:
        await born(bench, ListWire())
        made = await functions.add_maintenance(AddMaintenance("site = a", 60.0, reason="why", source="me"))
        assert made["nodes"] == 1 and made["until_utc_ms"] - made["from_utc_ms"] == 60_000
        assert [(one.id, one.nodes) for one in Reader(tmp_path).windows()] == [(made["id"], 1)]
        assert Reader(tmp_path).nodes()[0].state == "maintenance"
        await functions.end_maintenance(EndMaintenance(made["id"]))
        assert Reader(tmp_path).nodes()[0].state == "online"
        assert await refusal(functions.end_maintenance(EndMaintenance(made["id"]))) == "unknown_window"
        assert await refusal(functions.add_maintenance(AddMaintenance("site ~", 60.0))) == "bad_arguments"
        assert await refusal(functions.add_maintenance(AddMaintenance("all", 60.0, from_utc_ms=1))) == "bad_arguments"
        later = 2**50
        for n in range(WINDOWS_MAX):
            bench.ingest._fleet.windows[f"w{n}"] = Window(f"w{n}", parse("all"), later, later + 1)
        assert await refusal(functions.add_maintenance(AddMaintenance("all", 60.0))) == "too_many"

    play(tmp_path, scene)


def test_a_wish_that_comes_too_late_is_told_so(tmp_path: Path) -> None:
    async def scene(bench: Bench, functions: FleetFunctions) -> None:
        bench.inbox.close()
        with pytest.raises(TemporaryError, match="stopping"):
            await functions.admit(Admit("gw-1"))

    play(tmp_path, scene)


def test_heartbeats_are_written_every_other_second_at_most_and_the_last_at_the_end(tmp_path: Path) -> None:
    async def scene(bench: Bench, functions: FleetFunctions) -> None:
        wire = ListWire()
        await born(bench, wire)
        began_s, before = time.monotonic(), bench.counters.batches
        for seq in range(1, 101):
            bench.deliver(wire, "heartbeat", encode_packed(Heartbeat(1, 1, seq, cpu_percent=1.0)))
            await until(lambda seq=seq: bench.ingest._fleet.nodes["gw-1"].heartbeat_seq == seq)  # type: ignore[misc]
        assert bench.counters.batches - before <= 2 + (time.monotonic() - began_s) / 2

    play(tmp_path, scene)
    (node,) = Reader(tmp_path).nodes()
    assert node.heartbeat["seq"] == 100
