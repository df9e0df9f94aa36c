"""One thread that looks after all cameras: a reader blocked in a read cannot notice its own stall."""

import threading
from collections.abc import Callable
from time import monotonic

Check = Callable[[float], None]
"""Called with monotonic seconds; quick, and must not raise."""


class Watchdog:
    """Calls every check about five times a second. The thread lives while there is something to check."""

    PERIOD_S = 0.2

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._checks: dict[object, Check] = {}
        self._empty = threading.Event()

    def watch(self, key: object, check: Check) -> None:
        with self._lock:
            self._checks[key] = check
            if len(self._checks) == 1:
                self._empty = threading.Event()
                threading.Thread(target=self._run, args=(self._empty,), name="capture-watchdog", daemon=True).start()

    def forget(self, key: object) -> None:
        with self._lock:
            self._checks.pop(key, None)
            if not self._checks:
                self._empty.set()

    def _run(self, empty: threading.Event) -> None:
        while not empty.wait(self.PERIOD_S):
            with self._lock:
                checks = list(self._checks.values())
            for check in checks:
                check(monotonic())
