import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

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
    assert host.hardware()["arch"] in (os.uname().machine, "arm64")
    assert host.versions()["python"] == sys.version.split()[0]
    assert host.resources(Path("/"))["cores"] >= 1


@pytest.mark.parametrize(("machine", "arch"), [("aarch64", "arm64"), ("AMD64", "x86_64"), ("riscv64", "riscv64")])
def test_an_architecture_has_one_name(monkeypatch: pytest.MonkeyPatch, machine: str, arch: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert host.architecture() == arch


def test_accelerators_are_found_by_their_devices(tmp_path: Path) -> None:
    for name in ("apex_0", "dri/renderD128", "nvidia0", "nvidia1", "nvidiactl", "accel/accel0", "hailo0", "video0"):
        (tmp_path / "dev" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dev" / name).touch()
    for name, vendor, product in (("1-1", "18d1", "9302"), ("1-2", "046d", "0825")):
        device = tmp_path / "sys/bus/usb/devices" / name
        device.mkdir(parents=True)
        (device / "idVendor").write_text(f"{vendor}\n")
        (device / "idProduct").write_text(f"{product}\n")
    (tmp_path / "sys/bus/usb/devices/usb1").mkdir()
    assert host.accelerators(tmp_path) == {"edgetpu": 2, "gpu": 1, "nvidia": 2, "npu": 2}
    found = host.resources(tmp_path, tmp_path)
    assert (found["gpu"], found["npu"], found["tpu"]) == (2.0, 2.0, 2.0)
    assert host.accelerators(tmp_path / "bare") == {}
    assert "tpu" not in host.resources(tmp_path, tmp_path / "bare")
