"""What is dropped next from what is kept here: by free disk, by bytes, by age; the raw results first. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from agent.results.settings import MIB, ResultsSettings


class Tier(StrEnum):
    """What is kept, most expendable first."""

    RAW = "raw"
    AGGREGATES = "aggregates"


@dataclass(frozen=True, slots=True)
class Kept:
    """What there is now. Times in seconds of the agent's run time; `used_bytes` without what is free in the file."""

    run_s: float
    used_bytes: int
    disk_free_bytes: int
    raw_rows: int = 0
    raw_oldest_s: float = 0.0
    aggregate_rows: int = 0
    aggregate_oldest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """Drop the `rows` oldest of a tier: of those from before `before_s`, or however old they are."""

    tier: Tier
    reason: str
    rows: int
    before_s: float | None = None


def next_cut(settings: ResultsSettings, kept: Kept, *, short: bool) -> Cut | None:
    """What goes now; None when all may stay. `short`: raw results have their short time only."""
    for reason, over_bytes in (
        ("disk", settings.disk_free_mb_min * MIB - kept.disk_free_bytes),
        ("bytes", kept.used_bytes - settings.bytes_max),
    ):
        if over_bytes > 0 and kept.raw_rows:
            return Cut(Tier.RAW, reason, _rows(kept, over_bytes))
        if over_bytes > 0 and kept.aggregate_rows:
            return Cut(Tier.AGGREGATES, reason, _rows(kept, over_bytes))
    raw_hours = min(settings.raw_hours, settings.raw_short_hours) if short else settings.raw_hours
    raw_before_s = kept.run_s - raw_hours * 3600.0
    if kept.raw_rows and kept.raw_oldest_s < raw_before_s:
        return Cut(Tier.RAW, "age", kept.raw_rows, raw_before_s)
    aggregates_before_s = kept.run_s - settings.aggregate_days * 24 * 3600.0
    if kept.aggregate_rows and kept.aggregate_oldest_s < aggregates_before_s:
        return Cut(Tier.AGGREGATES, "age", kept.aggregate_rows, aggregates_before_s)
    return None


def _rows(kept: Kept, over_bytes: float) -> int:
    """About as many rows as take so many bytes, and a few more: room for what comes before the next look."""
    each = max(1.0, kept.used_bytes / (kept.raw_rows + kept.aggregate_rows))
    return 1 + int(1.1 * over_bytes / each)


def has_room(settings: ResultsSettings, disk_free_bytes: int) -> bool:
    """False while the disk is so full that nothing more is written here."""
    return disk_free_bytes >= settings.disk_free_mb_min * MIB
