"""The network whose inner layers say what a picture looks like, and which of them are taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.capture.picture import RgbPicture
from agent.infer.bundle import MANIFEST, Target
from agent.infer.bundle_files import load_bundle
from agent.infer.engine import ModelError
from agent.infer.graph.cutting import Layer, chosen_layers, layers
from agent.infer.graph.flatbuffer import Graph
from agent.infer.guess import Known, Value, guess_input
from agent.infer.litert import LiteRtEngine, model_specs
from agent.infer.preprocess import InputRule, Preprocessor, input_geometry
from agent.teach import textures
from agent.teach.statistic import put_grid

STRIDE = 16
CHANNELS_MAX = 160
"""A layer of about a sixteenth of the input's size knows parts, not objects; a narrow one says the same in less."""


@dataclass(frozen=True, slots=True)
class Backbone:
    path: Path  # of the .tflite file
    name: str
    rule: InputRule


def own_backbone(folder: Path, roi: tuple[float, ...] = ()) -> Backbone:
    """Ours, written into the folder."""
    path = folder / f"{textures.NAME}.tflite"
    textures.textures().save(path)
    return Backbone(path, textures.NAME, replaced(textures.RULE, roi=roi))


def open_backbone(path: Path, roi: tuple[float, ...] = ()) -> Backbone:
    """A .tflite file, whose input is guessed, or a bundle. Raises ModelError."""
    rule: InputRule
    if path.is_dir() or path.name == MANIFEST:
        bundle = load_bundle(path)
        variant = bundle.variant(Target.CPU)
        if variant is None:
            raise ModelError(f"bundle {path} has no cpu variant to take layers from")
        file, rule, name = variant.path, bundle.input, bundle.name
    else:
        inputs, outputs = model_specs(path)
        if len(inputs) != 1:
            raise ModelError(f"model {path} has {len(inputs)} inputs, a backbone has one picture")
        guessed = guess_input(Known(inputs[0], tuple(outputs), ()), "classification", {})
        file, rule, name = path, _rule(guessed), path.stem
    if roi and rule.resize != "stretch":
        raise ModelError(f"{path} letterboxes its pictures, so it takes no region of interest")
    return Backbone(file, name, replaced(rule, roi=roi))


def _rule(guessed: Mapping[str, Value]) -> InputRule:
    known = {field.name for field in fields(InputRule)}
    found: dict[str, object] = {key: value for key, value in guessed.items() if key in known}
    channels = 1 if guessed.get("color") == "gray" else 3
    for key in ("mean", "std"):
        if isinstance(value := found.get(key), int | float):
            found[key] = (float(value),) * channels
    return InputRule(**found)  # type: ignore[arg-type]


def replaced(rule: InputRule, **changes: object) -> InputRule:
    """The rule with other fields; a region already there is kept where none is given."""
    values = {field.name: getattr(rule, field.name) for field in fields(rule)}
    return InputRule(**(values | {key: value for key, value in changes.items() if value != ()}))


def rule_table(rule: InputRule) -> dict[str, Value]:
    """As `[input]` of a manifest has it."""
    table: dict[str, Value] = {"layout": rule.layout, "color": rule.color, "resize": rule.resize}
    if rule.resize == "letterbox":
        table["fill"] = rule.fill
    if rule.std:
        table |= {"mean": list(rule.mean), "std": list(rule.std)}
    if rule.roi:
        table["roi"] = list(rule.roi)
    return table


def pick_layers(graph: Graph, wanted: Sequence[str], backbone: Backbone) -> list[Layer]:
    """The layers asked for, or the last narrow one of a sixteenth of the input's size. Raises ModelError."""
    if wanted:
        return chosen_layers(graph, wanted, backbone.path)
    known = layers(graph)
    if not known:
        raise ModelError(f"model {backbone.path} has no layer that gives a feature map", hint="give another backbone")
    spec = model_specs(backbone.path)[0][0]
    rows = max(1, round(input_geometry(backbone.rule, spec).height / STRIDE))
    nearest = min(abs(layer.rows - rows) for layer in known)
    near = [layer for layer in known if abs(layer.rows - rows) == nearest]
    narrow = [layer for layer in near if layer.channels <= CHANNELS_MAX]
    return [(narrow or near)[-1]]


def stacked_features(
    graph: Graph, chosen: Sequence[Layer], rule: InputRule, pictures: NDArray[np.uint8], scratch: Path,
    grid: tuple[int, int], threads: int,
) -> tuple[int, NDArray[np.float32]]:  # fmt: skip
    """Cuts the graph at the layers and brings them onto one grid; then what it says of each picture.

    pictures: (n, height, width, 3) uint8 of the input's size. The graph's only output is the returned tensor.
    Returns the tensor and (n, rows * columns, channels) float32.
    """
    graph.keep([layer.tensor for layer in chosen])
    stacked, channels = put_grid(graph, chosen, *grid)
    graph.give([stacked])
    graph.save(scratch)
    engine = LiteRtEngine.open(scratch, threads=threads, warmup_runs=0)
    try:
        # The pictures are as large as the input and cut out already.
        as_they_are = InputRule(rule.layout, rule.color, "stretch", rule.fill, rule.mean, rule.std)
        preprocessor = Preprocessor(as_they_are, engine.input)
        found = np.empty((len(pictures), grid[0] * grid[1], channels), np.float32)
        for i, rgb in enumerate(pictures):
            (answer,) = engine.infer(preprocessor.prepare(RgbPicture(rgb))[0])
            if not np.isfinite(answer).all():
                raise ModelError("the backbone answers with values that are no numbers", hint="give another backbone")
            found[i] = answer.reshape(grid[0] * grid[1], channels)
    finally:
        engine.close()
    return stacked, found
