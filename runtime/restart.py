"""When a failed task starts again, and when it has failed too often. Pure: time and jitter are arguments."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often and how fast one task may be started again.

    The delay doubles with each failure inside the window, from `backoff_first_s` up to `backoff_max_s`.
    One failure more than `restarts_max` inside the window and the task gives up; None means it never does.
    """

    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0
    restarts_max: int | None = 5
    window_s: float = 120.0
    jitter_share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.backoff_first_s <= self.backoff_max_s:
            raise ValueError(f"backoff must be 0 < first <= max, not {self.backoff_first_s} and {self.backoff_max_s}")
        if self.restarts_max is not None and self.restarts_max < 0:
            raise ValueError(f"restarts_max must be 0 or more, not {self.restarts_max}")
        if self.window_s <= 0 or not 0 <= self.jitter_share <= 1:
            raise ValueError(
                f"window_s must be positive and jitter_share in 0..1: {self.window_s}, {self.jitter_share}"
            )


@dataclass(frozen=True, slots=True)
class FailureHistory:
    """The failures that still count, oldest first."""

    failed_mono_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again after `delay_s`; hand `history` in at the next failure."""

    delay_s: float
    history: FailureHistory


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not start again: `failures` inside the window are more than the policy allows."""

    failures: int


# Bounds the history of a task that never gives up; the back-off has reached its maximum long before.
_FAILURES_KEPT = 64


def after_failure(
    policy: RestartPolicy, history: FailureHistory, now_mono_s: float, jitter: float
) -> Restart | GiveUp:
    """Decide what follows a failure at `now_mono_s`. `jitter` is a number in 0..1: 0 waits longest."""
    recent = tuple(at for at in history.failed_mono_s if now_mono_s - at < policy.window_s)
    recent = (*recent, now_mono_s)
    if policy.restarts_max is not None and len(recent) > policy.restarts_max:
        return GiveUp(len(recent))
    if policy.restarts_max is None:
        recent = recent[-_FAILURES_KEPT:]
    backoff_s = min(policy.backoff_max_s, policy.backoff_first_s * 2 ** (len(recent) - 1))
    return Restart(backoff_s * (1 - policy.jitter_share * jitter), FailureHistory(recent))
