"""A whole simulation: starts the worker processes, tells what they do, sums up. Driver."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordinator.simulate.figures import Figures, parse, report, total
from coordinator.simulate.scenario import Scenario
from runtime.errors import PermanentError
from schemas.shape import fields_of

START_S = 1.0  # from the start of the processes to the first connection, and a bit more for each
LINE_BYTES_MAX = 1024 * 1024
STOP_S = 30.0  # and a second for each so many nodes: each says goodbye
STOPS_PER_S = 300
LOOK_EVERY_S = 0.2
TELL_EVERY_S = 1.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Look:
    """How it stands, for people. `since_s` is from the begin of the run; negative while the processes start."""

    since_s: float
    draining: bool
    figures: Figures


@dataclass(slots=True)
class _Share:
    """What one worker has told last."""

    process: asyncio.subprocess.Process
    figures: Figures = field(default_factory=Figures)
    all_connected_s: float | None = None
    told: int = 0
    final: bool = False


class Fleet:
    """One run of a scenario. `stop` ends it early, in order; a second time: without waiting for answers."""

    def __init__(self, scenario: Scenario, on_look: Callable[[Look], None] = lambda look: None) -> None:
        self.run_id = secrets.token_hex(8)
        self._boot = int(time.time())  # later than that of any run before, as a boot has to be
        self._scenario = scenario
        self._on_look = on_look
        self._shares: list[_Share] = []
        self._stops = 0
        self._begin_s = 0.0

    @property
    def begin_s(self) -> float:
        """The monotonic time of the first connection, from which faults are counted; 0 before the start."""
        return self._begin_s

    def stop(self) -> None:
        """Also from a signal."""
        self._stops += 1

    async def run(self) -> dict[str, Any]:
        """The report. Raises PermanentError when a worker ends before its time."""
        run = self._scenario.run
        self._begin_s = time.monotonic() + START_S + 0.3 * run.processes
        readers: list[asyncio.Task[None]] = []
        stop_s = STOP_S + self._scenario.fleet.nodes / STOPS_PER_S
        try:
            for share in range(run.processes):
                one = _Share(await self._start(share))
                self._shares.append(one)
                readers.append(asyncio.create_task(self._read(one), name=f"simulate.worker[{share}]"))
            await self._until(self._begin_s + run.for_s, readers, lambda: False, draining=False, stops=1)
            self._order("drain")
            told = [share.told for share in self._shares]
            settled = lambda: self._settled(told)  # noqa: E731
            await self._until(time.monotonic() + run.drain_s, readers, settled, draining=True, stops=2)
            end = self._sum()
            wall_s = time.monotonic() - self._begin_s
            self._order("stop")
            async with asyncio.timeout(stop_s):
                await asyncio.gather(*readers)
        except TimeoutError as error:
            raise PermanentError(f"simulate: a worker did not end within {stop_s:g} s") from error
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await self._kill()
        return self._report(end, wall_s)

    def _report(self, end: Figures, wall_s: float) -> dict[str, Any]:
        connected = [share.all_connected_s for share in self._shares]
        whole = [one for one in connected if one is not None]
        all_connected_s = max(whole) if len(whole) == len(connected) else None
        found = report(end, all_connected_s=all_connected_s, wall_s=wall_s)
        return {**found, "run": self.run_id, "boot": self._boot, "seed": self._scenario.fleet.seed}

    def _settled(self, told: list[int]) -> bool:
        """All are there and have their answers, as each has said twice since it was told to drain."""
        sum_ = self._sum()
        fresh = all(share.told >= before + 2 for share, before in zip(self._shares, told, strict=True))
        return fresh and sum_.connected_now == sum_.nodes and not sum_.waiting_now

    async def _until(
        self,
        until_s: float,
        readers: list[asyncio.Task[None]],
        done: Callable[[], bool],
        *,
        draining: bool,
        stops: int,
    ) -> None:
        tell_s = 0.0
        while (now_s := time.monotonic()) < until_s and self._stops < stops and not done():
            for reader in readers:
                if reader.done():
                    reader.result()
                    raise PermanentError("simulate: a worker ended before its time", hint="see what it said above")
            if now_s >= tell_s:
                tell_s = now_s + TELL_EVERY_S
                self._on_look(Look(now_s - self._begin_s, draining, self._sum()))
            await asyncio.sleep(min(LOOK_EVERY_S, until_s - now_s))

    def _sum(self) -> Figures:
        return total(share.figures for share in self._shares)

    # ---- processes ------------------------------------------------------------------------------

    async def _start(self, share: int) -> asyncio.subprocess.Process:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "coordinator.simulate.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            limit=LINE_BYTES_MAX,
            start_new_session=True,  # Ctrl-C at the terminal is ours
        )
        orders = {
            "scenario": fields_of(self._scenario),
            "share": share,
            "run": self.run_id,
            "boot": self._boot,
            "begin_s": self._begin_s,
        }
        _send(process, json.dumps(orders))
        return process

    async def _read(self, share: _Share) -> None:
        assert share.process.stdout is not None, "a pipe"
        while line := await share.process.stdout.readline():
            told = json.loads(line)
            share.figures = parse(told["figures"])
            share.all_connected_s = told["all_connected_s"]
            share.told += 1
            share.final = told["final"]
        status = await share.process.wait()
        if status or not share.final:
            raise PermanentError(f"simulate: a worker ended with status {status}", hint="see what it said above")

    def _order(self, text: str) -> None:
        for share in self._shares:
            _send(share.process, text)

    async def _kill(self) -> None:
        """What is still there after an error."""
        for share in self._shares:
            if share.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    share.process.kill()
                await share.process.wait()


def _send(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdin is not None, "a pipe"
    with contextlib.suppress(ConnectionError):  # it has ended, which is seen where its figures are read
        process.stdin.write(text.encode() + b"\n")


async def simulate(scenario: Scenario, on_look: Callable[[Look], None] = lambda look: None) -> dict[str, Any]:
    """One run, ended early and in order by SIGINT or SIGTERM."""
    fleet = Fleet(scenario, on_look)
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, fleet.stop)
    try:
        return await fleet.run()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
