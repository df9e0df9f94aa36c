"""Commands as people and programs send them: mosquitto_pub, mosquitto_rr, an MQTT 5 client, against a real agent."""

import base64
import io
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from schemas.messages import CommandState, Result
from tests.agent_process.agents import WAIT_S, AgentProcess, Peer, bundle, camera, clip, mosquitto_pub, pipeline
from tests.broker import start_broker


class Desk:
    """A broker, an agent with a running camera `cam1` and a camera `stuck` whose start never ends, and a listener."""

    def __init__(self, folder: Path) -> None:
        # No more than 20 messages in flight, mosquitto's default: a burst of answers must respect it.
        self.broker = start_broker(folder, extra_conf="max_inflight_messages 20")
        self.peer = Peer(self.broker, answers=True)
        (folder / "hangs").mkdir()
        os.mkfifo(folder / "hangs" / "bundle.toml")  # whoever reads it waits for ever
        body = [
            camera("cam1", clip(folder / "a.mp4", [3] * 20 + [None] * 20), "loop = true"),
            pipeline("cam1", bundle(folder / "cells")),
            camera("stuck", folder / "a.mp4", "enabled = false"),
            pipeline("stuck", folder / "hangs"),
        ]
        self.agent = AgentProcess(folder, self.broker.port, "\n".join(body)).start()
        self.peer.wait_online(self.agent)
        self.peer.wait(lambda: self.peer.events("PipelineStarted"), self.agent)

    def close(self) -> None:
        if self.agent.process is not None:
            self.agent.kill()
        self.peer.__exit__()
        self.broker.stop()

    def send(self, function: str, payload: str, *more: str) -> None:
        mosquitto_pub(self.broker, function, payload, *more)

    def ask(self, function: str, payload: str = "{}", *more: str) -> Result:
        """Sends and returns the next result of that function."""
        before = len(self.peer.results(function))
        self.send(function, payload, *more)
        self.peer.wait(lambda: len(self.peer.results(function)) > before, self.agent)
        return self.peer.results(function)[before]

    def wait_for_pictures(self) -> None:
        """The camera runs again."""
        request = '{"camera_id":"cam1"}'
        self.peer.wait(lambda: self.ask("snapshot", request).state is CommandState.SUCCEEDED, self.agent)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    yield desk
    desk.close()


def refused(result: Result) -> tuple[str, str]:
    assert result.state is CommandState.REJECTED
    assert result.error is not None
    return result.error.code, result.error.field


def test_status_tells_of_the_node(desk: Desk) -> None:
    result = desk.ask("status", "")
    assert result.state is CommandState.SUCCEEDED
    assert (result.node, result.result["node"], result.result["boot"]) == ("gw-1", "gw-1", 1)
    assert {stream["camera"] for stream in result.result["streams"]} == {"cam1", "stuck"}
    assert {lane["lane"] for lane in result.result["outbox"]} >= {"event", "alert", "lifecycle"}
    for lane in result.result["outbox"]:
        assert lane["produced"] == lane["stored"] + lane["pending"] + lane["quarantined"]


def test_a_snapshot_is_a_picture(desk: Desk) -> None:
    desk.wait_for_pictures()
    result = desk.ask("snapshot", '{"camera_id":"cam1","width_max":32}')
    assert result.state is CommandState.SUCCEEDED, result.error
    jpeg = base64.b64decode(result.result["data_base64"])
    assert len(jpeg) == result.result["bytes"]
    with av.open(io.BytesIO(jpeg), "r") as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (32, 32)


def test_streams_stop_and_start(desk: Desk) -> None:
    assert desk.ask("stopStream", '{"camera_id":"cam1"}').result == {"camera_id": "cam1", "stopped": True}
    assert desk.ask("stopStream", '{"camera_id":"cam1"}').result == {"camera_id": "cam1", "stopped": False}
    failed = desk.ask("snapshot", '{"camera_id":"cam1"}')
    assert failed.error is not None
    assert failed.error.code == "no_frame"
    started = desk.ask("startStream", '{"camera_id":"cam1"}')
    assert started.result["started"] is True
    assert [stream["state"] for stream in started.result["streams"]] != ["failed"]
    assert desk.ask("startStream", '{"camera_id":"cam1"}').result["started"] is False
    desk.wait_for_pictures()


