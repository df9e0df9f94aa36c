"""The file and who writes it: what is kept, dropped and counted, and that a damaged one is set aside."""

import asyncio
import json
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.__main__ import main
from agent.degrade.switches import Switch, Switches
from agent.results import query, recorder, store
from agent.results.aggregate import BOUNDS, Aggregate, Summary
from agent.results.recorder import Recorder
from agent.results.result import FRAME, Result
from agent.results.settings import MIB, ResultsSettings
from agent.results.store import ResultStore, opened
from runtime.sqlite import StorageFormatError
from schemas.sync import DataFilter

NOON = 1_795_521_600_000
ROOMY = ResultsSettings(disk_free_mb_min=0)


def seen(kind: str = "person", confidence: float = 0.75) -> dict[str, Any]:
    return {"object_id": "1", "class": kind, "confidence": confidence, "box": [0.0, 0.0, 5.0, 5.0]}


def frame(at_ms: int, *objects: dict[str, Any], camera: str = "cam1", local_only: bool = False) -> Result:
    return Result(NOON + at_ms, camera, camera, FRAME, camera, {"time_s": 0.0, "objects": list(objects)}, local_only)


def kept(path: Path, **asked: Any) -> list[Result]:
    with opened(path) as db:
        return query.newest(db, DataFilter(**asked), 10**6)


