"""`edge-agent model golden`: pictures with known answers for a bundle, which every node proves the model on."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from agent.infer.bundle_files import load_bundle
from agent.infer.engine import ModelError
from agent.infer.heads import classification
from agent.infer.host import EngineHost
from agent.infer.settings import InferSettings
from agent.models.gate import Candidate, picture_of
from agent.models.golden import Answer, Thresholds, accuracy
from agent.models.golden_files import FILE_NAME, TruthTable, load_golden, pictures_of, write_golden
from runtime.errors import ConfigError
from schemas.shape import ShapeError, read


def make_golden(arguments: argparse.Namespace) -> int:
    """Truth by hand, by another model such as the float one, or by the model itself."""
    folder: Path = arguments.bundle
    if (folder / FILE_NAME).exists():
        raise ConfigError(f"{folder} has golden frames already", hint=f"remove {FILE_NAME} and its pictures first")
    bundle = load_bundle(folder)
    pictures = pictures_of(arguments.images)
    classifier = bundle.output.decoder == classification.NAME
    if arguments.truth is not None:
        truths = _told(arguments.truth, pictures, bundle.labels, classifier)
    else:
        truths = _answers(arguments.by or folder, pictures)
    if classifier and (without := [p.name for p, one in zip(pictures, truths, strict=True) if not one.labels]):
        raise ModelError(f"{without[0]}: nobody says what it is", hint="give --truth, or leave the picture out")
    found = _answers(folder, pictures)
    share = accuracy(found, truths, classifier=classifier)
    least = 0.5 if arguments.accuracy_min is None else arguments.accuracy_min
    write_golden(folder, pictures, truths, classifier=classifier, thresholds=Thresholds(accuracy_min=least))
    load_golden(folder)
    said = f"{folder}: {len(pictures)} golden frames, {sum(len(one.labels) for one in truths)} answers"
    print(f"{said}; the model itself has an accuracy of {share:.3f} on them")  # noqa: T201
    return 0


def _answers(folder: Path, pictures: list[Path]) -> list[Answer]:
    """A model's own."""
    bundle = load_bundle(folder)
    host = EngineHost(bundle, InferSettings(), lambda change: None)
    try:
        host.open()
        candidate = Candidate(bundle, host)
        return [candidate.look(picture_of(path)) for path in pictures]
    finally:
        host.close()


def _told(file: Path, pictures: list[Path], labels: tuple[str, ...], classifier: bool) -> list[Answer]:
    """What a person says. Raises ModelError with every mistake."""
    try:
        table = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(table, dict):
        raise ModelError(f"{file}: an object by file name is wanted")
    mistakes, truths = [], []
    for path in pictures:
        try:
            one = _truth(table.get(path.name), classifier)
        except (ShapeError, ValueError) as error:
            mistakes.append(f"{path.name}: {error}")
            continue
        mistakes += [f"{path.name}: {name!r} is no label of the model" for name in one.labels if name not in labels]
        truths.append(one)
    if mistakes:
        raise ModelError(f"{file} has {len(mistakes)} mistake(s): {'; '.join(mistakes[:20])}")
    return truths


def _truth(said: Any, classifier: bool) -> Answer:
    if said is None:
        raise ValueError("nothing is said of it; an empty list where nothing is to be found")
    if classifier:
        if not isinstance(said, str):
            raise ValueError("a label is wanted")
        return Answer(np.zeros((1, 4), np.float32), (said,))
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise ValueError('a list of {"class": …, "box": [x0, y0, x1, y1]} is wanted')
    boxes = [read(TruthTable, one, strict=True) for one in ({"label": o.pop("class", None), **o} for o in said)]
    return Answer(np.array([one.box for one in boxes], np.float32).reshape(-1, 4), tuple(one.label for one in boxes))
