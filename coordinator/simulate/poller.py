"""Very many TCP connections of one process on one epoll, without a task or a transport for each. Technology.

Sockets are watched level-triggered: what a round does not read or handle is reported again by the next one.
"""

import errno
import os
import select
import socket
import struct
from abc import ABC, abstractmethod

EVENTS_MAX = 128  # handled in one go: then timers have their turn
READ_BYTES = 256 * 1024
UNSENT_BYTES_MAX = 4 * 1024 * 1024  # what a peer does not take; then its connection ends
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_TROUBLE = select.EPOLLERR | select.EPOLLHUP
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing says RST and forgets what was not sent
_BIND_ADDRESS_NO_PORT = 24  # the port is chosen by connect(), for the whole address pair


class Poller:
    """The wires of one process. `turn` is called again and again; wires are opened between turns."""

    def __init__(self) -> None:
        """All wires share one buffer: what is read is used before the next one reads."""
        self.buffer = memoryview(bytearray(READ_BYTES))
        self._epoll = select.epoll()
        self._wires: dict[int, Wire] = {}

    def __len__(self) -> int:
        """How many are watched."""
        return len(self._wires)

    def fileno(self) -> int:
        """Readable when `turn` has something to do."""
        return self._epoll.fileno()

    def turn(self) -> bool:
        """Handles what has happened at EVENTS_MAX wires at most. True where others may wait: they come first then."""
        events = self._epoll.poll(0, EVENTS_MAX)
        for number, mask in events:
            wire = self._wires.get(number)
            if wire is not None:
                wire.ready(mask)
        return len(events) == EVENTS_MAX

    def close(self) -> None:
        """Nobody is told of anything any more. The sockets stay with their wires."""
        self._epoll.close()

    def watch(self, wire: "Wire", number: int, before: int, wanted: int) -> None:
        """For the wire of file `number`. Who wants nothing is taken out: epoll always tells of trouble."""
        if not before:
            self._wires[number] = wire
            self._epoll.register(number, wanted)
        elif wanted:
            self._epoll.modify(number, wanted)
        else:
            self._epoll.unregister(number)
            del self._wires[number]

    def forget(self, number: int) -> None:
        """Of a file that is closed right afterwards, which takes it out of the epoll."""
        self._wires.pop(number, None)


class Wire(ABC):
    """One TCP connection, and after it the next. What comes of it is told to `opened`, `received` and `ended`."""

    __slots__ = ("_connecting", "_mask", "_number", "_poller", "_reading", "_said_all", "_socket", "_unsent")

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._socket: socket.socket | None = None
        self._number = self._mask = 0
        self._connecting = self._reading = self._said_all = False
        self._unsent: bytearray | None = None  # the oldest first; nothing is dropped but with the connection

    # ---- told -----------------------------------------------------------------------------------

    @abstractmethod
    def opened(self) -> None:
        """It is connected."""

    @abstractmethod
    def received(self, data: memoryview) -> None:
        """Some bytes, which are there until this returns."""

    @abstractmethod
    def ended(self, error: OSError | None) -> None:
        """Once after each `open` that has returned: it is closed, or could not connect. None where either side closed
        it in order, or we have reset it."""

    # ---- asked ----------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        return self._socket is None

    @property
    def can_send(self) -> bool:
        """It is connected, and we have not said that we have said all."""
        return self._socket is not None and not self._connecting and not self._said_all

    @property
    def unsent_bytes(self) -> int:
        """What the peer has not taken yet."""
        return len(self._unsent or b"")

    def open(self, where: tuple[str, int], source: str = "") -> None:
        """Begins to connect, from that address where one is given. Raises OSError."""
        assert self._socket is None, "one at a time"
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source:
                found.setsockopt(socket.SOL_IP, _BIND_ADDRESS_NO_PORT, 1)
                found.bind((source, 0))
            number = found.connect_ex(where)
            if number not in (0, errno.EINPROGRESS):
                raise OSError(number, os.strerror(number))
        except BaseException:
            found.close()
            raise
        self._socket, self._number, self._mask = found, found.fileno(), 0
        self._connecting, self._reading, self._said_all, self._unsent = True, True, False, None
        self._look()

    def send(self, data: bytes) -> None:
        """Now, or as soon as the peer takes it. Nothing where `can_send` is not so."""
        if self._socket is None or self._connecting or self._said_all:
            return
        if self._unsent is None:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._end(error)
                return
            if sent == len(data):
                return
            self._unsent, data = bytearray(), data[sent:]
        if self.unsent_bytes + len(data) > UNSENT_BYTES_MAX:
            self.reset(OSError(errno.ENOBUFS, f"it does not take what is sent: {self.unsent_bytes} bytes wait"))
            return
        self._unsent += data
        self._look()

    def finish(self) -> None:
        """Nothing more is sent; the peer closes when it has read all."""
        if self.can_send:
            self._said_all = True
            if self._unsent is None:
                self._half_close()

    def pause(self) -> None:
        """Nothing is read, nor seen of the peer's end, until `resume`."""
        self._reading = False
        self._look()

    def resume(self) -> None:
        self._reading = True
        self._look()

    def unsend(self) -> None:
        """What waits to be sent is never sent."""
        self._unsent = None
        self._look()

    def close(self) -> None:
        """As the system does it for a process that has ended: what it has of ours is still sent."""
        self._end(None)

    def reset(self, error: OSError | None = None) -> None:
        """RST: nobody says goodbye. `ended` is told of the error."""
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._end(error)

    # ---- told by the poller ---------------------------------------------------------------------

    def ready(self, mask: int) -> None:
        """What epoll has seen."""
        if self._connecting:
            self._connected()
            return
        if self._reading and mask & (_IN | _TROUBLE):
            self._receive()
        if self._unsent is not None and mask & (_OUT | _TROUBLE):
            self._flush()

    def _connected(self) -> None:
        assert self._socket is not None, "it is watched"
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._end(OSError(number, os.strerror(number)))
            return
        self._connecting = False
        self._look()
        self.opened()

    def _receive(self) -> None:
        assert self._socket is not None, "it is watched"
        try:
            count = self._socket.recv_into(self._poller.buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if count:
            self.received(self._poller.buffer[:count])
        else:
            self._end(None)

    def _flush(self) -> None:
        assert self._socket is not None and self._unsent is not None, "something waits"
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        del self._unsent[:sent]
        if not self._unsent:
            self.unsend()
            if self._said_all:
                self._half_close()

    def _half_close(self) -> None:
        assert self._socket is not None, "it is open"
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:  # the peer was faster
            self._end(error)

    def _look(self) -> None:
        """What is to be watched has changed."""
        if self._socket is None:
            return
        wanted = _OUT if self._connecting or self._unsent is not None else 0
        if self._reading and not self._connecting:
            wanted |= _IN
        if wanted != self._mask:
            self._poller.watch(self, self._number, self._mask, wanted)
            self._mask = wanted

    def _end(self, error: OSError | None) -> None:
        if self._socket is None:
            return
        self._poller.forget(self._number)
        self._socket.close()
        self._socket, self._unsent, self._connecting = None, None, False
        self.ended(error)
