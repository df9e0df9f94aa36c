"""Makes a bundle from a user's own .tflite file."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.infer.bundle import MANIFEST, Bundle, Target
from agent.infer.bundle_files import load_bundle, read_label_file
from agent.infer.engine import EngineUnavailableError, ModelError, TensorSpec
from agent.infer.fitting import fit
from agent.infer.guess import Guess, Known, Real, Value, guess
from agent.infer.litert import LiteRtEngine, model_specs
from agent.infer.quantised import dequantise
from agent.infer.tflite_file import check_identifier, embedded_labels, is_compiled_for_edgetpu, sha256_of

_log = logging.getLogger(__name__)
LABEL_FILE = "labels.txt"


@dataclass(frozen=True, slots=True)
class MadeBundle:
    bundle: Bundle
    notes: tuple[str, ...]  # what was guessed


def make_bundle(
    model_file: Path | str,
    out_dir: Path | str,
    *,
    labels: Path | str | Sequence[str] | None = None,
    decoder: str | None = None,
    name: str = "",
    version: str = "1",
    licence: str = "",
    confidence: float = 0.5,
    more_files: Sequence[Path | str] = (),
) -> MadeBundle:
    """Writes a bundle into `out_dir` and loads it again.

    labels      a file with one label a line, or the labels; without them those in the model's metadata are used
    decoder     a head's name; without it it is guessed from the outputs
    more_files  further variants of the same model, such as its Edge TPU twin

    Raises ModelError with a hint where the file is no model or something cannot be guessed.
    """
    path, folder = Path(model_file), Path(out_dir)
    if (folder / MANIFEST).exists():
        raise ModelError(f"{folder} holds a bundle already", hint="choose another folder or remove it")
    files = [path, *(Path(f) for f in more_files)]
    for file in files:
        check_identifier(file)
    known = _known(path, _labels(labels, files))
    guessed = guess(known, decoder)
    folder.mkdir(parents=True, exist_ok=True)
    variants = [_copy(file, folder) for file in files]
    (folder / LABEL_FILE).write_text("".join(f"{label}\n" for label in guessed.labels), encoding="utf-8")
    head = {"name": name or path.stem, "version": version, "description": "", "licence": licence}
    # The manifest comes last and at once: a folder with one is complete.
    draft = folder / f"{MANIFEST}.tmp"
    draft.write_text(manifest_text(head, guessed, confidence, variants), encoding="utf-8")
    draft.rename(folder / MANIFEST)
    try:
        bundle = load_bundle(folder)
        if all(spec.shape for spec in known.outputs):  # an accelerator's file may state its shapes only there
            fit(bundle, known.input, known.outputs)
    except ModelError:
        (folder / MANIFEST).unlink()
        raise
    for note in guessed.notes:
        _log.info("%s: guessed %s", bundle.name, note)
    return MadeBundle(bundle, guessed.notes)


def _labels(labels: Path | str | Sequence[str] | None, files: Sequence[Path]) -> tuple[str, ...]:
    if isinstance(labels, str | Path):
        return read_label_file(Path(labels))
    if labels is not None:
        return tuple(labels)
    return next((found for file in files if (found := embedded_labels(file))), ())


def _known(path: Path, labels: tuple[str, ...]) -> Known:
    """The tensors of the model, and its answer to a grey picture where it runs on this CPU."""
    inputs, outputs = model_specs(path)
    if len(inputs) != 1:
        raise ModelError(
            f"model {path} has {len(inputs)} inputs ({', '.join(s.name for s in inputs)})",
            hint="only models with one picture as input are supported, not stateful ones",
        )
    try:
        engine = LiteRtEngine.open(path, warmup_runs=0)
    except EngineUnavailableError:
        return Known(inputs[0], tuple(outputs), labels)
    answers = engine.infer(_grey(engine.input))
    reals: list[Real] = [dequantise(a, s) for a, s in zip(answers, engine.outputs, strict=True)]
    known = Known(engine.input, engine.outputs, labels, tuple(reals))
    engine.close()
    return known


def _grey(spec: TensorSpec) -> np.ndarray:
    value = {"u": 128, "i": 0, "f": 0.5}.get(spec.dtype.kind, 0)
    return np.full(spec.shape, value, spec.dtype)


def _copy(file: Path, folder: Path) -> dict[str, Value]:
    target = Target.EDGETPU if is_compiled_for_edgetpu(file) else Target.CPU
    shutil.copyfile(file, folder / file.name)
    return {"target": target.value, "file": file.name, "sha256": sha256_of(folder / file.name)}


def manifest_text(
    head: Mapping[str, Value], guessed: Guess, confidence: float, variants: Sequence[Mapping[str, Value]]
) -> str:
    top = {**head, "labels": LABEL_FILE, "label_offset": guessed.label_offset}
    parts = [
        _lines(top),
        "\n[input]\n" + _lines(guessed.input),
        "\n[output]\n" + _lines(guessed.output),
        "\n[thresholds]\n" + _lines({"confidence": confidence}),
    ]
    parts += ["\n[[variants]]\n" + _lines(variant) for variant in variants]
    return "".join(parts)


def _lines(table: Mapping[str, Value]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())


def _toml(value: Value) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    # JSON's texts, numbers and booleans are TOML's, as long as DEL is escaped.
    return json.dumps(value).replace("\x7f", "\\u007f")
