"""A short time slice is really asked of the kernel, for the calling thread alone, and changes nothing else."""

import os
import threading
from pathlib import Path

import pytest

from runtime.scheduling import prefer_short_slices


def test_the_calling_thread_alone_gets_a_short_slice() -> None:
    seen: dict[str, object] = {}

    def ask() -> None:
        seen["before"] = os.getpriority(os.PRIO_PROCESS, 0)
        seen["given"] = prefer_short_slices(200)
        seen["after"] = os.getpriority(os.PRIO_PROCESS, 0)
        report = Path(f"/proc/self/task/{threading.get_native_id()}/sched")
        seen["report"] = report.read_text(encoding="ascii") if report.exists() else ""

    thread = threading.Thread(target=ask, name="short")
    thread.start()
    thread.join()
    assert seen["before"] == seen["after"]
    if not seen["given"]:
        pytest.skip("this kernel has no slices to ask for")
    lines = [line for line in str(seen["report"]).splitlines() if line.startswith("se.slice")]
    if not lines:
        pytest.skip("this kernel does not show its slices")
    assert int(lines[0].split(":")[1]) == 200_000
