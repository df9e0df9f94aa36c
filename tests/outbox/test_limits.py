"""Caps, age, power cuts, full and read-only disks, kill -9: with the real file."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.outbox import outbox as outbox_module
from agent.outbox.ballast import Ballast
from agent.outbox.file import OutboxFile, renewal
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft
from agent.outbox.settings import LaneSettings, OutboxSettings, outbox_mistakes
from agent.outbox.shed import Fill, Shed, for_disk, over_caps
from runtime.errors import TemporaryError
from schemas.identity import Lane
from schemas.messages import Severity

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30.0
MIB = 1024 * 1024
SMALL = OutboxSettings(bytes_max=1000 + MIB, reserve_bytes=MIB)  # 1000 bytes for the low lanes


def draft(lane: Lane, n: int = 0, size: int = 10) -> Draft:
    severity = Severity.CRITICAL if lane is Lane.ALERT else None
    return Draft(lane, "ObjectSeen", "cam1", 1, {"n": n, "x": "x" * size}, severity)


def fills(**by_lane: tuple[int, int]) -> dict[Lane, Fill]:
    return {lane: Fill(*by_lane.get(lane.value, (0, 0))) for lane in Lane}


@pytest.mark.parametrize(
    ("settings", "found", "expected"),
    [
        (SMALL, fills(event=(2, 500), sample=(2, 500)), []),
        (SMALL, fills(event=(2, 500), sample=(2, 501)), [Shed(Lane.SAMPLE, 0, 1, "bytes")]),
        (SMALL, fills(event=(9, 900), sample=(1, 50), evidence=(1, 70)), [Shed(Lane.EVIDENCE, 0, 20, "bytes")]),
        (
            SMALL,
            fills(event=(9, 1100), sample=(1, 50)),
            [Shed(Lane.SAMPLE, 0, 50, "bytes"), Shed(Lane.EVENT, 0, 100, "bytes")],
        ),
        (SMALL, fills(alert=(9, MIB + 900), event=(1, 100)), []),
        (SMALL, fills(alert=(9, MIB + 1000), event=(1, 100)), [Shed(Lane.EVENT, 0, 100, "bytes")]),
        (SMALL, fills(alert=(9, MIB + 1100)), [Shed(Lane.ALERT, 0, 100, "bytes")]),
        (SMALL, fills(alert=(9, MIB), lifecycle=(9, 1100)), [Shed(Lane.LIFECYCLE, 0, 100, "bytes")]),
        (
            OutboxSettings(sample=LaneSettings(rows_max=100)),
            fills(sample=(101, 1)),
            [Shed(Lane.SAMPLE, 5, 0, "rows")],
        ),
        (OutboxSettings(alert=LaneSettings(rows_max=100)), fills(alert=(101, 1)), [Shed(Lane.ALERT, 1, 0, "rows")]),
        (
            OutboxSettings(event=LaneSettings(bytes_max=100)),
            fills(event=(9, 130)),
            [Shed(Lane.EVENT, 0, 30, "bytes")],
        ),
    ],
)
def test_what_is_given_up(settings: OutboxSettings, found: dict[Lane, Fill], expected: list[Shed]) -> None:
    assert over_caps(settings, found) == expected


@pytest.mark.parametrize(
    ("blocked", "own_lane", "lane"),
    [
        (Lane.ALERT, False, Lane.SAMPLE),
        (Lane.SAMPLE, False, None),
        (Lane.SAMPLE, True, Lane.SAMPLE),
        (Lane.EVENT, False, Lane.SAMPLE),
        (Lane.EVIDENCE, True, None),
    ],
)
def test_a_full_disk_takes_from_what_is_worth_less(blocked: Lane, own_lane: bool, lane: Lane | None) -> None:
    wanted = for_disk(fills(sample=(5, 9), event=(5, 9), alert=(5, 9)), blocked, 3, own_lane=own_lane)
    assert wanted == (None if lane is None else Shed(lane, 0, 3, "disk"))
    assert for_disk(fills(alert=(5, 1), lifecycle=(5, 1)), Lane.ALERT, 3, own_lane=True) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"closed": "0"}, "not closed in order"),
        ({"file": "9:9"}, "copy of another file"),
        ({"boot": "3"}, "older copy"),
        ({"boot": "5"}, "older copy"),
    ],
)
def test_when_numbers_go_on_under_another_stream(change: dict[str, str], why: str) -> None:
    meta = {"stream": "s", "closed": "1", "file": "1:2", "boot": "4"} | change
    said = renewal(meta, file_id="1:2", boot=5)
    assert why in said and bool(said) == bool(why)
    assert renewal({}, file_id="1:2", boot=5) == "the file is new"


def test_age_is_run_time_and_survives_restarts(tmp_path: Path) -> None:
    now_s = [1000.0]
    settings = OutboxSettings(sample=LaneSettings(age_max_s=100), ballast_bytes=0)

    def file(boot: int) -> OutboxFile:
        return OutboxFile(tmp_path / "outbox.db", node="gw-1", boot=boot, settings=settings, clock=lambda: now_s[0])

    first = file(1)
    first.append([draft(Lane.SAMPLE), draft(Lane.EVENT)]).result(WAIT_S)
    now_s[0] += 60
    first.append([draft(Lane.SAMPLE)]).result(WAIT_S)
    assert first.tick().result(WAIT_S) == 0
    first.close()
    now_s[0] = 5.0  # another boot: the monotonic clock begins anew, and a day may have passed meanwhile
    second = file(2)
    assert second.tick().result(WAIT_S) == 0
    now_s[0] += 41
    assert second.tick().result(WAIT_S) == 1
    assert [row.seq for row in second.take(Lane.SAMPLE, 0, 9)] == [2]
    assert [(gap.lane, gap.first, gap.last, gap.reason) for gap in second.gaps(9)] == [("sample", 1, 1, "age")]
    second.close()


def test_the_sums_are_right_after_a_restart(tmp_path: Path) -> None:
    settings = OutboxSettings(event=LaneSettings(bytes_max=50_000), ballast_bytes=0)
    path = tmp_path / "outbox.db"
    file = OutboxFile(path, node="gw-1", boot=1, settings=settings)
    for n in range(100):
        file.append([draft(Lane.EVENT, n, 500)]).result(WAIT_S)
    full = {one.lane: one for one in file.account()}["event"]
    assert 0 < full.bytes <= 50_000 and full.unconfirmed == 100 - len(file.take(Lane.EVENT, 0, 1000))
    file.close()
    again = OutboxFile(path, node="gw-1", boot=2, settings=settings)
    assert {one.lane: one for one in again.account()}["event"] == full
    again.append([draft(Lane.EVENT, n, 500) for n in range(100)]).result(WAIT_S)
    assert {one.lane: one for one in again.account()}["event"].bytes <= 50_000
    (gap,) = again.gaps(100)  # grown, not a second one
    assert gap.last - gap.first + 1 == {one.lane: one for one in again.account()}["event"].unconfirmed
    again.close()


def test_a_settings_file_that_leaves_nothing_is_refused() -> None:
    assert outbox_mistakes(OutboxSettings(bytes_max=2 * MIB, reserve_bytes=2 * MIB))
    assert outbox_mistakes(OutboxSettings()) == []


WRITER = """
import sys
from pathlib import Path
from agent.outbox.file import OutboxFile
from agent.outbox.rows import Draft
from schemas.identity import Lane
from schemas.messages import Severity

