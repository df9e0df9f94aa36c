"""`edgectl schema …`: what it prints, and its exit status."""

import json
from pathlib import Path

import pytest

from benchmarks.fuzzlib.texts import SAMPLE
from coordinator import edgectl

GOOD = SAMPLE.replace("import core\n", "").replace('import "types.edge"\n', "")
BAD = "record A { a: Nowhere }\n"


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.edge"
    path.write_text(GOOD, encoding="utf-8")
    return str(path)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    path = tmp_path / "bad.edge"
    path.write_text(BAD, encoding="utf-8")
    return str(path)


Capture = pytest.CaptureFixture[str]


def run(*arguments: str) -> int:
    return edgectl.main(["schema", *arguments])


def test_check_tells_all_that_is_wrong(good: str, bad: str, capsys: Capture) -> None:
    assert run("check", good, bad, bad) == 1
    out = capsys.readouterr().out
    assert (
        f"{bad}:1:15: error: there is no type Nowhere\n1 | record A {{ a: Nowhere }}\n  |               ^^^^^^^"
        in out
    )
    assert out.count("there is no type Nowhere") == 1, "a file that is named twice is told of once"
    assert out.endswith("3 files: 1 error, no warnings\n")
    assert run("check", good) == 0
    assert capsys.readouterr().out == "1 file: no errors, no warnings\n"


def test_check_strict_counts_warnings(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "w.edge"
    path.write_text("record A { a: String, A: String }")
    assert run("check", str(path)) == 0
    assert run("check", str(path), "--strict") == 1
    assert "1 warning" in capsys.readouterr().out


def test_check_as_json(bad: str, capsys: Capture) -> None:
    assert run("check", bad, "--json") == 1
    (problem,) = json.loads(capsys.readouterr().out)
    assert problem == {
        "file": bad,
        "line": 1,
        "column": 15,
        "end_line": 1,
        "end_column": 22,
        "severity": "error",
        "message": "there is no type Nowhere",
        "hint": "declare it (record, enum or type Nowhere), or import its file",
    }


def test_a_file_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    assert run("check", str(tmp_path / "none.edge")) == 1
    assert "cannot be read: No such file or directory" in capsys.readouterr().out
    assert run("check", "no_such_platform") == 2
    assert "neither a .edge file nor a platform that is installed" in capsys.readouterr().err


def test_fmt_writes_the_layout_in_place(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.edge"
    path.write_text("record A{a:String} // end")
    path.chmod(0o640)
    assert run("fmt", "--check", str(path)) == 1
    assert path.read_text() == "record A{a:String} // end"
    assert run("fmt", str(path)) == 0
    assert path.read_text() == "record A {\n  a: String\n} // end\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["a.edge"]
    assert run("fmt", "--check", str(path)) == 0
    capsys.readouterr()
    assert run("fmt", str(path), "--stdout") == 0
    assert capsys.readouterr().out == path.read_text()


def test_fmt_leaves_a_broken_file_alone(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.edge"
    path.write_text("record A { a String }")
    assert run("fmt", str(path)) == 1
    assert path.read_text() == "record A { a String }"
    assert "expected :, not 'String'" in capsys.readouterr().err


def test_diff_says_what_breaks(good: str, tmp_path: Path, capsys: Capture) -> None:
    new = tmp_path / "new.edge"
    new.write_text(GOOD.replace("limit: Integer = 3", "limit: Integer"), encoding="utf-8")
    assert run("diff", good, str(new)) == 1
    out = capsys.readouterr().out
    assert "breaking: call of plan: limit: is required now; what old callers send can be refused" in out
    assert out.endswith("1 change, 1 breaking\n")
    assert run("diff", str(new), good) == 0
    assert capsys.readouterr().out.endswith("1 change, none breaking\n")
    assert run("diff", good, str(new), "--json") == 1
    (change,) = json.loads(capsys.readouterr().out)
    assert change["breaking"] is True
    assert (change["message"], change["path"]) == ("call of plan", "limit")


def test_diff_of_a_broken_file_is_none(good: str, bad: str, capsys: Capture) -> None:
    assert run("diff", good, bad) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "there is no type Nowhere" in captured.err


def test_show_has_everything_in_tables(good: str, capsys: Capture) -> None:
    assert run("show", good) == 0
    out = capsys.readouterr().out
    for text in (
        "Sample_Platform",
        "countThings",
        "@cloud",
        "ThingSeen",
        "things",
        "Level",
        "free, very busy",
        "km/h",
    ):
        assert text in out


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("countThings", ["function", "120 s", "window", "300.0", "Counts."]),
        ("plan", ["@cloud", "limit", "1..10", "what"]),
        ("ThingSeen", ["event", "countThings, node", "QoS", "0"]),
        ("things", ["state", "shared", "last_writer", "inner"]),
        ("Level", ["enum", "very busy", "Nothing there."]),
        ("Thing", ["record", "does not leave the node", "km/h", "0..300.5", "its number"]),
        ("Speed", ["type", "Float 0..300.5 km/h"]),
        ("Open", ["open", "any value"]),
    ],
)
def test_show_of_one_name(good: str, name: str, texts: list[str], capsys: Capture) -> None:
    assert run("show", good, name) == 0
    out = capsys.readouterr().out
    for text in texts:
        assert text in out


def test_show_as_json(good: str, capsys: Capture) -> None:
    assert run("show", good, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["title"] == '样例 "sample"'
    assert [one["name"] for one in found["functions"]] == ["countThings", "plan", "reset"]
    assert {one["kind"] for one in found["types"]} == {"enum", "type", "open", "record"}
    assert run("show", good, "plan", "--json") == 0
    (plan,) = json.loads(capsys.readouterr().out)
    assert plan["parameters"][1] == {
        "name": "limit",
        "type": "Integer",
        "required": False,
        "default": 3,
        "limits": "1..10",
        "unit": "",
        "personal": False,
        "deprecated": "",
        "doc": "",
    }


def test_show_of_a_name_that_is_not_declared(good: str, capsys: Capture) -> None:
    assert run("show", good, "nothing") == 2
    assert "good declares no nothing" in capsys.readouterr().err
