"""One message out: rows become a message, the gate is asked, the broker takes it, and it is under way."""

import logging
import math
import time
from collections.abc import Sequence

from agent.link.gate import Gate
from agent.link.parcels import Parcels
from agent.link.underway import UnderWay
from agent.outbox.rows import Row
from runtime.errors import TemporaryError
from runtime.mqtt import BrokerRefusedError, Connection, Message
from schemas.identity import Lane
from schemas.messages import Gap

log = logging.getLogger(__name__)


class Publisher:
    """Over the connection in use, if there is one. `backlog`: of what waited in the file."""

    def __init__(self, gate: Gate, parcels: Parcels, under_way: UnderWay) -> None:
        self._gate = gate
        self._parcels = parcels
        self._under_way = under_way
        self.connection: Connection | None = None
        self.look_again_s = math.inf  # when a gate that said no wants to be asked again; whoever looks sets it back
        self.compress = True  # batches, where that pays
        self.published_total = 0
        self.published_bytes = 0

    def connected(self, connection: Connection) -> None:
        """What follows goes over this one."""
        self.connection = connection
        self._parcels.limits = connection.limits
        self._under_way.connected(connection.limits.receive_max)

    def alone(self, row: Row, *, backlog: bool) -> bool:
        """True when the row is out, or set aside because no broker will ever take it."""
        message = self._parcels.alone(row, from_file=backlog)
        return message is None or self._publish(message, [row], row.lane, backlog=backlog)

    def batch(self, lane: Lane, rows: Sequence[Row], *, backlog: bool) -> int:
        """Sends the first of these rows in one message, as many as fit; says how many are dealt with."""
        window = self._under_way.window
        parcel = self._parcels.batch(
            lane, rows, without=window.unanswered, rows_max=window.room_for_rows(), squeeze=self.compress
        )
        out = parcel.message is None or self._publish(parcel.message, parcel.rows, lane, backlog=backlog)
        return parcel.seen if out else 0

    def gaps(self, gaps: Sequence[Gap]) -> None:
        """Tells of as many of these as one message holds."""
        self._publish(self._parcels.gaps(gaps), [], Lane.LIFECYCLE, backlog=True)

    def gate_is_open(self, lane: Lane, size: int = 1) -> bool:
        """Asked before a batch is read and packed too: one that has to wait for hours costs nothing meanwhile."""
        now_s = time.monotonic()
        if self._gate.may_send(lane, size, now_s):
            return True
        self.look_again_s = min(self.look_again_s, self._gate.look_again_s(lane, size, now_s))
        return False

    def _publish(self, message: Message, rows: Sequence[Row], lane: Lane, *, backlog: bool) -> bool:
        size = len(message.payload)
        if self.connection is None or not self.gate_is_open(lane, size):
            return False
        try:
            mid = self.connection.publish(message)
        except (TemporaryError, BrokerRefusedError) as error:
            log.debug("link: %s", error)  # the connection's end is reported by the link itself
            return False
        now_s = time.monotonic()
        self._gate.sent(lane, size, now_s)
        self._under_way.sent([(row.lane, row.seq) for row in rows], mid, now_s, backlog=backlog, size=size)
        self.published_total += len(rows)
        self.published_bytes += size
        return True
