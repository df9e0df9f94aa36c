"""What reads the broken input: everything that is decoded, and what must hold of whatever is taken or refused."""

import dataclasses
from collections.abc import Callable
from typing import Any

from schemas import blobs, codec, documents
from schemas.compress import decompress
from schemas.errors import RemoteWireError
from schemas.language.format import format_file
from schemas.language.limits import ERRORS_MAX
from schemas.language.load import load_text
from schemas.language.parse import parse, parse_what_can_be
from schemas.language.problems import SchemaError
from schemas.language.tree import Place
from schemas.messages import Ack, Birth, Heartbeat, Result, Status, SyncBatch
from schemas.topics import RULES, Kind

MESSAGE_CHARS_MAX = 2_000

_DECODERS: tuple[Callable[[bytes], Any], ...] = (
    lambda payload: codec.decode_document(Status, Kind.STATUS, payload),
    lambda payload: codec.decode_document(Birth, Kind.BIRTH, payload),
    lambda payload: codec.decode_object(Kind.DESIRED, payload),
    lambda payload: codec.decode_packed(Heartbeat, Kind.HEARTBEAT, payload),
    lambda payload: codec.decode_packed(SyncBatch, Kind.SYNC, payload),
    lambda payload: codec.decode_packed(Ack, Kind.ACK, payload),
    lambda payload: codec.decode_event(Kind.EVENT, "gw-1", payload),
    lambda payload: codec.decode_event(Kind.ALERT, "gw-1", payload),
    lambda payload: codec.identity_of("gw-1", payload),
    codec.decode_batch,
    lambda payload: codec.decode_command("snapshot", payload),
    codec.decode_result,
)


def read_schema(text: str) -> bool:
    """The parser, the checker, and the formatter of what parses."""
    parsed = None
    try:
        parsed = parse_what_can_be(text)
    except SchemaError as error:
        _check_told(error, text)
    try:
        load_text(text)
        is_taken = True
    except SchemaError as error:
        _check_told(error, text)
        is_taken = False
    if parsed is not None and not any(problem.is_error for problem in parsed.problems):
        written = format_file(parsed.file)
        again = parse(written)
        assert without_places(again.declarations) == without_places(parsed.file.declarations), "another meaning"
        assert format_file(again) == written, "formatting twice gives something else"
        assert _comments(again.comments) == _comments(parsed.file.comments), "comments are not kept"
    return is_taken


def _comments(comments: Any) -> list[str]:
    return sorted("\n".join(line.strip() for line in one.text.split("\n")) for one in comments)


def _check_told(error: SchemaError, text: str) -> None:
    assert error.problems, "refused without a word"
    assert len(error.problems) <= 4 * (ERRORS_MAX + 1), "too much is told"
    lines = text.count("\n") + 1
    for problem in error.problems:
        assert 1 <= problem.place.line <= lines and problem.place.column >= 1, problem.place
        assert len(str(problem)) < MESSAGE_CHARS_MAX, "a message without an end"


def without_places(value: Any) -> Any:
    """A tree in which everything stands nowhere."""
    if isinstance(value, Place):
        return None
    if isinstance(value, tuple | list):
        return tuple(without_places(one) for one in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return (type(value), *(without_places(getattr(value, one.name)) for one in dataclasses.fields(value)))
    return value


def read_message(payload: bytes) -> bool:
    """Every decoder of the codec. What is taken can be sent on as JSON and as msgpack."""
    taken = False
    for decode in _DECODERS:
        try:
            found = decode(payload)
        except RemoteWireError as error:
            _check_short(error)
        else:
            taken = taken or found is not None
            if isinstance(found, Result):
                codec.encode_result(found, packed=False)
                codec.encode_result(found, packed=True)
    return taken


def _check_short(error: Exception) -> None:
    assert len(str(error)) < 100_000, "a message without an end"


def read_blob(payload: bytes) -> bool:
    taken = False
    for decode in (blobs.decode_up, blobs.decode_down):
        try:
            decode(payload)
            taken = True
        except RemoteWireError as error:
            _check_short(error)
    return taken


def read_document(payload: bytes) -> bool:
    taken = False
    for decode in (documents.decode_desired, documents.decode_reported):
        try:
            found = decode(payload)
            found.writes()
            taken = True
        except RemoteWireError as error:
            _check_short(error)
    return taken


def read_frame(payload: bytes) -> bool:
    limit = RULES[Kind.SYNC].payload_bytes_max
    try:
        assert len(decompress(payload, limit)) <= max(limit, len(payload)), "more than the limit"
    except RemoteWireError as error:
        _check_short(error)
        return False
    return True
