"""Overall equipment effectiveness: which part of the planned time made good parts at full speed.

Nakajima, Introduction to TPM (1988); names and formulas of ISO 22400-2 (2014):
availability = running time / planned time, performance = ideal cycle time x parts / running time,
quality = good parts / parts, OEE = availability x performance x quality.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Oee:
    """Shares from 0 to 1, performance beyond 1 where the ideal cycle is beaten; None where there is nothing to
    divide by: nothing planned, not run, no part."""

    availability: float | None
    performance: float | None
    quality: float | None

    @property
    def oee(self) -> float | None:
        if self.availability == 0:
            return 0.0
        if self.availability is None or self.performance is None or self.quality is None:
            return None
        return self.availability * self.performance * self.quality


def oee(*, planned_s: float, stopped_s: float, ideal_cycle_s: float, parts: int, good: int) -> Oee:
    """`planned_s`: without breaks and planned stops. `stopped_s`: within it. `good`: at first pass, of `parts`.

    Raises ValueError for figures that cannot be.
    """
    if min(planned_s, stopped_s) < 0 or ideal_cycle_s <= 0 or not 0 <= good <= parts:
        raise ValueError(
            f"no OEE of {planned_s:g} s planned, {stopped_s:g} s stopped, an ideal cycle of {ideal_cycle_s:g} s, "
            f"{good} good of {parts} parts"
        )
    running_s = max(0.0, planned_s - stopped_s)
    return Oee(
        running_s / planned_s if planned_s else None,
        ideal_cycle_s * parts / running_s if running_s else None,
        good / parts if parts else None,
    )


def takt_s(available_s: float, demand: int) -> float | None:
    """Seconds a part may take so that the demand is met; None without a demand."""
    return available_s / demand if demand > 0 else None
