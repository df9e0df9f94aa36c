"""zstd for payloads that may be compressed: a frame of RFC 8878, told by its first four bytes.

A msgpack map never begins with them, so a reader needs no flag. What a frame unpacks to is bounded before anything is
allocated: its header has to say the size, and no more than the reader allows is unpacked.
"""

import zstandard

from schemas.errors import RemoteWireError

MAGIC = b"\x28\xb5\x2f\xfd"
BYTES_MIN = 512  # below it a payload goes as it is: little to gain, and the reader is spared the work
GAIN_MIN = 0.1  # share that must be saved
LEVEL = 3
_TOO_SHORT = 9  # magic, descriptor and the shortest of everything else


def compress(payload: bytes) -> bytes:
    """The payload as a zstd frame where that pays: at least BYTES_MIN long, and a share of GAIN_MIN is saved."""
    if len(payload) < BYTES_MIN:
        return payload
    packed: bytes = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(payload)
    return packed if len(packed) <= len(payload) * (1.0 - GAIN_MIN) else payload


def is_compressed(payload: bytes) -> bool:
    """True for a zstd frame."""
    return payload[:4] == MAGIC


def decompress(payload: bytes, bytes_max: int) -> bytes:
    """What a frame holds; a payload that is none, as it is. Raises RemoteWireError for a frame that says no size or
    more than `bytes_max`, needs a dictionary, is damaged, or is followed by something."""
    if not is_compressed(payload):
        return payload
    try:
        if len(payload) < _TOO_SHORT:
            raise RemoteWireError(f"zstd frame of {len(payload)} bytes is cut short")
        head = zstandard.get_frame_parameters(payload)
        if head.content_size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
            raise RemoteWireError("zstd frame does not say how large it unpacks")
        if head.content_size > bytes_max:
            raise RemoteWireError(f"zstd frame unpacks to {head.content_size} bytes; at most {bytes_max} are allowed")
        if head.dict_id:
            raise RemoteWireError(f"zstd frame needs dictionary {head.dict_id}; none is used here")
        reader = zstandard.ZstdDecompressor()
        return bytes(reader.decompress(payload, max_output_size=bytes_max, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise RemoteWireError(f"zstd frame is damaged: {error}") from error
