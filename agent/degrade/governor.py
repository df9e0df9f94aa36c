"""Reads the machine's figures, asks the policy, applies what it says and tells everybody."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.degrade.pipelines import Pace, Standing, paces
from agent.degrade.policy import SWITCHED, Cause, Change, Policy
from agent.degrade.settings import DegradationSettings
from agent.degrade.switches import Switches

log = logging.getLogger(__name__)

Figures = Mapping[Cause, float | None]


class Governor:
    """`read` may take a while and runs in a thread; `standings` and `apply` are the pipelines', on the loop."""

    def __init__(
        self,
        settings: DegradationSettings,
        *,
        read: Callable[[], Figures],
        standings: Callable[[], Mapping[str, Standing]],
        apply: Callable[[Mapping[str, Pace]], None],
        switches: Switches,
        announce: Callable[[str, str, dict[str, Any]], None],
    ) -> None:
        self._settings = settings
        self._policy = Policy(settings)
        self._read = read
        self._standings = standings
        self._apply = apply
        self._switches = switches
        self._announce = announce

    async def run(self) -> None:
        """Looks every `check_s` until cancelled; returns at once where it is switched off."""
        while self._settings.enabled:
            self.look(await asyncio.to_thread(self._read), time.monotonic())
            await asyncio.sleep(self._settings.check_s)

    def look(self, figures: Figures, now_s: float) -> None:
        """One look at the figures."""
        changes = self._policy.observe(figures, now_s)
        steps = self._policy.steps
        if changes or steps:  # a pipeline may have moved to an accelerator meanwhile
            self._switches.turn_off_only(frozenset(SWITCHED[step] for step in steps if step in SWITCHED))
            self._apply(paces(steps, self._standings()))
        for change in changes:
            self._tell(change)

    def report(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "levels": {cause.value: level for cause, level in self._policy.levels.items() if level},
            "steps": sorted(self._policy.steps),
            "switched_off": sorted(self._switches.off),
        }

    def _tell(self, change: Change) -> None:
        way = "down" if change.down else "up"
        log.warning(
            "degradation %s: %s %s (figure %g, threshold %g)",
            way,
            change.step.value,
            "in force" if change.down else "over",
            change.figure,
            change.threshold,
        )
        data = {
            "cause": change.cause.value,
            "step": change.step.value,
            "direction": way,
            "from": change.level_from,
            "to": change.level_to,
            "figure": change.figure,
            "threshold": change.threshold,
        }
        self._announce("DegradationChanged", change.cause.value, data)
