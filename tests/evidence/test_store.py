"""What the node keeps: bound to its events, within its quota, and mended after whatever happened to it."""

import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.evidence.files import Files, content_type_of
from agent.evidence.settings import EvidenceSettings
from agent.evidence.store import INDEX_NAME, EvidenceStore, Healed, NoRoomError
from agent.evidence.tables import Binding, Kept, Piece, State
from runtime.sqlite import DiskFullError, StorageFormatError

MIB = 1024 * 1024
CLIP = Piece("video/mp4", "cam1", 1000, 4000)
STILL = Piece("image/jpeg", "cam1", 2000, 2000)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., EvidenceStore]]:
    """Opens the store in the same folder, again after it was closed."""
    opened: list[EvidenceStore] = []

    def open_(quota_bytes: int = 1024 * MIB, clock: Clock | None = None, **more: Any) -> EvidenceStore:
        for store in opened:
            store.close()
        settings = EvidenceSettings(quota_bytes=quota_bytes, free_bytes_min=more.pop("free_bytes_min", 0), **more)
        opened.append(EvidenceStore(tmp_path, settings, clock=clock or Clock()))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


def event(n: int, severity: str = "") -> Binding:
    return Binding(f"s.event.{n}", "LineCrossed", n, "", severity)


def alert(n: int) -> Binding:
    return Binding(f"s.alert.{n}", "AlertRaised", n, f"a{n}", "warning")


def names(found: list[Kept]) -> list[str]:
    return [kept.sha256 for kept in found]


def test_a_piece_is_on_disk_and_in_the_index_and_bound(make: Callable[..., EvidenceStore]) -> None:
    store = make()
    kept = store.put(b"picture", STILL, alert(1))
    assert store.files.path(kept.sha256).read_bytes() == b"picture"
    assert (kept.bytes, kept.piece, kept.state, kept.events) == (7, STILL, State.KEPT, (alert(1),))
    assert store.untold() == [(kept, alert(1))]
    store.told(kept.sha256, "s.alert.1")
    assert store.untold() == []
    assert make().get(kept.sha256) == kept


def test_the_same_bytes_belong_to_every_event_that_they_show(make: Callable[..., EvidenceStore]) -> None:
    store = make()
    first = store.put(b"same", STILL, event(1))
    again = store.put(b"same", STILL, alert(2))
    assert first.sha256 == again.sha256
    assert again.events == (event(1), alert(2))
    assert (store.count, store.bytes) == (1, 4)
    assert names(store.listed(event_id="s.alert.2")) == [first.sha256]
    store.mark(first.sha256, State.SENT)
    assert store.put(b"same", STILL, alert(2)).state is State.SENT
    assert store.put(b"same", STILL, alert(4)).state is State.ASKED  # the coordinator is to hear of it
    store.put(b"same", Piece("image/jpeg", "cam1", 1, 1, local_only=True, reason="x"), event(3))
    found = store.get(first.sha256)
    assert found is not None and found.piece.local_only  # what once has to stay goes on staying


def test_pieces_are_found_by_camera_time_and_event(make: Callable[..., EvidenceStore]) -> None:
    store = make()
    a = store.put(b"a", CLIP, alert(1)).sha256
    b = store.put(b"b", Piece("image/jpeg", "cam2", 9000, 9000), event(2)).sha256
    assert names(store.listed()) == [b, a]
    assert names(store.listed(camera_id="cam1")) == [a]
    assert names(store.listed(since_utc_ms=4001)) == [b]
    assert names(store.listed(since_utc_ms=3500, until_utc_ms=3600)) == [a]
    assert names(store.listed(event_id="s.event.2")) == [b]
    assert names(store.listed(limit=1)) == [b]


# ---- quota -----------------------------------------------------------------------------------------


