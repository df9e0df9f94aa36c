"""A simulator of lines, for machines without GPIO: the levels stand in a JSON file, with their history."""

import json
import time
from pathlib import Path

from agent.actions.runner import ActionError

HISTORY_MAX = 1000  # newest changes kept


class FakeLine:
    """A line of `fake:/path/state.json`, inactive at first: {"3": {"level": 0, "held": true, "history": [0]}}."""

    def __init__(self, path: Path, line: int | str, *, active_low: bool) -> None:
        """Raises ActionError."""
        self._path = path
        self._key = str(line)
        self._active_low = active_low
        self._history: list[int] = []
        self._held = True
        self.set(False)

    def set(self, active: bool) -> None:
        self._history = [*self._history, int(active != self._active_low)][-HISTORY_MAX:]
        self._write()

    def release(self) -> None:
        self._held = False
        self._write()

    def _write(self) -> None:
        """Whole or not at all: others read along."""
        try:
            known = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
            known[self._key] = {"level": self._history[-1], "held": self._held, "history": self._history}
            beside = self._path.with_suffix(".new")
            beside.write_text(json.dumps(known), encoding="utf-8")
            beside.replace(self._path)
        except (OSError, ValueError) as error:
            raise ActionError(f"simulated gpio {self._path}: {error}") from error


class FakeInput:
    """An input line of the same file: whoever appends levels to its `history` drives it."""

    LOOK_EVERY_S = 0.005

    def __init__(self, path: Path, line: int | str, *, active_low: bool) -> None:
        self._path = path
        self._key = str(line)
        self._active_low = active_low
        self._read = len(self._history())

    def wait(self, timeout_s: float) -> list[int]:
        """As `GpiodInput.wait`. Raises ActionError."""
        until_s = time.monotonic() + timeout_s
        while True:
            history = self._history()
            self._read = min(self._read, len(history))  # it began anew
            rises = [
                i
                for i in range(max(self._read, 1), len(history))
                if self._active(history[i]) and not self._active(history[i - 1])
            ]
            self._read = len(history)
            if rises or time.monotonic() >= until_s:
                return [time.monotonic_ns()] * len(rises)
            time.sleep(self.LOOK_EVERY_S)

    def release(self) -> None:
        """Nothing is held."""

    def _active(self, level: int) -> bool:
        return bool(level) != self._active_low

    def _history(self) -> list[int]:
        try:
            known = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
            return [int(level) for level in known.get(self._key, {}).get("history", [])]
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ActionError(f"simulated gpio {self._path}: {error}") from error
