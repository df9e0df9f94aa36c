"""The sample configuration can be used as it is, and shows every key there is."""

import dataclasses
import re
import tomllib
import typing
from pathlib import Path
from typing import Any

from agent.config import AgentConfig, load_config
from platforms.manufacturing.inspection.settings import InspectionSettings
from platforms.stages import ALSO, KIND
from runtime.config import EndpointConfig
from schemas.shape import read

SAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "agent.toml"


def tables(cls: Any, name: str = "") -> dict[str, set[str]]:
    """The keys of each table, by its name in TOML: `pipelines.zones`."""
    hints = typing.get_type_hints(cls)
    found: dict[str, set[str]] = {name: {field.name for field in dataclasses.fields(cls)}}
    for key, annotation in hints.items():
        for inner in (annotation, *typing.get_args(annotation)):
            if dataclasses.is_dataclass(inner):
                found |= tables(inner, f"{name}.{key}".lstrip("."))
    return found


def shown() -> dict[str, set[str]]:
    """The keys in each table of the sample, commented or not."""
    found: dict[str, set[str]] = {"": set()}
    table = ""
    for line in SAMPLE.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if header := re.match(r"\[{1,2}([a-z_.]+)\]{1,2}(\s|$)", text):
            table = header[1]
            parent, _, key = table.rpartition(".")
            found.setdefault(parent, set()).add(key)
            found.setdefault(table, set())
        elif key_line := re.match(r"([a-z_0-9]+) = ", text):
            found[table].add(key_line[1])
    return found


def test_it_loads() -> None:
    config = load_config(SAMPLE)
    assert config.node.id == "gw-1"
    assert len(config.cameras) == 1


def test_every_key_appears_and_no_other() -> None:
    known = tables(AgentConfig)
    known["cameras"].discard("password")  # refused in a configuration
    known["platforms"] = {"enabled", "folders"}  # further keys are tables of platforms
    known |= tables(InspectionSettings, "pipelines.stage")
    known["pipelines.stage"] |= {KIND, ALSO}
    assert shown() == known


def test_every_number_and_switch_that_is_commented_out_shows_its_default() -> None:
    """Other values may be examples."""
    given = read(AgentConfig, tomllib.loads(uncommented()), strict=True)
    example = {
        "node": {"id": "x"},
        "cameras": [{"id": "x", "source": "x"}],
        "pipelines": [{"camera": "x", "model": "x"}],
    }
    plain = read(AgentConfig, example, strict=True)
    pairs: list[tuple[Any, Any]] = [
        (given.node, plain.node),
        (given.broker, plain.broker),
        (given.broker.fallbacks[0], EndpointConfig()),
        (given.link, plain.link),
        (given.inference, plain.inference),
        (given.local_broker, plain.local_broker),
        (given.degradation, plain.degradation),
        (given.evidence, plain.evidence),
        (given.actions[0], type(given.actions[0])("x", given.actions[0].do)),
        (given.cameras[0], plain.cameras[0]),
        (given.pipelines[0], plain.pipelines[0]),
        (given.pipelines[0].tracker, plain.pipelines[0].tracker),
        (given.pipelines[0].lines[0], type(given.pipelines[0].lines[0])("x", (0, 0), (1, 1))),
        (given.pipelines[0].zones[0], type(given.pipelines[0].zones[0])("x", ())),
        (given.pipelines[0].rules[0], type(given.pipelines[0].rules[0])("x")),
        (given.sensors[0], type(given.sensors[0])("x", given.sensors[0].kind)),
    ]
    for shown_table, default_table in pairs:
        for field in dataclasses.fields(default_table):
            default = getattr(default_table, field.name)
            if isinstance(default, int | float):
                assert getattr(shown_table, field.name) == default, f"{type(default_table).__name__}.{field.name}"


def uncommented() -> str:
    return re.sub(r"(?m)^# (?=\[|[a-z_0-9]+ = )", "", SAMPLE.read_text(encoding="utf-8"))


def test_it_loads_with_every_comment_taken_away() -> None:
    """What a person gets who uncomments a key is right too."""
    raw = tomllib.loads(uncommented())
    config = read(AgentConfig, raw, strict=True)
    assert config.pipelines[0].zones[0].name == "belt"
