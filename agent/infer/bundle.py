"""A model bundle: one model in its variants, with everything needed to feed it and to understand its answers.

bundle.toml of a folder:

    name = "coco_ssd"
    version = "1"
    labels = "labels.txt"             # one label a line; or a list of texts
    label_offset = 0                  # the label of the model's class 0

    [input]                           # see preprocess.InputRule
    layout = "nhwc"
    resize = "stretch"

    [output]                          # the head and its options, see heads/
    decoder = "ssd_postprocess"

    [thresholds]                      # see thresholds.Thresholds
    confidence = 0.5

    [[variants]]                      # the same model for one kind of hardware
    target = "cpu"
    file = "model.tflite"
    sha256 = "…"

The model registry reads more of it (schemas/bundles.py), which is nothing to us.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.infer.decode import OutputRule, read_output_rule
from agent.infer.engine import ModelError
from agent.infer.preprocess import InputRule, read_input_rule
from agent.infer.reader import Reader
from agent.infer.thresholds import Thresholds, read_thresholds
from schemas.bundles import (
    LABELS_MAX,
    NAME_MEANS,
    NAME_PATTERN,
    REGISTRY_KEYS,
    VARIANT_REGISTRY_KEYS,
    inside,
)
from schemas.bundles import MANIFEST as MANIFEST
from schemas.bundles import Target as Target


@dataclass(frozen=True, slots=True)
class Variant:
    target: Target
    path: Path
    sha256: str  # 64 hex digits, lower case


@dataclass(frozen=True, slots=True)
class Bundle:
    name: str
    version: str
    description: str
    licence: str
    labels: tuple[str, ...]
    label_offset: int  # index of the label of the model's class 0
    input: InputRule
    output: OutputRule
    thresholds: Thresholds
    variants: tuple[Variant, ...]

    def variant(self, target: Target) -> Variant | None:
        return next((v for v in self.variants if v.target is target), None)


def parse_bundle(
    table: Mapping[str, object], folder: Path, read_labels: Callable[[str], tuple[str, ...]], source: str
) -> Bundle:
    """The bundle a manifest describes; `read_labels` fetches a label file by its name in the folder.

    Raises ModelError with every mistake found.
    """
    mistakes: list[str] = []
    reader = Reader(table, "", mistakes)
    name = reader.text("name")
    if name and not re.fullmatch(NAME_PATTERN, name):
        reader.wrong("name", NAME_MEANS)
    labels = _labels(reader, read_labels)
    offset = reader.integer("label_offset", 0, 0, LABELS_MAX)
    if labels and offset >= len(labels):
        reader.wrong("label_offset", f"leaves none of the {len(labels)} labels")
    bundle = Bundle(
        name=name,
        version=reader.text("version"),
        description=reader.text("description", ""),
        licence=reader.text("licence", ""),
        labels=labels,
        label_offset=offset,
        input=read_input_rule(reader.table("input")),
        output=read_output_rule(reader.table("output")),
        thresholds=read_thresholds(reader.table("thresholds"), labels),
        variants=tuple(_variant(r, folder) for r in reader.tables("variants")),
    )
    if reader.raw("variants") in (None, []):
        reader.wrong("variants", "at least one [[variants]] is wanted")
    targets = [v.target for v in bundle.variants]
    if len(set(targets)) < len(targets):
        reader.wrong("variants", "two variants have the same target")
    for key in REGISTRY_KEYS:
        reader.raw(key)
    reader.finish()
    if mistakes:
        raise ModelError(
            f"model bundle {source} has {len(mistakes)} mistake(s): " + "; ".join(mistakes),
            hint="correct bundle.toml",
        )
    return bundle


def _labels(reader: Reader, read_labels: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    value = reader.raw("labels")
    if isinstance(value, str):
        if not inside(value):
            reader.wrong("labels", f"{value!r} must be a file inside the bundle")
            return ()
        try:
            labels = read_labels(value)
        except ModelError as error:
            reader.wrong("labels", error.what)
            return ()
    else:
        labels = reader.texts("labels", None)
    if not 0 < len(labels) <= LABELS_MAX and "labels" in reader:
        reader.wrong("labels", f"1 to {LABELS_MAX} labels are wanted, not {len(labels)}")
    return labels


def _variant(reader: Reader, folder: Path) -> Variant:
    target = Target(reader.choice("target", [t.value for t in Target]))
    file = reader.text("file")
    if file and not inside(file):
        reader.wrong("file", f"{file!r} must be a file inside the bundle")
    sha256 = reader.text("sha256").lower()
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        reader.wrong("sha256", "64 hex digits are wanted")
    for key in VARIANT_REGISTRY_KEYS:
        reader.raw(key)
    reader.finish()
    return Variant(target, folder / file, sha256)
