"""The `[store]` table: which database, and how much of it is kept."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from coordinator.store.keep import Keep
from coordinator.store.place import Place, PostgresPlace, need_postgres
from runtime.config import secret
from runtime.errors import ConfigError
from schemas.shape import Limit

DAY_S = 86_400


class StoreBackend(StrEnum):
    """What keeps the store."""

    SQLITE = "sqlite"  # a file in the data folder
    POSTGRES = "postgres"  # a server


@dataclass(frozen=True, slots=True)
class StoreTable:
    """The table as it stands in the file."""

    backend: StoreBackend = StoreBackend.SQLITE
    dsn: str = field(default="", repr=False)  # postgresql://USER:PASSWORD@HOST:PORT/DATABASE
    dsn_file: Path | None = None  # a file that holds it and nothing else
    statement_timeout_s: Annotated[float, Limit(ge=1, le=3600)] = 30.0
    readers: Annotated[int, Limit(ge=1, le=32)] = 2  # connections beside the one that writes

    samples_keep_days: Annotated[float, Limit(ge=0, le=36_500)] = 90.0  # 0: for ever
    samples_rows_max: Annotated[int, Limit(ge=0, le=2**50)] = 0  # 0: no limit
    samples_bytes_max: Annotated[int, Limit(ge=0, le=2**60)] = 0
    events_keep_days: Annotated[float, Limit(ge=0, le=36_500)] = 0.0
    events_rows_max: Annotated[int, Limit(ge=0, le=2**50)] = 0
    events_bytes_max: Annotated[int, Limit(ge=0, le=2**60)] = 0

    @property
    def keep(self) -> dict[str, Keep]:
        """By table."""
        return {
            "samples": Keep(self.samples_keep_days * DAY_S, self.samples_rows_max, self.samples_bytes_max),
            "events": Keep(self.events_keep_days * DAY_S, self.events_rows_max, self.events_bytes_max),
        }

    def mistakes(self) -> list[str]:
        """What the shape alone does not show."""
        if self.backend is StoreBackend.SQLITE:
            return []
        if self.dsn and self.dsn_file is not None:
            return ["store: dsn and dsn_file are both given; one is enough"]
        if not self.dsn and self.dsn_file is None:
            return ["store.dsn: is missing, or store.dsn_file: store.backend is postgres"]
        try:
            self.place(Path())
        except ConfigError as error:
            return [str(error)]
        return []

    def place(self, folder: Path) -> Place:
        """Where the store is; `folder` is the data folder. Raises ConfigError."""
        if self.backend is StoreBackend.SQLITE:
            return folder
        need_postgres()
        from runtime.postgres import described

        dsn = self.dsn or secret("store.dsn", self.dsn_file, "")
        described(dsn)
        return PostgresPlace(dsn, self.statement_timeout_s, self.readers)

    def secrets(self) -> list[str]:
        """What must not get into a log."""
        if self.backend is StoreBackend.SQLITE:
            return []
        need_postgres()
        from runtime.postgres import password_of

        dsn = self.dsn or secret("store.dsn", self.dsn_file, "")
        return [text for text in (password_of(dsn), dsn) if text]

    def beside(self, folder: Path) -> "StoreTable":
        """With a file that is relative to the configuration's folder."""
        return self if self.dsn_file is None else replace(self, dsn_file=folder / self.dsn_file)
