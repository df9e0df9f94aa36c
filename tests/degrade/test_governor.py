"""The driver with figures it is given, and the throttle that a camera's thread asks."""

import asyncio
from collections.abc import Mapping
from typing import Any

from agent.degrade.governor import Governor
from agent.degrade.pipelines import Pace, Priority, Standing
from agent.degrade.policy import Cause
from agent.degrade.settings import DegradationSettings
from agent.degrade.switches import Switch, Switches
from agent.degrade.throttle import Throttle

STANDINGS = {"yard": Standing(Priority.LOW), "gate": Standing(Priority.CRITICAL)}


class Applied:
    """A governor whose figures the test sets."""

    def __init__(self, settings: DegradationSettings) -> None:
        self.figures: Mapping[Cause, float | None] = {}
        self.paces: Mapping[str, Pace] = {}
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.switches = Switches()
        self.governor = Governor(
            settings,
            read=lambda: self.figures,
            standings=lambda: STANDINGS,
            apply=lambda paces: setattr(self, "paces", paces),
            switches=self.switches,
            announce=lambda *what: self.told.append(what),
        )


def test_each_step_is_applied_announced_and_undone() -> None:
    node = Applied(DegradationSettings(down_after_s=0.0, up_after_s=0.0))
    for n in range(3):
        node.governor.look({Cause.CPU: 100.0}, float(n))
    assert node.paces == {"yard": Pace(2, True), "gate": Pace()}
    assert node.switches.off == {Switch.EVIDENCE_CLIPS}
    assert node.governor.report()["levels"] == {"cpu": 3}
    node.governor.look({Cause.CPU: 100.0, Cause.DISK: 1.0}, 3.0)
    for n in range(4, 7):
        node.governor.look({Cause.CPU: 0.0}, float(n))
    assert node.paces == {"yard": Pace(), "gate": Pace()}
    assert not node.switches.is_on(Switch.EVIDENCE_CLIPS), "the disk still asks for it"
    node.governor.look({Cause.DISK: 1e6}, 7.0)
    assert node.switches.off == frozenset()
    assert {kind for kind, _, _ in node.told} == {"DegradationChanged"}
    assert node.told[0][1:] == (
        "cpu",
        {
            "cause": "cpu",
            "step": "half_rate_lowest",
            "direction": "down",
            "from": 0,
            "to": 1,
            "figure": 100.0,
            "threshold": 95.0,
        },
    )
    assert [(data["direction"], data["to"]) for _, cause, data in node.told if cause == "cpu"] == [
        *(("down", 1), ("down", 2), ("down", 3), ("up", 2), ("up", 1), ("up", 0))
    ]


def test_it_looks_by_itself_and_not_at_all_where_it_is_switched_off() -> None:
    async def scenario() -> None:
        node = Applied(DegradationSettings(check_s=0.05, down_after_s=0.0, up_after_s=0.0))
        node.figures = {Cause.HEAT: 120.0}
        looking = asyncio.create_task(node.governor.run())
        while len(node.told) < 2:
            await asyncio.sleep(0.01)
        node.figures = {Cause.HEAT: 20.0}
        while len(node.told) < 4:
            await asyncio.sleep(0.01)
        assert node.paces["gate"] == Pace()
        looking.cancel()
        await Applied(DegradationSettings(enabled=False)).governor.run()

    asyncio.run(asyncio.wait_for(scenario(), 30.0))


def test_the_throttle_takes_each_nth_frame_and_counts_the_others() -> None:
    throttle = Throttle()
    assert [throttle.takes() for _ in range(3)] == [True] * 3
    throttle.divisor = 2
    assert sum(throttle.takes() for _ in range(10)) == 5
    throttle.paused = True
    assert not any(throttle.takes() for _ in range(4))
    assert throttle.skipped_total == 9
