"""What a simulated node says of itself over and over: status and heartbeat. Pure."""

from collections.abc import Sequence

from coordinator.simulate.documents import Papers
from schemas.compiled import packed_of
from schemas.identity import Lane
from schemas.messages import WIRE_VERSION, Presence, StreamReport
from schemas.values import quick_maker

FRAMES_S = 10  # a camera's, as the reports have it
_EVENT = Lane.EVENT.value
_report_of = quick_maker(StreamReport)


def status_payload(state: Presence, boot: int, session: int, utc_ms: int, reason: str = "") -> bytes:
    """A `Status`, byte for byte as the codec writes it. A will carries no time; reasons are plain words of ours."""
    return (
        f'{{"state":"{state.value}","boot":{boot},"session":{session},"time_utc_ms":{utc_ms},"reason":"{reason}",'
        f'"v":{WIRE_VERSION}}}'
    ).encode()


def heartbeat_payload(
    boot: int,
    session: int,
    seq: int,
    uptime_s: float,
    utc_ms: int,
    waiting: int,
    birth_hash: str,
    papers: Papers,
    cores: float = 0.0,
    pipelines: Sequence[str] = (),
) -> bytes:
    """A `Heartbeat`, byte for byte as the codec writes it: as large as that of an agent with one camera.

    `cores`: what its workloads take beside that.
    """
    frames = int(uptime_s * FRAMES_S)
    return packed_of(
        {
            "boot": boot,
            "session": session,
            "seq": seq,
            "uptime_s": round(uptime_s, 1),
            "time_utc_ms": utc_ms,
            "cpu_percent": 35.0 + 100.0 * cores,
            "memory_mb": 96.0,
            "temperature_c": 51.5,
            "disk_free_mb": 20_000.0,
            "loop_stall_ms_p99": 0.0,
            "outbox_pending": {_EVENT: waiting},
            "streams": [
                _report_of(
                    "cam1", name, "running", frames, frames // 7, 0, FRAMES_S, 3.8, 5.1, 6.0, "litert-cpu", {}, ""
                )
                for name in pipelines or ("cam1",)
            ],
            "birth_hash": birth_hash,
            "desired_hash": papers.desired.hash if papers.desired else "",
            "reported_hash": papers.report_hash,
            "v": WIRE_VERSION,
        }
    )
