"""Scenarios: the file, flags over it, every mistake in one go."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from coordinator.simulate.scenario import Scenario, load_scenario, password_of
from runtime.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "deploy" / "simulate.toml"


def test_the_sample_has_every_key_with_its_default() -> None:
    text = SAMPLE.read_text(encoding="utf-8")
    for table in fields(Scenario):
        value = getattr(Scenario(), table.name)
        keys = [one.name for one in fields(value)] if table.name != "faults" else []
        for key in keys:
            assert re.search(rf"^# ?{key} = ", text, re.MULTILINE), f"{table.name}.{key}"
    assert "\nfaults = [" in text


def test_the_sample_and_all_that_it_comments_load(tmp_path: Path) -> None:
    assert load_scenario(SAMPLE, {}, []).faults
    text = re.sub(r"^# ?(\w+ = )", r"\1", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    whole = tmp_path / "whole.toml"
    whole.write_text(text, encoding="utf-8")
    found = load_scenario(whole, {}, [])
    default = Scenario()
    assert (found.fleet, found.load, found.desired, found.workloads, found.run) == (
        default.fleet, default.load, default.desired, default.workloads, default.run,
    )  # fmt: skip


def test_flags_stand_over_the_file_and_faults_add_up(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('faults = ["drop:5%@60s"]\n[fleet]\nnodes = 7\nseed = 3\n', encoding="utf-8")
    found = load_scenario(path, {"fleet": {"nodes": 9}, "run": {"processes": 2}}, ["kill:5%@60s"])
    assert (found.fleet.nodes, found.fleet.seed, found.run.processes) == (9, 3, 2)
    assert found.faults == ("drop:5%@60s", "kill:5%@60s")


def test_every_mistake_is_said_at_once() -> None:
    flags: dict[str, dict[str, Any]] = {
        "fleet": {"prefix": "Sim"},
        "run": {"brokers": ["nowhere:port", "a:70000"]},
        "desired": {"failing": 0.7, "silent": 0.7},
    }
    with pytest.raises(ConfigError) as refused:
        load_scenario(None, flags, ["melt:1%@1s"])
    for said in ("fleet.prefix", "'nowhere:port' is no broker", "'a:70000'", "no fault melt", "at most 1 together"):
        assert said in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"fleet": {"nodes": 0}}, "fleet.nodes: 0 must be at least 1"),
        ({"fleet": {"node": 3}}, "did you mean nodes"),
        ({"fleet": {"nodes": 54_000}}, "give 3 or more"),
        ({"run": {"brokers": []}}, "name one at least"),
        ({"load": {"events_per_node": -1.0}}, "load.events_per_node"),
    ],
)
def test_what_cannot_be_is_refused(flags: dict[str, dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_scenario(None, flags, [])


def test_addresses_are_read() -> None:
    found = load_scenario(None, {"run": {"brokers": ["a.example", "10.0.0.1:1884", "[::1]:1885"]}}, [])
    assert found.addresses == [("a.example", 1883), ("10.0.0.1", 1884), ("::1", 1885)]


def test_a_password_comes_from_the_environment_alone() -> None:
    found = load_scenario(None, {"run": {"password_env": "SIM_PASSWORD"}}, [])
    assert password_of(found, {"SIM_PASSWORD": "s"}) == b"s"
    assert password_of(Scenario(), {}) is None
    with pytest.raises(ConfigError, match="has no SIM_PASSWORD"):
        password_of(found, {})
