"""Changes of many nodes' desired documents in one transaction: read together and written together."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from coordinator.documents.changes import Change, Changed, apply_change, shortened
from coordinator.store.documents import HISTORY_MAX, clock_of, keep_clock, utc_ms
from runtime.database import Database, execute_rows
from runtime.timeline import MachineTime
from schemas.documents import Desired, Reported, decode_desired, decode_reported, encode_sealed

AT_ONCE = 500  # names in one question

_UPSERT_DESIRED = """
INSERT INTO desired (node, epoch, revision, hash, updated_utc_ms, document) VALUES {rows}
ON CONFLICT (node) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision, hash = excluded.hash,
    updated_utc_ms = excluded.updated_utc_ms, document = excluded.document
"""
_INSERT_HISTORY = """
INSERT INTO desired_history (node, epoch, revision, time_utc_ms, source, changes) VALUES {rows}
"""
_OLD_HISTORY = """
DELETE FROM desired_history WHERE node = ? AND id <= coalesce(
    (SELECT id FROM desired_history WHERE node = ? ORDER BY id DESC LIMIT 1 OFFSET ?), 0)
"""


class ManyDocuments:
    """Both documents of some nodes. What is changed is there for the database after `write`, and at once for us."""

    def __init__(self, db: Database, nodes: Sequence[str], now: MachineTime) -> None:
        self._db = db
        self.now_ms = utc_ms(db, now)
        self._clock = clock_of(db)
        self._desired_texts = dict(rows_of(db, "SELECT node, document FROM desired WHERE node", nodes))
        self._reported_texts = dict(rows_of(db, "SELECT node, document FROM reported WHERE node", nodes))
        self._desired: dict[str, Desired] = {}
        self._written: list[tuple[Any, ...]] = []
        self._history: list[tuple[Any, ...]] = []

    def desired(self, node: str) -> Desired:
        """Raises RemoteWireError for one that is damaged on the disk."""
        if node not in self._desired:
            text = self._desired_texts.get(node)
            self._desired[node] = Desired() if text is None else decode_desired(text.encode())
        return self._desired[node]

    def reported(self, node: str) -> Reported:
        """Raises RemoteWireError likewise."""
        text = self._reported_texts.get(node)
        return Reported() if text is None else decode_reported(text.encode())

    def change(self, node: str, asked: Change, said: Reported) -> Changed:
        """The next revision; `said` is what it reported. Raises ChangeRefusedError or LocalWireError (too large)."""
        changed = apply_change(asked, self.desired(node), said, self._clock, self.now_ms)
        if not changed.fields:
            return changed
        after, self._clock = changed.desired, changed.clock
        text = encode_sealed(after).decode()
        self._desired[node] = after
        self._written.append((node, after.epoch, after.revision, after.hash, self.now_ms, text))
        steps = {path: [shortened(a), shortened(b)] for path, (a, b) in changed.fields.items()}
        line = json.dumps(steps, ensure_ascii=False)
        self._history.append((node, after.epoch, after.revision, self.now_ms, asked.source[:200], line))
        return changed

    def write(self) -> None:
        """All of it."""
        execute_rows(self._db, _UPSERT_DESIRED, self._written)
        execute_rows(self._db, _INSERT_HISTORY, self._history)
        long = [(node, node, HISTORY_MAX) for node, _, revision, *_ in self._history if revision > HISTORY_MAX]
        self._db.executemany(_OLD_HISTORY, long)
        keep_clock(self._db, self._clock)


def rows_of(
    db: Database, question: str, names: Sequence[str], *values: Any, rest: str = ""
) -> Iterator[tuple[Any, ...]]:
    """The rows of these names: `question` ends with the column that they stand in; `values` are of what is before."""
    for at in range(0, len(names), AT_ONCE):
        part = names[at : at + AT_ONCE]
        marks = ", ".join("?" * len(part))
        yield from db.execute(f"{question} IN ({marks}){rest}", (*values, *part))
