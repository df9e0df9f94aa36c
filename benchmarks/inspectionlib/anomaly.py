"""Few-shot anomaly inspection: taught with 200 good magnetic tiles, tried on 120 good and 196 defective ones.

usage: python -m benchmarks.inspectionlib.anomaly [--tiny]      --tiny: fewer pictures, no other backbones, no peers

- `auroc`: of the picture's score, with the default layer of `BACKBONE`; `by_defect` for each kind against all good
  tiles; `by_backbone` some of it with others; `textures` is ours
- `pixel_auroc`: of the heat map against the masks, over all pixels of all test pictures; most pixels of defects are
  those of `uneven`, so `pixel_auroc_by_defect` too
- `recall`, `false_alarms`: at the taught threshold, whose stated rate is `false_alarms_stated`
- `teach_s`: from folder to bundle; `bundle_mb`: what goes to a node; `bundle_with_pictures_mb`: what can learn more
- `decision_ms_p50`, `_p95`: from the decoded picture to its detections, on one thread; `invoke_ms_p50` of it is the
  model's
- `small_sets`: few pictures, each good one judged by what the others taught (leave-one-out)
- `padim`, `patchcore`: anomalib on the same pictures on the CPU, run by the Python that EDGEWRIGHT_ANOMALIB names;
  `left_out` says why not. `ratio_ms_vs_padim` is ours by theirs, `auroc_minus_padim` ours less theirs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.capture.errors import StreamNotFoundError, UnreadableVideoError
from agent.capture.images import SUFFIXES, read_picture
from agent.evidence.heat import enlarged
from agent.infer.bundle_files import load_bundle
from agent.infer.fitting import fit
from agent.infer.litert import LiteRtEngine
from agent.teach import textures
from agent.teach.teaching import TeachSettings, teach
from runtime.errors import EdgewrightError

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path(os.environ.get("EDGEWRIGHT_ASSETS", ROOT.parent / "shared" / "assets"))
TILES = ASSETS / "inspection" / "magnetic_tile"
MODELS = ASSETS / "models"
BACKBONE = "mobilenet_v2_1.0_224_quant"
OTHERS = ("mobilenet_v2_int8_nchw_1x3x224x224", "mobilenet_v1_0.25_224_float32", "mobilenet_v1_0.5_160_quant")
OURS = textures.NAME  # ships with the project
KEPT = ("auroc", "pixel_auroc", "teach_s", "decision_ms_p50", "decision_ms_p95", "bundle_mb")
PEER_ENV = "EDGEWRIGHT_ANOMALIB"
PEER_S = 1800.0
BINS = 20_000
Real = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a bundle says of one picture."""

    score: float
    found: bool
    prepare_ms: float
    invoke_ms: float
    decode_ms: float
    heat: NDArray[np.float32]

    @property
    def decision_ms(self) -> float:
        return self.prepare_ms + self.invoke_ms + self.decode_ms


def auroc(good: Sequence[float] | Real, bad: Sequence[float] | Real) -> float:
    """The chance that a bad one scores above a good one; equal ones count half."""
    ordered = np.sort(np.asarray(good, np.float64))
    wanted = np.asarray(bad, np.float64)
    below = np.searchsorted(ordered, wanted, "left") + np.searchsorted(ordered, wanted, "right")
    return float(below.mean() / 2 / len(ordered))


def look(bundle: Path, files: Sequence[Path]) -> list[Seen]:
    """Each picture through the bundle as the agent does it, on one thread."""
    made = load_bundle(bundle)
    engine = LiteRtEngine.open(made.variants[0].path, threads=1)
    fitted = fit(made, engine.input, engine.outputs)
    seen = []
    for file in files:
        picture = read_picture(file)
        began = time.perf_counter()
        tensor, placement = fitted.preprocessor.prepare(picture)
        prepared = time.perf_counter()
        outputs = engine.infer(tensor)
        invoked = time.perf_counter()
        found = fitted.decoder.decode(outputs, placement, picture.width, picture.height)
        decoded = time.perf_counter()
        assert found.heat is not None
        steps = [1e3 * (b - a) for a, b in ((began, prepared), (prepared, invoked), (invoked, decoded))]
        seen.append(Seen(found.heat.score, len(found) > 0, steps[0], steps[1], steps[2], found.heat.map))
    engine.close()
    return seen


