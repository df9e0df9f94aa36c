"""A backup is one SQLite file with the tables of a store, whichever database that is in; either takes it back.

It is taken in one snapshot while a coordinator writes. What is put back begins anew where it must: nobody can tell
what the coordinator said after the backup was taken.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from coordinator.lock import FolderLock
from coordinator.store import meta, partitions
from coordinator.store.migrations import FILE_NAME, MIGRATIONS
from coordinator.store.place import Place, PostgresPlace, open_alone, open_reading
from runtime.database import Database, transaction
from runtime.errors import PermanentError
from runtime.sqlite import Connection, StorageFormatError, connect, migrate, storage_errors

ROWS_AT_ONCE = 2000


def back_up(place: Place, file: Path) -> dict[str, int]:
    """Writes a new file; answers with the rows by table. Raises PermanentError where it exists, or StorageError."""
    if file.exists():
        raise PermanentError(f"{file} exists", hint="name a new file; backups are never overwritten")
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        with closing(open_reading(place)) as source, storage_errors(str(file)), closing(connect(part)) as target:
            if isinstance(source, Connection):
                source.backup(target)  # in one step: one snapshot, beside whoever writes
            else:
                migrate(target, MIGRATIONS, what=str(part))
                with snapshot(source), transaction(target):
                    _copy(source, target)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
            counts = {name: _count(target, name) for name in tables(target)}
        _settle(part, file)
        return counts
    finally:
        part.unlink(missing_ok=True)


def restore(file: Path, place: Place, folder: Path, *, force: bool = False) -> dict[str, int]:
    """Puts a backup back while no coordinator runs; `folder` is the data folder, whose lock is taken.

    A store that is there is an error; with `force` it gives way: a file is moved aside, tables are emptied. Answers
    with the rows by table. Raises PermanentError or StorageError, and has changed nothing then.
    """
    lock = FolderLock(folder)
    try:
        with closing(open_backup(file)) as source, storage_errors(str(file)):
            if isinstance(place, PostgresPlace):
                _into_database(source, place, force=force)
            else:
                _into_folder(source, place, force=force)
            return {name: _count(source, name) for name in tables(source)}
    finally:
        lock.release()


def tables(db: Connection) -> list[str]:
    """Those of a store in a file, but for the list of migrations; what others refer to comes first."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid"
    return [str(name) for (name,) in db.execute(sql) if name != "migrations"]


# ---- taking ---------------------------------------------------------------------------------------------


@contextmanager
def snapshot(db: Database) -> Iterator[None]:
    """All that is read within is of one moment."""
    db.execute(db.dialect.begin_reading)
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _copy(source: Database, target: Connection) -> None:
    """Every row of a server's tables, a few thousand at a time."""
    for table in tables(target):
        columns = _columns(target, table)
        insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        source.execute(f"DECLARE taken NO SCROLL CURSOR FOR SELECT {', '.join(columns)} FROM {table}")
        while rows := source.execute(f"FETCH {ROWS_AT_ONCE} FROM taken").fetchall():
            target.executemany(insert, rows)
        source.execute("CLOSE taken")


def _settle(part: Path, file: Path) -> None:
    """On the disk under its own name."""
    for path in (part, part.parent):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            if path is part:
                part.rename(file)
        finally:
            os.close(fd)


# ---- putting back -----------------------------------------------------------------------------------


def open_backup(file: Path) -> Connection:
    """To read it. Raises PermanentError where it is none, or is damaged."""
    if not file.is_file():
        raise PermanentError(f"{file}: there is no such file")
    db = connect(file, read_only=True)
    try:
        applied = {name for (name,) in db.execute("SELECT name FROM migrations")}
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        db.close()
        raise StorageFormatError(f"{file} is no backup of a store: {error}") from error
    known = {name for name, _ in MIGRATIONS}
    if verdict != "ok" or not applied <= known:
        db.close()
        if verdict != "ok":
            raise StorageFormatError(f"{file} is damaged: {verdict}", hint="take another backup")
        raise StorageFormatError(f"{file} was written by a newer version", hint="put it back with that version")
    return db


def _into_folder(source: Connection, folder: Path, *, force: bool) -> None:
    path = folder / FILE_NAME
    if path.exists() and not force:
        raise PermanentError(f"{path} exists", hint="with --force it is moved aside, and the backup takes its place")
    part = path.with_name(f"{FILE_NAME}.part")
    part.unlink(missing_ok=True)
    with closing(connect(part)) as target:
        source.backup(target)
        migrate(target, MIGRATIONS, what=str(part))
        with transaction(target):
            _begin_anew(target)
        target.execute("PRAGMA journal_mode = DELETE")
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(part, owner.st_uid, owner.st_gid)
    if path.exists():
        _move_aside(path)
    _settle(part, path)


def _into_database(source: Connection, place: PostgresPlace, *, force: bool) -> None:
    with closing(open_alone(place)) as target:
        if not force and target.execute("SELECT 1 FROM meta LIMIT 1").fetchone():
            raise PermanentError(
                f"there is a store in this database already: {place.described}",
                hint="with --force it is emptied, and the backup takes its place",
            )
        names = tables(source)
        with transaction(target):
            target.execute(f"TRUNCATE {', '.join(known for known in _known(target))}")
            days = source.execute("SELECT DISTINCT received_utc_ms / ? FROM samples", (partitions.DAY_MS,))
            partitions.make(target, [day for (day,) in days])
            for name in names:
                _fill(source, target, name)
            _begin_anew(target)


def _known(target: Database) -> list[str]:
    sql = """
        SELECT tablename FROM pg_tables WHERE schemaname = ANY(current_schemas(false))
        AND tablename NOT LIKE 'samples_%' AND tablename NOT IN ('migrations', 'commits')
    """
    return [str(name) for (name,) in target.execute(sql)]


def _fill(source: Connection, target: Database, table: str) -> None:
    columns = _columns(source, table)
    insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    rows = source.execute(f"SELECT {', '.join(columns)} FROM {table}")
    while some := rows.fetchmany(ROWS_AT_ONCE):
        target.executemany(insert, some)
    counted = target.execute(
        "SELECT pg_get_serial_sequence(?, column_name), column_name FROM information_schema.columns"
        " WHERE table_name = ? AND is_identity = 'YES'",
        (table, table),
    ).fetchall()
    if table == "samples":
        counted = [("samples_id", "id")]
    for sequence, column in counted:
        target.execute(f"SELECT setval('{sequence}', coalesce((SELECT max({column}) FROM {table}), 0) + 1, false)")


def _begin_anew(db: Database) -> None:
    """Numbers that were given out after the backup are not given out again for something else."""
    db.execute("DELETE FROM meta WHERE key = 'stream'")  # of our own events: another is drawn
    db.execute("DELETE FROM meta WHERE key IN ('fleet_seq', 'announced_seq')")
    boot = int(meta.get(db, "boot") or 0)
    meta.put(db, "boot", str(max(boot, int(time.time()))))


def _move_aside(path: Path) -> Path:
    number = next(n for n in range(1, 10_000) if not path.with_name(f"{path.name}.before-restore-{n}").exists())
    aside = path.with_name(f"{path.name}.before-restore-{number}")
    for ending in ("-wal", "-shm", ""):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    return aside


def _columns(db: Connection, table: str) -> list[str]:
    return [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]


def _count(db: Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
