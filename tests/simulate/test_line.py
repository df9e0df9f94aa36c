"""Lines and who connects them: real sockets, a broker that says what the test says, and timers told by hand."""

import asyncio
import random
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from coordinator.simulate.dialler import CONNECTING_MAX, RETURNING_MAX, Dialler
from coordinator.simulate.line import Line, Phase
from coordinator.simulate.mqtt5 import Reader, encode
from coordinator.simulate.node import Node
from coordinator.simulate.packets import ConnAck, Connect, Disconnect, Packet, PingResp, Publish, Subscribe
from coordinator.simulate.poller import Poller
from coordinator.simulate.scenario import FleetTable, RunTable, Scenario
from coordinator.simulate.world import Due, Timer, World

WAIT_S = 60.0
SOON_S = 100.0  # after all that is due


class Fleet:
    """Lines, and who connects them to a socket that listens."""

    def __init__(self, stack: ExitStack, nodes: int, backlog: int = 4096) -> None:
        self.server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=backlog))
        run = RunTable(brokers=(f"127.0.0.1:{self.server.getsockname()[1]}",), sources=("127.0.0.1",))
        self.world = World(Scenario(FleetTable(nodes=nodes), run=run), "run", 0.0, random.Random(1))
        self.poller = Poller()
        self.dialler = Dialler(self.world)
        asyncio.run(self.dialler.resolve())
        self.lines = []
        for number in range(nodes):
            node = Node(self.world, number, 1)
            node.start(0.0)
            self.lines.append(Line(self.world, node, self.poller, self.dialler))
            stack.callback(self.lines[-1].close)
        self.due()
        for line in self.lines:
            self.dialler.want(line)
        stack.callback(self.poller.close)
        stack.callback(self.dialler.close)

    def count(self, phase: Phase) -> int:
        return sum(line.phase is phase for line in self.lines)

    @property
    def begun(self) -> int:
        return sum(not line.is_closed for line in self.lines)

    def due(self) -> dict[Timer, list[Due]]:
        """All that is due, however late."""
        found: dict[Timer, list[Due]] = {}
        for _, item in self.world.wheel.take(time.monotonic() + SOON_S):
            found.setdefault(item[1], []).append(item)
        return found

    def until(self, done: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < deadline_s, "waited in vain"
            select.select([self.poller], [], [], 0.05)
            self.poller.turn()


class Peer:
    """The other end of the one line of a fleet, which is accepted when this is made."""

    def __init__(self, stack: ExitStack) -> None:
        self.fleet = Fleet(stack, 1)
        (self.line,) = self.fleet.lines
        self.fleet.dialler.step(1.0, first=True)
        self.socket = stack.enter_context(self.fleet.server.accept()[0])
        self.socket.settimeout(WAIT_S)
        self._reader = Reader()
        self.fleet.until(lambda: self.line.phase is Phase.OPEN)
        self.connect = self.read()
        self.say(ConnAck())
        self.fleet.until(lambda: self.line.accepted_s is not None)
        self.first = self.read()

    def say(self, packet: Packet) -> None:
        self.socket.sendall(encode(packet))

    def read(self) -> list[Packet]:
        """What one packet of TCP has; nothing at the end."""
        return self._reader.feed(self.socket.recv(65_536))

    @property
    def ended(self) -> tuple[int, int, Phase]:
        figures = self.fleet.world.figures
        return figures.disconnects, figures.connected_now, self.line.phase

    def has_nothing(self) -> bool:
        self.fleet.poller.turn()
        return not select.select([self.socket], [], [], 0.1)[0]


OVER, ON = (1, 0, Phase.WAITING), (0, 1, Phase.OPEN)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def test_first_connections_are_paced_and_those_of_who_comes_back_are_begun_in_groups(stack: ExitStack) -> None:
    fleet = Fleet(stack, 400)
    fleet.dialler.step(0.02, first=True)
    assert fleet.begun == 20  # of 1000 a second
    fleet.dialler.step(100.0, first=True)
    assert fleet.begun == CONNECTING_MAX
    fleet.dialler.step(0.02, first=False)
    assert fleet.begun == CONNECTING_MAX, "so many at a time"
    fleet.until(lambda: fleet.count(Phase.OPEN) == CONNECTING_MAX)
    fleet.dialler.step(0.02, first=False)
    assert fleet.begun == CONNECTING_MAX + RETURNING_MAX


def test_an_attempt_that_nobody_answers_is_given_up_in_time_and_made_again(stack: ExitStack) -> None:
    fleet = Fleet(stack, 4, backlog=0)
    fleet.dialler.step(1.0, first=True)
    fleet.until(lambda: fleet.count(Phase.OPEN))
    due = fleet.due()
    assert len(due[Timer.CONNECTED]) == 4
    waiting = [line for line in fleet.lines if line.phase is Phase.CONNECTING]
    assert waiting
    for number, _, of in due[Timer.CONNECTED]:
        fleet.dialler.overdue(fleet.lines[number], of)
    assert fleet.world.figures.connects_failed == len(waiting) == fleet.count(Phase.WAITING)
    assert fleet.world.figures.first_error.endswith("no answer")
    assert {number for number, *_ in fleet.due()[Timer.CONNECT]} == {line.node.number for line in waiting}
    line = waiting[0]
    fleet.dialler.want(line)
    fleet.dialler.step(1.0, first=True)
    fleet.dialler.overdue(line, 1)
    assert line.phase is Phase.CONNECTING, "that was the timer of the first attempt"


def test_who_is_refused_tries_again(stack: ExitStack) -> None:
    fleet = Fleet(stack, 2)
    fleet.server.close()
    fleet.dialler.step(1.0, first=True)
    fleet.until(lambda: fleet.count(Phase.WAITING) == 2)
    assert fleet.world.figures.connects_failed == 2
    assert "cannot connect to 127.0.0.1:" in fleet.world.figures.first_error
    assert len(fleet.due()[Timer.CONNECT]) == 2


def test_who_is_cut_while_he_connects_does_not_use_the_connection(stack: ExitStack) -> None:
    fleet = Fleet(stack, 3)
    later, reset, through = fleet.lines
    fleet.dialler.step(1.0, first=True)
    until_s = time.monotonic() + SOON_S / 2
    later.held_until_s = reset.held_until_s = until_s
    reset.reset()
    fleet.until(lambda: through.phase is Phase.OPEN and later.phase is Phase.WAITING)
    assert (later.is_closed, reset.is_closed, reset.phase) == (True, True, Phase.WAITING)
    assert (later.node.session, reset.node.session, through.node.session) == (0, 0, 1), "nothing was said"
    assert fleet.world.figures.connects_failed == 0
    held = [at_s for at_s, (number, timer, _) in fleet.world.wheel.take(until_s - 1.0) if timer is Timer.CONNECT]
    assert held == []
    assert len(fleet.due()[Timer.CONNECT]) == 2


def test_when_all_is_over_nobody_connects_any_more(stack: ExitStack) -> None:
    fleet = Fleet(stack, 3)
    fleet.dialler.step(0.002, first=True)
    fleet.dialler.close()
    fleet.dialler.step(1.0, first=True)
    assert fleet.begun == 0
    assert fleet.world.figures.connects_failed == 0


def test_a_line_that_is_accepted_says_who_it_is_and_answers(stack: ExitStack) -> None:
    peer = Peer(stack)
    assert [type(packet) for packet in peer.connect] == [Connect]
    assert [type(packet) for packet in peer.first] == [Subscribe, Publish, Publish, Publish]
    assert peer.ended == ON
    figures = peer.fleet.world.figures
    assert figures.bytes_in == len(encode(ConnAck()))
    assert figures.bytes_out == sum(len(encode(packet)) for packet in (*peer.connect, *peer.first))


@pytest.mark.parametrize("last", [Disconnect(0x8B), Connect("what?"), ConnAck(0x87)])
def test_a_broker_that_ends_it_or_says_nonsense_is_left(stack: ExitStack, last: Packet) -> None:
    peer = Peer(stack)
    peer.say(last)
    peer.fleet.until(lambda: peer.line.is_closed)
    assert peer.ended == OVER
    assert peer.fleet.world.figures.first_error
    with pytest.raises(ConnectionResetError):
        peer.read()


def test_who_leaves_says_goodbye_and_waits_for_the_broker_to_close(stack: ExitStack) -> None:
    peer = Peer(stack)
    peer.line.pause()
    peer.line.leave()
    peer.line.write(b"not any more")
    assert (peer.read(), peer.read()) == ([Disconnect()], [])
    assert peer.ended == ON
    peer.say(PingResp())
    peer.socket.close()
    peer.fleet.until(lambda: peer.line.is_closed)
    assert peer.ended == OVER


def test_who_is_killed_is_gone_without_a_word(stack: ExitStack) -> None:
    peer = Peer(stack)
    peer.line.close()
    assert peer.read() == []
    assert peer.ended == OVER


def test_who_is_half_open_neither_sends_nor_reads_nor_sees_the_end(stack: ExitStack) -> None:
    peer = Peer(stack)
    peer.line.pause()  # it was slow before, and would read on
    peer.line.mute()
    peer.line.read_on()
    peer.line.write(encode(PingResp()))
    peer.line.write(None)
    peer.say(Disconnect(0x8D))
    assert peer.has_nothing()
    assert peer.ended == ON
    peer.line.reset()
    assert peer.ended == OVER
    with pytest.raises(ConnectionResetError):
        peer.read()


def test_who_is_slow_sends_and_reads_later(stack: ExitStack) -> None:
    peer = Peer(stack)
    peer.line.pause()
    peer.say(Disconnect(0x8D))
    peer.line.write(encode(PingResp()))
    assert peer.read() == [PingResp()]
    assert peer.has_nothing() and peer.ended == ON
    peer.line.read_on()
    peer.fleet.until(lambda: peer.line.is_closed)
    assert peer.ended == OVER


def test_a_node_that_gives_its_broker_up_resets(stack: ExitStack) -> None:
    peer = Peer(stack)
    peer.line.write(None)
    assert peer.ended == OVER
    with pytest.raises(ConnectionResetError):
        peer.read()
