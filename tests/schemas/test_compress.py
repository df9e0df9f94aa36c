"""Payloads in a zstd frame: when it pays, and what is refused before anything is unpacked."""

import os
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.compress import BYTES_MIN, MAGIC, compress, decompress, is_compressed
from schemas.errors import RemoteWireError
from schemas.messages import SyncBatch
from schemas.topics import RULES, Kind

LIMIT = RULES[Kind.SYNC].payload_bytes_max
PLAIN = b"the same again, " * 100


def frame(data: bytes, **how: bool) -> bytes:
    return zstandard.ZstdCompressor(**how).compress(data)  # type: ignore[arg-type]


@given(st.binary(max_size=3000) | st.integers(0, 3000).map(lambda n: b"a" * n))
def test_what_is_compressed_comes_back(payload: bytes) -> None:
    packed = compress(payload)
    assert len(packed) <= len(payload)
    if is_compressed(packed) and packed != payload:
        assert decompress(packed, len(payload)) == payload


@pytest.mark.parametrize(
    ("payload", "pays"),
    [(b"a" * (BYTES_MIN - 1), False), (b"a" * BYTES_MIN, True), (os.urandom(4096), False), (PLAIN, True)],
    ids=["short", "just long enough", "noise", "text"],
)
def test_it_is_compressed_only_where_that_pays(payload: bytes, pays: bool) -> None:
    assert is_compressed(compress(payload)) is pays
    if not pays:
        assert compress(payload) == payload


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (frame(bytes(LIMIT + 1)), f"unpacks to {LIMIT + 1} bytes; at most {LIMIT} are allowed"),
        (frame(bytes(2**27)), "unpacks to 134217728 bytes; at most"),
        (frame(PLAIN, write_content_size=False), "does not say how large it unpacks"),
        (frame(PLAIN)[:-3], "damaged"),
        (frame(PLAIN, write_checksum=True)[:-1] + b"\0", "damaged"),
        (frame(PLAIN) + b"x", "damaged"),
        (frame(PLAIN) + frame(PLAIN), "damaged"),
        (MAGIC, "cut short"),
        (MAGIC + bytes(20), "does not say how large"),
        (MAGIC + b"\xff" * 20, "zstd frame"),
    ],
    ids=["one too many", "bomb", "no size", "torn", "wrong checksum", "tail", "two", "magic", "zeros", "ones"],
)
def test_what_a_frame_must_not_be(payload: bytes, said: str) -> None:
    with pytest.raises(RemoteWireError, match=said):
        codec.open_batch(payload)
    with pytest.raises(RemoteWireError, match=said):
        codec.decode_packed(SyncBatch, Kind.SYNC, payload)


def test_a_frame_that_needs_a_dictionary_is_refused() -> None:
    words = zstandard.ZstdCompressionDict(PLAIN, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    trained = zstandard.train_dictionary(4096, [os.urandom(40) * 9 for _ in range(200)])
    payload = zstandard.ZstdCompressor(dict_data=trained).compress(PLAIN)
    with pytest.raises(RemoteWireError, match=r"needs dictionary \d+"):
        decompress(payload, LIMIT)
    with pytest.raises(RemoteWireError, match="damaged"):  # one without a number
        decompress(zstandard.ZstdCompressor(dict_data=words).compress(PLAIN), LIMIT)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = frame(bytes(2**27))
    tracemalloc.start()
    try:
        with pytest.raises(RemoteWireError):
            codec.open_batch(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_frame_holds_a_batch_and_nothing_else() -> None:
    with pytest.raises(RemoteWireError, match=r"no msgpack|no object"):
        codec.open_batch(frame(PLAIN))
    nested = frame(frame(codec.encode_packed(SyncBatch("s1"))))
    with pytest.raises(RemoteWireError, match=r"no msgpack|no object"):
        codec.open_batch(nested)
