"""Real agent processes, a tiny model whose detections are painted into the picture, and a peer on the broker."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agent.capture.frame import Rgb
from schemas.codec import decode_event, decode_packed, decode_result, encode_packed
from schemas.identity import Lane
from schemas.messages import Ack, Event, LaneAck, Result, SyncBatch
from schemas.topics import Kind, TopicSpace
from tests.broker import Broker
from tests.capture.helpers import write_clip
from tests.infer.tiny_models import write_echo

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 40.0
SPACE = TopicSpace()
CELLS = 8


def wait_until(true: Callable[[], object], what: Callable[[], str] = lambda: "waited in vain") -> None:
    """Generous, because the machine may be busy."""
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s, what()
        time.sleep(0.02)


# ---- pictures and a model that reads them --------------------------------------------------------


def picture(cell: int | None, shade: int = 0) -> Rgb:
    """64x64, dark but for one of its 8x8 cells: the model sees an object of class `c<cell>` of the frame's size."""
    small = np.full((CELLS * CELLS,), shade % 40, np.uint8)
    if cell is not None:
        small[cell] = 255
    large = np.kron(small.reshape(CELLS, CELLS), np.ones((8, 8), np.uint8))
    return np.repeat(large[..., None], 3, axis=2)


def clip(path: Path, cells: Iterable[int | None]) -> Path:
    """20 pictures a second."""
    return write_clip(path, (picture(cell, n) for n, cell in enumerate(cells)))


def bundle(folder: Path) -> Path:
    """Gives the brightest cell as a detection."""
    folder.mkdir()
    model = write_echo(folder / "model.tflite", shape=(1, CELLS, CELLS, 1))
    labels = [f"c{n}" for n in range(CELLS * CELLS)]
    (folder / "bundle.toml").write_text(
        f'name = "cells"\nversion = "1"\nlabels = {json.dumps(labels)}\n'
        '[input]\ncolor = "gray"\n[output]\ndecoder = "classification"\n[thresholds]\nconfidence = 0.5\n'
        f'[[variants]]\ntarget = "cpu"\nfile = "model.tflite"\n'
        f'sha256 = "{hashlib.sha256(model.read_bytes()).hexdigest()}"\n'
    )
    return folder


# ---- the process -------------------------------------------------------------------------------


class AgentProcess:
    """`python -m agent run`, one life after another on the same configuration."""

    def __init__(self, folder: Path, port: int, body: str = "", *, broker: str = "", node: str = "heartbeat_s = 1.0"):
        self.folder = folder
        self.config = folder / "agent.toml"
        self.log_path = folder / "agent.log"
        self.data_dir = folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        head = f'[node]\nid = "gw-1"\ndata_dir = "data"\nresend_after_s = 2.0\n{node}\n'
        self.config.write_text(f"{head}[broker]\nport = {port}\n{broker}\n{body}")

    def __enter__(self) -> "AgentProcess":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process is not None:
            self.kill()

    def start(self) -> "AgentProcess":
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(self.config)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
            )
        return self

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(WAIT_S)
        finally:
            self.process = None if self.process.poll() is not None else self.process

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(WAIT_S)
        self.process = None

    def run_to_its_end(self) -> int:
        self.start()
        assert self.process is not None
        status = self.process.wait(WAIT_S)
        self.process = None
        return status

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def wait_for_log(self, pattern: str, count: int = 1) -> None:
        wait_until(
            lambda: len(re.findall(pattern, self.log)) >= count, lambda: f"no {pattern!r} in:\n{self.log[-3000:]}"
        )


def run_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`edge-agent ...` to its end."""
    command = [sys.executable, "-m", "agent", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False)


def camera(identifier: str, source: object, more: str = "") -> str:
    return f'[[cameras]]\nid = "{identifier}"\nsource = "{source}"\n{more}\n'


def pipeline(identifier: str, model: object, more: str = "") -> str:
    return f'[[pipelines]]\ncamera = "{identifier}"\nmodel = "{model}"\n{more}\n'


# ---- the other side of the broker ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heard:
    topic: str
    payload: bytes
    retain: bool
    correlation: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class Peer:
    """Hears everything; told to, it acknowledges rows as a coordinator would."""

    def __init__(self, broker: Broker, *, answers: bool = False) -> None:
        self.heard: list[Heard] = []
        self.answers = answers
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *rest: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *rest: self._ready.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._ready.wait(WAIT_S)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *error: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, properties: Any = None) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", b"")
        heard = Heard(message.topic, bytes(message.payload), message.retain, correlation)
        self.heard.append(heard)
        if self.answers and (rows := rows_of(heard)):
            self.acknowledge(rows)

    def acknowledge(self, rows: Iterable[tuple[str, str, int]]) -> None:
        acks = [LaneAck(stream, lane, [(seq, seq)]) for stream, lane, seq in rows]
        self.publish("edge/v1/gw-1/ack", encode_packed(Ack(stored=acks)))

    # What was heard, by kind.

    def on(self, ending: str) -> list[Heard]:
        return [heard for heard in list(self.heard) if heard.topic == f"edge/v1/gw-1/{ending}" and heard.payload]

    def events(self, kind: str = "") -> list[Event]:
        found = []
        for heard in list(self.heard):
            if "/result/" in heard.topic:  # a response topic has a level more
                continue
            topic = SPACE.parse(heard.topic)
            if topic.kind in (Kind.EVENT, Kind.ALERT):
                event = decode_event(topic.kind, topic.node, heard.payload)
                if not kind or event.type == kind:
                    found.append(event)
        return found

    def statuses(self) -> list[str]:
        return [heard.json["state"] for heard in self.on("status")]

    def results(self, function: str) -> list[Result]:
        return [decode_result(heard.payload) for heard in self.on(f"result/{function}")]

    def wait(self, true: Callable[[], object], agent: AgentProcess | None = None) -> None:
        def what() -> str:
            log = agent.log[-3000:] if agent else ""
            return f"{[(h.topic, h.payload[:200]) for h in self.heard[-8:]]}\n{log}"

        wait_until(true, what)

    def wait_online(self, agent: AgentProcess, count: int = 1) -> None:
        self.wait(lambda: self.statuses().count("online") >= count, agent)


def rows_of(heard: Heard) -> list[tuple[str, str, int]]:
    """(stream, lane, seq) of what is in a message."""
    topic = SPACE.parse(heard.topic)
    if topic.kind is Kind.SYNC:
        batch = decode_packed(SyncBatch, Kind.SYNC, heard.payload)
        return [(batch.stream, row.lane, row.seq) for row in batch.rows]
    if topic.kind in (Kind.EVENT, Kind.ALERT):
        identity = decode_event(topic.kind, topic.node, heard.payload).identity
        return [(identity.stream, identity.lane, identity.seq)]
    return []


def account(agent: AgentProcess) -> dict[Lane, dict[str, int]]:
    """By `edge-agent outbox account`."""
    shown = run_agent("outbox", "account", "--config", str(agent.config))
    assert shown.returncode == 0, shown.stderr
    return {Lane(lane.pop("lane")): lane for lane in json.loads(shown.stdout)}


def mosquitto_pub(broker: Broker, function: str, payload: str, *more: str) -> None:
    """A command as a person types it."""
    command = ["mosquitto_pub", "-p", str(broker.port), "-t", f"edge/v1/gw-1/cmd/{function}", "-q", "1"]
    subprocess.run([*command, "-m", payload, *more], check=True, timeout=WAIT_S)
