"""What part of a file a request asks for: Range, If-Range and If-None-Match of RFC 9110. Pure.

One range is answered; a request for several gets the whole file, as the RFC allows. What is not understood is
ignored, and so is a range whose `If-Range` names another file. Files never change: their entity tag is their SHA-256.
"""

import re
from dataclasses import dataclass
from enum import Enum

_ONE = re.compile(r"[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.ASCII)
_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"', re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes from `first` up to, and without, `end`."""

    first: int
    end: int


class Answer(Enum):
    """Instead of a part."""

    WHOLE = "whole"  # 200
    UNSATISFIABLE = "unsatisfiable"  # 416


def part_of(size: int, tag: str, range_: str | None, if_range: str | None) -> Part | Answer:
    """What is to be sent of a file of `size` bytes, at least one, with this entity tag (without its quotes)."""
    if range_ is None or (if_range is not None and if_range.strip() != f'"{tag}"'):
        return Answer.WHOLE
    unit, equals, text = range_.partition("=")
    match = _ONE.fullmatch(text)
    if unit.strip().lower() != "bytes" or not equals or match is None or match[1] == match[2] == "":
        return Answer.WHOLE
    if match[1] == "":  # the last so many
        length = int(match[2])
        return Part(max(0, size - length), size) if length else Answer.UNSATISFIABLE
    first = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return Answer.WHOLE  # no range at all
    return Part(first, min(last + 1, size)) if first < size else Answer.UNSATISFIABLE


def is_known(tag: str, if_none_match: str | None) -> bool:
    """True when whoever asks has the file already: 304."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match)
