"""Wires on one epoll, with real sockets of this machine: how they begin, how they end, who has to wait."""

import errno
import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from coordinator.simulate.poller import EVENTS_MAX, UNSENT_BYTES_MAX, Poller, Wire

WAIT_S = 60.0
BIG = bytes(range(256)) * 16 * 1024  # 4 MiB: more than a socket takes whose peer does not read
SMALL_BYTES = 128 * 1024


class Told(Wire):
    """What a wire was told."""

    def __init__(self, poller: Poller) -> None:
        super().__init__(poller)
        self.opens = 0
        self.got = bytearray()
        self.ends: list[OSError | None] = []

    def opened(self) -> None:
        self.opens += 1

    def received(self, data: memoryview) -> None:
        self.got += data

    def ended(self, error: OSError | None) -> None:
        assert self.is_closed
        self.ends.append(error)


class Bench:
    """A poller, a server, and what is opened."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.poller = Poller()
        stack.callback(self.poller.close)
        self.server = self.keep(socket.create_server(("127.0.0.1", 0), backlog=4096))
        self.where: tuple[str, int] = self.server.getsockname()

    def keep(self, one: socket.socket) -> socket.socket:
        self._stack.callback(one.close)
        one.settimeout(WAIT_S)
        return one

    def wire(self) -> Told:
        wire = Told(self.poller)
        self._stack.callback(wire.close)
        return wire

    def pair(self, *, receive_bytes: int = 0) -> tuple[Told, socket.socket]:
        """A connected wire and its peer."""
        if receive_bytes:
            self.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        wire = self.wire()
        wire.open(self.where, "127.0.0.1")
        peer = self.keep(self.server.accept()[0])
        self.until(lambda: wire.opens)
        return wire, peer

    def until(self, done: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < deadline_s, "waited in vain"
            select.select([self.poller], [], [], 0.05)
            self.poller.turn()

    def is_quiet(self) -> bool:
        """There is nothing to do, and so nothing that would be done over and over."""
        return not select.select([self.poller], [], [], 0.1)[0]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack)


def read_all(peer: socket.socket) -> bytes:
    found = bytearray()
    while data := peer.recv(65_536):
        found += data
    return bytes(found)


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def test_both_sides_are_heard_and_the_end_is_told_once(bench: Bench) -> None:
    wire, peer = bench.pair()
    assert wire.can_send and not wire.is_closed
    wire.send(b"to the peer")
    assert peer.recv(100) == b"to the peer"
    peer.sendall(b"from the peer")
    bench.until(lambda: wire.got)
    peer.close()
    bench.until(lambda: wire.ends)
    wire.close()
    wire.send(b"too late")
    assert (wire.opens, bytes(wire.got), wire.ends) == (1, b"from the peer", [None])
    assert (wire.is_closed, wire.can_send, len(bench.poller)) == (True, False, 0)


def test_a_wire_is_used_again(bench: Bench) -> None:
    wire, peer = bench.pair()
    wire.pause()
    wire.close()
    assert peer.recv(10) == b""
    wire.open(bench.where)
    again = bench.keep(bench.server.accept()[0])
    again.sendall(b"hello")
    bench.until(lambda: wire.got)
    assert (wire.opens, wire.ends) == (2, [None])


def test_who_is_refused_is_told(bench: Bench) -> None:
    bench.server.close()
    wire = bench.wire()
    wire.open(bench.where)
    bench.until(lambda: wire.ends)
    assert isinstance(wire.ends[0], ConnectionRefusedError)
    assert (wire.opens, len(bench.poller)) == (0, 0)


def test_what_cannot_even_begin_raises(bench: Bench) -> None:
    wire = bench.wire()
    with pytest.raises(OSError, match="Cannot assign"):
        wire.open(bench.where, "192.0.2.1")
    assert wire.is_closed and not wire.ends


def test_who_is_not_answered_waits_until_somebody_ends_it(bench: Bench) -> None:
    full = bench.keep(socket.create_server(("127.0.0.1", 0), backlog=0))
    wires = [bench.wire() for _ in range(4)]
    for wire in wires:
        wire.open(full.getsockname())
    bench.until(lambda: any(wire.opens for wire in wires))
    assert bench.is_quiet()
    waiting = [wire for wire in wires if not wire.opens]
    assert waiting
    for wire in waiting:
        wire.send(b"not yet")
        wire.reset(TimeoutError("no answer"))
    assert all([str(error) for error in wire.ends] == ["no answer"] for wire in waiting)


def test_what_a_peer_does_not_take_at_once_is_sent_later_in_order(bench: Bench) -> None:
    wire, peer = bench.pair(receive_bytes=SMALL_BYTES)
    for at in range(0, len(BIG), 50_000):
        wire.send(BIG[at : at + 50_000])
    assert bench.is_quiet() and wire.unsent_bytes
    found = bytearray()
    peer.settimeout(0.0)

    def read() -> bool:
        try:
            found.extend(peer.recv(1_000_000))
        except BlockingIOError:
            pass
        return len(found) >= len(BIG)

    bench.until(read)
    assert found == BIG and not wire.unsent_bytes
    wire.send(b"and on")
    peer.settimeout(WAIT_S)
    assert peer.recv(100) == b"and on"
    assert wire.ends == []


def test_a_peer_that_takes_nothing_is_given_up(bench: Bench) -> None:
    wire, peer = bench.pair(receive_bytes=SMALL_BYTES)
    for _ in range(2 + (UNSENT_BYTES_MAX + 16 * len(BIG)) // len(BIG)):
        wire.send(BIG)
    assert [error.errno for error in wire.ends if error] == [errno.ENOBUFS]
    with pytest.raises(ConnectionResetError):
        read_all(peer)


def test_a_reset_is_seen_by_either_side(bench: Bench) -> None:
    wire, peer = bench.pair()
    reset(peer)
    bench.until(lambda: wire.ends)
    assert isinstance(wire.ends[0], ConnectionResetError)
    wire, peer = bench.pair()
    wire.reset()
    assert wire.ends == [None]
    with pytest.raises(ConnectionResetError):
        peer.recv(10)


def test_sending_to_who_is_gone_ends_it(bench: Bench) -> None:
    wire, peer = bench.pair()
    reset(peer)
    wire.send(b"anybody?")
    assert isinstance(wire.ends[0], ConnectionError)


def test_who_has_said_all_still_hears_until_the_peer_closes(bench: Bench) -> None:
    wire, peer = bench.pair(receive_bytes=SMALL_BYTES)
    wire.send(BIG)
    wire.finish()
    wire.send(b"not any more")
    assert not wire.can_send
    peer.settimeout(0.0)
    found, over = bytearray(), []

    def read() -> bool:
        try:
            data = peer.recv(1_000_000)
            found.extend(data)
            over.extend([] if data else [True])
        except BlockingIOError:
            pass
        return bool(over)

    bench.until(read)
    assert found == BIG
    peer.setblocking(True)
    peer.sendall(b"late")
    peer.close()
    bench.until(lambda: wire.ends)
    assert (bytes(wire.got), wire.ends) == (b"late", [None])


def test_who_pauses_reads_nothing_and_does_not_see_the_end(bench: Bench) -> None:
    wire, peer = bench.pair()
    wire.pause()
    peer.sendall(b"hello")
    assert bench.is_quiet()
    wire.send(b"I send on")
    assert peer.recv(100) == b"I send on"
    peer.close()
    assert bench.is_quiet()
    assert (bytes(wire.got), wire.ends) == (b"", [])
    wire.resume()
    bench.until(lambda: wire.ends)
    assert (bytes(wire.got), wire.ends) == (b"hello", [None])


def test_who_pauses_and_has_more_to_send_sees_a_reset(bench: Bench) -> None:
    wire, peer = bench.pair(receive_bytes=SMALL_BYTES)
    wire.pause()
    wire.send(BIG)
    assert bench.is_quiet() and wire.unsent_bytes
    reset(peer)
    bench.until(lambda: wire.ends)
    assert isinstance(wire.ends[0], ConnectionError)


def test_what_is_taken_back_is_not_sent(bench: Bench) -> None:
    wire, peer = bench.pair(receive_bytes=SMALL_BYTES)
    wire.send(BIG)
    wire.unsend()
    wire.close()
    assert len(read_all(peer)) < len(BIG)


def test_thousands_are_served_in_turns_and_nobody_twice_before_all_were_once(bench: Bench) -> None:
    count = 2000
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    wires = [bench.wire() for _ in range(count)]
    for wire in wires:
        wire.open(bench.where)
    peers = [bench.keep(bench.server.accept()[0]) for _ in range(count)]
    bench.until(lambda: all(wire.opens for wire in wires))
    for number, peer in enumerate(peers):
        peer.sendall(b"x" * (number % 7 + 1))
    for turn in range(-(-count // EVENTS_MAX)):
        assert sum(bool(wire.got) for wire in wires) == turn * EVENTS_MAX
        bench.poller.turn()
    assert sum(len(wire.got) for wire in wires) == sum(number % 7 + 1 for number in range(count))
    for peer in peers:
        peer.close()
    bench.until(lambda: all(wire.ends for wire in wires))
    assert len(bench.poller) == 0


class Flooded(Told):
    """Its peer answers whatever it hears with more."""

    peer: socket.socket

    def received(self, data: memoryview) -> None:
        super().received(data)
        self.peer.sendall(b"x")


def test_a_flood_ends_no_later_than_its_turn_and_all_have_their_share(bench: Bench) -> None:
    wires = [Flooded(bench.poller) for _ in range(3 * EVENTS_MAX)]
    for wire in wires:
        wire.open(bench.where)
        wire.peer = bench.keep(bench.server.accept()[0])
    bench.until(lambda: all(wire.opens for wire in wires))
    assert not bench.poller.turn()
    for wire in wires:
        wire.peer.sendall(b"x")
    for turn in range(30):
        assert sum(len(wire.got) for wire in wires) == turn * EVENTS_MAX
        assert bench.poller.turn(), "others wait, and timers are looked at before"
    assert {len(wire.got) for wire in wires} <= {9, 10, 11}
    for wire in wires:
        wire.close()
    assert not bench.poller.turn()
