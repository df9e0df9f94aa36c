"""Rows as messages, each no larger than its topic and this broker allow. A row that can never travel is set aside."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from agent.link.window import RowKey
from agent.outbox.encode import is_sound, packed_key
from agent.outbox.rows import Row
from runtime.mqtt import Limits, Message
from schemas.codec import encode_batch, encode_packed
from schemas.compress import compress
from schemas.errors import WireError
from schemas.identity import Lane
from schemas.messages import Gap, SyncBatch
from schemas.topics import RULES, Kind, Topic, TopicSpace

BATCH_BYTES_BESIDE = 64  # what a batch holds beside its rows and the name of their stream, at most
PACKET_BYTES_BESIDE = 64  # headers and properties beside topic and payload, at most
EVENT_CONTENT_TYPE = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Parcel:
    """The first rows of a batch. `seen` of those given are dealt with once it is out: `rows`, or set aside."""

    seen: int
    rows: Sequence[Row]
    message: Message | None  # None where no row is left to travel


class Parcels:
    """One node's. `limits` are those of the connection in use."""

    def __init__(
        self, *, node: str, boot: int, stream: str, space: TopicSpace, set_aside: Callable[[Row, str], None]
    ) -> None:
        """`set_aside(row, reason)` takes a row that no broker, or not this one, will ever take."""
        self._node = node
        self._boot = boot
        self._stream = stream
        self._space = space
        self._set_aside = set_aside
        self._sync_topic = space.text(Topic(Kind.SYNC, node))
        self._topics: dict[tuple[str, object], tuple[str, int]] = {}
        self.limits = Limits()

    def alone(self, row: Row, *, from_file: bool) -> Message | None:
        """The row as a message; None when it is set aside. What was read from the file is looked at once more."""
        try:
            topic, bytes_max = self._topic(row)
        except WireError as error:
            self._set_aside(row, str(error))
            return None
        size = len(row.payload)
        if size > bytes_max:  # of an older version of this program: a new row would not have been kept
            self._set_aside(row, f"{size} bytes are more than {topic} allows: {bytes_max}")
            return None
        if size > self._room(topic):
            self._set_aside(row, f"{size} bytes are more than the broker takes in a packet")
            return None
        if from_file and not is_sound(self._node, row.lane, row.seq, row.payload):  # nobody could answer for it
            self._set_aside(row, f"{row.lane.value} row {row.seq}: its bytes are damaged")
            return None
        return Message(topic, row.payload, 1, False, EVENT_CONTENT_TYPE)

    def batch(
        self, lane: Lane, rows: Sequence[Row], *, without: Container[RowKey], rows_max: int, squeeze: bool
    ) -> Parcel:
        """The first of these rows in one message, as many as fit. Those of `without` are under way already."""
        bytes_max = self._sync_bytes_max() - BATCH_BYTES_BESIDE - len(rows[0].stream)
        bytes_left, seen = bytes_max, 0
        taken: list[Row] = []
        for row in rows:
            if (lane, row.seq) not in without and self._fits_a_batch(row, bytes_max):
                bytes_left -= len(row.payload)
                # Rows of one stream travel together: the batch names it once.
                if bytes_left < 0 or len(taken) == rows_max or (taken and row.stream != taken[0].stream):
                    break
                taken.append(row)
            seen += 1
        if not taken:
            return Parcel(seen, taken, None)
        payload = encode_batch(taken[0].stream, self._boot, [row.payload for row in taken])
        return Parcel(seen, taken, Message(self._sync_topic, compress(payload) if squeeze else payload))

    def gaps(self, gaps: Sequence[Gap]) -> Message:
        """The first of them, as many as fit what the broker takes; the others follow once these are answered."""
        while True:
            payload = encode_packed(SyncBatch(self._stream, self._boot, gaps=list(gaps)))
            if len(payload) <= self._sync_bytes_max() or len(gaps) == 1:
                return Message(self._sync_topic, payload)
            gaps = gaps[: len(gaps) // 2]

    def _topic(self, row: Row) -> tuple[str, int]:
        """Where a row that travels alone goes, and how many bytes that topic takes. Raises LocalWireError."""
        key = (row.type, row.severity)
        found = self._topics.get(key)
        if found is None:
            topic = row.topic(self._node)
            found = self._topics[key] = self._space.text(topic), topic.rule.payload_bytes_max
        return found

    def _room(self, topic: str) -> int:
        """The largest payload that the broker takes on a topic."""
        return self.limits.packet_bytes_max - PACKET_BYTES_BESIDE - len(topic.encode())

    def _sync_bytes_max(self) -> int:
        return min(self._room(self._sync_topic), RULES[Kind.SYNC].payload_bytes_max)

    def _fits_a_batch(self, row: Row, bytes_max: int) -> bool:
        """False for a row that cannot travel and is set aside."""
        if len(row.payload) > bytes_max:
            self._set_aside(row, f"{len(row.payload)} bytes do not fit a batch of {bytes_max}")
            return False
        if packed_key(row.payload) != (row.lane.value, row.seq):
            self._set_aside(row, f"{row.lane.value} row {row.seq}: its bytes are damaged")
            return False
        return True
