"""The rows of a simulated node: kept until the coordinator has answered for each, sent again until then. Pure.

A row is a few numbers: its bytes follow from them, so that it is sent again byte for byte the same.
"""

import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.codec import encode_event, format_utc
from schemas.identity import Identity, Lane
from schemas.messages import Event, Severity
from schemas.topics import ROOT, Kind

ROWS_AT_FIRST = 2  # as an agent
PATIENCE_MAX_S = 120.0
LOOK_S_MIN = 0.1
PROMPT_S = 2.0  # after a probe
_ALERT, _EVENT = Lane.ALERT.value, Lane.EVENT.value
_BELOW = {
    _ALERT: f"{Kind.ALERT.value}/{Severity.WARNING.value}",
    _EVENT: f"{Kind.EVENT.value}/ObjectSeen",
}

Key = tuple[str, int]
"""(lane, seq)."""


@dataclass(slots=True)
class Row:
    """`boot` is that of the stream it belongs to."""

    lane: str
    seq: int
    boot: int
    created_utc_ms: int
    sent_s: float = 0.0
    times: int = 0

    @property
    def key(self) -> Key:
        return self.lane, self.seq

    @property
    def below(self) -> str:
        """The end of its topic."""
        return _BELOW[self.lane]


def stream_of(run: str, node: str, boot: int) -> str:
    """The outbox file of a boot: as random as it has to be, and the same for each who asks."""
    return hashlib.blake2b(f"{run}/{node}/{boot}".encode(), digest_size=8).hexdigest()


def payload_of(row: Row, run: str, node: str) -> bytes:
    """As `platforms/core/core.edge` declares its type; a CloudEvent, byte for byte as the codec writes it."""
    stream, name = stream_of(run, node, row.boot), f"{row.boot}-{row.seq}"
    if row.lane == _ALERT:
        who = Identity(node, stream, row.lane, row.seq)
        data = {"camera_id": "cam1", "rule": "simulated", "alert_id": who.id}
        event = Event(who, "AlertRaised", f"cam1/{name}", row.created_utc_ms, data, row.boot, Severity.WARNING)
        return encode_event(event)
    left = row.seq * 37 % 1000
    return (
        f'{{"specversion":"1.0","id":"{stream}.{row.lane}.{row.seq}","source":"/{ROOT}/{node}","type":"ObjectSeen",'
        f'"subject":"cam1/{name}","time":"{format_utc(row.created_utc_ms)}","datacontenttype":"application/json",'
        f'"edgestream":"{stream}","edgelane":"{row.lane}","edgeseq":"{row.seq}","edgeboot":{row.boot},'
        f'"data":{{"camera_id":"cam1","object_id":"{name}","class":"person","confidence":0.9,'
        f'"box":[{left},120,{left + 80},300],"age_s":0.0,"frame_width":1280,"frame_height":720}}}}'
    ).encode()


def rows_allowed(before: int, answered: int, most: int) -> int:
    """How many rows may be under way once so many of them were answered: each allows one more.

    After a connect there are ROWS_AT_FIRST: a fleet that comes back at once would overflow the queue of its broker.
    """
    return min(before + answered, most)