class Kept:
    """A recorder with what it announced."""

    def __init__(self, folder: Path, settings: ResultsSettings = ROOMY) -> None:
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.switches = Switches()
        self.path = folder / "results.db"
        self.recorder = Recorder(self.path, settings, self.switches, lambda *what: self.told.append(what))

    async def until(self, true: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + 20.0
        while not true():
            assert time.monotonic() < deadline_s, self.recorder.report()
            await asyncio.sleep(0.01)

    def running(self, scene: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            task = asyncio.create_task(self.recorder.run())
            try:
                await self.until(lambda: self.recorder.epoch)
                await scene()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self.recorder.close()

        asyncio.run(run())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "FLUSH_S", 0.02)
    monkeypatch.setattr(recorder, "TRIM_S", 0.02)
    monkeypatch.setattr(recorder, "RETRY_S", 0.05)


# ---- keeping ----------------------------------------------------------------------------------------


def test_results_are_kept_while_it_runs_and_the_open_windows_at_its_end(tmp_path: Path) -> None:
    node = Kept(tmp_path)

    async def scene() -> None:
        for n in range(130):
            node.recorder.keep(frame(1000 * n, *[seen()] * (n % 3)))
        await node.until(lambda: node.recorder.kept_total == 130)
        assert len(kept(node.path)) == 130, "read while it is written"

    node.running(scene)
    assert [r.time_utc_ms for r in kept(node.path)] == [NOON + 1000 * n for n in range(130)]
    with opened(node.path) as db:
        windows = list(store.aggregates(db, DataFilter()))
    assert [(w.from_utc_ms - NOON, w.summary.frames) for w in windows] == [(0, 60), (60_000, 60), (120_000, 10)]
    assert sum(w.summary.objects_sum for w in windows) == sum(n % 3 for n in range(130))


def test_what_came_last_is_written_at_the_end(tmp_path: Path) -> None:
    node = Kept(tmp_path)

    async def scene() -> None:
        node.recorder.keep(frame(0, seen()))

    node.running(scene)
    assert len(kept(node.path)) == 1


def test_numbers_and_the_name_of_the_file_go_on_over_a_restart_even_when_all_was_dropped(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    first = ResultStore(path)
    first.write([frame(n) for n in range(5)], [], 10.0, {}).result()
    first.trim(
        ResultsSettings(raw_hours=0, disk_free_mb_min=0), run_s=1e6, disk_free_bytes=2**40, short=False
    ).result()
    first.close()
    second = ResultStore(path)
    assert (second.epoch, second.run_s) == (first.epoch, 10.0)
    second.write([frame(9)], [], 11.0, {}).result()
    with opened(path) as db:
        assert store.last_id(db) == 6
    second.close()


def test_switches_drop_raw_results_and_make_windows_coarser(tmp_path: Path) -> None:
    node = Kept(tmp_path)

    async def scene() -> None:
        node.switches.turn_off_only(frozenset({Switch.RAW_RESULTS, Switch.FINE_AGGREGATES}))
        for n in range(10):
            node.recorder.keep(frame(1000 * n, seen()))
        node.recorder.keep(Result(NOON, "cam1", "cam1", "ObjectSeen", "7", {"class": "car"}, True))

    node.running(scene)
    assert [r.type for r in kept(node.path)] == ["ObjectSeen"], "events are no raw results"
    assert node.recorder.report()["dropped_total"] == {"switched_off": 10}
    with opened(node.path) as db:
        assert [w.window_s for w in store.aggregates(db, DataFilter())] == [600.0]
        assert store.figures(db)["dropped"] == ["raw/switched_off=10"]


def test_the_oldest_that_waits_gives_way_and_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "WAITING_MAX", 5)
    node = Kept(tmp_path)

    async def scene() -> None:
        for n in range(12):
            node.recorder.keep(frame(n))

    node.running(scene)
    assert [r.time_utc_ms - NOON for r in kept(node.path)] == [7, 8, 9, 10, 11]
    assert node.recorder.dropped_total["busy"] == 7


# ---- dropping ---------------------------------------------------------------------------------------


def noise(n: int) -> Result:
    data = {"objects": [], "noise": random.Random(n).randbytes(2000).hex()}
    return Result(NOON + n, "cam1", "cam1", "StreamSample", "cam1", data)


def test_the_file_stays_within_its_bytes_and_gives_back_what_it_dropped(tmp_path: Path) -> None:
    node = Kept(tmp_path, ResultsSettings(bytes_max=4 * MIB, disk_free_mb_min=0))

    async def scene() -> None:
        for n in range(3000):  # 12 MB
            node.recorder.keep(noise(n))
        await node.until(lambda: node.recorder.dropped_total["bytes"])
        await node.until(lambda: node.path.stat().st_size < 6 * MIB)

    node.running(scene)
    left = kept(node.path)
    assert left
    assert left[-1].time_utc_ms == NOON + 2999, "the newest stay"
    assert len(left) + node.recorder.dropped_total["bytes"] == 3000


def test_a_short_disk_takes_nothing_and_gets_back_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [2**40]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": free[0]}))
    node = Kept(tmp_path, ResultsSettings(disk_free_mb_min=128))

    async def scene() -> None:
        for n in range(50):
            node.recorder.keep(noise(n))
        await node.until(lambda: node.recorder.kept_total == 50)
        free[0] = 100 * MIB
        await node.until(lambda: node.recorder.dropped_total["disk"] == 50)
        node.recorder.keep(noise(51))
        await node.until(lambda: node.recorder.dropped_total["disk"] == 51)
        free[0] = 2**40
        await asyncio.sleep(0.1)
        node.recorder.keep(noise(52))
        await node.until(lambda: node.recorder.kept_total == 51)

    node.running(scene)
    assert [r.time_utc_ms - NOON for r in kept(node.path)] == [52]


def test_age_is_run_time_so_no_clock_drops_anything(tmp_path: Path) -> None:
    opened_store = ResultStore(tmp_path / "results.db")
    day = 86400.0
    for at_s, time_ms in ((0.0, 10**13), (day, 0), (1.5 * day, 5)):
        result = Result(time_ms, "cam1", "cam1", FRAME, "cam1", {"objects": []})
        opened_store.write([result], [], at_s, {}).result()
    limits = ResultsSettings(raw_hours=24, disk_free_mb_min=0)
    gone = opened_store.trim(limits, run_s=1.9 * day, disk_free_bytes=2**40, short=False).result()
    assert dict(gone) == {("raw", "age"): 1}
    assert [r.time_utc_ms for r in kept(opened_store.path)] == [0, 5]
    gone = opened_store.trim(limits, run_s=1.9 * day, disk_free_bytes=2**40, short=True).result()
    assert dict(gone) == {("raw", "age"): 2}
    opened_store.close()


def test_on_a_disk_that_others_filled_what_is_kept_here_gives_way(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    if not mounted(folder, "3m"):
        pytest.skip("a disk of 3 MiB cannot be made here")
    try:
        node = Kept(folder, ResultsSettings(disk_free_mb_min=2.5))

        async def scene() -> None:
            for n in range(120):
                node.recorder.keep(noise(n))
            await node.until(lambda: node.recorder.kept_total == 120)
            fill(folder / "others")
            await node.until(lambda: node.recorder.dropped_total["disk"] or node.told)
            await node.until(lambda: shutil.disk_usage(folder).free > 0)

        node.running(scene)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Until the disk takes no more."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return


def mounted(folder: Path, size: str) -> bool:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False)
    return done.returncode == 0


# ---- damage -----------------------------------------------------------------------------------------


def filled(path: Path) -> None:
    made = ResultStore(path)
    made.write([noise(n) for n in range(200)], [], 1.0, {}).result()
    made.close()


def with_no_sqlite(path: Path) -> None:
    path.write_bytes(b"no database at all, only text " * 200)


def with_overwritten_pages(path: Path) -> None:
    filled(path)
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = '0' WHERE key = 'closed'")
    db.commit()
    db.close()
    with path.open("r+b") as file:
        for page in range(2, 30):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)


