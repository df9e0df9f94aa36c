"""How evidence comes into use: opened where it is asked for; where it cannot be, all the rest goes on without it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.degrade.switches import Switches
from agent.evidence.evidence import Evidence
from agent.evidence.settings import EvidenceSettings
from agent.evidence.store import EvidenceStore
from agent.evidence.uploader import Uploader
from agent.outbox.outbox import Outbox
from runtime.errors import EdgewrightError
from runtime.supervision import RestartPolicy, Supervisor

log = logging.getLogger(__name__)


def open_evidence(
    settings: EvidenceSettings,
    data_dir: Path,
    cameras: Sequence[str],
    *,
    private: frozenset[str],
    outbox: Outbox,
    switches: Switches,
    announce: Callable[[str, str, dict[str, Any]], None],
) -> Evidence | None:
    """None where it is switched off, and, told in an event, where its files cannot be opened.

    What is made of `private` cameras never leaves the node.
    """
    if not settings.enabled:
        return None
    try:
        store = EvidenceStore(data_dir, settings)
    except EdgewrightError as error:
        log.error("no evidence is kept: %s", error)
        announce("EvidenceFailed", "evidence", {"reason": str(error)})
        return None
    return Evidence(settings, store, cameras, private=private, outbox=outbox, switches=switches, announce=announce)


def supervise(supervisor: Supervisor, evidence: Evidence, uploader: Uploader, stage: int) -> None:
    """Starts both tasks; however often they fail, the agent goes on."""
    for_ever = RestartPolicy(restarts_max=None)
    supervisor.supervise("evidence", evidence.run, for_ever, stage=stage)
    supervisor.supervise("evidence-upload", uploader.run, for_ever, stage=stage)


async def report(evidence: Evidence, uploader: Uploader) -> dict[str, Any]:
    """For `status`."""
    kept = await asyncio.to_thread(evidence.report)
    return kept | {"upload": evidence.settings.upload.value, **uploader.report()}
