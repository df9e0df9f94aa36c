"""The catalogue while a coordinator runs: the functions that change it, and what the downloads ask of it. Driver.

The bytes of a model are in the content store already when `addModel` is called, put there by `edgectl model add` on
this machine: a call over MQTT carries a digest. Everything is checked again here, files included, before the row.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from coordinator.models.blobs import Blobs
from coordinator.models.channels import STABLE, Deployable
from coordinator.models.reading import BlobReader
from coordinator.models.release import (
    DOCUMENT_BYTES_MAX,
    ModelRefusedError,
    Release,
    check_signature,
    decode_release,
)
from coordinator.models.settings import ModelsTable
from coordinator.models.trust import Trust
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


@dataclass(frozen=True, slots=True)
class SignModel:
    """The arguments of `signModel`."""

    name: Name
    version: Text
    digest: Digest
    signature: Text
    source: Source = ""


@dataclass(frozen=True, slots=True)
class ReadSignature:
    """The arguments of `readSignature`."""

    name: Name
    version: Text


class Registry:
    """One coordinator's."""

    def __init__(self, store: SqlStore, blobs: Blobs, table: ModelsTable | None = None) -> None:
        """Raises KeyRefusedError for a key of `[models] trusted_keys` that cannot be read."""
        self._store = store
        self._blobs = blobs
        table = table or ModelsTable()
        self._trust = Trust(table)
        self.reader = BlobReader(table, blobs, self)

    def functions(self) -> list[Served]:
        return [
            plain("addModel", AddModel, self.add, timeout_s=ADD_S, parallel=2),
            plain("promoteModel", PromoteModel, self.promote),
            plain("retireModel", RetireModel, self.retire),
            plain("signModel", SignModel, self.sign),
            plain("readSignature", ReadSignature, self.read_signature, journalled=False),
            self.reader.function(),
        ]

    async def document(self, name: str, version: str) -> tuple[str, str] | None:
        """(digest, document) of a version in its whole form."""
        return await self._store.read(lambda db: models.document_of(db, name, version))

    async def signature(self, name: str, version: str) -> str | None:
        """That of a version in its whole form, empty where it has none; None: there is no such version."""
        found = await self._store.read(lambda db: models.signature_of(db, name, version))
        return None if found is None else found[1]

    async def find(self, reference: str) -> Deployable:
        """What nodes may be given. Raises ModelRefusedError with every reason why not."""
        name, at, wanted = reference.partition("@")
        if not name or (at and not wanted):
            raise ModelRefusedError(f"{reference[:80]!r}: NAME, NAME@VERSION or NAME@CHANNEL is wanted")
        release, digest, signature = await self._store.read(lambda db: models.given_out(db, name, wanted or STABLE))
        self._trust.check(release.reference, digest, signature, to_give=True)
        return Deployable(release, digest)

    async def names(self, sha256: str) -> bool:
        """True when some version needs the file."""
        return await self._store.read(lambda db: models.is_named(db, sha256))

    async def add(self, asked: AddModel) -> dict[str, Any]:
        try:
            signature = check_signature(asked.signature) if asked.signature else ""
            self._trust.check(f"with the digest {asked.digest[:12]}", asked.digest, signature)
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

    async def sign(self, asked: SignModel) -> dict[str, Any]:
        """Keeps a signature of a release, in place of the one before."""
        version = _version(asked.version)
        try:
            signature = check_signature(asked.signature)
            self._trust.check(f"{asked.name}@{version}", asked.digest, signature)
        except ModelRefusedError as error:
            raise CallRejectedError("refused", str(error)) from error
        return await self._change(
            lambda db: models.sign(
                db, asked.name, version, asked.digest, signature, source=asked.source, now_ms=_now_ms()
            )
        )

    async def read_signature(self, asked: ReadSignature) -> dict[str, Any]:
        """The signature of a release; an empty one where it has none."""
        version = _version(asked.version)
        found = await self._store.read(lambda db: models.signature_of(db, asked.name, version))
        if found is None:
            raise CallRejectedError("unknown_model", f"there is no model {asked.name}@{version}")
        return {"name": asked.name, "version": version, "digest": found[0], "signature": found[1]}

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
