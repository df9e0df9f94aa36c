"""Rates as decisions: which frames of a faster source to hand on, when to show a recorded one, what time it is in a
live stream."""

_SOURCE_STEP_SMOOTHING = 0.1


class Pacer:
    """Picks frames evenly so that `fps` of them a second go on; fps 0 lets everything through.

    Moments are due every 1/fps seconds and each goes to the frame nearest to it, so that a source as fast as the
    target loses nothing to jitter.
    """

    def __init__(self, fps: float) -> None:
        self._interval_s = 1.0 / fps if fps > 0 else 0.0
        self._due_s: float | None = None
        self._last_s = 0.0
        self._source_step_s = 0.0  # smoothed distance between the source's frames

    def admit(self, time_s: float) -> bool:
        """Whether the frame taken at `time_s` goes on."""
        if self._interval_s == 0.0:
            return True
        if self._due_s is None or time_s < self._last_s:
            self._due_s, self._last_s = time_s + self._interval_s, time_s
            return True
        step_s = min(time_s - self._last_s, self._interval_s)
        self._last_s = time_s
        if self._source_step_s == 0.0:
            self._source_step_s = step_s
        self._source_step_s += _SOURCE_STEP_SMOOTHING * (step_s - self._source_step_s)
        if time_s < self._due_s - self._source_step_s / 2:
            return False
        self._due_s += self._interval_s
        if self._due_s <= time_s:  # after a gap, or with a source slower than the target
            self._due_s = time_s + self._interval_s
        return True


class Replay:
    """When a recorded frame is due, so that a file plays at its own speed."""

    LATE_MAX_S = 1.0  # further behind than this the schedule starts anew instead of racing to catch up

    def __init__(self) -> None:
        self._offset_s: float | None = None

    def wait_s(self, time_s: float, now_s: float) -> float:
        """Seconds to wait at monotonic `now_s` before the frame of media time `time_s` is due."""
        if self._offset_s is None or now_s - (time_s + self._offset_s) > self.LATE_MAX_S:
            self._offset_s = now_s - time_s
        return max(0.0, time_s + self._offset_s - now_s)


class StreamClock:
    """A steady time for a live stream from the stream's own stamps, held to the monotonic clock.

    The stamps give even spacing where arrival jitters; the monotonic clock gives the truth over minutes. A slow
    difference is drift and is followed; a sudden one is a jump of the stamps: counted, and absorbed.
    Times never repeat or go back.
    """

    JUMP_S = 1.0
    FOLLOW = 0.02  # share of the difference taken over at each frame
    STEP_MIN_S = 1e-4

    def __init__(self) -> None:
        self.jumps = 0
        self._offset_s: float | None = None
        self._last_s: float | None = None

    def time_s(self, stamp_s: float | None, arrival_s: float) -> float:
        """The frame's time on the monotonic clock; `stamp_s` is None when the stream gives none."""
        time_s = arrival_s if stamp_s is None else self._follow(stamp_s, arrival_s)
        if self._last_s is not None and time_s < self._last_s + self.STEP_MIN_S:
            time_s = self._last_s + self.STEP_MIN_S
        self._last_s = time_s
        return time_s

    def _follow(self, stamp_s: float, arrival_s: float) -> float:
        if self._offset_s is None:
            self._offset_s = arrival_s - stamp_s
        error_s = arrival_s - (stamp_s + self._offset_s)
        if abs(error_s) > self.JUMP_S:
            self.jumps += 1
            self._offset_s = arrival_s - stamp_s
        else:
            self._offset_s += self.FOLLOW * error_s
        return stamp_s + self._offset_s
