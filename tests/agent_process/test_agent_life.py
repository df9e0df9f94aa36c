"""The whole process against a real broker that comes, goes, refuses and forgets."""

import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.codec import decode_packed, encode_document
from schemas.identity import Lane
from schemas.messages import Heartbeat, Presence, Status
from schemas.topics import Kind
from tests.agent_process.agents import (
    AgentProcess,
    Peer,
    account,
    bundle,
    camera,
    clip,
    pipeline,
    rows_of,
    run_agent,
    wait_until,
)
from tests.broker import Broker, free_port, start_broker

SECRET = "s3cret-pass-word"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = start_broker(tmp_path)
    yield started
    started.stop()


def test_a_life_as_a_subscriber_sees_it(tmp_path: Path, broker: Broker) -> None:
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port) as agent:
        agent.start()
        peer.wait(lambda: len(peer.on("heartbeat")) >= 2, agent)
        assert agent.terminate() == 0
        peer.wait(lambda: peer.statuses()[-1:] == ["offline"], agent)
        assert peer.statuses() == ["online", "draining", "offline"]
        statuses = [heard.json for heard in peer.on("status")]
        assert {(s["boot"], s["session"]) for s in statuses} == {(1, 1)}
        (birth,) = (heard.json for heard in peer.on("birth"))
        functions = [
            "ackAlert",
            "cancel",
            "listAlerts",
            "removeAlert",
            "report",
            "snapshot",
            "startStream",
            "status",
            "stopStream",
            "stopVideoStream",
            "syncDataToCloud",
            "triggerAlert",
            "workloadLogs",
        ]
        assert birth["functions"] == functions
        assert (birth["boot"], birth["session"]) == (1, 1)
        beats = [decode_packed(Heartbeat, Kind.HEARTBEAT, heard.payload) for heard in peer.on("heartbeat")]
        assert [beat.seq for beat in beats] == list(range(1, len(beats) + 1))
        assert {(beat.boot, beat.session, beat.birth_hash) for beat in beats} == {(1, 1, beats[0].birth_hash)}
        assert beats[0].birth_hash
    with Peer(broker) as late:  # what stays behind for whoever comes later
        late.wait(lambda: late.on("status") and late.on("birth"))
        assert all(heard.retain for heard in (*late.on("status"), *late.on("birth")))


def test_boot_counts_starts_and_a_killed_agent_is_offline_by_its_will(tmp_path: Path, broker: Broker) -> None:
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port) as agent:
        agent.start()
        peer.wait_online(agent)
        agent.kill()
        peer.wait(lambda: peer.statuses() == ["online", "offline"], agent)
        agent.start()
        peer.wait_online(agent, 2)
        peer.wait(lambda: any(heard.json["boot"] == 2 for heard in peer.on("birth")), agent)
        seen = [(heard.json["state"], heard.json["boot"]) for heard in peer.on("status")]
        assert seen[:3] == [("online", 1), ("offline", 1), ("online", 2)]
        assert agent.terminate() == 0


def test_a_stale_offline_on_its_topic_is_published_over(tmp_path: Path, broker: Broker) -> None:
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port) as agent:
        agent.start()
        peer.wait_online(agent)
        stale = Status(Presence.OFFLINE, boot=1, session=0, time_utc_ms=0, reason="connection lost")
        peer.publish("edge/v1/gw-1/status", encode_document(stale), retain=True)
        peer.wait(lambda: peer.statuses() == ["online", "offline", "online"], agent)
        newer = Status(Presence.OFFLINE, boot=99, session=1)  # of a later life than ours: not ours to judge
        peer.publish("edge/v1/gw-1/status", encode_document(newer), retain=True)
        peer.publish("edge/v1/gw-1/cmd/status", b"{}")
        peer.wait(lambda: peer.results("status"), agent)
        assert peer.statuses() == ["online", "offline", "online", "offline"]


def test_it_runs_without_a_broker_and_connects_when_there_is_one(tmp_path: Path) -> None:
    port = free_port()
    with AgentProcess(tmp_path, port) as agent:
        agent.start()
        agent.wait_for_log("cannot connect")
        broker = start_broker(tmp_path, port)
        try:
            with Peer(broker) as peer:
                peer.wait_online(agent)
                broker.restart()
                agent.wait_for_log("connection ended")
                agent.wait_for_log("WARNING agent.link.link: mqtt://127.0.0.1:[0-9]+: connected", 2)
        finally:
            broker.stop()
        agent.wait_for_log("connection ended", 2)
        assert agent.terminate() == 0
        assert agent.log.count("cannot connect") == 1
        assert agent.log.count("WARNING") == 5  # lost and back, once each