@pytest.mark.parametrize(
    ("function", "payload", "code", "field"),
    [
        ("selfDestruct", "{}", "unknown_function", ""),
        ("snapshot", "{}", "bad_arguments", "camera_id"),
        ("snapshot", '{"camera_id":7}', "bad_arguments", "camera_id"),
        ("snapshot", '{"camera_id":"cam1","quality":-1}', "bad_arguments", "quality"),
        ("snapshot", '{"camera_id":"cam1","width_max":1e300}', "bad_arguments", "width_max"),
        ("snapshot", '{"camera_id":"cam1","with_max":100}', "bad_arguments", "with_max"),
        ("snapshot", '{"camera_id":"cam9"}', "unknown_camera", "camera_id"),
        ("status", '{"verbose":true}', "bad_arguments", "verbose"),
        ("status", "status please", "bad_message", ""),
        ("status", "[1,2]", "bad_message", ""),
        ("status", '{"a":NaN}', "bad_message", ""),
        ("status", "[" * 3000, "bad_message", ""),
        ("status", '{"_id":7}', "bad_message", ""),
        ("status", '{"_expires_s":-1}', "bad_message", ""),
    ],
)
def test_what_is_wrong_is_refused_by_name(desk: Desk, function: str, payload: str, code: str, field: str) -> None:
    assert refused(desk.ask(function, payload)) == (code, field)


def test_a_refusal_carries_the_id(desk: Desk) -> None:
    result = desk.ask("snapshot", '{"camera_id":"cam9","_id":"r-1"}')
    assert (result.id, refused(result)[0]) == ("r-1", "unknown_camera")


def test_a_retained_command_is_refused(desk: Desk) -> None:
    # Whoever is connected when it is published sees it as any other; after the next connect it comes as retained.
    desk.send("stopStream", '{"camera_id":"cam1","_id":"kept"}', "-r")
    desk.peer.wait(lambda: any(result.id == "kept" for result in desk.peer.results("stopStream")), desk.agent)
    assert desk.agent.terminate() == 0
    desk.agent.start()
    desk.peer.wait(lambda: any(result.error for result in desk.peer.results("stopStream")), desk.agent)
    (result,) = [result for result in desk.peer.results("stopStream") if result.error]
    assert (result.id, refused(result)[0]) == ("kept", "retained")
    desk.peer.publish("edge/v1/gw-1/cmd/stopStream", b"", retain=True)


def test_a_repeated_id_is_answered_twice_and_run_once(desk: Desk) -> None:
    desk.wait_for_pictures()
    payload = '{"camera_id":"cam1","_id":"once-1"}'
    first = desk.ask("snapshot", payload)
    time.sleep(0.2)
    second = desk.ask("snapshot", payload)
    assert first == second
    assert first.id == "once-1"
    assert desk.ask("snapshot", '{"camera_id":"cam1"}').result["frame_index"] > first.result["frame_index"]
    assert refused(desk.ask("status", '{"_id":"once-1"}')) == ("id_in_use", "_id")
    desk.agent.kill()
    desk.agent.start()
    desk.peer.wait_online(desk.agent, desk.peer.statuses().count("online") + 1)
    assert desk.ask("snapshot", payload) == first


def test_an_expired_command_is_not_run(desk: Desk) -> None:
    result = desk.ask("stopStream", '{"camera_id":"cam1","_expires_s":0}')
    assert result.state is CommandState.EXPIRED
    assert desk.ask("startStream", '{"camera_id":"cam1"}').result["started"] is False  # it still runs
    assert desk.ask("status", '{"_expires_s":60}').state is CommandState.SUCCEEDED


def test_an_oversize_payload_is_refused_and_the_agent_lives(desk: Desk) -> None:
    before = len(desk.peer.results("status"))
    desk.peer.publish("edge/v1/gw-1/cmd/status", json.dumps({"x": "y" * 70_000}).encode())
    desk.peer.wait(lambda: len(desk.peer.results("status")) > before)
    assert refused(desk.peer.results("status")[before])[0] == "bad_message"
    desk.peer.publish("edge/v1/gw-1/cmd/status", b"x" * 2_000_000)  # more than we accept in a packet: never arrives
    assert desk.ask("status").state is CommandState.SUCCEEDED
    assert "Traceback" not in desk.agent.log


