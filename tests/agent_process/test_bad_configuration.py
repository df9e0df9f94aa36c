"""`edge-agent check` and `run` on configurations with mistakes: all of them in one report, exit status 2."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.agent_process.agents import AgentProcess, bundle, run_agent
from tests.broker import free_port


def check(folder: Path, text: str, command: str = "check") -> "subprocess.CompletedProcess[str]":
    config = folder / "agent.toml"
    config.write_text(text)
    done = run_agent(command, "--config", str(config))
    assert "Traceback" not in done.stderr
    return done


GOOD = """
[node]
id = "gw-1"
data_dir = "data"
[[cameras]]
id = "cam1"
source = "a.mp4"
[[pipelines]]
camera = "cam1"
model = "cells"
"""

BAD = """
[node]
id = "Gateway One"
data_dir = "data"
heartbeat_s = -5
heartbeet_s = 5
resend_after_s = nan

[broker]
port = 99999999999999999999
host = 7
password_file = "no-such-file"
topic_root = "edge/#"

[inference]
threads = 0
rungs = ["quantum"]

[[cameras]]
id = "cam1"
source = "a.mp4"
fps_target = -1e300
realtime = "yes"

[[cameras]]
id = "cam1"
source = "rtsp://user:hunter2hunter2@10.0.0.1/x"
stall_after_s = inf
transport = "pigeon"

[[pipelines]]
camera = "cam1"
model = "cells"
sample_interval_s = -1
[[pipelines.zones]]
name = "belt"
polygon = [[0, 0], [1, 0], [1, 1]]
[[pipelines.rules]]
name = "r"
classes = ["unicorn"]
zone = "nowhere"

[[pipelines]]
camera = "cam9"
name = "second"
model = "missing"

[[pipelines]]
camera = "cam1"
name = "third"
model = "truncated"
tracker = { high_confidence = 7.0 }

[[pipelines]]
camera = "cam1"
name = "fourth"
model = "mislabelled"

[log]
level = "LOUD"
"""


def test_all_mistakes_are_in_one_report(tmp_path: Path) -> None:
    bundle(tmp_path / "cells")
    truncated = bundle(tmp_path / "truncated") / "model.tflite"
    truncated.write_bytes(truncated.read_bytes()[:100])
    manifest = bundle(tmp_path / "mislabelled") / "bundle.toml"
    manifest.write_text(manifest.read_text().replace('"c63"', '"c63", "one too many"'))
    done = check(tmp_path, BAD)
    assert done.returncode == 2
    report = done.stderr
    for expected in (
        r"node\.id: .*no node name",
        r"node\.heartbeat_s: -5.* at least 1",
        r"node\.heartbeet_s: unknown key; did you mean heartbeat_s\?",
        r"node\.resend_after_s: nan .*finite",
        r"broker\.port: 9+ must be at most 65535",
        r"broker\.host: 7 must be a text",
        r"broker\.password_file: .*no-such-file",
        r"broker\.topic_root: ",
        r"inference\.threads: 0",
        r"inference\.rungs: 'quantum'",
        r"cameras\[0\]\.fps_target: -1e\+?300",
        r"cameras\[0\]\.realtime: 'yes' must be true or false",
        r"cameras\[0\]\.id: 'cam1' is given 2 times",
        r"cameras\[1\]\.id: 'cam1' is given 2 times",
        r"cameras\[1\]\.stall_after_s: inf",
        r"cameras\[1\]\.transport: 'pigeon'",
        r"pipelines\[0\]\.sample_interval_s: -1",
        r"pipelines\[0\].*unicorn",
        r"pipelines\[0\].*nowhere",
        r"pipelines\[1\]\.camera: no camera has the id 'cam9' \(cam1",
        r"pipelines\[1\]\.model: .*missing",
        r"pipelines\[2\]\.model: .*truncated",
        r"pipelines\[2\]\.tracker\.high_confidence",
        r"log\.level: 'LOUD'.*DEBUG, INFO",
    ):
        assert re.search(expected, report), f"{expected} is not in\n{report}"
    lines = [line for line in report.splitlines() if line.startswith("  ")]
    assert f"{len(lines)} mistakes" in report
    assert len(set(lines)) == len(lines)
    assert "hunter2" not in report


def test_settings_of_platforms_are_judged_with_what_the_node_has(tmp_path: Path) -> None:
    bundle(tmp_path / "cells")
    sensor = '[[sensors]]\nid = "vib1"\nsource = "opcua"\nurl = "opc.tcp://127.0.0.1:1"\nheartbeet = 1\n'
    table = """
