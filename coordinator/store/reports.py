"""What nodes report, many at once: what is kept of them is read together, and written together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.documents.changes import applied, conflicts, renewed, seen_stamps
from coordinator.fleet.registry import FleetEvent
from coordinator.store import documents
from coordinator.store.many_documents import rows_of
from coordinator.store.store import ReportedRow
from runtime.database import Database, execute_rows, upsert_rows
from runtime.timeline import MachineTime
from schemas.documents import Desired, Reported, decode_reported, encode_sealed
from schemas.shape import fields_of

_UPSERT = upsert_rows("reported", ("node",), ("boot", "serial", "hash", "received_utc_ms", "document"))


@dataclass(slots=True)
class Taken:
    """What a report came to. `renewed`: the desired document that now has to be published."""

    hash: str = ""  # of the report that is kept now
    events: list[FleetEvent] = field(default_factory=list)
    renewed: Desired | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """The report before."""

    hash: str
    place: tuple[int, int]  # its boot and serial
    text: str


def take_reports(db: Database, rows: Sequence[ReportedRow], now: MachineTime) -> list[Taken]:
    """Keeps each report that is newer than the one before, or that its node's heartbeat names; what each came to."""
    if not rows:
        return []
    reports = _Reports(db, rows, now)
    taken = [reports.take(row) for row in rows]
    reports.write()
    return taken


class _Reports:
    """Of one transaction, each taken in its turn; nothing of them is in the database before `write`."""

    def __init__(self, db: Database, rows: Sequence[ReportedRow], now: MachineTime) -> None:
        self._db = db
        self._now = now
        nodes = list({row.node: None for row in rows})
        found = rows_of(db, "SELECT node, hash, boot, serial, document FROM reported WHERE node", nodes)
        self._kept = {node: _Kept(digest, (boot, serial), text) for node, digest, boot, serial, text in found}
        found = rows_of(db, "SELECT node, epoch, revision, hash FROM desired WHERE node", nodes)
        self._ours = {node: ((epoch, revision), digest) for node, epoch, revision, digest in found}
        self._written: dict[str, tuple[Any, ...]] = {}

    def take(self, row: ReportedRow) -> Taken:
        node, document, kept = row.node, row.document, self._kept.get(row.node)
        place = document.boot, document.serial
        if kept and (kept.hash == document.hash or (not row.named and place <= kept.place)):
            return Taken(kept.hash)
        text = encode_sealed(document).decode()
        self._kept[node] = _Kept(document.hash, place, text)
        self._written[node] = (node, *place, document.hash, row.received_utc_ms, text)
        taken = Taken(document.hash)
        if document.revision and (kept is None or document.version != _version(kept.text)):
            _tell("DesiredApplied", taken, row, applied(document))
        if document.stamps:  # nothing else of it moves the clock
            before = Reported() if kept is None else decode_reported(kept.text.encode())
            self._see_stamps(taken, row, before)
        if not self._is_plain(row):
            self._settle(taken, row)
        return taken

    def write(self) -> None:
        """The newest of each node."""
        execute_rows(self._db, _UPSERT, list(self._written.values()))

    def _is_plain(self, row: ReportedRow) -> bool:
        """It answers to our document, or an earlier one, and the node has written nothing itself: no conflict, no new
        epoch. So are nearly all, and our document need not be read."""
        document = row.document
        if document.conflicts or document.local or document.stamps:
            return False
        version, digest = self._ours.get(row.node, ((0, 0), ""))
        is_ours = document.version == version and document.desired_hash == digest
        return is_ours or document.version < version or not version[1]

    def _see_stamps(self, taken: Taken, row: ReportedRow, before: Reported) -> None:
        db, document = self._db, row.document
        clock, ahead = seen_stamps(documents.clock_of(db), before, document, documents.utc_ms(db, self._now))
        documents.keep_clock(db, clock)
        for path, ahead_ms in ahead.items():
            _tell("ClockAhead", taken, row, {"path": path, "at": document.stamps[path].at, "ahead_ms": ahead_ms})

    def _settle(self, taken: Taken, row: ReportedRow) -> None:
        """Conflicts, and a document of ours that the node does not know, in a new epoch."""
        db, node, document = self._db, row.node, row.document
        ours = documents.desired(db, node)
        for conflict in conflicts(ours, document):
            if documents.keep_conflict(db, node, conflict, row.received_utc_ms):
                _tell("ConflictResolved", taken, row, fields_of(conflict))
        after = taken.renewed = renewed(ours, document)
        if after is None:
            return
        source = f"node answers to {document.epoch}.{document.revision}"
        documents.write_desired(db, node, after, source, {}, documents.utc_ms(db, self._now))
        self._ours[node] = after.version, after.hash
        told = {"epoch": after.epoch, "revision": after.revision}
        theirs = {"reported_epoch": document.epoch, "reported_revision": document.revision}
        _tell("DesiredEpochBegun", taken, row, told | theirs)


def _version(text: str) -> tuple[int, int]:
    """Of the document that a kept report answers; without reading all of it closely, as it was when it came."""
    document = json.loads(text)
    return document.get("epoch", 0), document.get("revision", 0)


def _tell(kind: str, taken: Taken, row: ReportedRow, data: dict[str, Any]) -> None:
    taken.events.append(FleetEvent(kind, row.node, data, row.received_utc_ms))
