"""`edgectl state` and `edge-agent state` as a person calls them."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.__main__ import main as agent_main
from coordinator.edgectl import main as edgectl_main
from coordinator.fleet.registry import Node, NodeState
from coordinator.state.view import CoordinatorState
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, Row
from schemas.hlc import Stamp
from schemas.state_registers import StateChange
from tests.platform_state.nodes import COLLECTIONS, node

ROADS, COUNTS, LIMITS, PLANS = "traffic.intersections", "traffic.counts", "traffic.limits", "traffic.plans"
SEQ = iter(range(1, 10_000))


def row(path: str, key: str, value: Any, ago_s: int, name: str = "gw-1") -> Row:
    at = time.time_ns() // 1_000_000 - ago_s * 1000
    data = StateChange(path, key, value, Stamp(at, 0, name)).data()
    return Row(name, "s1", "state", next(SEQ), "StateChanged", key, None, at, at, 1, json.dumps(data))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path)
    state = CoordinatorState(opened, COLLECTIONS)
    now_ms = time.time_ns() // 1_000_000
    nodes = [
        Node("gw-1", NodeState.ONLINE, 1, 1, last_seen_utc_ms=now_ms, since_utc_ms=now_ms),
        Node("gw-2", NodeState.OFFLINE, 1, 1, last_seen_utc_ms=now_ms, since_utc_ms=now_ms - 300_000),
    ]
    rows = [
        row(ROADS, "IS-001", {"phase": "red", "lanes": [{"queue": 3}], "a.b": 5}, 600),
        row(ROADS, "IS-001.north", {"phase": "off"}, 60),
        row(ROADS, "IS-002", {"phase": "green"}, 7200, "gw-2"),
        row(ROADS, "IS-003", {"phase": "green"}, 70),
        row(ROADS, "IS-003", None, 60),
        row(LIMITS, "IS-001", 50, 1800),
        row(LIMITS, "IS-001", 80, 5400, "gw-2"),
        row("bakery.ovens", "o1", 220, 5, "gw-3"),
    ]
    asyncio.run(opened.commit(Batch(nodes=nodes, samples=rows)))
    asyncio.run(state.put(PLANS, "p", {"green_s": 30}))
    yield opened
    opened.close()


def call(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert edgectl_main(["--data-dir", str(tmp_path), "state", *arguments]) == status
    said = capsys.readouterr()
    return said.err if status else said.out


def test_get_shows_the_value_its_age_and_who_says_so(
    tmp_path: Path, store: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    text = call(tmp_path, capsys, "get", f"{ROADS}.IS-001")
    assert '"phase": "red"' in text
    assert "written by  gw-1" in text
    assert "age         10m" in text
    assert "note" not in text
    assert "may be stale: gw-2 offline for 5m" in call(tmp_path, capsys, "get", f"{ROADS}.IS-002")
    assert "written by  coordinator" in call(tmp_path, capsys, "get", f"{PLANS}.p")
    assert "value       deleted" in call(tmp_path, capsys, "get", f"{ROADS}.IS-003")
    unchecked = call(tmp_path, capsys, "get", "bakery.ovens.o1")
    assert "may be stale: gw-3 never registered; unchecked" in unchecked


@pytest.mark.parametrize(
    ("path", "key", "field", "value"),
    [
        (f"{ROADS}.IS-001", "IS-001", "", {"phase": "red", "lanes": [{"queue": 3}], "a.b": 5}),
        (f"{ROADS}.IS-001.phase", "IS-001", "phase", "red"),
        (f"{ROADS}.IS-001.lanes.0.queue", "IS-001", "lanes.0.queue", 3),
        (f"{ROADS}.IS-001.a.b", "IS-001", "a.b", 5),
        (f"{ROADS}.IS-001.north", "IS-001.north", "", {"phase": "off"}),  # the longest key, not the field of another
        (f"{ROADS}.IS-001.north.phase", "IS-001.north", "phase", "off"),
    ],
)
def test_get_takes_the_longest_key_that_is_there(
    tmp_path: Path,
    store: SqliteStore,
    capsys: pytest.CaptureFixture[str],
    path: str,
    key: str,
    field: str,
    value: Any,
) -> None:
    found = json.loads(call(tmp_path, capsys, "get", path, "--json"))
    assert (found["key"], found["field"], found["value"]) == (key, field, value)


def test_a_deleted_key_does_not_hide_the_field_of_another(
    tmp_path: Path, store: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(store.commit(Batch(samples=[row(ROADS, "IS-001.phase", {"phase": "off"}, 20),
                                            row(ROADS, "IS-001.phase", None, 10)])))  # fmt: skip
    assert json.loads(call(tmp_path, capsys, "get", f"{ROADS}.IS-001.phase", "--json"))["value"] == "red"


def test_get_shows_every_node_that_wrote(
    tmp_path: Path, store: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    text = call(tmp_path, capsys, "get", f"{LIMITS}.IS-001", "--all-nodes")
    assert "value       80" in text
    assert "rule  max" in text
    lines = [line.split() for line in text.splitlines()[-2:]]
    assert lines == [["gw-1", "online", "50", "30m", "30m"], ["gw-2", "offline", "80", "90m", "90m", "holds"]]
    found = json.loads(call(tmp_path, capsys, "get", f"{LIMITS}.IS-001", "--all-nodes", "--json"))
    assert [one["value"] for one in found["writers"]] == [50, 80]
    assert (found["conflict"], found["stale"], found["rule"]) == (True, True, "max")
    assert 5400 <= found["age_s"] < 5600
    assert "value       50" in call(tmp_path, capsys, "get", f"{LIMITS}.IS-001", "--node", "gw-1")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("get", "traffic"), 2, "is not like platform.collection.key"),
        (("get", ROADS), 2, "names no key; edgectl state ls traffic.intersections lists them"),
        (("get", f"{ROADS}.IS-009"), 1, "there is no state traffic.intersections.IS-009"),
        (("get", f"{ROADS}.IS-001", "--node", "gw-2"), 1, "there is no state traffic.intersections.IS-001 of gw-2"),
        (("get", f"{ROADS}.IS-001.speed"), 1, "IS-001: there is no field 'speed' (a.b, lanes, phase)"),
        (("get", f"{ROADS}.IS-001.lanes.7"), 1, "there are 1 items, counted from 0"),
        (("ls", f"{ROADS}.IS-001"), 2, "a single key is for: state get"),
        (("ls", "--limit", "0"), 2, "--limit must be"),
    ],
)
def test_what_is_not_there_is_said(
    tmp_path: Path,
    store: SqliteStore,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    assert said in call(tmp_path, capsys, *arguments, status=status)


def test_ls_lists_what_holds(tmp_path: Path, store: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    def paths(*arguments: str) -> list[str]:
        found = json.loads(call(tmp_path, capsys, "ls", *arguments, "--json"))
        return [f"{one['platform']}.{one['collection']}.{one['key']}" for one in found]

    assert paths() == [
        "bakery.ovens.o1", f"{ROADS}.IS-001", f"{ROADS}.IS-001.north", f"{ROADS}.IS-002", f"{LIMITS}.IS-001",
        f"{PLANS}.p",
    ]  # fmt: skip
    assert paths("bakery") == ["bakery.ovens.o1"]
    assert paths(ROADS, "--node", "gw-2") == [f"{ROADS}.IS-002"]
    assert paths("--conflicts") == [f"{LIMITS}.IS-001"]
    assert paths("--limit", "2") == ["bakery.ovens.o1", f"{ROADS}.IS-001"]
    text = call(tmp_path, capsys, "ls", "traffic")
    assert "KEY" in text
    (line,) = [line for line in text.splitlines() if line.startswith(f"{LIMITS}.IS-001")]
    assert line.split() == [f"{LIMITS}.IS-001", "80", "gw-2", "90m", "may", "be", "stale:", "gw-2", "offline", "for",
                            "5m;", "writers", "differ"]  # fmt: skip


def test_collections_lists_what_is_declared_and_what_came(
    tmp_path: Path, store: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {one["collection"]: one for one in json.loads(call(tmp_path, capsys, "collections", "--json"))}
    assert (found["ovens"]["declared"], found["ovens"]["rows"]) == (False, 1)
    assert (found["limits"]["owner"], found["limits"]["rule"], found["limits"]["rows"]) == ("shared", "max", 2)
    text = call(tmp_path, capsys, "collections")
    assert "bakery.ovens           not declared here" in text


def test_watch_shows_writes_as_they_come(
    tmp_path: Path, store: SqliteStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = iter(
        [
            [row(ROADS, "IS-004", {"phase": "red"}, 5), row("bakery.ovens", "o1", 1, 0, "gw-3")],
            [row(ROADS, "IS-004", None, 4), row(ROADS, "IS-005", {"phase": "off"}, 4)],
        ]
    )

    def pause(seconds: float) -> None:
        rows = next(turns, None)
        if rows is None:
            raise KeyboardInterrupt
        asyncio.run(store.commit(Batch(samples=rows)))

    monkeypatch.setattr(time, "sleep", pause)
    found = [json.loads(line) for line in call(tmp_path, capsys, "watch", "traffic", "--json").splitlines()]
    assert [(one["path"], one["value"]) for one in found] == [
        (f"{ROADS}.IS-004", {"phase": "red"}),
        (f"{ROADS}.IS-004", None),
        (f"{ROADS}.IS-005", {"phase": "off"}),
    ]


# ---- at the node ---------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text('[node]\nid = "gw-1"\ndata_dir = "data"\n[broker]\n')
    return path


def local(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert agent_main(["state", *arguments, "--config", str(config)]) == status
    said = capsys.readouterr()
    return said.err if status else said.out


def test_a_node_can_be_asked_without_a_running_agent(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def write() -> None:
        async with node(tmp_path / "data") as one:
            await one.state.put(ROADS, "IS-001", {"phase": "red"})
            await one.state.put(ROADS, "IS-001.north", {"phase": "off"})
            await one.state.put("retail.visitors", "v", 1)
            await one.state.put(COUNTS, "gone", 1)
            await one.state.delete(COUNTS, "gone")

    asyncio.run(write())
    first, second = local(config, capsys, "get", f"{ROADS}.IS-001.phase").splitlines()
    assert first == "red"
    assert second.startswith(f"{ROADS}.IS-001, written ") and second.endswith(" s ago")
    found = json.loads(local(config, capsys, "get", f"{ROADS}.IS-001.north", "--json"))
    assert (found["key"], found["value"], found["in_outbox"]) == ("IS-001.north", {"phase": "off"}, True)
    lines = local(config, capsys, "ls").splitlines()
    assert [line.split()[0] for line in lines] == ["retail.visitors.v", f"{ROADS}.IS-001", f"{ROADS}.IS-001.north"]
    assert len(local(config, capsys, "ls", "traffic", "--json").splitlines()) == 2
    assert len(local(config, capsys, "ls", ROADS).splitlines()) == 2
    assert local(config, capsys, "ls", "bakery") == ""
    assert "there is no field 'x'" in local(config, capsys, "get", f"{ROADS}.IS-001.x", status=1)
    assert "there is no traffic.counts.gone here" in local(config, capsys, "get", f"{COUNTS}.gone", status=1)
    assert "names no key" in local(config, capsys, "get", COUNTS, status=2)
    assert "not like platform.collection" in local(config, capsys, "get", "traffic", status=2)


def test_a_node_without_a_file_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no platform state at" in local(config, capsys, "ls", status=1)
