"""The coordinator as it is, with a point where it kills itself, or with a defect that the checker must find."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.faultlib.points import arm_coordinator
from coordinator import coordinator
from coordinator.config import load_config
from coordinator.store.sqlite import SqliteStore
from runtime.logs import LogForm, setup_logging


def lie_about_commits(every: int) -> None:
    """A defect on purpose: each `every`-th batch is answered as stored and thrown away."""
    original: Any = SqliteStore.commit
    count = 0

    async def commit(self: SqliteStore, batch: Any) -> Any:
        nonlocal count
        count += 1
        if count % every == 0:
            batch.events.clear()
            batch.samples.clear()
        return await original(self, batch)

    SqliteStore.commit = commit  # type: ignore[method-assign, assignment]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.faultlib.coordinator_node", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--point", default="", help="name:n, where it kills itself")
    parser.add_argument("--lie", type=int, default=0, help="every n-th batch is lost after all")
    arguments = parser.parse_args(argv)
    setup_logging("INFO", form=LogForm.PLAIN, secrets=[])
    arm_coordinator(arguments.point)
    if arguments.lie:
        lie_about_commits(arguments.lie)
    asyncio.run(coordinator.run(load_config(arguments.config)))


if __name__ == "__main__":
    main()
