"""docs/inspection-teach.md: its commands are run in their order, on rendered parts."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.infer.bundle_files import load_bundle
from tests.anomaly.parts import folder_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "inspection-teach.md").read_text(encoding="utf-8")
MODEL = ROOT / "platforms" / "manufacturing" / "models" / "weld_defects" / "weld_defects_int8.tflite"


def test_every_command_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path / "good", range(12))
    folder_of(tmp_path / "more", range(20, 24))
    shutil.copy(MODEL, tmp_path / "backbone.tflite")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("edge-agent ")]
    assert len(commands) == 5
    for command in commands:
        assert main(shlex.split(command, comments=True)[1:]) == 0, command
    assert load_bundle("bundles/cam1-anomaly").version == "2"
    assert load_bundle("bundles/seam").name == "seam"
