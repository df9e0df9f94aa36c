"""edgectl as a person calls it: a process of its own beside a real store."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.ctl import arguments
from coordinator.ctl.arguments import UsageError
from coordinator.ctl.show import freezes, nodes
from coordinator.ctl.tables import age, table
from coordinator.fleet.registry import Node, NodeState
from coordinator.store.fleet import FreezeView
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, HeartbeatRow, RefusedMessage, Row
from schemas.messages import Birth, Heartbeat, StreamReport
from tests.broker import broker
from tests.coordinator.process import ROOT, Process, edgectl
from tests.coordinator.sender import TestNode, until

NOW = time.time_ns() // 1_000_000


def row(seq: int, node: str = "gw-1", kind: str = "ObjectSeen", severity: str | None = None, ago_ms: int = 0) -> Row:
    lane = "alert" if severity else "event"
    return Row(node, "s1", lane, seq, kind, "cam1", severity, NOW, NOW - ago_ms, 1, json.dumps({"n": seq}))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path)
    birth = Birth(1, 1, node_type="Box", site="hall", labels={"line": "3", "shift": "a"}, cameras=["cam1"])
    beat = Heartbeat(1, 1, 1, cpu_percent=12.0, streams=[StreamReport("cam1", "p", "running", 100, 7, fps=9.9)])
    batch = Batch(
        events=[
            row(1, ago_ms=7_200_000),
            row(2),
            row(3, kind="LineCrossed"),
            row(4, node="gw-2"),
            row(1, kind="AlertRaised", severity="critical"),
        ],
        nodes=[
            Node("gw-1", NodeState.ONLINE, 1, 1, last_seen_utc_ms=NOW, birth=birth),
            Node("gw-2", birth=Birth(1, 1)),
        ],
        heartbeats={"gw-1": HeartbeatRow(beat, NOW)},
        refused=[RefusedMessage("edge/v1/gw-1/event/X", "gw-1", "no JSON", b"\xff\x1b[2J", NOW)],
    )
    asyncio.run(opened.commit(batch))
    asyncio.run(opened.save_counters({"received": 5, "commit_ms_p50": 1.25, "saved_utc_ms": NOW}, 0))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("command", "said", "unsaid"),
    [
        ("nodes", ["gw-1", "gw-2", "online", "hall", "line=3"], []),
        ("nodes --status offline", ["gw-2"], ["gw-1"]),
        ("nodes --label line=3 --label shift=a", ["gw-1"], ["gw-2"]),
        ("nodes --label line=4", ["NODE"], ["gw-1"]),
        ("node show gw-1", ["online", "shift=a", "cpu 12 %", "cam1"], []),
        ("events", ["ObjectSeen", "LineCrossed", "gw-2", "AlertRaised!critical"], []),
        ("events --node gw-2", ["gw-2"], ["gw-1"]),
        ("events --topic Line*", ["LineCrossed"], ["ObjectSeen"]),
        ("events --topic ObjectSeen", ["ObjectSeen"], ["LineCrossed"]),
        ("events --since 1h --topic ObjectSeen --node gw-1", ['{"n":2}'], ['{"n":1}']),
        ("events --limit 1", ["AlertRaised"], ["ObjectSeen"]),
        ("alerts", ["AlertRaised!critical"], ["ObjectSeen"]),
        ("streams", ["gw-1", "cam1", "running", "100", "9.9", "7"], []),
        ("streams --node gw-2", ["CAMERA"], ["cam1"]),
        ("refused", ["no JSON", "edge/v1/gw-1/event/X"], ["\x1b"]),
        ("status", ["received", "5", "rows of events"], []),
    ],
)
def test_tables(store: SqliteStore, tmp_path: Path, command: str, said: list[str], unsaid: list[str]) -> None:
    done = edgectl(["--data-dir", str(tmp_path), *command.split()])
    assert (done.returncode, done.stderr) == (0, "")
    assert [text for text in said if text not in done.stdout] == []
    assert [text for text in unsaid if text in done.stdout] == []


def test_json(store: SqliteStore, tmp_path: Path) -> None:
    def asked(command: str) -> str:
        done = edgectl(["--data-dir", str(tmp_path), *command.split(), "--json"])
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert [node["node"] for node in json.loads(asked("nodes"))] == ["gw-1", "gw-2"]
    assert json.loads(asked("node show gw-1"))["birth"]["labels"] == {"line": "3", "shift": "a"}
    assert [json.loads(line)["seq"] for line in asked("events").splitlines()] == [1, 2, 3, 4, 1]
    assert json.loads(asked("streams"))[0]["report"]["frames_total"] == 100
    assert json.loads(asked("refused"))[0]["payload_hex"] == "ff1b5b324a"
    assert json.loads(asked("status"))["counters"]["received"] == 5


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("nodes", 2, "where is the store?"),
        ("--data-dir /nowhere nodes", 1, "no coordinator store"),
        ("--config /nowhere.toml nodes", 1, "cannot be read"),
        ("--data-dir {} node show gw-9", 1, "no node gw-9"),
        ("--data-dir {} events --since yesterday", 2, "--since yesterday"),
        ("--data-dir {} gaps --open-for long", 2, "--open-for long"),
        ("--data-dir {} events --limit 0", 2, "1 to 100000"),
        ("--data-dir {} nodes --label x", 2, "key=value"),
        ("--data-dir {} nodes --status gone", 2, "invalid choice"),
        ("--data-dir {} call gw-1 f", 2, "broker's address"),
        ("dance", 2, "invalid choice"),
    ],
)
def test_mistakes_are_one_message(store: SqliteStore, tmp_path: Path, command: str, status: int, said: str) -> None:
    done = edgectl(command.format(tmp_path).split())
    assert done.returncode == status, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_follow_shows_what_comes_and_ends_on_ctrl_c(store: SqliteStore, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "coordinator.edgectl",
        "--data-dir",
        str(tmp_path),
        "events",
        "--json",
        "--follow",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None and following.stderr is not None
        first = [json.loads(following.stdout.readline())["seq"] for _ in range(5)]
        asyncio.run(store.commit(Batch(events=[row(11), row(12)])))
        more = [json.loads(following.stdout.readline())["seq"] for _ in range(2)]
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 0
        assert following.stderr.read() == ""
    assert (first, more) == ([1, 2, 3, 4, 1], [11, 12])


def test_follow_ends_when_nobody_reads(store: SqliteStore, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "coordinator.edgectl",
        "--data-dir",
        str(tmp_path),
        "events",
        "--json",
        "--follow",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None and following.stderr is not None
        following.stdout.readline()
        following.stdout.close()
        asyncio.run(store.commit(Batch(events=[row(21)])))
        assert following.wait(20) == 0
        assert following.stderr.read() == ""


def test_a_call_is_answered_or_says_that_nobody_did(tmp_path: Path) -> None:
    with broker(tmp_path) as mqtt:
        process = Process(tmp_path, mqtt.port)
        config = str(process.config)

        async def scene() -> "list[subprocess.CompletedProcess[str]]":
            process.start()
            await process.connected()
            calls = [
                "call coordinator status --json {}",
                "call coordinator fly x=1 y=two",
                "call gw-7 f --timeout 0.5",
            ]
            return [await asyncio.to_thread(edgectl, call.split(), EDGECTL_CONFIG=config) for call in calls]

        good, unknown, silent = asyncio.run(scene())
        assert process.stop() == 0
    assert good.returncode == 0 and json.loads(good.stdout)["state"] == "succeeded"
    assert unknown.returncode == 1 and json.loads(unknown.stdout)["error"]["code"] == "unknown_function"
    assert silent.returncode == 1 and "did not answer" in silent.stderr and "Traceback" not in silent.stderr


def test_a_running_coordinator_and_edgectl_share_the_store(tmp_path: Path) -> None:
    with broker(tmp_path) as mqtt:
        process = Process(tmp_path, mqtt.port)

        async def scene() -> str:
            process.start()
            await process.connected()
            async with TestNode(mqtt.port) as node:
                node.send(range(1, 11))
                await until(lambda: not node.waiting)
            done = await asyncio.to_thread(edgectl, ["--config", str(process.config), "events", "--json"])
            return done.stdout

        lines = asyncio.run(scene()).splitlines()
        assert process.stop() == 0
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 11))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 910_000), ("2m", 880_000), ("1970-01-01T00:01:00+00:00", 60_000), ("500ms", 999_500)],
)
def test_since(text: str, expected: int) -> None:
    assert arguments.since(text, 1_000_000) == expected


@pytest.mark.parametrize("text", ["5", "m5", "-3m", "5 m", "", "2026-13-01"])
def test_since_says_what_would_be_right(text: str) -> None:
    with pytest.raises(UsageError, match="not like 90s"):
        arguments.since(text, 1_000_000)


def test_call_arguments_are_json_or_text() -> None:
    found = arguments.call_arguments(["a=1", "b=true", "c=cam1", 'd={"x":[1]}', "e="], None)
    assert found == {"a": 1, "b": True, "c": "cam1", "d": {"x": [1]}, "e": ""}
    with pytest.raises(UsageError):
        arguments.call_arguments(["a"], None)
    with pytest.raises(UsageError):
        arguments.call_arguments([], "[1]")
    with pytest.raises(UsageError):
        arguments.call_arguments(["a=1"], "{}")


def test_ages_and_tables() -> None:
    assert [age(1, 1 + ms) for ms in (0, 119_000, 120_000, 7_200_000, 200_000_000)] == [
        "0s",
        "119s",
        "2m",
        "2h",
        "2d",
    ]
    assert age(0, 5) == "-"
    assert table(("A", "B"), [("x", "y\n"), ("long", "")]) == "A     B\nx     y\ufffd\nlong"


def test_of_very_many_freezes_the_widest_are_shown_and_how_many_more_there_are() -> None:
    sites = [FreezeView(f"site-{i}", NOW, "15 of 50 nodes turned suspect") for i in range(1000)]
    said = freezes([*sites, FreezeView("(broker north)", NOW, "x"), FreezeView("", NOW, "y")], NOW).splitlines()
    assert [("north" in line or "fleet" in line) for line in said] == [True, True, False, False, False, False]
    assert said[-1] == "and 997 sites more: edgectl status --json has all of them"
    assert nodes([], NOW, sites).splitlines()[: len(said)] == freezes(sites, NOW).splitlines()
    assert len(freezes(sites[:5], NOW).splitlines()) == 5
