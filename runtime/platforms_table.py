"""`[platforms]`, alike in `agent.toml` and `coordinator.toml`: which platforms a process hosts, and their settings.

[platforms]
folders = ["/etc/edgewright/bakery"]   # platforms that are neither shipped nor installed
[platforms.traffic]                    # the table makes the process host it; its keys are the platform's settings
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDERS = "folders"
PLATFORMS_MAX = 50


@dataclass(frozen=True, slots=True)
class PlatformsTable:
    """`enabled`: by name, the settings as TOML has them. `folders`: absolute."""

    enabled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()


def platforms_mistakes(raw: Mapping[str, Any]) -> list[str]:
    """Every mistake that the shape shows; whether there are such platforms is found when they are loaded."""
    mistakes = []
    folders = raw.get(FOLDERS, [])
    if not isinstance(folders, list) or not all(isinstance(one, str) and one for one in folders):
        mistakes.append(f"platforms.{FOLDERS}: a list of folders")
    for name, settings in raw.items():
        if name != FOLDERS and not isinstance(settings, Mapping):
            mistakes.append(f"platforms.{name}: a table, [platforms.{name}]; or did you mean {FOLDERS}?")
    if len(raw) > PLATFORMS_MAX:
        mistakes.append(f"platforms: {len(raw)} of them; at most {PLATFORMS_MAX} are allowed")
    return mistakes


def platforms_table(raw: Mapping[str, Any], folder: Path) -> PlatformsTable:
    """The table of a configuration in `folder`, which has no mistakes; `core` is always hosted and needs no table."""
    enabled = {name: settings for name, settings in raw.items() if name != FOLDERS}
    return PlatformsTable(enabled, tuple(folder / one for one in raw.get(FOLDERS, [])))
