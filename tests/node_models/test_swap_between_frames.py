"""No frame is lost when one model follows another: in the inference thread, and in a replay of every frame."""

import json
import queue
from pathlib import Path

import numpy as np
import pytest

from agent.infer.bundle_maker import make_bundle
from agent.infer.host import EngineHost
from agent.infer.preprocess import Placement
from agent.infer.settings import InferSettings
from agent.infer.worker import InferenceWorker, Result, Work
from schemas.codec import decode_packed
from schemas.messages import Heartbeat, StreamReport
from schemas.topics import Kind
from tests.agent_process.agents import CELLS, AgentProcess, Peer, bundle, camera, clip, mosquitto_pub, pipeline
from tests.broker import start_broker
from tests.infer.pictures import ArrayPicture, frame_of
from tests.infer.tiny_models import write_echo
from tests.node_models.world import Shop, Wishes, model_of

LABELS = [f"c{n}" for n in range(CELLS * CELLS)]


def hosted(folder: Path, side: int) -> EngineHost:
    """An echo model of side x side pictures."""
    labels = [f"thing {i}" for i in range(side * side * 3)]
    file = write_echo(folder.with_suffix(".tflite"), shape=(1, side, side, 3))
    host = EngineHost(make_bundle(file, folder, labels=labels).bundle, InferSettings(), lambda change: None)
    host.open()
    return host


def test_frames_of_the_old_model_are_still_answered_by_it(tmp_path: Path) -> None:
    todo: queue.Queue[Work] = queue.Queue()
    done: queue.Queue[Result] = queue.Queue()

    def take(timeout_s: float) -> Work | None:
        try:
            return todo.get(timeout=timeout_s)
        except queue.Empty:
            return None

    worker = InferenceWorker(take, done.put)
    old, new = hosted(tmp_path / "old", 4), hosted(tmp_path / "new", 2)
    frame = frame_of(ArrayPicture(np.zeros((4, 4, 3), np.uint8)), 0)

    def put(edition: int) -> None:
        side = (4, 2)[edition]
        todo.put(Work("cam", frame, np.zeros((1, side, side, 3), np.uint8), Placement(1, 1), edition))

    worker.add("cam", old)
    for _ in range(3):
        put(0)
    worker.swap("cam", 1, new)  # before the worker has seen any of them
    for _ in range(3):
        put(1)
    worker.start()
    try:
        answers = [done.get(timeout=30) for _ in range(6)]
        assert [(one.edition, one.outputs[0].size) for one in answers] == [(0, 48)] * 3 + [(1, 12)] * 3
        assert worker.stats("cam").failures == 0
        put(1)
        done.get(timeout=30)
        assert (old.is_open, new.is_open) == (False, True)
    finally:
        assert worker.stop(30)
    assert not new.is_open
    with pytest.raises(ValueError, match="not served"):
        worker.swap("nobody", 1, new)


def test_each_frame_of_a_replay_is_decided_once_and_classes_go_by_name(tmp_path: Path) -> None:
    """The new model has the classes in another order, and one class more at the front."""
    broker = start_broker(tmp_path)
    old = bundle(tmp_path / "cells")
    new = bundle(tmp_path / "shifted")
    manifest = (new / "bundle.toml").read_text()
    turned = ["extra", *LABELS[: CELLS * CELLS - 1]]  # the picture's cell 3 is its class 3, `c2`
    manifest = manifest.replace(json.dumps(LABELS), json.dumps(turned)).replace('version = "1"', 'version = "2"')
    (new / "bundle.toml").write_text(manifest)
    video = clip(tmp_path / "a.mp4", [3] * 100)
    (tmp_path / "a").mkdir()
    rule = '[[pipelines.rules]]\nname = "there"\nclasses = ["c3"]\nfor_s = 0.5\n'
    try:
        with Shop(tmp_path / "shop").open() as shop, Peer(broker, answers=True) as peer:
            made = shop.add(new)
            body = camera("cam1", video, "realtime = false\nloop = true") + pipeline(
                "cam1", old, f'name = "p"\n{rule}'
            )
            table = f'[models]\nsources = ["{shop.url}"]\nspread_s = 0\nprobation_s = 0.5\n[models.gate]\nruns = 5\n'
            table += "latency_slack_ms = 1000\n"
            with AgentProcess(tmp_path / "a", broker.port, body + table) as agent:
                wishes = Wishes(peer)
                agent.start()
                peer.wait(lambda: report(peer).counts.get("c3", 0) > 50, agent)
                wishes.want(pipelines__p__model=model_of(made))
                wishes.wait_held("pipelines.p.model", model_of(made), agent)
                peer.wait(lambda: report(peer).counts.get("c2", 0) > 50, agent)
                mosquitto_pub(broker, "stopStream", '{"camera_id": "cam1"}')
                peer.wait(lambda: peer.events("PipelineStopped"), agent)
                total = peer.events("PipelineStopped")[0].data
                assert total["frames_total"] == total["detections_total"]  # one in each picture
                assert set(report(peer).counts) <= {"c2", "c3"} and report(peer).dropped_total == 0
                assert "failed" not in agent.log
                assert len(peer.events("AlertRaised")) >= 1
                agent.terminate()
    finally:
        broker.stop()


def report(peer: Peer) -> StreamReport:
    """Of the newest heartbeat that has one."""
    for heard in reversed(peer.on("heartbeat")):
        beat = decode_packed(Heartbeat, Kind.HEARTBEAT, heard.payload)
        if beat.streams and beat.streams[0].counts:
            return beat.streams[0]
    return StreamReport("cam1")
