"""What an engine's child process and its parent say to each other.

    parent                                   child
      │  request (JSON)                        │
      ├───────────────────────────────────────►│  loads the model, warms up
      │            ready (JSON) + shared memory │  or: refused (JSON), and it ends
      │◄───────────────────────────────────────┤
      │  RUN seq         input lies in memory  │
      ├───────────────────────────────────────►│
      │  DONE seq        outputs lie in memory │  or: FAILED seq, text
      │◄───────────────────────────────────────┤
      │  QUIT                                  │
      ├───────────────────────────────────────►│  closes the engine and ends

Messages are datagrams of a SOCK_SEQPACKET pair: one kind byte, eight bytes of sequence number, then the body. The
child writes the monotonic clock into the first eight bytes of the shared memory as its heartbeat.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum

import numpy as np

from agent.infer.engine import Tensor, TensorSpec

MESSAGE_BYTES_MAX = 32 * 1024
"""Below the default socket buffer, so that a datagram of this size always fits."""
TEXT_MAX = 4000
HEADER_BYTES = 64
_ALIGNMENT = 64


class Kind(IntEnum):
    REQUEST = 1
    READY = 2
    REFUSED = 3
    RUN = 4
    DONE = 5
    FAILED = 6
    QUIT = 7


class Reason(IntEnum):
    """Why a child refused; it decides the type of the parent's error."""

    UNAVAILABLE = 1
    MODEL = 2


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """Which engine to open, in words that travel to another process."""

    name: str  # for people and logs
    model_path: str
    threads: int = 1
    delegate_path: str = ""  # a TFLite delegate library; none when empty
    delegate_options: tuple[tuple[str, str], ...] = ()
    accelerator: str = ""  # gpu or npu: LiteRT's compiled model instead of the interpreter
    warmup_runs: int = 3
    heartbeat_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Ready:
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    warmup_ms: float


def pack(kind: Kind, seq: int = 0, body: bytes = b"") -> bytes:
    return struct.pack("<BQ", kind, seq) + body


def unpack(message: bytes) -> tuple[Kind, int, bytes]:
    """Raises ValueError for what is no message."""
    if len(message) < 9:
        raise ValueError(f"message of {len(message)} bytes")
    kind, seq = struct.unpack_from("<BQ", message)
    return Kind(kind), seq, message[9:]


def request_to_bytes(request: EngineRequest) -> bytes:
    return json.dumps(asdict(request)).encode()


def request_from_bytes(body: bytes) -> EngineRequest:
    value = json.loads(body)
    value["delegate_options"] = tuple((k, v) for k, v in value["delegate_options"])
    return EngineRequest(**value)


def ready_to_bytes(ready: Ready) -> bytes:
    value = {
        "input": _spec_to_dict(ready.input),
        "outputs": [_spec_to_dict(s) for s in ready.outputs],
        "warmup_ms": ready.warmup_ms,
    }
    return json.dumps(value).encode()


def ready_from_bytes(body: bytes) -> Ready:
    value = json.loads(body)
    outputs = tuple(_spec_from_dict(s) for s in value["outputs"])
    return Ready(_spec_from_dict(value["input"]), outputs, float(value["warmup_ms"]))


def refusal_to_bytes(reason: Reason, what: str, hint: str) -> bytes:
    return json.dumps({"reason": int(reason), "what": what[:TEXT_MAX], "hint": hint[:TEXT_MAX]}).encode()


def refusal_from_bytes(body: bytes) -> tuple[Reason, str, str]:
    value = json.loads(body)
    return Reason(value["reason"]), str(value["what"]), str(value["hint"])


def _spec_to_dict(spec: TensorSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "shape": list(spec.shape),
        "dtype": spec.dtype.str,
        "scale": spec.scale,
        "zero_point": spec.zero_point,
    }


def _spec_from_dict(value: dict[str, object]) -> TensorSpec:
    shape = value["shape"]
    assert isinstance(shape, list)
    return TensorSpec(
        name=str(value["name"]),
        shape=tuple(int(d) for d in shape),
        dtype=np.dtype(str(value["dtype"])),
        scale=float(str(value["scale"])),
        zero_point=int(str(value["zero_point"])),
    )


def spec_bytes(spec: TensorSpec) -> int:
    return int(np.prod(spec.shape, dtype=np.int64)) * spec.dtype.itemsize


def memory_bytes(specs: Sequence[TensorSpec]) -> int:
    """Size of the shared memory for the heartbeat and these tensors."""
    return HEADER_BYTES + sum(-(-spec_bytes(s) // _ALIGNMENT) * _ALIGNMENT for s in specs)


def tensor_views(memory: memoryview, specs: Sequence[TensorSpec]) -> list[Tensor]:
    """Arrays over the shared memory, in the order of `specs`, each 64-byte aligned."""
    views, offset = [], HEADER_BYTES
    for spec in specs:
        count = int(np.prod(spec.shape, dtype=np.int64))
        views.append(np.frombuffer(memory, spec.dtype, count, offset).reshape(spec.shape))
        offset += -(-spec_bytes(spec) // _ALIGNMENT) * _ALIGNMENT
    return views


def write_heartbeat(memory: memoryview, mono_ns: int) -> None:
    struct.pack_into("<Q", memory, 0, mono_ns)


def read_heartbeat(memory: memoryview) -> int:
    return int(struct.unpack_from("<Q", memory, 0)[0])
