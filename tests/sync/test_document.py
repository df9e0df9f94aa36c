"""The examples of docs/sync.md are what they say: configurations load, commands are understood, queries parse."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from agent.__main__ import _parser
from agent.config import AgentConfig
from agent.sync.command import SyncCall
from schemas.shape import read
from schemas.sync import Mode, parse_filter, parse_policy, policy_mistakes

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "sync.md").read_text(encoding="utf-8")
CALLS = re.findall(r"cmd/syncDataToCloud -m '(.*)'", TEXT)
QUERIES = re.findall(r"^edge-agent (results .*)$", TEXT, re.M)
TABLES = re.findall(r"^```toml\n(.*?)^```", TEXT, re.M | re.S)


def test_there_are_examples() -> None:
    assert (len(CALLS), len(QUERIES), len(TABLES)) == (5, 3, 2)


@pytest.mark.parametrize("call", CALLS)
def test_a_command_is_understood(call: str) -> None:
    arguments = read(SyncCall, json.loads(call), strict=True)
    parse_filter(arguments.data_filter)
    if arguments.sync_policy is not None:
        assert parse_policy(arguments.sync_policy).mode is Mode.SAMPLE


@pytest.mark.parametrize("table", TABLES)
def test_a_configuration_is_one(table: str) -> None:
    config = read(AgentConfig, {"node": {"id": "gw-1"}, **tomllib.loads(table)}, strict=True)
    assert policy_mistakes(config.sync) == []
    assert config.sync.mode is Mode.CHANGES or config.pipelines[0].local_only


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_one(query: str) -> None:
    assert _parser().parse_args(query.split()).run
