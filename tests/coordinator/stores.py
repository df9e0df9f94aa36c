"""How large a store is before anything is in it: what a test leaves to a full disk is counted from there. And where
`edgectl` finds one."""

from pathlib import Path

from coordinator.store.place import Place
from coordinator.store.sqlite import SqliteStore


def empty_pages(folder: Path) -> int:
    """Pages of a new store, in a folder of its own below `folder`."""
    place = folder / "empty"
    place.mkdir()
    store = SqliteStore(place)
    pages: int = store.run_now(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    store.close()
    return pages


def edgectl_place(place: Place, folder: Path) -> list[str]:
    """The words that tell `edgectl` which store is meant; for a database it reads a configuration in `folder`."""
    if isinstance(place, Path):
        return ["--data-dir", str(place)]
    config = folder / "coordinator.toml"
    config.write_text(f'[store]\nbackend = "postgres"\ndsn = "{place.dsn}"\n')
    return ["--config", str(config)]
