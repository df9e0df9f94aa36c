"""Two real coordinators on one PostgreSQL and one mosquitto: each is killed, stopped and frozen in turn."""

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coordinator.store.place import PostgresPlace
from runtime.postgres import connect
from schemas.codec import decode_document
from schemas.messages import Presence, Status
from schemas.topics import FLEET, Kind
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process, edgectl
from tests.coordinator.sender import TestNode, alert_payload, until
from tests.coordinator.test_gaps import sync, told
from tests.postgres import Cluster

LEASE_S = 1.5


class Replicas:
    """Coordinators `a` and `b`."""

    def __init__(self, folder: Path, port: int, dsn: str) -> None:
        self.each: dict[str, Process] = {}
        for name in ("a", "b"):
            place = folder / name
            place.mkdir()
            extra = f'instance = "{name}"\nreplicas = true\nlease_s = {LEASE_S}\nfiles_dir = "{folder / "files"}"\n'
            self.each[name] = Process(place, port, extra, dsn)

    def __getitem__(self, name: str) -> Process:
        return self.each[name]

    def query(self, sql: str, *values: object) -> list[Any]:
        return self.each["a"].query(sql, *values)

    async def start_both(self) -> None:
        """`a` leads, and `b` takes rows beside it."""
        self["a"].start()
        await self.lead("a")
        self["b"].start()
        await until(lambda: self.said("b", ": connected as coordinator-b.rows"))

    @property
    def leader(self) -> str:
        """Who leads, by the table; empty for nobody."""
        found = self.query("SELECT name FROM replicas WHERE leads = 1 AND stopped = 0 ORDER BY seen_utc_ms DESC")
        return str(found[0][0]) if found else ""

    def said(self, name: str, text: str) -> int:
        """How often, in its log."""
        log = self.each[name].log
        return log.read_text().count(text) if log.exists() else 0

    async def lead(self, name: str, terms: int = 1) -> None:
        await until(lambda: self.said(name, "leading: boot") >= terms)

    def stored(self) -> dict[str, float]:
        rows = self.query("SELECT name, figures FROM replicas")
        return {name: json.loads(figures)["stored"] for name, figures in rows}


