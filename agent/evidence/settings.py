"""The `[evidence]` table: of which events there are pictures and clips, what is hidden in them, what is sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from agent.actions.settings import OnSettings, on_mistakes
from agent.decide.facts import AlertState
from schemas.shape import Limit

MIB = 1024 * 1024
CHUNK_BYTES_MAX = 256 * 1024


class UploadPolicy(StrEnum):
    """What leaves the node, beside the events that say what is kept."""

    NEVER = "never"  # nothing, also when it is asked for
    ON_DEMAND = "on_demand"  # what a command asks for
    AUTO = "auto"  # everything, at low priority


class Blur(StrEnum):
    """What is made unrecognisable in whatever may leave the node."""

    NONE = "none"
    PEOPLE = "people"
    FACES = "faces"


Share = Annotated[float, Limit(ge=0, le=1)]
Region = tuple[Share, Share, Share, Share]
"""x0 y0 x1 y1 as shares of the picture, origin top left."""


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """Sizes in bytes and pixels. A frame whose people are to be hidden, and of whom nobody knows, stays here."""

    enabled: bool = False
    jpeg: bool = True
    clip: bool = True
    pre_s: Annotated[float, Limit(ge=0, le=60)] = 3.0
    post_s: Annotated[float, Limit(ge=0, le=60)] = 3.0
    clip_fps: Annotated[float, Limit(ge=0.5, le=30)] = 5.0
    clip_width: Annotated[int, Limit(ge=64, le=1920)] = 640
    jpeg_width: Annotated[int, Limit(ge=64, le=4096)] = 1280
    jpeg_quality: Annotated[int, Limit(ge=1, le=100)] = 85
    ring_bytes_max: Annotated[int, Limit(ge=256 * 1024, le=1024 * MIB)] = 16 * MIB
    cooldown_s: Annotated[float, Limit(ge=0, le=86400)] = 10.0
    quota_bytes: Annotated[int, Limit(ge=MIB, lt=2**50)] = 2048 * MIB
    free_bytes_min: Annotated[int, Limit(ge=0, lt=2**50)] = 512 * MIB
    age_max_s: Annotated[int, Limit(ge=0, lt=2**40)] = 14 * 86400
    upload: UploadPolicy = UploadPolicy.ON_DEMAND
    bytes_s_max: Annotated[int, Limit(ge=0, lt=2**40)] = 0
    chunk_bytes: Annotated[int, Limit(ge=1024, le=CHUNK_BYTES_MAX)] = 64 * 1024
    blur: Blur = Blur.NONE
    blur_regions: Annotated[tuple[Region, ...], Limit(len_max=64)] = ()
    person_classes: tuple[str, ...] = ("person",)
    face_classes: tuple[str, ...] = ("face",)
    keep_original: bool = False
    on: OnSettings = OnSettings(states=(AlertState.RAISED,))

    @property
    def hides(self) -> bool:
        """Whether anything is blurred at all."""
        return self.blur is not Blur.NONE or bool(self.blur_regions)


def evidence_mistakes(
    settings: EvidenceSettings, cameras: Sequence[str], rules: set[str], *, open_types: bool = False
) -> list[str]:
    """What does not fit together, each as `key: what`."""
    mistakes = []
    if settings.enabled and not (settings.jpeg or settings.clip):
        mistakes.append("evidence.jpeg: neither jpeg nor clip is on; switch `enabled` off instead")
    for i, (x0, y0, x1, y1) in enumerate(settings.blur_regions):
        if x0 >= x1 or y0 >= y1:
            mistakes.append(f"evidence.blur_regions[{i}]: is empty; it is [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
    if settings.blur is Blur.PEOPLE and not settings.person_classes:
        mistakes.append("evidence.person_classes: is empty, and blur asks for people")
    if settings.blur is Blur.FACES and not (settings.person_classes or settings.face_classes):
        mistakes.append("evidence.face_classes: is empty like person_classes, and blur asks for faces")
    mistakes += [f"evidence.{text}" for text in on_mistakes(settings.on, cameras, rules, open_types=open_types)]
    return mistakes
