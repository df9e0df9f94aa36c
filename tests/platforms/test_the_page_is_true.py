"""`docs/platforms.md`: its settings are read, its calls are declared, and its table is what is bound."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from platforms.finding import find_schema
from platforms.functions import bindings_of
from platforms.manufacturing import functions as manufacturing
from platforms.retail import functions as retail
from platforms.retail.types import RetailSettings
from platforms.traffic import functions as traffic
from platforms.traffic.types import TrafficSettings
from schemas.language.load import load
from schemas.language.schema import FunctionType
from schemas.shape import read

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "platforms.md").read_text(encoding="utf-8")
MODULES = {"manufacturing": manufacturing, "traffic": traffic, "retail": retail}


def functions_of(name: str) -> dict[str, FunctionType]:
    path = find_schema(name)
    assert path is not None
    return dict(load(path, find_schema).schema.functions)


def test_the_settings_of_the_page_are_read() -> None:
    merged = {
        name: table
        for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
        for name, table in tomllib.loads(block).get("platforms", {}).items()
    }
    junction = read(TrafficSettings, merged["traffic"], strict=True).intersections["IS-001"]
    assert [(approach.name, approach.zone_length_m) for approach in junction.approaches] == [("north", 40.0)]
    shop = read(RetailSettings, merged["retail"], strict=True).stores["S-017"]
    assert [(entrance.camera_id, entrance.line) for entrance in shop.entrances] == [("door", "sill")]


def test_the_calls_of_the_page_name_declared_parameters() -> None:
    declared = {name: one for platform in MODULES for name, one in functions_of(platform).items()}
    calls = re.findall(r"cmd/(\w+) -m '(.*?)'", PAGE, re.DOTALL)
    assert {name for name, _ in calls} == {"processVideoStream", "analyzeTrafficFlow", "countCustomers"}
    for name, text in calls:
        given, known = json.loads(text), declared[name].parameters
        assert given.keys() <= {one.name for one in known}
        assert given.keys() >= {one.name for one in known if one.required}


@pytest.mark.parametrize("name", MODULES)
def test_the_table_says_what_is_bound(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    bound, unbound = (set(re.findall(r"`(\w+)`", cell)) for cell in row)
    hosts = {"syncDataToCloud", "deployModel", "triggerAlert"}  # served by node and coordinator themselves
    assert bound - hosts == {binding.name for binding in bindings_of(MODULES[name])}
    assert unbound == functions_of(name).keys() - bound - hosts
