"""The `[platforms]` table of an agent's and of a coordinator's configuration.

[platforms]
enabled = ["traffic"]                                 # shipped and installed ones; `core` is always there
folders = ["/etc/edgewright/platforms/bakery"]        # these are enabled by being named

[platforms.bakery]                                    # what the platform's functions find in context.settings
loaves_per_tray = 12
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENABLED, FOLDERS = "enabled", "folders"
PLATFORMS_MAX = 32


@dataclass(frozen=True, slots=True)
class PlatformsTable:
    """`settings` are by platform. `folder`: of the file it is in."""

    enabled: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path = Path()

    def unused(self) -> list[str]:
        """The tables of platforms that are not enabled: typing errors, as a rule."""
        there = {"core", *self.enabled, *(os.path.basename(os.path.abspath(one)) for one in self.folders)}  # noqa: PTH100, PTH119
        return sorted(set(self.settings) - there)


def read_platforms(raw: Mapping[str, Any], folder: Path) -> tuple[PlatformsTable, list[str]]:
    """The table as TOML has it, with every mistake; relative folders are relative to `folder`, the file's."""
    mistakes: list[str] = []
    enabled = _texts(raw, ENABLED, mistakes)
    folders = tuple(folder / text for text in _texts(raw, FOLDERS, mistakes))
    settings: dict[str, Mapping[str, Any]] = {}
    for name, value in raw.items():
        if name in (ENABLED, FOLDERS):
            continue
        if isinstance(value, Mapping):
            settings[name] = value
        else:
            known = f"{ENABLED}, {FOLDERS}, and a table for each platform"
            mistakes.append(f"platforms.{name}: there are {known}")
    if len(enabled) + len(folders) > PLATFORMS_MAX:
        mistakes.append(f"platforms: {len(enabled) + len(folders)} are enabled; at most {PLATFORMS_MAX} can be")
    table = PlatformsTable(enabled, folders, settings, folder)
    mistakes += [f"platforms.{name}: there is no such platform among those enabled" for name in table.unused()]
    return table, mistakes


def _texts(raw: Mapping[str, Any], key: str, mistakes: list[str]) -> tuple[str, ...]:
    value = raw.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        mistakes.append(f"platforms.{key}: must be a list of texts")
        return ()
    doubles = sorted({one for one in value if value.count(one) > 1})
    mistakes += [f"platforms.{key}: {one} is there twice" for one in doubles]
    return tuple(dict.fromkeys(value))
