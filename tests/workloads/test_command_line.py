"""From specs to the words for an engine, from its answers to what is so, and what there is room for."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.workloads.command_line import (
    Container,
    containers_of,
    end_of,
    limited_by,
    mark_of,
    missing_limits,
    run_words,
)
from agent.workloads.engine import said_of
from agent.workloads.fit import Room, allocated, too_much
from agent.workloads.settings import DeviceArgs, WorkloadSettings
from schemas.workloads import WorkloadSpec, parse_workload

SETTINGS = WorkloadSettings(device_args=DeviceArgs(gpu=("--device=/dev/dri",)), run_args=("--cap-drop=ALL",))
FULL = {
    "type": "container", "env": {"A": "--privileged", "B": "x y"},
    "resources": {"cpu_cores": 1.5, "memory_mb": 64, "gpu_count": 1},
    "container": {
        "image": "pump:1", "command": ["--privileged"], "entrypoint": ["/bin/sh", "-c"], "network": "bridge",
        "ports": [{"host": 80, "container": 8080}], "user": "7:7",
        "volumes": [{"host": "/srv/a", "container": "/a"}, {"host": "/srv/b", "container": "/b", "read_only": False}],
    },
}  # fmt: skip
VOLUMES = {"/srv/a": "/srv/real", "/srv/b": "/srv/b"}


def words(
    raw: dict[str, Any], *, docker: bool = False, limited: tuple[str, ...] = ("memory", "cpu", "pids")
) -> list[str]:
    return run_words("gw-1", "pump", parse_workload(raw), SETTINGS, limited=limited, volumes=VOLUMES, docker=docker)


def test_every_part_of_a_spec_is_one_word_before_the_image_and_the_command_comes_last() -> None:
    found = words(FULL)
    at = found.index("pump:1")
    assert found[at:] == ["pump:1", "-c", "--privileged"]
    assert all(word.startswith("--") for word in found[2:at])
    assert {
        "--env=A=--privileged", "--env=B=x y", "--publish=80:8080/tcp", "--volume=/srv/real:/a:ro", "--user=7:7",
        "--volume=/srv/b:/b:rw", "--network=bridge", "--memory=64m", "--memory-swap=64m", "--cpus=1.50",
        "--pids-limit=256", "--entrypoint=/bin/sh", "--device=/dev/dri", "--cap-drop=ALL", "--restart=no",
        "--read-only", "--pull=never", "--security-opt=no-new-privileges", "--label=edgewright.node=gw-1",
    } <= set(found)  # fmt: skip
    assert "--privileged" not in found[:at]


def test_docker_is_told_in_its_own_words() -> None:
    podman, docker = set(words(FULL)), set(words(FULL, docker=True))
    assert podman - docker == {"--sdnotify=ignore", "--log-driver=k8s-file"}
    assert docker - podman == {"--log-driver=json-file", "--log-opt=max-file=1"}


def test_what_cannot_be_limited_is_left_out_and_named() -> None:
    spec = parse_workload(FULL)
    assert missing_limits(spec, ()) == ["memory", "cpu", "pids"]
    assert missing_limits(parse_workload({"type": "container", "container": {"image": "a"}}), ()) == ["pids"]
    assert not [word for word in words(FULL, limited=()) if "memory" in word or "cpus" in word or "pids" in word]


def test_a_mark_is_that_of_a_whole_spec() -> None:
    other = {**FULL, "generation": 2}
    assert mark_of(parse_workload(FULL)) == mark_of(parse_workload({**FULL, "type": "CONTAINER"}))
    assert mark_of(parse_workload(FULL)) != mark_of(parse_workload(other))


@pytest.mark.parametrize(
    ("found", "ok", "said"),
    [
        (Container("a", "a", "", False), True, "ended with status 0"),
        (Container("a", "a", "", False, exit_code=3), False, "ended with status 3"),
        (Container("a", "a", "", False, exit_code=143), False, "ended by SIGTERM (status 143)"),
        (Container("a", "a", "", False, exit_code=137), False, "perhaps for its limit of 64 MiB"),
        (Container("a", "a", "", False, exit_code=137, out_of_memory=True), False, "more than its 64 MiB of memory"),
        (Container("a", "a", "", False, exit_code=255, error="no space"), False, "status 255; no space"),
    ],
)
def test_how_a_container_ended_in_words(found: Container, ok: bool, said: str) -> None:
    end = end_of(found, parse_workload(FULL))
    assert end.ok is ok and said in end.reason


def test_what_the_engines_answer() -> None:
    raw = {
        "Name": "/edgewright-gw-1-pump",
        "State": {"Running": True, "Pid": 7, "ExitCode": 0, "OOMKilled": False},
        "Config": {"Labels": {"edgewright.workload": "pump", "edgewright.mark": "ab"}},
    }
    assert containers_of(json.dumps([raw]).encode()) == [Container("edgewright-gw-1-pump", "pump", "ab", True, 7)]
    bare = {**raw, "Config": {"Labels": None}}
    assert containers_of(json.dumps([bare]).encode())[0].workload == ""
    assert containers_of(b"") == []
    for wrong in (b"{}", b"[1]", b"[{}]", b"nonsense"):
        with pytest.raises(ValueError):
            containers_of(wrong)
    assert limited_by(b'{"host":{"cgroupControllers":["memory","cpu","io"]}}') == ("memory", "cpu")
    assert limited_by(b'{"MemoryLimit":true,"CpuCfsQuota":true,"PidsLimit":false}') == ("memory", "cpu")
    with pytest.raises(ValueError, match="no information"):
        limited_by(b'{"a":1}')


def spec(priority: int = 5, **resources: Any) -> WorkloadSpec:
    return parse_workload(
        {"type": "container", "priority": priority, "resources": resources, "container": {"image": "a"}}
    )


@pytest.mark.parametrize(
    ("specs", "active", "refused"),
    [
        ({"a": spec(memory_mb=600), "b": spec(memory_mb=500)}, set(), {"b"}),
        ({"a": spec(memory_mb=600), "b": spec(memory_mb=500)}, {"b"}, {"a"}),
        ({"a": spec(memory_mb=600), "b": spec(6, memory_mb=500)}, {"a"}, {"a"}),
        ({"a": spec(cpu_cores=0.1), "b": spec(cpu_cores=0.2), "c": spec(cpu_cores=0.7)}, set(), set()),
        ({"a": spec(gpu_count=1)}, set(), {"a"}),
        ({"a": spec(accelerators=["edgetpu"])}, set(), set()),
        ({"a": spec(accelerators=["nvidia"])}, set(), {"a"}),
        ({name: spec() for name in "abcd"}, set(), {"d"}),
    ],
)
def test_the_more_urgent_goes_first_then_what_is_there(
    specs: dict[str, WorkloadSpec], active: set[str], refused: set[str]
) -> None:
    room = Room({"cores": 1.0, "memory_mb": 1024.0}, frozenset({"edgetpu"}), workloads_max=3)
    found = too_much(specs, room, active)
    assert set(found) == refused
    assert all(why.startswith("no room: ") for why in found.values())
    fitting = {name: one for name, one in specs.items() if name not in refused}
    assert all(amount <= room.free[name] + 1e-6 for name, amount in allocated(fitting).items())


def test_impossible_settings_are_named() -> None:
    wrong = WorkloadSettings(volumes=(Path("data"),), restart_first_s=10.0, restart_max_s=1.0)
    assert len(wrong.mistakes()) == 2


def test_what_runs_containers_is_said_where_it_is_there_and_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("podman", "docker"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [said_of(True, name) for name in ("podman", "docker", "nerdctl")] == ["podman", "docker", ""]
    assert said_of(True, str(tmp_path / "docker")) == "docker"
    assert said_of(False, "podman") == ""
    (tmp_path / "podman").chmod(0o644)
    assert said_of(True, "podman") == ""
