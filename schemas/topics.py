"""Every topic of the contract, as types, both ways: `Topic` to text and text to `Topic`.

All of MQTT addressing lives in this file: one table says for each kind of message how its topic looks, its QoS,
whether it is retained, how large it may be and who may write it.
"""

import enum
import functools
import re
from dataclasses import dataclass

from schemas.errors import LocalWireError, RemoteWireError

ROOT = "edge/v1"
COORDINATOR = "coordinator"
FLEET = "fleet"
RESERVED = frozenset({COORDINATOR, FLEET})

NODE_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
NODE_MEANS = "1 to 63 of a-z 0-9 . _ - with a letter or digit first"
LEAF_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"

LEVELS_REMEMBERED, LEVELS_CHARS_MAX = 4096, 160

_NODE = re.compile(NODE_PATTERN)
_LEAF = re.compile(LEAF_PATTERN)


class Kind(enum.Enum):
    """What a message is; the value is its place below `<root>/<node>/`."""

    STATUS = "status"
    BIRTH = "birth"
    HEARTBEAT = "heartbeat"
    EVENT = "event"
    ALERT = "alert"
    SYNC = "sync"
    BLOB_UP = "blob/up"
    BLOB_DOWN = "blob/down"
    ACK = "ack"
    DESIRED = "desired"
    REPORTED = "reported"
    CMD = "cmd"
    RESULT = "result"


class Writer(enum.Enum):
    """Who may publish on a topic; the broker's ACL says the same."""

    NODE = "node"
    COORDINATOR = "coordinator"
    ANYONE = "anyone allowed"


@dataclass(frozen=True, slots=True)
class Rule:
    """How messages of one kind travel. A reader refuses more than `payload_bytes_max`, so a writer cuts to fit."""

    qos: int
    retain: bool
    payload_bytes_max: int
    writer: Writer
    leaf: bool  # a further level follows: the type, severity, function or blob id


# A packet limit of 1 MiB on the broker leaves room for every kind below; documents are small by nature, batches and
# chunks are cut to fit.
RULES: dict[Kind, Rule] = {
    Kind.STATUS: Rule(1, True, 4 * 1024, Writer.NODE, leaf=False),
    Kind.BIRTH: Rule(1, True, 64 * 1024, Writer.NODE, leaf=False),
    Kind.HEARTBEAT: Rule(0, False, 16 * 1024, Writer.NODE, leaf=False),
    Kind.EVENT: Rule(1, False, 128 * 1024, Writer.NODE, leaf=True),
    Kind.ALERT: Rule(1, False, 64 * 1024, Writer.NODE, leaf=True),
    Kind.SYNC: Rule(1, False, 512 * 1024, Writer.NODE, leaf=False),
    Kind.BLOB_UP: Rule(1, False, 512 * 1024, Writer.NODE, leaf=True),
    Kind.BLOB_DOWN: Rule(1, False, 512 * 1024, Writer.COORDINATOR, leaf=True),
    Kind.ACK: Rule(1, False, 64 * 1024, Writer.COORDINATOR, leaf=False),
    Kind.DESIRED: Rule(1, True, 256 * 1024, Writer.COORDINATOR, leaf=False),
    Kind.REPORTED: Rule(1, True, 256 * 1024, Writer.NODE, leaf=False),
    Kind.CMD: Rule(1, False, 64 * 1024, Writer.ANYONE, leaf=True),
    Kind.RESULT: Rule(1, False, 900 * 1024, Writer.NODE, leaf=True),
}

