"""What a run has done, in numbers that add up over processes. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

_GROWTH = math.log(1.05)  # of the buckets: a percentile is exact to 5 %
LEAST_MS = 0.1


@dataclass(slots=True)
class Spread:
    """How long things took, by logarithmic buckets."""

    counts: dict[int, int] = field(default_factory=dict)
    max_ms: float = 0.0

    def add(self, ms: float) -> None:
        bucket = int(math.log(max(ms, LEAST_MS) / LEAST_MS) / _GROWTH)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.max_ms = max(self.max_ms, ms)

    def merge(self, other: "Spread") -> None:
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.max_ms = max(self.max_ms, other.max_ms)

    def percentile_ms(self, share: float) -> float | None:
        """The upper end of the bucket in which the share lies; None of nothing."""
        left = share * sum(self.counts.values())
        for bucket, count in sorted(self.counts.items()):
            left -= count
            if left <= 0:
                return round(min(self.max_ms, LEAST_MS * math.exp((bucket + 1) * _GROWTH)), 2)
        return None


@dataclass(slots=True)
class Figures:
    """One process's, or the sum. Everything is a total since the start but what says `now`."""

    nodes: int = 0
    connected_now: int = 0
    connects: int = 0
    connects_failed: int = 0
    disconnects: int = 0  # connections that ended by themselves or by a fault
    faults: int = 0
    produced: int = 0  # rows
    held_back: int = 0  # rows not produced: the outbox of the node was full
    sent: int = 0  # rows, the first time
    resent: int = 0
    acked: int = 0
    answered_again: int = 0  # rows that were answered once more: they had come twice
    refused: int = 0
    waiting_now: int = 0  # rows without an answer
    heartbeats: int = 0
    desired_received: int = 0
    desired_applied: int = 0
    desired_failed: int = 0
    desired_silent: int = 0
    workloads_started: int = 0
    models_fetched: int = 0
    models_activated: int = 0
    models_refused: int = 0
    commands: int = 0
    bad_messages: int = 0
    bytes_out: int = 0  # of MQTT; TCP and IP come on top
    bytes_in: int = 0
    idle_bytes: int = 0  # heartbeats, pings and their answers
    connected_node_s: float = 0.0
    cpu_s: float = 0.0
    rss_mb: float = 0.0
    rss_empty_mb: float = 0.0  # before the first node
    answer: Spread = field(default_factory=Spread)  # from the event to its answer, with all time without a link
    live: Spread = field(default_factory=Spread)  # the same of the rows that were sent once
    lag: Spread = field(default_factory=Spread)  # how late we ourselves were
    first_error: str = ""

    def merge(self, other: "Figures") -> None:
        for name in _NAMES:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Spread):
                mine.merge(theirs)
            elif isinstance(mine, str):
                setattr(self, name, mine or theirs)
            else:
                setattr(self, name, mine + theirs)

    def plain(self) -> dict[str, Any]:
        """As JSON carries it between processes."""
        found: dict[str, Any] = {}
        for name in _NAMES:
            value = getattr(self, name)
            found[name] = [list(value.counts.items()), value.max_ms] if isinstance(value, Spread) else value
        return found


_NAMES = [one.name for one in fields(Figures)]


def parse(plain: Mapping[str, Any]) -> Figures:
    """What `plain` gave."""
    spreads = {"answer", "live", "lag"}
    values: dict[str, Any] = {n: Spread(dict(v[0]), v[1]) if n in spreads else v for n, v in plain.items()}
    return Figures(**values)


def total(parts: Iterable[Figures]) -> Figures:
    found = Figures()
    for part in parts:
        found.merge(part)
    return found


def report(sum_: Figures, *, all_connected_s: float | None, wall_s: float) -> dict[str, Any]:
    """The object at the end of a run; what it says is in docs/simulate.md."""
    used_mb = sum_.rss_mb - sum_.rss_empty_mb
    return {
        "nodes": sum_.nodes,
        "connected_s": None if all_connected_s is None else round(all_connected_s, 2),
        "connected_at_end": sum_.connected_now,
        "connects": sum_.connects,
        "connects_failed": sum_.connects_failed,
        "reconnects": max(0, sum_.connects - sum_.nodes),
        "disconnects": sum_.disconnects,
        "faults": sum_.faults,
        "produced": sum_.produced,
        "held_back": sum_.held_back,
        "sent": sum_.sent,
        "resent": sum_.resent,
        "acked": sum_.acked,
        "answered_again": sum_.answered_again,
        "refused": sum_.refused,
        "unanswered": sum_.waiting_now,
        "heartbeats": sum_.heartbeats,
        "desired_received": sum_.desired_received,
        "desired_applied": sum_.desired_applied,
        "desired_failed": sum_.desired_failed,
        "desired_silent": sum_.desired_silent,
        "workloads_started": sum_.workloads_started,
        "models_fetched": sum_.models_fetched,
        "models_activated": sum_.models_activated,
        "models_refused": sum_.models_refused,
        "commands": sum_.commands,
        "bad_messages": sum_.bad_messages,
        "answer_ms_p50": sum_.answer.percentile_ms(0.5),
        "answer_ms_p99": sum_.answer.percentile_ms(0.99),
        "answer_ms_max": round(sum_.answer.max_ms, 2),
        "live_answer_ms_p50": sum_.live.percentile_ms(0.5),
        "live_answer_ms_p99": sum_.live.percentile_ms(0.99),
        "lag_ms_p50": sum_.lag.percentile_ms(0.5),
        "lag_ms_p99": sum_.lag.percentile_ms(0.99),
        "lag_ms_max": round(sum_.lag.max_ms, 2),
        "bytes_out": sum_.bytes_out,
        "bytes_in": sum_.bytes_in,
        "idle_bytes_per_node_s": _ratio(sum_.idle_bytes, sum_.connected_node_s),
        "cpu_s": round(sum_.cpu_s, 2),
        "cpu_s_per_1000_nodes_s": _ratio(1000.0 * sum_.cpu_s, sum_.connected_node_s, 4),
        "memory_kb_per_node": _ratio(1024.0 * used_mb, sum_.nodes, 1),
        "wall_s": round(wall_s, 2),
        "first_error": sum_.first_error,
    }


def _ratio(part: float, whole: float, digits: int = 2) -> float | None:
    return round(part / whole, digits) if whole else None
