"""How large a store is before anything is in it: what a test leaves to a full disk is counted from there."""

from pathlib import Path

from coordinator.store.sqlite import SqliteStore


def empty_pages(folder: Path) -> int:
    """Pages of a new store, in a folder of its own below `folder`."""
    place = folder / "empty"
    place.mkdir()
    store = SqliteStore(place)
    pages: int = store.run_now(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    store.close()
    return pages
