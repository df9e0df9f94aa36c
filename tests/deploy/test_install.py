"""install.sh and uninstall.sh, beneath a folder instead of on this machine."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (
    "pyproject.toml",
    "LICENSE",
    "lock",
    "scripts",
    "deploy",
    "schemas",
    "runtime",
    "platforms",
    "agent",
    "coordinator",
)

# What stands in for the coordinator while its own command is not the subject.
COMMAND = """
import argparse

def main() -> int:
    argparse.ArgumentParser("edge-coordinator", description="stand-in").parse_args()
    return 0
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, with a sample configuration known to the test."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    (copy / "README.md").write_text("# Edgewright\n")
    (copy / "deploy" / "coordinator.toml").write_text("# the sample\n")
    return copy


def call(script: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *args], capture_output=True, text=True, timeout=110, check=False, stdin=subprocess.DEVNULL
    )


def test_the_coordinator_is_installed_upgraded_and_removed(checkout: Path, tmp_path: Path) -> None:
    if not (checkout / "coordinator" / "__main__.py").exists():
        (checkout / "coordinator" / "__main__.py").write_text(COMMAND)
    install, uninstall = checkout / "deploy" / "install.sh", checkout / "deploy" / "uninstall.sh"
    root = tmp_path / "root"
    place = ("coordinator", "--root", root, "--prefix", "/srv/edge")

    first = call(install, *place)
    assert first.returncode == 0, first.stderr
    command = root / "srv/edge/coordinator/bin/edge-coordinator"
    helped = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60, check=True, cwd="/")
    assert "usage" in helped.stdout
    config = root / "etc/edgewright/coordinator.toml"
    secrets = root / "etc/edgewright/coordinator.env"
    assert config.read_text() == "# the sample\n"
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    unit = (root / "etc/systemd/system/edge-coordinator.service").read_text()
    assert (
        "ExecStart=/srv/edge/coordinator/bin/edge-coordinator run --config /etc/edgewright/coordinator.toml" in unit
    )
    assert "systemctl enable --now edge-coordinator.service" in first.stderr
    installed = {path.name for path in (root / "srv/edge/coordinator/lib").glob("python3*/site-packages/*")}
    assert {"schemas", "runtime", "coordinator", "paho"} <= installed
    assert not {"cv2", "av", "ai_edge_litert", "tests", "benchmarks", "pytest"} & installed

    config.write_text("# edited\n")
    secrets.write_text("PASSWORD=x\n")
    second = call(install, *place, "--no-start")
    assert second.returncode == 0, second.stderr
    assert "keeping your configuration" in second.stderr
    assert "up to date" in second.stderr
    assert (config.read_text(), secrets.read_text()) == ("# edited\n", "PASSWORD=x\n")

    data = root / "var/lib/edgewright-coordinator/fleet.db"
    data.parent.mkdir(parents=True)
    data.write_text("rows")
    cached = root / "var/cache/edgewright-coordinator/schema.json"
    cached.parent.mkdir(parents=True)
    cached.write_text("{}")
    removed = call(uninstall, *place)
    assert removed.returncode == 0, removed.stderr
    assert not command.exists()
    assert not (root / "etc/systemd/system/edge-coordinator.service").exists()
    assert config.exists()
    assert data.exists()
    assert not cached.parent.exists()

    assert call(uninstall, *place).returncode == 0, "again does no harm"
    purged = call(uninstall, *place, "--purge")
    assert purged.returncode == 0, purged.stderr
    assert [path for path in root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "say which: agent or coordinator"),
        (["both"], "unknown argument: both"),
        (["agent", "--purge"], "unknown argument: --purge"),
        (["agent", "--root"], "--root needs a folder"),
        (["agent", "--root", "here"], "needs an absolute path"),
        (["agent", "--root", "/tmp/x", "--prefix", "/home/me"], "the service could not see it there"),
    ],
)
def test_a_wrong_call_is_explained_and_changes_nothing(args: list[str], said: str) -> None:
    done = call(ROOT / "deploy" / "install.sh", *args)
    assert done.returncode != 0
    assert said in done.stderr


def test_a_missing_sample_is_explained(checkout: Path, tmp_path: Path) -> None:
    (checkout / "deploy" / "coordinator.toml").unlink()
    done = call(checkout / "deploy" / "install.sh", "coordinator", "--root", tmp_path / "root")
    assert done.returncode != 0
    assert "coordinator.toml is missing" in done.stderr
    assert not (tmp_path / "root").exists()


def test_a_folder_that_is_not_ours_is_not_removed(tmp_path: Path) -> None:
    precious = tmp_path / "opt/edgewright/agent/precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("data")
    done = call(ROOT / "deploy" / "uninstall.sh", "agent", "--root", tmp_path)
    assert done.returncode != 0
    assert "not made by install.sh" in done.stderr
    assert precious.exists()
