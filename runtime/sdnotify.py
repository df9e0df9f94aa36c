"""systemd's notification protocol: a datagram per message to the socket named in NOTIFY_SOCKET.

Without that variable every call is a no-op. A message that cannot be delivered is reported once and does not
fail the caller: the service manager's own timeouts are the consequence.
Protocol: sd_notify(3) and sd_watchdog_enabled(3).
"""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

# The service manager reads at once; one that does not must not hold the event loop.
_SEND_TIMEOUT_S = 0.1


class Notifier:
    """Tells the service manager what state the process is in. Never blocks for longer than 0.1 s."""

    def __init__(self, address: str = "", *, watchdog_interval_s: float | None = None) -> None:
        """`address` is a path, or a name in the abstract name space that starts with `@`; empty: say nothing."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_interval_s = watchdog_interval_s
        self._socket: socket.socket | None = None
        self._failing = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Notifier":
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; malformed values count as absent."""
        address = environ.get("NOTIFY_SOCKET", "")
        if address and address[0] not in "/@":
            log.warning("NOTIFY_SOCKET is neither a path nor an abstract name: ignored")
            address = ""
        return cls(address, watchdog_interval_s=_watchdog_interval_s(environ) if address else None)

    @property
    def enabled(self) -> bool:
        return bool(self._address)

    @property
    def watchdog_period_s(self) -> float | None:
        """How often to call `watchdog`: half the interval that the service manager waits. None: not at all."""
        return None if self._watchdog_interval_s is None else self._watchdog_interval_s / 2

    def ready(self, status: str = "") -> None:
        self._send("READY=1", _status(status))

    def stopping(self, status: str = "") -> None:
        self._send("STOPPING=1", _status(status))

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(text))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        message = "\n".join(part for part in assignments if part).encode()
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.settimeout(_SEND_TIMEOUT_S)
            self._socket.sendto(message, self._address)
        except OSError as error:
            log.log(
                logging.DEBUG if self._failing else logging.WARNING,
                "cannot notify the service manager at %r: %s",
                self._address,
                error,
            )
            self._failing = True
        else:
            self._failing = False


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split()) if text else ""


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    interval_us = environ.get("WATCHDOG_USEC", "")
    meant_for = environ.get("WATCHDOG_PID", "")
    if not interval_us.isascii() or not interval_us.isdigit() or int(interval_us) == 0:
        return None
    if meant_for and meant_for != str(os.getpid()):
        return None
    return int(interval_us) / 1_000_000
