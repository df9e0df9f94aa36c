"""The catalogue while a coordinator runs: the functions that change it, and what the downloads ask of it. Driver.

The bytes of a model are in the content store already when `addModel` is called, put there by `edgectl model add` on
this machine: a call over MQTT carries a digest. Everything is checked again here, files included, before the row.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from coordinator.models.blobs import Blobs
from coordinator.models.release import (
    DOCUMENT_BYTES_MAX,
    ModelRefusedError,
    Release,
    check_signature,
    decode_release,
)
from coordinator.models.settings import ModelsTable
from coordinator.models.versions import VersionError, parse_version
from coordinator.store import models
from coordinator.store.models import Done
from coordinator.store.sql import SqlStore
from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.calls.served import Served, plain
from runtime.database import Job
from runtime.errors import ConfigError, TemporaryError
from schemas.bundles import NAME_PATTERN, Digest
from schemas.shape import Limit, fields_of

if TYPE_CHECKING:
    from coordinator.models.http import Catalogue, ModelsHttp

ADD_S = 900.0  # a slow disk reads 4 GiB in that time
Source = Annotated[str, Limit(len_max=200)]
Name = Annotated[str, Limit(pattern=NAME_PATTERN)]
Text = Annotated[str, Limit(len_max=200)]


@dataclass(frozen=True, slots=True)
class AddModel:
    """The arguments of `addModel`."""

    digest: Digest
    channel: Text = ""
    signature: Text = ""
    source: Source = ""


@dataclass(frozen=True, slots=True)
class PromoteModel:
    """The arguments of `promoteModel`."""

    name: Name
    version: Text
    channel: Text
    source: Source = ""


@dataclass(frozen=True, slots=True)
class RetireModel:
    """The arguments of `retireModel`."""

    name: Name
    version: Text
    withdraw: bool = False
    source: Source = ""


class Registry:
    """One coordinator's."""

    def __init__(self, store: SqlStore, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    def functions(self) -> list[Served]:
        return [
            plain("addModel", AddModel, self.add, timeout_s=ADD_S, parallel=2),
            plain("promoteModel", PromoteModel, self.promote),
            plain("retireModel", RetireModel, self.retire),
        ]

    async def document(self, name: str, version: str) -> tuple[str, str] | None:
        """(digest, document) of a version in its whole form."""
        return await self._store.read(lambda db: models.document_of(db, name, version))

    async def names(self, sha256: str) -> bool:
        """True when some version needs the file."""
        return await self._store.read(lambda db: models.is_named(db, sha256))

    async def add(self, asked: AddModel) -> dict[str, Any]:
        try:
            signature = check_signature(asked.signature) if asked.signature else ""
            with self._blobs.adding():
                document, release = await asyncio.to_thread(stored_release, self._blobs, asked.digest)
                return await self._change(
                    lambda db: models.add(
                        db,
                        release,
                        document,
                        asked.digest,
                        channel=asked.channel,
                        signature=signature,
                        source=asked.source,
                        now_ms=_now_ms(),
                    )
                )
        except ModelRefusedError as error:
            raise CallRejectedError("refused", str(error)) from error
        except TemporaryError as error:
            raise CallFailedError("not_now", str(error)) from error

    async def promote(self, asked: PromoteModel) -> dict[str, Any]:
        version = _version(asked.version)
        return await self._change(
            lambda db: models.promote(db, asked.name, version, asked.channel, source=asked.source, now_ms=_now_ms())
        )

    async def retire(self, asked: RetireModel) -> dict[str, Any]:
        version = _version(asked.version)
        return await self._change(
            lambda db: models.retire(
                db, asked.name, version, withdraw=asked.withdraw, source=asked.source, now_ms=_now_ms()
            )
        )

    async def _change(self, job: Job[Done]) -> dict[str, Any]:
        try:
            changed: dict[str, Any] = fields_of(await self._store.run(job))
        except ModelRefusedError as error:
            raise CallRejectedError("refused", str(error)) from error
        return changed


def open_http(table: ModelsTable, blobs: Blobs, catalogue: "Catalogue") -> "ModelsHttp | None":
    """The downloads, where a port is configured. Raises ConfigError where what they stand on is not installed."""
    if not table.http_port:
        return None
    try:
        from coordinator.models.http import ModelsHttp
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"models.http_port: HTTP needs a package that is not installed: {error.name}",
            hint="pip install 'edgewright[coordinator]'",
        ) from error
    return ModelsHttp(table, blobs, catalogue)


def stored_release(blobs: Blobs, digest: str) -> tuple[bytes, Release]:
    """A document and what it says, with every file that it names here and sound. Raises ModelRefusedError."""
    document = blobs.read(digest, DOCUMENT_BYTES_MAX)
    release = decode_release(document)
    for file in release.files:
        if blobs.size(file.sha256) != file.bytes or not blobs.is_sound(file.sha256):
            raise ModelRefusedError(
                f"model {release.reference}: {file.path} is not in the store as it should be", hint="add it again"
            )
        blobs.settle(file.sha256)
    blobs.settle(digest)
    return document, release


def _version(text: str) -> str:
    try:
        return str(parse_version(text))
    except VersionError as error:
        raise CallRejectedError("bad_arguments", f"version: {error}", "version") from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
