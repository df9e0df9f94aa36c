"""The desired and the reported document of a node: values, hash, bytes.

Both are JSON objects with flat fields (`"pipelines.door.enabled": false`). The hash is over the canonical form (keys
sorted, no spaces, UTF-8) of the object without its `hash`, so that it holds for fields of later versions too.
The order of desired documents is `(epoch, revision)`: no clock has a say in it. A shared field that the coordinator
has taken back stays as null with its stamp.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar

from schemas.codec import check_size, decode_object, quick_document
from schemas.errors import LocalWireError, RemoteWireError
from schemas.fields import Rule, rule_of
from schemas.hlc import Stamp
from schemas.messages import WIRE_VERSION, Count
from schemas.shape import Limit, ShapeError, fields_of, read
from schemas.topics import RULES, Kind

FIELDS_MAX = 1000
PATH_CHARS_MAX = 200
VERSION_MAX = 2**53  # of a report: a coordinator goes beyond what nodes report, and numbers end at 2^63
CONFLICTS_MAX = 50  # told in a reported document, the newest
_canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode

T = TypeVar("T", bound="Desired | Reported")
Version = tuple[int, int]
"""(epoch, revision); (0, 0) before the first document."""


@dataclass(frozen=True, slots=True)
class Written:
    """When one side wrote a shared field, and the other side's write that it knew then; "" for none. On the wire."""

    at: Annotated[str, Limit(len_max=100)]
    over: Annotated[str, Limit(len_max=100)] = ""


@dataclass(frozen=True, slots=True)
class Write:
    """One side's last write to a shared field. A value of None takes the side's own value back."""

    value: Any
    at: Stamp
    over: Stamp = Stamp()

    @property
    def written(self) -> Written:
        return Written(str(self.at), str(self.over) if self.over.node else "")


@dataclass(frozen=True, slots=True)
class Conflict:
    """Both sides wrote a shared field differently, and one write, or a part of it, did not come to hold."""

    path: str
    rule: Rule
    coordinator_value: Any
    coordinator_at: str
    node_value: Any
    node_at: str
    value: Any  # what holds
    winner: str  # coordinator, node, or both


@dataclass(frozen=True, slots=True)
class Desired:
    """How a node should be. `stamps` are those of the shared fields among `fields`."""

    epoch: Count = 0
    revision: Count = 0
    fields: dict[str, Any] = field(default_factory=dict)
    stamps: dict[str, Written] = field(default_factory=dict)
    hash: str = ""
    v: int = WIRE_VERSION

    @property
    def version(self) -> Version:
        return self.epoch, self.revision

    def writes(self) -> dict[str, Write]:
        """The coordinator's writes to shared fields, those that it took back included."""
        return _writes(self.fields, self.stamps)


@dataclass(frozen=True, slots=True)
class Reported:
    """How a node is, and for which desired document. A later `(boot, serial)` is newer.

    `fields` is what holds now, `local` with `stamps` what was written at the node, `refused` what the node could not
    apply, with the reason. A field in `pending` is neither held nor refused yet: the node works on it, and says there
    how far it is.
    """

    boot: Count = 0
    serial: Count = 0  # +1 with each document of a boot that differs
    epoch: Count = 0
    revision: Count = 0
    desired_hash: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)
    stamps: dict[str, Written] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    clock_ahead_ms: int = 0  # how far the coordinator's newest stamp was ahead of our clock, where that was too much
    pending: dict[str, str] = field(default_factory=dict)
    hash: str = ""
    v: int = WIRE_VERSION

    @property
    def version(self) -> Version:
        """Of the desired document that it answers."""
        return self.epoch, self.revision

    def writes(self) -> dict[str, Write]:
        """The node's writes to shared fields, those that it took back included."""
        return _writes(self.local, self.stamps)


def _writes(values: Mapping[str, Any], stamps: Mapping[str, Written]) -> dict[str, Write]:
    """A shared field without a stamp is of a writer whose version did not share it: any other write is later."""
    found = {path: Write(value, Stamp()) for path, value in values.items() if rule_of(path) is not None}
    for path, one in stamps.items():
        found[path] = Write(values[path], Stamp.parse(one.at), Stamp.parse(one.over) if one.over else Stamp())
    return found


# ---- hash and bytes ----------------------------------------------------------------------------


def canonical(value: Any) -> str:
    """The one JSON text of a value."""
    return _canonical(fields_of(value))


def content_hash(document: Mapping[str, Any]) -> str:
    """32 hexadecimal digits of the SHA-256 of the document without its hash."""
    content = {key: value for key, value in document.items() if key != "hash"}
    return hashlib.sha256(_canonical(content).encode()).hexdigest()[:32]


