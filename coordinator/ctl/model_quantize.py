"""`edgectl model quantize`: a float model to int8, with pictures of one's own."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.ctl.evidence import Opener
from coordinator.quantize import environment, report
from coordinator.quantize.wish import PICTURES_FEW, PICTURES_MAX, wish_of, write_bundle

Add = Callable[[str, str, Callable[[argparse.Namespace, Opener], int]], argparse.ArgumentParser]
Say = Callable[[argparse.Namespace, Any, str], int]


def add_command(add: Add, say: Say) -> None:
    text = "a float model to int8, with pictures of your own; needs the training environment (2 GB)"
    command = add("quantize", text, lambda parsed, open_: _quantize(parsed, say))
    text = "a SavedModel's folder, a .keras file, or a bundle that has a .keras file in it"
    command.add_argument("source", type=Path, metavar="SOURCE", help=text)
    text = "the bundle of the float model: its input, labels and decoder are those of the new one"
    command.add_argument("--bundle", type=Path, metavar="FOLDER", help=text)
    text = "JPEG, PNG or BMP pictures of what the cameras see"
    command.add_argument("--calibration", type=Path, required=True, metavar="DIR", help=text)
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the new bundle")
    command.add_argument("--version", default="", help="of the new bundle (default: the next patch)")
    text = f"at most so many pictures, spread over all (default {PICTURES_MAX})"
    command.add_argument("--limit", type=_limit, default=PICTURES_MAX, metavar="N", help=text)
    text = f"of an environment with TensorFlow (default: ${environment.VARIABLE}, or .venv-train)"
    command.add_argument("--python", type=Path, metavar="FILE", help=text)


def _quantize(parsed: argparse.Namespace, say: Say) -> int:
    wish = wish_of(parsed.source, parsed.bundle, parsed.calibration, parsed.out, parsed.version, parsed.limit)
    python = environment.find_python(parsed.python)
    count = len(wish.pictures)
    with tempfile.TemporaryDirectory(prefix="edgewright-quantize-") as folder:
        job = wish.job(Path(folder))
        found = environment.run(python, job)
        release = write_bundle(wish, Path(job["int8"]), report.note(found, count))
    warnings = report.warnings(found, count, PICTURES_FEW)
    for warning in warnings:
        print(f"edgectl: {warning}", file=sys.stderr)  # noqa: T201
    document = {"model": release.reference, "folder": str(wish.out), "pictures": count, "warnings": warnings, **found}
    text = f"{release.reference} in {wish.out}, made from {wish.release.reference}\n\n{report.rows(found, count)}"
    return say(parsed, document, text)


def _limit(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 10_000:
        raise argparse.ArgumentTypeError("must be 1 to 10000")
    return value
