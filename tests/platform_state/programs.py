"""The agent and the coordinator with declared collections, as processes of their own: `python -m … agent FILE`.

The agent's functions are played by a file of lines: each is one write, and is answered in a file beside it once it
has happened. While there is a file `fast`, it writes without a pause.
"""

import asyncio
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.agent import Agent
from agent.config import load_config as load_agent
from coordinator.config import load_config as load_coordinator
from coordinator.coordinator import run as run_coordinator
from platforms.assembly import Assembly, assemble
from platforms.settings import PlatformsTable
from schemas.state import StateRefusedError, StateView
from tests.agent_process.agents import ROOT, AgentProcess, wait_until
from tests.coordinator.process import Process
from tests.platform_state.nodes import COLLECTIONS

COUNTS = "traffic.counts"


class StateAgent(AgentProcess):
    """An agent whose functions write what a test says."""

    def start(self) -> "StateAgent":
        with self.log_path.open("ab") as log:
            command = [sys.executable, "-m", "tests.platform_state.programs", "agent", str(self.config)]
            environment = os.environ | self.environment
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
        return self

    def write(self, collection: str, key: str, value: Any, *, waits: bool = True) -> str:
        """What came of it: `done`, or why not."""
        count = len(self.answers())
        with (self.folder / "writes").open("a") as file:
            file.write(json.dumps([collection, key, value]) + "\n")
        if not waits:
            return ""
        wait_until(lambda: len(self.answers()) > count, lambda: self.log[-3000:])
        return self.answers()[-1]

    def write_fast(self, on: bool) -> None:
        """Whether it writes without a pause."""
        path = self.folder / "fast"
        path.touch() if on else path.unlink(missing_ok=True)

    def answers(self) -> list[str]:
        path = self.folder / "answers"
        return path.read_text().splitlines() if path.exists() else []


class StateCoordinator(Process):
    """A coordinator at which the platforms of the tests are installed."""

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "tests.platform_state.programs", "coordinator", str(self.config)]
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


async def _functions(state: StateView, folder: Path) -> None:
    """Follows the file, from where an earlier life of the process had come to."""
    writes, answers = folder / "writes", folder / "answers"
    while True:
        done = len(answers.read_text().splitlines()) if answers.exists() else 0
        lines = writes.read_text().splitlines()[done:] if writes.exists() else []
        for line in lines:
            collection, key, value = json.loads(line)
            said = "done"
            try:
                if value is None:
                    await state.delete(collection, key)
                else:
                    await state.put(collection, key, value)
            except StateRefusedError as error:
                said = str(error)
            with answers.open("a") as file:
                file.write(f"{said}\n")
        if (folder / "fast").exists():
            for _ in range(20):
                key = f"k{random.randrange(30)}"
                if random.random() < 0.1:
                    await state.delete(COUNTS, key)
                else:
                    await state.put(COUNTS, key, random.randrange(10**9))
        await asyncio.sleep(0.005 if (folder / "fast").exists() else 0.02)


def _declared() -> Assembly:
    assembly = assemble(PlatformsTable())
    assembly.collections = COLLECTIONS
    return assembly


async def _agent(path: Path) -> None:
    agent = Agent(load_agent(path), _declared())
    functions = asyncio.create_task(_functions(agent.parts.platform_state, path.parent))
    try:
        await agent.run()
    finally:
        functions.cancel()


def main() -> None:
    """The part named first, with the configuration named second."""
    what, path = sys.argv[1], Path(sys.argv[2])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(_agent(path) if what == "agent" else run_coordinator(load_coordinator(path), _declared()))


if __name__ == "__main__":
    main()
