"""Broken messages: recorded ones with bytes or values changed, random bytes, deep and large ones."""

import copy
import json
import random
import struct
from collections.abc import Mapping
from typing import Any

import msgpack
import zstandard

from schemas.documents import content_hash

_NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.5, -0.0, 1e308, "", "x" * 300,
    "é\u667a", "\0", "1", "-1", "00", "9" * 30, "2026-11-30T10:00:00Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z",
    [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [1, 2], [[0, 5], [3, 9]], "accepted", "raised", "critical",
]  # fmt: skip
_BYTES = [
    b"\x00",
    b"\xff",
    b"\x80",
    b"\xc1",
    b"\xdf\xff\xff\xff\xff",
    b"\xdd\x7f\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b'"',
]
_JSON_DEEP = (b'{"a":', b"1", b"}")


class Wires:
    """`seeds` are recorded messages by the name of their file."""

    def __init__(self, seeds: Mapping[str, bytes]) -> None:
        self._json = [content for name, content in seeds.items() if name.endswith(".json")]
        self._packed = [content for name, content in seeds.items() if name.endswith(".msgpack")]
        self._blobs = [content for name, content in seeds.items() if name.startswith("blob-")]
        self._documents = [seeds[name] for name in ("desired.json", "reported.json") if name in seeds]
        self._all = [*seeds.values()] or [b"{}"]

    def message(self, rng: random.Random) -> bytes:
        """For any of the decoders of `schemas.codec`."""
        kind = rng.random()
        if kind < 0.3 and self._json:
            return _dumped(_edited(rng, json.loads(rng.choice(self._json))))
        if kind < 0.6 and self._packed:
            return _packed(_edited(rng, msgpack.unpackb(rng.choice(self._packed))))
        if kind < 0.9:
            return _changed(rng, rng.choice(self._all))
        if kind < 0.95:
            return rng.randbytes(rng.randrange(100))
        return _deep(rng)

    def blob(self, rng: random.Random) -> bytes:
        """For the decoders of `schemas.blobs`."""
        seed = rng.choice(self._blobs or self._all)
        if rng.random() < 0.5:
            length = int.from_bytes(seed[:2], "big")
            try:
                head = _packed(_edited(rng, msgpack.unpackb(seed[2 : 2 + length])))
            except (ValueError, msgpack.UnpackException):
                head = b"\x80"
            return len(head[:65_535]).to_bytes(2, "big") + head + seed[2 + length :]
        return _changed(rng, seed)

    def document(self, rng: random.Random) -> bytes:
        """For those of `schemas.documents`; most have the right hash."""
        if not self._documents or rng.random() < 0.2:
            return _changed(rng, rng.choice(self._documents or self._all))
        edited = _edited(rng, json.loads(rng.choice(self._documents)))
        if isinstance(edited, dict) and rng.random() < 0.9:
            try:
                edited["hash"] = content_hash(edited)
            except (ValueError, TypeError):
                return _dumped(edited)
        return _dumped(edited)

    def frame(self, rng: random.Random) -> bytes:
        """For `schemas.compress`."""
        content = rng.choice(self._all) * rng.choice([1, 1, 1, 50, 2000])
        packed: bytes = zstandard.ZstdCompressor(
            level=1, write_checksum=rng.random() < 0.5, write_content_size=rng.random() < 0.8
        ).compress(content[:4_000_000])
        return packed if rng.random() < 0.1 else _changed(rng, packed)


def _changed(rng: random.Random, content: bytes) -> bytes:
    made = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(6):
            case 0 if at < len(made):
                made[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(made):
                made[at] = rng.randrange(256)
            case 2:
                del made[at : at + rng.choice([1, 2, 8, 64])]
            case 3:
                made[at:at] = rng.choice(_BYTES)
            case 4:
                made[at:at] = made[at : at + rng.choice([1, 8, 64])]
            case 5:
                del made[at:]
    return bytes(made)


def _edited(rng: random.Random, value: Any) -> Any:
    """The value with something in it replaced, left out or put in."""
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        way = [value]
        while isinstance(way[-1], dict | list) and way[-1] and rng.random() < 0.7:
            inner = way[-1]
            way.append(inner[rng.choice(list(inner))] if isinstance(inner, dict) else rng.choice(inner))
        here: Any = next((one for one in reversed(way) if isinstance(one, dict | list)), None)
        nasty = copy.deepcopy(rng.choice(_NASTY))
        if isinstance(here, dict):
            key = rng.choice([*here, "new", ""])
            if rng.random() < 0.2:
                here.pop(key, None)
            else:
                here[key] = nasty if rng.random() < 0.9 else {key: copy.deepcopy(here.get(key)), "more": nasty}
        elif isinstance(here, list):
            at = rng.randrange(len(here) + 1)
            here[at : at + rng.randrange(2)] = [copy.deepcopy(nasty) for _ in range(rng.choice([0, 1, 1, 3, 600]))]
        else:
            return nasty
    return value


def _dumped(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError):  # bytes among it
        return repr(value).encode("utf-8", "replace")


def _packed(value: Any) -> bytes:
    try:
        packed: bytes = msgpack.packb(value)
    except (ValueError, OverflowError, TypeError):
        return b"\x80"
    return packed


def _deep(rng: random.Random) -> bytes:
    depth = rng.choice([30, 31, 32, 33, 500, 20_000])
    match rng.randrange(4):
        case 0:
            first, middle, last = _JSON_DEEP
            return first * depth + middle + last * depth
        case 1:
            return b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        case 2:
            return b"\x81\xa1a" * depth + b"\x01"
    return b"\x81\xa1a\xdd" + struct.pack(">I", depth) + b"\x91" * depth
