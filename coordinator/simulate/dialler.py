"""Connects the nodes of one process, again and again: paced, over brokers and source addresses. Driver."""

import asyncio
import socket
import time
from collections import deque

from coordinator.simulate.line import Line, Phase
from coordinator.simulate.world import Timer, World
from runtime.backoff import Backoff
from runtime.errors import PermanentError

RETRY = Backoff(first_s=0.5, max_s=60.0)  # as an agent's
STEADY_S = 30.0
CONNECTING_MAX = 200  # attempts at a time
RETURNING_MAX = 50  # of them are begun in one go: a broker's backlog is a hundred, TCP tries again after a second
CONNECT_TIMEOUT_S = 20.0
SOURCES_EACH = 250  # 127.0.<1 to 4>.<1 to 250>


class Dialler:
    """Owns the lines."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._where: list[tuple[str, int]] = []
        self._wanting: deque[Line] = deque()
        self._connecting: set[Line] = set()
        self._budget = 0.0  # connections that may be begun
        self._closed = False

    async def resolve(self) -> None:
        """Names to addresses, once: 18,000 questions would be an attack. Raises PermanentError."""
        loop = asyncio.get_running_loop()
        for host, port in self._world.scenario.addresses:
            try:
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise PermanentError(f"broker {host}: {error.strerror}", hint="check --broker") from error
            self._where.append((str(found[0][4][0]), port))

    def want(self, line: Line) -> None:
        """A line that waits is to be connected as soon as may be."""
        if line.phase is Phase.WAITING and not self._closed:
            line.phase = Phase.CONNECTING
            self._wanting.append(line)

    def step(self, since_s: float, *, first: bool) -> None:
        """Begins what may begin. The rate is for the first connections: who comes back comes as fast as he can."""
        run = self._world.scenario.run
        if first:
            self._budget = min(self._budget + since_s * run.connects_per_s / run.processes, CONNECTING_MAX)
        else:
            self._budget = RETURNING_MAX
        while self._wanting and self._budget >= 1 and len(self._connecting) < CONNECTING_MAX:
            self._budget -= 1
            self._begin(self._wanting.popleft())

    def connected(self, line: Line) -> bool:
        """There is a socket. False where it is not to be used: nobody is to be connected now."""
        self._connecting.discard(line)
        line.phase, now_s = Phase.OPEN, time.monotonic()
        if self._closed or now_s < line.held_until_s:
            return False
        self._world.wheel.put(now_s + CONNECT_TIMEOUT_S, (line.node.number, Timer.CONNACK, line.opens))
        return True

    def lost(self, line: Line, error: OSError | None) -> None:
        """Its connection has ended, or could not be made."""
        if line in self._connecting:
            self._connecting.discard(line)
            if error is not None:
                self._refused(line, error)
            self._again(line)
            return
        if error is not None and not isinstance(error, ConnectionError):
            self._world.complain(f"{line.node.name}: {error}")
        accepted_s, line.accepted_s = line.accepted_s, None
        if line.phase is not Phase.OPEN:
            return  # it is off
        if accepted_s is not None and time.monotonic() - accepted_s >= STEADY_S:
            line.attempt = 0
        self._again(line)

    def overdue(self, line: Line, opens: int) -> None:
        """That attempt has had its time."""
        if line in self._connecting and line.opens == opens:
            line.reset(TimeoutError("no answer"))

    def close(self) -> None:
        """Nobody is connected any more."""
        self._closed = True
        self._wanting.clear()
        for line in tuple(self._connecting):
            line.close()

    def _begin(self, line: Line) -> None:
        now_s = time.monotonic()
        if now_s < line.held_until_s:
            self._again(line)
            return
        where = self._where_of(line)
        line.opens += 1
        try:
            line.open(where, self._source(line.node.number, where[0]))
        except OSError as error:
            self._refused(line, error)
            self._again(line)
            return
        self._connecting.add(line)
        self._world.wheel.put(now_s + CONNECT_TIMEOUT_S, (line.node.number, Timer.CONNECTED, line.opens))

    def _where_of(self, line: Line) -> tuple[str, int]:
        return self._where[line.node.number % len(self._where)]

    def _refused(self, line: Line, error: OSError) -> None:
        host, port = self._where_of(line)
        self._world.figures.connects_failed += 1
        self._world.complain(f"{line.node.name}: cannot connect to {host}:{port}: {error}")

    def _source(self, number: int, host: str) -> str:
        """One address pair has 28,000 ports, and those of connections that were closed rest for a minute."""
        sources = self._world.scenario.run.sources
        if sources:
            return sources[number % len(sources)]
        if not host.startswith("127."):
            return ""
        net, last = divmod(number % (4 * SOURCES_EACH), SOURCES_EACH)
        return f"127.0.{net + 1}.{last + 1}"

    def _again(self, line: Line) -> None:
        line.phase = Phase.WAITING
        delay_s = RETRY.delay_s(line.attempt, self._world.dice.random())
        line.attempt += 1
        at_s = max(time.monotonic() + delay_s, line.held_until_s)
        self._world.wheel.put(at_s, (line.node.number, Timer.CONNECT, 0))