def pictures(folder: Path, limit: int | None = None) -> list[Path]:
    """Also those of its folders; with a limit, evenly spread."""
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    return found if limit is None or len(found) <= limit else found[:: max(1, len(found) // limit)][:limit]


def pixel_auroc(good: Sequence[Seen], bad: Sequence[Seen], files: Sequence[Path]) -> float:
    """Over all pixels; defective ones are those of the masks. By a histogram of the logarithm."""
    counts = np.zeros((2, BINS), np.int64)
    for seen in good:
        counts[0] += _histogram(seen.heat)
    for seen, file in zip(bad, files, strict=True):
        mask = _mask(file)
        heat = enlarged(seen.heat, *mask.shape)
        counts[0] += _histogram(heat[~mask])
        counts[1] += _histogram(heat[mask])
    normal, defective = counts
    below = np.cumsum(normal) - normal / 2
    return float((defective * below).sum() / defective.sum() / normal.sum())


def _pixels_by_kind(good: Sequence[Seen], bad: Sequence[Seen], files: Sequence[Path]) -> dict[str, float]:
    found = {}
    for kind in sorted({file.parent.name for file in files}):
        index = [i for i, file in enumerate(files) if file.parent.name == kind]
        found[kind] = round(pixel_auroc(good, [bad[i] for i in index], [files[i] for i in index]), 4)
    return found


def _histogram(heat: NDArray[np.float32]) -> NDArray[np.int64]:
    bins = (np.log(np.maximum(heat, 1e-6)) + 5) / 10 * BINS
    return np.bincount(np.clip(bins, 0, BINS - 1).astype(np.int64).ravel(), minlength=BINS)


def _mask(file: Path) -> NDArray[np.bool_]:
    mask = read_picture(TILES / "masks" / file.parent.name / f"{file.stem}.png")
    return np.asarray(mask.rgb()[:, :, 0] > 127)


def anomaly(tiny: bool = False) -> dict[str, Any]:
    """The figures; raises nothing that a missing part can cause: `left_out` says what is missing."""
    if not TILES.is_dir():
        return {"left_out": {"anomaly": f"test data is absent: {TILES}"}}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="edgewright-anomaly-") as scratch:
        folder = Path(scratch)
        good = _linked(folder / "good", pictures(TILES / "teach_good", 60 if tiny else None))
        test_good = pictures(TILES / "test_good", 20 if tiny else None)
        test_bad = pictures(TILES / "test_defect", 40 if tiny else None)
        found = _ours(good, test_good, test_bad, MODELS / f"{BACKBONE}.tflite", folder / BACKBONE)
        found["by_backbone"] = {BACKBONE: {key: found[key] for key in KEPT}}
        for name in (OURS,) if tiny else (OURS, *OTHERS):
            backbone = None if name == OURS else MODELS / f"{name}.tflite"
            other = _ours(good, test_good, test_bad, backbone, folder / name)
            found["by_backbone"][name] = {key: other[key] for key in KEPT}
        found["small_sets"] = {} if tiny else small_sets(folder, left_out)
        peers = _peers(good, test_good, test_bad, left_out, tiny)
    found.update({"padim": None, "patchcore": None, "ratio_ms_vs_padim": None, "auroc_minus_padim": None}, **peers)
    if found["padim"]:
        found["ratio_ms_vs_padim"] = round(found["decision_ms_p50"] / found["padim"]["ms_p50"], 4)
        found["auroc_minus_padim"] = round(found["auroc"] - found["padim"]["auroc"], 4)
    found["left_out"] = left_out
    return found


def _ours(
    good: Path, test_good: list[Path], test_bad: list[Path], backbone: Path | None, out: Path
) -> dict[str, Any]:
    lesson = teach(good, out, backbone, camera="tiles")
    passed, failed = look(out, test_good), look(out, test_bad)
    scores = np.array([one.score for one in failed])
    kinds = np.array([file.parent.name for file in test_bad])
    decision = [one.decision_ms for one in (*passed, *failed)]
    travels = sum(f.stat().st_size for f in out.iterdir() if f.suffix in (".tflite", ".toml", ".txt"))
    clean = [one.score for one in passed]
    found: dict[str, Any] = {
        "auroc": round(auroc(clean, scores), 4),
        "pixel_auroc": round(pixel_auroc(passed, failed, test_bad), 4),
        "pixel_auroc_by_defect": _pixels_by_kind(passed, failed, test_bad),
        "by_defect": {kind: round(auroc(clean, scores[kinds == kind]), 4) for kind in sorted(set(kinds.tolist()))},
        "recall": round(float(np.mean([one.found for one in failed])), 4),
        "false_alarms": round(float(np.mean([one.found for one in passed])), 4),
        "false_alarms_stated": lesson.record.false_alarms,
        "pictures_taught": lesson.record.pictures,
        "pictures_left_out": len(lesson.record.outliers),
        "teach_s": lesson.record.teach_s,
        "decision_ms_p50": round(float(np.percentile(decision, 50)), 3),
        "decision_ms_p95": round(float(np.percentile(decision, 95)), 3),
        "invoke_ms_p50": round(float(np.median([one.invoke_ms for one in (*passed, *failed)])), 3),
        "bundle_mb": round(travels / 1e6, 3),
        "bundle_with_pictures_mb": round(sum(f.stat().st_size for f in out.iterdir()) / 1e6, 3),
        "backbone": lesson.record.backbone,
        "layers": list(lesson.record.layers),
    }
    return found


def _linked(folder: Path, files: Sequence[Path]) -> Path:
    folder.mkdir(parents=True)
    for file in files:
        (folder / f"{file.parent.name}-{file.name}").symlink_to(file)
    return folder


# ---- small sets ---------------------------------------------------------------------------------


def small_sets(folder: Path, left_out: dict[str, str]) -> dict[str, Any]:
    """Those of images/defect_* that have good pictures of one thing."""
    found: dict[str, Any] = {}
    left_out["small_sets.defect_steel_neu"] = "all of its pictures are defective"
    left_out["small_sets.defect_pcb"] = "each good picture is another board"
    for name, (good, bad) in {"defect_kolektor": _kolektor(), "defect_solar_elpv": _solar(), **_few_tiles()}.items():
        try:
            out = folder / f"out-{name}"
            settings = TeachSettings(keep_outliers=True)
            lesson = teach(_linked(folder / name, good), out, MODELS / f"{BACKBONE}.tflite", settings=settings)
            scores = [one.score for one in look(out, bad)]
        except (EdgewrightError, OSError, StreamNotFoundError, UnreadableVideoError) as error:
            left_out[f"small_sets.{name}"] = str(error)
            continue
        clean = list(lesson.held_out.values())
        found[name] = {"good": len(clean), "defective": len(bad), "auroc": round(auroc(clean, scores), 4)}
    return found


def _kolektor() -> tuple[list[Path], list[Path]]:
    cracked: list[Path] = []
    fine: list[Path] = []
    for file in pictures(ASSETS / "images" / "defect_kolektor"):
        label = ASSETS / "labels" / "defect_kolektor" / f"{file.stem}.txt"
        has_crack = label.exists() and bool(label.read_text().strip())
        (cracked if has_crack else fine).append(file)
    return fine, cracked


def _solar() -> tuple[list[Path], list[Path]]:
    (table,) = (ASSETS / "labels" / "defect_solar_elpv").glob("*.csv")
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    images = ASSETS / "images" / "defect_solar_elpv"
    fine = [images / name for name, chance, *_ in rows if float(chance) == 0]
    broken = [images / name for name, chance, *_ in rows if float(chance) > 0.5]
    return fine, broken


def _few_tiles() -> dict[str, tuple[list[Path], list[Path]]]:
    files = pictures(ASSETS / "images" / "defect_magnetic_tile")
    fine = [file for file in files if "_Free_" in file.name]
    return {"defect_magnetic_tile": (fine, [file for file in files if file not in fine])}


# ---- the peer -----------------------------------------------------------------------------------


def _peers(
    good: Path, test_good: list[Path], test_bad: list[Path], left_out: dict[str, str], tiny: bool
) -> dict[str, Any]:
    python = os.environ.get(PEER_ENV, "")
    if tiny or not python:
        why = "it takes minutes: not with --tiny" if tiny else f"{PEER_ENV} names no Python that has anomalib"
        left_out["padim"] = left_out["patchcore"] = why
        return {}
    request = {"teach": [str(f) for f in pictures(good)], "good": [str(f) for f in test_good]}
    request |= {"bad": [str(f) for f in test_bad], "which": ["padim", "patchcore"]}
    peer = Path(__file__).with_name("anomalib_peer.py")
    try:
        done = subprocess.run(
            [python, str(peer)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=PEER_S,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        left_out["padim"] = left_out["patchcore"] = f"the peer did not answer: {error!r}"[:400]
        return {}
    left_out.update(answer.pop("left_out", {}))
    return answer


if __name__ == "__main__":
    print(json.dumps(anomaly("--tiny" in sys.argv[1:]), indent=1))
