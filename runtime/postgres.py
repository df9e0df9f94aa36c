"""PostgreSQL behind the seam of `runtime.database`: SQL as SQLite understands it, values and errors alike.

Needs the extra `postgres`; only who has PostgreSQL imports this. Made equal here: `?` as a parameter; integers of 64
bits, larger ones are an OverflowError; flags are integers; text with a NUL, which PostgreSQL refuses, is kept in an
escaped form, the same everywhere, so that what is equal stays equal.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import conninfo, errors
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper, TextLoader

from runtime.database import DiskFullError, Rows, StorageError, StorageFormatError
from runtime.errors import ConfigError

_ESCAPE = "\ufdd0"  # a noncharacter: Unicode keeps it for a program's own use
_SERVER_MIN = 120_000  # PostgreSQL 12
_INT64_MAX = 2**63 - 1
_NETWORK = {  # a server that is gone is noticed, and a connection that is gone is noticed by the server
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_PART = re.compile(r"'(?:[^']|'')*'|--[^\n]*|\?(\d*)")


class PostgresDialect:
    """PostgreSQL 12 and later."""

    name = "postgres"
    begin = "BEGIN"
    now_ms = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
    begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    is_server = True

    def glob(self, column: str, pattern: str) -> tuple[str, Any]:
        return f"{column} ~ ?", f"^(?:{_regex(pattern)})$"

    def one_of(self, column: str, texts: Sequence[str]) -> tuple[str, Any]:
        return f"{column} = ANY(CAST(? AS TEXT[]))", list(texts)

    def json_part(self, column: str, path: Sequence[str]) -> tuple[str, Any]:
        return f"CAST({_json(column)} #> CAST(? AS TEXT[]) AS TEXT)", list(path)

    def json_text(self, column: str, key: str) -> str:
        return f"({_json(column)} ->> '{key}')"

    def words(self, column: str) -> str:
        return f"string_agg({column}, ' ')"

    def writers(self, table: str) -> str:
        return f"""
            SELECT virtualtransaction FROM pg_locks
            WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND relation = CAST('{table}' AS regclass)
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """


POSTGRES = PostgresDialect()


class PostgresDatabase:
    """One connection, in autocommit mode; `begin`, `commit` and `roll_back` are for whoever owns it."""

    dialect = POSTGRES

    def __init__(self, connection: "psycopg.Connection[Any]", what: str) -> None:
        self._connection = connection
        self.what = what  # where it leads to, without the password

    @property
    def in_transaction(self) -> bool:
        status = self._connection.info.transaction_status
        return status is not psycopg.pq.TransactionStatus.IDLE and not self.is_broken

    @property
    def is_broken(self) -> bool:
        """Nothing more will come of it."""
        return self._connection.closed

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows:
        with storage_errors(self.what):
            cursor = psycopg.RawCursor(self._connection)
            return cursor.execute(translated(sql), values or None)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Rows:
        with storage_errors(self.what):
            cursor = psycopg.RawCursor(self._connection)
            cursor.executemany(translated(sql), rows)
            return cursor

    def script(self, sql: str) -> None:
        """Several statements, in PostgreSQL's own words and without parameters."""
        with storage_errors(self.what):
            self._connection.execute(sql.encode())

    def roll_back(self) -> None:
        """Never fails: where it cannot, the connection is closed, which does the same."""
        try:
            if not self.is_broken:
                self._connection.execute(b"ROLLBACK")
        except psycopg.Error:
            self._connection.close()

    def close(self) -> None:
        self._connection.close()

    def __del__(self) -> None:
        self._connection.close()  # as SQLite's do, without a warning


def connect(dsn: str, *, name: str, statement_timeout_s: float = 0.0, read_only: bool = False) -> PostgresDatabase:
    """Opens a connection. Raises ConfigError for a DSN that is none, StorageError where nothing answers.

    `name` is what the server's operators see. Commits are on the server's disk before they are answered, whatever its
    own `synchronous_commit` is.
    """
    what = described(dsn)
    settings = [
        f"-c statement_timeout={round(statement_timeout_s * 1000)}",
        "-c timezone=UTC -c client_min_messages=warning -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=3"
        " -c tcp_keepalives_count=3 -c idle_in_transaction_session_timeout=15000",
    ]
    if read_only:
        settings.append("-c default_transaction_read_only=on")
    given = conninfo.conninfo_to_dict(dsn)
    own = {key: value for key, value in _NETWORK.items() if key not in given}
    options = " ".join([*settings, str(given.get("options", ""))]).strip()
    whole = conninfo.make_conninfo(dsn, **own, application_name=name, options=options)
    with storage_errors(what):
        connection = psycopg.connect(whole, autocommit=True, context=_ADAPTERS)
    try:
        _check(connection, what)
        if not read_only:
            with storage_errors(what):
                connection.execute(
                    b"SELECT set_config('synchronous_commit', 'on', false)"
                    b" WHERE current_setting('synchronous_commit') IN ('off', 'local')"
                )
        return PostgresDatabase(connection, what)
    except BaseException:
        connection.close()
        raise


