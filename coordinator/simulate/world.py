"""What all simulated nodes of one process share. Pure: times are monotonic seconds, given by whoever calls."""

import random
from dataclasses import dataclass, field
from enum import IntEnum

from coordinator.simulate.figures import Figures
from coordinator.simulate.scenario import Scenario
from coordinator.simulate.wheel import Wheel
from schemas.topics import TopicSpace


class Timer(IntEnum):
    """What can be due. The first five and WORK concern a node, the others its line."""

    HEARTBEAT = 0
    EVENT = 1
    RESEND = 2
    PING = 3
    APPLY = 4  # a desired document
    CONNECT = 5
    CONNACK = 6  # the broker did not answer
    DROP_AGAIN = 7  # flapping
    FOUND_OUT = 8  # the node notices that its link is half-open
    READ_ON = 9  # a slow reader reads again
    BOOTED = 10
    WORK = 11  # a workload of a node has started, or something has come of a model
    FLAP = 12  # the node comes and goes for a while
    CONNECTED = 13  # the broker's machine did not answer


Due = tuple[int, Timer, int]
"""The number of a node, what is due, and the boot, session or attempt for which it counts."""


@dataclass(slots=True)
class World:
    """`utc_offset_s` makes UTC of a monotonic time."""

    scenario: Scenario
    run: str  # tells the streams of this run from those of any other
    utc_offset_s: float
    dice: random.Random
    figures: Figures = field(default_factory=Figures)
    wheel: Wheel[Due] = field(default_factory=Wheel)
    password: bytes | None = None
    producing: bool = True
    space: TopicSpace = field(init=False)

    def __post_init__(self) -> None:
        self.space = TopicSpace(self.scenario.run.topic_root)

    def utc_ms(self, now_s: float) -> int:
        return int((now_s + self.utc_offset_s) * 1000)

    def complain(self, text: str) -> None:
        """Kept is the first complaint: the others mostly follow from it."""
        self.figures.first_error = self.figures.first_error or text
