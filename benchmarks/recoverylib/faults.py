"""What is done to the plant, a line of the table for each kind. A fault ends after `hold_s`; nobody mends anything.

`per_year`: how often a node meets it, for the availability; assumptions, to be replaced by a fleet's own figures.
`imposed`: while it lasts there is nothing to decide (the camera is off): these seconds are not the product's.
"""

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.recoverylib.plant import Machine, Plant, PlantError

Act = Callable[[Plant, Machine], object]
ACCELERATOR_S = 30.0


def _nothing(plant: Plant, machine: Machine) -> None:
    """The fault was over as soon as it was there."""


Also = Callable[[Plant, Machine], str]


def _on_accelerator(plant: Plant, machine: Machine) -> str:
    return plant.on_accelerator(machine)


def _fulfils(plant: Plant, machine: Machine) -> str:
    return plant.fulfils(machine)


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault. `weight`: how often in the campaign, against the others."""

    kind: str
    begin: Act
    end: Act = _nothing
    hold_s: float = 0.0
    per_year: float = 1.0
    weight: int = 4
    site: bool = False  # it concerns every node
    imposed: bool = False
    volume: bool = False  # needs a volume of its own
    pods: bool = False  # needs podman
    clock: bool | None = None  # True: of nodes whose clock can jump, False: of the others, None: of any
    also: Also = _fulfils  # what else must be so again; nodes run the model and the container that are wanted


# ---- the agent and what is beneath it ------------------------------------------------------------


def _accelerator(machine: Machine) -> list[int]:
    """The accelerator's processes of an agent; waits for one, since an earlier fault may just be over."""
    until_s = time.monotonic() + ACCELERATOR_S
    while time.monotonic() < until_s:
        found = []
        for task in Path(f"/proc/{machine.agent.pid}/task").glob("*/children"):
            try:
                found += [int(pid) for pid in task.read_text(encoding="ascii").split()]
            except OSError:
                continue
        if found:
            return found
        time.sleep(0.1)
    raise PlantError(f"{machine.name} has no accelerator's process")


def _signal_accelerator(number: signal.Signals) -> Act:
    def act(plant: Plant, machine: Machine) -> None:
        for pid in _accelerator(machine):
            os.kill(pid, number)

    return act


def _damage(name: str) -> Act:
    """The agent is killed, and some of a file of its data is written over before it starts again."""

    def act(plant: Plant, machine: Machine) -> None:
        machine.agent.kill(hold=True)
        path = machine.folder / name
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        if path.exists():
            size, noise = path.stat().st_size, random.Random(time.monotonic_ns()).randbytes(4096)
            with path.open("r+b") as file:
                file.seek(max(0, size // 2 // 4096 * 4096))
                file.write(noise)
        machine.agent.release()

    return act


def _damage_model(plant: Plant, machine: Machine) -> None:
    """The agent is killed, and the files of the models in its cache are written over before it starts again."""
    machine.agent.kill(hold=True)
    for path in (machine.folder / "models" / "blobs").glob("*/*"):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"damaged by the campaign")
    machine.agent.release()


def _kill_container(plant: Plant, machine: Machine) -> None:
    assert plant.pods is not None
    for name in plant.pods.ids(machine.name, running=True):
        plant.pods.call("kill", name)


def _fill(folder: Callable[[Plant, Machine], Path]) -> Act:
    """Until a few hundred kB are left."""

    def act(plant: Plant, machine: Machine) -> None:
        at = folder(plant, machine)
        with (at / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(at).free - 200_000))

    return act


def _empty(folder: Callable[[Plant, Machine], Path]) -> Act:
    def act(plant: Plant, machine: Machine) -> None:
        (folder(plant, machine) / "filler").unlink()

    return act


def _clock(offset: str) -> Act:
    def act(plant: Plant, machine: Machine) -> None:
        draft = machine.offset.with_suffix(".new")
        draft.write_text(offset, encoding="ascii")
        draft.replace(machine.offset)

    return act


def _flap(plant: Plant, machine: Machine) -> None:
    for _ in range(6):
        machine.proxy.cut()
        time.sleep(0.7)


# ---- what all nodes share ------------------------------------------------------------------------


