"""The pictures that teach: read, made as small as the model sees them, and kept so that more can be added later."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.capture.errors import StreamNotFoundError, UnreadableVideoError
from agent.capture.frame import Picture
from agent.capture.images import SUFFIXES, read_picture
from agent.infer.engine import ModelError

PICTURES_MIN = 5
PICTURES_FEW = 20
PICTURES_MAX = 1000
ASPECT_MAX = 1.25
"""Pictures whose aspects differ by more than this are squeezed differently, so their places do not match."""

Rgb = NDArray[np.uint8]


@dataclass(slots=True)
class Taught:
    """Pictures as the model sees them, in order of teaching.

    rgb: (height, width, 3) uint8 each, all of the same size
    """

    names: list[str] = field(default_factory=list)
    rgb: list[Rgb] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # for the person who teaches
    read: int = 0  # of the last folder

    def __len__(self) -> int:
        return len(self.names)

    def without(self, left_out: Iterable[int]) -> "Taught":
        gone = set(left_out)
        kept = [i for i in range(len(self)) if i not in gone]
        return Taught([self.names[i] for i in kept], [self.rgb[i] for i in kept], self.notes, self.read)

    def array(self) -> NDArray[np.uint8]:
        return np.stack(self.rgb)


def add_folder(taught: Taught, folder: Path, small: Callable[[Picture], Rgb]) -> None:
    """Adds the pictures of a folder; the same picture teaches once. What cannot be used is noted by name.

    Raises ModelError where the folder cannot be listed or holds no picture.
    """
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise ModelError(
            f"folder {folder} cannot be listed: {error.strerror}", hint="check --good or --add"
        ) from error
    if not files:
        raise ModelError(f"there is no picture in {folder}", hint="names must end in " + ", ".join(sorted(SUFFIXES)))
    room = PICTURES_MAX - len(taught)
    if len(files) > room:
        taught.notes.append(f"{len(files) - room} pictures were left out: at most {PICTURES_MAX} teach")
        files = files[:room]
    known = {_digest(rgb) for rgb in taught.rgb}
    sizes: Counter[tuple[int, int]] = Counter()
    for file in files:
        try:
            picture = read_picture(file)
            rgb = small(picture)
        except (StreamNotFoundError, UnreadableVideoError) as error:
            taught.notes.append(f"{file.name} was left out: {error.what}")
            continue
        digest = _digest(rgb)
        if digest in known:
            taught.notes.append(f"{file.name} was left out: the same picture is there already")
            continue
        known.add(digest)
        sizes[picture.width, picture.height] += 1
        taught.names.append(file.name)
        taught.rgb.append(rgb)
        taught.read += 1
    aspects = [width / height for width, height in sizes]
    if aspects and max(aspects) / min(aspects) > ASPECT_MAX:
        span = f"{min(aspects):.2f} to {max(aspects):.2f} times as wide as high"
        text = "each is stretched to the model's input, so the same place of a part lies elsewhere"
        taught.notes.append(f"the pictures have {len(sizes)} sizes, {span}: {text}")


def check_number(taught: Taught) -> None:
    """Raises ModelError where there are too few to say what is usual; notes it where there are few."""
    if len(taught) < PICTURES_MIN:
        raise ModelError(
            f"{len(taught)} pictures are too few to teach: at least {PICTURES_MIN} are needed",
            hint=f"give {PICTURES_FEW} to 200 pictures of good parts"
            + "".join(f"; {note}" for note in taught.notes[:5]),
        )
    if len(taught) < PICTURES_FEW:
        taught.notes.append(f"{len(taught)} pictures are few: with {PICTURES_FEW} or more the threshold is surer")


def save_pictures(path: Path, taught: Taught) -> None:
    """Grey pictures are kept as one channel."""
    rgb = taught.array()
    grey = bool((rgb == rgb[..., :1]).all())
    np.savez_compressed(path, names=np.array(taught.names), pictures=rgb[..., 0] if grey else rgb)


def load_pictures(path: Path) -> Taught:
    """Raises ModelError."""
    try:
        with np.load(path, allow_pickle=False) as found:
            names, pictures = found["names"], found["pictures"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the pictures that taught cannot be read from {path}: {error}", hint="teach anew"
        ) from error
    if pictures.ndim == 3:
        pictures = np.repeat(pictures[..., None], 3, axis=3)
    if pictures.ndim != 4 or pictures.dtype != np.uint8 or len(names) != len(pictures):
        raise ModelError(f"{path} holds no pictures that taught", hint="teach anew")
    return Taught([str(name) for name in names], [np.ascontiguousarray(one) for one in pictures])


def _digest(rgb: Rgb) -> bytes:
    return hashlib.sha256(rgb.tobytes()).digest()
