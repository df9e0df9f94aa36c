"""mosquitto.conf against a real broker."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ROOT = Path(__file__).resolve().parents[2]
BROKER = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
WAIT_S = 30.0

pytestmark = pytest.mark.skipif(BROKER is None, reason="mosquitto is not here")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        number: int = probe.getsockname()[1]
    config = tmp_path / "broker.conf"
    config.write_text((ROOT / "mosquitto.conf").read_text() + f"listener {number} 127.0.0.1\nallow_anonymous true\n")
    tmp_path.chmod(0o755)
    assert BROKER is not None
    broker = subprocess.Popen([BROKER, "-c", config], stderr=subprocess.PIPE, text=True)
    try:
        wait_until_open(number, broker)
        yield number
    finally:
        broker.terminate()
        _, said = broker.communicate(timeout=WAIT_S)
        print(said)


def wait_until_open(port: int, broker: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while broker.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"the broker does not listen on {port}, exit status {broker.poll()}")


def connected(port: int, name: str, *, session_expiry_s: int = 0) -> mqtt.Client:
    """A client with a session that is its own, connected."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
    up = threading.Event()
    client.on_connect = lambda *_: up.set()
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_expiry_s
    client.connect("127.0.0.1", port, clean_start=False, properties=properties)
    client.loop_start()
    assert up.wait(WAIT_S)
    return client


def test_a_storm_waits_for_a_subscriber_that_is_away(port: int) -> None:
    storm = 3_000  # three times what Mosquitto would keep without the settings
    here = connected(port, "coordinator", session_expiry_s=300)
    here.subscribe("storm", qos=1)
    time.sleep(0.2)
    here.disconnect()
    here.loop_stop()

    sender = connected(port, "gw-1")
    for number in range(storm):
        sent = sender.publish("storm", str(number).encode(), qos=1)
    sent.wait_for_publish(WAIT_S)

    received: list[bytes] = []
    complete = threading.Event()
    back = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="coordinator", protocol=mqtt.MQTTv5)

    def on_message(client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        received.append(bytes(message.payload))
        if len(received) == storm:
            complete.set()

    back.on_message = on_message
    back.connect("127.0.0.1", port, clean_start=False)
    back.loop_start()
    assert complete.wait(WAIT_S), f"{len(received)} of {storm} arrived"
    assert received == [str(number).encode() for number in range(storm)]
    for client in (back, sender):
        client.disconnect()
        client.loop_stop()


def test_a_message_beyond_the_limit_is_refused(port: int) -> None:
    client = connected(port, "gw-1")
    down = threading.Event()
    client.on_disconnect = lambda *_: down.set()
    client.publish("large", bytes(5 * 1024 * 1024), qos=1)
    assert down.wait(WAIT_S)
    client.loop_stop()


def test_the_file_names_no_listener_and_no_place() -> None:
    keys = {line.split()[0] for line in (ROOT / "mosquitto.conf").read_text().splitlines() if line and line[0] != "#"}
    assert not keys & {"listener", "port", "bind_address", "allow_anonymous", "password_file", "persistence_location"}
