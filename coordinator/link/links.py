"""All the brokers of one coordinator: who is where, what goes to which, what goes to all. Driver.

A node is answered over the broker that its rows came over, and told on the one it was last heard on (`where`). Fleet
events and presence go to every broker, so that who listens need not know them all. A call is answered where it was
asked. `docs/fleet.md` says what that means for nodes that move.
"""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.counters import Counters
from coordinator.ingest.inbox import Inbox
from coordinator.link.announcements import Encoded
from coordinator.link.channel import Channel
from coordinator.link.outgoing import Rank
from coordinator.link.subscriber import PROBE, Part, Subscriber
from coordinator.store.store import Store
from runtime.calls.dispatcher import Dispatcher
from runtime.mqtt import BrokerAddress, Delivery, Message
from schemas.topics import TopicSpace

RESULT_BYTES_BESIDE = 1024  # topic, properties and headers of an answer, at most
BEHIND_MAX = 10_000  # fleet events kept for a broker that is away while others are there; then the oldest go
NOWHERE = -1  # not heard since the start of the process


@dataclass(frozen=True, slots=True)
class BrokerName:
    """One broker of the configuration."""

    name: str
    address: BrokerAddress


class Links:
    """`on_link(index, connected)` is told of each broker."""

    def __init__(
        self,
        brokers: Sequence[BrokerName],
        inbox: Inbox,
        dispatcher: Dispatcher | None,
        counters: Counters,
        store: Store,
        *,
        client_id: str,
        space: TopicSpace,
        part: Part = Part.WHOLE,
    ) -> None:
        self.names = [one.name for one in brokers]
        self._space = space
        self._dispatcher = dispatcher
        self._numbers = 0  # of what was said of calls
        encoded = Encoded(space)
        self._links = [
            Subscriber(
                one.address, inbox, dispatcher, counters, store,
                client_id=client_id, space=space, index=index, encoded=encoded, part=part,
            )
            for index, one in enumerate(brokers)
        ]  # fmt: skip
        self.on_link: Callable[[int, bool], None] = lambda index, connected: None
        self.on_probe: Callable[[int, bytes], None] = lambda index, payload: None
        self.where: Callable[[str], int] = lambda node: NOWHERE
        for index, link in enumerate(self._links):
            link.on_link = self._told(index)
            link.on_probe = self._probed(index)
            if dispatcher is not None:
                link.on_answered = dispatcher.puback
        inbox.on_pressure = self._pressed
        if dispatcher is not None:
            dispatcher.answers.publish_on = self._answer

    def tasks(self) -> Iterator[tuple[str, Callable[[], Coroutine[Any, Any, None]], Callable[[], None]]]:
        """(name, run, stop) of each: they live and fail by themselves."""
        for name, link in zip(self.names, self._links, strict=True):
            yield ("link" if len(self._links) == 1 else f"link-{name}"), link.run, link.stop

    # ---- how it stands --------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """With all of them."""
        return all(link.is_connected for link in self._links)

    @property
    def count(self) -> int:
        """With so many."""
        return sum(link.is_connected for link in self._links)

    def connected(self, index: int) -> bool:
        return self._links[index].is_connected

    def has_room(self, index: int) -> bool:
        """For what can be put off."""
        return self._links[index].has_room

    @property
    def problem(self) -> str:
        """Of the first that has one."""
        return next((link.problem for link in self._links if link.problem), "")

    @property
    def announced_seq(self) -> int:
        """Every fleet event up to here is with the brokers, or is kept for none of them any more."""
        reached = [link.announced_seq for link in self._links]
        return max(min(reached), max(reached) - BEHIND_MAX)

    def status(self) -> dict[str, dict[str, Any]]:
        """By name, as `status` tells it."""
        return {
            name: {"connected": link.is_connected, "problem": link.problem, **link.outgoing}
            for name, link in zip(self.names, self._links, strict=True)
        }

    def figures(self) -> dict[str, float]:
        """For the counters."""
        found: dict[str, float] = {"broker_connected": float(self.is_connected)}
        if len(self._links) > 1:
            found |= {f"broker_connected.{n}": float(link.is_connected) for n, link in self._named()}
        for key in ("waiting", "merged", "dropped"):
            found[f"answers_{key}"] = sum(link.outgoing[key] for link in self._links)
        found["fleet_events_missed"] = sum(link.missed_total for link in self._links)
        return found

    # ---- what is said ---------------------------------------------------------------------------

    def publish(self, message: Message) -> None:
        """On every broker that is there."""
        for link in self._links:
            link.publish(message)

    def publish_at(self, index: int, message: Message) -> None:
        """On one of them, where it is there."""
        self._links[index].publish(message)

    def probe(self, index: int, payload: bytes) -> None:
        """To ourselves, through one of them."""
        self._links[index].publish(Message(self._space.text(PROBE), payload), Rank.CALL)

    def publish_status(self, reason: str = "") -> None:
        for link in self._links:
            link.publish_status(reason)

    def announce(self) -> None:
        for link in self._links:
            link.announce()

    def take_files(self, on_file: Callable[[Delivery, Channel], None]) -> None:
        """Pieces of files are no rows: they go there."""
        for link in self._links:
            link.on_file = on_file

    def _answer(self, message: Message, index: int) -> int | None:
        self._numbers += 1
        return self._numbers if self._links[index].say(message, self._numbers) else None

    # ---- what is told ---------------------------------------------------------------------------

    def _told(self, index: int) -> Callable[[bool], None]:
        def told(connected: bool) -> None:
            takes = [size for link in self._links if (size := link.payload_bytes_max) is not None]
            if takes and self._dispatcher is not None:
                self._dispatcher.answers.payload_bytes_max = min(takes) - RESULT_BYTES_BESIDE
            self.on_link(index, connected)

        return told

    def _probed(self, index: int) -> Callable[[bytes], None]:
        return lambda payload: self.on_probe(index, payload)

    def _pressed(self, pressed: bool) -> None:
        for link in self._links:
            link.pause(pressed)

    def _named(self) -> Iterator[tuple[str, Subscriber]]:
        return zip(self.names, self._links, strict=True)