# Below the reserved names only these kinds exist.
_RESERVED_KINDS = {
    COORDINATOR: frozenset({Kind.CMD, Kind.RESULT, Kind.STATUS}),
    FLEET: frozenset({Kind.EVENT}),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `node` is a node's name, `coordinator` or `fleet`; `leaf` the last level where there is one."""

    kind: Kind
    node: str
    leaf: str = ""

    def __post_init__(self) -> None:
        mistake = _mistake(self.kind, self.node, self.leaf)
        if mistake:
            raise LocalWireError(mistake)

    @property
    def rule(self) -> Rule:
        return RULES[self.kind]


def _mistake(kind: Kind, node: str, leaf: str) -> str | None:
    if not _NODE.fullmatch(node):
        return f"{node[:80]!r} is no node name: {NODE_MEANS}"
    if node in RESERVED and kind not in _RESERVED_KINDS[node]:
        return f"there is no {kind.value} topic below the reserved name {node}"
    if RULES[kind].leaf and not _LEAF.fullmatch(leaf):
        return f"{leaf[:140]!r} cannot be the last level of a {kind.value} topic"
    if not RULES[kind].leaf and leaf:
        return f"a {kind.value} topic has no further level"
    return None


def _checked(kind: Kind, node: str, leaf: str) -> Topic:
    """A topic of which everything was looked at already."""
    topic = object.__new__(Topic)
    for name, value in (("kind", kind), ("node", node), ("leaf", leaf)):
        object.__setattr__(topic, name, value)
    return topic


@functools.lru_cache(LEVELS_REMEMBERED)
def _below(rest: str) -> tuple[Kind, str] | None:
    """What stands below a node, as kind and last level. Few are in use, by all nodes, again and again."""
    for kind, rule in RULES.items():
        if rule.leaf and rest.startswith(kind.value + "/"):
            return kind, rest[len(kind.value) + 1 :]
        if rest == kind.value:
            return kind, ""
    return None


@dataclass(frozen=True, slots=True)
class TopicSpace:
    """The topics below one root; tenants have one each.

    >>> TopicSpace().text(Topic(Kind.EVENT, "gw-1", "ObjectSeen"))
    'edge/v1/gw-1/event/ObjectSeen'
    >>> TopicSpace().parse("edge/v1/gw-1/cmd/snapshot")
    Topic(kind=<Kind.CMD: 'cmd'>, node='gw-1', leaf='snapshot')
    >>> TopicSpace().filter(Kind.EVENT)
    'edge/v1/+/event/+'
    """

    root: str = ROOT

    def text(self, topic: Topic) -> str:
        """The topic as it stands on the wire."""
        base = f"{self.root}/{topic.node}/{topic.kind.value}"
        return f"{base}/{topic.leaf}" if topic.leaf else base

    def parse(self, text: str) -> Topic:
        """The topic behind `text`. Raises RemoteWireError: not below this root, or not of the contract."""
        prefix = self.root + "/"
        if not text.startswith(prefix):
            raise RemoteWireError(f"topic {text[:200]!r} is not below {self.root}")
        node, _, rest = text[len(prefix) :].partition("/")
        found = _below(rest) if len(rest) <= LEVELS_CHARS_MAX else None
        if found is None:
            raise RemoteWireError(f"topic {text[:200]!r} is of no known kind")
        kind, leaf = found
        if (mistake := _mistake(kind, node, leaf)) is not None:
            raise RemoteWireError(f"topic {text[:200]!r}: {mistake}")
        return _checked(kind, node, leaf)

    def own_share(self, kind: Kind, node: str, group: str) -> str:
        """The same as `filter` of one node, as a shared subscription whose group has one member."""
        return f"$share/{group}/{self.filter(kind, node)}"

    def filter(self, kind: Kind, node: str = "+") -> str:
        """The subscription that catches every topic of `kind`, of one node or of all."""
        return f"{self.root}/{node}/{kind.value}" + ("/+" if RULES[kind].leaf else "")


def check_node_name(name: str) -> str | None:
    """What is wrong with `name` as a node's name, or None."""
    if name in RESERVED:
        return f"{name!r} is reserved"
    return None if _NODE.fullmatch(name) else f"{name[:80]!r} is no node name: {NODE_MEANS}"
