"""The connection of one simulated node: an asyncio protocol that moves bytes and can be made to fail. Technology."""

import asyncio
import socket
import struct
from collections.abc import Callable
from enum import Enum

from coordinator.simulate.mqtt5 import GOODBYE, Reader
from coordinator.simulate.node import Node
from coordinator.simulate.packets import ConnAck, Disconnect, LocalProtocolError, RemoteProtocolError
from coordinator.simulate.world import World
from schemas.errors import RemoteWireError

READ_BYTES = 256 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing says RST and forgets what was not sent
_BIND_ADDRESS_NO_PORT = 24  # the port is chosen by connect(), for the whole address pair


class Phase(Enum):
    """Where a node is on its way to the broker."""

    OFF = "off"  # the node does not run
    WAITING = "waiting"  # for its next attempt
    CONNECTING = "connecting"
    OPEN = "open"  # there is a socket, accepted or not


class Line(asyncio.BufferedProtocol):
    """One node's, for all its connections, one after the other. `on_lost(line)` is told of each that ends."""

    __slots__ = (
        "_buffer", "_left", "_muted", "_on_lost", "_reader", "_transport", "_world", "accepted_s", "attempt",
        "flap_until_s", "held_until_s", "node", "phase",
    )  # fmt: skip

    def __init__(self, world: World, node: Node, buffer: memoryview, on_lost: Callable[["Line"], None]) -> None:
        """All lines of a process share one buffer: what is read is used before the next one reads."""
        self.node = node
        self.phase = Phase.WAITING
        self.attempt = 0
        self.accepted_s: float | None = None
        self.held_until_s = 0.0
        self.flap_until_s = 0.0
        self._world = world
        self._buffer = buffer
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._reader = Reader()
        self._muted = False
        self._left = False

    @property
    def is_muted(self) -> bool:
        """Half-open."""
        return self._muted

    @property
    def is_closed(self) -> bool:
        return self._transport is None

    # ---- told by asyncio ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "TCP"
        self._transport, self._muted, self._left = transport, False, False
        self._reader = Reader()
        self.write(self.node.connect(_now_s()))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        now_s = _now_s()
        self._world.figures.bytes_in += nbytes
        if self._muted:
            return
        out = []
        try:
            for packet in self._reader.feed(bytes(self._buffer[:nbytes])):
                if isinstance(packet, Disconnect) or (isinstance(packet, ConnAck) and packet.reason >= 0x80):
                    self._world.complain(f"{self.node.name}: the broker ends the connection: {packet.reason:#x}")
                    self.reset()
                    return
                if isinstance(packet, ConnAck):
                    self._accepted(now_s)
                out.append(self.node.receive(packet, now_s))
        except (RemoteProtocolError, RemoteWireError, LocalProtocolError) as error:
            self._world.figures.bad_messages += 1
            self._world.complain(f"{self.node.name}: {error}")
            self.reset()
            return
        self.write(b"".join(out))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self.accepted_s is not None:
            self._world.figures.connected_now -= 1
            self._world.figures.disconnects += 1
            self.node.disconnected()
        self._on_lost(self)

    def _accepted(self, now_s: float) -> None:
        self.accepted_s = now_s
        self._world.figures.connects += 1
        self._world.figures.connected_now += 1

    # ---- done with it ---------------------------------------------------------------------------

    def write(self, data: bytes | None) -> None:
        """None ends the connection: its node has given it up."""
        if data is None:
            if not self._muted:  # a half-open link is noticed when its fault is over
                self.reset()
        elif data and self._transport is not None and not self._left and not self._transport.is_closing():
            self._world.figures.bytes_out += len(data)
            if not self._muted:
                self._transport.write(data)

    def reset(self) -> None:
        """RST: nobody says goodbye."""
        if self._transport is not None:
            linger = self._transport.get_extra_info("socket")
            if linger is not None:
                linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def leave(self) -> None:
        """With a DISCONNECT. The broker closes: if we did, what it has just sent us would turn that into a reset, and
        what we have said might be lost with it."""
        self.write(GOODBYE)
        if self._transport is not None and not self._left and not self._transport.is_closing():
            self._left = True
            self.resume()
            self._transport.write_eof()

    def vanish(self) -> None:
        """As the connections of a killed process do."""
        if self._transport is not None:
            self._transport.close()

    def mute(self) -> None:
        """From now on nothing is sent or read; the socket stays."""
        self._muted = True
        self.pause()

    def pause(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._muted and not self._transport.is_closing():
            self._transport.resume_reading()  # nothing happens where it reads


async def open_socket(where: tuple[str, int], source: str) -> socket.socket:
    """A connected TCP socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            found.setsockopt(socket.SOL_IP, _BIND_ADDRESS_NO_PORT, 1)
            found.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(found, where)
    except BaseException:
        found.close()
        raise
    return found


def _now_s() -> float:
    return asyncio.get_running_loop().time()
