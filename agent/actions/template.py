"""Text with `{field}` in it: plain substitution, nothing is evaluated.

Fields are those of NAMES and any field of the event's data as `{data.name}`; `{{` and `}}` are braces.
"""

import re
from collections.abc import Mapping
from typing import Any

NAMES = (
    "node",
    "type",
    "subject",
    "time",
    "time_utc_ms",
    "severity",
    "camera_id",
    "rule",
    "state",
    "alert_id",
    "json",  # the whole event
)
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_DATA = re.compile(r"data\.[A-Za-z_][A-Za-z0-9_]*")


def template_mistakes(text: str) -> list[str]:
    """What is wrong with a template; empty when it can be filled in for every event."""
    mistakes = []
    for piece in _PIECE.finditer(text):
        name = piece[1]
        if name is None:
            if piece[0] in "{}":
                mistakes.append(f"a single {piece[0]} at {piece.start()}; write {piece[0] * 2} for the character")
        elif name not in NAMES and not _DATA.fullmatch(name):
            mistakes.append(f"unknown field {{{name}}}; there are {', '.join(NAMES)} and data.<name>")
    return mistakes


def fill(text: str, values: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """`text` with its fields replaced; one that this event lacks becomes nothing."""

    def replaced(piece: re.Match[str]) -> str:
        name = piece[1]
        if name is None:
            return piece[0][0]
        value = data.get(name.removeprefix("data.")) if name.startswith("data.") else values.get(name)
        return "" if value is None else str(value)

    return _PIECE.sub(replaced, text)


def fill_topic(text: str, values: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """As `fill`; what a value must not bring into a topic (wildcards, levels, control characters) becomes `_`."""

    def safe(given: Mapping[str, Any]) -> dict[str, str]:
        return {k: re.sub(r"[+#/\x00-\x1f\x7f]", "_", str(v)) for k, v in given.items() if v is not None}

    return fill(text, safe(values), safe(data))
