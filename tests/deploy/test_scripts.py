"""The shell scripts: valid, executable, clear about wrong use, and honest in their exit status."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = ("scripts/setup", "scripts/lock", "scripts/test", ".ci/run", "deploy/install.sh", "deploy/uninstall.sh")
SOURCED = ("scripts/lib.sh", "deploy/lib.sh")


def call(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("script", [*RUN, *SOURCED])
def test_a_script_is_valid_shell(script: str) -> None:
    assert call("bash", "-n", script).stderr == ""


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not here")
def test_shellcheck_is_content() -> None:
    assert call("shellcheck", "-x", *RUN, *SOURCED).stdout == ""


@pytest.mark.parametrize("script", RUN)
def test_a_script_can_be_run_as_it_is(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.parametrize("script", ["scripts/setup", "scripts/test", "deploy/install.sh", "deploy/uninstall.sh"])
def test_help_says_how_to_use_it(script: str) -> None:
    done = call(ROOT / script, "--help", cwd=Path("/"))
    assert done.returncode == 0
    assert done.stdout.startswith(("usage:", "Everything"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--for", "nothing"], "unknown purpose: 'nothing'"),
        (["--for"], "--for needs a purpose"),
        (["now"], "unknown argument: now"),
    ],
)
def test_setup_refuses_what_it_does_not_know(args: list[str], said: str) -> None:
    done = call(ROOT / "scripts/setup", *args)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts with a stand-in environment, whose `python -m TOOL` fails for the tools in FAILING."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/bash\necho "ran $*"\ncase " $FAILING " in *" $2 "*) exit 3 ;; esac\n')
    python.chmod(0o755)
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "logs.py").touch()
    (tmp_path / "schemas").mkdir()  # nothing to check in it
    return tmp_path


@pytest.mark.parametrize(
    ("failing", "status"),
    [("", 0), ("ruff", 1), ("mypy", 1), ("pytest", 3), ("ruff pytest", 3)],
)
def test_one_failure_fails_the_whole(checkout: Path, failing: str, status: int) -> None:
    done = call(checkout / ".ci/run", "--no-setup", cwd=Path("/"), FAILING=failing)
    assert done.returncode == status
    lines = done.stdout.splitlines()
    assert lines[:2] == ["ran -m ruff check .", "ran -m ruff format --check ."]
    lines.remove("ran -m mypy runtime")  # beside the tests
    first, *others = (line.split() for line in lines[2:])  # pytest has the last word
    assert first[:5] == ["ran", "-m", "pytest", "-m", "not"] and len(others) == 3
    left_out = [word.removeprefix("--ignore=") for word in first if word.startswith("--ignore=")]
    run_there = [word for line in others for word in line if word.startswith("tests/")]
    assert run_there == left_out, "what the first part leaves out, the others run"
    assert all((ROOT / folder).is_dir() for folder in left_out)


@pytest.mark.parametrize(
    ("args", "ran"),
    [
        (["tests/runtime", "-k", "x"], "ran -m pytest -m not slow tests/runtime -k x"),
        (["--all", "-x"], "ran -m pytest -x"),
    ],
)
def test_arguments_reach_pytest(checkout: Path, args: list[str], ran: str) -> None:
    lines = call(checkout / "scripts/test", "--no-setup", *args).stdout.splitlines()
    assert lines[2:] == [ran, "ran -m mypy runtime"]


def test_a_linked_environment_is_left_alone(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "here" / "scripts", ignore=shutil.ignore_patterns("*.py"))
    (tmp_path / "other").mkdir()
    (tmp_path / "here" / ".venv").symlink_to(tmp_path / "other")
    done = call(tmp_path / "here/scripts/setup", "--for", "coordinator")
    assert done.returncode == 0, done.stderr
    assert "left as they are" in done.stderr
    assert list((tmp_path / "other").iterdir()) == []
