"""Messages of files: both ways, of other versions, and whatever a stranger may send."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.blobs import (
    CHUNK_BYTES_MAX,
    Chunk,
    Held,
    Offer,
    Reason,
    Refused,
    decode_down,
    decode_up,
    encode_blob,
    is_digest,
)
from schemas.errors import LocalWireError, RemoteWireError
from schemas.topics import RULES, Kind


def message(head: object, data: bytes = b"") -> bytes:
    packed: bytes = msgpack.packb(head)
    return len(packed).to_bytes(2, "big") + packed + data


@given(st.integers(0, 2**40 - 1), st.binary(max_size=2000))
def test_a_chunk_comes_back(at: int, data: bytes) -> None:
    assert decode_up(encode_blob(Chunk(at, data))) == Chunk(at, data)


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    for decode in (decode_up, decode_down):
        try:
            decode(noise)
        except RemoteWireError:
            continue


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert decode_up(message({"kind": "offer", "size": 5, "new": {"a": [1]}, "v": 9})) == Offer(5, v=9)
    assert decode_up(message({"kind": "chunk", "at": 5, "new": 1}, b"xy")) == Chunk(5, b"xy")
    assert decode_down(message({"kind": "held", "size": 5, "new": 1})) == Held(5)
    assert decode_down(message({"kind": "refused", "reason": "quota", "new": 1})) == Refused(Reason.QUOTA)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "a head of 0 bytes"),
        (b"\0", "a head of 0 bytes"),
        (b"\0\5abc", "a head of 5 bytes in a message of 5"),
        (b"\xff\xff" + b"x" * 70_000, "a head of 65535 bytes"),
        (b"\0\1\xc1", "no msgpack"),
        (b"\0\1\xc0", "no object"),
        (message({1: 2}), "no msgpack"),
        (message({"kind": "held", "size": 5}), "no message of a node"),
        (message({"kind": 7}), "no message of a node"),
        (message({"kind": "offer"}), "offer: size"),
        (message({"kind": "offer", "size": 0}), "at least 1"),
        (message({"kind": "offer", "size": 2**40}), "less than"),
        (message({"kind": "offer", "size": 5, "events": ["x"] * 33}), "events"),
        (message({"kind": "offer", "size": 5, "camera_id": "x" * 301}), "camera_id"),
        (message({"kind": "chunk", "at": -1}, b"x"), "at least 0"),
        (message({"kind": "chunk"}, b"x"), "chunk: at"),
        (message({"kind": "chunk", "at": 0}, bytes(512 * 1024)), "at most 524288"),
    ],
)
def test_what_a_node_must_not_send(payload: bytes, said: str) -> None:
    with pytest.raises(RemoteWireError, match=said):
        decode_up(payload)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"kind": "offer", "size": 5}, "no answer"),
        ({"kind": "held", "size": 5, "ranges": [[0, 6]]}, "no range of a file of 5"),
        ({"kind": "held", "size": 5, "ranges": [[3, 3]]}, "no range"),
        ({"kind": "held", "size": 5, "ranges": [[0, 2], [1, 3]]}, "no range"),
        ({"kind": "held", "size": 5, "ranges": [[0, 2], [2, 3]]}, "no range"),  # they would be one
        ({"kind": "held", "size": 5, "ranges": [[-1, 2]]}, "no range"),
        ({"kind": "held", "size": 5, "ranges": [[0, 1]] * 600}, "ranges"),
        ({"kind": "refused", "reason": "because"}, "reason"),
        ({"kind": "refused", "reason": "quota", "retry_after_s": -1.0}, "retry_after_s"),
        ({"kind": "refused", "reason": "quota", "retry_after_s": float("nan")}, "retry_after_s"),
    ],
)
def test_what_nobody_must_answer(head: dict[str, object], said: str) -> None:
    with pytest.raises(RemoteWireError, match=said):
        decode_down(message(head))


def test_a_message_too_large_is_a_mistake_of_ours() -> None:
    assert len(encode_blob(Chunk(0, bytes(CHUNK_BYTES_MAX)))) <= RULES[Kind.BLOB_UP].payload_bytes_max
    with pytest.raises(LocalWireError, match="a chunk of"):
        encode_blob(Chunk(0, bytes(CHUNK_BYTES_MAX + 1)))
    with pytest.raises(LocalWireError, match="the head"):
        encode_blob(Offer(5, events=["x" * 300] * 100))


@pytest.mark.parametrize(
    ("text", "right"),
    [("ab" * 32, True), ("AB" * 32, False), ("ab" * 31, False), ("../" + "a" * 61, False), ("", False)],
)
def test_names_of_files(text: str, right: bool) -> None:
    assert is_digest(text) is right
