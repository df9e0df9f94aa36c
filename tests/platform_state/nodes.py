"""A node's platform state on real files, driven by a test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.outbox.encode import sync_row
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Row
from agent.outbox.settings import OutboxSettings
from agent.platform_state.platform_state import PlatformState
from agent.platform_state.settings import StateSettings
from agent.platform_state.store import ValuesFile
from agent.platform_state.tables import FILE_NAME
from schemas.fields import Owner, Rule
from schemas.identity import Lane
from schemas.state import Collection, Collections
from tests.coordinator.sender import until

NODE = "gw-1"


def is_phase(key: str, value: Any) -> str | None:
    good = isinstance(value, dict) and value.get("phase") in ("red", "green", "off")
    return None if good else f"{key}: phase must be red, green or off"


COLLECTIONS = Collections(
    [
        Collection("traffic", "intersections", check=is_phase),
        Collection("traffic", "counts"),
        Collection("traffic", "plans", Owner.COORDINATOR),
        Collection("traffic", "limits", Owner.SHARED, Rule.MAX),
        Collection("retail", "visitors", personal=True),
    ]
)


@dataclass(frozen=True, slots=True)
class Node:
    """One life."""

    state: PlatformState
    outbox: Outbox
    folder: Path

    def rows(self) -> list[Row]:
        """What is in the outbox and has not been answered."""
        return self.outbox.file.take(Lane.STATE, 0, 10_000)

    def said(self) -> list[dict[str, Any]]:
        return [dict(sync_row(row).data) for row in self.rows()]

    def values(self) -> dict[str, Any]:
        """The newest value of each key that is in the outbox, by stamp."""
        newest: dict[str, dict[str, Any]] = {}
        for data in self.said():
            path = f"{data['collection']}.{data['key']}"
            if path not in newest or order(data) > order(newest[path]):
                newest[path] = data
        return {path: data["value"] for path, data in newest.items()}

    async def until_said(self, count: int) -> list[dict[str, Any]]:
        await until(lambda: len(self.said()) >= count)
        return self.said()


def order(data: dict[str, Any]) -> tuple[int, int]:
    wall, counter, _ = data["at"].split(".", 2)
    return int(wall), int(counter)


@asynccontextmanager
async def node(
    folder: Path,
    collections: Collections = COLLECTIONS,
    *,
    runs: bool = True,
    boot: int = 1,
    outbox: OutboxSettings | None = None,
    in_order: bool = True,
    **settings: Any,
) -> AsyncIterator[Node]:
    """`runs`: whether what changes is put into the outbox. `in_order`: whether it stops or is cut off."""
    settings = {"min_interval_s": 0.0, **settings}
    file = OutboxFile(folder / "outbox.db", node=NODE, boot=boot, settings=outbox)
    box = Outbox(file)
    state = PlatformState(
        ValuesFile(folder / FILE_NAME, NODE), collections, StateSettings(**settings), box, node=NODE
    )
    task = asyncio.create_task(state.run(), name="platform-state") if runs else None
    try:
        yield Node(state, box, folder)
    finally:
        if task is not None:
            if in_order:
                state.stop()
            else:
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None, task.exception()
        state.close()
        file.close()
