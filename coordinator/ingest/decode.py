"""A delivery to what it says: rows, news of a node, or a refusal with its reason. Pure.

Nothing beyond this point has to doubt a value: texts can be stored, numbers fit, times are times (of documents the
codec sees to that), and the message came on a topic of the node that it names. The hot paths are `_event` and
`_heartbeat`.
"""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from coordinator.store.store import GapRow, RefusedMessage, ResultRow, Row
from runtime.mqtt import Delivery
from schemas import codec, documents
from schemas.compiled import compact
from schemas.documents import Reported
from schemas.errors import RemoteWireError
from schemas.identity import Identity, Lane
from schemas.language.catalogue import Catalogue
from schemas.language.check import InvalidError
from schemas.messages import Birth, Event, Heartbeat, Refusal, Status, SyncRow
from schemas.shape import fields_of
from schemas.topics import COORDINATOR, FLEET, Kind, Topic, TopicSpace
from schemas.values import quick_maker

RESULT_BYTES_KEPT = 16 * 1024
GAPS_MAX = 1000  # of one message; the sender tells the others again
REASON_CHARS_MAX = 200
_EVENTS = frozenset({Kind.EVENT, Kind.ALERT})
_LANES = frozenset(lane.value for lane in Lane)
_LANE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows to keep, and rows of the same message that cannot be kept."""

    kind: Kind
    rows: list[Row]
    refused: tuple[RefusedMessage, ...] = ()
    gaps: tuple[GapRow, ...] = ()


@dataclass(frozen=True, slots=True)
class News:
    """What a node says of itself."""

    node: str
    document: Status | Birth | Heartbeat | Reported


@dataclass(frozen=True, slots=True)
class Nothing:
    """To be acknowledged and forgotten: a cleared retained topic, our own words coming back, progress of a call."""


_facts, _news = quick_maker(Facts), quick_maker(News)
Decoded = Facts | News | ResultRow | RefusedMessage | Nothing


class Decoder:
    """Decodes below one topic root.

    With a catalogue, rows are checked against its schemas: one that is not as declared is refused, one that no schema
    declares is taken. Both are counted.
    """

    def __init__(self, space: TopicSpace, catalogue: Catalogue | None = None) -> None:
        self._space = space
        self._catalogue = catalogue
        self.invalid_total = 0
        self.unchecked_total = 0

    def decode(self, delivery: Delivery, received_utc_ms: int) -> Decoded:
        """Never raises for what somebody sent."""
        node = ""
        try:
            topic = self._space.parse(delivery.topic)
            node = topic.node
            if node in (COORDINATOR, FLEET):
                return Nothing()
            if topic.kind in _EVENTS and (plain := self._plain_event(topic, delivery, received_utc_ms)) is not None:
                return plain
            decoded = _BY_KIND[topic.kind](topic, delivery, received_utc_ms)
            return self._checked(decoded, delivery) if isinstance(decoded, Facts) else decoded
        except RemoteWireError as error:
            return RefusedMessage(delivery.topic, node, _short(error), delivery.payload, received_utc_ms)
        except KeyError:
            reason = "no message of this kind is taken here"
            return RefusedMessage(delivery.topic, node, reason, delivery.payload, received_utc_ms)

    def _plain_event(self, topic: Topic, delivery: Delivery, received_utc_ms: int) -> Facts | None:
        """An event exactly as agents write it and as its schema declares it; None for one to be looked at closely."""
        event = codec.open_event(topic.kind, topic.node, delivery.payload)
        if event is None or self._catalogue is None or not self._catalogue.is_plain_json(event.type, event.data):
            return None
        who, severity = event.identity, event.severity
        if (event.type if topic.kind is Kind.EVENT else severity) != topic.leaf or not _LANE.fullmatch(who.lane):
            return None
        row = Row(
            who.node, who.stream, who.lane, who.seq, event.type, event.subject, severity, event.time_utc_ms,
            received_utc_ms, event.boot, compact(event.data),
        )  # fmt: skip
        return _facts(topic.kind, [row], (), ())

    def _checked(self, facts: Facts, delivery: Delivery) -> Facts:
        """Without the rows that are not as their schema declares them: they are refused, and kept raw."""
        if self._catalogue is None:
            return facts
        refused: dict[int, RefusedMessage] = {}
        for i, row in enumerate(facts.rows):
            try:
                if not self._catalogue.check_json(row.type, row.data):
                    self.unchecked_total += 1
            except InvalidError as error:
                raw = row.data.encode() if facts.kind is Kind.SYNC else delivery.payload
                who = Identity(row.node, row.stream, row.lane, row.seq)
                refused[i] = _refused(delivery, raw, row.received_utc_ms, f"{row.type}: {error}", who)
        if not refused:
            return facts
        self.invalid_total += len(refused)
        rows = [row for i, row in enumerate(facts.rows) if i not in refused]
        return replace(facts, rows=rows, refused=(*facts.refused, *refused.values()))


def _event(topic: Topic, delivery: Delivery, received_utc_ms: int) -> Decoded:
    kind, node, payload = topic.kind, topic.node, delivery.payload
    try:
        event = codec.decode_event(kind, node, payload)
        return Facts(kind, [_event_row(topic, event, received_utc_ms)])
    except RemoteWireError as error:
        who = codec.identity_of(node, payload)
        return _refused(delivery, payload, received_utc_ms, error, who, node)


def _event_row(topic: Topic, event: Event, received_utc_ms: int) -> Row:
    who, severity = event.identity, event.severity
    named = event.type if topic.kind is Kind.EVENT else severity and severity.value
    if named != topic.leaf:
        raise RemoteWireError(f"{topic.kind.value}: payload says {named!r}, its topic {topic.leaf!r}")
    return Row(
        who.node,
        _storable(who.stream),
        _lane(who.lane),
        who.seq,
        _storable(event.type),
        _storable(event.subject),
        None if severity is None else severity.value,
        event.time_utc_ms,
        received_utc_ms,
        event.boot,
        _data(event.data),
    )


def _sync(topic: Topic, delivery: Delivery, received_utc_ms: int) -> Decoded:
    node = topic.node
    batch = codec.open_batch(delivery.payload)
    stream = _storable(batch.stream)
    if not 0 < len(stream) <= 200:
        raise RemoteWireError("sync: stream must be a text of 1 to 200 characters")
    rows: list[Row] = []
    refused: list[RefusedMessage] = []
    for i, item in enumerate(batch.rows):
        row = _plain_row(node, stream, batch.boot, item, received_utc_ms)
        if row is not None:
            rows.append(row)
            continue
        odd = _odd_row(delivery, node, stream, batch.boot, item, f"rows[{i}]", received_utc_ms)
        if isinstance(odd, Row):
            rows.append(odd)
        else:
            refused.append(odd)
    gaps: list[GapRow] = []
    for item in batch.gaps[:GAPS_MAX]:
        try:
            gap = codec.read_gap(item)
            gaps.append(
                GapRow(node, _storable(gap.stream), _lane(gap.lane), gap.first, gap.last, _storable(gap.reason)[:40],
                       received_utc_ms)
            )  # fmt: skip
        except RemoteWireError as error:
            refused.append(_refused(delivery, _raw(item), received_utc_ms, error, None, node))
    if len(batch.gaps) > GAPS_MAX:
        reason = f"sync: {len(batch.gaps)} gap records in one message; the first {GAPS_MAX} are taken"
        refused.append(_refused(delivery, b"", received_utc_ms, reason, None, node))
    return Facts(Kind.SYNC, rows, tuple(refused), tuple(gaps))


def _plain_row(node: str, stream: str, boot: int, item: Any, received_utc_ms: int) -> Row | None:
    """A row exactly as agents write it, in a fraction of the time; None for one that has to be looked at closely."""
    if type(item) is not dict or len(item) != 6:
        return None
    try:
        lane, seq, time_utc_ms = item["lane"], item["seq"], item["time_utc_ms"]
        kind, subject, data = item["type"], item["subject"], item["data"]
        text = _to_json(data) if type(data) is dict else ""  # refuses whatever JSON does not have
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    plain = (
        type(seq) is int
        and 0 < seq < 2**63
        and type(time_utc_ms) is int
        and 0 <= time_utc_ms < 2**63
        and type(lane) is str
        and lane in _LANES
        and type(kind) is str
        and type(subject) is str
        and text.count("{") + text.count("[") < codec.NESTING_MAX - 2  # too few to be nested too deep
        and text
    )
    if not plain or not _is_storable(kind + subject + text):
        return None
    return Row(node, stream, lane, seq, kind, subject, None, time_utc_ms, received_utc_ms, boot, text)


def _odd_row(
    delivery: Delivery, node: str, stream: str, boot: int, item: Any, place: str, received_utc_ms: int
) -> Row | RefusedMessage:
    """Any other row, or why it cannot be kept. Raises RemoteWireError when nobody could be told."""
    said = codec.read_row(stream, item, place)
    if isinstance(said, Refusal):
        who = Identity(node, stream, said.lane, said.seq)
        return _refused(delivery, _raw(item), received_utc_ms, said.reason, who)
    try:
        return _sync_row(node, stream, boot, said, received_utc_ms)
    except RemoteWireError as error:
        if said.seq == 0:
            raise
        return _refused(delivery, _raw(item), received_utc_ms, error, Identity(node, stream, said.lane, said.seq))


def _sync_row(node: str, stream: str, boot: int, row: SyncRow, received_utc_ms: int) -> Row:
    if row.seq == 0:
        raise RemoteWireError("sync: seq counts from 1")
    return Row(
        node,
        stream,
        _lane(row.lane),
        row.seq,
        _storable(row.type),
        _storable(row.subject),
        None,
        row.time_utc_ms,
        received_utc_ms,
        boot,
        _data(row.data),
    )


def _status(topic: Topic, delivery: Delivery, received_utc_ms: int) -> Decoded:
    if not delivery.payload:
        return Nothing()
    return _news(topic.node, codec.decode_document(Status, Kind.STATUS, delivery.payload))


def _birth(topic: Topic, delivery: Delivery, received_utc_ms: int) -> Decoded:
    if not delivery.payload:
        return Nothing()
    return _news(topic.node, codec.decode_document(Birth, Kind.BIRTH, delivery.payload))


def _heartbeat(topic: Topic, delivery: Delivery, received_utc_ms: int) -> Decoded:
    return _news(topic.node, codec.decode_packed(Heartbeat, Kind.HEARTBEAT, delivery.payload))


def _reported(topic: Topic, delivery: Delivery, received_utc_ms: int) -> Decoded:
    if not delivery.payload:
        return Nothing()
    return _news(topic.node, documents.decode_reported(delivery.payload))


def _result(topic: Topic, delivery: Delivery, received_utc_ms: int) -> Decoded:
    result = codec.decode_result(delivery.payload)
    if not result.state.final:  # how far a call is: of no use once the next message has come
        return Nothing()
    fields = fields_of(result)
    document = _data(fields)
    if len(document) > RESULT_BYTES_KEPT:
        document = _data({**fields, "result": None, "result_bytes": len(delivery.payload)})[:RESULT_BYTES_KEPT]
    return ResultRow(
        topic.node, topic.leaf, _storable(result.id[:200]), result.state.value, received_utc_ms, document
    )


_BY_KIND = {
    Kind.EVENT: _event,
    Kind.ALERT: _event,
    Kind.SYNC: _sync,
    Kind.STATUS: _status,
    Kind.BIRTH: _birth,
    Kind.HEARTBEAT: _heartbeat,
    Kind.REPORTED: _reported,
    Kind.RESULT: _result,
}


def _refused(
    delivery: Delivery, raw: bytes, received_utc_ms: int, reason: object, who: Identity | None, node: str = ""
) -> RefusedMessage:
    text = _short(reason)
    if who is None or not _LANE.fullmatch(who.lane) or not _is_storable(who.stream):
        return RefusedMessage(delivery.topic, node, text, raw, received_utc_ms)
    return RefusedMessage(delivery.topic, who.node, text, raw, received_utc_ms, who.stream, who.lane, who.seq)


def _raw(item: object) -> bytes:
    """One row of a batch: the batch itself may be large, and most of it is no part of the refusal."""
    return repr(item).encode("utf-8", "replace")


def _lane(lane: str) -> str:
    if not _LANE.fullmatch(lane):
        raise RemoteWireError(f"lane {lane[:40]!r} is no lane name")
    return lane


def _storable(text: str) -> str:
    """JSON can spell half a surrogate pair; no database can keep it."""
    if not _is_storable(text):
        raise RemoteWireError(f"{text[:40]!r} is no valid Unicode text")
    return text


def _is_storable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _data(data: object) -> str:
    try:
        return _storable(_to_json(data))
    except (TypeError, ValueError, RecursionError) as error:
        raise RemoteWireError(f"data is no JSON: {error}") from error


def _short(reason: object) -> str:
    """As it may be stored and sent back: bounded, and valid text whatever it quotes."""
    return str(reason).encode("utf-8", "replace").decode()[:REASON_CHARS_MAX]