class Outbox:
    """In order of production; what was under way when a connection ended is sent again first.

    Where answers stay away, rows are still sent once each; of those that are overdue one is the probe, after pauses
    that grow. A probe that is answered promptly shows that the others are lost: they follow. Any other answer shows
    that they are waited for rightly, and how long that takes: a fleet that sends all of it again and again buries its
    coordinator.
    """

    __slots__ = (
        "_allowed", "_fresh", "_last", "_patience_s", "_resting", "_since_s", "_under_way", "_waiting", "rows_max",
        "under_way_max",
    )  # fmt: skip

    def __init__(self, rows_max: int, under_way_max: int) -> None:
        self.rows_max = rows_max
        self.under_way_max = under_way_max
        self._allowed = rows_allowed(0, ROWS_AT_FIRST, under_way_max)
        self._last: dict[str, int] = {}
        self._waiting: dict[Key, Row] = {}  # without an answer
        self._fresh: deque[Row] = deque()  # of them those to be sent; answered ones are passed over
        self._under_way: dict[Key, Row] = {}  # of them those that are sent, the longest ago first
        self._resting: list[Row] = []  # of them those that are overdue
        self._patience_s = 0.0
        self._since_s = 0.0  # an answer came then: what was sent before waits from then on

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    @property
    def room(self) -> int:
        """How many more may be sent now: few after a connect, more as answers come."""
        return self._allowed - len(self._under_way)

    def append(self, lane: Lane, boot: int, utc_ms: int) -> Row | None:
        """The new row, None where there is no room."""
        if len(self._waiting) >= self.rows_max:
            return None
        seq = self._last.get(lane.value, 0) + 1
        self._last[lane.value] = seq
        row = Row(lane.value, seq, boot, utc_ms)
        self._waiting[row.key] = row
        self._fresh.append(row)
        return row

    def send(self, now_s: float) -> Row | None:
        """The next row to be sent, which is under way now."""
        while self._fresh:
            row = self._fresh.popleft()
            if row.key in self._waiting:
                row.sent_s, row.times = now_s, row.times + 1
                self._under_way[row.key] = row
                return row
        return None

    def overdue(self, now_s: float, after_s: float) -> float | None:
        """What was sent so long ago rests, but for a probe. When to look the next time, None while there is nothing
        to look for."""
        patience_s = max(after_s, self._patience_s)
        oldest = next(iter(self._under_way.values()), None)
        sent_s = max(self._since_s, oldest.sent_s) if oldest is not None else 0.0
        if oldest is not None and sent_s + patience_s <= now_s:
            self._resting += self._under_way.values()  # who waits behind the oldest waits for the same
            self._under_way.clear()
            self._patience_s = min(max(PATIENCE_MAX_S, after_s), 2 * patience_s)
        if self._resting and not self._under_way:
            self._fresh.appendleft(self._resting.pop(0))
            return now_s + self._patience_s
        return None if oldest is None else max(now_s + LOOK_S_MIN, sent_s + patience_s)

    def disconnected(self) -> None:
        """What was under way may be lost; another connection is another beginning."""
        self._allowed = rows_allowed(0, ROWS_AT_FIRST, self.under_way_max)
        self._again(self._resting + list(self._under_way.values()))

    def _again(self, rows: list[Row]) -> None:
        self._fresh.extendleft(reversed(rows))
        self._resting, self._patience_s, self._since_s = [], 0.0, 0.0
        for row in rows:
            self._under_way.pop(row.key, None)

    def answered(self, lane: str, ranges: Iterable[tuple[int, int]], now_s: float) -> tuple[list[Row], int]:
        """The rows that are answered by this, and how many were before."""
        found, again = [], 0
        last = self._last.get(lane, 0)
        for first, end in ranges:
            for seq in range(first, min(end, last) + 1):
                row = self._waiting.pop((lane, seq), None)
                if row is None:
                    again += 1
                else:
                    self._under_way.pop(row.key, None)
                    found.append(row)
        if found:
            self._allowed = rows_allowed(self._allowed, len(found), self.under_way_max)
            self._learn(found[-1], now_s)
        return found, again

    def _learn(self, row: Row, now_s: float) -> None:
        """From the answer to a row. Of one that was sent twice nobody knows which of both is answered (Karn)."""
        if row.times > 1 and now_s - row.sent_s <= PROMPT_S:
            self._again(self._resting)
            return
        self._since_s = now_s
        if row.times == 1:
            self._patience_s = min(PATIENCE_MAX_S, 2 * (now_s - row.sent_s))
        resting, self._resting = self._resting, []
        self._under_way = {one.key: one for one in (*resting, *self._under_way.values()) if one.key in self._waiting}
