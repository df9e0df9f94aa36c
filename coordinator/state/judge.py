"""Which rows of platform state are not taken, and why. Pure, as far as the declared checks are."""

import json
from dataclasses import dataclass

from coordinator.store.store import RefusedMessage, Row
from schemas.errors import RemoteWireError
from schemas.fields import Owner
from schemas.identity import Lane
from schemas.state import VALUE_BYTES_MAX, Collections
from schemas.state_registers import STATE_CHANGED, StateChange, read_change

REASON_CHARS_MAX = 200
BYTES_BESIDE = 2048  # the key, the stamp and the names beside a value, at most


def is_state(row: Row) -> bool:
    """True for a row that says what holds under a key."""
    return row.lane == Lane.STATE.value and row.type == STATE_CHANGED


@dataclass(frozen=True, slots=True)
class Judge:
    """By the collections that are declared here. One that is not is taken as it comes."""

    collections: Collections

    def sort(self, rows: list[Row], topic: str) -> tuple[list[Row], list[RefusedMessage]]:
        """The rows that are taken, and the others as they are kept."""
        if not any(is_state(row) for row in rows):
            return rows, []
        taken: list[Row] = []
        refused: list[RefusedMessage] = []
        for row in rows:
            if is_state(row) and (said := self._refusal(row, topic)) is not None:
                refused.append(said)
            else:
                taken.append(row)
        return taken, refused

    def _refusal(self, row: Row, topic: str) -> RefusedMessage | None:
        payload, data = row.data.encode(), json.loads(row.data)
        try:
            reason = self._wrong(read_change(data, row.node))
        except RemoteWireError as error:
            reason = str(error)
        if len(payload) > VALUE_BYTES_MAX + BYTES_BESIDE:
            reason = reason or f"{STATE_CHANGED}: {len(payload)} bytes as JSON; a value has at most {VALUE_BYTES_MAX}"
        if not reason:
            return None
        if self._is_personal(data.get("collection")):
            payload = b""  # what must not leave its node is not kept here either
        return RefusedMessage(
            topic, row.node, _short(reason), payload, row.received_utc_ms, row.stream, row.lane, row.seq
        )

    def _is_personal(self, path: object) -> bool:
        declared = self.collections.get(path) if isinstance(path, str) else None
        return declared is not None and declared.personal

    def _wrong(self, change: StateChange) -> str | None:
        declared = self.collections.get(change.collection)
        if declared is None:
            return None
        where = f"{change.collection} {change.key!r}"
        if declared.personal:
            return f"{change.collection}: personal data does not leave its node"
        if declared.owner not in (Owner.NODE, Owner.SHARED):
            return f"{where}: it belongs to the {declared.owner}: a node cannot write it"
        if change.value is None:
            return None
        try:
            wrong = declared.check(change.key, change.value)
        except Exception as error:  # noqa: BLE001 - a check that fails on what somebody sent must not end ingest
            wrong = f"cannot be checked: {type(error).__name__}: {error}"
        return f"{where}: {wrong}" if wrong else None


def _short(reason: str) -> str:
    """As it may be stored and sent back."""
    return reason.encode("utf-8", "replace").decode()[:REASON_CHARS_MAX]
