"""Cameras and pipelines of a real agent: what they report when they work, end, break and are started again."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.outbox.inspect import export
from tests.agent_process.agents import (
    AgentProcess,
    Peer,
    bundle,
    camera,
    clip,
    mosquitto_pub,
    pipeline,
    wait_until,
)
from tests.broker import Broker, free_port, start_broker

# Two objects, one after the other; the second is still there when the clip ends.
CELLS = [3] * 30 + [None] * 60 + [9] * 30
RULE = '[[pipelines.rules]]\nname = "there"\nclasses = ["c3"]\nfor_s = 0.5\nclear_after_s = 0.5\n'


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = start_broker(tmp_path)
    yield started
    started.stop()


def rows(agent: AgentProcess) -> list[dict[str, Any]]:
    """What the outbox holds."""
    path = agent.data_dir / "outbox.db"
    return [json.loads(line) for line in export(path)] if path.exists() else []


def events(agent: AgentProcess, kind: str) -> list[dict[str, Any]]:
    return [row["row"]["data"] for row in rows(agent) if row["type"] == kind]


def wait_for_end(agent: AgentProcess, identifier: str = "cam1") -> None:
    """The clip has been played and everything about it is decided."""
    agent.wait_for_log(f"camera {identifier} is ended")
    wait_until(lambda: len(events(agent, "ObjectGone")) >= 2, lambda: agent.log[-2000:])


def test_a_clip_gives_the_same_events_each_time_and_its_end_ends_its_objects(tmp_path: Path) -> None:
    video, model = clip(tmp_path / "a.mp4", CELLS), bundle(tmp_path / "cells")
    runs: list[list[Any]] = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        body = camera("cam1", video, "realtime = false") + pipeline("cam1", model, f"sample_interval_s = 1\n{RULE}")
        with AgentProcess(folder, free_port(), body) as agent:
            agent.start()
            wait_for_end(agent)
            assert agent.terminate() == 0
            seen = events(agent, "ObjectSeen")
            gone = events(agent, "ObjectGone")
            assert [data["class"] for data in seen] == ["c3", "c9"]
            assert [data["object_id"] for data in gone] == [data["object_id"] for data in seen]
            assert [data["reason"] for data in gone] == ["left", "camera_stopped"]
            assert len(events(agent, "AlertRaised")) == len(events(agent, "AlertCleared")) == 1
            assert len(events(agent, "StreamSample")) >= 4
            runs.append([without_wall_time(row) for row in rows(agent) if row["lane"] not in ("lifecycle", "state")])
    assert runs[0] == runs[1]


def without_wall_time(row: dict[str, Any]) -> Any:
    """A row without ids and wall time. Object and alert ids count up, so they are kept where they are the same."""
    inner = row["row"]
    kept = {key: inner[key] for key in ("type", "subject", "data") if key in inner}
    return json.dumps([row["lane"], row["seq"], kept], sort_keys=True)


def test_what_is_broken_is_reported_and_the_rest_goes_on(tmp_path: Path, broker: Broker) -> None:
    video, model = clip(tmp_path / "a.mp4", CELLS), bundle(tmp_path / "cells")
    (tmp_path / "b.mp4").write_bytes(b"this is no video" * 1000)
    truncated = bundle(tmp_path / "truncated") / "model.tflite"
    truncated.write_bytes(truncated.read_bytes()[:200])
    body = [
        camera("good", video, "realtime = false"),
        camera("foreign", tmp_path / "b.mp4"),
        camera("missing", tmp_path / "c.mp4"),
        pipeline("good", model, 'name = "works"'),
        pipeline("good", truncated.parent, 'name = "truncated"'),
        pipeline("good", tmp_path / "nowhere", 'name = "absent"'),
        pipeline("good", model, f'name = "unicorn"\n{RULE.replace("c3", "unicorn")}'),
        pipeline("foreign", model),
    ]
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port, "\n".join(body)) as agent:
        agent.start()
        peer.wait(lambda: len(peer.events("ObjectGone")) >= 2, agent)
        failed = {event.subject: event.data["reason"] for event in peer.events("PipelineFailed")}
        assert set(failed) == {"truncated", "absent", "unicorn"}
        assert "sha256" in failed["truncated"] or "not a" in failed["truncated"]
        assert "nowhere" in failed["absent"]
        assert "unicorn" in failed["unicorn"]

        def cameras_failed() -> dict[str, Any]:
            return {e.subject: e.data for e in peer.events("CameraStateChanged") if e.data["state"] == "failed"}

        peer.wait(lambda: len(cameras_failed()) >= 2, agent)
        cameras = cameras_failed()
        assert set(cameras) == {"foreign", "missing"}
        assert "b.mp4" in cameras["foreign"]["reason"]
        assert {event.subject for event in peer.events("PipelineStarted")} >= {"works", "foreign"}
        mosquitto_pub(broker, "status", "{}")
        peer.wait(lambda: peer.results("status"), agent)
        streams = {stream["pipeline"]: stream for stream in peer.results("status")[0].result["streams"]}
        assert streams["works"]["frames_total"] == len(CELLS)
        assert streams["works"]["dropped_total"] == 0
        assert streams["truncated"]["state"] == "failed"
        assert streams["truncated"]["error"]
        assert agent.terminate() == 0
        assert "Traceback" not in agent.log


def test_a_clip_that_has_ended_can_be_started_again(tmp_path: Path, broker: Broker) -> None:
    body = camera("cam1", clip(tmp_path / "a.mp4", CELLS), "realtime = false") + pipeline(
        "cam1", bundle(tmp_path / "cells")
    )
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port, body) as agent:
        agent.start()
        for count in (2, 4, 6):
            peer.wait(lambda count=count: len(peer.events("ObjectGone")) == count, agent)  # type: ignore[misc]
            mosquitto_pub(broker, "startStream", '{"camera_id":"cam1"}')
            peer.wait(lambda count=count: len(peer.results("startStream")) == count / 2, agent)  # type: ignore[misc]
        assert all(result.result["started"] for result in peer.results("startStream")), peer.results("startStream")
        ids = Counter(event.data["object_id"] for event in peer.events("ObjectSeen"))
        assert set(ids.values()) == {1}


def test_starting_and_stopping_leaves_nothing_behind(tmp_path: Path, broker: Broker) -> None:
    body = camera("cam1", clip(tmp_path / "a.mp4", CELLS), "loop = true") + pipeline(
        "cam1", bundle(tmp_path / "cells")
    )
    with Peer(broker, answers=True) as peer, AgentProcess(tmp_path, broker.port, body) as agent:
        agent.start()
        peer.wait(lambda: peer.events("ObjectSeen"), agent)
        assert agent.process is not None
        proc = Path(f"/proc/{agent.process.pid}")
        counts: list[tuple[int, int]] = []
        for n in range(1, 13):
            mosquitto_pub(broker, "stopStream", '{"camera_id":"cam1"}')
            peer.wait(lambda n=n: len(peer.results("stopStream")) == n, agent)  # type: ignore[misc]
            before = len(peer.events("ObjectSeen"))
            mosquitto_pub(broker, "startStream", '{"camera_id":"cam1"}')
            peer.wait(lambda n=n: len(peer.results("startStream")) == n, agent)  # type: ignore[misc]
            peer.wait(lambda before=before: len(peer.events("ObjectSeen")) > before, agent)  # type: ignore[misc]
            counts.append((len(list((proc / "task").iterdir())), len(list((proc / "fd").iterdir()))))
        assert all(result.result["stopped"] for result in peer.results("stopStream"))
        assert all(result.result["started"] for result in peer.results("startStream"))
        # The first rounds may still fill the pools of worker threads.
        for kind, of_kind in zip(("threads", "files"), zip(*counts, strict=True), strict=True):
            assert max(of_kind[6:]) <= max(of_kind[:6]) + 1, (kind, counts)
        assert agent.terminate() == 0


def test_secrets_are_nowhere(tmp_path: Path, broker: Broker) -> None:
    inline, filed = "inl1ne-s3cret", "f1led-s3cret"
    (tmp_path / "camera-password").write_text(filed)
    body = [
        camera("a", f"rtsp://admin:{inline}@127.0.0.1:{free_port()}/x"),
        camera("b", f"http://127.0.0.1:{free_port()}/x", 'username = "admin"\npassword_file = "camera-password"'),
        '[log]\nlevel = "DEBUG"',
    ]
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port, "\n".join(body)) as agent:
        agent.start()
        peer.wait(lambda: len({e.subject for e in peer.events("CameraStateChanged") if e.data["reason"]}) == 2, agent)
        mosquitto_pub(broker, "status", "{}")
        peer.wait(lambda: peer.results("status") and len(peer.on("heartbeat")) > 1, agent)
        assert agent.terminate() == 0
        said = agent.log.encode() + b"".join(heard.topic.encode() + heard.payload for heard in peer.heard)
        said += b"".join(file.read_bytes() for file in agent.data_dir.iterdir())
        assert inline.encode() not in said
        assert filed.encode() not in said
        assert b"127.0.0.1" in said
