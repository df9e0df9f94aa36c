"""How an outbox comes into use: looked at, salvaged where it is damaged, then opened."""

import logging
from pathlib import Path

from agent.outbox.file import OutboxFile
from agent.outbox.salvage import SalvageReport, adopt_finished, damage, salvage
from agent.outbox.settings import OutboxSettings

log = logging.getLogger(__name__)


def open_outbox(
    path: Path, *, node: str, boot: int, settings: OutboxSettings
) -> tuple[OutboxFile, SalvageReport | None]:
    """The file, ready for use, and what a salvage came to if it needed one.

    A file that was closed in order is taken as it is; any other is read through first. Raises StorageFormatError for
    a file of a newer version, which is left as it is, and StorageError when the disk refuses.
    """
    adopt_finished(path)
    reason = damage(path, thorough=False)
    report = salvage(path, node=node, reason=reason) if reason else None
    file = OutboxFile(path, node=node, boot=boot, settings=settings)
    if file.renewed:
        log.info("outbox: stream %s begins: %s", file.stream, file.renewed)
    return file, report