def test_a_wrong_password_is_said_once_and_the_rest_runs(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("gw-1:right\n")
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    user = "user root\n" if os.geteuid() == 0 else ""  # else it becomes `mosquitto`, who may not look into our folder
    broker = start_broker(tmp_path, extra_conf=f"{user}allow_anonymous false\npassword_file {passwords}")
    (tmp_path / "wrong").write_text(SECRET + "\n")
    body = camera("cam1", clip(tmp_path / "a.mp4", [3] * 10), "realtime = false") + pipeline(
        "cam1", bundle(tmp_path / "cells")
    )
    table = 'username = "gw-1"\npassword_file = "wrong"'  # beside the configuration
    try:
        with AgentProcess(tmp_path, broker.port, body, broker=table) as agent:
            agent.start()
            agent.wait_for_log("refused as gw-1.*ot authori[sz]ed.*password")
            agent.wait_for_log("camera cam1 is ended")
            wait_until(lambda: account(agent)[Lane.EVENT]["pending"] == 2)
            assert agent.terminate() == 0
            assert agent.log.count("refused as gw-1") == 1
            assert SECRET not in agent.log
            (tmp_path / "wrong").write_text("right\n")
            agent.start()
            agent.wait_for_log("connected as gw-1, boot 2")
            assert agent.terminate() == 0
    finally:
        broker.stop()


def test_a_second_agent_on_the_same_folder_is_refused(tmp_path: Path, broker: Broker) -> None:
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port) as agent:
        agent.start()
        peer.wait_online(agent)
        second = run_agent("run", "--config", str(agent.config))
        assert second.returncode == 2
        assert "data_dir" in second.stderr
        assert "in use by another agent" in second.stderr
        assert "Traceback" not in second.stderr
        assert agent.terminate() == 0


def test_rows_survive_kill_9_and_are_sent_again(tmp_path: Path, broker: Broker) -> None:
    cells = ([3] * 10 + [None] * 40) * 3
    body = camera("cam1", clip(tmp_path / "a.mp4", cells), "realtime = false") + pipeline(
        "cam1", bundle(tmp_path / "cells"), "every_frame = true"
    )
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port, body) as agent:
        agent.start()
        peer.wait(lambda: len(peer.events("FrameAnalyzed")) == len(cells), agent)
        peer.wait(lambda: any(e.data["state"] == "ended" for e in peer.events("CameraStateChanged")), agent)
        agent.kill()
        first = account(agent)
        assert first[Lane.EVENT]["stored"] == 0
        stopped_at = len(peer.heard)
        # Its second life sends all of it again, without a camera of its own.
        agent.config.write_text(agent.config.read_text().replace("realtime = false", "enabled = false"))
        peer.answers = True
        agent.start()
        wait_until(lambda: all(lane["pending"] == 0 for lane in account(agent).values()), lambda: agent.log[-2000:])
        again = Counter(row for heard in peer.heard[stopped_at:] for row in rows_of(heard))
        before = Counter(row for heard in peer.heard[:stopped_at] for row in rows_of(heard))
        assert set(before) <= set(again)
        produced = account(agent)[Lane.EVENT]["produced"]
        assert sorted(seq for _, lane, seq in again if lane == "event") == list(range(1, produced + 1))
        assert {event.boot for event in peer.events("FrameAnalyzed")} == {1}  # the bytes of its first life
        assert agent.terminate() == 0


def test_sigterm_ends_at_once_while_nothing_can_be_reached(tmp_path: Path) -> None:
    # A listener that never answers: neither refused nor connected.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with AgentProcess(tmp_path, deaf.getsockname()[1]) as agent:
            agent.start()
            agent.wait_for_log("node gw-1 runs")
            time.sleep(0.3)
            assert agent.terminate() == 0
            assert "Traceback" not in agent.log


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, free_port()) as agent:
        agent.start()
        agent.wait_for_log("cannot connect")
        assert agent.process is not None
        agent.process.send_signal(signal.SIGSTOP)
        agent.process.send_signal(signal.SIGTERM)
        agent.process.send_signal(signal.SIGINT)
        agent.process.send_signal(signal.SIGCONT)
        # Both wait when it wakes up: the second ends it before the first has stopped anything.
        assert agent.process.wait(40) in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        agent.process = None
