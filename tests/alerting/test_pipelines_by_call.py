"""Named pipelines on a whole agent: made, changed, gone back to and taken away; no other camera loses a frame."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.state import StateFile
from schemas.documents import Desired, Written, decode_reported, encode
from schemas.messages import CommandState
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
from tests.broker import Broker, start_broker

FRAMES = 1500
PLATFORM = '[platforms]\nenabled = ["manufacturing"]\n'


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    running = start_broker(tmp_path)
    yield running
    running.stop()


class Site:
    """Calls the node as a person does, one call after the other."""

    def __init__(self, broker: Broker, peer: Peer, agent: AgentProcess) -> None:
        self._broker, self._peer, self._agent = broker, peer, agent

    def call(self, function: str, **given: Any) -> Any:
        before = len(self._answers(function))
        mosquitto_pub(self._broker, function, json.dumps(given))
        self._peer.wait(lambda: len(self._answers(function)) > before, self._agent)
        answer = self._answers(function)[-1]
        return answer.result if answer.state is CommandState.SUCCEEDED else answer.error

    def _answers(self, function: str) -> list[Any]:
        return [one for one in self._peer.results(function) if one.state.final]

    def fields(self) -> dict[str, Any]:
        said = self._peer.on("reported")
        return decode_reported(said[-1].payload).fields if said else {}


def test_a_pipeline_is_made_changed_gone_back_to_and_taken_away(tmp_path: Path, broker: Broker) -> None:
    video = clip(tmp_path / "a.mp4", (n % (CELLS * CELLS) for n in range(FRAMES)))
    model = bundle(tmp_path / "cells")
    # Played as fast as it goes, and complete: each frame of it is decided, whatever else is done meanwhile.
    body = camera("still", video, "realtime = false\nenabled = false") + pipeline("still", model)
    body += camera("cam1", video, "loop = true") + pipeline("cam1", model, 'name = "weld"')
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port, PLATFORM + body) as agent:
        agent.start()
        peer.wait_online(agent)
        site = Site(broker, peer, agent)
        assert site.call("processVideoStream", camera_id="cam1", wait=60)["version"] == 0
        site.call("startStream", camera_id="still")

        first = site.call(
            "processVideoStream", camera_id="cam1", pipeline={"name": "weld", "classes": ["c3"]}, wait=60
        )
        assert (first["version"], first["state"], first["error"]) == (1, "running", "")
        second = site.call(
            "processVideoStream", camera_id="cam1", wait=60,
            pipeline={"name": "weld", "classes": ["c5", "c6"], "confidence_min": 0.3, "fps_max": 20},
        )  # fmt: skip
        assert (second["version"], second["state"]) == (2, "running")
        more = site.call("processVideoStream", camera_id="cam1", pipeline={"name": "more", "model": "cells"}, wait=60)
        assert (more["pipeline"], more["version"]) == ("more", 1)
        peer.wait(lambda: site.fields().get("workloads.weld.state", {}).get("generation") == 2, agent)
        assert site.fields()["pipelines.weld.spec"]["version"] == 2

        back = site.call("processVideoStream", camera_id="cam1", pipeline={"name": "weld", "version": 1}, wait=60)
        assert (back["version"], back["state"]) == (1, "running")
        same = site.call(
            "processVideoStream", camera_id="cam1", pipeline={"name": "weld", "classes": ["c3"]}, wait=60
        )
        assert same["version"] == 1  # nothing new
        peer.wait(lambda: set(counted(site, "weld")) == {"c3"}, agent)

        gone = site.call("stopVideoStream", camera_id="cam1", pipeline="more")
        assert gone == {"camera_id": "cam1", "pipeline": "more", "stopped": True}
        refused = site.call("processVideoStream", camera_id="cam1", pipeline={"name": "weld", "classes": ["c99"]})
        assert (refused.field, "no class 'c99'" in refused.message) == ("pipeline.classes", True)
        for given, field in (
            ({"name": "weld", "model": "nobody"}, "pipeline.model"),
            ({"name": "weld", "version": 9}, "pipeline.version"),
            ({"name": "weld", "version": 1, "fps_max": 3}, "pipeline.version"),
            ({"name": "still", "fps_max": 3}, "pipeline.name"),
        ):
            assert site.call("processVideoStream", camera_id="cam1", pipeline=given).field == field

        peer.wait(lambda: row(site, "still")["state"] == "ended", agent)
        still = row(site, "still")
        assert (still["frames_total"], still["dropped_total"]) == (FRAMES, 0)

        assert agent.terminate() == 0
        agent.start()  # what runs is kept
        peer.wait_online(agent, 2)
        again = site.call("processVideoStream", camera_id="cam1", pipeline={"name": "weld"}, wait=60)
        assert (again["version"], again["state"]) == (1, "running")
        configured = site.call(
            "processVideoStream", camera_id="cam1", pipeline={"name": "weld", "version": 0}, wait=60
        )
        assert (configured["version"], configured["state"]) == (0, "running")
        assert site.call("stopVideoStream", camera_id="cam1")["stopped"] is True
        peer.wait(lambda: row(site, "weld")["state"] == "paused", agent)
        assert site.call("processVideoStream", camera_id="cam1")["state"] != "paused"


def test_desired_state_and_an_operator_at_the_node_change_the_same_pipeline(tmp_path: Path, broker: Broker) -> None:
    video = clip(tmp_path / "a.mp4", (n % (CELLS * CELLS) for n in range(200)))
    body = camera("cam1", video, "loop = true") + pipeline("cam1", bundle(tmp_path / "cells"), 'name = "weld"')
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port, PLATFORM + body) as agent:
        agent.start()
        peer.wait_online(agent)
        site = Site(broker, peer, agent)

        def runs(version: int | None) -> bool:
            state = site.fields().get("workloads.weld.state", {})
            return state.get("generation") == version and state.get("state") in ("running", None)

        spec = {"version": 4, "pipeline": {"camera": "cam1", "settings": {"classes": ["c7"]}}}
        stamp = Written("1000.0.coordinator")
        desired = Desired(1, 1, {"pipelines.weld.spec": spec}, {"pipelines.weld.spec": stamp})
        peer.publish("edge/v1/gw-1/desired", encode(desired), retain=True)
        peer.wait(lambda: runs(4), agent)
        peer.wait(lambda: set(counted(site, "weld")) == {"c7"}, agent)

        # Whoever knew of the other has the last word, at the node too, by a call as by an operator.
        mine = site.call("processVideoStream", camera_id="cam1", pipeline={"name": "weld", "fps_max": 7}, wait=60)
        assert (mine["version"], mine["state"]) == (1, "running")
        peer.wait(lambda: runs(1), agent)
        local = ["local", "set", f"pipelines.weld.spec={json.dumps(spec)}", "--config", str(agent.config)]
        assert run_agent(*local).returncode == 0
        peer.wait(lambda: runs(4), agent)
        wrong = run_agent("local", "set", "pipelines.weld.spec={}", "--config", str(agent.config))
        assert wrong.returncode == 2 and "pipeline: is missing" in wrong.stderr
        assert run_agent("local", "unset", "pipelines.weld.spec", "--config", str(agent.config)).returncode == 0
        peer.wait(lambda: runs(None), agent)  # as configured
        peer.wait(lambda: row(site, "weld")["state"] == "running" and len(counted(site, "weld")) > 3, agent)


def row(site: Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in site.call("status")["streams"] if one["pipeline"] in (name, ""))
    return next((one for one in site.call("status")["streams"] if one["pipeline"] == name), found)


def counted(site: Site, name: str) -> dict[str, int]:
    counts: dict[str, int] = row(site, name)["counts"]
    return counts


def test_versions_are_remembered_by_the_state_file(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.db")
    file.remember("pipelines.versions", json.dumps({"a": [{"version": 2, "pipeline": {"camera": "cam1"}}]})).result()
    file.close()
    again = StateFile(tmp_path / "state.db")
    assert json.loads(again.recall("pipelines.versions"))["a"][0]["version"] == 2
    again.close()
