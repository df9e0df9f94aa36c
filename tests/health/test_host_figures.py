import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from agent.health import host

BUSY = "import time, sys\nend = time.process_time() + float(sys.argv[1])\nwhile time.process_time() < end: pass\n"


def test_children_of_every_thread_are_found() -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        done.wait()

    done = threading.Event()
    thread = threading.Thread(target=start)
    thread.start()
    try:
        while not started:
            time.sleep(0.01)
        assert started[0].pid in host.children()
        assert host.memory_mb([started[0].pid]) > host.memory_mb()
    finally:
        done.set()
        thread.join()
        started[0].kill()
        started[0].wait()
    assert started[0].pid not in host.children()


def test_cpu_time_of_a_child_counts_while_it_runs_and_not_again_at_its_end() -> None:
    meter = host.CpuMeter()
    assert meter.percent(0.0) == 0.0
    child = subprocess.Popen([sys.executable, "-c", BUSY, "0.5"])
    try:
        state = ""
        while state != "Z":  # it has used its time, and waits to be reaped
            state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
            time.sleep(0.02)
        assert meter.percent(1.0, [child.pid]) >= 50.0
    finally:
        child.wait()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    after = meter.percent(2.0)  # os.times() would count all of the child's now
    assert 9.0 <= after < 50.0


def test_a_process_that_is_gone_or_a_folder_that_is_gone_is_no_error(tmp_path: Path) -> None:
    meter = host.CpuMeter()
    meter.percent(0.0, [2**22 + 1])
    assert meter.percent(1.0, [2**22 + 1]) >= 0.0
    assert host.memory_mb([2**22 + 1]) > 0
    assert host.disk_free_mb(tmp_path / "gone") == 0.0
    assert host.disk_free_mb(tmp_path) > 0
    assert host.resources(tmp_path / "gone")["storage_mb"] == 0.0


def test_what_the_machine_is() -> None:
    assert host.hardware()["arch"] == os.uname().machine
    assert host.versions()["python"] == sys.version.split()[0]
    assert host.resources(Path("/"))["cores"] >= 1