def test_what_is_worth_least_goes_first(make: Callable[..., EvidenceStore]) -> None:
    store = make(MIB)
    part = 200 * 1024
    plain_old, alert_old, sent, asked, plain_new = (
        store.put(bytes([n]) * part, CLIP, binding).sha256
        for n, binding in enumerate((event(1), alert(2), alert(3), event(4), event(5)))
    )
    store.mark(sent, State.SENT)
    store.mark(asked, State.ASKED)
    gone = []
    for n in range(10, 15):
        before = set(names(store.listed()))
        store.put(bytes([n]) * part, CLIP, alert(n))
        gone.append(before - set(names(store.listed())))
        assert store.bytes <= MIB
    assert gone == [{sent}, {plain_old}, {plain_new}, {alert_old}, gone[4]]
    assert asked in names(store.listed())
    assert store.shed_total == 5
    assert len(list(store.files.sizes())) == store.count == 5


def test_what_no_alert_is_about_pushes_out_no_alert(make: Callable[..., EvidenceStore]) -> None:
    store = make(MIB)
    kept = [store.put(bytes([n]) * (400 * 1024), CLIP, alert(n)).sha256 for n in range(2)]
    with pytest.raises(NoRoomError):
        store.put(b"e" * (400 * 1024), CLIP, event(9))
    assert sorted(names(store.listed())) == sorted(kept)
    store.mark(kept[0], State.SENT)  # the coordinator has that one
    store.put(b"e" * (400 * 1024), CLIP, event(9))
    assert kept[0] not in names(store.listed())


def test_a_piece_larger_than_the_quota_pushes_nothing_out(make: Callable[..., EvidenceStore]) -> None:
    store = make(MIB)
    kept = store.put(b"x" * 1000, STILL, alert(1))
    with pytest.raises(NoRoomError, match="quota_bytes is 1048576"):
        store.put(b"y" * (MIB + 1), CLIP, alert(2))
    assert names(store.listed()) == [kept.sha256]
    assert store.no_room_total == 1


