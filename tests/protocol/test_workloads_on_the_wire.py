"""docs/protocol.md, workloads: each test carries the number it shows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import decode_packed
from schemas.documents import Desired, Reported, decode_reported, encode
from schemas.messages import CommandState, Heartbeat
from schemas.topics import Kind
from tests.agent_process.agents import AgentProcess, Peer, camera, clip, mosquitto_pub
from tests.broker import Broker, start_broker

QUICK = "[workloads]\nrestart_first_s = 0.1\nrestart_max_s = 0.2\ncrash_loop_max = 2\n"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    running = start_broker(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def peer(broker: Broker) -> Iterator[Peer]:
    with Peer(broker) as peer:
        yield peer


@pytest.fixture
def agent(tmp_path: Path, broker: Broker, peer: Peer) -> Iterator[AgentProcess]:
    body = camera("cam1", clip(tmp_path / "a.mp4", [1, 2]), "enabled = false") + QUICK
    with AgentProcess(tmp_path, broker.port, body) as agent:
        agent.start()
        peer.wait_online(agent)
        yield agent


def calls(function: str, generation: int = 1, **more: Any) -> dict[str, Any]:
    called = {"name": function, "every_s": 0.2, "arguments": more.pop("arguments", {})}
    return {"type": "data_processing", "generation": generation, "function": called, **more}


def want(peer: Peer, revision: int, **specs: dict[str, Any]) -> None:
    fields = {f"workloads.{name}.spec": spec for name, spec in specs.items()}
    peer.publish("edge/v1/gw-1/desired", encode(Desired(1, revision, fields)), retain=True)


def said(peer: Peer) -> Reported:
    found = peer.on("reported")
    return decode_reported(found[-1].payload) if found else Reported()


def state(peer: Peer, name: str) -> dict[str, Any]:
    found = said(peer).fields.get(f"workloads.{name}.state", {})
    assert isinstance(found, dict)
    return found


def told(peer: Peer, name: str) -> list[tuple[str, int]]:
    events = [event for event in peer.events() if event.type.startswith("Workload") and event.subject == name]
    return [(event.type, event.data["generation"]) for event in sorted(events, key=lambda event: event.identity.seq)]


def test_p79_what_a_node_runs_and_what_it_says_of_it(agent: AgentProcess, peer: Peer, broker: Broker) -> None:
    spec = calls("status", resources={"cpu_cores": 0.25, "memory_mb": 8})
    vast = calls("status", resources={"memory_mb": 1e9})
    want(peer, 1, looks=spec, vast=vast, absent=calls("fly"), both={**spec, "container": {"image": "x"}})
    peer.wait(lambda: state(peer, "looks").get("state") == "running", agent)
    reports = [decode_reported(one.payload) for one in peer.on("reported")]
    assert any("workloads.looks.spec" in report.pending for report in reports)
    report = said(peer)
    assert report.pending == {}
    assert report.fields["workloads.looks.spec"] == spec
    assert state(peer, "looks").keys() == {"state", "generation", "restarts", "reason", "since_utc_ms"}
    refused = {path.split(".")[1]: why for path, why in report.refused.items()}
    assert refused.keys() == {"vast", "absent", "both"}
    assert "memory_mb: needs 1e+09" in refused["vast"] and "no function 'fly'" in refused["absent"]
    assert "container: does not belong" in refused["both"]
    assert (state(peer, "vast")["state"], state(peer, "vast")["reason"]) == ("failed", refused["vast"])
    assert peer.on("birth")[-1].json["allocated"] == {"cores": 0.25, "memory_mb": 8}

    def beats() -> list[dict[str, str]]:
        return [decode_packed(Heartbeat, Kind.HEARTBEAT, one.payload).workloads for one in peer.on("heartbeat")]

    peer.wait(lambda: {"looks": "running", "vast": "failed", "absent": "failed"} in beats(), agent)
    # Killed, and without a network: what is journalled is run again.
    agent.kill()
    broker.stop()
    agent.start()
    agent.wait_for_log("node gw-1 runs", 2)
    broker.start()
    peer.wait(lambda: said(peer).boot == 2 and state(peer, "looks").get("state") == "running", agent)
    want(peer, 2)
    peer.wait(lambda: not said(peer).fields.get("workloads.looks.state"), agent)
    peer.wait(lambda: told(peer, "looks")[-1][0] == "WorkloadStopped", agent)
    peer.wait(lambda: not peer.on("birth")[-1].json.get("allocated"), agent)


def test_p80_one_instance_one_after_the_other_and_restarts_with_an_end(
    agent: AgentProcess, peer: Peer, broker: Broker
) -> None:
    want(peer, 1, one=calls("status", 1))
    peer.wait(lambda: state(peer, "one").get("state") == "running", agent)
    want(peer, 2, one=calls("status", 2))
    peer.wait(lambda: len(told(peer, "one")) == 3, agent)
    assert told(peer, "one") == [("WorkloadStarted", 1), ("WorkloadStopped", 1), ("WorkloadStarted", 2)]
    # A camera that does not run has no frame: the call fails, and its restart policy has an end.
    want(peer, 3, one=calls("snapshot", 3, arguments={"camera_id": "cam1"}))
    peer.wait(lambda: "given up" in state(peer, "one")["reason"], agent)
    assert (state(peer, "one")["state"], state(peer, "one")["restarts"]) == ("failed", 2)
    assert "given up" in said(peer).refused["workloads.one.spec"]
    peer.wait(lambda: told(peer, "one")[3:] == [("WorkloadStopped", 2)] + [("WorkloadFailed", 3)] * 3, agent)
    want(peer, 4, one=calls("snapshot", 4, arguments={"camera_id": "cam1"}, restart="never"))
    peer.wait(lambda: (state(peer, "one")["generation"], state(peer, "one")["state"]) == (4, "failed"), agent)
    assert state(peer, "one")["restarts"] == 0
    mosquitto_pub(broker, "workloadLogs", '{"name":"one","lines":3}')
    mosquitto_pub(broker, "workloadLogs", '{"name":"two"}')
    peer.wait(lambda: len(peer.results("workloadLogs")) == 2, agent)
    first, second = sorted(peer.results("workloadLogs"), key=lambda one: one.state.value, reverse=True)
    assert first.state is CommandState.SUCCEEDED and len(first.result["lines"]) == 3
    assert second.error is not None and second.error.code == "unknown_workload"
