"""What the process has done so far, in memory; every few seconds a copy goes to the store for `edgectl status`."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from coordinator.store.store import StateTaken

COMMITS_KEPT = 1000


@dataclass(slots=True)
class Counters:
    """Counted since the start of the process."""

    received: int = 0  # messages
    stored: int = 0  # rows
    duplicates: int = 0  # rows
    gaps: int = 0  # gap records, repeated ones too
    gaps_put_off: int = 0  # gap records not answered because enough were: they are told again
    late_after_gap: int = 0  # rows that came after their gap was closed: not stored
    refused: int = 0  # rows or messages kept raw
    dropped: int = 0  # messages that found the inbox full; their senders send them again
    batches: int = 0
    acknowledged: int = 0  # rows, to their nodes
    commit_failures: int = 0
    desired_published: int = 0  # documents
    asked_again: int = 0  # nodes, for a birth or a report that is not here
    connects: int = 0
    heartbeats: int = 0  # of all nodes
    heartbeats_skipped: int = 0  # a newer one of the same node came before they were looked at
    heartbeats_unknown: int = 0  # of nodes that had not registered: they are asked for their birth
    deregistered_heard: int = 0  # messages of nodes that were taken out, and are not back
    state_changed: int = 0  # keys of platform state, by nodes
    state_stale: int = 0  # writes that came after a later one, or again
    state_left_out: int = 0  # writes to too many collections that nobody declares
    state_shed: int = 0  # values of full collections that gave way
    commit_ms: deque[float] = field(default_factory=lambda: deque(maxlen=COMMITS_KEPT))

    def count_state(self, taken: StateTaken) -> None:
        self.state_changed += taken.changed
        self.state_stale += taken.stale
        self.state_left_out += taken.left_out
        self.state_shed += taken.shed

    def snapshot(self) -> dict[str, float]:
        """By name, with the commit times of the last thousand batches."""
        return {
            "received": self.received,
            "stored": self.stored,
            "duplicates": self.duplicates,
            "gaps": self.gaps,
            "gaps_put_off": self.gaps_put_off,
            "late_after_gap": self.late_after_gap,
            "refused": self.refused,
            "dropped": self.dropped,
            "batches": self.batches,
            "acknowledged": self.acknowledged,
            "commit_failures": self.commit_failures,
            "desired_published": self.desired_published,
            "asked_again": self.asked_again,
            "connects": self.connects,
            "heartbeats": self.heartbeats,
            "heartbeats_skipped": self.heartbeats_skipped,
            "heartbeats_unknown": self.heartbeats_unknown,
            "deregistered_heard": self.deregistered_heard,
            "state_changed": self.state_changed,
            "state_stale": self.state_stale,
            "state_left_out": self.state_left_out,
            "state_shed": self.state_shed,
            "commit_ms_p50": percentile(self.commit_ms, 50),
            "commit_ms_p99": percentile(self.commit_ms, 99),
        }


def percentile(values: Iterable[float], percent: int) -> float:
    """Nearest rank; 0 of nothing."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)] if ranked else 0.0
