"""What nodes measured of models, summed up by variant and hardware as it comes in.

The sums are bounded: so many kinds of hardware for each variant, the others together. The events stay in `events`.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from coordinator.store.store import Row
from runtime.database import Database
from schemas.bundles import Digest
from schemas.shape import Limit, ShapeError, read

log = logging.getLogger(__name__)

EVENT = "ModelMeasured"
HARDWARE_MAX = 32  # kinds of one variant; what is beyond counts as OTHER
OTHER = "other"

# Migration 0015.
SCHEMA = """
CREATE TABLE model_measured (
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    target TEXT NOT NULL,
    hardware TEXT NOT NULL,
    basis TEXT NOT NULL,             -- golden or live
    count INTEGER NOT NULL,          -- measurements
    frames INTEGER NOT NULL,
    accuracies INTEGER NOT NULL,     -- measurements that had one
    accuracy_sum REAL NOT NULL,
    accuracy_min REAL,
    latency_ms_p50_sum REAL NOT NULL,
    latency_ms_p95_sum REAL NOT NULL,
    latency_ms_p95_max REAL NOT NULL,
    measured_utc_ms INTEGER NOT NULL,
    PRIMARY KEY (name, version, target, hardware, basis),
    FOREIGN KEY (name, version) REFERENCES models (name, version) ON DELETE CASCADE
) WITHOUT ROWID;
"""
# Migration 0019. What was counted before were measurements; nodes count as they measure again.
NODES_SCHEMA = """
CREATE TABLE model_measured_nodes (
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    target TEXT NOT NULL,
    node TEXT NOT NULL,
    PRIMARY KEY (name, version, target, node),
    FOREIGN KEY (name, version) REFERENCES models (name, version) ON DELETE CASCADE
) WITHOUT ROWID;
UPDATE model_variants SET measured_nodes = 0;
"""
_ADD_NODE = """
INSERT INTO model_measured_nodes (name, version, target, node) VALUES (?, ?, ?, ?)
ON CONFLICT (name, version, target, node) DO NOTHING
"""
_ADD = """
INSERT INTO model_measured (name, version, target, hardware, basis, count, frames, accuracies, accuracy_sum,
    accuracy_min, latency_ms_p50_sum, latency_ms_p95_sum, latency_ms_p95_max, measured_utc_ms)
VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name, version, target, hardware, basis) DO UPDATE SET
    count = model_measured.count + 1,
    frames = model_measured.frames + excluded.frames,
    accuracies = model_measured.accuracies + excluded.accuracies,
    accuracy_sum = model_measured.accuracy_sum + excluded.accuracy_sum,
    accuracy_min = CASE
        WHEN excluded.accuracy_min IS NULL THEN model_measured.accuracy_min
        WHEN model_measured.accuracy_min IS NULL THEN excluded.accuracy_min
        WHEN excluded.accuracy_min < model_measured.accuracy_min THEN excluded.accuracy_min
        ELSE model_measured.accuracy_min END,
    latency_ms_p50_sum = model_measured.latency_ms_p50_sum + excluded.latency_ms_p50_sum,
    latency_ms_p95_sum = model_measured.latency_ms_p95_sum + excluded.latency_ms_p95_sum,
    latency_ms_p95_max = CASE WHEN excluded.latency_ms_p95_max > model_measured.latency_ms_p95_max
        THEN excluded.latency_ms_p95_max ELSE model_measured.latency_ms_p95_max END,
    measured_utc_ms = excluded.measured_utc_ms
"""
_SUMS = """
SELECT sum(count), sum(accuracies), sum(accuracy_sum), sum(latency_ms_p50_sum), sum(latency_ms_p95_sum)
FROM model_measured WHERE name = ? AND version = ? AND target = ?
"""
_SUMMARY = """
UPDATE model_variants SET measured_nodes = measured_nodes + ?, measured_utc_ms = ?, measured_latency_ms_p50 = ?,
    measured_latency_ms_p95 = ?, measured_accuracy = ? WHERE name = ? AND version = ? AND target = ?
"""
_VIEW = """
SELECT target, hardware, basis, count, frames,
    CASE WHEN accuracies > 0 THEN accuracy_sum / accuracies END, accuracy_min,
    latency_ms_p50_sum / count, latency_ms_p95_sum / count, latency_ms_p95_max, measured_utc_ms
FROM model_measured WHERE name = ? AND version = ? ORDER BY target, hardware, basis
"""
Milliseconds = Annotated[float, Limit(ge=0, lt=1e9)]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a node says in `ModelMeasured`."""

    digest: Digest
    variant: Annotated[str, Limit(len_max=64)]
    frames: Annotated[int, Limit(ge=0, lt=2**53)]
    latency_ms_p50: Milliseconds
    latency_ms_p95: Milliseconds
    hardware: str = ""
    accuracy: Annotated[float, Limit(ge=0, le=1)] | None = None
    basis: str = "golden"


@dataclass(frozen=True, slots=True)
class FiguresView:
    """What nodes measured of a variant on one kind of hardware. Means, but where it says otherwise."""

    target: str
    hardware: str
    basis: str
    count: int
    frames: int
    accuracy: float | None
    accuracy_min: float | None
    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p95_max: float
    measured_utc_ms: int


def take(db: Database, rows: Iterable[Row]) -> int:
    """Adds what the measurements among these new rows say, once each; of a model that is not here nothing is kept.

    Returns how many counted.
    """
    counted = 0
    for row in rows:
        if row.type == EVENT:
            try:
                said = read(Measured, json.loads(row.data), strict=False)
            except (ValueError, ShapeError) as error:
                log.warning("%s: a measurement of a model says nothing: %s", row.node, error)
                continue
            counted += _add(db, row.node, said, row.received_utc_ms)
    return counted


def figures(db: Database, name: str, version: str) -> list[FiguresView]:
    """By variant, hardware and what it was measured on."""
    return [FiguresView(*row) for row in db.execute(_VIEW, (name, version))]


def _add(db: Database, node: str, said: Measured, now_utc_ms: int) -> bool:
    sql = """
        SELECT m.name, m.version FROM models m JOIN model_variants v ON v.name = m.name AND v.version = m.version
        WHERE m.digest = ? AND v.target = ?
    """
    found = db.execute(sql, (said.digest, said.variant)).fetchone()
    if found is None:
        return False
    who = (*found, said.variant)
    basis = "live" if said.basis == "live" else "golden"
    hardware = _kind(db, who, " ".join(said.hardware.split())[:64] or OTHER)
    accuracy = said.accuracy
    db.execute(
        _ADD,
        (*who, hardware, basis, said.frames, accuracy is not None, accuracy or 0.0, accuracy, said.latency_ms_p50,
         said.latency_ms_p95, said.latency_ms_p95, now_utc_ms),
    )  # fmt: skip
    count, accuracies, accuracy_sum, p50_sum, p95_sum = db.execute(_SUMS, who).fetchone()
    mean = accuracy_sum / accuracies if accuracies else None
    is_new = db.execute(_ADD_NODE, (*who, node)).rowcount > 0
    db.execute(_SUMMARY, (int(is_new), now_utc_ms, p50_sum / count, p95_sum / count, mean, *who))
    return True


def _kind(db: Database, who: tuple[Any, ...], hardware: str) -> str:
    sql = "SELECT DISTINCT hardware FROM model_measured WHERE name = ? AND version = ? AND target = ?"
    known = {str(one) for (one,) in db.execute(sql, who)}
    return hardware if hardware in known or len(known) < HARDWARE_MAX else OTHER
