"""The load node: a real agent from a real agent.toml, with a source that appends rows and keeps its own journal.

Each row carries a `uid`. The journal has one line before a row is appended (`I uid lane`) and one after `append` has
returned (`C uid lane`): committed. What has only the first may or may not have been committed.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from agent.agent import Agent
from agent.config import load_config
from agent.outbox.rows import Draft
from benchmarks.faultlib.points import arm_agent
from runtime.errors import EdgewrightError
from runtime.logs import LogForm, setup_logging
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.messages import Severity

GROUP = (Lane.EVENT, Lane.ALERT, Lane.SAMPLE, Lane.SAMPLE, Lane.EVENT, Lane.LIFECYCLE, Lane.SAMPLE, Lane.SAMPLE)


class Journal:
    """Lines appended with one write each: a kill leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, mark: str, rows: Sequence[tuple[str, Lane]]) -> None:
        os.write(self._fd, "".join(f"{mark} {uid} {lane.value}\n" for uid, lane in rows).encode())


def draft(lane: Lane, uid: str, pad: int = 0) -> Draft:
    """A row of the load; `pad` characters make it larger."""
    data = {"uid": uid, "value": 1.5} | ({"pad": "x" * pad} if pad else {})
    severity = Severity.WARNING if lane is Lane.ALERT else None
    kind = {Lane.ALERT: "AlertRaised", Lane.SAMPLE: "Level", Lane.LIFECYCLE: "CameraStateChanged"}.get(lane, "Load")
    if lane is Lane.ALERT:
        data |= {"rule": "load", "alert_id": uid, "state": "raised"}
    if lane is Lane.LIFECYCLE:
        data |= {"state": "running"}
    return Draft(lane, kind, "load", time.time_ns() // 1_000_000, data, severity)


async def load(agent: Agent, journal: Journal, arguments: argparse.Namespace) -> None:
    """Appends groups of rows until `--count` rows are there, at most `--rate` a second."""
    life, number = secrets.token_hex(4), 0
    started_s = time.monotonic()
    oversize = arguments.oversize
    lanes = [Lane(arguments.lane)] * len(GROUP) if arguments.lane else GROUP
    while not arguments.count or number < arguments.count:
        rows = [(f"{life}-{number + n}", lane) for n, lane in enumerate(lanes)]
        number += len(rows)
        journal.write("I", rows)
        await agent.parts.outbox.append([draft(lane, uid, arguments.pad) for uid, lane in rows])
        journal.write("C", rows)
        if oversize:  # a row that no message can hold is refused at once, and costs nobody else anything
            oversize -= 1
            with contextlib.suppress(LocalWireError):
                await agent.parts.outbox.append([draft(Lane.EVENT, f"{life}-oversize-{oversize}", 8_000_000)])
                raise AssertionError("an oversize row was taken")
        await asyncio.sleep(max(0.0, started_s + number / arguments.rate - time.monotonic()))


async def run(arguments: argparse.Namespace) -> None:
    """Until a signal; the load is one task beside the agent's own."""
    agent = Agent(load_config(arguments.config))
    source: asyncio.Task[None] | None = None
    if arguments.rate > 0:
        source = asyncio.create_task(load(agent, Journal(arguments.journal), arguments), name="load")
    try:
        await agent.run()
    finally:
        if source is not None:
            source.cancel()
            with contextlib.suppress(asyncio.CancelledError, EdgewrightError):
                await source


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.faultlib.node", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="rows a second; 0: only drain")
    parser.add_argument("--count", type=int, default=0, help="rows of this life; 0: no end")
    parser.add_argument("--pad", type=int, default=0, help="characters more in each row")
    parser.add_argument("--lane", default="", help="all rows go there; without it each group has rows of several")
    parser.add_argument("--oversize", type=int, default=0, help="rows no message can hold")
    parser.add_argument("--point", default="", help="name:n, where it kills itself")
    arguments = parser.parse_args(argv)
    setup_logging("INFO", form=LogForm.PLAIN, secrets=[])
    arm_agent(arguments.point)
    asyncio.run(run(arguments))


if __name__ == "__main__":
    main()
