import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.sdnotify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(10)
        yield receiver


def test_messages_arrive_as_the_protocol_says(manager: socket.socket) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})
    assert notifier.enabled
    notifier.status("connecting to the broker")
    notifier.ready("2 cameras")
    notifier.watchdog()
    notifier.stopping()
    assert [manager.recv(4096) for _ in range(4)] == [
        b"STATUS=connecting to the broker",
        b"READY=1\nSTATUS=2 cameras",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]
    notifier.close()


def test_an_abstract_socket_is_reached() -> None:
    name = f"edgewright-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        receiver.settimeout(10)
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": "@" + name})
        notifier.ready()
        assert receiver.recv(4096) == b"READY=1"
        notifier.close()


def test_a_status_cannot_forge_another_assignment(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname())
    notifier.status("camera said\nMAINPID=1")
    assert manager.recv(4096) == b"STATUS=camera said MAINPID=1"
    notifier.close()


def test_without_the_variable_nothing_is_sent() -> None:
    notifier = Notifier.from_environment({"WATCHDOG_USEC": "1000000"})
    assert not notifier.enabled
    assert notifier.watchdog_period_s is None
    notifier.ready()
    notifier.stopping()
    notifier.close()


def test_a_manager_that_is_gone_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.watchdog()
    notifier.watchdog()
    assert [record.levelname for record in caplog.records if "cannot notify" in record.message] == ["WARNING"]
    notifier.close()


def test_a_deaf_manager_does_not_block_the_caller(manager: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(manager.getsockname())
    while not caplog.records:  # the receiver's queue fills, then sending fails instead of waiting
        notifier.watchdog()
    assert "cannot notify" in caplog.text
    notifier.close()


def test_a_malformed_address_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert not Notifier.from_environment({"NOTIFY_SOCKET": "relative/path"}).enabled
    assert "NOTIFY_SOCKET" in caplog.text


@pytest.mark.parametrize(
    ("environ", "period_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_period_is_half_the_interval(environ: dict[str, str], period_s: float | None) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "/run/x", **environ}).watchdog_period_s == period_s
