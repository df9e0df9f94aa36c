"""Light nodes on a real broker that run what they are told: they say that it starts, and then that it runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import paho.mqtt.client as paho

from schemas.codec import encode_packed
from schemas.documents import decode_desired, encode, sealed
from schemas.messages import Birth, Heartbeat
from tests.rollout.nodes import BEAT_S, LightNode

HEAD, SPEC, STATE = "workloads.", ".spec", ".state"


class WorkNode(LightNode):
    """`manner`: works, fails (each start fails), or idles (takes documents, and starts nothing)."""

    def __init__(self, port: int, name: str, manner: str = "works", **birth: Any) -> None:
        super().__init__(port, name, manner)
        self.birth = {"resources": {"cores": 4.0, "memory_mb": 1000.0}, **birth}
        self.cpu_percent = 1.0
        self.beats = 0

    @property
    def runs(self) -> dict[str, int]:
        """The generation of each workload that it has been told."""
        return {
            path.removeprefix(HEAD).removesuffix(SPEC): spec["generation"]
            for path, spec in self.fields.items()
            if path.startswith(HEAD)
        }

    def kill(self) -> None:
        """As if the power went: the broker sends the will."""
        client, self._client = self._client, None
        assert client is not None, "it is connected"
        client.loop_stop()
        sock = client.socket()
        assert sock is not None, "it is connected"
        sock.close()

    def beat(self) -> None:
        if self._client is None:
            return
        with self._lock:
            self.beats += 1
            beat = Heartbeat(
                1, self._session, self.beats, cpu_percent=self.cpu_percent, desired_hash=self.desired.hash,
                reported_hash=self._report.hash,
            )  # fmt: skip
        self._say("heartbeat", encode_packed(beat), qos=0)

    def _birth(self) -> Birth:
        return Birth(1, self._session, **self.birth)

    def _take(self, message: paho.MQTTMessage) -> None:
        if not message.topic.endswith("/desired"):
            super()._take(message)
            return
        desired = decode_desired(bytes(message.payload))
        self.seen.append(desired)
        if desired.version <= self.desired.version:
            return
        for state in ("starting", "failed" if self.manner == "fails" else "running"):
            if state == "running" and self.manner == "idles":
                break
            with self._lock:
                self.desired = desired
                self._report = sealed(
                    replace(
                        self._report, serial=self._report.serial + 1, epoch=desired.epoch, revision=desired.revision,
                        desired_hash=desired.hash, fields=self._holds(state),
                    )
                )  # fmt: skip
            self._say("reported", encode(self._report), retain=True)

    def _holds(self, state: str) -> dict[str, Any]:
        reason = "no such image" if state == "failed" else ""
        told = {
            f"{HEAD}{name}{STATE}": {"state": state, "generation": generation, "reason": reason}
            for name, generation in self.runs.items()
        }
        return {**self.fields, **told}


@contextmanager
def work_nodes(
    port: int, *names: str, manners: dict[str, str] | None = None, **birth: Any
) -> Iterator[list[WorkNode]]:
    """Connected and beating; site is the first letter of the name."""
    manners = manners or {}
    nodes = [WorkNode(port, name, manners.get(name, "works"), **{"site": name[0], **birth}) for name in names]
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            for node in nodes:
                node.beat()

    beating = threading.Thread(target=beat, name="work-nodes", daemon=True)
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
