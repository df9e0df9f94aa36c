"""What a node says of itself on each connection: pure, from `(boot, session)` and what it is."""

from dataclasses import dataclass, replace

from runtime.mqtt import Message
from schemas.codec import encode_document, encode_packed
from schemas.messages import Birth, Heartbeat, Presence, Status
from schemas.topics import RULES, Kind, Topic, TopicSpace


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is speaking, on which connection. Later pairs of (boot, session) overrule earlier ones."""

    node: str
    boot: int
    session: int
    space: TopicSpace
    instance: str = ""  # of this start of the agent

    def status(self, state: Presence, now_utc_ms: int, reason: str = "") -> Message:
        """Presence, retained."""
        status = Status(state, self.boot, self.session, now_utc_ms, reason, self.instance)
        return Message(self._topic(Kind.STATUS), encode_document(status), qos=1, retain=True)

    def will(self) -> Message:
        """What the broker says for us when we fall silent. Its time is unknown, so it carries none."""
        return self.status(Presence.OFFLINE, 0, "connection lost")

    def birth(self, birth: Birth) -> Message:
        """Registration, retained."""
        return Message(self._topic(Kind.BIRTH), encode_document(self.stamped(birth)), qos=1, retain=True)

    def stamped(self, birth: Birth) -> Birth:
        return replace(birth, boot=self.boot, session=self.session, instance=self.instance)

    def overrules(self, status: Status) -> bool:
        """True when a status seen on our own topic is older than what we are: a late will, to be published over."""
        return (status.boot, status.session) <= (self.boot, self.session) and status.state is not Presence.ONLINE

    def _topic(self, kind: Kind) -> str:
        return self.space.text(Topic(kind, self.node))


def heartbeat_payload(beat: Heartbeat) -> bytes:
    """A heartbeat as it travels. With very many pipelines it leaves out details: a refused one would mean offline."""
    limit = RULES[Kind.HEARTBEAT].payload_bytes_max
    payload = encode_packed(beat)
    if len(payload) > limit:
        payload = encode_packed(
            replace(beat, streams=[replace(s, counts={}, error=s.error[:80]) for s in beat.streams])
        )
    if len(payload) > limit:
        payload = encode_packed(replace(beat, streams=[]))
    return payload
