"""The coordinator's side of `readBlob` and `readSignature` as the contract has it, on a real broker."""

import base64
import threading
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from coordinator.models.folder import FolderRelease
from schemas.codec import decode_command, encode_document, encode_result
from schemas.messages import CommandError, CommandState, Presence, Result, Status
from tests.broker import Broker

ROOT = "edge/v1/coordinator"
FUNCTIONS = ("readBlob", "readSignature")
WAIT_S = 40.0


class Responder:
    """Online while it is open. `asked` are the calls as they came: (function, arguments, response topic)."""

    def __init__(self, broker: Broker) -> None:
        self.blobs: dict[str, bytes] = {}
        self.signatures: dict[tuple[str, str], str] = {}
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.busy = 0  # so many of the next calls are turned away
        self.silent = 0  # and so many are not answered
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = self._answer
        ready = threading.Event()
        self._client.on_subscribe = lambda *rest: ready.set()
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self._client.subscribe([(f"{ROOT}/cmd/{name}", SubscribeOptions(qos=1)) for name in FUNCTIONS])
        assert ready.wait(WAIT_S)
        status = encode_document(Status(Presence.ONLINE, 1, 1))
        self._client.publish(f"{ROOT}/status", status, qos=1, retain=True).wait_for_publish(WAIT_S)

    def __enter__(self) -> "Responder":
        return self

    def __exit__(self, *error: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def add(self, made: FolderRelease, signature: str = "") -> None:
        self.blobs[made.digest] = made.document
        for file in made.release.files:
            self.blobs[file.sha256] = (made.folder / file.path).read_bytes()
        if signature:
            self.signatures[made.release.name, made.release.version] = signature

    def _answer(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        function = message.topic.rpartition("/")[2]
        command = decode_command(function, bytes(message.payload))
        response = message.properties.ResponseTopic  # type: ignore[union-attr]
        self.asked.append((function, command.arguments, response))
        if self.silent:
            self.silent -= 1
            return
        result = self._result(function, command.arguments)
        payload = encode_result(result, packed=command.packed)
        for topic in (f"{ROOT}/result/{function}", response):
            client.publish(topic, payload, qos=1)

    def _result(self, function: str, arguments: dict[str, Any]) -> Result:
        def refused(code: str) -> Result:
            return Result(function, CommandState.REJECTED, error=CommandError(code, f"it says {code}"))

        if self.busy:
            self.busy -= 1
            return refused("busy")
        if function == "readSignature":
            found = self.signatures.get((arguments["name"], arguments["version"]))
            if found is None:
                return refused("unknown")
            return Result(function, CommandState.SUCCEEDED, result={"signature": found})
        data = self.blobs.get(arguments["sha256"])
        if data is None:
            return refused("unknown")
        piece = data[arguments["offset"] : arguments["offset"] + arguments["length"]]
        answer = {
            "sha256": arguments["sha256"],
            "offset": arguments["offset"],
            "size": len(data),
            "bytes_b64": base64.b64encode(piece).decode(),
        }
        return Result(function, CommandState.SUCCEEDED, result=answer)
