"""Parts on their way through the picture: each followed from where it comes in to where it goes out.

entry                gate                 exit          along the way of parts
  |                    |                    |
  [==== part 8        ]|                    |           judged when its middle passes the gate
  |                 [==|= part 7 ====]      |           judged already
"""

import math
from dataclasses import dataclass

from platforms.manufacturing.inspection.picture import Look, Span
from platforms.manufacturing.inspection.settings import Moves, PartSettings

KEEP_S = 3.0  # a part not seen for so long has gone; until then it is looked for where it must be by its speed
AGE_SHARE = 0.5  # of an overlap that it costs not to have been seen for KEEP_S
OVERLAP_MIN = 0.3  # of the shorter one: then two stretches are one part
WAY_MIN_PX = 4.0  # moved since it came in: then its direction is known
SPEED_SHARE = 0.3  # weight of the newest step in the speed
MISSED_MAX = 3  # pictures without it, where it should be: it was taken away
FOLLOWED_MAX = 32


@dataclass(slots=True)
class Followed:
    """A part that is followed. `number` counts from 1 and is never used again.

    initial: it was in the first picture. late: and beyond the gate there already
    returned: it has come back in at the exit
    length: of the whole part, pixels, as far as it is known
    """

    number: int
    span: Span
    seen_s: float
    first: Span
    initial: bool = False
    late: bool = False
    returned: bool = False
    length: float = 0.0
    moved_px: float = 0.0
    missed: int = 0  # pictures in a row that show where it should be, and not it

    def offset(self, span: Span) -> float:
        """Where the part begins, pixels, also where its beginning is out of view."""
        if span.cut_start and not span.cut_end and self.length:
            return span.end - self.length
        return span.start


class Follower:
    """Told of each picture's stretches in the order of time."""

    def __init__(self, settings: PartSettings) -> None:
        self._settings = settings
        self._direction = _DIRECTIONS[settings.moves]  # +1: towards larger pixels; 0: not known yet
        self._speed_px_s = 0.0
        self._parts: list[Followed] = []
        self._next = 1
        self._began = False
        self._extent = (0.0, 0.0)

    @property
    def direction(self) -> int:
        return self._direction

    def vanished(self, part: Followed) -> bool:
        """Whether a part that has gone was taken away, or was none, rather than moved on while nobody could see."""
        return part.missed >= MISSED_MAX or self._direction == 0

    def see(self, time_s: float, look: Look) -> tuple[list[Followed], list[Followed]]:
        """The parts that are in this picture, and those that have gone for good."""
        self._extent = look.extent
        before = self._parts
        pairs = self._pairs(time_s, look.spans)
        here = [self._moved(part, span, time_s) for part, span in pairs]
        taken = {id(span) for _, span in pairs}
        for span in look.spans:
            if id(span) not in taken and len(before) + len(here) < FOLLOWED_MAX:
                here.append(self._new(span, time_s))
        missing = [part for part in before if all(part is not other for other, _ in pairs)]
        for part in missing:
            part.missed += 1
        gone = [part for part in missing if self._has_gone(part, time_s)]
        self._parts = here + [part for part in missing if all(part is not other for other in gone)]
        self._began = True
        return here, gone

    def passed_gate(self, part: Followed) -> bool:
        """Whether its middle has reached the gate; False while nobody knows which way it goes."""
        if self._direction == 0 or part.late or part.returned:
            return False
        return self._way(part.span.middle) >= self._settings.gate

    def _way(self, at: float) -> float:
        start, end = self._extent
        share = (at - start) / max(end - start, 1.0)
        return share if self._direction >= 0 else 1.0 - share

    def _pairs(self, time_s: float, spans: tuple[Span, ...]) -> list[tuple[Followed, Span]]:
        """Which stretch is which part: the largest overlaps with where they must be by now, each once."""
        likely = []
        for part in self._parts:
            ahead = self._speed_px_s * min(max(time_s - part.seen_s, 0.0), KEEP_S)
            for span in spans:
                shared = min(part.span.end + ahead, span.end) - max(part.span.start + ahead, span.start)
                overlap = shared / max(min(part.span.length, span.length), 1.0)
                if overlap >= OVERLAP_MIN:
                    likely.append((overlap - AGE_SHARE * (time_s - part.seen_s) / KEEP_S, part, span))
        likely.sort(key=lambda one: (-one[0], one[1].number))
        pairs: list[tuple[Followed, Span]] = []
        for _, part, span in likely:
            if all(part is not other and span is not taken for other, taken in pairs):
                pairs.append((part, span))
        return sorted(pairs, key=lambda pair: pair[0].number)

    def _moved(self, part: Followed, span: Span, time_s: float) -> Followed:
        step = _step(part.span, span)
        passed_s = time_s - part.seen_s
        if step is not None and passed_s > 0:
            part.moved_px += step
            self._speed_px_s += SPEED_SHARE * (step / passed_s - self._speed_px_s)
            if self._direction == 0 and abs(part.moved_px) >= WAY_MIN_PX:
                self._direction = int(math.copysign(1, part.moved_px))
                for one in (part, *self._parts):
                    one.late = one.initial and self._way(one.first.middle) > self._settings.gate
        if span.complete:
            part.length = span.length
        else:
            part.length = max(part.length, span.length)
        part.span, part.seen_s, part.missed = span, time_s, 0
        return part

    def _new(self, span: Span, time_s: float) -> Followed:
        part = Followed(self._next, span, time_s, span, not self._began, length=span.length)
        self._next += 1
        if self._direction:
            at_exit, at_entry = span.cut_end, span.cut_start
            if self._direction < 0:
                at_exit, at_entry = at_entry, at_exit
            beyond = self._way(span.middle) > self._settings.gate
            part.late = not self._began and beyond
            part.returned = self._began and at_exit and not at_entry
        return part

    def _has_gone(self, part: Followed, time_s: float) -> bool:
        passed_s = time_s - part.seen_s
        if passed_s > KEEP_S or passed_s < 0:
            return True
        ahead = self._speed_px_s * passed_s
        start, end = self._extent
        return part.span.end + ahead <= start + 2 or part.span.start + ahead >= end - 2


_DIRECTIONS = {Moves.AUTO: 0, Moves.LEFT: -1, Moves.UP: -1, Moves.RIGHT: 1, Moves.DOWN: 1}


def _step(before: Span, now: Span) -> float | None:
    """Pixels that a part has moved, by an end of it that is in view both times."""
    if not (before.cut_start or now.cut_start):
        return now.start - before.start
    if not (before.cut_end or now.cut_end):
        return now.end - before.end
    return None
