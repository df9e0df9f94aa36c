"""Builds the fickle delegate once a session and tells it how to behave."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.infer.settings import InferSettings

_SOURCE = Path(__file__).parent / "delegate/fickle.c"
needs_gcc = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="the test delegate is built with gcc, which is absent"
)


@dataclass(frozen=True)
class Fickle:
    library: Path
    mode_file: Path

    def become(self, mode: str) -> None:
        # By rename, so that the delegate never reads half a word.
        draft = self.mode_file.with_suffix(".new")
        draft.write_text(mode)
        draft.replace(self.mode_file)

    @property
    def options(self) -> dict[str, str]:
        return {"mode_file": str(self.mode_file)}

    def settings(self, **changes: float) -> InferSettings:
        values: dict[str, float] = {
            "invoke_timeout_s": 2.0, "load_timeout_s": 20.0, "retry_first_s": 0.05, "retry_max_s": 0.5,
            "heartbeat_s": 0.05, "warmup_runs": 1, **changes,
        }  # fmt: skip
        return InferSettings(delegate_library=str(self.library), delegate_options=self.options, **values)  # type: ignore[arg-type]


def build_fickle(folder: Path) -> Path:
    library = folder / "libfickle.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, _SOURCE], check=True)
    return library