@pytest.fixture
def mqtt(tmp_path: Path) -> Iterator[Broker]:
    running = start_broker(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def replicas(tmp_path: Path, mqtt: Broker, postgres_place: PostgresPlace) -> Iterator[Replicas]:
    found = Replicas(tmp_path, mqtt.port, postgres_place.dsn)
    yield found
    for process in found.each.values():
        process.signal(signal.SIGCONT)
        process.kill()


async def stream(node: TestNode, first: int, count: int) -> int:
    """Rows at some pace; returns the next number."""
    for at in range(first, first + count, 50):
        node.send(range(at, at + 50))
        await asyncio.sleep(0.05)
    return first + count


def the_rows_once_each(replicas: Replicas, last: int) -> None:
    rows = replicas.query("SELECT seq FROM events WHERE node = 'gw-1' AND lane = 'event' ORDER BY seq")
    assert [seq for (seq,) in rows] == list(range(1, last + 1))
    assert replicas.query("SELECT first, last FROM received WHERE node = 'gw-1' AND lane = 'event'") == [(1, last)]
    fleet = [seq for (seq,) in replicas.query("SELECT seq FROM events WHERE node = ? ORDER BY seq", FLEET)]
    assert fleet == list(range(1, len(fleet) + 1))


def announced(node: TestNode) -> list[str]:
    """Types of the fleet events that a subscriber heard."""
    return [one.topic.rpartition("/")[2] for one in node.others if "/fleet/event/" in one.topic]


def test_both_take_rows_one_leads_and_the_other_follows_when_it_is_killed(mqtt: Broker, replicas: Replicas) -> None:
    async def scene() -> None:
        await replicas.start_both()
        async with TestNode(mqtt.port) as node:
            node.present()
            node.born()
            await until(lambda: "NodeRegistered" in announced(node))
            at = await stream(node, 1, 500)
            await until(lambda: not node.waiting)
            await until(lambda: min(replicas.stored().get(name, 0) for name in "ab") > 50)
            assert replicas.leader == "a"

            replicas["a"].kill()
            at = await stream(node, at, 500)
            await replicas.lead("b")
            await until(lambda: not node.waiting)
            await until(lambda: replicas.leader == "b")
            status = edgectl(["--config", str(replicas["b"].config), "status"])
            assert status.returncode == 0, status.stderr
            assert "b        leads" in status.stdout

            replicas["a"].start()
            await until(lambda: replicas.said("a", ": connected as coordinator-a.rows") == 2)
            node.present(boot=2)
            node.born(boot=2, labels={"line": "3"})
            await until(lambda: replicas.query("SELECT boot FROM nodes WHERE node = 'gw-1'") == [(2,)])
            assert replicas["b"].stop() == 0
            await replicas.lead("a", terms=2)
            at = await stream(node, at, 200)
            await until(lambda: not node.waiting)
            the_rows_once_each(replicas, at - 1)
            assert announced(node).count("NodeRegistered") == 1
            assert replicas.query("SELECT count(*) FROM events WHERE type = 'NodeOffline'") == [(0,)]

    asyncio.run(scene())
    assert "failed" not in replicas["b"].log.read_text()


def test_what_the_other_stored_for_the_fleet_is_announced_by_the_leader(mqtt: Broker, replicas: Replicas) -> None:
    """Gaps are told by whoever takes the record; half of them reach the follower."""

    async def scene() -> None:
        for name in "ab":
            replicas[name].start()
            await until(lambda n=name: replicas.said(n, f": connected as coordinator-{n}.rows"))  # type: ignore[misc]
        await until(lambda: replicas.leader)
        async with TestNode(mqtt.port) as node, TestNode(mqtt.port, "gw-2") as other:
            for one in (node, other):
                one.present()
                one.born()
            for i in range(20):
                node.publish("sync", sync(gaps=[told(10 * i + 1, 10 * i + 2)]))
            await until(lambda: announced(node).count("DataGapReported") == 20)
            node.publish("alert/warning", alert_payload("gw-1", 1))
            await until(lambda: replicas.query("SELECT count(*) FROM events WHERE type = 'AlertRaised'") == [(1,)])
        fleet = [seq for (seq,) in replicas.query("SELECT seq FROM events WHERE node = ? ORDER BY seq", FLEET)]
        assert fleet == list(range(1, len(fleet) + 1))

    asyncio.run(scene())


def test_a_leader_that_was_frozen_writes_nothing_any_more(mqtt: Broker, replicas: Replicas) -> None:
    async def scene() -> None:
        await replicas.start_both()
        async with TestNode(mqtt.port) as node:
            node.present()
            node.born()
            await until(lambda: "NodeRegistered" in announced(node))
            replicas["a"].signal(signal.SIGSTOP)
            await replicas.lead("b")
            node.born(labels={"line": "7"})
            await until(lambda: "7" in str(replicas.query("SELECT birth FROM nodes")))
            replicas["a"].signal(signal.SIGCONT)
            await until(lambda: replicas.said("a", "not leading any more"))
            at = await stream(node, 1, 300)
            await until(lambda: not node.waiting)
            the_rows_once_each(replicas, at - 1)
            await until(lambda: replicas.leader == "b")
            state = [one for one in node.others if one.topic == "edge/v1/coordinator/status"]
            last = decode_document(Status, Kind.STATUS, state[-1].payload)
            assert last.state is Presence.ONLINE
            asked = edgectl(["--config", str(replicas["b"].config), "call", "coordinator", "status"])
            assert asked.returncode == 0, asked.stderr + asked.stdout
            assert not replicas.said("a", "task ")
            leases = edgectl(["--config", str(replicas["b"].config), "leases"])
            assert "lead: 1 writes of former holders were refused" in leases.stdout

    asyncio.run(scene())


def test_rows_that_are_held_up_keep_nobody_from_leading(
    mqtt: Broker, replicas: Replicas, postgres_place: PostgresPlace
) -> None:
    """As a coordinator does that was frozen while it stored: it holds what both want to write to."""

    async def scene() -> None:
        await replicas.start_both()
        async with TestNode(mqtt.port) as node:
            node.present()
            node.born()
            at = await stream(node, 1, 200)
            await until(lambda: not node.waiting)
            with closing(connect(postgres_place.dsn, name="frozen")) as frozen:
                frozen.script("SET idle_in_transaction_session_timeout = 0")
                frozen.script("BEGIN")
                frozen.execute("UPDATE lanes SET version = version WHERE node = 'gw-1'")
                at = await stream(node, at, 200)
                await until(lambda: waits_for(replicas, "lanes") == 2)
                replicas["a"].kill()
                await replicas.lead("b")
                assert node.waiting
                frozen.roll_back()
            await until(lambda: not node.waiting)
            the_rows_once_each(replicas, at - 1)

    asyncio.run(scene())
    assert replicas.said("b", "leading: boot") == 1


def waits_for(replicas: Replicas, table: str) -> int:
    """Connections that wait for a lock in a statement about a table."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE ?"
    return int(replicas.query(sql, f"%INTO {table} %")[0][0])


def test_the_database_goes_away_and_comes_back(mqtt: Broker, replicas: Replicas, postgres: Cluster) -> None:
    async def scene() -> None:
        for name in "ab":
            replicas[name].start()
            await until(lambda n=name: replicas.said(n, f": connected as coordinator-{n}.rows"))  # type: ignore[misc]
        await until(lambda: replicas.leader)
        async with TestNode(mqtt.port) as node:
            node.present()
            node.born()
            at = await stream(node, 1, 200)
            postgres.crash()
            at = await stream(node, at, 100)
            await asyncio.sleep(LEASE_S)
            postgres.start()
            await until(lambda: not node.waiting)
            await until(lambda: replicas.leader)
            node.born(labels={"line": "9"})
            await until(lambda: "9" in str(replicas.query("SELECT birth FROM nodes")))
            the_rows_once_each(replicas, at - 1)

    asyncio.run(scene())


def test_a_lone_coordinator_and_several_exclude_each_other(
    tmp_path: Path, mqtt: Broker, replicas: Replicas, postgres_place: PostgresPlace
) -> None:
    folder = tmp_path / "lone"
    folder.mkdir()
    lone = Process(folder, mqtt.port, dsn=postgres_place.dsn)

    async def scene() -> None:
        replicas["a"].start()
        await replicas.lead("a")
        lone.start()
        await until(lambda: lone.ended() is not None)

    asyncio.run(scene())
    assert lone.ended() == 1
    assert "a coordinator writes to" in lone.log.read_text()
    assert "set coordinator.replicas in all of them" in lone.log.read_text()
