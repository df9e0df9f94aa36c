"""The tables of the model registry."""

SCHEMA = """
CREATE TABLE models (
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,        -- of the document
    state TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    parent TEXT NOT NULL,        -- NAME@VERSION, or empty
    signature TEXT NOT NULL,     -- KEY BASE64, or empty
    added_utc_ms INTEGER NOT NULL,
    source TEXT NOT NULL,        -- who added it
    document TEXT NOT NULL,      -- the release, canonical JSON
    PRIMARY KEY (name, version)
) WITHOUT ROWID;
CREATE UNIQUE INDEX models_by_digest ON models (digest);
CREATE INDEX models_by_parent ON models (parent) WHERE parent <> '';
CREATE TABLE model_variants (
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    target TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    declared TEXT NOT NULL,      -- JSON: accuracy and latency_ms as declared
    measured_nodes INTEGER NOT NULL DEFAULT 0,  -- what nodes measure: so many, when, and their figures
    measured_utc_ms INTEGER NOT NULL DEFAULT 0,
    measured_latency_ms_p50 REAL,
    measured_latency_ms_p95 REAL,
    measured_accuracy REAL,
    PRIMARY KEY (name, version, target),
    FOREIGN KEY (name, version) REFERENCES models (name, version) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX model_variants_by_file ON model_variants (sha256);
CREATE TABLE model_files (
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (name, version, path),
    FOREIGN KEY (name, version) REFERENCES models (name, version) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX model_files_by_content ON model_files (sha256);
CREATE TABLE model_channels (
    name TEXT NOT NULL,
    channel TEXT NOT NULL,
    version TEXT NOT NULL,
    since_utc_ms INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (name, channel),
    FOREIGN KEY (name, version) REFERENCES models (name, version)
) WITHOUT ROWID;
CREATE TABLE model_history (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    action TEXT NOT NULL,        -- added, promoted, withdrawn, retired
    channel TEXT NOT NULL,
    replaced TEXT NOT NULL,      -- the version that the channel gave out before
    time_utc_ms INTEGER NOT NULL,
    source TEXT NOT NULL
);
CREATE INDEX model_history_by_model ON model_history (name, id);
"""
