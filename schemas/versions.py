"""Versions of models: Semantic Versioning 2.0.0 without build metadata. Pure.

`1` and `1.2`, as bundles were named before there was a registry, are 1.0.0 and 1.2.0. Build metadata is refused: two
versions that differ in nothing else would be of the same rank.
"""

import re
from dataclasses import dataclass
from functools import total_ordering

VERSION_CHARS_MAX = 64
_NUMBER = r"(0|[1-9]\d{0,8})"
_IDENTIFIER = r"(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}(?:\.{_NUMBER})?(?:\.{_NUMBER})?(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?", re.ASCII
)


class VersionError(ValueError):
    """Not a version."""


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """One version; `str` is how it is stored and shown."""

    major: int
    minor: int
    patch: int
    before: tuple[str, ...] = ()  # of a pre-release, such as ("rc", "1")

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        return f"{text}-{'.'.join(self.before)}" if self.before else text

    def __lt__(self, other: "Version") -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[object, ...]:
        """Numbers before words, fewer words before more, and a release after what came before it."""
        words = tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in self.before)
        return self.major, self.minor, self.patch, not self.before, words


def parse_version(text: str) -> Version:
    """Raises VersionError, saying what a version looks like."""
    match = _VERSION.fullmatch(text) if len(text) <= VERSION_CHARS_MAX else None
    if match is None:
        why = (
            "build metadata (+…) is not taken"
            if "+" in text
            else "wanted is MAJOR.MINOR.PATCH, such as 1.4.0 or 2.0.0-rc.1"
        )
        raise VersionError(f"{text[:80]!r} is no version: {why}")
    major, minor, patch, before = match.groups()
    words = tuple(before.split(".")) if before else ()
    return Version(int(major), int(minor or 0), int(patch or 0), words)


def parse_reference(text: str) -> tuple[str, str]:
    """NAME or NAME@VERSION as (name, version in its whole form or ""). Raises VersionError."""
    name, at, version = text.partition("@")
    if not name or (at and not version):
        raise VersionError(f"{text[:80]!r}: NAME or NAME@VERSION is wanted")
    return name, str(parse_version(version)) if version else ""
