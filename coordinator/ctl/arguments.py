"""What a person types, as values. Pure; now is an argument. Raises UsageError with what would be right."""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from schemas.fields import typed

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class UsageError(Exception):
    """The command line asks for something impossible."""


def since(text: str, now_utc_ms: int, option: str = "--since") -> int:
    """`5m` ago or an ISO time (without a zone: local) as UTC milliseconds."""
    span = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)(ms|s|m|h|d)", text)
    if span:
        return max(1, now_utc_ms - round(float(span[1]) * _UNITS_MS[span[2]]))
    try:
        return max(1, round(datetime.fromisoformat(text).astimezone().timestamp() * 1000))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{option} {text}: not like 90s, 5m, 2h, 3d or 2026-11-24T10:00:00") from error


def labels(items: Sequence[str]) -> dict[str, str]:
    """`key=value` items."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise UsageError(f"--label {item}: not like key=value")
        found[key] = value
    return found


def field_values(items: Sequence[str]) -> dict[str, Any]:
    """`field=value` items, as the field wants them."""
    found = {}
    for item in items:
        path, equals, text = item.partition("=")
        if not path or not equals:
            raise UsageError(f"{item}: not like field=value")
        found[path] = typed(path, text)
    return found


def call_arguments(items: Sequence[str], document: str | None) -> dict[str, Any]:
    """`key=value` items, each value JSON where it is and text where not; or one JSON object."""
    if document is not None and items:
        raise UsageError("give key=value arguments or --json, not both")
    if document is not None:
        try:
            value = json.loads(document)
        except ValueError as error:
            raise UsageError(f"--json: {error}") from error
        if not isinstance(value, dict):
            raise UsageError("--json: must be an object")
        return value
    found: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not key or not equals:
            raise UsageError(f"{item}: not like key=value")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found
