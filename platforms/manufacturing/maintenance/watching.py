"""Predictive_Maintenance at a node: windows of sensors in; events, samples and state out."""

import asyncio
from typing import Any

from platforms.context import BadArgumentError, Context
from platforms.functions import at_start, function, on_samples
from platforms.manufacturing.maintenance.baseline import Usual
from platforms.manufacturing.maintenance.monitor import Memory
from platforms.manufacturing.maintenance.plant import Machine, Plant, Point, Told, memories
from platforms.manufacturing.maintenance.settings import read_maintenance
from platforms.manufacturing.types import MachineBaseline, MachineReport, MachineState
from platforms.samples import SampleWindow
from schemas.language.validators import into
from schemas.shape import fields_of

MACHINES, BASELINES = "manufacturing.machines", "manufacturing.machine_baselines"
STATE_EVERY_S = 10.0  # levels change with each window: that often they are written
_PLANT, _LOCKS = "maintenance.plant", "maintenance.locks"


@at_start
async def open_plant(context: Context) -> None:
    """Reads the machines of `[platforms.manufacturing]`, and what was learnt of them before."""
    settings = read_maintenance(context.settings)
    plant = Plant(settings)
    kept = await context.state.entries(BASELINES) if plant.machines else []
    memories(
        {one.key: _memory(into(MachineBaseline, one.value)) for one in kept if one.written_by == context.host}, plant
    )
    context.memory[_PLANT] = plant
    for machine in plant.machines.values():
        await _put_state(context, machine)
    for entry in await context.state.entries(MACHINES):
        if entry.written_by == context.host and entry.key not in plant.machines:
            await context.state.delete(MACHINES, entry.key)


@on_samples
async def watch_machines(context: Context, window: SampleWindow) -> None:
    """Windows of machines' sensors; those of others are none of our business."""
    plant: Plant | None = context.memory.get(_PLANT)
    for machine in plant.concerned(window.sensor) if plant else ():
        assert plant is not None
        async with _lock(context, machine):
            await _tell(context, await asyncio.to_thread(plant.take, machine, window), window.ended_s)


def _lock(context: Context, machine: Machine) -> asyncio.Lock:
    """One at a time: each of its sensors comes by a task of its own, and is looked at in a thread."""
    locks: dict[str, asyncio.Lock] = context.memory.setdefault(_LOCKS, {})
    return locks.setdefault(machine.id, asyncio.Lock())


async def _tell(context: Context, told: Told, now_s: float) -> None:
    machine = told.machine
    for figures in told.figures:
        await context.emit("MachineMeasured", figures, subject=machine.id, routine=True)
    for advice in told.advice:
        await context.emit("MaintenanceAdvised", advice, subject=machine.id)
    if told.before is not None:
        changed = {
            "machine_id": machine.id,
            "condition": machine.condition.value,
            "before": told.before.value,
            "reasons": machine.reasons(),
        }
        await context.emit("ConditionChanged", changed, subject=machine.id)
    if told.before is not None or told.advice or now_s - machine.told_s >= STATE_EVERY_S:
        machine.told_s = now_s
        await _put_state(context, machine)
    for point in told.learnt:
        await _keep(context, machine, point)


async def _put_state(context: Context, machine: Machine) -> None:
    state = machine.state(context.host)
    if state != machine.told:
        await context.state.put(MACHINES, machine.id, fields_of(state))
        machine.told = state


async def _keep(context: Context, machine: Machine, point: Point) -> None:
    assert point.monitor is not None
    memory = point.monitor.memory()
    usual = memory.usual
    baseline = MachineBaseline(
        usual.centre if usual else None,
        usual.spread if usual else None,
        usual.windows if usual else len(memory.values),
        tuple(float(f"{value:.6g}") for value in memory.values),
        tuple(round(value, 6) for pair in memory.course for value in pair),
    )
    await context.state.put(BASELINES, f"{machine.id}/{point.settings.title}", fields_of(baseline))


def _memory(kept: MachineBaseline) -> Memory:
    usual = None
    if kept.centre is not None and kept.spread is not None:
        usual = Usual(kept.centre, kept.spread, kept.windows)
    course = tuple(zip(kept.course[::2], kept.course[1::2], strict=False))
    return Memory(usual, kept.values, course)


@function("machineCondition")
async def machine_condition(context: Context, machine_id: str = "") -> list[MachineReport]:
    """What nodes have written of their machines; of one machine, or of all."""
    entries = await context.state.entries(MACHINES)
    found: list[Any] = [one for one in entries if not machine_id or one.key == machine_id]
    if machine_id and not found:
        known = ", ".join(sorted(one.key for one in entries)) or "there is none"
        raise BadArgumentError("machine_id", f"no machine {machine_id!r} here ({known})")
    return [MachineReport(one.key, into(MachineState, one.value), round(one.age_s, 1)) for one in found]


@function("relearnMachine")
async def relearn_machine(context: Context, machine_id: str) -> MachineState:
    """After a repair: what is usual is learnt anew."""
    plant: Plant | None = context.memory.get(_PLANT)
    machine = plant.machines.get(machine_id) if plant else None
    if machine is None:
        known = ", ".join(plant.machines) if plant and plant.machines else "there is none"
        raise BadArgumentError("machine_id", f"no machine {machine_id!r} at this node ({known})")
    async with _lock(context, machine):
        for point in machine.points:
            point.relearn()
            if point.monitor is not None:
                await _keep(context, machine, point)
            else:
                await context.state.delete(BASELINES, f"{machine.id}/{point.settings.title}")
        machine.condition = machine.judge()
        await _put_state(context, machine)
        return machine.state(context.host)
