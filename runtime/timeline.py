"""UTC that does not follow a wall clock that jumps. Pure; the machine's clocks are arguments.

As long as a machine is not started anew, its boot clock says how much time has passed, whatever somebody does to the
wall clock. Small corrections (NTP at work) are followed. A jump is believed only where it is plausible: the clock had
never been set, or it is behind what was heard from elsewhere.
"""

from dataclasses import dataclass

FOLLOWED_MS_MAX = 60_000
NEVER_SET_BEFORE_MS = 1_704_067_200_000  # 2024-01-01: no machine that runs this was set to an earlier time


@dataclass(frozen=True, slots=True)
class MachineTime:
    """What a machine's clocks show at one moment."""

    machine_boot: str  # differs after each start of the machine
    steady_ms: int  # since then, sleep included
    wall_ms: int  # UTC, as far as it is set


@dataclass(frozen=True, slots=True)
class Reading:
    """UTC now, the moment to go on counting from, and by how much the wall clock is off since it jumped."""

    utc_ms: int
    anchor: MachineTime
    jump_ms: int = 0

    def is_news(self, jump_ms_before: int) -> bool:
        """True where the wall clock has jumped, or was put right, since it was off by so much."""
        return abs(self.jump_ms - jump_ms_before) > FOLLOWED_MS_MAX

    def told(self) -> str:
        """For the log."""
        if not self.jump_ms:
            return "the wall clock is followed again"
        return f"the wall clock has jumped by {self.jump_ms / 1000:+.0f} s: stamps of documents do not follow it"


def read(anchor: MachineTime | None, now: MachineTime, heard_ms: int = 0) -> Reading:
    """UTC at `now`. `heard_ms` is a time that is over for certain, because somebody else has told it; 0: nothing."""
    if anchor is None or anchor.machine_boot != now.machine_boot or now.steady_ms < anchor.steady_ms:
        return Reading(now.wall_ms, now)
    counted_ms = anchor.wall_ms + now.steady_ms - anchor.steady_ms
    jump_ms = now.wall_ms - counted_ms
    is_behind = jump_ms > 0 and heard_ms > counted_ms + FOLLOWED_MS_MAX
    if abs(jump_ms) <= FOLLOWED_MS_MAX or counted_ms < NEVER_SET_BEFORE_MS or is_behind:
        return Reading(now.wall_ms, now)
    return Reading(counted_ms, MachineTime(now.machine_boot, now.steady_ms, counted_ms), jump_ms)
