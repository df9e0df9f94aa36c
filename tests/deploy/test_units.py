"""The systemd units: what they promise, and that systemd understands them where it is there to ask."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
NAMES = ("edge-agent", "edge-coordinator")

Section = dict[str, list[str]]


def read(path: Path) -> dict[str, Section]:
    """Sections of a unit file; a key may be given several times, so its values are a list."""
    sections: dict[str, Section] = {}
    for line in path.read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(match[1], {})
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, f"{path.name}: neither a section nor an assignment: {line}"
            section.setdefault(key, []).append(value)
    return sections


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_starts_the_service_as_documented(name: str) -> None:
    short = name.removeprefix("edge-")
    unit = read(UNITS / f"{name}.service")
    service = unit["Service"]
    assert service["ExecStart"] == [f"/opt/edgewright/{short}/bin/{name} run --config /etc/edgewright/{short}.toml"]
    assert service["User"] == service["Group"] == service["StateDirectory"] == [f"edgewright-{short}"]
    assert service["CacheDirectory"] == service["User"]
    assert service["CacheDirectoryMode"] == ["0750"], "schemas/language/cache.py refuses what others may write to"
    assert unit["Install"]["WantedBy"] == ["multi-user.target"]


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_is_supervised_and_restarted(name: str) -> None:
    unit = read(UNITS / f"{name}.service")
    service = unit["Service"]
    assert service["Type"] == ["notify"]
    assert int(service["WatchdogSec"][0]) > 0
    assert service["Restart"] == ["on-failure"]
    assert int(service["RestartSec"][0]) >= 1
    assert unit["Unit"]["StartLimitIntervalSec"] == ["0"]


def test_the_agent_waits_for_no_network() -> None:
    unit = read(UNITS / "edge-agent.service")["Unit"]
    said = " ".join(value for key in unit for value in unit[key] if key != "Description")
    for target in ("network-online", "time-sync", "nss-lookup", "systemd-networkd-wait"):
        assert target not in said


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_is_confined(name: str) -> None:
    service = read(UNITS / f"{name}.service")["Service"]
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "ProtectKernelTunables", "RestrictNamespaces"):
        assert service[key] == ["yes"], key
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["SystemCallFilter"] == ["@system-service"]


def test_the_agent_reaches_cameras_and_accelerators_and_no_other_device() -> None:
    service = read(UNITS / "edge-agent.service")["Service"]
    assert service["DevicePolicy"] == ["closed"]
    allowed = {rule.split()[0] for rule in service["DeviceAllow"]}
    assert {"char-video4linux", "char-drm", "char-apex", "char-usb_device", "char-gpiochip"} <= allowed
    assert not allowed & {"block-*", "char-*", "char-mem"}
    groups = set(service["SupplementaryGroups"][0].split())
    assert {"video", "render", "plugdev"} <= groups
    created = re.search(r"for group in ([a-z ]+);", (ROOT / "deploy" / "install.sh").read_text())
    assert created is not None
    assert set(created[1].split()) == groups, "systemd refuses a unit with a group that does not exist"


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_holds_no_secret(name: str) -> None:
    service = read(UNITS / f"{name}.service")["Service"]
    assert "Environment" not in service
    assert service["EnvironmentFile"] == [f"-/etc/edgewright/{name.removeprefix('edge-')}.env"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("name", NAMES)
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    done = verify(UNITS / f"{name}.service", tmp_path)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_a_mistake_in_a_unit_would_be_seen(tmp_path: Path) -> None:
    bad = tmp_path / "edge-agent.service"
    text = (UNITS / "edge-agent.service").read_text()
    bad.write_text(text.replace("ProtectHome=yes", "ProtectHom=yes").replace("WatchdogSec=30", "WatchdogSec=soon"))
    said = verify(bad, tmp_path / "verified").stderr
    assert "ProtectHom" in said
    assert "Failed to parse sec value" in said


def verify(unit: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on a copy of `unit` whose program exists here."""
    folder.mkdir(exist_ok=True)
    copy = folder / unit.name
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
