"""The recovery campaign's own parts: what counts as an outage, and the stand-in for systemd."""

import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.recovery import chosen
from benchmarks.recoverylib.faults import FAULTS
from benchmarks.recoverylib.marks import availability, downs, overlap_s, read_marks
from benchmarks.recoverylib.service import ROOT, Service, Unit, read_unit

TALKER = """
import os, socket, sys, time
link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
link.connect(os.environ["NOTIFY_SOCKET"])
link.send(b"READY=1")
while True:
    link.send(b"WATCHDOG=1")
    time.sleep(0.05)
"""


def until(true: Callable[[], object]) -> None:
    end_s = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([1, 2, 3, 4], []),
        ([1, 4], [(1, 4)]),
        ([], [(0, 5)]),
        ([4, 1, 2, 3, 9], []),  # as they stand in the file; what lies outside does not count
        ([3], [(0, 3), (3, 5)]),
    ],
)
def test_outages_are_the_gaps_between_decided_frames(marks: list[float], expected: list[tuple[float, float]]) -> None:
    assert downs(np.array(marks, np.float64), (0, 5), 1.5) == expected


def test_a_half_written_mark_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    path.write_bytes(struct.pack("<qq", 1_500_000_000, 2_000_000_000) + b"\x01\x02\x03")
    assert read_marks(path).tolist() == [1.5, 2.0]
    assert read_marks(tmp_path / "none").size == 0


def test_seconds_of_outages_within_a_span() -> None:
    assert overlap_s([(0, 2), (3, 9)], (1, 5)) == 3
    assert overlap_s([(0, 1)], (2, 3)) == 0


def test_availability_is_by_the_year() -> None:
    assert availability({"a": 10.0, "b": 0.0}, {"a": 12, "b": 100}) == pytest.approx(1 - 120 / 31_557_600)


def test_every_kind_is_chosen_at_least_once() -> None:
    faults, skipped = chosen(30, 3, [], volumes=False)
    kinds = {fault.kind for fault in faults}
    assert kinds | set(skipped) == {fault.kind for fault in FAULTS} and len(kinds) >= 12
    assert set(skipped) == {fault.kind for fault in FAULTS if fault.volume}
    assert sum(3 if fault.site else 1 for fault in chosen(240, 3, [], volumes=True)[0]) >= 200


@pytest.mark.parametrize("name", ["edge-agent", "edge-coordinator"])
def test_the_units_are_read(name: str) -> None:
    assert read_unit(ROOT / "deploy" / "systemd" / f"{name}.service") == Unit(5.0, 30.0, frozenset({2}))


def test_a_killed_or_hung_process_is_started_again(tmp_path: Path) -> None:
    service = Service("talker", Unit(0.1, 1.0), [sys.executable, "-c", TALKER], tmp_path)
    service.start()
    try:
        until(lambda: service.pid)
        service.kill()
        until(lambda: service.starts == 2 and service.pid)
        time.sleep(0.5)  # its word that it is ready starts the watchdog
        service.signal(signal.SIGSTOP)
        until(lambda: service.starts >= 3 and service.pid)
        service.kill(hold=True)
        starts = service.starts
        time.sleep(0.4)
        assert service.starts == starts
        service.release()
        until(lambda: service.starts > starts)
    finally:
        service.stop()
    assert not service.pid and not service.failed


def test_a_status_that_needs_a_person_ends_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('no such key'); sys.exit(2)"]
    service = Service("bad", Unit(0.1, 0.0, frozenset({2})), command, tmp_path)
    service.start()
    until(lambda: service.failed)
    service.stop()
    assert service.starts == 1 and "no such key" in service.failed


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_short_campaign() -> None:
    command = [sys.executable, "-m", "benchmarks.recovery", "--faults", "4", "--nodes", "1", "--json", "--only"]
    kinds = ["agent_killed", "link_refused", "broker_killed", "accelerator_killed"]
    done = subprocess.run([*command, *kinds], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["auto_recovered"] == 1 and figures["kinds"] == 4 and not figures["causes"]
