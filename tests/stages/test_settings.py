"""`[pipelines.stage]` against the platforms that are there; and what a stage that a workload brings has to be."""

from pathlib import Path
from typing import Any

import pytest

from agent.actions.declared import undeclared
from agent.actions.settings import OnSettings
from agent.config import PipelineConfig
from agent.workloads.pipelines import stage_mistakes
from platforms.assembly import assemble
from platforms.settings import PlatformsTable
from platforms.stages import InputLine, Stage, StageError, StageKinds, StageTable, line_mistakes, topic_mistake
from schemas.workloads import PipelineSpec

ASSEMBLY = assemble(PlatformsTable(("manufacturing",), folder=Path("/etc/edge")))
INSPECTION = {"kind": "manufacturing.inspection"}


def mistakes(raw: dict[str, Any], kinds: StageKinds = ASSEMBLY.stages) -> list[str]:
    with pytest.raises(StageError) as told:
        kinds.make(raw, "cam1", "weld", ["second"])
    return list(told.value.mistakes)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({}, "kind: is needed, as the name of a platform's stage (manufacturing.inspection)"),
        ({"kind": 7}, "kind: is needed"),
        ({"kind": "manufacturing.sorting"}, "kind: no platform here has a stage 'manufacturing.sorting'"),
        ({"kind": "bakery.buns"}, 'kind: bakery.buns needs its platform: [platforms] enabled = ["bakery"]'),
        ({**INSPECTION, "also": ["weld"]}, "also: no other pipeline of this camera is called 'weld' (second)"),
        ({**INSPECTION, "also": "second"}, "also: must be a list of names of pipelines"),
        ({**INSPECTION, "triger": "signal"}, "triger: unknown key; did you mean trigger?"),
        ({**INSPECTION, "rules": [{"confidence_min": 2}]}, "rules[0].verdict: is missing"),
        ({**INSPECTION, "part": {"frames": 99}}, "part.frames: 99 must be at most 16"),
        ({**INSPECTION, "signal": {"topic": "a/#"}}, "signal.topic: 'a/#' must have no + or #"),
        ({**INSPECTION, "signal": {"line": -1}}, "signal.line: must be a number from 0"),
    ],
)
def test_a_mistake_is_told_with_its_key(raw: dict[str, Any], said: str) -> None:
    assert any(text.startswith(said) for text in mistakes(raw)), mistakes(raw)


def test_all_mistakes_are_told_at_once() -> None:
    raw = {**INSPECTION, "also": ["nobody"], "gate": 1, "part": {"gate": 3}, "rules": [{}, {"verdict": "bad"}]}
    keys = {text.split(":")[0] for text in mistakes(raw)}
    assert keys == {"also", "gate", "part.gate", "rules[0].verdict", "rules[1].verdict"}


def test_files_are_relative_to_the_configuration() -> None:
    seen: list[StageTable] = []

    def made(table: StageTable) -> Stage:
        seen.append(table)
        return Stage()

    StageKinds({"a.b": made}, Path("/etc/edge")).make({"kind": "a.b", "also": ["x"], "n": 1}, "cam1", "weld")
    assert seen == [StageTable({"n": 1}, "cam1", ("weld", "x"), Path("/etc/edge"))]
    with pytest.raises(StageError, match=r"/etc/edge/plane\.json cannot be read"):
        ASSEMBLY.stages.make({**INSPECTION, "calibration": {"file": "plane.json"}}, "cam1", "weld").load(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, []),
        ({**INSPECTION, "wait": 1}, ["pipeline.settings.stage.wait: unknown key; did you mean wait_s?"]),
        (
            {**INSPECTION, "trigger": "signal", "signal": {"topic": "line/part"}},
            ["pipeline.settings.stage: messages and input lines from outside are for stages of agent.toml"],
        ),
        ({**INSPECTION, "output": {"topic": "line/verdict"}}, []),
    ],
)
def test_a_workload_may_bring_a_stage(table: dict[str, Any] | None, said: list[str]) -> None:
    settings = {} if table is None else {"stage": table}
    spec = PipelineSpec("cam1", "weld", None, (), settings)
    assert stage_mistakes("weld", spec, None, ASSEMBLY.stages) == said
    there = PipelineConfig("cam1", "weld", stage=table)
    assert stage_mistakes("weld", spec, there, ASSEMBLY.stages) == []  # as the one that is there


@pytest.mark.parametrize(
    ("on", "said"),
    [
        (OnSettings(types=("PartInspected",), fields={"verdict": ("reject", "unsure")}), []),
        (OnSettings(types=("PartInspected",), fields={"pipeline": ("weld",)}), []),
        (OnSettings(types=("CameraStateChanged",), fields={"state": ("lost",)}), []),
        (OnSettings(types=("DefectDetected", "LineCrossed"), fields={"line": ("in",)}), []),
        (OnSettings(fields={"zone": ("door",)}), []),
        (
            OnSettings(types=("PartInspected",), fields={"verdict": ("bad",)}),
            ["on.fields.verdict: it is never 'bad', but ok|rework|unsure|reject"],
        ),
        (
            OnSettings(types=("PartInspected",), fields={"verdit": ("ok",)}),
            ["on.fields.verdit: none of these events has such a field; did you mean verdict?"],
        ),
        (OnSettings(types=("CameraStateChanged",), fields={"state": ("gone",)}), ["on.fields.state: it is never"]),
        (OnSettings(types=("PartInspekted",)), ["on.types: no event is called 'PartInspekted'"]),
    ],
)
def test_what_no_event_has_is_told(on: OnSettings, said: list[str]) -> None:
    found = undeclared(on, ASSEMBLY.catalogue.schemas)
    assert len(found) == len(said)
    assert all(one.startswith(begins) for one, begins in zip(found, said, strict=True)), found


@pytest.mark.parametrize(("topic", "right"), [("a/b", True), ("a/+", False), ("#", False), ("$SYS/a", False)])
def test_topics_of_stages(topic: str, right: bool) -> None:
    assert (topic_mistake(topic) == "") is right


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        (InputLine("/dev/gpiochip0", 3), set()),
        (InputLine("fake:/tmp/x.json", "door"), set()),
        (InputLine("gpiochip0", True), {"chip", "line"}),
    ],
)
def test_input_lines_of_stages(line: InputLine, keys: set[str]) -> None:
    assert set(line_mistakes(line)) == keys
