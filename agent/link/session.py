"""One connection under one session number, and what the node says of itself over it."""

import asyncio
import logging
import time

from agent.link.presence import Identity
from runtime.errors import EdgewrightError, PermanentError
from runtime.mqtt import STRANGER_REASONS, BrokerAddress, BrokerAuthError, BrokerRefusedError, Connection, Message
from schemas.codec import document_hash
from schemas.messages import Birth, Presence

log = logging.getLogger(__name__)

SETTLE_STEP_S = 0.01
PROBE_TIMEOUT_S = 5.0
PACKET_BYTES_MIN = 8 * 1024  # below this hardly an event would pass


class Session:
    """`connection` is made by the link, which hears what arrives on it."""

    def __init__(self, which: int, identity: Identity) -> None:
        """`which` of the brokers, 0 for the preferred one."""
        self.which = which
        self.identity = identity
        self.connection: Connection
        self.introduced = False  # online and birth are said
        self.superseded = False  # our next session is known on this broker
        self.birth_hash = ""
        self.state: Presence | None = None  # as last said
        self._unconfirmed: set[int] = set()
        self._plain: str | None = None  # the subscription to the coordinator's presence as everybody has it
        self._hears_alone = self._has_heard = False

    async def subscribe(self, filters: dict[str, int], presence: str, alone: str) -> None:
        """Raises BrokerRefusedError.

        `presence`, of the coordinator, is taken twice: as it is, for what the broker has retained, and as a shared
        subscription of our own (`alone`) for what comes. The first is given up as soon as something has come: brokers
        keep those who subscribe to one topic in a list, and look all of it through whenever one comes or goes.
        """
        refused = await self.connection.subscribe({**filters, presence: 1, alone: 1}, optional=[alone])
        self._plain, self._hears_alone = presence, alone not in refused
        self._give_up_plain()

    def heard_coordinator(self) -> None:
        """Of its presence."""
        self._has_heard = True
        self._give_up_plain()

    def _give_up_plain(self) -> None:
        if self._plain is not None and self._hears_alone and self._has_heard:
            self.connection.unsubscribe(self._plain)
            self._plain = None

    @property
    def is_open(self) -> bool:
        return self.connection.is_open

    def publish(self, message: Message) -> int | None:
        """The packet id, None when it did not go out."""
        try:
            return self.connection.publish(message)
        except PermanentError as error:
            log.warning("link: not published: %s", error)
        except EdgewrightError as error:
            log.debug("link: not published: %s", error)
        return None

    def say(self, state: Presence, reason: str = "") -> None:
        """Presence."""
        self.state = state
        self._confirm(self.publish(self.identity.status(state, time.time_ns() // 1_000_000, reason)))

    def announce(self, birth: Birth) -> None:
        """Registration."""
        message = self.identity.birth(birth)
        self.birth_hash = document_hash(message.payload)
        self._confirm(self.publish(message))

    def puback(self, mid: int) -> None:
        self._unconfirmed.discard(mid)

    async def settled(self, timeout_s: float) -> None:
        """Until the broker has what was said of presence and birth, or the time is over."""
        deadline_s = time.monotonic() + timeout_s
        while self._unconfirmed and self.is_open and time.monotonic() < deadline_s:
            await asyncio.sleep(SETTLE_STEP_S)

    def _confirm(self, mid: int | None) -> None:
        if mid is not None:
            self._unconfirmed.add(mid)


async def open_connection(connection: Connection, stopping: asyncio.Event) -> bool:
    """Once the broker has accepted us. False, and closed, when told to stop meanwhile: a broker that does not answer
    must not hold up the end. Raises what `connect` raises, and BrokerRefusedError where its packets are too small.
    """
    connecting = asyncio.create_task(connection.connect(), name="link.connect")
    stopped = asyncio.create_task(stopping.wait(), name="link.connect.stopping")
    accepted = False
    try:
        await asyncio.wait({connecting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set():
            limits = await connecting
            if limits.packet_bytes_max < PACKET_BYTES_MIN:
                raise BrokerRefusedError(
                    f"{connection.address}: takes packets of {limits.packet_bytes_max} bytes at most",
                    hint=f"raise its max_packet_size to {PACKET_BYTES_MIN} or more",
                )
            accepted = True
    finally:
        stopped.cancel()
        connecting.cancel()
        if not accepted:
            await asyncio.gather(connecting, return_exceptions=True)
            await connection.close()
    return accepted


async def probe(address: BrokerAddress, node: str) -> str:
    """Whether a broker answers: why not, or "".

    CONNECT, CONNACK, DISCONNECT under a client id that no node can have: no will, no subscription, nothing published,
    so nobody's idea of the node changes. A broker that refuses just this stranger is there.
    """
    connection = Connection(address, client_id=f"{node}/probe", on_message=lambda delivery: None)
    try:
        await connection.connect(PROBE_TIMEOUT_S)
    except (BrokerAuthError, BrokerRefusedError) as error:
        return "" if error.code in STRANGER_REASONS else str(error)
    except EdgewrightError as error:
        return str(error)
    finally:
        await connection.close()
    return ""
