"""The connection of one simulated node: moves the bytes of its packets, and can be made to fail. Technology."""

import time
from enum import Enum
from typing import Protocol

from coordinator.simulate.mqtt5 import GOODBYE, Reader
from coordinator.simulate.node import Node
from coordinator.simulate.packets import ConnAck, Disconnect, LocalProtocolError, RemoteProtocolError
from coordinator.simulate.poller import Poller, Wire
from coordinator.simulate.world import World
from schemas.errors import RemoteWireError


class Phase(Enum):
    """Where a node is on its way to the broker."""

    OFF = "off"  # the node does not run
    WAITING = "waiting"  # for its next attempt
    CONNECTING = "connecting"
    OPEN = "open"  # there is a socket, accepted or not


class Owner(Protocol):
    """Who connects lines."""

    def connected(self, line: "Line") -> bool:
        """There is a socket. False where it is not to be used: it is closed."""

    def lost(self, line: "Line", error: OSError | None) -> None:
        """It has ended, or could not connect."""


class Line(Wire):
    """One node's, for all its connections, one after the other."""

    __slots__ = (
        "_muted", "_owner", "_reader", "_world", "accepted_s", "attempt", "flap_until_s", "held_until_s", "node",
        "opens", "phase",
    )  # fmt: skip

    def __init__(self, world: World, node: Node, poller: Poller, owner: Owner) -> None:
        super().__init__(poller)
        self.node = node
        self.phase = Phase.WAITING
        self.attempt = 0  # since it was last well connected
        self.opens = 0  # in all: tells a timer for which of them it was set
        self.accepted_s: float | None = None
        self.held_until_s = 0.0
        self.flap_until_s = 0.0
        self._world = world
        self._owner = owner
        self._reader = Reader()
        self._muted = False

    @property
    def is_muted(self) -> bool:
        """Half-open."""
        return self._muted

    # ---- told by the wire -----------------------------------------------------------------------

    def opened(self) -> None:
        if self._owner.connected(self):
            self._muted, self._reader = False, Reader()
            self.write(self.node.connect(time.monotonic()))
        else:
            self.close()

    def received(self, data: memoryview) -> None:
        now_s = time.monotonic()
        self._world.figures.bytes_in += len(data)
        out = []
        try:
            for packet in self._reader.feed(bytes(data)):
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

    def ended(self, error: OSError | None) -> None:
        if self.accepted_s is not None:
            self._world.figures.connected_now -= 1
            self._world.figures.disconnects += 1
            self.node.disconnected()
        self._owner.lost(self, error)

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
        elif data and self.can_send:
            self._world.figures.bytes_out += len(data)
            if not self._muted:
                self.send(data)

    def leave(self) -> None:
        """With a DISCONNECT. The broker closes: if we did, what it has just sent us would turn that into a reset, and
        what we have said might be lost with it."""
        self.write(GOODBYE)
        self.read_on()
        self.finish()

    def mute(self) -> None:
        """From now on nothing is sent or read; the socket stays."""
        self._muted = True
        self.unsend()
        self.pause()

    def read_on(self) -> None:
        """After a pause."""
        if not self._muted:
            self.resume()
