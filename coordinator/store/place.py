"""Where a store is, and how it is opened: a folder with an SQLite file, or a PostgreSQL database."""

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.store.migrations import FILE_NAME, MIGRATIONS, check_schema
from coordinator.store.sql import SqlStore, StoreLimits
from coordinator.store.sqlite import SqliteStore
from runtime.database import Database, StorageError, StorageFormatError
from runtime.errors import ConfigError, PermanentError
from runtime.sqlite import connect, migrate

DEFAULT_LIMITS = StoreLimits()


@dataclass(frozen=True, slots=True)
class PostgresPlace:
    """A database. `dsn` may hold a password, so it is never shown."""

    dsn: str = field(repr=False)
    statement_timeout_s: float = 30.0
    readers: int = 2  # connections beside the writer's

    @property
    def described(self) -> str:
        """Where it is, without the password."""
        need_postgres()
        from runtime.postgres import described

        return described(self.dsn)


Place = Path | PostgresPlace
"""A folder, or a database."""


def open_store(place: Place, limits: StoreLimits = DEFAULT_LIMITS) -> SqlStore:
    """For the one coordinator. Raises StorageError, or ForeignStoreError where another one runs on it."""
    if isinstance(place, Path):
        return SqliteStore(
            place,
            refused_rows_max=limits.refused_rows_max,
            refused_bytes_max=limits.refused_bytes_max,
            state_rows_max=limits.state_rows_max,
        )
    need_postgres()
    from coordinator.store.postgres import PostgresStore

    return PostgresStore(place, limits)


def open_alone(place: Place) -> Database:
    """A connection that writes, with the schema up to date, while no coordinator runs.

    For a folder its lock is the caller's affair; of a database it is held until the connection is closed. Raises
    ForeignStoreError where somebody else holds it, or StorageError.
    """
    if isinstance(place, PostgresPlace):
        need_postgres()
        from coordinator.store import postgres

        return postgres.open_alone(place)
    db = connect(place / FILE_NAME)
    try:
        db.execute("PRAGMA synchronous = FULL")
        migrate(db, MIGRATIONS, what=str(place / FILE_NAME))
    except BaseException:
        db.close()
        raise
    return db


def open_reading(place: Place) -> Database:
    """A connection that only reads. Raises PermanentError where there is no store, or StorageError."""
    if isinstance(place, PostgresPlace):
        need_postgres()
        from coordinator.store import postgres

        return postgres.open_reading(place)
    path = place / FILE_NAME
    if not path.is_file():
        raise PermanentError(f"there is no coordinator store at {path}", hint="name the right --data-dir or --config")
    db = connect(path, read_only=True)
    try:
        check_schema({name for (name,) in db.execute("SELECT name FROM migrations")}, MIGRATIONS, str(path))
    except sqlite3.OperationalError as error:
        db.close()
        raise StorageError(f"cannot read {path}: {error}", hint="who owns it?") from error
    except sqlite3.DatabaseError as error:
        db.close()
        raise StorageFormatError(f"{path} is no coordinator store: {error}") from error
    except StorageFormatError:
        db.close()
        raise
    return db


def need_postgres() -> None:
    """Raises ConfigError where the library is not installed."""
    try:
        import runtime.postgres  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"[store] backend is postgres, and its library is missing: {error}",
            hint="pip install 'edgewright[coordinator,postgres]'",
        ) from error
