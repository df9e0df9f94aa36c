"""The machine's clocks: the one place that reads them for `runtime.timeline`."""

import time
from pathlib import Path

from runtime.timeline import MachineTime

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_time() -> MachineTime:
    """Now. A machine that does not name its start gets its clocks read as one that was never started anew."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    steady_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    return MachineTime(boot, steady_ms, time.time_ns() // 1_000_000)
