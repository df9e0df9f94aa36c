"""Light nodes on a real broker, one MQTT client each: they take what is desired of them as their manner is."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from schemas.codec import encode_document, encode_packed
from schemas.documents import Desired, Reported, decode_desired, encode, sealed
from schemas.messages import Birth, Heartbeat, Presence, Status, StreamReport

BEAT_S = 1.0


class LightNode:
    """`manner`: applies, refuses, silent (takes nothing and goes on beating), names (beats with the hash, and never
    reports), ill (applies, then has an error), flaps (applies, and comes and goes), fetches (says that it still works
    on a release, and has it with its next heartbeat), or cannot (refuses releases). `holds`: what it reports of
    itself."""

    def __init__(
        self, port: int, name: str, manner: str = "applies", *, holds: dict[str, Any] | None = None,
        hardware: dict[str, Any] | None = None, **labels: str,
    ) -> None:  # fmt: skip
        self.name = name
        self.manner = manner
        self.labels = labels
        self.holds = holds or {}
        self.hardware = hardware or {}
        self.desired = Desired()
        self.seen: list[Desired] = []
        self._port = port
        self._report = sealed(Reported(1, 1, fields=self.holds))
        self._lock = threading.Lock()
        self._session = 0
        self._seq = 0
        self._client: paho.Client | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Those of the document that it has taken."""
        return {path: value for path, value in self.desired.fields.items() if value is not None}

    def connect(self) -> None:
        self._session += 1
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self.name, protocol=paho.MQTTv5)
        wanted = [(f"edge/v1/{self.name}/{below}", SubscribeOptions(1)) for below in ("desired", "cmd/report")]
        client.on_connect = lambda client, *rest: client.subscribe(wanted)
        client.on_message = lambda client, data, message: self._take(message)
        will = Status(Presence.OFFLINE, 1, self._session, 0, "lost")
        client.will_set(f"edge/v1/{self.name}/status", encode_document(will), 1, True)
        client.connect("127.0.0.1", self._port, keepalive=60)
        self._client = client
        client.loop_start()
        self._say("status", encode_document(Status(Presence.ONLINE, 1, self._session, 1)), retain=True)
        self._say("birth", encode_document(self._birth()), retain=True)
        self._say("reported", encode(self._report), retain=True)

    def close(self) -> None:
        """A goodbye."""
        if self._client is not None:
            gone = Status(Presence.OFFLINE, 1, self._session, 2, "stopped")
            self._say("status", encode_document(gone), retain=True)
            time.sleep(0.05)
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def beat(self) -> None:
        if self.manner == "flaps" and self.desired.revision:
            if self._client is None:
                self.connect()
            else:
                self.close()
        if self._client is None:
            return
        with self._lock:
            self._seq += 1
            has = self.desired.hash if self.manner != "silent" else ""
            ill = "no model" if self.manner == "ill" and self.desired.revision else ""
            state = "failed" if ill else "running"
            beat = Heartbeat(
                1, self._session, self._seq, streams=[StreamReport("cam1", "door", state, error=ill)],
                desired_hash=has, reported_hash=self._report.hash,
            )  # fmt: skip
        self._say("heartbeat", encode_packed(beat), qos=0)
        if self._report.pending:
            self._report_on(self.desired)

    def _take(self, message: paho.MQTTMessage) -> None:
        if message.topic.endswith("/cmd/report"):
            self._say("reported", encode(self._report), retain=True)
            self._say("birth", encode_document(self._birth()), retain=True)
            return
        desired = decode_desired(bytes(message.payload))
        self.seen.append(desired)
        if self.manner == "silent" or desired.version <= self.desired.version:
            return
        with self._lock:
            self.desired = desired
            if self.manner == "names":
                return
        working = self.manner == "fetches" and any(path.startswith("models.") for path in desired.fields)
        self._report_on(desired, "prefetching 43 %" if working and not self._report.pending else "")
        if self.manner != "flaps" and not self._report.pending:
            self.beat()

    def _report_on(self, desired: Desired, working: str = "") -> None:
        """What it holds and refuses of the document."""
        fields = {path: value for path, value in desired.fields.items() if value is not None}
        releases = [path for path in fields if path.startswith("models.")]
        refused = dict.fromkeys(fields, "there is none here") if self.manner == "refuses" else {}
        refused |= dict.fromkeys(releases, "no space for it") if self.manner == "cannot" else {}
        pending = {path: working for path in releases if working and self._report.fields.get(path) != fields[path]}
        holds = {path: value for path, value in fields.items() if path not in refused and path not in pending}
        with self._lock:
            self._report = sealed(
                replace(
                    self._report, serial=self._report.serial + 1, epoch=desired.epoch, revision=desired.revision,
                    desired_hash=desired.hash, fields=self.holds | holds, refused=refused, pending=pending,
                )
            )  # fmt: skip
        self._say("reported", encode(self._report), retain=True)

    def _birth(self) -> Birth:
        return Birth(1, self._session, labels=self.labels, hardware=self.hardware)

    def _say(self, below: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        client = self._client
        if client is not None:
            client.publish(f"edge/v1/{self.name}/{below}", payload, qos, retain)


@contextmanager
def light_nodes(
    port: int, count: int, manners: dict[int, str] | None = None, *, holds: dict[str, Any] | None = None,
    hardware: dict[str, Any] | None = None, **labels: str,
) -> Iterator[list[LightNode]]:  # fmt: skip
    """`n00`, `n01`, ..., connected and beating; `manners` of some of them."""
    manners = manners or {}
    more: dict[str, Any] = {"holds": holds, "hardware": hardware, **labels}
    nodes = [LightNode(port, f"n{i:02}", manners.get(i, "applies"), **more) for i in range(count)]
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            for node in nodes:
                node.beat()

    beating = threading.Thread(target=beat, name="light-nodes", daemon=True)
    try:
        for node in nodes:
            node.connect()
        beating.start()
        yield nodes
    finally:
        over.set()
        if beating.ident is not None:
            beating.join()
        for node in nodes:
            node.close()