def _lock_database(plant: Plant, machine: Machine) -> None:
    """Somebody else holds the coordinator's database for 8 s: a copy, a look with a tool."""

    def hold() -> None:
        with closing(sqlite3.connect(plant.coordinator_data / "coordinator.db", timeout=30.0)) as db:
            db.execute("BEGIN IMMEDIATE")
            time.sleep(8.0)
            db.rollback()

    threading.Thread(target=hold, name="locker").start()


def _power_cut(plant: Plant, machine: Machine) -> None:
    """Everything at once."""
    services = [plant.broker, plant.coordinator, *(one.agent for one in plant.machines)]
    for service in services:
        service.signal(signal.SIGKILL)


def _node_data(plant: Plant, machine: Machine) -> Path:
    return machine.folder


def _coordinator_data(plant: Plant, machine: Machine) -> Path:
    return plant.coordinator_data


STOP, CONT, KILL = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL

FAULTS: tuple[Fault, ...] = (
    Fault("agent_killed", lambda plant, one: one.agent.kill(), per_year=12, weight=10),
    Fault("agent_hung", lambda plant, one: one.agent.signal(STOP), per_year=1, weight=2),
    Fault("power_cut", _power_cut, per_year=4, site=True, weight=5),
    Fault("accelerator_killed", _signal_accelerator(KILL), per_year=12, weight=8, also=_on_accelerator),
    Fault("accelerator_hung", _signal_accelerator(STOP), per_year=12, weight=6, also=_on_accelerator),
    Fault("camera_killed", lambda plant, one: one.camera.kill(hold=True), lambda plant, one: one.camera.release(),
          3.0, per_year=24, weight=8, imposed=True),
    Fault("camera_hung", lambda plant, one: one.camera.signal(STOP), lambda plant, one: one.camera.signal(CONT),
          8.0, per_year=24, weight=5, imposed=True),
    Fault("link_refused", lambda plant, one: one.proxy.refuse(), lambda plant, one: one.proxy.forward(),
          5.0, per_year=200, weight=8),
    Fault("link_half_open", lambda plant, one: one.proxy.half_open(), lambda plant, one: one.proxy.forward(),
          12.0, per_year=50, weight=5),
    Fault("link_stalled", lambda plant, one: one.proxy.stall(), lambda plant, one: one.proxy.forward(),
          10.0, per_year=50, weight=5),
    Fault("link_slow", lambda plant, one: one.proxy.slow(delay_s=0.3, bytes_s=8000),
          lambda plant, one: one.proxy.forward(), 8.0, per_year=100, weight=5),
    Fault("link_flapping", _flap, per_year=50, weight=6),
    Fault("disk_full", _fill(_node_data), _empty(_node_data), 8.0, per_year=2, weight=6, volume=True),
    Fault("outbox_damaged", _damage("outbox.db"), per_year=0.2, weight=6),
    Fault("results_damaged", _damage("results.db"), per_year=0.2, weight=5),
    Fault("model_damaged", _damage_model, per_year=0.2, weight=6, clock=False),
    Fault("container_killed", _kill_container, per_year=12, weight=6, pods=True),
    Fault("clock_ahead", _clock("+1d"), _clock("+0"), 6.0, per_year=2, weight=5, clock=True),
    Fault("clock_behind", _clock("-1d"), _clock("+0"), 6.0, per_year=2, weight=5, clock=True),
    Fault("broker_killed", lambda plant, one: plant.broker.kill(), per_year=12, site=True, weight=8),
    Fault("broker_hung", lambda plant, one: plant.broker.signal(STOP), lambda plant, one: plant.broker.signal(CONT),
          12.0, per_year=2, site=True, weight=3),
    Fault("coordinator_killed", lambda plant, one: plant.coordinator.kill(), per_year=12, site=True, weight=8),
    Fault("coordinator_hung", lambda plant, one: plant.coordinator.signal(STOP), per_year=2, site=True, weight=2),
    Fault("database_locked", _lock_database, hold_s=8.0, per_year=12, site=True, weight=4),
    Fault("database_disk_full", _fill(_coordinator_data), _empty(_coordinator_data), 8.0, per_year=2, site=True,
          weight=4, volume=True),
)  # fmt: skip
