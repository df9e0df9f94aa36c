"""For how long the coordinator has owed an answer. Pure; time is an argument."""

from dataclasses import dataclass


@dataclass(slots=True)
class Silence:
    """Begins when something is asked of a coordinator, or cannot be for want of one; ends with an answer."""

    answered_once: bool = False  # over this connection
    _since_s: float | None = None

    def asked(self, now_s: float) -> None:
        """Rows went out, or wait for a coordinator to be there."""
        if self._since_s is None:
            self._since_s = now_s

    def answered(self, now_s: float, *, still_asked: bool) -> None:
        """Something was answered; `still_asked`: other rows are not yet."""
        self.answered_once = True
        self._since_s = now_s if still_asked else None

    def lasts_s(self, now_s: float) -> float:
        """0 while nothing is owed."""
        return 0.0 if self._since_s is None else now_s - self._since_s