def sealed(document: T) -> T:
    """With its hash."""
    return replace(document, hash=content_hash(_content(document)))


def _content(document: Desired | Reported) -> dict[str, Any]:
    """What came later is left out where it says nothing: the document of an earlier version keeps its hash."""
    content: dict[str, Any] = fields_of(document)
    if not content.get("pending", True):
        del content["pending"]
    return content


def encode(document: Desired | Reported) -> bytes:
    """Canonical JSON with the right hash. Raises LocalWireError for what is too large or no JSON."""
    return _encoded(document, hash_again=True)


def encode_sealed(document: Desired | Reported) -> bytes:
    """The same for a document that has its hash, as `sealed` and the decoders give it: that is not made again."""
    return _encoded(document, hash_again=False)


def _encoded(document: Desired | Reported, *, hash_again: bool) -> bytes:
    kind = Kind.DESIRED if isinstance(document, Desired) else Kind.REPORTED
    try:
        fields = _content(document)
        payload = _canonical({**fields, "hash": content_hash(fields)} if hash_again else fields).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalWireError(f"{kind.value}: not JSON: {error}") from error
    limit = RULES[kind].payload_bytes_max
    if len(payload) > limit:
        raise LocalWireError(f"{kind.value} of {len(payload)} bytes; at most {limit} are allowed")
    return payload


def decode_desired(payload: bytes) -> Desired:
    """Raises RemoteWireError for a wrong shape, version, stamp or hash; fields that nobody knows stay."""
    document = _decoded(Desired, Kind.DESIRED, payload)
    if min(document.version) < 1:
        raise RemoteWireError(f"desired: epoch {document.epoch} and revision {document.revision} count from 1")
    _check_fields(Kind.DESIRED, document.fields, document.stamps)
    return document


def decode_reported(payload: bytes) -> Reported:
    """Raises RemoteWireError as `decode_desired`."""
    document = _decoded(Reported, Kind.REPORTED, payload)
    if max(document.version) > VERSION_MAX:
        raise RemoteWireError(
            f"reported: epoch {document.epoch}, revision {document.revision}: nobody ever gave these"
        )
    _check_fields(Kind.REPORTED, document.local, document.stamps)
    told = max(len(document.fields), len(document.refused), len(document.pending))
    if told > 2 * FIELDS_MAX or len(document.conflicts) > CONFLICTS_MAX:
        raise RemoteWireError("reported: too many fields, refusals or conflicts")
    if too_long := next((path for path in document.fields if len(path) > PATH_CHARS_MAX), None):
        raise RemoteWireError(f"reported: {too_long[:40]!r}… is no name of a field")
    return document


def _as_encoded(cls: type[T], kind: Kind, payload: bytes) -> T | None:
    """A document exactly as `encode` writes it, in half the time; None for one that has to be looked at closely."""
    check_size(kind, payload)
    found = quick_document(cls, payload)
    if found is None or _canonical(_content(found)).encode() != payload:
        return None
    told = f'"hash":"{found.hash}",'.encode()  # never the last of the sorted keys
    content = payload.replace(told, b"", 1)
    is_right = payload.count(told) == 1 and hashlib.sha256(content).hexdigest()[:32] == found.hash
    return found if is_right else None


def _decoded(cls: type[T], kind: Kind, payload: bytes) -> T:
    if (found := _as_encoded(cls, kind, payload)) is not None:
        return found
    raw = decode_object(kind, payload)
    told, right = raw.get("hash"), content_hash(raw)
    if told != right:
        raise RemoteWireError(f"{kind.value}: its hash is {str(told)[:40]!r}, its content has {right}")
    try:
        return read(cls, raw, strict=False)
    except ShapeError as error:
        raise RemoteWireError(f"{kind.value}: {error}") from error


def _check_fields(kind: Kind, values: Mapping[str, Any], stamps: Mapping[str, Written]) -> None:
    if len(values) > FIELDS_MAX:
        raise RemoteWireError(f"{kind.value}: {len(values)} fields; at most {FIELDS_MAX} are allowed")
    for path in values:
        if not 0 < len(path) <= PATH_CHARS_MAX:
            raise RemoteWireError(f"{kind.value}: {path[:40]!r} is no name of a field")
    for path, one in stamps.items():
        if path not in values:
            raise RemoteWireError(f"{kind.value}: a stamp for {path[:40]!r}, which is not among the fields")
        try:
            Stamp.parse(one.at)
            Stamp.parse(one.over or one.at)
        except ValueError as error:
            raise RemoteWireError(f"{kind.value}: {path}: {error}") from error
