"""docs/maintenance.md, production.md and safety.md: their configurations load, and their calls are declared."""

import json
import re
from pathlib import Path

import pytest

from agent.config import AgentConfig, load_config
from platforms.assembly import assemble
from platforms.manufacturing.maintenance.settings import read_maintenance
from platforms.manufacturing.production.settings import read_production
from platforms.settings import PlatformsTable
from platforms.testing import load_folder

ROOT = Path(__file__).resolve().parents[2]
PLATFORM = load_folder(ROOT / "platforms" / "manufacturing", [ROOT / "platforms" / "core"])
PAGES = ("maintenance", "production", "safety")
CAMERA = '[[cameras]]\nid = "{}"\nsource = "scene:weld"\n'


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def configured(name: str, folder: Path) -> AgentConfig:
    (block,) = re.findall(r"```toml\n(.*?)```", page(name), re.DOTALL)
    path = folder / "agent.toml"
    camera = CAMERA.format("hall" if name == "safety" else "cam1")
    path.write_text('[node]\nid = "gw-1"\n' + camera + block.replace(", …", ""), encoding="utf-8")
    return load_config(path)


def test_the_machine_of_the_page(tmp_path: Path) -> None:
    config = configured("maintenance", tmp_path)
    machine = read_maintenance(config.platforms["manufacturing"]).machines["press1"]
    sensors = {sensor.id: {channel.name for channel in sensor.channels} for sensor in config.sensors}
    assert all(point.channel in sensors[point.sensor] for point in machine.points)
    assert machine.bearing is not None and machine.points[1].limit == 80.0


def test_the_line_of_the_page(tmp_path: Path) -> None:
    line = read_production(configured("production", tmp_path).platforms["manufacturing"]).lines["L1"]
    assert (line.ideal_cycle_s, len(line.shifts), len(line.charts)) == (2.0, 1, 2)


def test_the_rules_of_the_page(tmp_path: Path) -> None:
    config = configured("safety", tmp_path)
    kinds = assemble(PlatformsTable(enabled=("manufacturing",))).rule_kinds
    labels = ("person", "forklift", "helmet", "vest")
    made = [kinds[rule.kind](rule.settings, labels) for rule in config.pipelines[0].rules if rule.kind]
    assert len(made) == len(kinds) == 4
    described = set(re.findall(r"^\| `(manufacturing\.\w+)`", page("safety"), re.MULTILINE))
    assert described == set(kinds)


@pytest.mark.parametrize("name", PAGES)
def test_the_calls_of_a_page_are_declared(name: str) -> None:
    calls = [(call, json.loads(text)) for call, text in re.findall(r"cmd/(\w+) -m '(.*?)'", page(name), re.DOTALL)]
    typed = re.findall(r"edgectl call [\w-]+ (\w+)((?: \w+=\S+)*)", page(name))
    calls += [(call, dict(pair.split("=", 1) for pair in pairs.split())) for call, pairs in typed]
    assert calls or name == "safety"
    for call, given in calls:
        known = PLATFORM.schema.functions[call].parameters
        assert given.keys() <= {one.name for one in known}, call
        assert given.keys() >= {one.name for one in known if one.required}, call


@pytest.mark.parametrize("name", PAGES)
def test_the_events_that_a_page_names_are_declared(name: str) -> None:
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", page(name)))
    schemas = assemble(PlatformsTable(enabled=("manufacturing",))).events
    assert named <= schemas, named - schemas
