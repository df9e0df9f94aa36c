"""`alerts.db`: rules that calls have made, alerts as they are known, and acknowledgements by people at the node.

Small, and open to two processes at a time: the agent and `edge-agent alerts`, each in short transactions.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.alerting.alert import Alert
from agent.alerting.rule import Rule, rule_of
from runtime.small_file import SharedFile
from runtime.sqlite import Connection, Migration
from runtime.timeline import MachineTime, Reading, read
from schemas.shape import ShapeError, fields_of
from schemas.shape import read as read_shape

log = logging.getLogger(__name__)

FILE_NAME = "alerts.db"
ORDERS_MAX = 1000  # not taken yet

MIGRATIONS: tuple[Migration, ...] = (
    (
        "0001_alerts",
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE rules (name TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE alerts (id INTEGER PRIMARY KEY, alert_id TEXT NOT NULL UNIQUE, document TEXT NOT NULL);
        CREATE TABLE orders (id INTEGER PRIMARY KEY, alert_id TEXT NOT NULL, by TEXT NOT NULL, note TEXT NOT NULL);
        """,
    ),
)


@dataclass(frozen=True, slots=True)
class Order:
    """Of an operator at the node: an alert is acknowledged."""

    alert_id: str
    by: str = ""
    note: str = ""


class AlertsFile(SharedFile):
    """One connection to the file. Methods raise StorageError when the disk refuses; nothing has changed then."""

    def __init__(self, path: Path, *, set_aside: bool = False) -> None:
        """Opens or makes the file; one that is damaged or of a newer version is set aside where the caller may."""
        lost = "rules made by calls are lost from here"
        super().__init__(path, MIGRATIONS, "FULL", set_aside=set_aside, lost=lost, newer_too=True)
        self._anchor = self._kept_anchor()

    def utc_ms(self, now: MachineTime) -> int:
        """UTC that does not follow a jump of the wall clock, also one between two starts of the agent."""
        reading: Reading = read(self._anchor, now)
        self._anchor = reading.anchor
        return reading.utc_ms

    # ---- reading --------------------------------------------------------------------------------

    def rules(self) -> list[Rule]:
        """By name; what cannot be read counts for nothing."""
        return [
            rule for text in self._texts("SELECT document FROM rules ORDER BY name") if (rule := self._rule(text))
        ]

    def alerts(self) -> list[Alert]:
        """In the order in which they were raised."""
        found = []
        for text in self._texts("SELECT document FROM alerts ORDER BY id"):
            try:
                found.append(read_shape(Alert, json.loads(text), strict=False))
            except (ValueError, ShapeError) as error:
                log.error("%s: an alert cannot be read: %s", self._what, error)
        return found

    def _rule(self, text: str) -> Rule | None:
        try:
            return rule_of(json.loads(text))
        except (ValueError, ShapeError) as error:
            log.error("%s: a rule cannot be read: %s", self._what, error)
            return None

    def _texts(self, sql: str) -> list[str]:
        with self._looking() as db:
            return [text for (text,) in db.execute(sql).fetchall()]

    # ---- writing ----------------------------------------------------------------------------------

    def keep_rule(self, rule: Rule) -> None:
        """In the place of the one of its name; on the disk when this returns."""
        text = json.dumps(fields_of(rule), ensure_ascii=False)
        with self._changing() as db:
            db.execute("INSERT OR REPLACE INTO rules (name, document) VALUES (?, ?)", (rule.name, text))

    def drop_rule(self, name: str) -> None:
        with self._changing() as db:
            db.execute("DELETE FROM rules WHERE name = ?", (name,))

    def keep_alerts(self, alerts: Mapping[str, Alert | None]) -> None:
        """By id; None for one to be forgotten."""
        with self._changing() as db:
            for alert_id, alert in alerts.items():
                if alert is None:
                    db.execute("DELETE FROM alerts WHERE alert_id = ?", (alert_id,))
                    continue
                text = json.dumps(fields_of(alert), ensure_ascii=False)
                if not db.execute("UPDATE alerts SET document = ? WHERE alert_id = ?", (text, alert_id)).rowcount:
                    db.execute("INSERT INTO alerts (alert_id, document) VALUES (?, ?)", (alert_id, text))
            self._keep_anchor(db)

    def order(self, order: Order) -> None:
        """Taken by the agent within a second, or at its next start."""
        with self._changing() as db:
            values = (order.alert_id, order.by, order.note)
            db.execute("INSERT INTO orders (alert_id, by, note) VALUES (?, ?, ?)", values)
            db.execute("DELETE FROM orders WHERE id <= (SELECT max(id) FROM orders) - ?", (ORDERS_MAX,))

    def take_orders(self) -> Sequence[Order]:
        """In the order they were given; each is taken once."""
        with self._changing() as db:
            rows = db.execute("SELECT alert_id, by, note FROM orders ORDER BY id").fetchall()
            if rows:
                db.execute("DELETE FROM orders")
        return [Order(*row) for row in rows]

    def _keep_anchor(self, db: Connection) -> None:
        anchor = self._anchor
        if anchor is not None:
            text = json.dumps([anchor.machine_boot, anchor.steady_ms, anchor.wall_ms])
            db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('clock_anchor', ?)", (text,))

    def _kept_anchor(self) -> MachineTime | None:
        with self._looking() as db:
            row: Any = db.execute("SELECT value FROM meta WHERE key = 'clock_anchor'").fetchone()
        return MachineTime(*json.loads(row[0])) if row else None
