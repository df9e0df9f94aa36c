"""Single values of the store by name."""

from runtime.database import Database, upsert

_PUT = upsert("meta", ("key",), ("value",))


def get(db: Database, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def put(db: Database, key: str, value: str) -> None:
    db.execute(_PUT, (key, value))


def add(db: Database, key: str, count: int) -> int:
    """Counts up and returns the new number; others who count wait until this transaction ends."""
    sql = """
        INSERT INTO meta (key, value) VALUES (?, ?)
        ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + ? AS TEXT) RETURNING value
    """
    ((value,),) = db.execute(sql, (key, str(count), count)).fetchall()
    return int(value)
