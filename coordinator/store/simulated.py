"""What arrived of a simulation: `edgectl simulate` holds it against what its nodes were told."""

from dataclasses import dataclass

from runtime.database import Database


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Of one run. `distinct` by what they say, whatever the keys of the table allow."""

    rows: int
    distinct: int


def stored_rows(db: Database, prefix: str, boot: int) -> StoredRows:
    """Rows of the nodes `<prefix>-…` that belong to streams of this boot or a later one."""
    query = """
        SELECT count(*), count(DISTINCT node || ' ' || lane || ' ' || subject) FROM events
        WHERE node >= ? AND node < ? AND boot >= ? AND lane IN ('event', 'alert')
    """
    rows, distinct = db.execute(query, (f"{prefix}-", f"{prefix}.", boot)).fetchone()  # "." comes after "-"
    return StoredRows(rows, distinct)
