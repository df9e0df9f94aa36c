"""When a device is asked next. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.sensors.settings import ChannelSettings, Number, Table

WORDS = {
    Number.INT16: 1,
    Number.UINT16: 1,
    Number.INT32: 2,
    Number.UINT32: 2,
    Number.FLOAT32: 2,
    Number.FLOAT64: 4,
}
SPAN_MAX = 120  # registers of one request; the protocol allows 125
GAP_MAX = 16  # registers between two channels that are read along with them


class Pace:
    """At even distances; what cannot be kept up with is left out, not made up for."""

    def __init__(self, every_s: float, now_s: float) -> None:
        self._every_s, self._due_s = every_s, now_s
        self.missed_total = 0

    def wait_s(self, now_s: float) -> float:
        """Until the next time, which this chooses."""
        self._due_s += self._every_s
        if self._due_s < now_s:
            missed = int((now_s - self._due_s) / self._every_s) + 1
            self.missed_total += missed
            self._due_s += missed * self._every_s
        return self._due_s - now_s


@dataclass(frozen=True, slots=True)
class Span:
    """Registers that one request reads, and the channels in them."""

    table: Table
    first: int
    count: int
    channels: tuple[int, ...]


def spans(channels: Sequence[ChannelSettings]) -> list[Span]:
    """As few requests as possible: neighbours are read together."""
    order = sorted(range(len(channels)), key=lambda n: (channels[n].table.value, channels[n].register))
    found: list[Span] = []
    for n in order:
        one = channels[n]
        end = one.register + WORDS[one.number]
        last = found[-1] if found else None
        if (
            last is not None
            and last.table is one.table
            and one.register <= last.first + last.count + GAP_MAX
            and end - last.first <= SPAN_MAX
        ):
            found[-1] = Span(last.table, last.first, max(last.count, end - last.first), (*last.channels, n))
        else:
            found.append(Span(one.table, one.register, end - one.register, (n,)))
    return found
