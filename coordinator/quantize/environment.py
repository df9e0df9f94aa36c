"""The training environment: where its Python is, and a conversion run by it."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.errors import PermanentError

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "EDGEWRIGHT_TRAIN_PYTHON"
SCRIPT = Path(__file__).with_name("convert.py")
TIMEOUT_S = 3600.0
OUTPUT_CHARS_SHOWN = 600


class NoTensorFlowError(PermanentError):
    """The training environment is not there, or has no TensorFlow."""


def find_python(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The one that is named, or that of `.venv-train`. Raises NoTensorFlowError, also where it has no TensorFlow."""
    python = given or Path(environ.get(VARIABLE) or ROOT / ".venv-train" / "bin" / "python")
    hint = f"scripts/setup --for train makes it (2 GB); another one: --python FILE, or ${VARIABLE}"
    if not python.is_file():
        raise NoTensorFlowError(f"the training environment is missing: there is no {python}", hint=hint)
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('tensorflow') is None)"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoTensorFlowError(f"{python} cannot be run: {error}", hint=hint) from error
    if done.returncode:
        raise NoTensorFlowError(f"{python} has no TensorFlow", hint=hint)
    return python


def run(python: Path, job: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """What the conversion came to. Raises PermanentError with what it said."""
    environ = {**os.environ, "PYTHONPATH": ""}
    try:
        done = subprocess.run(
            [python, "-I", SCRIPT], input=json.dumps(job), capture_output=True, text=True, timeout=timeout_s,
            check=False, env=environ,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise PermanentError(f"the conversion took longer than {timeout_s:g} s", hint="fewer pictures") from error
    found: dict[str, Any] = {}
    try:
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                found |= json.loads(line)
    except ValueError:
        found = {}
    if not found:
        said = done.stderr.strip()[-OUTPUT_CHARS_SHOWN:] or "nothing"
        raise PermanentError(f"the conversion ended with status {done.returncode} and said: {said}")
    if "error" in found:
        raise PermanentError(f"the model cannot be converted: {found['error']}")
    return found
