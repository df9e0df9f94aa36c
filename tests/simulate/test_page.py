"""docs/simulate.md: its commands run, its tables name what there is. Who does not simulate does not pay for it."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.simulate.faults import LASTS_S, FaultKind
from coordinator.simulate.figures import Figures, report
from tests.broker import broker
from tests.coordinator.process import ROOT, edgectl

PAGE = (ROOT / "docs" / "simulate.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE.split("## Rehearsing")[0], flags=re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
FEW = "--nodes 5 --processes 1 --for 2s --drain 1s --json"


def test_the_page_shows_commands() -> None:
    assert len(COMMANDS) == 3
    assert all(command.startswith("edgectl simulate ") for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs(tmp_path: Path, command: str) -> None:
    """With few nodes and for a short while, on a broker of our own."""
    with broker(tmp_path) as mqtt:
        here = f"127.0.0.1:{mqtt.port}"
        line = command.replace("127.0.0.1:1883", here)
        if here not in line:
            line += f" --broker {here}"
        done = edgectl(shlex.split(f"{line} {FEW}")[1:])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["nodes"], found["connected_at_end"], found["first_error"]) == (5, 5, "")


def test_every_field_of_the_report_is_explained() -> None:
    table = PAGE.split("## What it says at the end")[1].split("## How large")[0]
    said = set(re.findall(r"`(_?[a-z][a-z0-9_]+)`", table))
    ends = {name for name in said if name.startswith("_")}
    whole = said | {re.sub(r"_p50$", end, name) for name in said for end in ends}
    unsaid = set(report(Figures(), all_connected_s=None, wall_s=0.0)) | {"stored", "lost", "duplicates"}
    assert (
        unsaid - whole - {"nodes", "heartbeats", "commands", "bad_messages", "bytes_out", "bytes_in", "wall_s"}
        == set()
    )


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_fault_is_in_the_table_with_its_length(kind: FaultKind) -> None:
    assert re.search(rf"^\| `{kind}` \|.*\| {LASTS_S[kind]:g} s \|$", PAGE, re.MULTILINE)


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_edgectl_does_not_load_the_simulator() -> None:
    program = (
        "import sys, coordinator.edgectl; print([name for name in sys.modules if 'coordinator.simulate' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