def of_a_newer_version(path: Path) -> None:
    filled(path)
    db = sqlite3.connect(path)
    db.execute("INSERT INTO migrations (name) VALUES ('0099_future')")
    db.commit()
    db.close()


@pytest.mark.parametrize("damage", [with_no_sqlite, with_overwritten_pages, of_a_newer_version])
def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    node = Kept(tmp_path)
    damage(node.path)
    before = node.path.read_bytes()

    async def scene() -> None:
        node.recorder.keep(frame(0, seen()))
        await node.until(lambda: node.recorder.kept_total)

    node.running(scene)
    assert len(kept(node.path)) == 1
    ((kind, _, data),) = node.told
    assert kind == "ResultsSetAside"
    assert data["reason"]
    assert (tmp_path / data["file"]).read_bytes() == before


def test_a_file_damaged_while_it_is_used_is_set_aside_too(tmp_path: Path) -> None:
    node = Kept(tmp_path)

    async def scene() -> None:
        for n in range(100):
            node.recorder.keep(noise(n))
        await node.until(lambda: node.recorder.kept_total == 100)
        node.recorder._store.write = broken  # type: ignore[union-attr, method-assign]
        node.recorder.keep(noise(100))
        await node.until(lambda: node.told)
        node.recorder.keep(noise(101))
        await node.until(lambda: node.recorder.kept_total == 101)

    def broken(*rest: Any) -> Any:
        raise StorageFormatError("results: the file is damaged: database disk image is malformed")

    node.running(scene)
    assert [r.time_utc_ms for r in kept(node.path)] == [NOON + 101]
    assert node.recorder.dropped_total["unwritable"] == 1


# ---- asking -----------------------------------------------------------------------------------------


def test_a_filter_is_asked_of_the_file(tmp_path: Path) -> None:
    made = ResultStore(tmp_path / "results.db")
    made.write(
        [
            frame(0, seen()), frame(1, seen("car", 0.4), seen(confidence=0.9)), frame(2, camera="cam2"),
            Result(NOON + 3, "cam2", "p2", "StreamSample", "cam2", {"totals": {}}),
        ],
        [], 0.0, {},
    ).result()  # fmt: skip

    def times(**asked: Any) -> list[int]:
        return [r.time_utc_ms - NOON for r in kept(made.path, **asked)]

    assert times() == [0, 1, 2, 3]
    assert times(cameras=("cam2",)) == [2, 3]
    assert times(types=(FRAME,)) == [0, 1, 2]
    assert times(classes=("car",)) == [1]
    assert times(confidence_min=0.8) == [1]
    assert times(since_utc_ms=NOON + 1, until_utc_ms=NOON + 3) == [1, 2]
    assert times(pipelines=("p2",), types=("StreamSample",)) == [3]
    with opened(made.path) as db:
        assert [r.time_utc_ms - NOON for r in query.newest(db, DataFilter(), 2)] == [2, 3]
    made.close()


