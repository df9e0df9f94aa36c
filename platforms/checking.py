"""What is wrong with the settings of platforms: told before a host runs, and at its start.

    @check_settings
    def check(settings: Mapping[str, Any], here: Here) -> Iterable[str]:
        known, mistakes = read_what_can_be(BakerySettings, settings)
        ...
        return mistakes              # ["ovens.oven1.trays_max: 0 must be at least 1"]

Each mistake names its key within `[platforms.<name>]`, what is wrong and what would be right. A check is pure: it
opens no file and asks no network, and it returns all that it finds.
"""

import difflib
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from platforms.errors import BrokenPlatformError
from platforms.platform import Platform
from schemas.shape import ShapeError

MISTAKES_MAX = 100  # of one platform; what is wrong beyond is not told


@dataclass(frozen=True, slots=True)
class Here:
    """What the host has, by id. None: that is not known, as at a coordinator, and nothing is said against a name."""

    cameras: Sequence[str] | None = None
    sensors: Sequence[str] | None = None


def settings_mistakes(platform: Platform, settings: Mapping[str, Any], here: Here) -> list[str]:
    """`key: what`, for each mistake that the platform's own checks find."""
    found: list[str] = []
    for check in platform.checks:
        try:
            found += [str(one) for one in check(settings, here)]
        except ShapeError as error:
            found += error.mistakes
        except Exception as error:  # noqa: BLE001 - somebody else's code: that it fails is told, with its place
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error}"
            found.append(f"{check.__name__} fails on these settings: {said} ({last.filename}:{last.lineno})")
    told = list(dict.fromkeys(found))
    more = [f"and {len(told) - MISTAKES_MAX} more"] if len(told) > MISTAKES_MAX else []
    return told[:MISTAKES_MAX] + more


def settings_error(name: str, mistakes: Sequence[str]) -> BrokenPlatformError:
    """Why the platform of that name does not start."""
    text = "\n".join(f"  {mistake}" for mistake in mistakes)
    return BrokenPlatformError(f"{name}: did not get through at start, its settings are wrong:\n{text}")


def unknown_keys(settings: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """For a platform whose settings are read in parts, none of which knows all keys."""
    return [f"{key}: unknown key{_near(key, known)}" for key in settings if key not in known]


def not_here(key: str, what: str, name: str, known: Sequence[str] | None) -> list[str]:
    """The mistake of a key that names a camera or sensor (`what`) which is not here; none where that is not known.

    >>> not_here("ovens.a.camera_id", "camera", "nort", ["north", "south"])
    ["ovens.a.camera_id: no camera has the id 'nort'; did you mean north? (north, south)"]
    """
    if known is None or name in known:
        return []
    listed = ", ".join(known) or "there is none"
    return [f"{key}: no {what} has the id {name!r}{_near(name, known)} ({listed})"]


def listed(mistakes: Iterable[str], table: str) -> list[str]:
    """With the table's name before each key."""
    return [f"{table}.{one}" for one in mistakes]


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {near[0]}?" if near else ""
