"""What waits to be said to one broker, and what is said next. Pure.

Answers to nodes wait as what they say, not as bytes: what comes for a node meanwhile goes with the same message, so
the more there is to answer, the fewer messages it takes. Answers go before the fleet's events, and these before
documents; yet one message in a few is of the least urgent that waits: none waits for ever.
"""

from collections import deque
from enum import IntEnum

from coordinator.ingest.answer import PACKET_BYTES_BESIDE, merged, payloads
from runtime.mqtt import Message
from schemas.messages import Ack
from schemas.topics import RULES, Kind, Topic, TopicSpace

WAITING_MAX = 20_000  # of each rank; the oldest go first: whoever needs them is told again
NODES_MAX = 50_000  # with answers; the oldest go first: their rows are sent and answered again
PARTS_MAX = 64  # of one node's answer before they are put together
LEAST_URGENT_EVERY = 8


class Rank(IntEnum):
    """Most urgent first."""

    CALL = 0  # presence, the probe, results of calls
    ANSWER = 1  # which rows of a node are durable, which bytes of a file
    EVENT = 2  # of the fleet
    DOCUMENT = 3  # desired, what nodes are asked for, what is cleared


class Outgoing:
    """One connection's."""

    def __init__(self, space: TopicSpace) -> None:
        self._space = space
        self._queues: tuple[deque[tuple[Message, int]], ...] = tuple(deque(maxlen=WAITING_MAX) for _ in Rank)
        self._answers: dict[str, list[Ack]] = {}  # by node, the longest waiting first
        self._turn = 0
        self.merged_total = 0  # answers that went with others
        self.dropped_total = 0

    def __len__(self) -> int:
        return sum(map(len, self._queues)) + len(self._answers)

    def waiting(self, rank: Rank) -> int:
        return len(self._queues[rank]) + (len(self._answers) if rank is Rank.ANSWER else 0)

    def put(self, message: Message, token: int = 0, rank: Rank = Rank.CALL) -> None:
        """`token` comes out with the message."""
        queue = self._queues[rank]
        self.dropped_total += len(queue) == WAITING_MAX
        queue.append((message, token))

    def answer(self, node: str, ack: Ack) -> None:
        """To be said to a node, with what else waits for it."""
        parts = self._answers.get(node)
        if parts is None:
            if len(self._answers) >= NODES_MAX:
                del self._answers[next(iter(self._answers))]
                self.dropped_total += 1
            self._answers[node] = [ack]
            return
        self.merged_total += 1
        parts.append(ack)
        if len(parts) >= PARTS_MAX:
            parts[:] = [merged(parts)]

    def next(self, packet_bytes_max: int) -> tuple[Message, int] | None:
        """What is said now, None where nothing waits."""
        self._turn = (self._turn + 1) % LEAST_URGENT_EVERY
        for rank in reversed(Rank) if self._turn == 0 else Rank:
            if self._queues[rank]:
                return self._queues[rank].popleft()
            if rank is Rank.ANSWER and self._answers:
                self._encode(packet_bytes_max)
                return self._queues[rank].popleft()
        return None

    def _encode(self, packet_bytes_max: int) -> None:
        """The oldest answer becomes a message, or as many as it takes."""
        node = next(iter(self._answers))
        parts = self._answers.pop(node)
        topic = self._space.text(Topic(Kind.ACK, node))
        room = min(RULES[Kind.ACK].payload_bytes_max, packet_bytes_max - PACKET_BYTES_BESIDE - len(topic))
        for payload in payloads(parts[0] if len(parts) == 1 else merged(parts), room):
            self._queues[Rank.ANSWER].append((Message(topic, payload), 0))