def test_a_flood_of_commands_is_answered_and_the_connection_stays(desk: Desk) -> None:
    before, sessions = len(desk.peer.results("nonsense")), desk.peer.statuses().count("online")
    for n in range(300):
        desk.peer.publish("edge/v1/gw-1/cmd/nonsense", b'{"n":%d}' % n)
    desk.peer.wait(lambda: len(desk.peer.results("nonsense")) >= before + 300, desk.agent)
    assert {refused(result)[0] for result in desk.peer.results("nonsense")} <= {"unknown_function", "busy"}
    assert desk.peer.statuses().count("online") == sessions


def test_request_and_response_of_mqtt_5(desk: Desk) -> None:
    command = ["mosquitto_rr", "-p", str(desk.broker.port), "-q", "1", "-W", str(int(WAIT_S))]
    topics = ["-t", "edge/v1/gw-1/cmd/status", "-e", "edge/v1/gw-1/result/me-17"]
    done = subprocess.run(
        [*command, *topics, "-m", "{}", "-V", "5"], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert json.loads(done.stdout)["state"] == "succeeded"


def properties(response: str, correlation: bytes) -> Any:
    found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    found.ResponseTopic = response
    found.CorrelationData = correlation
    return found


def test_correlation_data_come_back_and_belong_to_their_sender(desk: Desk) -> None:
    desk.wait_for_pictures()
    for who, arguments in (("a", b'{"camera_id":"cam1"}'), ("b", b'{"camera_id":"cam9"}')):
        response = f"edge/v1/gw-1/result/client-{who}"
        desk.peer.publish("edge/v1/gw-1/cmd/snapshot", arguments, properties=properties(response, b"\x00\x01"))
    desk.peer.wait(lambda: desk.peer.on("result/client-a") and desk.peer.on("result/client-b"), desk.agent)
    (a,), (b,) = desk.peer.on("result/client-a"), desk.peer.on("result/client-b")
    assert a.correlation == b.correlation == b"\x00\x01"
    assert a.json["state"] == "succeeded"
    assert b.json["error"]["code"] == "unknown_camera"


def test_no_answer_goes_where_the_node_may_not_write(desk: Desk) -> None:
    before = len(desk.peer.results("status"))
    for topic in ("edge/v1/gw-2/result/x", "home/light/set", "edge/v1/gw-1/event/Fake"):
        desk.peer.publish("edge/v1/gw-1/cmd/status", b"{}", properties=properties(topic, b"1"))
    desk.peer.wait(lambda: len(desk.peer.results("status")) >= before + 3)
    topics = {heard.topic for heard in desk.peer.heard}
    assert not topics & {"edge/v1/gw-2/result/x", "home/light/set", "edge/v1/gw-1/event/Fake"}


def test_too_many_at_once_are_busy_and_what_was_cut_off_is_interrupted(desk: Desk) -> None:
    before = len(desk.peer.results("startStream"))
    for n in range(17):
        desk.peer.publish("edge/v1/gw-1/cmd/startStream", b'{"camera_id":"stuck","_id":"s-%d"}' % n)
    desk.peer.wait(lambda: len(desk.peer.results("startStream")) > before, desk.agent)
    answered = desk.peer.results("startStream")[before:]
    assert len(answered) == 1, answered
    (busy,) = answered
    assert (busy.id, refused(busy)[0]) == ("s-16", "busy")
    time.sleep(0.2)
    desk.agent.kill()
    desk.agent.start()
    desk.peer.wait(lambda: len(desk.peer.results("startStream")) >= before + 17, desk.agent)
    cut_off = desk.peer.results("startStream")[before + 1 :]
    assert {result.id for result in cut_off} == {f"s-{n}" for n in range(16)}
    assert {(result.state, result.error.code if result.error else "") for result in cut_off} == {
        (CommandState.FAILED, "interrupted")
    }
    # Asked again, it is answered from the journal and not run.
    assert desk.ask("startStream", '{"camera_id":"stuck","_id":"s-3"}').error == cut_off[0].error
