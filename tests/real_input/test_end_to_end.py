"""Real processes on a real clip: every event published is in the coordinator's store exactly once."""

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.outbox.inspect import account
from scripts.stack import Stack
from tests.assets import ASSETS, needs_assets
from tests.real_input import bundles

pytestmark = needs_assets

ROAD = ASSETS / "video" / "road_counting_640x352.mp4"
ROAD_FRAMES = 905
WAIT_S = 90.0


def until(what: str, true: Callable[[], bool], stack: Stack) -> None:
    """Waits until something is so, with every process alive."""
    end_s = time.monotonic() + WAIT_S
    while not true():
        stack.check()
        assert time.monotonic() < end_s, f"{what} did not come: {stack.log_tail('gw-1')}"
        time.sleep(0.1)


def rows(stack: Stack, query: str) -> list[tuple[object, ...]]:
    """From the coordinator's store."""
    path = stack.folder / "coordinator" / "coordinator.db"
    if not path.exists():
        return []
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return db.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        db.close()


def count(stack: Stack, query: str) -> int:
    found = rows(stack, query)
    return int(str(found[0][0])) if found else 0


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path / "stack") as made:
        made.start_broker()
        yield made


def road_agent(stack: Stack, tmp_path: Path) -> None:
    """Every frame of the clip, as fast as it goes, each an event; cars counted where they leave."""
    model = bundles.yolo_224(tmp_path)
    stack.start_agent(
        "gw-1",
        f'[[cameras]]\nid = "cam1"\nsource = "{ROAD}"\nrealtime = false\n'
        f'[[pipelines]]\ncamera = "cam1"\nmodel = "{model}"\nevery_frame = true\nsample_interval_s = 1.0\n'
        'lines = [{ name = "exit", start = [0.3, 0.95], end = [1.0, 0.6] }]\n',
    )


def finished(stack: Stack) -> bool:
    """The clip is at its end and the agent's outbox is empty: the coordinator has answered for every row."""
    ended = count(stack, "SELECT count(*) FROM events WHERE type='CameraStateChanged' AND data LIKE '%\"ended\"%'")
    return ended > 0 and all(lane.pending == 0 for lane in account(stack.folder / "gw-1" / "outbox.db"))


def check_exactly_once(stack: Stack) -> None:
    """Row for row: what the agent's account says was produced is in the store, once each."""
    for lane in account(stack.folder / "gw-1" / "outbox.db"):
        table = "samples" if lane.lane in ("sample", "state") else "events"
        where = f"FROM {table} WHERE node = 'gw-1' AND lane = '{lane.lane}'"
        assert count(stack, f"SELECT count(*) {where}") == lane.produced, lane
        assert count(stack, f"SELECT count(DISTINCT seq) {where}") == lane.produced, lane
        assert lane.stored == lane.produced, lane
        assert lane.quarantined == 0, lane


def test_every_frame_of_a_clip_is_stored_once_and_the_cars_are_counted(stack: Stack, tmp_path: Path) -> None:
    listener = stack.folder / "heard.jsonl"
    with listener.open("wb") as out:
        command = ["mosquitto_sub", "-p", str(stack.port), "-q", "1", "-t", "edge/v1/gw-1/event/#"]
        heard = subprocess.Popen(command, stdout=out)
    try:
        stack.start_coordinator()
        time.sleep(1.0)
        road_agent(stack, tmp_path)
        until("the end of the clip", lambda: finished(stack), stack)
        check_exactly_once(stack)
    finally:
        heard.terminate()
        heard.wait(10)
    assert count(stack, "SELECT count(*) FROM events WHERE type = 'FrameAnalyzed'") == ROAD_FRAMES
    crossed = rows(stack, "SELECT json_extract(data, '$.direction') FROM events WHERE type = 'LineCrossed'")
    assert abs(crossed.count(("in",)) - 8) <= 1
    ids = [json.loads(line)["id"] for line in listener.read_text(encoding="utf-8").splitlines()]
    assert len(ids) == len(set(ids)) >= ROAD_FRAMES, "a subscriber that was there hears each event once"


@pytest.mark.parametrize("victim", ["coordinator", "broker"])
def test_a_process_killed_in_the_middle_costs_no_row_and_doubles_none(
    stack: Stack, tmp_path: Path, victim: str
) -> None:
    stack.start_coordinator()
    time.sleep(1.0)
    road_agent(stack, tmp_path)
    until("some rows", lambda: count(stack, "SELECT count(*) FROM events") > 150, stack)
    stack.stop_one(victim, kill=True)
    time.sleep(1.0)
    if victim == "broker":
        stack.start_broker()
    else:
        stack.start_coordinator()
    until("the end of the clip", lambda: finished(stack), stack)
    check_exactly_once(stack)


def test_an_agent_killed_in_the_middle_loses_no_committed_row(stack: Stack, tmp_path: Path) -> None:
    stack.start_coordinator()
    time.sleep(1.0)
    road_agent(stack, tmp_path)
    until("some rows", lambda: count(stack, "SELECT count(*) FROM events") > 150, stack)
    stack.stop_one("gw-1", kill=True)
    produced = sum(lane.produced for lane in account(stack.folder / "gw-1" / "outbox.db"))
    assert produced >= 150
    tmp_path = tmp_path / "again"
    tmp_path.mkdir()
    road_agent(stack, tmp_path)
    until("the end of the clip", lambda: finished(stack), stack)
    check_exactly_once(stack)
