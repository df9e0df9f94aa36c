"""Sending kept results once, on real files: all that match, none twice, on after a restart, one at a time."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.outbox.encode import sync_row
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Row
from agent.results.result import FRAME, Result
from agent.results.settings import ResultsSettings
from agent.results.store import ResultStore
from agent.state import StateFile
from agent.sync import cloud_sync
from agent.sync.cloud_sync import CloudSync
from agent.sync.progress import Ended, Progress, filter_id, unpacked
from runtime.calls.errors import CallFailedError, CallRejectedError
from schemas.identity import Lane
from schemas.sync import DataFilter

NOON = 1_795_521_600_000


def result(n: int, kind: str = "person", *, local_only: bool = False) -> Result:
    objects = [{"object_id": "1", "class": kind, "confidence": 0.9, "box": [0, 0, 1, 1]}]
    return Result(NOON + n, "cam1", "gate", FRAME, "cam1", {"n": n, "objects": objects}, local_only)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_sync, "POLL_S", 0.01)
    monkeypatch.setattr(cloud_sync, "CHUNK_ROWS", 10)
    monkeypatch.setattr(cloud_sync, "SCAN_ROWS", 35)


class Node:
    """The parts of one life of an agent; the files stay for the next one."""

    def __init__(self, folder: Path) -> None:
        self.state = StateFile(folder / "state.db")
        self.store = ResultStore(folder / "results.db")
        self.file = OutboxFile(folder / "outbox.db", node="gw-1", boot=self.state.boot)
        self.outbox = Outbox(self.file)
        self.rows: list[Row] = []
        self.answers = True  # the coordinator answers at once
        self.may_send = True
        self.outbox.on_committed = self._committed
        self.cloud = CloudSync(
            folder / "results.db", self.outbox, self.state,
            epoch=lambda: self.store.epoch, may_send=lambda: self.may_send, run_s=time.monotonic,
        )  # fmt: skip
        self._task = asyncio.create_task(self.cloud.run())

    def _committed(self, rows: list[Row]) -> None:
        self.rows += rows
        if self.answers:
            self.answer()

    def answer(self) -> None:
        self.file.acknowledge([(row.lane, row.seq, row.seq) for row in self.rows])

    def keep(self, *results: Result) -> None:
        self.store.write(results, [], 0.0, {}).result()

    def sent(self) -> list[int]:
        return [sync_row(row).data["n"] for row in self.rows if row.lane is Lane.SAMPLE]

    def completed(self) -> list[dict[str, Any]]:
        return [json.loads(row.payload)["data"] for row in self.rows if row.type == "CloudSyncCompleted"]

    async def until(self, true: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + 20.0
        while not true():
            assert time.monotonic() < deadline_s, self.cloud.report()
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for each in (self.store, self.file, self.state):
            await asyncio.to_thread(each.close)


def scene(folder: Path, play: Callable[[Node], Awaitable[None]]) -> None:
    async def run() -> None:
        node = Node(folder)
        try:
            await play(node)
        finally:
            await node.end()

    asyncio.run(run())


def test_everything_that_matches_is_sent_in_chunks_and_the_end_is_an_event(tmp_path: Path) -> None:
    async def play(node: Node) -> None:
        node.keep(*(result(n, "car" if n % 2 else "person", local_only=n % 10 == 1) for n in range(100)))
        started = await node.cloud.start(DataFilter(classes=("car",)), "")
        assert (started["state"], started["results_left"]) == ("running", 100)
        await node.until(node.completed)
        assert node.sent() == [n for n in range(100) if n % 2 and n % 10 != 1]
        (end,) = node.completed()
        sizes = sum(len(row.payload) for row in node.rows if row.lane is Lane.SAMPLE)
        assert {**end, "duration_s": 0} == {
            "sync_id": filter_id(DataFilter(classes=("car",))), "outcome": "completed", "rows": 40, "bytes": sizes,
            "skipped": 10, "duration_s": 0,
        }  # fmt: skip
        data = sync_row(next(row for row in node.rows if row.lane is Lane.SAMPLE)).data
        assert (data["sync_id"], data["row"]) == (end["sync_id"], 4), "its number in the file tells a copy"
        assert node.cloud.report() == {"running": None, "last": end}

    scene(tmp_path, play)


def test_it_is_not_complete_before_the_coordinator_has_answered_and_never_has_much_under_way(tmp_path: Path) -> None:
    async def play(node: Node) -> None:
        node.answers = False
        node.keep(*(result(n) for n in range(100)))
        await node.cloud.start(DataFilter(), "")
        await node.until(lambda: len(node.sent()) == 40)
        await asyncio.sleep(0.1)
        assert len(node.sent()) == 40, "four chunks are unanswered"
        assert node.cloud.report()["running"]["chunks_unanswered"] == 4
        node.answers = True
        node.answer()
        await node.until(node.completed)
        assert node.sent() == list(range(100))

    scene(tmp_path, play)


def test_the_same_call_sends_only_what_came_since_and_a_new_id_sends_all(tmp_path: Path) -> None:
    async def play(node: Node) -> None:
        node.keep(*(result(n) for n in range(25)))
        await node.cloud.start(DataFilter(), "")
        await node.until(lambda: len(node.completed()) == 1)
        node.keep(*(result(n) for n in range(25, 30)))
        await node.cloud.start(DataFilter(), "")
        await node.until(lambda: len(node.completed()) == 2)
        assert node.sent() == list(range(30))
        await node.cloud.start(DataFilter(), "again")
        await node.until(lambda: len(node.completed()) == 3)
        assert node.sent() == [*range(30), *range(30)]
        with pytest.raises(CallRejectedError, match="'again' was given to another filter"):
            await node.cloud.start(DataFilter(classes=("car",)), "again")

    scene(tmp_path, play)


def test_results_that_come_meanwhile_are_no_part_of_it(tmp_path: Path) -> None:
    async def play(node: Node) -> None:
        node.may_send = False
        node.keep(*(result(n) for n in range(5)))
        await node.cloud.start(DataFilter(), "")
        node.keep(*(result(n) for n in range(5, 9)))
        node.may_send = True
        await node.until(node.completed)
        assert node.sent() == list(range(5))

    scene(tmp_path, play)


def test_it_goes_on_after_a_restart_and_sends_nothing_twice(tmp_path: Path) -> None:
    sent: list[int] = []

    async def first(node: Node) -> None:
        node.answers = False
        node.keep(*(result(n) for n in range(100)))
        await node.cloud.start(DataFilter(), "s1")
        await node.until(lambda: len(node.sent()) == 40)
        await node.until(lambda: node.cloud.report()["running"]["chunks_unanswered"] == 4)
        sent.extend(node.sent())

    async def second(node: Node) -> None:
        assert (await node.cloud.start(DataFilter(), "s1"))["state"] == "running already"
        node.file.acknowledge([(Lane.SAMPLE, 1, 40)])
        await node.until(node.completed)
        assert sent + node.sent() == list(range(100))
        assert node.completed()[0]["rows"] == 100

    scene(tmp_path, first)
    scene(tmp_path, second)


def test_a_newer_one_ends_it_and_a_later_call_goes_on_from_there(tmp_path: Path) -> None:
    async def play(node: Node) -> None:
        node.answers = False
        node.keep(*(result(n) for n in range(60)))
        await node.cloud.start(DataFilter(), "old")
        await node.until(lambda: len(node.sent()) == 40)
        await node.cloud.start(DataFilter(until_utc_ms=NOON + 3), "new")
        await node.until(lambda: node.cloud.report()["running"]["rows"] == 3)
        assert [(end["sync_id"], end["outcome"], end["rows"]) for end in node.completed()] == [
            ("old", "cancelled", 40)
        ]
        assert node.cloud.cancel() == "new"
        await node.until(lambda: len(node.completed()) == 2)
        assert node.cloud.cancel() == ""
        node.answers = True
        node.answer()
        await node.cloud.start(DataFilter(), "old")
        await node.until(lambda: len(node.completed()) == 3)
        assert node.sent() == [*range(40), 0, 1, 2, *range(40, 60)]

    scene(tmp_path, play)


def test_a_file_begun_anew_meanwhile_ends_it(tmp_path: Path) -> None:
    async def play(node: Node) -> None:
        with pytest.raises(CallFailedError, match="not open yet"):
            epoch, node.store.epoch = node.store.epoch, ""
            await node.cloud.start(DataFilter(), "")
        node.store.epoch = epoch
        node.may_send = False
        node.keep(*(result(n) for n in range(20)))
        await node.cloud.start(DataFilter(), "s1")
        await node.until(lambda: node.cloud.report()["running"])
        node.store.epoch = "another"
        await node.until(node.completed)
        assert node.completed()[0]["outcome"] == "results_lost"
        assert node.sent() == []

    scene(tmp_path, play)


def test_results_dropped_here_before_they_were_sent_are_left_out(tmp_path: Path) -> None:
    async def play(node: Node) -> None:
        node.may_send = False
        node.keep(*(result(n) for n in range(50)))
        await node.cloud.start(DataFilter(), "s1")
        node.store.write([], [], 1e9, {}).result()
        node.store.trim(
            ResultsSettings(raw_hours=1, disk_free_mb_min=0), run_s=1e9, disk_free_bytes=2**50, short=False
        ).result()
        node.may_send = True
        await node.until(node.completed)
        assert (node.completed()[0]["outcome"], node.completed()[0]["rows"]) == ("completed", 0)

    scene(tmp_path, play)


# ---- what is remembered -----------------------------------------------------------------------------


@given(st.builds(
    Progress, st.text(max_size=9),
    st.builds(DataFilter, classes=st.lists(st.text(min_size=1, max_size=3), max_size=2).map(tuple)),
    st.text(max_size=4), st.integers(0, 2**62), st.integers(0, 2**62), st.floats(0, 1e9),
    ranges=st.lists(st.tuples(st.just("sample"), st.integers(1, 99), st.integers(1, 99)), max_size=3),
))  # fmt: skip
def test_progress_is_remembered_as_it_is(progress: Progress) -> None:
    assert unpacked(progress.packed()) == progress


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"sync_id": 1}', '{"data_filter": {"x": 1}, "ranges": []}'])
def test_what_cannot_be_read_is_no_progress(text: str) -> None:
    assert unpacked(text) is None
    assert Ended(text).cursor("s1", "e") == 0


def test_the_ends_of_the_last_sendings_are_remembered() -> None:
    ended = Ended()
    for n in range(60):
        ended.add(Progress(f"s{n}", DataFilter(), "e", n + 1, 99))
    again = Ended(ended.packed())
    assert [again.cursor(f"s{n}", "e") for n in (9, 10, 59)] == [0, 11, 60]
    assert again.cursor("s59", "other") == 0
    assert again.is_another("s59", DataFilter(classes=("car",)))
    assert not again.is_another("s59", DataFilter())
