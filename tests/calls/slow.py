"""A real agent or coordinator with functions that take as long as a test wants: `python -m tests.calls.slow PROGRAM`.

`analyse` takes `steps` of `step_s` each and tells how far it is; `hold` waits for ever, once at a time; `declared` is
declared and not bound.
"""

import asyncio
import sys
from dataclasses import dataclass

import agent.wiring.outside
import coordinator.coordinator
from agent.__main__ import main as agent_main
from coordinator.__main__ import main as coordinator_main
from runtime.calls.served import Call, Nothing, Served, Table, arguments

MAINS = {"agent": agent_main, "coordinator": coordinator_main}


@dataclass(frozen=True, slots=True)
class AnalyseOf:
    steps: int = 3
    step_s: float = 0.1


async def analyse(call: Call, given: AnalyseOf) -> dict[str, int]:
    for step in range(given.steps):
        call.progress(step / given.steps, f"step {step + 1} of {given.steps}")
        await asyncio.sleep(given.step_s)
    return {"steps": given.steps}


async def hold(call: Call, given: Nothing) -> None:
    call.progress(text="holding")
    await asyncio.Event().wait()


SLOW = [
    Served("analyse", arguments(AnalyseOf), analyse, timeout_s=600.0),
    Served("hold", arguments(Nothing), hold, timeout_s=600.0, parallel=1),
]


def main(program: str, argv: list[str]) -> int:
    """As the program's own `main`."""
    unbound = {"declared": "no function is bound to it"}
    for module in (agent.wiring.outside, coordinator.coordinator):
        setattr(module, "table_of", lambda own, hosting, rules: Table([*own, *SLOW], unbound))  # noqa: B010
    return MAINS[program](argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
