"""A damaged outbox is never wiped: what can be read goes on, the rest is accounted for, the file itself is kept."""

import json
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from agent.outbox.file import OutboxFile
from agent.outbox.inspect import account, check
from agent.outbox.opening import open_outbox
from agent.outbox.rows import Draft
from agent.outbox.salvage import SalvageReport, salvage
from agent.outbox.settings import LaneSettings, OutboxSettings
from runtime.sqlite import StorageError, StorageFormatError
from schemas.identity import Lane
from schemas.messages import Closed, Severity

WAIT_S = 30.0
PAGE = 4096
ROWS = 400
SETTINGS = OutboxSettings(ballast_bytes=0, sample=LaneSettings(rows_max=10_000))


def drafts(count: int, begin: int = 0) -> list[Draft]:
    found = []
    for n in range(begin, begin + count):
        found.append(Draft(Lane.SAMPLE, "Rates", "cam1", 1, {"n": n, "text": "s" * 200}))
        found.append(Draft(Lane.EVENT, "ObjectSeen", "cam1", 1, {"n": n, "text": "e" * 200}))
        found.append(Draft(Lane.ALERT, "AlertRaised", "cam1", 1, {"n": n}, Severity.INFO))
    return found


def filled(path: Path, count: int = ROWS) -> dict[tuple[str, int], bytes]:
    """An outbox that ended in the middle, with everything in the main file; the bytes of each row."""
    file = OutboxFile(path, node="gw-1", boot=1, settings=SETTINGS)
    rows = file.append(drafts(count)).result(WAIT_S)
    file.acknowledge([(Lane.EVENT, 1, 10)]).result(WAIT_S)
    file._writer.submit(lambda db: None, durable=True).result(WAIT_S)
    copy = path.with_name("copy.db")
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    file.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    copy.rename(path)
    return {(row.lane.value, row.seq): row.payload for row in rows}


def opened(path: Path) -> tuple[OutboxFile, SalvageReport | None]:
    return open_outbox(path, node="gw-1", boot=2, settings=SETTINGS)


def rows_of(file: OutboxFile) -> dict[tuple[str, int], bytes]:
    return {(row.lane.value, row.seq): row.payload for lane in Lane for row in file.take(lane, 0, 10_000)}


