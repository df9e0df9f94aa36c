"""How many of a camera's frames a pipeline takes: all, each n-th, or none for a while."""


class Throttle:
    """One pipeline's. Set on the loop, asked by the camera's thread; it outlives restarts of the camera."""

    def __init__(self) -> None:
        self.divisor = 1  # each n-th frame is taken
        self.paused = False  # by degradation
        self.disabled = False  # by desired state or a local operator
        self.skipped_total = 0  # frames not taken because of either; not counted as replaced
        self.fps_max = 0.0  # frames a second, by the time they were captured; 0: all
        self._count = 0
        self._due_s = 0.0

    def is_due(self, time_s: float) -> bool:
        """Whether a frame of this capture time is within `fps_max`; called once a frame, in a recording too."""
        if not self.fps_max:
            return True
        interval_s = 1.0 / self.fps_max
        if self._due_s - interval_s <= time_s < self._due_s - 0.05 * interval_s:
            self.skipped_total += 1
            return False
        late = time_s - self._due_s
        self._due_s = (self._due_s if 0 <= late < interval_s else time_s) + interval_s
        return True

    def takes(self) -> bool:
        """Whether this frame is taken; called once a frame."""
        self._count += 1
        if self.paused or self._count % self.divisor:
            self.skipped_total += 1
            return False
        return True