def described(dsn: str) -> str:
    """Where a DSN leads to, without its password. Raises ConfigError, in whose text there is none of it either."""
    try:
        given = conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "the DSN of the store cannot be read",
            hint="postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or words such as host=HOST dbname=DATABASE",
        ) from None
    host, user = given.get("host") or "localhost", given.get("user")
    return f"PostgreSQL {given.get('dbname') or user or ''} at {host}" + (f":{p}" if (p := given.get("port")) else "")


def password_of(dsn: str) -> str:
    """What must not get into a log; empty where there is none."""
    return str(conninfo.conninfo_to_dict(dsn).get("password") or "")


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Errors that are the server's or the network's become StorageError or StorageFormatError; a job's stay."""
    try:
        yield
    except psycopg.Error as error:
        explained = _explained(error, what)
        if explained is error:
            raise
        raise explained from error


def _explained(error: psycopg.Error, what: str) -> Exception:
    text = " ".join(str(error).split())[:500] or type(error).__name__
    match error:
        case errors.DiskFull():
            return DiskFullError(f"{what}: {text}", hint="free space on the server's disk")
        case errors.DataCorrupted() | errors.IndexCorrupted():
            return StorageFormatError(f"{what}: the database is damaged: {text}", hint="stop, and keep its files")
        case errors.InvalidPassword() | errors.InvalidAuthorizationSpecification() | errors.InvalidCatalogName():
            return StorageError(f"{what}: {text}", hint="check [store] dsn, and who may connect")
        case errors.QueryCanceled():
            return StorageError(f"{what}: {text}", hint="raise [store] statement_timeout_s, or see what holds it up")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return StorageError(f"{what}: {text}", hint="is the server up, and does it let us in?")
        case errors.ReadOnlySqlTransaction():
            return StorageError(f"{what}: {text}", hint="this server is a standby; connect to the primary")
        case errors.InsufficientPrivilege():
            return StorageError(f"{what}: {text}", hint="our user must own the tables and be able to make them")
    return error


def _check(connection: "psycopg.Connection[Any]", what: str) -> None:
    if connection.info.server_version < _SERVER_MIN:
        raise StorageFormatError(
            f"{what}: PostgreSQL {connection.info.server_version // 10_000} is too old", hint="12"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StorageFormatError(
            f"{what}: the database is encoded as {encoding}, which cannot hold every text",
            hint="make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
        )


# ---- text of SQL ------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def translated(sql: str) -> bytes:
    """`?` and `?3` as `$1` and `$3`: a bare one is one more than the largest so far, as SQLite counts."""
    highest = 0

    def replaced(found: "re.Match[str]") -> str:
        nonlocal highest
        if not found[0].startswith("?"):
            return found[0]
        number = int(found[1]) if found[1] else highest + 1
        highest = max(highest, number)
        return f"${number}"

    return _PART.sub(replaced, sql).encode()


def _regex(pattern: str) -> str:
    """The same as a POSIX expression."""
    parts = re.findall(r"\[\^?\]?[^\]]*\]|.", pattern, re.DOTALL)
    named = {"*": ".*", "?": "."}
    return "".join(named.get(part) or (part if len(part) > 1 else re.escape(part)) for part in parts)


def _json(column: str) -> str:
    # JSON may spell a NUL, which PostgreSQL's own JSON refuses. Where the backslash is itself escaped it stays valid.
    return rf"CAST(replace({column}, '\u0000', '\ufffd') AS JSON)"


# ---- values -----------------------------------------------------------------------------------------


class _TextDumper(StrDumper):
    def dump(self, obj: str) -> Buffer | None:
        if "\0" in obj or _ESCAPE in obj:
            obj = obj.replace(_ESCAPE, f"{_ESCAPE}1").replace("\0", f"{_ESCAPE}0")
        return super().dump(obj)


class _EscapedLoader(TextLoader):
    def load(self, data: Buffer) -> str:
        text = str(super().load(data))
        return text.replace(f"{_ESCAPE}0", "\0").replace(f"{_ESCAPE}1", _ESCAPE) if _ESCAPE in text else text


class _Int64Dumper(Int8Dumper):
    def dump(self, obj: Any) -> Buffer | None:
        if not -_INT64_MAX - 1 <= obj <= _INT64_MAX:
            raise OverflowError("an integer of more than 64 bits")
        return super().dump(int(obj))


class _NumericLoader(Loader):
    """Sums of integers."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return int(text) if text.lstrip(b"-").isdigit() else float(text)


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_dumper(str, _TextDumper)
    adapters.register_dumper(int, _Int64Dumper)
    adapters.register_dumper(bool, _Int64Dumper)
    adapters.register_loader("text", _EscapedLoader)
    adapters.register_loader("numeric", _NumericLoader)
    return adapters


class _Context:
    """What psycopg wants to be told the adapters by."""

    connection = None

    def __init__(self, adapters: AdaptersMap) -> None:
        self.adapters = adapters


_ADAPTERS = _Context(_adapters())
