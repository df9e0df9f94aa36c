"""The driver under every order of wishes, orders, failures and ends; and the file that it writes."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.workloads.command_line import mark_of
from agent.workloads.containers import ContainerRunner
from agent.workloads.errors import NotNowError, WorkloadError
from agent.workloads.fit import Room
from agent.workloads.machine import Ended, Order, Standing
from agent.workloads.runner import Begun
from agent.workloads.settings import WorkloadSettings
from agent.workloads.store import FILE_NAME, NOTES_MAX, WorkloadsFile
from agent.workloads.workloads import Workloads
from schemas.workloads import ContainerSpec, Restart, WorkloadSpec, WorkloadState, WorkloadType
from tests.workloads.pods import WAIT_S, on_loop

NAMES = ("a", "b", "c")
QUICK = WorkloadSettings(restart_first_s=0.001, restart_max_s=0.004, stable_s=30.0, crash_loop_max=0)
TICK_S = 0.002


class World:
    """A runner whose things fail and end as the dice say; it notices two of one name at a time."""

    resumes = True

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.is_kind = False  # then nothing fails any more
        self.active: dict[str, str] = {}
        self.started = 0
        self._ends: dict[str, asyncio.Future[Ended]] = {}

    def refusal(self, name: str, spec: WorkloadSpec) -> str | None:
        return "odd" if spec.generation % 7 == 0 else None

    async def start(self, name: str, spec: WorkloadSpec, *, resume: bool) -> Begun:
        assert name not in self.active, f"two of {name} at a time"
        await self._pause()
        if not self.is_kind and self.dice.random() < 0.2:
            raise self.dice.choice([NotNowError("no image"), WorkloadError("no command"), KeyError("a defect")])
        self.active[name] = mark_of(spec)
        self.started += 1
        self._ends[name] = asyncio.get_running_loop().create_future()
        await self._pause()  # cancelled here, it runs all the same
        return Begun()

    async def ended(self, name: str, spec: WorkloadSpec) -> Ended:
        return await asyncio.shield(self._ends[name])

    async def stop(self, name: str, spec: WorkloadSpec, grace_s: float | None = None) -> None:
        await self._pause()
        self.active.pop(name, None)
        if not self.is_kind and self.dice.random() < 0.05:
            raise KeyError("a defect in stopping")

    async def logs(self, name: str, lines: int) -> list[str] | None:
        return None

    def end(self, name: str, ok: bool | None = None) -> None:
        """By itself."""
        if name in self.active and not self._ends[name].done():
            del self.active[name]
            self._ends[name].set_result(Ended(self.dice.random() < 0.5 if ok is None else ok, "ended"))

    async def _pause(self) -> None:
        await asyncio.sleep(self.dice.choice([0.0, 0.0, TICK_S]))


def specs(dice: random.Random) -> dict[str, WorkloadSpec]:
    chosen = [name for name in NAMES if dice.random() < 0.7]
    return {name: spec(dice.randint(1, 7), restart=dice.choice(list(Restart))) for name in chosen}


def spec(generation: int = 1, restart: Restart = Restart.ALWAYS) -> WorkloadSpec:
    return WorkloadSpec(WorkloadType.CONTAINER, generation, restart=restart, container=ContainerSpec("pump"))


async def live(folder: Path, seed: int) -> None:
    dice = random.Random(seed)
    world, file = World(dice), WorkloadsFile(folder / FILE_NAME)
    told: list[str] = []
    driver = Workloads(
        QUICK, file, dict.fromkeys(WorkloadType, world), ContainerRunner("gw-1", QUICK),
        room=Room({}), announce=lambda kind, subject, data: told.append(kind),
    )  # fmt: skip
    task = asyncio.create_task(driver.run())
    for _ in range(dice.randint(5, 25)):
        match dice.randint(0, 3):
            case 0:
                driver.follow(specs(dice))
            case 1:
                world.end(dice.choice(NAMES))
            case 2:
                if (one := driver._ones.get(dice.choice(NAMES))) is not None:
                    one.machine.order(dice.choice(list(Order)), one.machine._now)
                    one.wake.set()
            case 3:
                await asyncio.sleep(dice.choice([0.0, TICK_S, 2 * TICK_S]))
        if task.done():  # by a defect of the world: its supervisor starts it again
            assert isinstance(task.exception(), KeyError), task.exception()
            task = asyncio.create_task(driver.run())
    world.is_kind = True
    wanted = {name: spec(8 + n) for n, name in enumerate(NAMES[: dice.randint(0, 3)])}
    driver.follow(wanted)
    expected = {name: mark_of(one) for name, one in wanted.items()}
    async with asyncio.timeout(WAIT_S):
        while world.active != expected or set(driver.states().values()) - {"running"} or driver._defect:
            await asyncio.sleep(0.001)
            if task.done():
                task = asyncio.create_task(driver.run())
    driver.stop()
    await task
    assert world.active == {}
    assert told.count("WorkloadStarted") <= world.started
    kept = file.standings()
    assert {name: one.state for name, one in kept.items()} == dict.fromkeys(wanted, WorkloadState.STARTING)
    file.close()


@given(seed=st.integers(0, 2**32))
@settings(max_examples=25)
def test_in_the_end_runs_what_is_wanted_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    asyncio.run(live(tmp_path_factory.mktemp("w"), seed))


@on_loop
async def test_a_spec_is_pending_until_it_runs_and_refused_once_it_was_given_up(tmp_path: Path) -> None:
    world, file = World(random.Random(1)), WorkloadsFile(tmp_path / FILE_NAME)
    world.is_kind = True
    driver = Workloads(
        QUICK, file, dict.fromkeys(WorkloadType, world), ContainerRunner("gw-1", QUICK),
        room=Room({}), announce=lambda kind, subject, data: None,
    )  # fmt: skip
    task = asyncio.create_task(driver.run())

    async def until(true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                await asyncio.sleep(0.001)

    path = "workloads.a.spec"
    for generation in (1, 2):
        driver.follow({"a": spec(generation, Restart.NEVER)})
        assert driver.fields().pending == {path: "not begun yet"}
        await until(lambda: not driver.fields().pending)
        said = driver.fields()
        assert (said.holds["workloads.a.state"]["generation"], said.refused) == (generation, {})
    world.end("a", ok=False)
    await until(lambda: driver.fields().refused == {path: "ended"})
    driver.follow({"a": spec(7)})  # refused from the start: the plan says so
    assert (driver.fields().pending, driver.fields().refused) == ({}, {})
    driver.stop()
    await task
    file.close()


# ---- the file -------------------------------------------------------------------------------------


def test_the_file_keeps_the_newest_notes_and_gives_an_order_once(tmp_path: Path) -> None:
    file, other = WorkloadsFile(tmp_path / FILE_NAME), WorkloadsFile(tmp_path / FILE_NAME)
    standing = Standing(WorkloadType.CONTAINER, WorkloadState.RUNNING, 3, restarts=2, held=True, mark="ab")
    for n in range(NOTES_MAX + 5):
        file.keep({"a": standing}, [("a", n * 1000, f"note {n}")])
    assert other.standings() == {"a": standing}
    assert len(other.notes("a", 10_000)) == NOTES_MAX
    assert other.notes("a", 2)[-1] == "1970-01-01T00:03:24Z note 204"
    before = file.changes()
    other.order("a", Order.RESTART)
    other.order("a", Order.STOP)
    assert file.changes() != before
    assert file.take_orders() == [("a", Order.RESTART), ("a", Order.STOP)]
    assert file.take_orders() == []
    file.keep({"a": None}, [])
    assert other.standings() == {}
    file.close()
    other.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"this is no database at all" * 100)
    file = WorkloadsFile(path, set_aside=True)
    assert file.standings() == {}
    file.close()
    assert path.with_name("workloads.db.damaged-1").exists()


@on_loop
async def test_what_the_disk_does_not_take_is_written_later(tmp_path: Path) -> None:
    world, file = World(random.Random(1)), WorkloadsFile(tmp_path / FILE_NAME)
    world.is_kind = True
    driver = Workloads(
        QUICK, file, dict.fromkeys(WorkloadType, world), ContainerRunner("gw-1", QUICK),
        room=Room({}), announce=lambda kind, subject, data: None,
    )  # fmt: skip
    (pages,) = file._db.execute("PRAGMA page_count").fetchone()
    file._db.execute(f"PRAGMA max_page_count = {pages}")
    driver.follow({f"w{n}": spec() for n in range(16)})
    task = asyncio.create_task(driver.run())
    async with asyncio.timeout(WAIT_S):
        while list(driver.states().values()) != ["running"] * 16:
            await asyncio.sleep(0.01)
        file._db.execute("PRAGMA max_page_count = 100000")
        while {one.state for one in file.standings().values()} != {WorkloadState.RUNNING}:
            await asyncio.sleep(0.01)
    driver.stop()
    await task
    file.close()
