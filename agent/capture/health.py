"""Is this stream alive? Decided from times and tiny pictures, with no clock of its own."""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

Fingerprint = NDArray[np.uint8]
"""(k,) uint8, luma of the same k points of each picture."""


class Health(Enum):
    GOOD = "good"
    STALLED = "stalled"  # a read has been waiting for longer than allowed
    FROZEN = "frozen"  # frames come, and all show the same picture


class StreamWatch:
    """Told when a read begins and ends and now and then what the picture looks like; asked how the stream is.

    Only waiting for the source counts as a stall: time spent handing a frame on does not.
    Pictures are the same when hardly a point differs: an encoder that repeats one picture changes none or few of
    them a little at key frames, while the noise of a sensor moves many points of a live picture, however still the
    scene.
    """

    LOOK_EVERY_S = 0.5
    POINT_DIFFERENCE_MAX = 2  # levels of 256
    POINTS_DIFFERENT_MAX = 0.01  # share of points that may differ by more

    def __init__(self, frozen_after_s: float) -> None:
        self._frozen_after_s = frozen_after_s
        self._deadline_s: float | None = None
        self._reference: Fingerprint | None = None
        self._same_since_s = 0.0
        self._look_next_s = float("-inf")
        self._frozen = False

    def read_began(self, deadline_s: float) -> None:
        """The reader waits for the source from now on, and at `deadline_s` that is a stall."""
        self._deadline_s = deadline_s

    def read_ended(self) -> None:
        """The reader is no longer waiting."""
        self._deadline_s = None

    def reconnected(self) -> None:
        """A new connection: stillness counts from here, except that a frozen picture stays frozen until it moves."""
        self._look_next_s = float("-inf")
        if not self._frozen:
            self._reference = None

    def wants_look(self, now_s: float) -> bool:
        """Whether it is time to show a fingerprint."""
        return self._frozen_after_s > 0 and now_s >= self._look_next_s

    def look(self, now_s: float, fingerprint: Fingerprint) -> None:
        """What the newest picture looks like."""
        self._look_next_s = now_s + self.LOOK_EVERY_S
        if self._reference is None or not self._same(self._reference, fingerprint):
            self._reference = fingerprint
            self._same_since_s = now_s
            self._frozen = False
        elif now_s - self._same_since_s >= self._frozen_after_s:
            self._frozen = True

    def health(self, now_s: float) -> Health:
        deadline_s = self._deadline_s  # one read: the reader thread may end the wait meanwhile
        if deadline_s is not None and now_s >= deadline_s:
            return Health.STALLED
        return Health.FROZEN if self._frozen else Health.GOOD

    def _same(self, before: Fingerprint, now: Fingerprint) -> bool:
        if before.shape != now.shape:
            return False
        difference = np.abs(before.astype(np.int16) - now.astype(np.int16))
        return bool((difference > self.POINT_DIFFERENCE_MAX).mean() <= self.POINTS_DIFFERENT_MAX)
