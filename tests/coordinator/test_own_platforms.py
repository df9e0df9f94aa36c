"""`edgectl platform` and `edgectl schema check --bindings`, as commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.ctl.arguments import UsageError
from coordinator.ctl.platform_new import FILES, name_mistake, new_platform
from runtime.errors import PermanentError
from tests.coordinator.process import ROOT


def edgectl(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """From that folder, as a person would."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("EDGECTL_CONFIG", None)
    return subprocess.run(
        [sys.executable, "-m", "coordinator.edgectl", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )


@pytest.mark.parametrize("name", ["bakery", "b", "my_bakery_2", "a" * 40])
def test_a_name_for_python_will_do(name: str) -> None:
    assert name_mistake(name) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Bakery", "a name has 1 to 40 of a-z 0-9 _"),
        ("my-bakery", "a name has 1 to 40"),
        ("2bakery", "a name has 1 to 40"),
        ("a" * 41, "a name has 1 to 40"),
        ("", "a name has 1 to 40"),
        ("../bakery", "a name has 1 to 40"),
        ("class", "it is a word of Python"),
        ("match", "it is a word of Python"),
        ("traffic", "a platform of this name comes with Edgewright"),
        ("core", "a platform of this name comes with Edgewright"),
        ("folders", "it means something else already"),
        ("tests", "it means something else already"),
        ("json", "Python has a package of this name already"),
        ("platforms", "Python has a package of this name already"),
        ("msgpack", "Python has a package of this name already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, said: str) -> None:
    assert said in name_mistake(name)
    with pytest.raises(UsageError):
        new_platform(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "bakery").mkdir()
    (tmp_path / "bakery" / "mine.txt").write_text("mine")
    (tmp_path / "dairy").write_text("a file")
    for name in ("bakery", "dairy"):
        with pytest.raises(PermanentError, match="is there already"):
            new_platform(name, tmp_path)
    assert [path.name for path in (tmp_path / "bakery").iterdir()] == ["mine.txt"]
    with pytest.raises(PermanentError, match="cannot make"):
        new_platform("bakery", tmp_path / "nowhere")


def test_every_template_is_used_and_filled(tmp_path: Path) -> None:
    templates = ROOT / "coordinator" / "ctl" / "templates" / "platform"
    assert {path.name for path in templates.iterdir()} == set(FILES)
    made = new_platform("my_bakery", tmp_path)
    assert len(made) == len(FILES)
    for path in made:
        assert "@@" not in path.read_text(), path
    assert "edge_computing My_Bakery_Edge" in (tmp_path / "my_bakery/my_bakery/my_bakery.edge").read_text()


def test_a_new_platform_passes_its_own_checks(tmp_path: Path) -> None:
    done = edgectl(tmp_path, "platform", "new", "plat_new", "--in", str(tmp_path))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "plat_new"
    assert "edgectl schema check plat_new/plat_new.edge --bindings" in done.stdout
    done = edgectl(folder, "schema", "check", "plat_new/plat_new.edge", "--bindings")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 functions bound, 0 mismatches" in done.stdout
    linted = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=118", "--select=E,F,W,I,N,UP,B", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert linted.returncode == 0, linted.stdout
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert tested.returncode == 0, tested.stdout
    assert " passed" in tested.stdout


def test_a_refusal_is_a_mistake_in_the_command_line(tmp_path: Path) -> None:
    done = edgectl(tmp_path, "platform", "new", "traffic")
    assert done.returncode == 2
    assert done.stderr == "edgectl: platform new traffic: a platform of this name comes with Edgewright\n"


def test_mismatches_are_told_all_at_once_with_file_and_line(tmp_path: Path) -> None:
    new_platform("plat_off", tmp_path)
    path = tmp_path / "plat_off/plat_off/functions.py"
    text = path.read_text().replace("time_window: float = 3600.0) ->", "window: float = 3600.0) ->")
    path.write_text(text.replace("share: float", "share: str").replace('"ovenOccupancy"', '"ovenOccupacy"'))
    done = edgectl(tmp_path / "plat_off", "schema", "check", "plat_off/plat_off.edge", "--bindings")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split(": ", 1)[1] for line in lines[:2]] == [
        "count_trays binds countTrays: parameter `window` is not declared; did you mean time_window?",
        "oven_occupancy binds ovenOccupacy: the schema declares no function ovenOccupacy; did you mean "
        "ovenOccupancy?",
    ]
    assert lines[0].startswith("plat_off/functions.py:")
    assert lines[2:] == [
        "ovenOccupancy is declared and not bound",
        "1 of 2 functions bound, 2 mismatches",
        "1 file: 2 errors, no warnings",
    ]


def test_another_file_of_functions_may_be_named(tmp_path: Path) -> None:
    schema = tmp_path / "small.edge"
    schema.write_text('edge_computing Small { platform_name: "small" functions: [ double(of: Integer): Integer ] }\n')
    other = tmp_path / "elsewhere.py"
    other.write_text(
        "from platforms.functions import function\n"
        "@function('double')\ndef double(of: str) -> int:\n    return int(of) * 2\n"
    )
    done = edgectl(tmp_path, "schema", "check", "small.edge", "--bindings", "elsewhere.py")
    assert done.returncode == 1
    assert (
        "elsewhere.py:2: double binds double: parameter `of` is str, and the schema declares Integer" in done.stdout
    )
    other.write_text("import no_such_module\n")
    done = edgectl(tmp_path, "schema", "check", "small.edge", "--bindings", "elsewhere.py")
    assert (done.returncode, "No module named 'no_such_module'" in done.stdout) == (1, True)
    done = edgectl(tmp_path, "schema", "check", "small.edge", "--bindings")
    assert (done.returncode, "there is no functions.py" in done.stderr) == (2, True)
    done = edgectl(tmp_path, "schema", "check", "small.edge")
    assert (done.returncode, done.stdout) == (0, "1 file: no errors, no warnings\n")


def test_the_list_has_what_is_shipped_and_what_a_configuration_names(tmp_path: Path) -> None:
    new_platform("plat_good", tmp_path)
    new_platform("plat_bad", tmp_path)
    (tmp_path / "plat_bad/plat_bad/functions.py").write_text("1 / 0\n")
    config = tmp_path / "coordinator.toml"
    config.write_text('[platforms]\nfolders = ["plat_good", "plat_bad", "nowhere"]\n')
    done = edgectl(tmp_path, "--config", str(config), "platform", "ls", "--json")
    assert done.returncode == 1
    found = {line["name"]: line for line in json.loads(done.stdout)}
    assert found["core"]["kind"] == "shipped"
    good = found["plat_good"]
    assert (good["kind"], good["bound"], good["declared"], good["problem"]) == ("folder", 2, 2, "")
    assert "functions.py:1: ZeroDivisionError: division by zero" in found["plat_bad"]["problem"]
    assert "nowhere is no folder" in found["-"]["problem"]
    done = edgectl(tmp_path, "platform", "ls", "--folder", "plat_good")
    assert done.returncode == 0
    assert re.search(r"^plat_good +folder +0.1.0 +2/2 ", done.stdout, re.MULTILINE)
