"""A simulation for people: one line while it runs, a table at its end."""

from types import TracebackType
from typing import Any, TextIO

from coordinator.ctl.tables import pairs
from coordinator.simulate.fleet import Look

LINE_EVERY_S = 10.0  # where there is no terminal


class Live:
    """Writes over one line of a terminal; into a file now and then a line, where `every_line` asks for it."""

    def __init__(self, out: TextIO, *, every_line: bool) -> None:
        self._out = out
        self._every_line = every_line
        self._said_s = -LINE_EVERY_S
        self._before: Look | None = None

    def __enter__(self) -> "Live":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._out.isatty():
            self._out.write("\r\x1b[K")
            self._out.flush()

    def show(self, look: Look) -> None:
        """Once a second."""
        before, self._before = self._before or look, look
        text = line(before, look)
        if self._out.isatty():
            self._out.write(f"\r\x1b[K{text[:200]}")
        elif self._every_line and look.since_s >= self._said_s + LINE_EVERY_S:
            self._said_s = look.since_s
            self._out.write(f"{text}\n")
        self._out.flush()


def line(before: Look, look: Look) -> str:
    """How it stands, with rates since the look before."""
    now, then = look.figures, before.figures
    step_s = max(1e-9, look.since_s - before.since_s)
    if look.since_s < 0 or not now.nodes:
        return "starting"
    late = now.lag.percentile_ms(0.99)
    parts = [
        f"{look.since_s:4.0f} s" + (", draining" if look.draining else ""),
        f"{now.connected_now} of {now.nodes} connected",
        f"{max(0, now.connects - now.nodes)} reconnects",
        f"{now.sent} rows sent ({(now.sent - then.sent) / step_s:.0f}/s)",
        f"{now.acked} answered",
        f"{now.waiting_now} wait",
        f"p99 {now.live.percentile_ms(0.99) or 0:.0f} ms",
        f"we lag {late or 0:.0f} ms",
    ]
    return ", ".join(parts)


def summary(found: dict[str, Any]) -> str:
    """The report as a table; what nobody asked for or could know is left out."""
    return pairs([(name, str(value)) for name, value in found.items() if value is not None and value != ""])
