"""Payloads and lines to samples. Pure.

A block is (n, channels) float64, raw: NaN where a value is missing, null or no number.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.sensors.settings import ChannelSettings

Block = NDArray[np.float64]
SAMPLES_MAX = 1_000_000  # of one message, all channels together
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


class PayloadError(Exception):
    """What came is not what the settings say."""


def steps(path: str) -> tuple[str | int, ...]:
    """`acc.x[2]` as ("acc", "x", 2). Raises PayloadError for what is no path."""
    found: list[str | int] = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise PayloadError(f"{path!r} is no path at character {at + 1}: write names and [numbers]")
        found.append(step[1] if step[1] is not None else int(step[2]))
        at = step.end()
    return tuple(found)


def block_of(payload: bytes, channels: Sequence[ChannelSettings]) -> tuple[Block, Any]:
    """The samples of a payload, and the payload itself for further questions. Raises PayloadError."""
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{len(payload)} bytes that are no JSON: {error}") from error
    columns = [_column(at(said, channel.path), channel) for channel in channels]
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise PayloadError(f"channels of {sorted(lengths)} samples: all of one length are wanted")
    if sum(map(len, columns)) > SAMPLES_MAX:
        raise PayloadError(f"{sum(map(len, columns))} samples in one message; at most {SAMPLES_MAX}")
    return np.column_stack(columns), said


def at(said: Any, path: str) -> Any:
    """What is found there. Raises PayloadError."""
    for step in steps(path):
        try:
            said = said[step]
        except (KeyError, IndexError, TypeError):
            raise PayloadError(f"there is no {path} in the payload (looking for {step!r})") from None
    return said


def _column(value: Any, channel: ChannelSettings) -> Block:
    values = value if isinstance(value, list) else [value]
    try:
        return np.array([number(one) for one in values], np.float64)
    except (TypeError, ValueError):
        raise PayloadError(
            f"channel {channel.name}: {str(value)[:60]!r} is no number and no list of numbers"
        ) from None


def number(value: Any) -> float:
    """NaN for null, an empty text and what calls itself so. Raises TypeError, ValueError."""
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool | int | float | str):
        return float(value)
    raise TypeError(f"{type(value).__name__} is no number")


def columns_of(header: Sequence[str], channels: Sequence[ChannelSettings]) -> tuple[list[int], bool]:
    """Which column each channel is, and whether `header` is a line of names. Raises PayloadError."""
    names = [name.strip() for name in header]
    is_header = any(_is_text(name) for name in names)
    found = []
    for channel in channels:
        if isinstance(channel.column, int):
            found.append(channel.column)
        elif channel.column in names:
            found.append(names.index(channel.column))
        else:
            raise PayloadError(f"channel {channel.name}: no column {channel.column!r} ({', '.join(names)[:200]})")
    return found, is_header


def row_of(cells: Sequence[str], columns: Sequence[int]) -> list[float]:
    """The channels' values of a line; NaN for a cell that is missing or no number."""
    return [_cell(cells[column]) if column < len(cells) else math.nan for column in columns]


def _cell(text: str) -> float:
    try:
        return number(text.strip())
    except ValueError:
        return math.nan


def _is_text(cell: str) -> bool:
    try:
        number(cell)
    except ValueError:
        return True
    return False


def scaled(block: Block, channels: Sequence[ChannelSettings]) -> tuple[Block, list[int]]:
    """In the sensor's unit, NaN for what is out of its range, and how many were so by channel."""
    scale = np.array([channel.scale for channel in channels])
    offset = np.array([channel.offset for channel in channels])
    low = np.array([-math.inf if channel.low is None else channel.low for channel in channels])
    high = np.array([math.inf if channel.high is None else channel.high for channel in channels])
    made = block * scale + offset
    outside = (made < low) | (made > high)
    return np.where(outside, math.nan, made), outside.sum(axis=0).tolist()
