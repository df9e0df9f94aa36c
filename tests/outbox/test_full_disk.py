"""`PRAGMA max_page_count` makes a real SQLITE_FULL."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from agent.outbox import outbox as outbox_module
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft, Row
from runtime.sqlite import StorageError
from schemas.codec import decode_event
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.topics import Kind

WAIT_S = 30.0


def pages_max(file: OutboxFile, count: int) -> None:
    while True:
        try:
            return file._writer.submit(lambda db: _pages_max(db, count)).result(WAIT_S)
        except StorageError:  # shared its transaction with an append that met the end of the disk
            continue


def _pages_max(db: sqlite3.Connection, count: int) -> None:
    db.execute(f"PRAGMA max_page_count = {count}").fetchone()


def draft(n: int) -> Draft:
    return Draft(Lane.EVENT, "ObjectSeen", "cam1", 0, {"n": n, "text": "x" * 3000})


def number(row: Row) -> object:
    return decode_event(Kind.EVENT, "gw-1", row.payload).data["n"]


def test_a_full_disk_is_waited_for_and_nothing_is_lost_or_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox_module, "RETRY_S", 0.02)

    async def main() -> None:
        file = OutboxFile(tmp_path / "outbox.db", node="gw-1", boot=1)
        pages_max(file, 30)
        outbox = Outbox(file)
        committed: list[Row] = []
        outbox.on_committed = committed.extend
        # In threes, so that some groups meet the end of the disk in their middle.
        appends = [
            asyncio.create_task(outbox.append([draft(3 * n), draft(3 * n + 1), draft(3 * n + 2)])) for n in range(20)
        ]
        async with asyncio.timeout(WAIT_S):
            while not any("cannot store" in record.message for record in caplog.records):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert len(committed) < 60
            assert not all(task.done() for task in appends)
            pages_max(file, 1_000_000)
            await asyncio.gather(*appends)
        rows = file.take(Lane.EVENT, 0, 1000)
        assert rows == committed
        assert [row.seq for row in rows] == list(range(1, 61))
        assert sorted(map(str, map(number, rows))) == sorted(map(str, range(60)))
        assert outbox.appended_total == 60
        assert sum("cannot store" in record.message for record in caplog.records) == 1
        file.close()

    asyncio.run(main())


def test_a_fact_that_cannot_be_sent_is_the_callers_problem_and_nobody_elses(tmp_path: Path) -> None:
    async def main() -> None:
        file = OutboxFile(tmp_path / "outbox.db", node="gw-1", boot=1)
        outbox = Outbox(file)
        bad = Draft(Lane.EVENT, "ObjectSeen", "cam1", 0, {"x": float("nan")})
        results = await asyncio.gather(
            outbox.append([draft(1)]),
            outbox.append([draft(2), bad]),
            outbox.append([draft(3)]),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [list, LocalWireError, list]
        assert [number(row) for row in file.take(Lane.EVENT, 0, 9)] == [1, 3]
        file.close()

    asyncio.run(main())


def test_an_append_returns_even_if_whoever_listens_fails(tmp_path: Path) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        file = OutboxFile(tmp_path / "outbox.db", node="gw-1", boot=1)
        outbox = Outbox(file)

        def broken(rows: list[Row]) -> None:
            raise RuntimeError("a defect of the listener")

        outbox.on_committed = broken
        await asyncio.wait_for(outbox.append([draft(1)]), WAIT_S)
        assert len(file.take(Lane.EVENT, 0, 9)) == 1
        file.close()

    asyncio.run(main())
