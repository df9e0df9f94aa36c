"""docs/your-own-platform.md is followed: each command is run in order, and what it prints is what the page shows."""

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.ctl.platform_new import new_platform
from platforms.settings import read_platforms

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "your-own-platform.md").read_text(encoding="utf-8")
DEMO = "python demo.py"
ANYTHING = "..."


@dataclass(frozen=True, slots=True)
class Step:
    """A command with what it prints; or a file that is to be written first, and what stands in it."""

    command: str
    output: list[str]
    file: str = ""


def steps() -> list[Step]:
    """In the order of the page. The demonstration shows commands of its own: all of its block is its output."""
    found: list[Step] = []
    blocks = r"^(?:`([\w./]+)`:\n\n)?```(\w+)\n(.*?)^```"
    for file, language, block in re.findall(blocks, PAGE, flags=re.MULTILINE | re.DOTALL):
        if file:
            found.append(Step("", block.splitlines(), file))
        if file or language != "console":
            continue
        begun = False
        for line in block.splitlines():
            if line.startswith("$ ") and not (begun and found[-1].command.startswith(DEMO)):
                found.append(Step(line[2:], []))
                begun = True
            else:
                found[-1].output.append(line)
    return found


def matches(shown: list[str], printed: list[str]) -> bool:
    """A line `...` stands for any lines, `...` within a line for any text."""
    if not shown:
        return not printed
    if shown[0] == ANYTHING:
        return any(matches(shown[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    pattern = ".*".join(re.escape(part) for part in shown[0].split(ANYTHING))
    return bool(printed) and re.fullmatch(pattern, printed[0]) is not None and matches(shown[1:], printed[1:])


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where `edgectl` and `python` are this tree's, without its folders in the way of others."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, arguments in (("edgectl", "-P -m coordinator.edgectl"), ("edge-agent", "-P -m agent"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.mark.parametrize(
    ("shown", "printed", "alike"),
    [
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        (["a"], ["a", "b"], False),
        (["a", "..."], ["a", "b", "c"], True),
        (["...", "c"], ["a", "b", "c"], True),
        (["...", "c"], ["a", "b"], False),
        (["a ... c"], ["a b c"], True),
        (["a ... c"], ["a b d"], False),
    ],
)
def test_output_is_compared(shown: list[str], printed: list[str], alike: bool) -> None:
    assert matches(shown, printed) is alike


def test_every_command_of_the_page_does_what_it_shows(tmp_path: Path, environment: dict[str, str]) -> None:
    folder, ran = tmp_path, 0
    for step in steps():
        if step.file:
            (folder / step.file).write_text("\n".join(step.output) + "\n", encoding="utf-8")
            continue
        if step.command.startswith("cd "):
            folder = folder / step.command[3:]
            continue
        if step.command.startswith(DEMO):
            continue
        done = subprocess.run(
            ["bash", "-c", step.command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        assert matches(step.output, done.stdout.splitlines()), f"$ {step.command}\n{done.stdout}"
        ran += 1
    assert ran >= 16


def test_the_demonstration_of_the_page_runs(tmp_path: Path, environment: dict[str, str]) -> None:
    new_platform("bakery", tmp_path)
    (demo,) = [step for step in steps() if step.command.startswith(DEMO)]
    done = subprocess.run(
        ["bash", "-c", demo.command],
        cwd=tmp_path / "bakery",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=115,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert matches(demo.output, done.stdout.splitlines()), done.stdout


def test_the_configuration_of_the_page_is_read() -> None:
    block, _ = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)  # the other one is checked
    table, mistakes = read_platforms(tomllib.loads(block)["platforms"], ROOT)
    assert mistakes == []
    assert [folder.name for folder in table.folders] == ["bakery"]
    assert table.settings["bakery"]["ovens"]["oven1"]["trays_max"] == 8
