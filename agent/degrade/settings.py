"""`[degradation]`: at which figures the node does less, and for how long a figure must hold."""

from dataclasses import dataclass
from typing import Annotated

from schemas.shape import Limit

Percent = Annotated[float, Limit(ge=0, le=100)]
Positive = Annotated[float, Limit(ge=0, le=1e9)]


@dataclass(frozen=True, slots=True)
class DegradationSettings:
    """Each figure steps down beyond its `max` (below its `min`) and back up at its `ok`."""

    enabled: bool = True
    check_s: Annotated[float, Limit(ge=0.05, le=60)] = 5.0
    down_after_s: Annotated[float, Limit(ge=0, le=3600)] = 30.0
    up_after_s: Annotated[float, Limit(ge=0, le=86400)] = 120.0
    cpu_percent_max: Percent = 95.0  # of all cores together
    cpu_percent_ok: Percent = 80.0
    loop_late_ms_max: Positive = 250.0
    loop_late_ms_ok: Positive = 50.0
    temperature_c_max: Annotated[float, Limit(ge=0, le=150)] = 85.0
    temperature_c_ok: Annotated[float, Limit(ge=0, le=150)] = 75.0
    memory_free_mb_min: Positive = 64.0
    memory_free_mb_ok: Positive = 128.0
    disk_free_mb_min: Positive = 256.0
    disk_free_mb_ok: Positive = 512.0
    backlog_rows_max: Positive = 100_000.0
    backlog_rows_ok: Positive = 50_000.0

    def mistakes(self) -> list[str]:
        """What the shape alone does not show: a figure that is fine must lie on the far side of one that is not."""
        upper = ("cpu_percent", "loop_late_ms", "temperature_c", "backlog_rows")
        wrong = [
            f"{name}_ok: must be below {name}_max"
            for name in upper
            if getattr(self, f"{name}_ok") >= getattr(self, f"{name}_max")
        ]
        return wrong + [
            f"{name}_ok: must be above {name}_min"
            for name in ("memory_free_mb", "disk_free_mb")
            if getattr(self, f"{name}_ok") <= getattr(self, f"{name}_min")
        ]
