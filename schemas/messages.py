"""The messages of the contract as frozen dataclasses, each field with a default so that versions interoperate.

Times are UTC milliseconds; `boot` grows by one with each start of an agent and is persisted, `session` grows by one
with each of its connections: together they order presence, whatever the broker delivers late.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from schemas.identity import Identity
from schemas.shape import Limit

WIRE_VERSION = 1

Count = Annotated[int, Limit(ge=0, lt=2**63)]
Amount = Annotated[float, Limit(ge=0, le=1e15)]


class Presence(enum.Enum):
    """What a node says of itself, or its will says for it."""

    ONLINE = "online"
    DRAINING = "draining"  # stopping in order: still publishing what it holds
    OFFLINE = "offline"


class Severity(enum.Enum):
    """How urgent an alert is; the last level of its topic."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Status:
    """Presence, retained; also the will."""

    state: Presence
    boot: Count = 0
    session: Count = 0
    time_utc_ms: Count = 0  # 0 in a will, which is written when the connection begins
    reason: str = ""
    instance: str = ""  # as in the birth
    v: int = WIRE_VERSION


@dataclass(frozen=True, slots=True)
class Birth:
    """Registration: what the node is. Published again whenever it changes and after every connect."""

    boot: Count = 0
    session: Count = 0
    name: str = ""
    node_type: str = ""
    site: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    location: dict[str, float] = field(default_factory=dict)  # lat, lon in degrees, alt in metres
    hardware: dict[str, Any] = field(default_factory=dict)  # arch, cpu, accelerators, containers
    resources: dict[str, Amount] = field(default_factory=dict)  # cores, memory_mb, storage_mb, gpu, npu, tpu
    versions: dict[str, str] = field(default_factory=dict)
    platforms: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    cameras: list[str] = field(default_factory=list)
    stream: str = ""  # the outbox file in use
    instance: str = ""  # drawn anew at each start of the agent: two that live at once are two agents
    allocated: dict[str, Amount] = field(default_factory=dict)  # of the resources
    v: int = WIRE_VERSION


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One camera's pipeline since the last heartbeat. Rates per second, latencies in milliseconds."""

    camera: str
    pipeline: str = ""
    state: str = ""
    frames_total: Count = 0  # decided since the agent started
    detections_total: Count = 0
    dropped_total: Count = 0  # replaced by a newer frame before the model was free
    fps: float = 0.0
    infer_ms_p50: float = 0.0
    infer_ms_p99: float = 0.0
    decide_ms_p99: float = 0.0  # captured to committed
    engine: str = ""
    counts: dict[str, Count] = field(default_factory=dict)  # detections by class since start
    error: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Load and health, every 15 s with jitter. The hashes ask for the document again where they do not match."""

    boot: Count = 0
    session: Count = 0
    seq: Count = 0
    uptime_s: float = 0.0
    time_utc_ms: Count = 0
    cpu_percent: float = 0.0
    memory_mb: float = 0.0
    temperature_c: float | None = None
    disk_free_mb: float = 0.0
    loop_stall_ms_p99: float = 0.0
    outbox_pending: dict[str, Count] = field(default_factory=dict)  # rows by lane
    streams: list[StreamReport] = field(default_factory=list)
    birth_hash: str = ""
    desired_hash: str = ""
    reported_hash: str = ""
    sync: dict[str, dict[str, Count]] = field(default_factory=dict)  # by lane: synced, failed, retried, bytes
    workloads: dict[str, str] = field(default_factory=dict)  # the state of each
    v: int = WIRE_VERSION


@dataclass(frozen=True, slots=True)
class Event:
    """A fact, or a step in an alert's life (then `severity` is set). Travels as a CloudEvent."""

    identity: Identity
    type: str
    subject: str
    time_utc_ms: int
    data: Mapping[str, Any]
    boot: int = 0
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class SyncRow:
    """One sample or state row of a batch."""

    lane: str
    seq: Count
    type: str
    subject: str
    time_utc_ms: Count
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows `first` to `last` of a lane, all of them given up at the edge; what the coordinator lacks will never come.

    Told again until it is answered by a `Closed`. `reason` is one of `rows`, `bytes`, `age`, `disk` (a cap of the
    lane or of the disk was reached) or `damaged` (a salvaged file no longer had them).
    """

    stream: str
    lane: str
    first: Count
    last: Count
    reason: str


@dataclass(frozen=True, slots=True)
class SyncBatch:
    """Rows that travel together, each with its own identity, and gap records. `stream` is that of the rows."""

    stream: str
    boot: Count = 0
    rows: list[SyncRow] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    v: int = WIRE_VERSION


Ranges = list[tuple[Count, Count]]
"""Inclusive, ascending, disjoint: [(1, 4), (6, 6)]."""


@dataclass(frozen=True, slots=True)
class LaneAck:
    """Rows of one lane that are durable at the coordinator now, duplicates included."""

    stream: str
    lane: str
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row the coordinator cannot take, kept raw there and to be quarantined at the edge."""

    stream: str
    lane: str
    seq: Count
    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """A gap is durable at the coordinator: it had the rows of `held`, and takes the others of the gap no more.

    So each row of a gap is counted once, as stored or as shed, even if the broker still delivers a copy later.
    """

    stream: str
    lane: str
    first: Count
    last: Count
    held: Ranges


@dataclass(frozen=True, slots=True)
class Ack:
    """The coordinator's answer, after a durable commit: every row sent is in `stored` or in `refused`, every gap in
    `closed`.
    """

    stored: list[LaneAck] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    v: int = WIRE_VERSION


class CommandState(enum.Enum):
    """A command's life. The last five are final: one result says which."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (CommandState.ACCEPTED, CommandState.RUNNING)


@dataclass(frozen=True, slots=True)
class Command:
    """A call of a function. Without an id it is run at most once and not remembered.

    In JSON or msgpack the arguments are the payload's own fields; `_id`, `_expires_s` and `_deadline_s` beside them
    are ours, for callers that cannot set MQTT 5 properties (`correlation data` and `message expiry interval` mean the
    same as the first two). Both times are relative to arrival: to begin by `expires_s`, to be done by `deadline_s`.
    """

    function: str
    arguments: dict[str, Any]
    id: str = ""
    expires_s: float | None = None
    packed: bool = False  # the caller spoke msgpack: answer so
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class CommandError:
    """Why a command did not succeed, for programs (`code`, `field`) and for people (`message`)."""

    code: str
    message: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class CallProgress:
    """How far a running call is: `share` of the whole where that is known, and words for people."""

    share: Annotated[float, Limit(ge=0, le=1)] | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The one answer to a command. Before it come any number in state `running`, with a `progress`: they answer
    nothing."""

    function: str
    state: CommandState
    id: str = ""
    node: str = ""
    time_utc_ms: Count = 0
    result: Any = None
    error: CommandError | None = None
    progress: CallProgress | None = None
    v: int = WIRE_VERSION
