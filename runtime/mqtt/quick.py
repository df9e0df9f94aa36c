"""paho's client, which reads in large pieces and has the messages and their acknowledgements handled by us.

Everything else of the protocol stays paho's: connecting, TLS, pings, subscriptions, the end. It reads each packet in
three or more calls of the system and makes five objects and a lock of each message; `packets.py` does without.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import cast

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import MalformedPacket  # type: ignore[attr-defined]

from runtime.mqtt.messages import Delivery
from runtime.mqtt.packets import MalformedError, read_puback, read_publish, read_size

READ_BYTES = 64 * 1024
_PUBLISH, _PUBACK = PacketTypes.PUBLISH, PacketTypes.PUBACK


class QuickClient(paho.Client):
    """Is told of the socket by the loop: `read`, `write`. Never runs a thread or reads by itself."""

    on_delivery: Callable[[Delivery], None]
    on_confirmed: Callable[[int, bool], None]
    paused = False

    _data = b""  # read and not handled
    _at = 0  # of it this much is

    def read(self, packets_max: int) -> bool:
        """Reads once where nothing stands ready, and handles what is whole. True where more stands ready then."""
        handled = self._handle(packets_max)
        if handled == 0 and self._sock is not None and not self.paused:
            self._receive()
            handled = self._handle(packets_max)
        return handled >= packets_max and self._sock is not None

    def write(self, packets: bytes) -> bool:
        """Whole packets, in order with all others. False when the connection has just ended."""
        return self._packet_queue(0, packets, 0, 1) in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_AGAIN)

    def next_mid(self) -> int:
        """Of one count with those of subscriptions."""
        return self._mid_generate()

    def _receive(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            piece = cast(socket.socket, sock).recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except ssl.SSLWantWriteError:
            return  # what is to be written is watched all the time
        except OSError:
            piece = b""
        if not piece:
            self._loop_rc_handle(paho.MQTT_ERR_CONN_LOST)
            return
        self._last_bytes_received = time.monotonic()
        self._data = self._data[self._at :] + piece if self._at < len(self._data) else piece
        self._at = 0

    def _handle(self, packets_max: int) -> int:
        """How many packets were handled. What a handler raises passes; the packet counts as handled."""
        data, end, handled = self._data, len(self._data), 0
        try:
            while handled < packets_max and end - self._at >= 2 and self._sock is not None and not self.paused:
                at = self._at
                size, begin = data[at + 1], at + 2
                if size > 127:
                    size, begin = read_size(data, at + 1, end)
                if size < 0 or begin + size > end:
                    break
                first, self._at = data[at], begin + size
                handled += 1
                kind = first >> 4
                if kind == _PUBLISH:
                    self.on_delivery(read_publish(first, data, begin, begin + size))
                elif kind == _PUBACK:
                    self.on_confirmed(*read_puback(data, begin, begin + size))
                else:
                    self._handle_other(first, data[begin : begin + size])
        except MalformedError:
            self._loop_rc_handle(paho.MQTT_ERR_PROTOCOL)
        return handled

    def _handle_other(self, first: int, body: bytes) -> None:
        """By paho, as if it had read the packet."""
        self._in_packet = {
            "command": first,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(body),
            "packet": bytearray(body),
            "to_process": 0,
            "pos": 0,
        }
        try:
            failed = self._packet_handle()
        except MalformedPacket as error:
            raise MalformedError(str(error)) from error
        if failed > 0:
            self._loop_rc_handle(failed)

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """Closes the socket of a failed TLS handshake, which paho leaves to the garbage collector."""
        assert self._ssl_context is not None
        tcp_sock.settimeout(self.connect_timeout)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(tcp_sock.close)
            wrapped = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self.host)
            cleanup.pop_all()
        return wrapped
