"""A node with no network at all: it watches, decides and acts, comes back from a power cut, and later tells all."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent.outbox.inspect import export
from tests.actions.test_runners import Hook
from tests.agent_process.agents import AgentProcess, Peer, bundle, camera, clip, pipeline, run_agent, wait_until
from tests.broker import broker, free_port
from tests.coordinator.process import Process

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
CELLS = [3] * 16 + [None] * 16
RULE = '[[pipelines.rules]]\nname = "there"\nclasses = ["c3"]\nfor_s = 0.3\nclear_after_s = 0.3\ncooldown_s = 0\n'


def actions(folder: Path, local_port: int, hook: str) -> str:
    return f"""
[local_broker]
port = {local_port}
[[actions]]
name = "say"
do = "mqtt"
topic = "site/{{node}}/{{camera_id}}/{{state}}"
[[actions]]
name = "post"
do = "webhook"
url = "{hook}"
on = {{ states = ["raised"] }}
[[actions]]
name = "log"
do = "command"
command = ["sh", "-c", "cat >> '{folder}/told'; echo >> '{folder}/told'"]
on = {{ rules = ["there"], cameras = ["cam1"], severities = ["warning"] }}
[[actions]]
name = "lamp"
do = "gpio"
chip = "fake:{folder}/gpio.json"
line = "lamp"
drive = "follow"
"""


def durable(agent: AgentProcess) -> set[tuple[str, str]]:
    """(lane, sequence number) of what waits in the outbox."""
    rows = [json.loads(line) for line in export(agent.data_dir / "outbox.db")]
    return {(row["lane"], str(row["seq"])) for row in rows if row["lane"] in ("event", "alert", "lifecycle")}


def history(folder: Path) -> list[int]:
    path = folder / "gpio.json"
    return list(json.loads(path.read_text())["lamp"]["history"]) if path.exists() else []


def test_a_node_without_network_acts_and_comes_back_and_tells_all_later(tmp_path: Path) -> None:
    fleet_port, hook = free_port(), Hook()
    told = tmp_path / "told"
    with broker(tmp_path) as local, Peer(local) as peer:
        body = camera("cam1", clip(tmp_path / "a.mp4", CELLS), "loop = true")
        body += pipeline("cam1", bundle(tmp_path / "cells"), RULE) + actions(tmp_path, local.port, hook.url)

        def acted(more: int) -> bool:
            """Each of the four has done its part `more` times."""
            heard = [h for h in list(peer.heard) if h.topic == "site/gw-1/cam1/raised"]
            texts = told.read_text() if told.exists() else ""
            counts = (len(heard), len(hook.heard), texts.count('"AlertCleared"'), history(tmp_path).count(1))
            return min(counts) >= more

        with AgentProcess(tmp_path, fleet_port, body) as agent:
            agent.start()
            wait_until(lambda: acted(2), lambda: f"{len(peer.heard)} {len(hook.heard)}\n{agent.log[-3000:]}")
            agent.kill()  # the power is cut ...
            before = durable(agent)
            assert {lane for lane, _ in before} == {"event", "alert", "lifecycle"}
            count = len(hook.heard)
            (tmp_path / "gpio.json").unlink()
            peer.heard.clear()
            if FAKETIME.exists():  # ... and comes back with no network, and so no time: it is 1970
                agent.environment = {
                    "LD_PRELOAD": str(FAKETIME),
                    "FAKETIME": "@1970-01-02 00:00:00",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                }
            agent.start()
            wait_until(lambda: acted(2) and len(hook.heard) >= count + 2, lambda: agent.log[-3000:])
            assert before < durable(agent)
            assert "Traceback" not in agent.log
            waiting = durable(agent)
            with broker(tmp_path, port=fleet_port):
                coordinator = Process(tmp_path, fleet_port)
                coordinator.start()
                wait_until(lambda: waiting <= arrived(coordinator), lambda: agent.log[-3000:])
                assert agent.terminate() == 0
                times = coordinator.query("SELECT min(time_utc_ms), max(time_utc_ms) FROM events")
                coordinator.stop()
                if FAKETIME.exists():
                    assert times[0][0] < 30 * 86_400_000 < times[0][1], "the clock of the second life is of 1970"
            assert history(tmp_path)[-1] == 0
            event = json.loads(hook.heard[0][2])
            assert (event["type"], event["data"]["rule"]) == ("AlertRaised", "there")
    hook.shutdown()
    hook.server_close()


def arrived(coordinator: Process) -> set[tuple[str, str]]:
    if not (coordinator.data_dir / "coordinator.db").exists():
        return set()
    try:
        return {(lane, str(seq)) for lane, seq in coordinator.query("SELECT lane, seq FROM events")}
    except sqlite3.OperationalError as error:  # its tables may not be there yet
        assert "no such table" in str(error)
        return set()


def test_a_name_that_cannot_be_looked_up_holds_up_nothing(tmp_path: Path) -> None:
    hook = Hook()
    body = camera("cam1", clip(tmp_path / "a.mp4", CELLS), "loop = true")
    body += pipeline("cam1", bundle(tmp_path / "cells"), RULE)
    body += f'[[actions]]\nname = "post"\ndo = "webhook"\nurl = "{hook.url}"\n'
    body += '[[actions]]\nname = "lost"\ndo = "webhook"\nurl = "http://nobody.invalid/"\nretries = 0\n'
    with AgentProcess(tmp_path, 1883, body, broker='host = "fleet.invalid"') as agent:
        agent.start()
        wait_until(lambda: hook.heard, lambda: agent.log[-3000:])
        agent.wait_for_log("fleet.invalid")
        assert agent.terminate() == 0
        assert "Traceback" not in agent.log
    hook.shutdown()
    hook.server_close()


@pytest.mark.parametrize(
    ("name", "said", "status"),
    [("log", "log: status 0", 0), ("broken", "ended with status 4: no siren", 1), ("none", "no action is called", 2)],
)
def test_an_action_can_be_tried_by_hand(tmp_path: Path, name: str, said: str, status: int) -> None:
    body = f"""
[[actions]]
name = "log"
do = "command"
command = ["sh", "-c", "cat > '{tmp_path}/got'"]
[[actions]]
name = "broken"
do = "command"
command = ["sh", "-c", "echo no siren >&2; exit 4"]
"""
    agent = AgentProcess(tmp_path, free_port(), body)
    done = run_agent("actions", "test", name, "--config", str(agent.config))
    assert said in done.stdout + done.stderr
    assert done.returncode == status
    if name == "log":
        got: dict[str, Any] = json.loads((tmp_path / "got").read_text())
        assert got["data"]["test"] is True


def test_check_names_every_mistake_in_the_actions_at_once(tmp_path: Path) -> None:
    body = """
[[actions]]
name = "a"
do = "dance"
[[actions]]
name = "b"
do = "command"
command = ["no-such-program"]
on = { types = ["Sene"] }
[[actions]]
name = "c"
do = "mqtt"
topic = "a/#"
[degradation]
cpu_percent_ok = 99.0
"""
    agent = AgentProcess(tmp_path, free_port(), body)
    done = run_agent("check", "--config", str(agent.config))
    assert done.returncode == 2
    for said in ("actions[0].do", "'no-such-program'", "'Sene'", "'a/#'", "degradation.cpu_percent_ok"):
        assert said in done.stderr