[platforms]
enabled = ["manufacturing", "traffic"]
[platforms.manufacturing.machines.press1]
shaft_rpm = -5
points = [{ sensor = "vib2" }, { sensor = "temp1", quantity = "warmth" }]
[platforms.manufacturing.lines.L1]
ideal_cycle_s = 4.0
camera_id = "cam2"
shifts = [{ days = ["mon"], start = "6 am", end = "14:00" }]
[[platforms.traffic.intersections.IS-1.approaches]]
name = "north"
camera_id = "cam1"
line = "stop"
lane = 2
"""
    done = check(tmp_path, GOOD + table)
    assert done.returncode == 2
    lines = [line.strip() for line in done.stderr.splitlines() if line.startswith("  ")]
    assert lines == [
        "platforms.manufacturing.machines.press1.shaft_rpm: -5.0 must be at least 0",
        "platforms.manufacturing.machines.press1.points[1].quantity: 'warmth' must be one of acceleration, velocity, "
        "current, temperature",
        "platforms.manufacturing.machines.press1.points[0].sensor: no sensor has the id 'vib2' (there is none)",
        "platforms.manufacturing.machines.press1.points[1].sensor: no sensor has the id 'temp1' (there is none)",
        "platforms.manufacturing.lines.L1.shifts[0]: '6 am' is no time of day; write 06:30",
        'platforms.manufacturing.lines.L1.timezone: is needed with shifts and breaks, as "Europe/Berlin"',
        "platforms.manufacturing.lines.L1.camera_id: no camera has the id 'cam2'; did you mean cam1? (cam1)",
        "platforms.traffic.intersections.IS-1.approaches[0].lane: unknown key; did you mean lanes?",
    ]
    assert "8 mistakes" in done.stderr
    done = check(tmp_path, GOOD + sensor + table)  # a sensor too wrong to be read: of those here nothing is known
    assert "no sensor has the id" not in done.stderr and "shaft_rpm: -5.0" in done.stderr


def test_an_agent_that_starts_all_the_same_says_what_is_wrong_with_its_platform(tmp_path: Path) -> None:
    body = """
[platforms]
enabled = ["manufacturing"]
[platforms.manufacturing]
machnes = {}
[platforms.manufacturing.lines.L1]
ideal_cycle_s = 0.0
camera_id = "cam2"
"""
    with AgentProcess(tmp_path, free_port(), body) as agent:
        agent.start()
        agent.wait_for_log("runs, boot 1")
        agent.wait_for_log("did not get through at start")
        for told in (
            "manufacturing: did not get through at start, its settings are wrong:",
            "  platforms.manufacturing.machnes: unknown key; did you mean machines?",
            "  platforms.manufacturing.lines.L1.ideal_cycle_s: seconds of a part at full speed, above 0",
            "  platforms.manufacturing.lines.L1.camera_id: no camera has the id 'cam2' (there is none)",
        ):
            assert told in agent.log
        assert agent.terminate() == 0
        assert "Traceback" not in agent.log


def test_labels_that_do_not_fit_the_model_are_a_mistake(tmp_path: Path) -> None:
    manifest = bundle(tmp_path / "cells") / "bundle.toml"
    manifest.write_text(manifest.read_text().replace('"c63"', '"c63", "one too many"'))
    done = check(tmp_path, GOOD)
    assert done.returncode == 2
    assert "pipelines[0].model: " in done.stderr
    assert "64 scores, but the labels name 65 classes" in done.stderr


def test_a_good_one_is_well(tmp_path: Path) -> None:
    bundle(tmp_path / "cells")
    done = check(tmp_path, GOOD)
    assert done.returncode == 0, done.stderr
    assert "no mistakes; cameras 1, pipelines 1" in done.stdout
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[node", "is not TOML"),
        ("", "node: is missing"),
        ("node = 7", "node: 7 must be a table"),
        ("[node]\n", "node.id: is missing"),
        (GOOD + "cameras = 3\n", "unknown key"),
        (GOOD.replace("[[cameras]]", "[cameras]"), "cameras: .* must be a list"),
        (GOOD.replace('"cam1"\nsource', "7\nsource"), r"cameras\[0\]\.id: 7 must be a text"),
        (GOOD.replace('source = "a.mp4"', 'source = "a.mp4"\npassword = "hunter2"'), "password_file or password_env"),
    ],
)
def test_each_is_named_and_run_refuses_it_too(tmp_path: Path, text: str, expected: str) -> None:
    for command in ("check", "run"):
        done = check(tmp_path, text, command)
        assert done.returncode == 2
        assert re.search(expected, done.stderr), done.stderr
        assert "hunter2" not in done.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = run_agent("run", "--config", str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert "none.toml: cannot be read" in done.stderr