def test_the_reserve_of_the_disk_is_respected(
    make: Callable[..., EvidenceStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(free_bytes_min=1000)
    free = [1500]
    monkeypatch.setattr(Files, "free_bytes", lambda self: free[0] - self_bytes(store))
    store.put(b"x" * 400, STILL, event(1))
    store.put(b"y" * 400, STILL, event(2))  # the first one gives way
    assert [kept.bytes for kept in store.listed()] == [400]
    free[0] = 900  # somebody else fills the disk
    assert store.tick() == 1
    with pytest.raises(NoRoomError, match="stay free"):
        store.put(b"z", STILL, alert(3))


def self_bytes(store: EvidenceStore) -> int:
    return sum(size for _, size in store.files.sizes())


def test_a_disk_that_is_full_all_the_same_gives_up_something_once(
    make: Callable[..., EvidenceStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    store.put(b"x" * 400, STILL, event(1))
    real, refusals = os.fsync, [OSError(errno.ENOSPC, "No space left on device")]

    def fsync(fd: int) -> None:
        if refusals:
            raise refusals.pop()
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    kept = store.put(b"y" * 400, STILL, event(2))
    assert names(store.listed()) == [kept.sha256]
    refusals += [OSError(errno.ENOSPC, "No space left on device")] * 5
    with pytest.raises(DiskFullError, match="No space left"):
        store.put(b"z" * 400, STILL, event(3))
    assert list(store.files.folder.glob("*/.*")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("a disk of 4 MiB cannot be made here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_real_disk_that_fills_up_costs_the_least_valuable_and_no_more(small_disk: Path) -> None:
    store = EvidenceStore(small_disk, EvidenceSettings(free_bytes_min=0, quota_bytes=64 * MIB))
    try:
        for n in range(40):
            kept = store.put(bytes([n]) * 300_000, CLIP, alert(n) if n < 3 else event(n))
            assert store.files.is_sound(kept.sha256)
        left = {kept.events[0].event_id for kept in store.listed()}
        assert {"s.alert.0", "s.alert.1", "s.alert.2", "s.event.39"} <= left
        (small_disk / "others").write_bytes(bytes(max(0, store.files.free_bytes() - 4096)))
        for n in range(50, 55):  # somebody else has taken the rest
            store.put(bytes([n]) * 300_000, CLIP, alert(n))
        assert not store.heal().anything
    finally:
        store.close()


def test_age_is_running_time_over_all_starts(make: Callable[..., EvidenceStore]) -> None:
    clock = Clock()
    store = make(clock=clock, age_max_s=100)
    old = store.put(b"old", STILL, event(1)).sha256
    clock.now_s = 60.0
    assert store.tick() == 0
    later = Clock()
    later.now_s = 10**6  # another machine's clock after a reboot: only differences count
    store = make(clock=later, age_max_s=100)
    new = store.put(b"new", STILL, event(2)).sha256
    later.now_s += 30
    assert store.tick() == 0
    later.now_s += 20
    assert store.tick() == 1
    assert names(store.listed()) == [new] and old not in dict(store.files.sizes())


# ---- sending ---------------------------------------------------------------------------------------


def test_what_is_sent_next(make: Callable[..., EvidenceStore]) -> None:
    store = make()
    order = [
        store.put(b"0", STILL, event(1)).sha256,
        store.put(b"1", CLIP, alert(2)).sha256,
        store.put(b"2", STILL, alert(3)).sha256,
        store.put(b"3", CLIP, event(4)).sha256,
    ]
    local = store.put(b"4", Piece("image/jpeg", "c", 1, 1, local_only=True), alert(5)).sha256
    store.mark(order[3], State.ASKED)

    def queue(all_of_it: bool) -> list[int]:
        found: list[int] = []
        while kept := store.next_to_send(all_of_it=all_of_it, without=frozenset(order[n] for n in found)):
            assert kept.sha256 != local
            found.append(order.index(kept.sha256))
        return found

    assert queue(True) == [3, 2, 1, 0]
    assert queue(False) == [3]
    store.mark(order[3], State.SENT)
    assert queue(False) == []


# ---- mending ---------------------------------------------------------------------------------------


def test_what_an_end_at_any_moment_leaves_is_mended(make: Callable[..., EvidenceStore], tmp_path: Path) -> None:
    store = make()
    good = store.put(b"good", STILL, alert(1)).sha256
    gone = store.put(b"gone", STILL, alert(2)).sha256
    short = store.put(b"short", STILL, alert(3)).sha256
    store.files.path(gone).unlink()
    store.files.path(short).write_bytes(b"sh")
    orphan = Files(tmp_path / "evidence").write(b"\xff\xd8\xff an orphan")  # cut off before its row
    wrong = store.files.path("ab" * 32)
    wrong.parent.mkdir(exist_ok=True)
    wrong.write_bytes(b"not what the name says")
    (wrong.parent / ".half.tmp").write_bytes(b"half")
    store = make()
    assert store.heal() == Healed(1, 1, 1, 2)
    assert set(names(store.listed())) == {good, orphan}
    adopted = store.get(orphan)
    assert adopted is not None
    assert (adopted.piece.local_only, adopted.piece.content_type, adopted.events) == (True, "image/jpeg", ())
    assert dict(store.files.sizes()).keys() == {good, orphan}
    assert not store.heal().anything


def test_a_damaged_index_is_set_aside_and_no_file_is_lost(make: Callable[..., EvidenceStore], tmp_path: Path) -> None:
    store = make()
    kept = store.put(b"precious", STILL, alert(1)).sha256
    store.close()
    index = tmp_path / INDEX_NAME
    index.write_bytes(b"this is no index" * 500)
    store = make()
    healed = store.heal()
    assert (healed.index_renewed, healed.files_adopted) == (True, 1)
    found = store.get(kept)
    assert found is not None and found.piece.local_only
    assert len(list(tmp_path.glob(f"{INDEX_NAME}.damaged-*"))) == 1


def test_an_index_of_a_newer_version_is_left_alone(make: Callable[..., EvidenceStore], tmp_path: Path) -> None:
    make().close()
    db = sqlite3.connect(tmp_path / INDEX_NAME)
    db.execute("INSERT INTO migrations (name) VALUES ('0099-later')")
    db.commit()
    db.close()
    with pytest.raises(StorageFormatError, match="newer version"):
        EvidenceStore(tmp_path, EvidenceSettings())
    assert list(tmp_path.glob("*.damaged-*")) == []


@pytest.mark.parametrize(
    ("begin", "kind"),
    [(b"\xff\xd8\xff\xe0", "image/jpeg"), (b"\0\0\0 ftypisom", "video/mp4"), (b"", "application/octet-stream")],
)
def test_what_a_file_is(begin: bytes, kind: str) -> None:
    assert content_type_of(begin) == kind
