"""Platforms' functions called over a real broker: at a node, in the coordinator, by hand and by edgectl."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import decode_result
from schemas.messages import CommandState, Result
from tests.agent_process.agents import AgentProcess, Peer, camera, pipeline, run_agent, wait_until
from tests.broker import Broker, broker
from tests.coordinator.process import Process, edgectl

PLATFORMS = '[platforms]\nenabled = ["manufacturing", "traffic", "retail"]\n'
LINE = '[[pipelines.lines]]\nname = "gate"\nstart = [0.5, 0.0]\nend = [0.5, 1.0]\n'
JUNCTION = """
[[platforms.traffic.intersections.IS-001.approaches]]
name = "north"
camera_id = "cam1"
line = "gate"
vehicle_classes = ["crack", "pore", "spatter", "undercut", "burn_through"]
[[platforms.retail.stores.S-1.entrances]]
camera_id = "cam1"
line = "gate"
customer_classes = ["crack", "pore", "spatter", "undercut", "burn_through"]
"""


class Site:
    """A node with three platforms on the rendered weld line, whose defects play vehicles and customers."""

    def __init__(self, folder: Path, running: Broker, peer: Peer) -> None:
        self.broker, self.peer = running, peer
        body = camera("cam1", "scene:weld?seed=1") + pipeline("cam1", "weld_defects", LINE) + PLATFORMS + JUNCTION
        self.agent = AgentProcess(folder, running.port, body)
        (folder / "coordinator").mkdir()
        self.coordinator = Process(folder / "coordinator", running.port, PLATFORMS)

    def results(self, function: str, responder: str) -> list[Result]:
        topic = f"edge/v1/{responder}/result/{function}"
        found = [decode_result(heard.payload) for heard in list(self.peer.heard) if heard.topic == topic]
        return [one for one in found if one.state.final]

    def by_hand(self, function: str, payload: str, responder: str = "gw-1") -> Result:
        """As `mosquitto_pub` types it."""
        count = len(self.results(function, responder))
        topic = f"edge/v1/{responder}/cmd/{function}"
        command = ["mosquitto_pub", "-p", str(self.broker.port), "-q", "1", "-t", topic, "-m", payload]
        subprocess.run(command, check=True, timeout=30)
        wait_until(lambda: len(self.results(function, responder)) > count)
        return self.results(function, responder)[-1]

    def edgectl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return edgectl(["--config", str(self.coordinator.config), *arguments])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with broker(folder) as running, Peer(running) as peer:
        made = Site(folder, running, peer)
        with made.agent:
            made.coordinator.start()
            made.agent.start()
            try:
                wait_until(lambda: peer.events("LineCrossed"), lambda: made.agent.log[-3000:])
                yield made
            finally:
                made.coordinator.kill()


FLOW = '{"intersection_id":"IS-001","time_window":"5m"}'
CUSTOMERS = '{"entrance_cameras":[{"camera_id":"cam1"}],"last":"5m"}'


def counted(site: Site, function: str, payload: str, responder: str, number: Callable[[Any], int]) -> Any:
    """The result once something was counted: what is found is kept a moment later."""
    found: list[Any] = []

    def asked() -> bool:
        result = site.by_hand(function, payload, responder)
        assert result.state is CommandState.SUCCEEDED, result.error
        found[:] = [result.result]
        return number(result.result) > 0

    wait_until(asked)
    return found[0]


@pytest.mark.parametrize("responder", ["gw-1", "coordinator"])
def test_the_same_function_runs_at_the_node_and_in_the_coordinator(site: Site, responder: str) -> None:
    flow = counted(
        site, "analyzeTrafficFlow", FLOW, responder, lambda found: found["vehicles"] + found["vehicles_out"]
    )
    (north,) = flow["approaches"]
    assert (north["approach"], north["node_id"], north["camera_id"]) == ("north", "gw-1", "cam1")
    assert flow["window_end"] - flow["window_start"] == 300_000
    customers = counted(
        site, "countCustomers", CUSTOMERS, responder, lambda found: found[0]["entered"] + found[0]["left"]
    )
    assert customers[0]["camera_id"] == "cam1"


def test_process_video_stream_takes_the_configured_pipeline(site: Site) -> None:
    result = site.by_hand("processVideoStream", '{"camera_id":"cam1"}')
    assert result.state is CommandState.SUCCEEDED
    assert (result.result["pipeline"], result.result["state"]) == ("cam1", "running")
    assert result.result["frames"] > 0


@pytest.mark.parametrize(
    ("function", "payload", "responder", "code", "field", "said"),
    [
        ("analyzeTrafficFlow", '{"intersection_id":"IS-001","time_windw":"5m"}', "gw-1", "bad_arguments",
         "time_windw", "did you mean time_window?"),
        ("analyzeTrafficFlow", '{"intersection_id":"IS-001","time_window":"1s"}', "coordinator", "bad_arguments",
         "time_window", "10"),
        ("analyzeTrafficFlow", '{"intersection_id":"IS-9","time_window":"5m"}', "gw-1", "bad_arguments",
         "intersection_id", "no approach of 'IS-9' here (IS-001)"),
        ("snapshot", '{"camera_id":"cam1","quality":500}', "gw-1", "bad_arguments", "quality", "from 1 to 100"),
        ("processVideoStream", '{"camera_id":"cam9"}', "gw-1", "bad_arguments", "camera_id", "cam9"),
        ("optimizeSignal", "{}", "gw-1", "not_bound", "", "no Python is bound to it"),
        ("processVideoStream", '{"camera_id":"cam1"}', "coordinator", "not_bound", "", "nodes serve it"),
        ("deployModel", "{}", "gw-1", "not_bound", "", "the coordinator serves it"),
        ("setDesired", '{"node":"Gw 1"}', "coordinator", "bad_arguments", "node", ""),
        ("analyseTrafficFlow", FLOW, "gw-1", "unknown_function", "", "did you mean analyzeTrafficFlow?"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_so_is_answered_with_the_field(
    site: Site, function: str, payload: str, responder: str, code: str, field: str, said: str
) -> None:
    result = site.by_hand(function, payload, responder)
    assert result.state is CommandState.REJECTED
    assert result.error is not None
    assert (result.error.code, result.error.field) == (code, field)
    assert said in result.error.message


def test_the_birth_names_what_is_bound_and_nothing_else(site: Site) -> None:
    birth = site.peer.on("birth")[-1].json
    assert birth["platforms"] == ["core", "manufacturing", "traffic", "retail"]
    assert {"analyzeTrafficFlow", "countCustomers", "processVideoStream", "snapshot"} <= set(birth["functions"])
    assert not {"optimizeSignal", "deployModel", "setDesired"} & set(birth["functions"])


def test_what_the_node_says_of_its_junction_is_state_at_both_ends(site: Site) -> None:
    def shown() -> str:
        return site.edgectl("state", "get", "traffic.approaches.IS-001/north.line").stdout

    wait_until(lambda: "gate" in shown(), shown)
    assert "cam1" in site.edgectl("state", "get", "traffic.approaches.IS-001/north", "--json").stdout
    here = run_agent("state", "get", "traffic.approaches.IS-001/north.line", "--config", str(site.agent.config))
    assert here.stdout.startswith("gate")
