"""What an operator declares: every mistake at once, the sample, and what of it nodes are told."""

import dataclasses
import re
import tomllib
from typing import Any

import pytest

from coordinator.fleet.selector_text import parse
from coordinator.schedule.workload import (
    Scale,
    Spread,
    UpdateRules,
    Workload,
    contradiction,
    declared,
    read_workload,
    selector_of,
)
from schemas.shape import ShapeError
from schemas.workloads import ContainerSpec, ResourceRequirements, parse_workload
from tests.coordinator.process import ROOT
from tests.schedule.yard import IMAGE, workload

SAMPLE = (ROOT / "deploy" / "workload.toml").read_text(encoding="utf-8")
TABLES: dict[str, type] = {
    "": Workload, "spread": Spread, "scale": Scale, "update": UpdateRules, "resources": ResourceRequirements,
    "container": ContainerSpec,
}  # fmt: skip
ELSEWHERE = {"pipeline", "function", "exists", "source", "spread", "scale", "update", "resources", "env", "container"}


def shown() -> dict[str, dict[str, Any]]:
    """The keys of each table of the sample with their values, commented or not."""
    text = re.sub(r"^# (\w+ = )", r"\1", SAMPLE, flags=re.MULTILINE)
    found: dict[str, Any] = tomllib.loads(text)
    plain = {key: value for key, value in found.items() if not isinstance(value, dict)}
    return {"": plain, **{key: value for key, value in found.items() if isinstance(value, dict)}}


def test_the_sample_can_be_applied_and_shows_every_key_with_its_default() -> None:
    assert read_workload(tomllib.loads(SAMPLE)).name == "counter"
    tables = shown()
    for name, cls in TABLES.items():
        known = {one.name for one in dataclasses.fields(cls)} - (ELSEWHERE if name == "" else set())
        if name != "container":  # docs/workloads.md has the others
            assert set(tables[name]) == known, name
    commented = re.findall(r"^# (\w+) = ", SAMPLE, flags=re.MULTILINE)
    whole = read_workload({**tables[""], **{key: value for key, value in tables.items() if key}})
    bare = read_workload(tomllib.loads(SAMPLE))
    assert declared(whole) == declared(bare), "what is commented out is the default"
    assert len(commented) > 15


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"replicas": -1}, "replicas: '-1' must be a number from 0 to 100000, or \"all\""),
        ({"replicas": True}, "replicas: 'True' must be a number"),
        ({"replicas": "many"}, "replicas: 'many' must be a number"),
        ({"selector": " "}, "selector: it is empty; write all"),
        ({"selector": "site ~ a"}, "selector: '~' cannot stand here"),
        ({"selector": "state = online"}, "selector: state changes by itself"),
        ({"selector": "site = a, line in (1, 2), line = 3"}, "line in (1, 2) and line = 3: no node can be both"),
        ({"hardware": ["toaster"]}, "hardware: 'toaster' must be one of x86_64, arm64, gpu, npu, tpu"),
        ({"priority": 1001}, "priority: 1001 must be at most 1000"),
        ({"spread": {"by": "site"}}, "spread: give max, or even = true"),
        ({"spread": {"by": "version.x", "max": 1}}, "spread.by: 'version.x' must be site or a label"),
        ({"replicas": "all", "spread": {"max": 1}}, 'spread: with replicas = "all" there is nothing to choose'),
        ({"scale": {"on": "fps", "min": 3, "max": 2, "above": 1, "below": 0}}, "scale.min: 3 is more than max = 2"),
        ({"scale": {"on": "fps", "max": 2, "above": 1, "below": 1}}, "or it would swing for ever"),
        ({"replicas": "all", "scale": {"on": "fps", "max": 2, "above": 1, "below": 0}}, "nothing to count"),
        ({"update": {"waves": ["5%"]}}, "update.the last wave is 5%, not 100%"),
        ({"container": None}, "container: is missing; a workload of type container needs it"),
        ({"env": {"A-B": "1"}}, "env: 'A-B' is no name of a variable"),
        ({"name": "a b"}, "name: 'a b' must be 1 to 63 letters"),
        ({"color": "red"}, "color: unknown key"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ShapeError, match=re.escape(said)):
        workload(**changes)


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(ShapeError) as caught:
        workload(replicas=-1, selector="", hardware=["x"], spread={"max": None}, env={"-": ""})
    assert len(caught.value.mistakes) == 5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("site = a and site = b", True),
        ("site = a and site = a", False),
        ("site = a or site = b", False),
        ("camera = a and camera = b", False),
        ("line in (1, 2) and line in (2, 3)", False),
        ("all and (site = a and label.site = b)", False),
        ("l = 1 and label.l = 2", True),
        ("x = 1 and (site = a and site in (b, c))", True),
    ],
)
def test_contradictions(text: str, found: bool) -> None:
    assert bool(contradiction(parse(text).tree)) is found


def test_what_it_needs_is_part_of_whom_it_means() -> None:
    given = workload(hardware=["arm64", "npu"], resources={"accelerators": ["edgetpu"]}, selector="site = a")
    keys = selector_of(given).keys
    assert {"site", "hardware.arch", "hardware.accelerators", "resources.npu"} <= keys
    facts: dict[str, Any] = {"site": "a", "hardware.arch": "aarch64", "hardware.accelerators": ("edgetpu",)}
    assert not selector_of(given).matches(facts)
    assert selector_of(given).matches({**facts, "resources.npu": 1.0})
    stream = read_workload({"name": "v", "type": "VIDEO_ANALYTICS", "pipeline": {"camera": "cam1"}})
    assert selector_of(stream).matches({"camera": ("cam1", "cam2")}) and not selector_of(stream).matches({})
    job = read_workload({"name": "f", "type": "data_processing", "function": {"name": "sum"}})
    assert selector_of(job).matches({"function": ("sum",)}) and not selector_of(job).matches({"function": ("x",)})


def test_nodes_are_told_what_they_run_and_no_more() -> None:
    given = workload(replicas=3, env={"A": "1"}, priority=7, spread={"max": 1}, sticky=True)
    spec = given.spec(4)
    assert parse_workload(spec).generation == 4
    assert set(spec) == {"type", "generation", "env", "resources", "restart", "priority", "container"}
    assert given.same_spec(workload(replicas=9, env={"A": "1"}, priority=7))
    assert not given.same_spec(workload(env={"A": "2"}, priority=7))
    assert read_workload(declared(given)) == given
    assert spec["container"]["image"] == IMAGE["image"]
