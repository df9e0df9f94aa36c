"""The schema of the coordinator's SQLite file, step by step. Steps that were released are never changed."""

from coordinator.store import calls, leases, model_figures, models_tables, replicas, rollouts, schedule
from runtime.database import StorageFormatError
from runtime.sqlite import Migration

FILE_NAME = "coordinator.db"

FACTS = """
CREATE TABLE {table} (
    id INTEGER PRIMARY KEY,  -- order of arrival: what `--follow` goes by
    node TEXT NOT NULL,
    stream TEXT NOT NULL,
    lane TEXT NOT NULL,
    seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    severity TEXT,
    time_utc_ms INTEGER NOT NULL,
    received_utc_ms INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (node, stream, lane, seq)
);
CREATE INDEX {table}_by_time ON {table} (received_utc_ms);
CREATE INDEX {table}_by_node ON {table} (node, received_utc_ms);
CREATE INDEX {table}_by_type ON {table} (type, received_utc_ms);
"""

MIGRATIONS: tuple[Migration, ...] = (
    (
        "0001-first",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;\n"
        + FACTS.format(table="events")
        + "CREATE INDEX events_alerts ON events (received_utc_ms) WHERE severity IS NOT NULL;\n"
        + FACTS.format(table="samples")
        + """
CREATE TABLE received (
    node TEXT NOT NULL,
    stream TEXT NOT NULL,
    lane TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (node, stream, lane, first)
) WITHOUT ROWID;
CREATE TABLE nodes (
    node TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    boot INTEGER NOT NULL,
    session INTEGER NOT NULL,
    word INTEGER NOT NULL,
    reason TEXT NOT NULL,
    heartbeat_seq INTEGER NOT NULL,
    first_seen_utc_ms INTEGER NOT NULL,
    last_seen_utc_ms INTEGER NOT NULL,
    since_utc_ms INTEGER NOT NULL,
    birth TEXT
) WITHOUT ROWID;
CREATE INDEX nodes_by_state ON nodes (state);
CREATE TABLE node_labels (
    node TEXT NOT NULL REFERENCES nodes (node) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (node, key)
) WITHOUT ROWID;
CREATE INDEX node_labels_by_value ON node_labels (key, value);
CREATE TABLE heartbeats_latest (
    node TEXT PRIMARY KEY,
    received_utc_ms INTEGER NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE stream_reports (
    node TEXT NOT NULL,
    camera TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    received_utc_ms INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (node, camera, pipeline)
) WITHOUT ROWID;
CREATE TABLE refused (
    id INTEGER PRIMARY KEY,
    first_utc_ms INTEGER NOT NULL,
    last_utc_ms INTEGER NOT NULL,
    times INTEGER NOT NULL DEFAULT 1,
    topic TEXT NOT NULL,
    node TEXT NOT NULL,
    stream TEXT NOT NULL,
    lane TEXT NOT NULL,
    seq INTEGER NOT NULL,
    reason TEXT NOT NULL,
    digest BLOB NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (topic, lane, seq, digest)
);
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    function TEXT NOT NULL,
    command_id TEXT NOT NULL,
    state TEXT NOT NULL,
    received_utc_ms INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX results_by_command ON results (node, command_id);
CREATE TABLE counters (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
""",
    ),
    (
        "0002-gaps",
        """
CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    stream TEXT NOT NULL,
    lane TEXT NOT NULL,
    first INTEGER NOT NULL,  -- every number from first to last is missing for ever
    last INTEGER NOT NULL,
    reason TEXT NOT NULL,
    received_utc_ms INTEGER NOT NULL,
    UNIQUE (node, stream, lane, first)
);
CREATE INDEX gaps_by_time ON gaps (received_utc_ms);
""",
    ),
    (
        "0003-documents",
        """
CREATE TABLE desired (
    node TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    hash TEXT NOT NULL,
    updated_utc_ms INTEGER NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE desired_history (
    id INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    time_utc_ms INTEGER NOT NULL,
    source TEXT NOT NULL,
    changes TEXT NOT NULL
);
CREATE INDEX desired_history_by_node ON desired_history (node, id);
CREATE TABLE reported (
    node TEXT PRIMARY KEY,
    boot INTEGER NOT NULL,
    serial INTEGER NOT NULL,
    hash TEXT NOT NULL,
    received_utc_ms INTEGER NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE conflicts (
    id INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    path TEXT NOT NULL,
    coordinator_at TEXT NOT NULL,  -- the stamps of the two writes: the same two conflict once
    node_at TEXT NOT NULL,
    found_utc_ms INTEGER NOT NULL,
    document TEXT NOT NULL,
    UNIQUE (node, path, coordinator_at, node_at)
);
CREATE INDEX conflicts_by_node ON conflicts (node, id);
""",
    ),
    (
        "0004-evidence",
        """
CREATE TABLE evidence (
    node TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    camera_id TEXT NOT NULL,
    from_utc_ms INTEGER NOT NULL,
    to_utc_ms INTEGER NOT NULL,
    blurred INTEGER NOT NULL,
    received_utc_ms INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (node, sha256)
) WITHOUT ROWID;
CREATE INDEX evidence_by_time ON evidence (received_utc_ms);
CREATE INDEX evidence_by_state ON evidence (state, node, received_utc_ms);
CREATE TABLE evidence_events (
    node TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    event_id TEXT NOT NULL,
    PRIMARY KEY (node, sha256, event_id),
    FOREIGN KEY (node, sha256) REFERENCES evidence (node, sha256) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX evidence_events_by_event ON evidence_events (event_id);
""",
    ),
    ("0006-calls", calls.SCHEMA),
    (
        "0007-state",
        """
CREATE TABLE state (
    platform TEXT NOT NULL,
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    node TEXT NOT NULL,              -- who wrote: a node, or `coordinator`
    value TEXT,                      -- JSON; NULL: deleted
    at_ms INTEGER NOT NULL,          -- the writer's stamp of this write
    at_counter INTEGER NOT NULL,
    over TEXT NOT NULL,              -- JSON: the stamps of other writers that it had seen, by writer
    time_utc_ms INTEGER NOT NULL,    -- by the writer's clock
    received_utc_ms INTEGER NOT NULL,
    checked INTEGER NOT NULL,        -- 0: its platform was not installed here when it came
    change INTEGER NOT NULL,         -- order of arrival
    PRIMARY KEY (platform, collection, key, node)
) WITHOUT ROWID;
CREATE UNIQUE INDEX state_by_change ON state (change);
CREATE INDEX state_by_node ON state (node);
CREATE INDEX state_oldest ON state (platform, collection, (value IS NOT NULL), change);
CREATE TABLE state_collections (
    platform TEXT NOT NULL,
    collection TEXT NOT NULL,
    declared INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    rule TEXT NOT NULL DEFAULT '',
    rows INTEGER NOT NULL DEFAULT 0, -- in `state`
    shed INTEGER NOT NULL DEFAULT 0, -- values that gave way to others
    PRIMARY KEY (platform, collection)
) WITHOUT ROWID;
""",
    ),
    (
        "0008-fleet",
        """
ALTER TABLE nodes ADD COLUMN shown TEXT NOT NULL DEFAULT 'offline';  -- the state as operators see it
ALTER TABLE nodes ADD COLUMN condition TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN problem TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN maintenance TEXT NOT NULL DEFAULT '';   -- the id of the window it is in
ALTER TABLE nodes ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN flap_penalty REAL NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN flaps INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN flap_losses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN conflict TEXT;                          -- JSON: two agents of this name
UPDATE nodes SET shown = state, lost = CASE WHEN state = 'offline' THEN 1 ELSE 0 END;
CREATE INDEX nodes_by_shown ON nodes (shown);
CREATE TABLE maintenance (
    id TEXT PRIMARY KEY,
    selector TEXT NOT NULL,
    from_utc_ms INTEGER NOT NULL,
    until_utc_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    source TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE tombstones (
    node TEXT PRIMARY KEY,
    boot INTEGER NOT NULL,
    session INTEGER NOT NULL,
    instance TEXT NOT NULL,
    at_utc_ms INTEGER NOT NULL,
    banned INTEGER NOT NULL,
    source TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE freezes (scope TEXT PRIMARY KEY, since_utc_ms INTEGER NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
""",
    ),
    ("0010-models", models_tables.SCHEMA),
    ("0011-rollouts", rollouts.SCHEMA),
    ("0012-leases", leases.SCHEMA),
    ("0014-rollout-steps", rollouts.STEPS_SCHEMA),
    ("0015-model-figures", model_figures.SCHEMA),
    ("0016-schedule", schedule.SCHEMA),
    ("0018-replicas", replicas.SCHEMA),
    ("0019-model-nodes", model_figures.NODES_SCHEMA),
)


def check_schema(applied: set[str], migrations: tuple[Migration, ...], what: str) -> None:
    """For whoever only reads. Raises StorageFormatError where the store is of another version."""
    if applied != {name for name, _ in migrations}:
        raise StorageFormatError(
            f"{what} has another schema than this program",
            hint="start the coordinator of this version once, or use the edgectl of that version",
        )
