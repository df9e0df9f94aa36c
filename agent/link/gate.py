"""Who may send now: the seam between the sender and whatever limits it."""

from typing import Protocol

from agent.link.bucket import TokenBucket
from agent.link.settings import LinkSettings
from schemas.identity import Lane

UNHINDERED = frozenset({Lane.LIFECYCLE, Lane.ALERT})


class Gate(Protocol):
    """Asked before and told after each message. `size` in bytes of payload, `now_s` of the monotonic clock."""

    def may_send(self, lane: Lane, size: int, now_s: float) -> bool:
        """False for now: `look_again_s` says when to ask again."""

    def look_again_s(self, lane: Lane, size: int, now_s: float) -> float:
        """After a no: when time alone may have made it a yes, infinity if never. To ask earlier does no harm."""

    def sent(self, lane: Lane, size: int, now_s: float) -> None:
        """A message went out."""


class OpenGate:
    """Lets everything pass."""

    def may_send(self, lane: Lane, size: int, now_s: float) -> bool:
        return True

    def look_again_s(self, lane: Lane, size: int, now_s: float) -> float:
        return now_s

    def sent(self, lane: Lane, size: int, now_s: float) -> None:
        return None


class RateGate:
    """Two token buckets: bytes a second and messages a second."""

    def __init__(self, settings: LinkSettings) -> None:
        def bucket(rate: int, least: float) -> TokenBucket:
            return TokenBucket(rate, max(least, rate * settings.burst_s))

        self._bytes = bucket(settings.bytes_s_max, 1024.0)
        self._messages = bucket(settings.messages_s_max, 1.0)

    def may_send(self, lane: Lane, size: int, now_s: float) -> bool:
        return lane in UNHINDERED or (self._bytes.has(size, now_s) and self._messages.has(1, now_s))

    def look_again_s(self, lane: Lane, size: int, now_s: float) -> float:
        return now_s + max(self._bytes.wait_s(size, now_s), self._messages.wait_s(1, now_s))

    def sent(self, lane: Lane, size: int, now_s: float) -> None:
        self._bytes.take(size, now_s)
        self._messages.take(1, now_s)
