"""What the documents say is run: configurations load, commands exist, links lead somewhere, examples hold."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

from agent.config import load_config

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/protocol.md",
    "docs/local-actions.md",
    "docs/inspection.md",
    "docs/alerts.md",
    "docs/platforms.md",
    "docs/degradation.md",
    "docs/scheduling.md",
    "docs/fleet.md",
    "docs/sync.md",
    "docs/evidence.md",
    "docs/models.md",
    "docs/brokers.md",
    "docs/desired-state.md",
    "docs/rollouts.md",
    "docs/workloads.md",
    "docs/state.md",
    "docs/store.md",
    "docs/store-and-forward.md",
    "docs/your-own-platform.md",
    "docs/calling-functions.md",
    "docs/schema-language.md",
    "docs/maintenance.md",
    "docs/production.md",
    "docs/safety.md",
]
PROGRAMS = {
    "edge-agent": "agent.__main__",
    "edge-coordinator": "coordinator.__main__",
    "edgectl": "coordinator.edgectl",
}


def blocks(language: str) -> list[str]:
    """Fenced blocks of the README, also those indented in a list."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", README, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"^ {3}", "", block, flags=re.MULTILINE) for block in found]


def test_the_configuration_in_the_readme_loads(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    path = tmp_path / "agent.toml"
    path.write_text(block, encoding="utf-8")
    config = load_config(path)
    assert config.cameras[0].password_env == "DOOR_PASSWORD"
    assert config.pipelines[0].rules[0].classes == ("person",)


def commands() -> list[tuple[str, str]]:
    """(program, sub-command) of every call in the README."""
    text = "\n".join(blocks("sh")) + README
    found = re.findall(r"\b(edge-agent|edge-coordinator|edgectl) ([a-z]+)\b", text)
    return sorted({(program, command) for program, command in found if command not in ("and", "is", "on", "run")})


@pytest.mark.parametrize(("program", "command"), commands())
def test_a_command_of_the_readme_exists(program: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(PROGRAMS[program]).main([command, "--help"])
    assert not ended.value.code
    assert command in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_of_a_page_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    missing = [link for link in links if not (folder / link).exists()]
    assert not missing


@pytest.mark.parametrize("module", ["schemas.topics"])
def test_examples_in_docstrings_give_what_they_show(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
