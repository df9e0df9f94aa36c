"""What a simulated node says of itself over and over: status and heartbeat. Pure."""

from collections.abc import Sequence

from coordinator.simulate.documents import Papers
from schemas.codec import encode_document, encode_packed
from schemas.identity import Lane
from schemas.messages import Heartbeat, Presence, Status, StreamReport

FRAMES_S = 10  # a camera's, as the reports have it


def status_payload(state: Presence, boot: int, session: int, utc_ms: int, reason: str = "") -> bytes:
    """A will carries no time."""
    return encode_document(Status(state, boot, session, utc_ms, reason))


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
    """As large as that of an agent with one camera. `cores`: what its workloads take beside that."""
    frames = int(uptime_s * FRAMES_S)
    return encode_packed(
        Heartbeat(
            boot=boot,
            session=session,
            seq=seq,
            uptime_s=round(uptime_s, 1),
            time_utc_ms=utc_ms,
            cpu_percent=35.0 + 100.0 * cores,
            memory_mb=96.0,
            temperature_c=51.5,
            disk_free_mb=20_000.0,
            outbox_pending={Lane.EVENT.value: waiting},
            streams=[
                StreamReport("cam1", name, "running", frames, frames // 7, 0, FRAMES_S, 3.8, 5.1, 6.0, "litert-cpu")
                for name in pipelines or ("cam1",)
            ],
            birth_hash=birth_hash,
            desired_hash=papers.desired.hash if papers.desired else "",
            reported_hash=papers.report_hash,
        )
    )
