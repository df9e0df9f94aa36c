"""Golden frames in a bundle: `golden.toml` says what is in pictures of the folder `golden`, and how good is enough.

classifier = false                 # true: frames have a `label`, for the whole picture

[thresholds]                       # each may be left out: the node's [models.gate] counts then
accuracy_min = 0.8
accuracy_drop_max = 0.02
latency_factor_max = 1.5
latency_slack_ms = 10.0
latency_ms_max = 0.0
iou = 0.5

[[frames]]
file = "golden/0001.jpg"
objects = [{ class = "pore", box = [210.0, 96.5, 236.0, 120.0] }]   # pixels, x0 y0 x1 y1, origin top left
"""

import json
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from agent.capture.images import SUFFIXES
from agent.infer.engine import ModelError
from agent.models.golden import Answer, Thresholds
from schemas.bundles import inside
from schemas.shape import Limit, ShapeError, read

FILE_NAME = "golden.toml"
FOLDER_NAME = "golden"
FRAMES_MAX = 48  # a release has at most 64 files
BYTES_MAX = 1024 * 1024
Share = Annotated[float, Limit(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class TruthTable:
    """An object of a frame."""

    box: Annotated[tuple[float, ...], Limit(len_min=4, len_max=4)]
    label: str


@dataclass(frozen=True, slots=True)
class FrameTable:
    file: str
    label: str = ""
    objects: tuple[TruthTable, ...] = ()


@dataclass(frozen=True, slots=True)
class ThresholdsTable:
    """What is given counts, instead of the node's own."""

    accuracy_min: Share | None = None
    accuracy_drop_max: Share | None = None
    latency_factor_max: Annotated[float, Limit(ge=1, le=100)] | None = None
    latency_slack_ms: Annotated[float, Limit(ge=0, le=10_000)] | None = None
    latency_ms_max: Annotated[float, Limit(ge=0, le=100_000)] | None = None
    iou: Share | None = None

    def over(self, given: Thresholds) -> Thresholds:
        said = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(given, **said)


@dataclass(frozen=True, slots=True)
class GoldenTable:
    frames: Annotated[tuple[FrameTable, ...], Limit(len_min=1, len_max=FRAMES_MAX)]
    classifier: bool = False
    thresholds: ThresholdsTable = ThresholdsTable()


@dataclass(frozen=True, slots=True)
class Golden:
    """Frames with known answers. The pictures are decoded one by one: all of them would take much memory."""

    files: tuple[Path, ...] = ()
    truths: tuple[Answer, ...] = ()
    classifier: bool = False
    thresholds: ThresholdsTable = field(default_factory=ThresholdsTable)


def load_golden(folder: Path) -> Golden | None:
    """Those of a bundle; None where it has none. Raises ModelError."""
    path = folder / FILE_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if len(text) > BYTES_MAX:
        raise ModelError(f"{path} has {len(text)} bytes, at most {BYTES_MAX}")
    try:
        table = read(GoldenTable, _by_class(tomllib.loads(text.decode())), strict=True)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not valid TOML: {error}") from error
    except ShapeError as error:
        raise ModelError(f"{path}: {error}") from error
    if wrong := [frame.file for frame in table.frames if not inside(frame.file)]:
        raise ModelError(f"{path}: {wrong[0]!r} must be a file inside the bundle")
    if table.classifier and (without := [frame.file for frame in table.frames if not frame.label]):
        raise ModelError(f"{path}: {without[0]}: a classifier's frame has a `label`")
    files = tuple(folder / frame.file for frame in table.frames)
    if absent := [path for path in files if not path.is_file()]:
        raise ModelError(f"{path}: there is no {absent[0]}")
    truths = tuple(_truth(frame, table.classifier) for frame in table.frames)
    return Golden(files, truths, table.classifier, table.thresholds)


def write_golden(
    folder: Path, pictures: Sequence[Path], answers: Sequence[Answer], *, classifier: bool, thresholds: Thresholds
) -> Path:
    """Copies the pictures into a bundle and writes `golden.toml`, which comes last. Raises OSError."""
    (folder / FOLDER_NAME).mkdir(exist_ok=True)
    said = {f.name: getattr(thresholds, f.name) for f in fields(thresholds)}
    lines = [f"classifier = {json.dumps(classifier)}", "", "[thresholds]"]
    lines += [f"{name} = {value}" for name, value in said.items()]
    for i, (picture, answer) in enumerate(zip(pictures, answers, strict=True), 1):
        name = f"{FOLDER_NAME}/{i:04d}{picture.suffix.lower()}"
        shutil.copyfile(picture, folder / name)
        lines += ["", "[[frames]]", f"file = {json.dumps(name)}"]
        if classifier:
            lines.append(f"label = {json.dumps(answer.labels[0])}")
            continue
        objects = [
            f"{{ class = {json.dumps(label)}, box = [{', '.join(f'{value:.1f}' for value in box)}] }}"
            for label, box in zip(answer.labels, answer.xyxy.tolist(), strict=True)
        ]
        lines.append(f"objects = [{', '.join(objects)}]")
    draft = folder / f".{FILE_NAME}.tmp"
    draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return draft.rename(folder / FILE_NAME)


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder, in the order of their names. Raises ModelError for none, or too many."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror}") from error
    if not 0 < len(found) <= FRAMES_MAX:
        raise ModelError(f"{folder} has {len(found)} pictures; 1 to {FRAMES_MAX} are wanted as golden frames")
    return found


def _by_class(table: dict[str, object]) -> dict[str, object]:
    """`class` is no name of a field in Python."""
    frames = table.get("frames")
    if not isinstance(frames, list):
        return table
    return table | {"frames": [_renamed(frame) for frame in frames]}


def _renamed(frame: object) -> object:
    if not isinstance(frame, dict) or not isinstance(frame.get("objects"), list):
        return frame
    objects = [
        {("label" if key == "class" else key): value for key, value in one.items()} if isinstance(one, dict) else one
        for one in frame["objects"]
    ]
    return frame | {"objects": objects}


def _truth(frame: FrameTable, classifier: bool) -> Answer:
    if classifier:  # the whole picture is meant, whatever its size
        return Answer(np.zeros((1, 4), np.float32), (frame.label,))
    boxes = np.array([one.box for one in frame.objects], np.float32).reshape(-1, 4)
    return Answer(boxes, tuple(one.label for one in frame.objects))
