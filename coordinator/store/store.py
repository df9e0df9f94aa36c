"""What ingest asks of any store, and the values that cross that seam.

SQLite or PostgreSQL stands behind it. Whatever does must keep one promise: `commit` returns after the whole batch is
durable, and every row whose identity is known already changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from coordinator.documents.changes import Change, Changed
from coordinator.fleet.guard import Turn
from coordinator.fleet.maintenance import Window
from coordinator.fleet.registry import FleetEvent, Memory, Node
from coordinator.fleet.tombstones import Tombstone
from runtime.errors import PermanentError
from schemas.documents import Desired, Reported
from schemas.messages import Closed, Event, Heartbeat

LaneKey = tuple[str, str, str]
"""(node, stream, lane)."""


class Row(NamedTuple):
    """One event, alert step or sample, in the order of the columns that hold it."""

    node: str
    stream: str
    lane: str
    seq: int
    type: str
    subject: str
    severity: str | None
    time_utc_ms: int
    received_utc_ms: int
    boot: int
    data: str  # JSON

    @property
    def key(self) -> LaneKey:
        return self[0], self[1], self[2]


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """What could not be taken, raw. With a `seq` the sender is told; without, nobody can be."""

    topic: str
    node: str
    reason: str
    payload: bytes = field(repr=False)
    received_utc_ms: int
    stream: str = ""
    lane: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True)
class HeartbeatRow:
    """The newest heartbeat of a node and when it came."""

    heartbeat: Heartbeat
    received_utc_ms: int


@dataclass(frozen=True, slots=True)
class ResultRow:
    """The answer of a node to a command, as it came."""

    node: str
    function: str
    id: str
    state: str
    received_utc_ms: int
    document: str  # JSON, shortened when large


class GapRow(NamedTuple):
    """Rows that a node gave up; what is missing of them here will never come."""

    node: str
    stream: str
    lane: str
    first: int
    last: int
    reason: str
    received_utc_ms: int

    @property
    def key(self) -> LaneKey:
        return self[0], self[1], self[2]


@dataclass(frozen=True, slots=True)
class ReportedRow:
    """What a node reports of itself. `named`: the hash in its newest heartbeat is that of this document."""

    node: str
    document: Reported
    received_utc_ms: int
    named: bool = False


class Run(NamedTuple):
    """Rows of one lane that follow one another, in their numbers and in the list where they stand from `at` on."""

    first: int
    last: int
    at: int


def runs(rows: Sequence[Row]) -> dict[LaneKey, list[Run]]:
    """The rows of each lane, in the order in which they stand."""
    found: dict[LaneKey, list[Run]] = {}
    begin = 0
    for at in range(1, len(rows) + 1):
        before = rows[at - 1]
        if at < len(rows):
            row = rows[at]
            if row[3] == before[3] + 1 and row[2] == before[2] and row[1] == before[1] and row[0] == before[0]:
                continue
        found.setdefault(before[:3], []).append(Run(rows[begin][3], before[3], begin))
        begin = at
    return found


@dataclass(slots=True)
class Batch:
    """Everything of one transaction."""

    events: list[Row] = field(default_factory=list)
    samples: list[Row] = field(default_factory=list)
    gaps: list[GapRow] = field(default_factory=list)  # taken after the rows of the same batch
    refused: list[RefusedMessage] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # nodes of which nothing is to stay but what they told
    nodes: list[Node] = field(default_factory=list)
    seen: list[Node] = field(default_factory=list)  # nodes of which nothing is new but when they were last heard
    heartbeats: dict[str, HeartbeatRow] = field(default_factory=dict)
    tombstones: list[Tombstone] = field(default_factory=list)
    lifted: list[str] = field(default_factory=list)  # tombstones, by node
    windows: list[Window] = field(default_factory=list)
    windows_over: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)  # of freezes
    results: list[ResultRow] = field(default_factory=list)
    reported: list[ReportedRow] = field(default_factory=list)
    fleet_events: list[FleetEvent] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to store."""
        return not any(getattr(self, name) for name in self.__slots__)


@dataclass(slots=True)
class StateTaken:
    """What rows of platform state came to."""

    changed: int = 0
    stale: int = 0  # older than what is kept of their node, or the same
    left_out: int = 0  # of too many collections that nobody declares
    shed: int = 0  # values of full collections that gave way


@dataclass(slots=True)
class Committed:
    """What a batch came to."""

    new: int = 0
    duplicates: int = 0
    overfull: list[Row] = field(default_factory=list)  # not taken: their lane has too many gaps
    drafts: list[FleetEvent] = field(default_factory=list)  # found while storing
    overfull_gaps: list[GapRow] = field(default_factory=list)  # not closed: they too would open a range too many
    gaps_put_off: int = 0  # not closed: enough was answered at a time, their node tells them again
    late: list[Row] = field(default_factory=list)  # not taken: their gap was closed before they came
    closed: list[tuple[str, Closed]] = field(default_factory=list)  # by node: what is to be said of the gaps
    reported: dict[str, str] = field(default_factory=dict)  # by node: the hash of the report that is kept
    renewed: dict[str, Desired] = field(default_factory=dict)  # by node: documents in a new epoch, to be published
    fleet_events: list[Event] = field(default_factory=list)  # with the identity they got
    state: StateTaken = field(default_factory=StateTaken)


class ForeignStoreError(PermanentError):
    """The data folder belongs to somebody else: another process, or another program."""


class Store(Protocol):
    """One coordinator's memory. All methods may be called from the event loop."""

    boot: int  # +1 with each opening, on disk before anything is said with it
    document_hashes: tuple[dict[str, str], dict[str, str]]  # of desired and reported documents by node, at opening
    stream: str  # random; under it the coordinator's own events have their identity

    def nodes(self) -> list[Node]:
        """Every registered node, as it was last committed."""

    def memory(self) -> Memory:
        """What else an earlier run knew of the fleet."""

    async def commit(self, batch: Batch) -> Committed:
        """All of it durable, or an error and none of it. StorageError: try again later."""

    def unannounced(self, after_seq: int, limit: int) -> list[Event]:
        """The oldest fleet events beyond `after_seq` that are not known to be published."""

    async def change_desired(self, node: str, change: Change) -> Changed:
        """Makes and keeps the next revision. Raises ChangeRefusedError, LocalWireError or StorageError."""

    async def desired(self, node: str) -> Desired:
        """The desired document of a node; one of revision 0 where there is none."""

    async def save_counters(self, counters: dict[str, float], announced_seq: int) -> None:
        """Keeps the process's counters for `edgectl status`, and how far fleet events are published."""

    def close(self) -> None:
        """Finishes what was begun and lets go of the file."""
