import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.outbox.encode import sync_row
from agent.outbox.file import OutboxFile
from agent.outbox.inspect import account, export, quarantined
from agent.outbox.rows import Draft
from runtime.errors import EdgewrightError
from runtime.sqlite import StorageFormatError
from schemas.codec import decode_event
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.messages import Refusal, Severity
from schemas.topics import Kind

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30.0


def open_file(path: Path, boot: int = 1) -> OutboxFile:
    return OutboxFile(path / "outbox.db", node="gw-1", boot=boot)


def draft(lane: Lane = Lane.EVENT, text: str = "x", **more: Any) -> Draft:
    return Draft(lane, "ObjectSeen", "cam1", 1_700_000_000_000, {"text": text}, **more)


def too_large(lane: Lane = Lane.EVENT) -> Draft:
    return draft(lane, "x" * 600_000)


def test_rows_are_numbered_from_one_in_each_lane(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    drafts = [draft(), draft(Lane.SAMPLE), draft(), draft(Lane.ALERT, severity=Severity.CRITICAL)]
    rows = file.append(drafts).result(WAIT_S)
    assert [(row.lane, row.seq) for row in rows] == [
        (Lane.EVENT, 1), (Lane.SAMPLE, 1), (Lane.EVENT, 2), (Lane.ALERT, 1),
    ]  # fmt: skip
    assert file.take(Lane.EVENT, 0, 10) == [rows[0], rows[2]]
    assert file.take(Lane.EVENT, 1, 10) == [rows[2]]
    assert file.take(Lane.EVENT, 0, 1) == [rows[0]]
    event = decode_event(Kind.ALERT, "gw-1", rows[3].payload)
    assert (event.identity.stream, event.identity.seq, event.boot) == (file.stream, 1, 1)
    assert sync_row(rows[1]).data == {"text": "x"}
    file.close()


def test_the_stream_id_belongs_to_the_file(tmp_path: Path) -> None:
    first = open_file(tmp_path)
    first.append([draft()]).result(WAIT_S)
    first.close()
    again = open_file(tmp_path, boot=2)
    assert again.stream == first.stream
    assert again.append([draft()]).result(WAIT_S)[0].seq == 2
    again.close()
    (tmp_path / "elsewhere").mkdir()
    other = open_file(tmp_path / "elsewhere")
    assert other.stream != first.stream
    other.close()


@pytest.mark.parametrize("lane", [Lane.EVENT, Lane.SAMPLE])
def test_a_group_with_a_row_that_cannot_be_sent_commits_nothing_and_burns_no_number(
    tmp_path: Path, lane: Lane
) -> None:
    file = open_file(tmp_path)
    # Alone in its transaction.
    with pytest.raises(LocalWireError, match="bytes"):
        file.append([draft(lane), too_large(lane), draft(lane)]).result(WAIT_S)
    assert file.take(lane, 0, 10) == []
    # And among others that share one: the writer is held up until all of them wait.
    hold = file._writer.submit(lambda db: time.sleep(0.2))
    futures = [file.append([draft(lane)]), file.append([draft(lane), too_large(lane)]), file.append([draft(lane)])]
    hold.result(WAIT_S)
    assert [row.seq for i in (0, 2) for row in futures[i].result(WAIT_S)] == [1, 2]
    assert isinstance(futures[1].exception(WAIT_S), LocalWireError)
    of_lane = next(a for a in file.account() if a.lane == lane.value)
    assert (of_lane.produced, of_lane.pending) == (2, 2)
    file.close()


def test_a_cancelled_caller_does_not_stop_the_writer(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    hold = file._writer.submit(lambda db: time.sleep(0.2))
    cancelled = file.acknowledge([(Lane.EVENT, 1, 1)])
    assert cancelled.cancel()
    hold.result(WAIT_S)
    assert file.append([draft()]).result(WAIT_S)[0].seq == 1
    file.close()


def test_what_is_answered_or_refused_leaves_and_is_accounted_for(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    file.append([draft(text=str(n)) for n in range(10)]).result(WAIT_S)
    assert file.acknowledge([(Lane.EVENT, 1, 3), (Lane.EVENT, 3, 4), (Lane.ALERT, 1, 9)]).result(WAIT_S) == 4
    assert file.quarantine([Refusal(file.stream, "event", 6, "no such type")]).result(WAIT_S) == 1
    assert file.quarantine([Refusal(file.stream, "event", 6, "again")]).result(WAIT_S) == 0
    assert [row.seq for row in file.take(Lane.EVENT, 0, 99)] == [5, 7, 8, 9, 10]
    path = tmp_path / "outbox.db"
    of_lane = next(a for a in account(path) if a.lane == "event")
    assert (of_lane.produced, of_lane.stored, of_lane.pending, of_lane.quarantined) == (10, 4, 5, 1)
    assert len(list(export(path))) == 5
    (shown,) = quarantined(path)
    assert '"no such type"' in shown
    assert '"5"' in shown
    file.close()


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    content = b"not a database, but somebody's data " * 100
    path.write_bytes(content)
    with pytest.raises(StorageFormatError, match=r"outbox\.db"):
        open_file(tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("pages", [1, 3], ids=["one page of noise", "cut short"])
def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path, pages: int) -> None:
    file = open_file(tmp_path)
    file.append([draft(text="x" * 3000) for _ in range(100)]).result(WAIT_S)
    file.close()
    path = tmp_path / "outbox.db"
    whole = path.read_bytes()
    noise = random.Random(7).randbytes(4096)
    path.write_bytes(whole[: 4096 * 2] + noise + whole[4096 * 3 :] if pages == 1 else whole[: 4096 * pages])
    damaged = path.read_bytes()
    with pytest.raises(EdgewrightError, match=r"outbox\.db"):
        open_file(tmp_path)
    assert path.read_bytes() == damaged


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    open_file(tmp_path).close()
    path = tmp_path / "outbox.db"
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO migrations (name) VALUES ('0099_from_the_future')")
    db.close()  # the last connection moves the log into the file
    content = path.read_bytes()
    with pytest.raises(StorageFormatError, match="0099_from_the_future"):
        open_file(tmp_path)
    assert path.read_bytes() == content


CHILD = """
import sys
from pathlib import Path
from agent.outbox.file import OutboxFile
from agent.outbox.rows import Draft
from schemas.identity import Lane

file = OutboxFile(Path(sys.argv[1]), node="gw-1", boot=1)
lanes = [Lane.EVENT, Lane.ALERT, Lane.SAMPLE]
n = 0
while True:
    group = [Draft(lanes[(n + i) % 3], "ObjectSeen", "cam1", 0, {"n": n + i}) for i in range(3)]
    for row in file.append(group).result():
        sys.stdout.write(f"{row.lane.value} {row.seq}\\n")
    sys.stdout.flush()
    n += 3
"""


def test_every_reported_row_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    highest: dict[str, int] = {}
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(300):
            lane, seq = child.stdout.readline().split()
            assert int(seq) == highest.get(lane, 0) + 1
            highest[lane] = int(seq)
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        child.stdout.close()
        child.wait(WAIT_S)
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                lane, seq = line.split()
                highest[lane] = int(seq)
        # What was committed but not yet reported may be there as well; holes may not.
        for found in account(path):
            highest[found.lane] = max(highest.get(found.lane, 0), found.produced)
            assert found.produced == found.pending >= highest[found.lane]
    file = open_file(tmp_path)
    for name in highest:
        seqs = [row.seq for row in file.take(Lane(name), 0, 10**6)]
        assert seqs == list(range(1, highest[name] + 1))
    file.close()


@pytest.mark.parametrize(
    "value", [2**70, object(), b"\xff" * 400_000], ids=["a large number", "no value", "too much"]
)
def test_a_sample_that_cannot_travel_is_refused_and_the_next_one_is_not(tmp_path: Path, value: object) -> None:
    file = open_file(tmp_path)
    with pytest.raises(LocalWireError, match="sample row ObjectSeen"):
        file.append([Draft(Lane.SAMPLE, "ObjectSeen", "cam1", 1, {"a": [value]})]).result(WAIT_S)
    (row,) = file.append([draft(Lane.SAMPLE)]).result(WAIT_S)
    assert (row.seq, sync_row(row).data) == (1, {"text": "x"})
    file.close()


def test_many_rows_at_once_are_in_the_file_as_if_they_came_one_by_one(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    severity = {Lane.ALERT: Severity.INFO}
    drafts = [draft(lane, str(n), severity=severity.get(lane)) for n in range(46) for lane in Lane]  # 276 rows
    rows = file.append(drafts).result(WAIT_S)
    for lane in Lane:
        assert file.take(lane, 0, 1000) == [row for row in rows if row.lane is lane]
        assert [row.seq for row in file.take(lane, 0, 1000)] == list(range(1, 47))
    assert all((a.produced, a.pending, a.holds) == (46, 46, True) for a in file.account())
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        kinds = db.execute("SELECT DISTINCT typeof(severity), typeof(payload), lane = 'alert' FROM rows").fetchall()
        assert sorted(kinds) == [("null", "blob", 0), ("text", "blob", 1)]
        weighed = db.execute("SELECT lane, sum(length(payload)) + 46 * 64 FROM rows GROUP BY lane")
        assert dict(weighed.fetchall()) == {a.lane: a.bytes for a in file.account()}
    file.close()
