"""What goes wrong, with whom and when: a plan that follows from the seed alone. Pure.

A fault is written `KIND:SHARE%@TIME[+LENGTH]`, once at a time of the run, or `KIND:SHARE%/EVERY[+LENGTH]`: that share
of the nodes in each such span, each at a moment of its own.
"""

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.language.scalars import duration_s

STRIKES_MAX = 2_000_000


class FaultKind(StrEnum):
    """What becomes of the node, and what it does after `lasts_s`."""

    DROP = "drop"  # the connection is reset; it comes back after that long, or the back-off
    HALF_OPEN = "half-open"  # the socket stays, nothing is sent or read; then it finds out, and comes back
    SLOW = "slow"  # it sends as ever and reads nothing; then it reads all
    REBOOT = "reboot"  # it says goodbye; then it is back with the next boot
    KILL = "kill"  # the process is gone without a word, and its outbox not closed in order; then as with reboot
    FLAP = "flap"  # dropped every FLAP_EVERY_S; then it stays
    CUT = "cut"  # the connection is reset and no other is made; then it comes back, spread over SPREAD_S


LASTS_S: dict[FaultKind, float] = {
    FaultKind.DROP: 0.0,
    FaultKind.HALF_OPEN: 60.0,  # longer than the broker's 1.5 keep-alives
    FaultKind.SLOW: 10.0,
    FaultKind.REBOOT: 10.0,
    FaultKind.KILL: 20.0,
    FaultKind.FLAP: 60.0,
    FaultKind.CUT: 60.0,
}
"""Where the text says nothing."""

FLAP_EVERY_S = 5.0
SPREAD_S = 1.0

_TEXT = re.compile(r"([a-z-]+):(\d{1,3}(?:\.\d{1,6})?)%([@/])([0-9a-z.]+)(?:\+([0-9a-z.]+))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the scenario: at `at_s` of the run, or in each `every_s` of it."""

    kind: FaultKind
    share: float
    at_s: float | None
    every_s: float | None
    lasts_s: float


@dataclass(frozen=True, slots=True, order=True)
class Strike:
    """A fault of one node. `node` is its number."""

    at_s: float
    node: int
    kind: FaultKind
    lasts_s: float


def parse_fault(text: str) -> Fault:
    """Raises ValueError that says what would be right."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is no fault; write one like drop:5%@60s or half-open:1%/2m+90s")
    kind_text, share_text, how, when_text, lasts_text = found.groups()
    if kind_text not in {kind.value for kind in FaultKind}:
        raise ValueError(f"{text!r}: there is no fault {kind_text}; there are {', '.join(FaultKind)}")
    kind, share = FaultKind(kind_text), float(share_text) / 100
    when_s, lasts_s = duration_s(when_text), LASTS_S[kind] if lasts_text is None else duration_s(lasts_text)
    if not 0 < share <= 1:
        raise ValueError(f"{text!r}: a share is more than 0% and at most 100%")
    if when_s is None or lasts_s is None:
        raise ValueError(f"{text!r}: times are like 90s, 5m or 1h30m")
    if how == "/" and when_s < 1:
        raise ValueError(f"{text!r}: a rate is for a second or more")
    return Fault(kind, share, when_s if how == "@" else None, when_s if how == "/" else None, lasts_s)


def plan(faults: Sequence[Fault], nodes: int, until_s: float, seed: int) -> list[Strike]:
    """Every strike of a run in order of time; the same for the same arguments. Raises ValueError for too many."""
    if sum(_spans(fault, until_s) * _count(fault, nodes) for fault in faults) > STRIKES_MAX:
        raise ValueError(f"they come to more than {STRIKES_MAX} strikes; make the run or the shares smaller")
    found: list[Strike] = []
    for number, fault in enumerate(faults):
        dice = random.Random(f"{seed}/fault/{number}/{fault.kind}")
        found += _strikes(fault, nodes, until_s, dice)
    return sorted(found)


def _count(fault: Fault, nodes: int) -> int:
    return max(1, round(fault.share * nodes))


def _spans(fault: Fault, until_s: float) -> int:
    return 1 if fault.every_s is None else math.ceil(until_s / fault.every_s)


def _strikes(fault: Fault, nodes: int, until_s: float, dice: random.Random) -> Iterator[Strike]:
    begin_s, span_s = fault.at_s or 0.0, fault.every_s or 0.0
    for _ in range(_spans(fault, until_s)):
        for node in dice.sample(range(nodes), _count(fault, nodes)):
            at_s = begin_s + span_s * dice.random() if span_s else begin_s
            if at_s < until_s:
                yield Strike(at_s, node, fault.kind, fault.lasts_s)
        begin_s += span_s
