"""docs/inspection.md: its configuration loads, its commands run, its message is the one that is sent."""

import json
import re
import shlex
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.config import load_config, platforms_table
from platforms.assembly import assemble
from platforms.manufacturing.inspection.outcomes import Judged, ProblemKind
from platforms.manufacturing.inspection.picture import Fault
from platforms.manufacturing.inspection.serials import SerialProblem
from platforms.manufacturing.inspection.settings import Verdict
from platforms.manufacturing.inspection.stage import KIND, InspectionStage
from platforms.manufacturing.inspection.telling import Speaker, plain
from tests.inspection.test_files_and_codes import chessboard

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "inspection.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_configuration_of_the_page_has_no_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = blocks("toml")
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    table = config.pipelines[0].stage
    assert table is not None
    assert table["kind"] == KIND
    stage = assemble(platforms_table(config, path)).stages.make(table, "cam1", "cam1")
    assert isinstance(stage, InspectionStage)
    assert [rule.verdict for rule in stage.settings.rules] == [Verdict.REJECT, Verdict.REJECT, Verdict.REWORK]
    assert main(["check", "--config", str(path)]) == 0


def test_its_calibrations_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chessboard(tmp_path / "board.png")
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("edge-agent calibrate")]
    assert len(lines) == 2
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0
    assert {path.name for path in tmp_path.glob("*.json")} == {"plane.json", "board.json"}


def test_its_message_has_the_fields_that_are_sent() -> None:
    shown = json.loads(blocks("json")[0])
    sent = plain(Judged(17, Verdict.REJECT, 0.0, 0.0), Speaker("weld", "cam1-3.1"), 6.2)
    assert {key: type(value) for key, value in shown.items()} == {key: type(value) for key, value in sent.items()}


@pytest.mark.parametrize("kind", [*(f"camera_{fault.value}" for fault in Fault), *ProblemKind, *SerialProblem])
def test_every_problem_is_on_the_page_or_in_the_schema(kind: str) -> None:
    schema = (ROOT / "platforms/manufacturing/manufacturing.edge").read_text(encoding="utf-8")
    assert f"`{kind}`" in PAGE + schema
