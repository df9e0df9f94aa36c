"""A whole agent as a process: pipelines, functions and containers that the desired document wants."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.workloads.store import FILE_NAME, WorkloadsFile
from schemas.documents import Desired, Reported, decode_reported, encode
from tests.agent_process.agents import (
    CELLS,
    AgentProcess,
    Peer,
    bundle,
    camera,
    clip,
    mosquitto_pub,
    pipeline,
    run_agent,
)
from tests.broker import Broker, free_port, start_broker
from tests.workloads.pods import IMAGE, Pods, wait_for

FRAMES = 2000
QUICK = "restart_first_s = 0.1\nrestart_max_s = 0.3\ncrash_loop_max = 3\n"
UP = ["/bin/sh", "-c", "trap 'exit 0' TERM; echo up; while true; do sleep 0.1; done"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    running = start_broker(tmp_path)
    yield running
    running.stop()


def want(peer: Peer, revision: int, **specs: dict[str, Any]) -> None:
    fields = {f"workloads.{name}.spec": spec for name, spec in specs.items()}
    peer.publish("edge/v1/gw-1/desired", encode(Desired(1, revision, fields)), retain=True)


def reported(peer: Peer) -> Reported:
    said = peer.on("reported")
    return decode_reported(said[-1].payload) if said else Reported()


def state(peer: Peer, name: str) -> tuple[str, int]:
    said = reported(peer).fields.get(f"workloads.{name}.state", {})
    return said.get("state", ""), said.get("generation", 0)


def kept(agent: AgentProcess) -> tuple[str, int]:
    """State and restarts of the pump, as the agent has written them."""
    file = WorkloadsFile(agent.data_dir / FILE_NAME)
    found = file.standings()["pump"]
    file.close()
    return found.state.value, found.restarts


def at_the_node(agent: AgentProcess, *words: str) -> str:
    done = run_agent("workloads", *words, "--config", str(agent.config))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pipeline_comes_and_goes_and_no_frame_of_the_others_is_lost(tmp_path: Path, broker: Broker) -> None:
    video = clip(tmp_path / "a.mp4", (n % (CELLS * CELLS) for n in range(FRAMES)))
    model = bundle(tmp_path / "cells")
    body = camera("cam1", video, "realtime = false\nenabled = false") + pipeline("cam1", model)
    watch = {"type": "VIDEO_ANALYTICS", "restart": "never", "resources": {"cpu_cores": 0.1}}
    first = {**watch, "generation": 1, "pipeline": {"camera": "cam1", "confidence_min": 0.4}}
    second = {**watch, "generation": 2, "pipeline": {"camera": "cam1", "model": "cells"}}
    odd = {"type": "AI_INFERENCE", "pipeline": {"camera": "cam9", "model": "cells"}, "env": {"THREADS": "4"}}
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port, body) as agent:
        agent.start()
        peer.wait_online(agent)
        want(peer, 1, watch=first, odd=odd)
        peer.wait(lambda: state(peer, "watch") == ("running", 1), agent)
        assert set(reported(peer).refused) == {"workloads.odd.spec"}
        want(peer, 2, watch=second)
        peer.wait(lambda: state(peer, "watch")[1] == 2, agent)
        peer.wait(lambda: state(peer, "watch") == ("stopped", 2), agent)
        mosquitto_pub(broker, "status", "{}")
        peer.wait(lambda: peer.results("status"), agent)
        (base,) = peer.results("status")[0].result["streams"]
        assert (base["pipeline"], base["frames_total"], base["dropped_total"]) == ("cam1", FRAMES, 0)
        stopped = [event.data["frames_total"] for event in peer.events("PipelineStopped") if event.subject == "watch"]
        plays = [event.data["state"] for event in peer.events("CameraStateChanged")].count("ended")
        assert len(stopped) == 2 and 0 < sum(stopped) <= plays * FRAMES  # one play, unless the machine was very quick
        told = [(e.type, e.data["generation"]) for e in peer.events() if e.type.startswith("Workload")]
        assert told.count(("WorkloadStarted", 1)) == told.count(("WorkloadStarted", 2)) == 1
        assert ("WorkloadStopped", 2) in told and ("WorkloadFailed", 1) in told
        (why,) = [event.data["reason"] for event in peer.events("WorkloadFailed")]
        assert "no camera 'cam9' here (cam1)" in why
        born = peer.on("birth")[-1].json
        assert (born["allocated"]["cores"], born["hardware"]["containers"]) == (pytest.approx(1.1), "")
        assert agent.terminate() == 0
        assert "Traceback" not in agent.log


def test_a_function_is_called_again_and_again_and_one_that_fails_is_given_up(tmp_path: Path, broker: Broker) -> None:
    body = camera("cam1", clip(tmp_path / "a.mp4", range(CELLS)), "enabled = false") + f"[workloads]\n{QUICK}"
    calls = {"name": "status", "every_s": 0.2}
    fails = {"name": "snapshot", "arguments": {"camera_id": "cam1"}, "every_s": 0.2}
    wrong = {"name": "snapshot", "arguments": {"camera": "cam1"}}
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port, body) as agent:
        agent.start()
        peer.wait_online(agent)
        want(
            peer, 1,
            calls={"type": "data_processing", "function": calls},
            fails={"type": "data_processing", "function": fails},
            wrong={"type": "data_processing", "function": wrong, "restart": "never"},
            nobody={"type": "data_processing", "function": {"name": "nobody"}},
        )  # fmt: skip
        peer.wait(lambda: [state(peer, name)[0] for name in ("calls", "fails", "wrong")]
                  == ["running", "failed", "failed"] and "given up" in reason(peer, "fails"), agent)  # fmt: skip
        assert "has given no frame yet" in reason(peer, "fails")
        assert "refuses its arguments" in reason(peer, "wrong")
        assert "there is no function 'nobody' here" in reported(peer).refused["workloads.nobody.spec"]
        mosquitto_pub(broker, "workloadLogs", '{"name":"fails","lines":2}')
        mosquitto_pub(broker, "workloadLogs", '{"name":"nothing"}')
        peer.wait(lambda: len(peer.results("workloadLogs")) == 2, agent)
        logs, unknown = sorted(peer.results("workloadLogs"), key=lambda one: one.error is not None)
        assert len(logs.result["lines"]) == 2 and "given up" in logs.result["lines"][-1]
        assert unknown.error is not None and unknown.error.code == "unknown_workload"
        assert agent.terminate() == 0


def reason(peer: Peer, name: str) -> str:
    return str(reported(peer).fields[f"workloads.{name}.state"]["reason"])


def test_containers_outlive_a_killed_agent_and_come_back_without_a_network(
    tmp_path: Path, broker: Broker, pods: Pods
) -> None:
    spec = {"type": "CONTAINER", "generation": 7, "container": {"image": IMAGE, "command": UP, "stop_grace_s": 2}}
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port, pods.toml(QUICK)) as agent:
        agent.start()
        peer.wait_online(agent)
        peer.wait(lambda: peer.on("birth"), agent)
        assert peer.on("birth")[-1].json["hardware"]["containers"] == pods.engine
        want(peer, 1, pump=spec)
        peer.wait(lambda: state(peer, "pump") == ("running", 7), agent)
        assert reported(peer).fields["workloads.pump.spec"] == spec
        mosquitto_pub(broker, "workloadLogs", '{"name":"pump"}')
        peer.wait(lambda: peer.results("workloadLogs"), agent)
        assert peer.results("workloadLogs")[0].result == {"name": "pump", "lines": ["up"], "left_out": 0}
        agent.kill()
        broker.stop()
        assert len(pods.ids("gw-1", running=True)) == 1  # it does not know that the agent is gone
        pods.clear()  # as after a restart of the machine
        agent.start()  # without a network
        wait_for(lambda: len(pods.ids("gw-1", running=True)) == 1, lambda: agent.log)
        wait_for(lambda: kept(agent) == ("running", 0), lambda: agent.log)
        pods.call("kill", "edgewright-gw-1-pump")  # ours to notice: podman itself restarts nothing
        wait_for(lambda: kept(agent) == ("running", 1), lambda: agent.log)
        shown = json.loads(at_the_node(agent, "ls", "--json"))
        assert (shown["name"], shown["state"], shown["generation"], shown["restarts"]) == ("pump", "running", 7, 1)
        there = pods.ids("gw-1")
        agent.kill()
        broker.start()
        agent.start()
        peer.wait(lambda: reported(peer).boot == 3 and state(peer, "pump") == ("running", 7), agent)
        assert pods.ids("gw-1") == there
        assert at_the_node(agent, "logs", "pump").splitlines()[-1] == "up"
        at_the_node(agent, "stop", "pump")
        wait_for(lambda: kept(agent)[0] == "stopped", lambda: agent.log)
        assert pods.ids("gw-1") == []
        at_the_node(agent, "restart", "pump")
        wait_for(lambda: kept(agent)[0] == "running", lambda: agent.log)
        assert agent.terminate() == 0
        assert pods.ids("gw-1") == []


def test_a_pipeline_waits_for_its_model_and_for_its_camera(tmp_path: Path, broker: Broker) -> None:
    body = camera("cam1", clip(tmp_path / "a.mp4", range(CELLS)), "loop = true") + f"[workloads]\n{QUICK}"
    spec = {
        "type": "ai_inference",
        "pipeline": {"camera": "cam1", "model": "later"},
        "env": {"CONFIDENCE_MIN": "0.3"},
    }
    with Peer(broker, answers=True) as peer, AgentProcess(tmp_path, broker.port, body) as agent:
        agent.start()
        peer.wait_online(agent)
        want(peer, 1, watch=spec)
        peer.wait(lambda: state(peer, "watch")[0] == "failed", agent)
        assert "model later is not on this node" in reason(peer, "watch")
        (agent.data_dir / "models").mkdir()
        bundle(agent.data_dir / "models" / "made").rename(agent.data_dir / "models" / "later")
        peer.wait(lambda: state(peer, "watch")[0] == "running", agent)
        peer.wait(lambda: peer.events("ObjectSeen"), agent)
        mosquitto_pub(broker, "stopStream", '{"camera_id":"cam1"}')
        peer.wait(lambda: (state(peer, "watch")[0], reason(peer, "watch")) == ("starting", "camera cam1 is stopped"))
        mosquitto_pub(broker, "startStream", '{"camera_id":"cam1"}')
        peer.wait(lambda: state(peer, "watch")[0] == "running", agent)
        peer.wait(
            lambda: len({one.data["object_id"].rsplit("-", 1)[0] for one in peer.events("ObjectSeen")}) == 2, agent
        )
        want(peer, 2)
        peer.wait(lambda: [event.subject for event in peer.events("WorkloadStopped")] == ["watch"], agent)
        assert agent.terminate() == 0
        assert "Traceback" not in agent.log


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, free_port())
    none = run_agent("workloads", "ls", "--config", str(agent.config))
    assert none.returncode == 2 and "there are no workloads at" in none.stderr