@pytest.mark.parametrize("seed", range(8))
def test_torn_pages_cost_their_own_rows_and_no_others(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "outbox.db"
    written = filled(path)
    raw = bytearray(path.read_bytes())
    pages = len(raw) // PAGE
    chance = random.Random(seed)
    for _ in range(3):
        at = PAGE * chance.randrange(3, pages)
        raw[at : at + PAGE] = chance.randbytes(PAGE)
    path.write_bytes(raw)
    file, report = opened(path)
    if report is None:  # a page that nothing needed
        file.close()
        return
    saved = rows_of(file)
    assert saved.items() <= written.items()
    assert len(saved) > len(written) // 2
    assert all(one.holds for one in file.account())
    assert {one.lane: one.produced for one in file.account()}["event"] == ROWS
    kept = [item for item in tmp_path.glob("outbox.db.damaged-*") if item.suffix != ".json"]
    assert [item.read_bytes() for item in kept] == [bytes(raw)]
    told = json.loads(next(tmp_path.glob("outbox.db.damaged-*.json")).read_text())
    assert told["rows_saved"] == report.rows_saved
    # The coordinator knows what it has: it decides about each row that is missing.
    for gap in file.gaps(1000):
        held = [(gap.first, min(gap.last, 10))] if gap.lane == "event" and gap.first <= 10 else []
        file.closed([Closed(gap.stream, gap.lane, gap.first, gap.last, held)]).result(WAIT_S)
    accounts = {one.lane: one for one in file.account()}
    assert accounts["event"].stored == 10
    assert accounts["event"].damaged == ROWS - 10 - sum(lane == "event" for lane, _ in saved)
    assert all(one.holds and one.unconfirmed == 0 for one in accounts.values())
    # Numbers go on under another stream.
    (row,) = file.append(drafts(1)[1:2]).result(WAIT_S)
    assert (row.seq, row.stream) == (ROWS + 1, file.stream)
    assert file.stream_of(Lane.EVENT, ROWS) != file.stream
    file.close()
    assert check(path, "gw-1") == []


def test_a_first_page_of_garbage_is_replaced_for_reading(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    written = filled(path)
    raw = bytearray(path.read_bytes())
    raw[:PAGE] = b"\xa5" * PAGE
    path.write_bytes(raw)
    file, report = opened(path)
    assert report is not None
    saved = rows_of(file)
    assert saved == {key: payload for key, payload in written.items() if key[0] != "event" or key[1] > 10}
    assert all(one.holds for one in file.account())
    file.close()


@pytest.mark.parametrize("size", [0, 1, 100, PAGE, 3 * PAGE + 17, 30 * PAGE])
def test_a_cut_file_is_salvaged_as_far_as_it_goes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "outbox.db"
    written = filled(path)
    path.write_bytes(path.read_bytes()[:size])
    file, _ = opened(path)
    assert rows_of(file).items() <= written.items()
    assert all(one.holds for one in file.account())
    assert file.append(drafts(1)).result(WAIT_S)
    file.close()


def test_a_file_of_nothing_but_noise_is_kept_and_a_new_one_begun(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    noise = random.Random(1).randbytes(50_000)
    path.write_bytes(noise)
    file, report = opened(path)
    assert report is not None and sum(report.rows_saved.values()) == 0
    assert file.append(drafts(1)).result(WAIT_S)[0].seq == 1
    file.close()
    assert [item.read_bytes() for item in tmp_path.glob("outbox.db.damaged-*Z")] == [noise]


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    filled(path, 3)
    db = sqlite3.connect(path)
    db.execute("INSERT INTO migrations (name) VALUES ('0099_of_tomorrow')")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(StorageFormatError, match=r"newer version.*0099_of_tomorrow"):
        opened(path)
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*damaged*")) == []


def test_a_salvage_cut_off_between_its_two_renames_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    written = filled(path)
    expected = {key: value for key, value in written.items() if key[0] != "event" or key[1] > 10}
    salvage(path, node="gw-1", reason="for the test")
    path.rename(path.with_name("outbox.db.new"))
    path.with_name("outbox.db-wal").write_bytes(b"the log of the damaged file")
    file, report = opened(path)
    assert report is None
    assert rows_of(file) == expected
    file.close()


def test_a_salvage_without_room_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "outbox.db"
    filled(path)
    before = path.read_bytes()

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StorageError, match="no room to salvage"):
        salvage(path, node="gw-1", reason="for the test")
    assert path.read_bytes() == before
    assert account(path)


def test_shed_before_the_damage_stays_shed(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    few = OutboxSettings(ballast_bytes=0, event=LaneSettings(rows_max=100))
    file = OutboxFile(path, node="gw-1", boot=1, settings=few)
    file.append(drafts(150)).result(WAIT_S)
    (gap,) = file.gaps(10)
    file.closed([Closed(gap.stream, gap.lane, gap.first, gap.last, [(1, 7)])]).result(WAIT_S)
    before = {one.lane: one for one in file.account()}["event"]
    assert (before.shed, before.stored) == (len(range(gap.first, gap.last + 1)) - 7, 7)
    file.close()
    salvage(path, node="gw-1", reason="for the test")
    file, _ = opened(path)
    for gap in file.gaps(10):
        file.closed([Closed(gap.stream, gap.lane, gap.first, gap.last, [(1, 7)])]).result(WAIT_S)
    after = {one.lane: one for one in file.account()}["event"]
    assert (after.produced, after.stored, after.shed, after.damaged, after.pending) == (
        before.produced, before.stored, before.shed, 0, before.pending,
    )  # fmt: skip
    file.close()
