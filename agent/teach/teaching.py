"""From good pictures to a bundle that knows them: what `edge-agent teach` does."""

import json
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.anomaly.gaussian import fit, held_out
from agent.anomaly.scores import outliers, picture_scores, scale_of, smoothed
from agent.capture.frame import Picture
from agent.infer.bundle import MANIFEST, parse_bundle
from agent.infer.bundle_files import load_bundle
from agent.infer.bundle_maker import LABEL_FILE, manifest_text
from agent.infer.engine import ModelError
from agent.infer.fitting import fit as fit_bundle
from agent.infer.graph.flatbuffer import Graph
from agent.infer.guess import Guess, Value
from agent.infer.heads import anomaly
from agent.infer.litert import LiteRtEngine, model_specs
from agent.infer.preprocess import InputRule, Preprocessor
from agent.infer.tflite_file import sha256_of
from agent.teach.backbone import Backbone, open_backbone, own_backbone, pick_layers, rule_table, stacked_features
from agent.teach.pictures import PICTURES_MIN, Rgb, Taught, add_folder, check_number, load_pictures, save_pictures
from agent.teach.statistic import Shaping, put_statistic
from runtime.errors import EdgewrightError
from schemas.shape import ShapeError, read

LABEL = "anomaly"
PICTURES_FILE = "taught.npz"
RECORD_FILE = "taught.json"
SEED = 7
OUTLIERS_SHARE_MAX = 0.1
"""More than this and the folder is mixed: then nobody can say which of them are the good ones."""

Real = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TeachSettings:
    layers: tuple[str, ...] = ()  # empty: chosen
    features_max: int = 128  # more channels than this are projected onto so many random directions
    rows_max: int = 28
    false_alarms: float = 0.01  # share of good pictures that may be called anomalous
    keep_outliers: bool = False
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Record:
    """What a bundle was taught with, beside it in taught.json: for people, and for teaching more."""

    name: str
    camera: str = ""
    backbone: str = ""
    layers: tuple[str, ...] = ()
    rows: int = 0
    columns: int = 0
    pictures: int = 0
    outliers: tuple[str, ...] = ()
    false_alarms: float = 0.01
    features_max: int = 128
    threshold: float = 0.0
    log_mean: float = 0.0
    log_spread: float = 0.0
    teach_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """What came of teaching."""

    record: Record
    notes: tuple[str, ...]
    added: int
    held_out: dict[str, float] = field(default_factory=dict)  # scores by picture, 1 at the threshold


def teach(
    good: Path, out: Path, backbone: Path | None = None, *, camera: str = "", name: str = "",
    roi: tuple[float, ...] = (), settings: TeachSettings | None = None,
) -> Lesson:  # fmt: skip
    """Makes a bundle in `out` from a folder of good pictures; without a backbone with ours.

    Raises ModelError; then nothing is there.
    """
    if (out / MANIFEST).exists():
        raise ModelError(f"{out} holds a bundle already", hint="add pictures with --add, or choose another folder")
    started = time.monotonic()
    called = name or f"{camera or 'camera'}-anomaly"
    with tempfile.TemporaryDirectory(prefix="edgewright-teach-") as scratch:
        source = own_backbone(Path(scratch), roi) if backbone is None else open_backbone(backbone, roi)
        taught = Taught()
        add_folder(taught, good, _smaller(source.rule, source.path))
        return _teach(taught, source, out, called, camera, "1", settings or TeachSettings(), started)


def teach_more(more: Path, bundle: Path, settings: TeachSettings | None = None) -> Lesson:
    """Adds good pictures to a bundle that was taught, and teaches it anew with all.

    Raises ModelError; then the bundle is as it was. The layers stay; the rest is as in
    `settings`, or as before.
    """
    started = time.monotonic()
    before, record = load_bundle(bundle), load_record(bundle)
    taught = load_pictures(bundle / PICTURES_FILE)
    source = Backbone(before.variants[0].path, record.backbone, before.input)
    add_folder(taught, more, _smaller(source.rule, source.path))
    if not taught.read:
        raise ModelError(f"{more} adds nothing", hint="; ".join(taught.notes[:5]))
    given = settings or TeachSettings(false_alarms=record.false_alarms, features_max=record.features_max)
    again = TeachSettings(
        record.layers, given.features_max, record.rows, given.false_alarms, given.keep_outliers, given.threads
    )
    number = int(before.version) + 1 if before.version.isdecimal() else 2
    return _teach(taught, source, bundle, record.name, record.camera, str(number), again, started)


def load_record(bundle: Path) -> Record:
    """Raises ModelError where the bundle was not made by teaching."""
    try:
        return read(Record, json.loads((bundle / RECORD_FILE).read_bytes()), strict=False)
    except (OSError, ValueError, ShapeError) as error:
        raise ModelError(
            f"{bundle} has no readable {RECORD_FILE}: {error}",
            hint="only a bundle that edge-agent teach made can learn more",
        ) from error


def _smaller(rule: InputRule, model: Path) -> "_Smaller":
    return _Smaller(Preprocessor(rule, model_specs(model)[0][0]))


class _Smaller:
    def __init__(self, preprocessor: Preprocessor) -> None:
        self._preprocessor = preprocessor

    def __call__(self, picture: Picture) -> Rgb:
        return np.ascontiguousarray(self._preprocessor.fitted(picture))


