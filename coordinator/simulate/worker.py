"""One process of a simulation: its share of the nodes, driven by one wheel of timers. Driver.

Started by `fleet.py` as `python -m coordinator.simulate.worker`: reads its orders as JSON lines on stdin, writes its
figures as JSON lines on stdout. The end of stdin ends it, so that nothing outlives the one who started it.
"""

import asyncio
import gc
import json
import os
import random
import resource
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from coordinator.simulate.dialler import Dialler
from coordinator.simulate.faults import FLAP_EVERY_S, LASTS_S, SPREAD_S, FaultKind, Strike, plan
from coordinator.simulate.line import Line, Phase
from coordinator.simulate.node import Node
from coordinator.simulate.poller import Poller
from coordinator.simulate.scenario import Scenario, password_of
from coordinator.simulate.wheel import STEP_S
from coordinator.simulate.world import Timer, World
from runtime.errors import EdgewrightError
from schemas.shape import read

FIGURES_EVERY_S = 1.0
GOODBYE_S = 10.0
_OWN_TIMERS = (Timer.HEARTBEAT, Timer.EVENT, Timer.RESEND, Timer.PING, Timer.APPLY, Timer.WORK)


class Worker:
    """Nodes `share`, `share + processes` and so on."""

    def __init__(self, scenario: Scenario, share: int, run: str, boot: int, begin_s: float) -> None:
        """`begin_s`: the monotonic time at which the run begins, the same for all processes."""
        self._scenario = scenario
        self._share = share
        self._boot = boot
        self._begin_s = begin_s
        dice = random.Random(f"{scenario.fleet.seed}/worker/{share}")
        offset_s = time.time() - time.monotonic()
        self.world = World(scenario, run, offset_s, dice, password=password_of(scenario, dict(os.environ)))
        self.world.figures.rss_empty_mb = _rss_mb()
        self._lines: dict[int, Line] = {}
        self._strikes: deque[Strike] = deque()
        self._poller = Poller()
        self._dialler = Dialler(self.world)
        self._all_connected_s: float | None = None
        self._defect: asyncio.Future[None]

    # ---- its life -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is told to stop."""
        loop = asyncio.get_running_loop()
        self._defect = loop.create_future()
        loop.set_exception_handler(lambda _, context: self._failed(context.get("exception") or str(context)))
        await self._dialler.resolve()
        await asyncio.sleep(self._begin_s - time.monotonic())
        self._populate()
        gc.freeze()  # the nodes stay: they need not be looked through again and again
        gc.set_threshold(50_000, 20, 50)
        telling = asyncio.create_task(self._tell(), name="simulate.figures")
        orders = asyncio.create_task(self._obey(), name="simulate.orders")
        ticking = asyncio.create_task(self._tick_for_ever(), name="simulate.tick")
        try:
            ends = (self._defect, telling, orders, ticking)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                if end.done():
                    end.result()
            await self._goodbye()
            self._write(final=True)
        finally:
            self._dialler.close()
            self._poller.close()
            for task in (telling, orders, ticking):
                task.cancel()
            await asyncio.gather(telling, orders, ticking, return_exceptions=True)

    def _populate(self) -> None:
        scenario, now_s = self._scenario, time.monotonic()
        for number in range(self._share, scenario.fleet.nodes, scenario.run.processes):
            node = Node(self.world, number, self._boot)
            line = Line(self.world, node, self._poller, self._dialler)
            node.start(now_s)
            self._lines[number] = line
            self._dialler.want(line)
        self.world.figures.nodes = len(self._lines)
        strikes = plan(scenario.parsed_faults, scenario.fleet.nodes, scenario.run.for_s, scenario.fleet.seed)
        self._strikes.extend(strike for strike in strikes if strike.node in self._lines)

    def _failed(self, what: BaseException | str) -> None:
        """A defect of ours ends us, or a node would be missing without a word."""
        if not self._defect.done():
            self._defect.set_exception(RuntimeError(what) if isinstance(what, str) else what)

    async def _goodbye(self) -> None:
        """Each node that is there says so, and leaves."""
        self._dialler.close()
        for line in self._lines.values():
            if line.node.is_connected and not line.is_muted:
                line.write(line.node.stop(time.monotonic()))
                line.leave()
            else:
                line.reset()
        until_s = time.monotonic() + GOODBYE_S
        while time.monotonic() < until_s and any(line.phase is Phase.OPEN for line in self._lines.values()):
            await asyncio.sleep(STEP_S)

    # ---- time -----------------------------------------------------------------------------------

    async def _tick_for_ever(self) -> None:
        """What has come in a step is read in one go: to wake for each costs more than to handle it."""
        before_s = time.monotonic()
        while True:
            is_more = self._poller.turn()
            now_s = time.monotonic()
            self._tick(now_s, now_s - before_s)
            before_s = now_s
            await asyncio.sleep(0 if is_more else STEP_S)

    def _tick(self, now_s: float, since_s: float) -> None:
        figures = self.world.figures
        figures.connected_node_s += figures.connected_now * since_s
        for due_s, (number, timer, of) in self.world.wheel.take(now_s):
            figures.lag.add((now_s - due_s) * 1000)
            self._due(self._lines[number], timer, of, now_s)
        while self._strikes and self._begin_s + self._strikes[0].at_s <= now_s and self.world.producing:
            strike = self._strikes.popleft()
            self._strike(self._lines[strike.node], strike, now_s)
        if self._all_connected_s is None and figures.connected_now == figures.nodes:
            self._all_connected_s = now_s - self._begin_s
        self._dialler.step(since_s, first=self._all_connected_s is None)

    def _due(self, line: Line, timer: Timer, of: int, now_s: float) -> None:
        if timer in _OWN_TIMERS:
            line.write(line.node.due(timer, of, now_s))
            return
        same_session = line.phase is Phase.OPEN and line.node.session == of
        if timer is Timer.CONNECT:
            self._dialler.want(line)
        elif timer is Timer.BOOTED:
            if not line.is_closed:  # what it had to say does not get through
                line.reset()
                self.world.wheel.put(now_s + STEP_S, (line.node.number, timer, of))
            elif line.phase is Phase.OFF:
                line.node.start(now_s, in_order=bool(of))
                line.phase = Phase.WAITING
                self._dialler.want(line)
        elif timer is Timer.FLAP:
            line.flap_until_s = now_s + LASTS_S[FaultKind.FLAP]
            self._flap(line, now_s)
        elif timer is Timer.DROP_AGAIN:
            self._flap(line, now_s)
        elif timer is Timer.READ_ON and same_session:
            line.read_on()
        elif (timer is Timer.FOUND_OUT and same_session) or (
            timer is Timer.CONNACK and line.opens == of and line.accepted_s is None
        ):
            line.reset()
        elif timer is Timer.CONNECTED:
            self._dialler.overdue(line, of)

    # ---- faults ---------------------------------------------------------------------------------

    def _strike(self, line: Line, strike: Strike, now_s: float) -> None:
        """A cut holds everybody; all else strikes only those that are well connected."""
        over_s = now_s + strike.lasts_s
        if strike.kind is FaultKind.CUT:
            line.held_until_s, line.attempt = over_s + SPREAD_S * self.world.dice.random(), 0
            line.reset()
        elif line.node.is_connected and not line.is_muted and line.phase is Phase.OPEN:
            self._strike_connected(line, strike.kind, now_s, over_s)
        else:
            return
        self.world.figures.faults += 1

    def _strike_connected(self, line: Line, kind: FaultKind, now_s: float, over_s: float) -> None:
        number, session, wheel = line.node.number, line.node.session, self.world.wheel
        match kind:
            case FaultKind.DROP:
                line.held_until_s, line.attempt = over_s, 0
                line.reset()
            case FaultKind.HALF_OPEN:
                line.mute()
                wheel.put(over_s, (number, Timer.FOUND_OUT, session))
            case FaultKind.SLOW:
                line.pause()
                wheel.put(over_s, (number, Timer.READ_ON, session))
            case FaultKind.FLAP:
                line.flap_until_s = over_s
                self._flap(line, now_s)
            case FaultKind.REBOOT | FaultKind.KILL:
                reboots = kind is FaultKind.REBOOT
                line.phase, line.attempt = Phase.OFF, 0
                if reboots:
                    line.write(line.node.stop(now_s))
                    line.leave()
                else:
                    line.close()
                wheel.put(over_s, (number, Timer.BOOTED, int(reboots)))

    def _flap(self, line: Line, now_s: float) -> None:
        if now_s >= line.flap_until_s:
            return
        line.attempt = 0
        line.reset()
        self.world.wheel.put(now_s + FLAP_EVERY_S, (line.node.number, Timer.DROP_AGAIN, 0))

    # ---- orders and figures ---------------------------------------------------------------------

    async def _obey(self) -> None:
        """`drain`: no events and no faults any more; `stop`, and the end of stdin, end us."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        try:
            while (line := (await reader.readline()).strip()) not in (b"", b"stop"):
                if line == b"drain":
                    self.world.producing = False
        finally:
            transport.close()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(FIGURES_EVERY_S)
            self._write(final=False)

    def _write(self, *, final: bool) -> None:
        figures = self.world.figures
        figures.cpu_s, figures.rss_mb = time.process_time(), max(figures.rss_mb, _rss_mb())
        told = {"figures": figures.plain(), "all_connected_s": self._all_connected_s, "final": final}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    """The first line of stdin says what is to be done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started us tells us to stop
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    with os.fdopen(0, "rb", buffering=0, closefd=False) as stdin:  # unbuffered: what follows is read later
        orders: dict[str, Any] = json.loads(stdin.readline())
    scenario = read(Scenario, orders["scenario"], strict=True)
    os.nice(scenario.run.nice)
    worker = Worker(scenario, orders["share"], orders["run"], orders["boot"], orders["begin_s"])
    try:
        asyncio.run(worker.run())
    except BrokenPipeError:
        return 1  # nobody listens any more
    except EdgewrightError as error:
        print(f"simulate: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
