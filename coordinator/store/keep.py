"""How much of the rows is kept, and what is over. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keep:
    """Of a table. 0: no limit of this kind."""

    age_s: float = 0.0
    rows_max: int = 0
    bytes_max: int = 0


@dataclass(frozen=True, slots=True)
class Extent:
    """A table, or a part of one: how many rows at most, their bytes with indexes, and when the oldest one came."""

    rows: int = 0
    bytes: int = 0
    oldest_utc_ms: int = 0


@dataclass(frozen=True, slots=True)
class Excess:
    """What has to go: all that came before a time, and of what is left the oldest rows."""

    before_utc_ms: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a table, of rows that came from a time on and before another one."""

    name: str
    from_utc_ms: int
    until_utc_ms: int
    extent: Extent


def excess(keep: Keep, extent: Extent, now_utc_ms: int, whole_ms: int = 1) -> Excess:
    """What of a table is over. A row counts as large as the average one; by age whole spans of `whole_ms` go."""
    cut_ms = round(now_utc_ms - keep.age_s * 1000) // whole_ms * whole_ms if keep.age_s else 0
    before_ms = cut_ms if extent.rows and extent.oldest_utc_ms < cut_ms else 0
    over = max(0, extent.rows - keep.rows_max) if keep.rows_max else 0
    if keep.bytes_max and extent.bytes > keep.bytes_max:
        over = max(over, -(-(extent.bytes - keep.bytes_max) * extent.rows // extent.bytes))
    return Excess(before_ms, over)


def parts_over(keep: Keep, parts: list[Part], now_utc_ms: int) -> list[Part]:
    """Parts that can go whole: too old, or more than there may be in all. The one of now stays."""
    cut_ms = now_utc_ms - keep.age_s * 1000 if keep.age_s else 0
    rows, size = sum(part.extent.rows for part in parts), sum(part.extent.bytes for part in parts)
    found = []
    for part in sorted(parts, key=lambda part: part.from_utc_ms):
        if part.until_utc_ms > now_utc_ms:
            break
        left_rows, left_bytes = rows - part.extent.rows, size - part.extent.bytes
        too_many = (keep.rows_max and left_rows >= keep.rows_max) or (keep.bytes_max and left_bytes >= keep.bytes_max)
        if part.until_utc_ms > cut_ms and not too_many:
            break
        rows, size = left_rows, left_bytes
        found.append(part)
    return found