def _teach(
    taught: Taught, source: Backbone, out: Path, name: str, camera: str, version: str, settings: TeachSettings,
    started: float,
) -> Lesson:  # fmt: skip
    check_number(taught)
    graph = Graph.load(source.path)
    chosen = pick_layers(graph, settings.layers, source)
    names = tuple(layer.name for layer in chosen)
    coarsest = min(chosen, key=lambda layer: layer.rows * layer.columns)
    shrink = max(1, -(-coarsest.rows // settings.rows_max))
    grid = (coarsest.rows // shrink, coarsest.columns // shrink)
    with tempfile.TemporaryDirectory(prefix="edgewright-teach-") as scratch:
        stacked, raw = stacked_features(
            graph, chosen, source.rule, taught.array(), Path(scratch) / "features.tflite", grid, settings.threads
        )
    shaping = shaping_for(raw, settings.features_max)
    features = shaping.apply(raw)
    scores = held_out_scores(features, grid)
    notes = list(taught.notes)
    odd = [int(i) for i in outliers(scores)]
    odd_names = tuple(taught.names[i] for i in odd)
    left_out = leave_out(odd, odd_names, len(taught), settings.keep_outliers, notes)
    if left_out:
        kept = [i for i in range(len(taught)) if i not in left_out]
        taught, features = taught.without(left_out), features[kept]
        scores = held_out_scores(features, grid)
    scale = scale_of(scores, settings.false_alarms)
    put_statistic(graph, stacked, shaping, fit(features), *grid)
    record = Record(
        name, camera, source.name, names, *grid, len(taught), odd_names, settings.false_alarms, settings.features_max,
        scale.threshold, scale.log_mean, scale.log_spread, round(time.monotonic() - started, 2),
    )  # fmt: skip
    write_bundle(out, graph, source.rule, record, taught, version)
    told = {one: float(score / scale.threshold) for one, score in zip(taught.names, scores, strict=True)}
    return Lesson(record, tuple(notes), taught.read, told)


def held_out_scores(features: Real, grid: tuple[int, int]) -> Real:
    """(pictures,) scores of (pictures, places, features), each of a picture that taught nothing to its judge."""
    return picture_scores(smoothed(held_out(features).reshape(-1, *grid)))


def leave_out(
    odd: Sequence[int], names: Sequence[str], pictures: int, keep: bool, notes: list[str]
) -> frozenset[int]:
    """The outliers that do not teach, and a note for each."""
    if not odd:
        return frozenset()
    if keep:
        notes += [
            f"{name} does not look like the others; it teaches all the same (--keep-outliers)" for name in names
        ]
        return frozenset()
    room = int(pictures * OUTLIERS_SHARE_MAX)
    if len(odd) > room or pictures - len(odd) < PICTURES_MIN:
        notes += [f"{name} does not look like the others" for name in names]
        notes.append(
            f"{len(odd)} of {pictures} pictures do not look like the others: too many to leave out, look at them"
        )
        return frozenset()
    notes += [f"{name} does not look like the others and was left out: is there a defect?" for name in names]
    return frozenset(odd)


def shaping_for(raw: Real, features_max: int) -> Shaping:
    """Every channel as large as the others; too many are projected onto random directions, always the same."""
    channels = raw.shape[2]
    spread = raw.reshape(-1, channels).std(axis=0)
    # A channel that is nearly always the same must not be blown up into noise.
    scale = (1 / (spread + 0.05 * float(spread.mean()) + 1e-9)).astype(np.float32)
    if channels <= features_max:
        return Shaping(scale)
    drawn = np.random.default_rng(SEED).standard_normal((channels, features_max))
    return Shaping(scale, np.ascontiguousarray(np.linalg.qr(drawn)[0], np.float32))


def write_bundle(out: Path, graph: Graph, rule: InputRule, record: Record, taught: Taught, version: str) -> None:
    """The manifest comes last and at once, so what is there stays whole whenever this ends."""
    out.mkdir(parents=True, exist_ok=True)
    model = out / f"{record.name}-{version}.tflite"
    graph.save(model)
    save_pictures(out / f"draft-{PICTURES_FILE}", taught)
    (out / LABEL_FILE).write_text(f"{LABEL}\n", encoding="utf-8")
    options: dict[str, Value] = {
        "decoder": anomaly.NAME,
        "threshold": record.threshold,
        "log_mean": record.log_mean,
        "log_spread": record.log_spread,
    }
    text = f"what good parts look like, taught with {record.pictures} pictures"
    head: dict[str, Value] = {"name": record.name, "version": version, "description": text, "licence": ""}
    variant: dict[str, Value] = {"target": "cpu", "file": model.name, "sha256": sha256_of(model)}
    manifest = manifest_text(head, Guess((LABEL,), 0, rule_table(rule), options, ()), 0.5, [variant])
    _check(model, manifest, out)
    draft = out / f"{MANIFEST}.tmp"
    draft.write_text(manifest, encoding="utf-8")
    (out / RECORD_FILE).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    (out / f"draft-{PICTURES_FILE}").replace(out / PICTURES_FILE)
    draft.replace(out / MANIFEST)
    for old in out.glob(f"{record.name}-*.tflite"):
        if old != model:
            old.unlink()


def _check(model: Path, manifest: str, folder: Path) -> None:
    """The model opens, and the manifest fits it. Raises ModelError; the new model is gone then."""
    try:
        bundle = parse_bundle(tomllib.loads(manifest), folder, lambda name: (LABEL,), str(folder))
        engine = LiteRtEngine.open(model, warmup_runs=0)
        try:
            fit_bundle(bundle, engine.input, engine.outputs)
        finally:
            engine.close()
    except EdgewrightError:
        model.unlink()
        raise
