"""`edgectl schema export`: each format, to a file or printed, `--check`, and what is wrong with a command line."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coordinator.ctl.schema_export import FORMATS
from coordinator.edgectl import EXIT_FAILED, EXIT_USAGE, main
from tests.language.samples import HARBOUR, ROOT, find

PAGE = ROOT / "docs" / "exporters.md"
FILE = str(HARBOUR)


def export(*arguments: str | Path) -> int:
    return main(["schema", "export", *map(str, arguments)])


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_printed_and_what_is_written_are_the_same(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(form, FILE) == 0
    printed = capsys.readouterr().out
    assert export(form, FILE, "-o", tmp_path / "out") == 0
    assert (tmp_path / "out").read_text(encoding="utf-8") == printed
    assert printed.endswith("\n") and not printed.endswith("\n\n")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("form", FORMATS)
def test_check_fails_when_the_file_is_another(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out"
    assert export(form, FILE, "-o", path, "--check") == EXIT_FAILED
    assert "cannot be read: No such file or directory" in capsys.readouterr().err
    export(form, FILE, "-o", path)
    before = path.read_bytes()
    assert export(form, FILE, "-o", path, "--check") == 0
    lines = before.split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], b"changed", *lines[3:]]))
    assert export(form, FILE, "-o", path, "--check") == EXIT_FAILED
    assert "first in line 3; the same command without --check writes it" in capsys.readouterr().err
    path.write_bytes(before + b"\n")
    assert export(form, FILE, "-o", path, "--check") == EXIT_FAILED
    assert path.read_bytes() == before + b"\n"


def test_json_schema_of_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert export("json-schema", FILE, "--of", "event.ShipArrived") == 0
    found: Any = json.loads(capsys.readouterr().out)
    assert set(found["properties"]) == {"ship", "berth_id", "speed"}
    assert export("json-schema", FILE, "--of", "event.Nothing") == EXIT_USAGE
    assert "there is no such part; there are: " in capsys.readouterr().err


def test_asyncapi_of_one_node_at_a_broker_below_a_root(capsys: pytest.CaptureFixture[str]) -> None:
    assert export("asyncapi", FILE, "--node", "gw-1", "--broker", "b.example", "--topic-root", "acme/edge") == 0
    found: Any = json.loads(capsys.readouterr().out)
    assert found["channels"]["cmd.countShips"]["address"] == "acme/edge/gw-1/cmd/countShips"
    assert found["servers"]["plain"]["host"] == "b.example:1883"
    assert export("asyncapi", FILE, "--node", "No Name") == EXIT_USAGE
    assert "--node: 'No Name' is no node name" in capsys.readouterr().err


def test_a_command_line_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("html", FILE, "--check") == EXIT_USAGE
    assert "name it with -o FILE" in capsys.readouterr().err
    assert export("html", "atlantis") == EXIT_USAGE
    assert "there is no platform atlantis, and no file" in capsys.readouterr().err
    assert export("html", tmp_path / "gone.edge") == EXIT_FAILED
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "bad.edge").write_text("record A { x: Nothing }\nrecord A { }")
    assert export("html", tmp_path / "bad.edge") == EXIT_FAILED
    said = capsys.readouterr().err
    assert "there is no type Nothing" in said and "^^^^^^^" in said and "declared twice" in said
    (tmp_path / "types.edge").write_text("record A { x: Integer }")
    assert export("asyncapi", tmp_path / "types.edge") == EXIT_USAGE
    assert "messages need an edge_computing block" in capsys.readouterr().err
    assert export("python", tmp_path / "types.edge") == 0
    assert export("html", FILE, "-o", tmp_path) == EXIT_FAILED
    assert "cannot be written" in capsys.readouterr().err


def blocks(language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))


@pytest.mark.skipif(find("traffic") is None, reason="the platform traffic is not here")
def test_the_page_about_exporters_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line) for line in blocks("sh").splitlines() if line]
    assert {command[3] for command in commands} == set(FORMATS)
    for program, *arguments in commands:
        assert program == "edgectl"
        assert main(arguments) == 0
    assert (tmp_path / "traffic.html").stat().st_size > 10_000
    done = subprocess.run(
        [sys.executable, "-c", blocks("python")],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_page_names_every_format_and_files_that_are_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    first_table = page[: page.index("```sh")]
    assert re.findall(r"^\| `([a-z-]+)` \|", first_table, re.MULTILINE) == list(FORMATS)
    named = re.findall(r"`(tests/[^`]+)`", page)
    assert named and all((ROOT / one).is_file() for one in named)