objects = st.builds(seen, st.sampled_from(["person", "car"]), st.integers(0, 100).map(lambda n: n / 100))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40_000), st.lists(objects, max_size=3)), max_size=40),
    st.integers(0, 40),
    st.sampled_from([60.0, 120.0, 600.0]),
)
def test_windows_asked_for_are_the_same_whether_raw_results_are_still_there_or_not(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, list[dict[str, Any]]]],
    dropped: int,
    window_s: float,
) -> None:
    """Of `dropped` frames only the windows of a minute are left. What is asked for is whole multiples of them."""
    path = tmp_path_factory.mktemp("windows") / "results.db"
    made = ResultStore(path)
    frames, at_ms = [], 0
    for step_ms, found in steps:
        at_ms += step_ms
        frames.append(frame(at_ms, *found))
    minutes: dict[int, Summary] = {}
    expected: dict[int, Summary] = {}
    for each in frames:
        for windows, length in ((minutes, 60_000), (expected, round(window_s * 1000))):
            begins = each.time_utc_ms - each.time_utc_ms % length
            windows.setdefault(begins, Summary(BOUNDS)).add(each.objects)
    kept_windows = [Aggregate("cam1", "cam1", begins, 60.0, each) for begins, each in minutes.items()]
    made.write(frames, kept_windows, 0.0, {}).result()
    made._writer.submit(lambda db: db.execute("DELETE FROM results WHERE id <= ?", (dropped,))).result()
    with opened(path) as db:
        found_windows = query.in_windows(db, DataFilter(), window_s)
    made.close()
    assert {w.from_utc_ms: w.summary.described() for w in found_windows} == {
        begins: each.described() for begins, each in expected.items()
    }


def test_the_command_shows_results_windows_and_what_was_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[node]\nid = "gw-1"\ndata_dir = "data"\n')

    def ask(*more: str, what: str = "query") -> Any:
        status = main(["results", what, "--config", str(config), *more])
        said = capsys.readouterr()
        return [json.loads(line) for line in said.out.splitlines()] if status == 0 else said.err

    assert "there are no results at" in ask()
    made = ResultStore(tmp_path / "data" / "results.db")
    made.write([frame(1000 * n, seen(), seen("car", 0.3)) for n in range(90)], [], 0.0, {("raw", "disk"): 7}).result()
    rows = ask("--json", "--class", "car", "--limit", "3")
    assert [(row["time_utc_ms"] - NOON, len(row["data"]["objects"])) for row in rows] == [
        (87000, 1),
        (88000, 1),
        (89000, 1),
    ]
    windows = ask("--json", "--aggregate", "1m", "--confidence", "0.5")
    assert [(w["frames"], list(w["classes"])) for w in windows] == [(60, ["person"]), (30, ["person"])]
    assert (
        ask("--json", "--since", "2026-11-24T12:01:29Z", "--until", "2026-11-24T12:01:30Z")[0]["time_utc_ms"]
        == NOON + 89000
    )
    (stats,) = ask(what="stats")
    assert (stats["raw_rows"], stats["dropped"]) == (90, ["raw/disk=7"])
    made.close()
    assert "'5x' is no length of time" in ask("--aggregate", "5x")
    assert "--since" in ask("--since", "yesterday")
    assert "confidence_min: 7 must be from 0 to 1" in ask("--confidence", "7")
    assert "must be less than until_utc_ms" in ask("--since", "1h", "--until", "2h")
    main(["results", "query", "--config", str(config), "--limit", "1", "--aggregate", "2m"])
    table = capsys.readouterr().out
    assert "90 frames  car 90 (mean 1, most 1)  person 90" in table
