"""`docs/alerts.md`: its configuration loads, its conditions mean something, its calls and commands are there."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from agent.alerting.asked import TriggerAlert, rule_asked_for
from agent.alerting.check import conditions_mistakes, declared_mistakes
from agent.config import load_config
from platforms.assembly import assemble
from platforms.settings import PlatformsTable

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
CATALOGUE = assemble(PlatformsTable(("manufacturing",))).catalogue


def blocks(language: str) -> list[str]:
    return [text for kind, text in re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL) if kind == language]


def test_its_configuration_loads(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    path = tmp_path / "agent.toml"
    path.write_text('[node]\nid = "gw-1"\n' + block)
    config = load_config(path)
    assert [one.name for one in config.alerts] == ["porous"]
    assert conditions_mistakes(config.alerts, CATALOGUE.schemas, []) == []


def test_its_conditions_can_be_read() -> None:
    (block,) = blocks("")
    for line in block.splitlines():
        assert declared_mistakes(line, CATALOGUE.schemas) == []


def test_its_calls_are_accepted() -> None:
    calls = re.findall(r"cmd/(\w+) -m '(.*?)'$", PAGE, re.DOTALL | re.MULTILINE)
    assert {name for name, _ in calls} == {"triggerAlert", "ackAlert"}
    for name, text in calls:
        check = CATALOGUE.arguments(name)
        assert check is not None
        given = check.decode_json(text.encode())
        if name == "triggerAlert":
            call = TriggerAlert(given["condition"], given["action"], given["name"])
            rule, at_once = rule_asked_for(call, {"pager", "stop"})
            texts = [] if at_once else [text for text in (rule.condition, rule.clear) if text]
            assert [wrong for text in texts for wrong in declared_mistakes(text, CATALOGUE.schemas)] == []
    for words in re.findall(r"^edgectl call gw-1 (.*)$", PAGE, re.MULTILINE):
        name, *more = shlex.split(words)
        check = CATALOGUE.arguments(name)
        assert check is not None
        if more[0] == "--json":
            check(json.loads(more[1]))
        else:
            check({key: value == "true" or value for key, _, value in (word.partition("=") for word in more)})


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^((?:edgectl alert|edge-agent alerts) \w+)", PAGE, re.M))))
def test_its_commands_are_there(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *words = line.split()
    main = importlib.import_module("coordinator.edgectl" if program == "edgectl" else "agent.__main__").main
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert not ended.value.code and words[-1] in capsys.readouterr().out
