"""What others may ask about evidence by command: listEvidence, uploadEvidence."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from agent.evidence.evidence import Evidence
from agent.evidence.settings import UploadPolicy
from agent.evidence.tables import Kept, State, shown
from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Served, plain
from schemas.codec import parse_utc
from schemas.shape import Limit

NAMED_MAX = 100


@dataclass(frozen=True, slots=True)
class ListEvidence:
    """`{"camera_id": "cam1", "since": "2026-11-25T10:00:00Z", "until": "…", "limit": 50}`; all may be left out."""

    camera_id: str = ""
    event_id: str = ""
    since: str = ""
    until: str = ""
    limit: Annotated[int, Limit(ge=1, le=500)] = 50


@dataclass(frozen=True, slots=True)
class UploadEvidence:
    """`{"sha256": "…"}`, or `{"event_id": "…"}` for all that belongs to an event."""

    sha256: Annotated[str, Limit(pattern="[0-9a-f]{64}|", means="64 hexadecimal digits")] = ""
    event_id: Annotated[str, Limit(len_max=300)] = ""


def evidence_functions(evidence: Evidence) -> list[Served]:
    """Bound to the evidence of one agent."""
    store = evidence.store

    async def list_evidence(call: ListEvidence) -> dict[str, Any]:
        since_ms, until_ms = _time("since", call.since, 0), _time("until", call.until, 2**62)
        found = await asyncio.to_thread(
            store.listed,
            camera_id=call.camera_id,
            since_utc_ms=since_ms,
            until_utc_ms=until_ms,
            event_id=call.event_id,
            limit=call.limit,
        )
        return {"evidence": [shown(kept) for kept in found]}

    async def upload_evidence(call: UploadEvidence) -> dict[str, Any]:
        if bool(call.sha256) == bool(call.event_id):
            raise CallRejectedError("bad_arguments", "name either sha256 or event_id", "sha256")
        if evidence.settings.upload is UploadPolicy.NEVER:
            raise CallRejectedError("not_allowed", "evidence.upload is never: nothing leaves this node")
        found = await asyncio.to_thread(_find, call)
        if not found:
            raise CallRejectedError("unknown_evidence", "there is no such evidence here (any more)")
        if all(kept.piece.local_only for kept in found):
            raise CallRejectedError("local_only", f"it stays at the node: {found[0].piece.reason}")
        return {"evidence": [await _ask(kept) for kept in found]}

    def _find(call: UploadEvidence) -> list[Kept]:
        if call.event_id:
            return store.listed(event_id=call.event_id, limit=NAMED_MAX)
        kept = store.get(call.sha256)
        return [] if kept is None else [kept]

    async def _ask(kept: Kept) -> dict[str, Any]:
        """A file that the coordinator has already is offered again: it may have given it up since."""
        if kept.piece.local_only:
            return shown(kept)
        await asyncio.to_thread(store.mark, kept.sha256, State.ASKED)
        evidence.on_asked(kept.sha256)
        return shown(kept) | {"state": State.ASKED.value, "reason": ""}

    return [
        plain("listEvidence", ListEvidence, list_evidence),
        plain("uploadEvidence", UploadEvidence, upload_evidence),
    ]


def _time(name: str, text: str, otherwise: int) -> int:
    if not text:
        return otherwise
    try:
        return parse_utc(text)
    except (ValueError, OverflowError) as error:
        raise CallRejectedError("bad_arguments", f"{name}: {error}", name) from error
