"""What may be switched off for a while when the machine is short of something. Other parts ask before they act."""

from enum import StrEnum


class Switch(StrEnum):
    """What is true while it is on; all are on unless degradation turned them off."""

    EVIDENCE_CLIPS = "evidence_clips"  # clips are recorded beside pictures
    RAW_RESULTS = "raw_results"  # each frame's result is kept at the edge
    RAW_RETENTION = "raw_retention"  # raw results are kept for their whole time; off: for the short one
    SAMPLES = "samples"  # routine figures are made
    FINE_AGGREGATES = "fine_aggregates"  # windows have their configured length; off: a coarser one
    SAMPLES_SENT = "samples_sent"  # new samples enter the outbox; off: they stay here, and what waits drains away


class Switches:
    """The switches of one agent. Turned on the loop, read from any thread."""

    def __init__(self) -> None:
        self._off: frozenset[Switch] = frozenset()  # replaced as a whole: a reader needs no lock

    def is_on(self, switch: Switch) -> bool:
        return switch not in self._off

    @property
    def off(self) -> frozenset[Switch]:
        """What is switched off now."""
        return self._off

    def turn_off_only(self, off: frozenset[Switch]) -> None:
        """From now on these are off and all others on."""
        self._off = off
