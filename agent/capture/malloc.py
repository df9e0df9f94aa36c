"""Keeps the C library from giving each frame's memory back to the system and asking for it again."""

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory(kept_bytes_max: int = 16 << 20) -> bool:
    """Let the process keep that much freed memory for the next frame. False: this C library has no such switch.

    With glibc's defaults a picture of 300x300 RGB (270 kB) is returned to the system when it is freed, and costs 48
    page faults, about 0.1 ms, when the next one is made. Called once by the process that reads cameras, at its start.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, kept_bytes_max // 2) and mallopt(_M_TRIM_THRESHOLD, kept_bytes_max))
