"""Looking whether a broker is there leaves no trace on it."""

import asyncio
import socket
from pathlib import Path

import pytest

from agent.link import session
from agent.link.session import probe
from runtime.mqtt import STRANGER_REASONS, BrokerAddress, BrokerAuthError, BrokerRefusedError, Connection, Delivery
from tests.broker import broker, free_port
from tests.link.nodes import until


def test_a_probe_is_heard_by_nobody(tmp_path: Path) -> None:
    async def scene(port: int, log: Path) -> None:
        heard: list[Delivery] = []
        watcher = Connection(BrokerAddress(port=port), client_id="watcher", on_message=heard.append)
        node = Connection(BrokerAddress(port=port), client_id="gw-1", on_message=heard.append)
        await watcher.connect()
        await watcher.subscribe({"#": 1})
        await node.connect()
        assert await probe(BrokerAddress(port=port), "gw-1") == ""
        await until(lambda: "gw-1/probe disconnected" in log.read_text(), log.read_text)
        assert heard == []
        assert node.is_open  # it is somebody else
        await node.close()
        await watcher.close()

    with broker(tmp_path, "connection_messages true") as mqtt:
        asyncio.run(scene(mqtt.port, tmp_path / f"mosquitto-{mqtt.port}.log"))


def test_one_that_refuses_a_stranger_is_there(tmp_path: Path) -> None:
    """The broker admits only clients that are called as their node is."""
    with broker(tmp_path, "clientid_prefixes cell-") as mqtt:
        address = BrokerAddress(port=mqtt.port)
        assert asyncio.run(probe(address, "gw-1")) == ""
        stranger = Connection(address, client_id="gw-1", on_message=lambda delivery: None)
        with pytest.raises((BrokerAuthError, BrokerRefusedError)) as caught:
            asyncio.run(stranger.connect())
        assert isinstance(caught.value, BrokerAuthError | BrokerRefusedError)
        assert caught.value.code in STRANGER_REASONS


def test_one_that_is_away_or_silent_or_cannot_be_trusted_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "refused" in asyncio.run(probe(BrokerAddress(port=free_port()), "gw-1"))
    monkeypatch.setattr(session, "PROBE_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert "no answer within 0.2 s" in asyncio.run(probe(BrokerAddress(port=mute.getsockname()[1]), "gw-1"))
    bad = BrokerAddress(port=free_port(), tls=True, ca_file=tmp_path / "absent")
    assert "certificate files" in asyncio.run(probe(bad, "gw-1"))
