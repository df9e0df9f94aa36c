"""Values as aligned text for people. Pure; now is an argument."""

from collections.abc import Sequence
from datetime import datetime


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the last one is not padded."""
    cells = [[printable(cell) for cell in row] for row in [titles, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(titles))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """`name  value` lines."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name.ljust(width)}  {printable(value)}".rstrip() for name, value in rows)


def local_time(utc_ms: int) -> str:
    """The local calendar's time, to the second; empty for never."""
    if not 0 < utc_ms < 253_402_300_800_000:
        return ""
    return datetime.fromtimestamp(utc_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age(utc_ms: int, now_utc_ms: int) -> str:
    """How long ago: 4s, 3m, 5h, 2d; `-` for never.

    >>> age(1_000, 61_000)
    '60s'
    """
    if utc_ms <= 0:
        return "-"
    seconds = max(0, now_utc_ms - utc_ms) // 1000
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds // length_s}{unit}"
    return f"{seconds}s"


def printable(text: str) -> str:
    """On one line, and nothing in it that a terminal would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
