"""One scalar value: what it becomes once it is read, whether it is within limits, and the words for both. Pure."""

import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from schemas.language.json_schema import BASE64, DURATION, MOMENT
from schemas.language.schema import Kind, Limits

INTEGER_LEAST, INTEGER_MOST = -(2**63), 2**63 - 1
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(DURATION)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN_CHARS = 60


def coerced(kind: Kind, raw: object) -> Any:
    """The value as it is once read; None where it is none of this kind."""
    match kind:
        case Kind.STRING:
            return str(raw) if isinstance(raw, str) else None
        case Kind.BYTES:
            return str(raw) if isinstance(raw, str) and re.fullmatch(BASE64, raw) else None
        case Kind.BOOLEAN:
            return raw if isinstance(raw, bool) else None
        case Kind.INTEGER:
            return _whole(raw)
        case Kind.FLOAT:
            return _number(raw)
        case Kind.DURATION:
            return duration_s(raw) if isinstance(raw, str) else _number(raw)
        case Kind.TIMESTAMP:
            value = moment_utc_ms(raw) if isinstance(raw, str) else _whole(raw)
            return value if value is not None and value >= 0 else None
    return None


def is_whole(raw: object) -> bool:
    """Whether it is a whole number, and no truth value."""
    return isinstance(raw, int) and not isinstance(raw, bool)


def _whole(raw: object) -> int | None:
    if isinstance(raw, float) and math.isfinite(raw) and raw.is_integer():
        raw = int(raw)
    if not isinstance(raw, int) or isinstance(raw, bool):
        return None
    return int(raw) if INTEGER_LEAST <= raw <= INTEGER_MOST else None


def _number(raw: object) -> float | None:
    if not isinstance(raw, int | float) or isinstance(raw, bool):
        return None
    try:
        value = float(raw)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def duration_s(text: str) -> float | None:
    """The seconds of `5m` or `1h30m`; None for anything else."""
    if len(text) > 100 or not _DURATION.fullmatch(text):
        return None
    value = sum(float(amount) * _UNITS_S[unit] for amount, unit in _DURATION_PART.findall(text))
    return value if math.isfinite(value) else None


def moment_utc_ms(text: str) -> int | None:
    """The UTC milliseconds of an RFC 3339 time; None for anything else."""
    if len(text) > 50 or not re.fullmatch(MOMENT, text):
        return None
    try:
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None


def is_within(limits: Limits, value: float) -> bool:
    """Whether a number keeps to its range."""
    return not (
        (limits.least is not None and value < limits.least) or (limits.most is not None and value > limits.most)
    )


def is_unicode(text: str) -> bool:
    """False for one that holds half a character, which JSON can spell and nothing can store."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=1000)
def compiled(pattern: str) -> re.Pattern[str]:
    """Once each."""
    return re.compile(pattern)


def show(raw: object) -> str:
    """A value in a message."""
    try:
        text = (
            repr(raw)
            if not isinstance(raw, dict | list) or len(raw) <= 20
            else f"a {type(raw).__name__} of {len(raw)}"
        )
    except (ValueError, RecursionError):
        text = f"a {type(raw).__name__} of extreme size"
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


# ---- words --------------------------------------------------------------------------------------


def wanted(kind: Kind, limits: Limits, unit: str) -> str:
    """What a value has to be."""
    match kind:
        case Kind.STRING:
            return f"a text{span(limits.length_least, limits.length_most, 'characters')}"
        case Kind.BYTES:
            return f"bytes as text in base64{span(limits.length_least, limits.length_most, 'characters')}"
        case Kind.BOOLEAN:
            return "true or false"
        case Kind.INTEGER:
            return f"a whole number{span(limits.least, limits.most, unit)}" + (
                " of 64 bits" if limits == Limits() else ""
            )
        case Kind.FLOAT:
            return f"a number{span(limits.least, limits.most, unit)}"
        case Kind.DURATION:
            return f"a length of time, as seconds or such as 1h30m{span(limits.least, limits.most, unit or 's')}"
        case Kind.TIMESTAMP:
            within = span(limits.least, limits.most, "ms")
            return f"a time, as UTC milliseconds or such as 2026-11-24T12:00:00Z{within}"
        case Kind.JSON:
            return "any value"


def span(least: float | None, most: float | None, unit: str) -> str:
    """` from 0 to 1 m`, or less of that."""
    named = f" {unit}" if unit else ""
    if least is not None and most is not None:
        return f" from {least:.15g} to {most:.15g}{named}"
    if least is not None:
        return f" of at least {least:.15g}{named}"
    if most is not None:
        return f" of at most {most:.15g}{named}"
    return f" ({unit})" if unit and unit not in ("characters", "items", "s", "ms") else ""
