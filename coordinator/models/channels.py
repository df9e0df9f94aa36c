"""What may be promoted, retired and added over what is there. Pure; each function raises ModelRefusedError."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from coordinator.models.release import ModelRefusedError, Release
from coordinator.models.versions import parse_version

STABLE, CANARY = "stable", "canary"
CHANNELS_MAX = 32  # of one model
VERSIONS_MAX = 1000  # of one model
_CHANNEL = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class ModelState(StrEnum):
    """Whether a version may still be given to nodes that do not have it."""

    ACTIVE = "active"
    RETIRED = "retired"  # for good; its bytes and its history stay


@dataclass(frozen=True, slots=True)
class Deployable:
    """A release that nodes may be given."""

    release: Release
    digest: str


def check_channel(channel: str) -> None:
    if not _CHANNEL.fullmatch(channel):
        raise ModelRefusedError(f"{channel[:80]!r} is no channel", hint="up to 32 of a-z 0-9 _ -, such as canary")


def check_added(reference: str, digest: str, known_digest: str | None, versions: int) -> bool:
    """True when the version is new, False when just this is there already. A version never changes."""
    if known_digest is not None and known_digest != digest:
        raise ModelRefusedError(
            f"model {reference} is here with other bytes (digest {known_digest[:12]}, not {digest[:12]})",
            hint="a version never changes: give bundle.toml the next version",
        )
    if known_digest is None and versions >= VERSIONS_MAX:
        raise ModelRefusedError(
            f"model {reference}: there are {versions} versions of it, which is the most there may be"
        )
    return known_digest is None


def check_promoted(
    reference: str, version: str, state: ModelState | None, channel: str, channels: Mapping[str, str]
) -> None:
    """`channels`: the versions of this model by channel."""
    check_channel(channel)
    check_known(reference, state)
    if state is ModelState.RETIRED:
        raise ModelRefusedError(f"model {reference} is retired", hint="promote another version")
    if channel == STABLE and parse_version(version).before:
        raise ModelRefusedError(
            f"model {reference} is a pre-release, and channel {STABLE} takes none", hint="use canary, or release it"
        )
    if channel not in channels and len(channels) >= CHANNELS_MAX:
        raise ModelRefusedError(f"model {reference}: it has {CHANNELS_MAX} channels, which is the most there may be")


def check_retired(reference: str, state: ModelState | None, channels: Iterable[str], *, withdraw: bool) -> bool:
    """True when it is to be retired now, False when it is already. `channels`: those that this version is in."""
    check_known(reference, state)
    if (names := sorted(channels)) and not withdraw:
        raise ModelRefusedError(
            f"model {reference} is given out by {' and '.join(names)}",
            hint="promote another version there first; with --withdraw the channel then gives out nothing",
        )
    return state is not ModelState.RETIRED


def check_known(reference: str, state: ModelState | None) -> None:
    if state is None:
        raise ModelRefusedError(f"there is no model {reference}", hint="edgectl model ls lists them")