file = OutboxFile(Path(sys.argv[1]), node="gw-1", boot=int(sys.argv[2]))
lane = Lane(sys.argv[3])
severity = Severity.INFO if lane is Lane.ALERT else None
for n in range(int(sys.argv[4])):
    rows = file.append([Draft(lane, "ObjectSeen", "cam1", 1, {"n": n}, severity)]).result(30)
    sys.stdout.write(f"{rows[0].stream} {rows[0].seq}\\n")
    sys.stdout.flush()
"""


def writer(path: Path, boot: int, lane: Lane, count: int, *before: str) -> "subprocess.Popen[str]":
    arguments = [*before, sys.executable, "-c", WRITER, str(path), str(boot), lane.value, str(count)]
    return subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def test_kill_9_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    said: list[tuple[str, int]] = []
    for boot in range(1, 4):
        child = writer(path, boot, Lane.EVENT, 10**9)
        assert child.stdout is not None
        for _ in range(50):
            stream, seq = child.stdout.readline().split()
            said.append((stream, int(seq)))
        child.send_signal(signal.SIGKILL)
        said += [(line.split()[0], int(line.split()[1])) for line in child.stdout if line.endswith("\n")]
        child.wait()
        child.stdout.close()
    assert len(set(said)) == len(said)
    assert len({stream for stream, _ in said}) == 3
    file = OutboxFile(path, node="gw-1", boot=4)
    kept = {(row.stream, row.seq) for row in file.take(Lane.EVENT, 0, 10**6)}
    assert kept >= set(said)
    assert all(one.holds for one in file.account())
    file.close()


@pytest.mark.parametrize(("lane", "each"), [(Lane.ALERT, True), (Lane.EVENT, False)])
def test_an_alert_is_on_the_disk_before_it_counts_as_committed(tmp_path: Path, lane: Lane, each: bool) -> None:
    """strace sees the fsync between the write to the log and the word that it is committed."""
    trace = tmp_path / "trace"
    child = writer(
        tmp_path / "outbox.db", 1, lane, 10,
        "strace", "-f", "-o", str(trace), "-e", "trace=fdatasync,fsync,write",
    )  # fmt: skip
    out, _ = child.communicate(timeout=60)
    if child.returncode != 0 and "ptrace" in trace.read_text(errors="replace")[:2000]:
        pytest.skip("strace may not trace here")
    assert len(out.splitlines()) == 10
    synced, alone, said = 0, 0, 0
    for line in trace.read_text(errors="replace").splitlines():
        if re.search(r"f(data)?sync\(", line):
            synced += 1
        elif re.search(r'write\(1, "[0-9a-f]{16} \d', line):
            said += 1
            alone += synced == 0
            synced = 0
    assert said == 10
    assert alone == 0 if each else alone >= 8


def test_ballast_makes_room_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    ballast = Ballast(path, MIB)
    ballast.take()
    assert path.stat().st_blocks * 512 >= MIB
    ballast.release()
    assert not path.exists()
    ballast.release()
    ballast.take()
    assert ballast.held


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("a tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill_up(disk: Path) -> None:
    """Not by our doing: somebody else's file takes all that is left."""
    foreign = os.open(disk / "somebody-elses", os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while True:
            os.write(foreign, b"x" * 4096)
    os.close(foreign)


def test_alerts_get_through_on_a_disk_that_is_full(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "RETRY_S", 0.02)
    monkeypatch.setattr(outbox_module, "PATIENCE_S", 0.2)
    settings = OutboxSettings()  # ballast of 8 MiB: twice what the write-ahead log grows to

    async def main() -> None:
        file = OutboxFile(small_disk / "outbox.db", node="gw-1", boot=1, settings=settings)
        outbox = Outbox(file)
        async with asyncio.timeout(WAIT_S):
            await outbox.append([draft(Lane.SAMPLE, n, 500) for n in range(1500)])
            fill_up(small_disk)
            for n in range(300):
                await outbox.append([draft(Lane.ALERT, n, 2000)])
            for n in range(2000):  # the oldest samples give way to new ones in the end
                await outbox.append([draft(Lane.SAMPLE, n, 500)])
        accounts = {one.lane: one for one in file.account()}
        assert all(one.holds for one in accounts.values())
        assert accounts["alert"].pending == len(file.take(Lane.ALERT, 0, 1000)) == 300
        assert accounts["sample"].produced == 3500 and accounts["sample"].unconfirmed > 0
        assert {gap.reason for gap in file.gaps(100)} == {"disk"}
        file.close()

    asyncio.run(main())


def test_a_disk_that_becomes_read_only_is_waited_for(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "RETRY_S", 0.02)

    async def main() -> None:
        file = OutboxFile(small_disk / "outbox.db", node="gw-1", boot=1, settings=OutboxSettings(ballast_bytes=0))
        outbox = Outbox(file)
        await outbox.append([draft(Lane.ALERT)])
        # SQLite's own switch: a real remount waits until nobody holds the file open for writing.
        file._writer._db.execute("PRAGMA query_only = ON")
        waiting = asyncio.create_task(outbox.append([draft(Lane.ALERT, 2)]))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        with pytest.raises(TemporaryError, match="readonly"):
            await asyncio.wrap_future(file.tick())
        file._writer._db.execute("PRAGMA query_only = OFF")
        await asyncio.wait_for(waiting, WAIT_S)
        assert len(file.take(Lane.ALERT, 0, 9)) == 2
        file.close()

    asyncio.run(main())


def test_quarantine_has_a_limit_and_the_account_stays_right(tmp_path: Path) -> None:
    from schemas.messages import Refusal

    settings = OutboxSettings(quarantine_bytes_max=64 * 1024, ballast_bytes=0)
    file = OutboxFile(tmp_path / "outbox.db", node="gw-1", boot=1, settings=settings)
    rows = file.append([draft(Lane.EVENT, n, 2000) for n in range(100)]).result(WAIT_S)
    refused = [Refusal(file.stream, "event", row.seq, "no") for row in rows]
    began_s = time.monotonic()
    assert file.quarantine(refused).result(WAIT_S) == 100
    assert time.monotonic() - began_s < WAIT_S
    (account,) = [one for one in file.account() if one.lane == "event"]
    assert (account.quarantined, account.pending, account.bytes, account.holds) == (100, 0, 0, True)
    kept = file._reader.execute("SELECT count(*), sum(length(payload)), max(seq) FROM quarantine").fetchone()
    assert 0 < kept[0] < 100 and kept[1] <= 64 * 1024 and kept[2] == 100
    file.close()
