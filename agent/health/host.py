"""Figures of this machine, read from /proc, /sys and the file system. What a machine does not tell is left out."""

import os
import platform
import shutil
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_EDGETPU_USB = frozenset({("1a6e", "089a"), ("18d1", "9302")})  # before and after its firmware is loaded
_PACKAGES = ("edgewright", "ai-edge-litert", "av", "numpy", "paho-mqtt")


class CpuMeter:
    """This process's and its children's share of one core since the last call, in percent."""

    def __init__(self) -> None:
        self._last: tuple[float, dict[int, float]] | None = None

    def percent(self, now_mono_s: float, children: Iterable[int] = ()) -> float:
        """0 at the first call. `children`: the processes that run now; one that has ended no longer counts."""
        used_s = {pid: _cpu_s(pid) for pid in (os.getpid(), *children)}
        last, self._last = self._last, (now_mono_s, used_s)
        if last is None or now_mono_s <= last[0]:
            return 0.0
        busy_s = sum(max(0.0, now_s - last[1].get(pid, 0.0)) for pid, now_s in used_s.items())
        return round(100.0 * busy_s / (now_mono_s - last[0]), 1)


class MachineMeter:
    """How busy all cores of the machine were since the last call, in percent."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def percent(self) -> float | None:
        """None at the first call, and where the machine does not tell."""
        try:
            line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
        except OSError:
            return None
        ticks = [int(field) for field in line.split()[1:9]]  # user nice system idle iowait irq softirq steal
        total, idle = sum(ticks), ticks[3] + ticks[4]
        last, self._last = self._last, (total, idle)
        if last is None or total <= last[0]:
            return None
        return round(100.0 * (1.0 - (idle - last[1]) / (total - last[0])), 1)


def memory_free_mb() -> float | None:
    """What the machine can still give to programs, in MiB."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:")), None)


def memory_mb(pids: Iterable[int] = ()) -> float:
    """Proportional set size of this process and of `pids`, in MiB: shared pages count once among their users."""
    own: list[int | str] = ["self", *pids]
    return round(sum(map(_pss_kb, own)) / 1024, 1)


def children() -> list[int]:
    """The processes this one has started and that still run."""
    found: list[int] = []
    for task in Path("/proc/self/task").glob("*/children"):  # each thread lists the children it started
        try:
            found += map(int, task.read_text(encoding="ascii").split())
        except OSError:
            continue
    return found


def temperature_c() -> float | None:
    """The hottest thermal zone in degrees Celsius, None where the machine has none."""
    found = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text(encoding="ascii")) / 1000.0)
        except (OSError, ValueError):
            continue
    return max(found, default=None)


def disk_free_mb(folder: Path) -> float:
    """Free space where the node keeps its data, in MiB; 0 when the folder is gone."""
    try:
        return round(shutil.disk_usage(folder).free / 2**20, 1)
    except OSError:
        return 0.0


def hardware() -> dict[str, object]:
    """What the machine is."""
    return {
        "host": platform.node(),
        "arch": architecture(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_name(),
        "accelerators": list(accelerators()),
    }


def architecture() -> str:
    """By the name that models and selectors use, whatever the system calls it."""
    machine = platform.machine().lower()
    return {"aarch64": "arm64", "amd64": "x86_64"}.get(machine, machine)


def accelerators(root: Path = Path("/")) -> dict[str, int]:
    """What can run models beside the processor, with how many there are.

    By device files, as far as a host shows them: `edgetpu` (PCIe or USB), `gpu` (a render node), `nvidia`, `npu` (the
    kernel's accelerator devices, Hailo, Rockchip, Ethos-U).
    """
    dev = root / "dev"
    found = {
        "edgetpu": len(list(dev.glob("apex_*"))) + _usb(root, _EDGETPU_USB),
        "gpu": len(list(dev.glob("dri/renderD*"))),
        "nvidia": len(list(dev.glob("nvidia[0-9]*"))),
        "npu": sum(len(list(dev.glob(pattern))) for pattern in ("accel/accel*", "hailo*", "rknpu*", "ethosu*")),
    }
    return {kind: count for kind, count in found.items() if count}


def _usb(root: Path, wanted: frozenset[tuple[str, str]]) -> int:
    found = 0
    for device in root.glob("sys/bus/usb/devices/*/idVendor"):
        try:
            vendor, product = (path.read_text("ascii").strip() for path in (device, device.parent / "idProduct"))
        except (OSError, ValueError):
            continue
        found += (vendor, product) in wanted
    return found


def resources(folder: Path, root: Path = Path("/")) -> dict[str, float]:
    """Cores, memory and storage there are in all, and how many accelerators of each kind."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    try:
        storage = shutil.disk_usage(folder).total / 2**20
    except OSError:
        storage = 0.0
    plain = {
        "cores": float(os.cpu_count() or 1),
        "memory_mb": float(round(total)),
        "storage_mb": float(round(storage)),
    }
    there = accelerators(root)
    counts = {"gpu": max(there.get("gpu", 0), there.get("nvidia", 0)), "npu": there.get("npu", 0)}
    counts["tpu"] = there.get("edgetpu", 0)
    return plain | {kind: float(count) for kind, count in counts.items() if count}


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter here."""
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu_s(pid: int) -> float:
    """User and system time of one process, 0 when it is gone. See proc(5): fields 14 and 15 of stat."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    user, system = text.rpartition(")")[2].split()[11:13]  # the name in brackets may hold blanks
    return (int(user) + int(system)) / _CLOCK_TICKS


def _pss_kb(pid: int | str) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
