"""How many of a camera's frames a pipeline takes: all, each n-th, or none for a while."""


class Throttle:
    """One pipeline's. Set on the loop, asked by the camera's thread; it outlives restarts of the camera."""

    def __init__(self) -> None:
        self.divisor = 1  # each n-th frame is taken
        self.paused = False  # by degradation
        self.disabled = False  # by desired state or a local operator
        self.skipped_total = 0  # frames not taken because of either; not counted as replaced
        self._count = 0

    def takes(self) -> bool:
        """Whether this frame is taken; called once a frame."""
        self._count += 1
        if self.paused or self._count % self.divisor:
            self.skipped_total += 1
            return False
        return True
