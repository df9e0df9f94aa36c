"""The seam to an SQL database: what SQLite and PostgreSQL both give, so that one text of SQL serves either.

The common subset: parameters as `?` or `?3`; `ON CONFLICT (columns) DO UPDATE SET a = excluded.a`, with the columns
named; `RETURNING`; flags are integers, so `WHERE flag = 1`. What has no common form is a function of the `Dialect`.

    TemporaryError
     └─ StorageError            nothing was committed: try again later
         └─ DiskFullError
    PermanentError
     └─ StorageFormatError      somebody has to look
"""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from runtime.errors import PermanentError, TemporaryError

ROWS_AT_ONCE = (100, 10)  # rows in one statement; of 20 columns fewer parameters than SQLite takes

T = TypeVar("T")
D = TypeVar("D", bound="Database")


class StorageError(TemporaryError):
    """The disk refused: full, read-only, failing; or the database is away. Nothing was committed."""


class DiskFullError(StorageError):
    """No room on the disk, or in the file where its size is limited. Nothing was committed."""


class StorageFormatError(PermanentError):
    """The database is damaged, or of a version this program does not know."""


class NewerVersionError(StorageFormatError):
    """It is sound, and was written by a newer program."""


class Rows(Protocol):
    """What a statement gives. To be read to its end before the transaction ends."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> Any:
        """The next row as a tuple, or None."""

    def fetchall(self) -> list[Any]:
        """The rest."""

    def __iter__(self) -> Iterator[Any]: ...


class Dialect(Protocol):
    """Where the two say the same differently: pieces of SQL, some with the value that belongs to them."""

    name: str
    begin: str  # a transaction that will write
    now_ms: str  # the database's clock: UTC
    begin_reading: str  # one that sees a single moment
    is_server: bool  # statements travel; a parameter may be a list, a column of many rows

    def glob(self, column: str, pattern: str) -> tuple[str, Any]:
        """Text that matches a pattern of `*`, `?` and `[…]`."""

    def one_of(self, column: str, texts: Sequence[str]) -> tuple[str, Any]:
        """Text that is among these, however many."""

    def json_part(self, column: str, path: Sequence[str]) -> tuple[str, Any]:
        """The JSON of a part of a document; NULL where it has none."""

    def json_text(self, column: str, key: str) -> str:
        """A member of a document that is text. The key is a name, not somebody's input."""

    def words(self, column: str) -> str:
        """All of a group, with a space between them, in no order."""

    def writers(self, table: str) -> str:
        """Asks for the transactions under way that write a table; empty where none is that others could overtake."""


class Database(Protocol):
    """A connection. Transactions are the writer's affair; SQLite's own connections fulfil the rest as they are."""

    @property
    def dialect(self) -> Dialect:
        """How this database says what has no common form."""

    @property
    def in_transaction(self) -> bool:
        """False also after an error that ended the transaction."""

    @property
    def is_broken(self) -> bool:
        """Nothing more will come of it: another connection is needed."""

    @abstractmethod
    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Rows:
        """One statement."""

    @abstractmethod
    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Rows:
        """One statement for each of the rows."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of it."""


Job = Callable[[Database], T]
"""Something to do in a transaction. After a StorageError it may be asked for again."""


class SqliteDialect:
    """SQLite 3.38 and later."""

    name = "sqlite"
    begin = "BEGIN IMMEDIATE"
    begin_reading = "BEGIN"
    now_ms = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    is_server = False

    def glob(self, column: str, pattern: str) -> tuple[str, Any]:
        return f"{column} GLOB ?", pattern

    def one_of(self, column: str, texts: Sequence[str]) -> tuple[str, Any]:
        return f"{column} IN (SELECT value FROM json_each(?))", json.dumps(texts)

    def json_part(self, column: str, path: Sequence[str]) -> tuple[str, Any]:
        return f"{column} -> ?", "$" + "".join(f'."{part}"' for part in path)

    def json_text(self, column: str, key: str) -> str:
        return f"json_extract({column}, '$.{key}')"

    def words(self, column: str) -> str:
        return f"group_concat({column}, ' ')"

    def writers(self, table: str) -> str:
        return ""


SQLITE = SqliteDialect()


@contextmanager
def transaction(db: D) -> Iterator[D]:
    """For a connection that is nobody's writer: commits at the end, rolls back on any error, which passes on."""
    db.execute(db.dialect.begin)
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def upsert(table: str, keys: Sequence[str], others: Sequence[str]) -> str:
    """Inserts a row, or replaces the values of `others` in the one of these keys."""
    return upsert_rows(table, keys, others).format(rows=_marks(len(keys) + len(others)))


def upsert_rows(table: str, keys: Sequence[str], others: Sequence[str]) -> str:
    """The same of many, for `execute_rows`."""
    replaced = ", ".join(f"{name} = excluded.{name}" for name in others)
    return (
        f"INSERT INTO {table} ({', '.join((*keys, *others))}) VALUES {{rows}}"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {replaced}"
    )


def execute_rows(db: Database, sql: str, rows: Sequence[Sequence[Any]], one: str = "") -> None:
    """Many rows by few statements: with each of SQLite's a thread gives the interpreter away and waits for it.

    `sql` has `VALUES {rows}`; `one` is a row in it, where question marks alone will not do.
    """
    if not rows:
        return
    one, at = one or _marks(len(rows[0])), 0
    for size in () if db.dialect.is_server else ROWS_AT_ONCE:
        many = sql.format(rows=", ".join([one] * size))
        while len(rows) - at >= size:
            db.execute(many, [value for row in rows[at : at + size] for value in row])
            at += size
    db.executemany(sql.format(rows=one), rows[at:])


def _marks(columns: int) -> str:
    return f"({', '.join('?' * columns)})"
