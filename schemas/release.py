"""A release: one version of a model as the registry keeps and serves it and as a node takes it. Pure.

The document is canonical JSON (keys sorted, no spaces, UTF-8). Its SHA-256 is the identity of the release: it covers
every file by its hash, so that two releases with one digest are the same bytes. A signature signs the digest and is
not part of the document.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from schemas.bundles import NAME_PATTERN, Declared, Digest, Lineage, Requires, Target, inside
from schemas.shape import Limit, ShapeError, fields_of, read
from schemas.versions import VERSION_CHARS_MAX, VersionError, parse_reference, parse_version

DOCUMENT_BYTES_MAX = 512 * 1024
FILES_MAX = 64
FILE_BYTES_MAX = 4 * 1024**3
_SIGNATURE_BYTES = 64  # of Ed25519
_canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode


class ReleaseError(ValueError):
    """A document that is no release, or one that cannot be made of it."""


class Role(StrEnum):
    """What a file of a release is."""

    MANIFEST = "manifest"
    MODEL = "model"
    LABELS = "labels"
    GOLDEN = "golden"  # frames with known answers: what a node proves itself with
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """One file, by its name in the bundle's folder and by its content."""

    path: Annotated[str, Limit(len_min=1, len_max=200)]
    sha256: Digest
    bytes: Annotated[int, Limit(ge=1, le=FILE_BYTES_MAX)]
    role: Role = Role.OTHER


@dataclass(frozen=True, slots=True)
class ReleaseVariant:
    """The model for one kind of hardware; `file` is among the release's files."""

    target: Target
    file: str
    sha256: Digest
    bytes: int
    requires: Requires = Requires()
    declared: Declared = field(default_factory=Declared)


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a model."""

    name: Annotated[str, Limit(pattern=NAME_PATTERN)]
    version: str
    variants: Annotated[tuple[ReleaseVariant, ...], Limit(len_min=1, len_max=16)]
    files: Annotated[tuple[ReleaseFile, ...], Limit(len_min=1, len_max=FILES_MAX)]
    description: str = ""
    licence: str = ""
    labels: int = 0  # how many
    declared: Declared = field(default_factory=Declared)
    lineage: Lineage = Lineage()
    v: int = 1

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def bytes(self) -> int:
        return sum({file.sha256: file.bytes for file in self.files}.values())

    @property
    def golden(self) -> bool:
        return any(file.role is Role.GOLDEN for file in self.files)


def encode_release(release: Release) -> bytes:
    """The document. Raises ReleaseError for one that is too large."""
    document = _canonical(fields_of(release)).encode()
    if len(document) > DOCUMENT_BYTES_MAX:
        raise ReleaseError(
            f"model {release.reference}: its document has {len(document)} bytes, at most {DOCUMENT_BYTES_MAX}"
        )
    return document


def digest_of(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()


def decode_release(document: bytes | str, *, strict: bool = True) -> Release:
    """What a document says. `strict` refuses what a later version may have added.

    Raises ReleaseError unless it is one, whole and consistent.
    """
    try:
        release = read(Release, json.loads(document), strict=strict)
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"the document of a model is no JSON: {error}") from error
    except ShapeError as error:
        raise ReleaseError(f"the document of a model is wrong: {error}") from error
    if mistakes := _mistakes(release):
        raise ReleaseError(f"the document of a model is wrong: {'; '.join(mistakes)}")
    return release


def _mistakes(release: Release) -> list[str]:
    found = []
    try:
        if str(parse_version(release.version)) != release.version:
            found.append(f"version: {release.version} is not in its whole form")
        if release.lineage.parent:
            parse_reference(release.lineage.parent)
    except VersionError as error:
        found.append(str(error))
    files = {file.path: file for file in release.files}
    if len(files) < len(release.files):
        found.append("files: a name stands twice")
    found += [f"files: {path!r} must be inside the bundle" for path in files if not inside(path)]
    for variant in release.variants:
        file = files.get(variant.file)
        if file is None or (file.sha256, file.bytes) != (variant.sha256, variant.bytes):
            found.append(f"variants: {variant.target.value}: {variant.file} is not among the files as it is said")
    targets = {variant.target for variant in release.variants}
    if len(targets) < len(release.variants):
        found.append("variants: two variants have the same target")
    return found


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 signature of the digest's 32 bytes, and the name of the key that made it."""

    key: str
    signature: bytes

    def __str__(self) -> str:
        return f"{self.key} {base64.b64encode(self.signature).decode()}"


def parse_signature(text: str) -> Signature:
    """`KEY BASE64`. The form alone is checked. Raises ReleaseError."""
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}) ([A-Za-z0-9+/]{86}==)", text.strip())
    if match:
        try:
            signature = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            signature = b""
        if len(signature) == _SIGNATURE_BYTES:
            return Signature(match[1], signature)
    raise ReleaseError(
        "the signature of a model is wanted as `KEY BASE64`, with the 64 bytes of an Ed25519 signature"
    )


# ---- what desired documents say of releases ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class WantedRelease:
    """`models.<name>.release`: this release is to lie on the node."""

    version: Annotated[str, Limit(len_max=VERSION_CHARS_MAX)]
    digest: Digest


@dataclass(frozen=True, slots=True)
class WantedModel:
    """`pipelines.<name>.model`: the pipeline is to run it."""

    model: Annotated[str, Limit(len_max=140)]  # NAME@VERSION
    digest: Digest

    @property
    def name(self) -> str:
        return self.model.partition("@")[0]

    @property
    def version(self) -> str:
        return self.model.partition("@")[2]


def read_wanted_release(value: object) -> WantedRelease:
    """Raises ShapeError with every mistake."""
    wanted = read(WantedRelease, value, strict=True)
    if wrong := _version_mistake(wanted.version):
        raise ShapeError([f"version: {wrong}"])
    return wanted


def read_wanted_model(value: object) -> WantedModel:
    """Raises ShapeError with every mistake."""
    wanted = read(WantedModel, value, strict=True)
    if not re.fullmatch(NAME_PATTERN, wanted.name) or not wanted.version:
        raise ShapeError([f"model: {wanted.model[:80]!r} must be NAME@VERSION"])
    if wrong := _version_mistake(wanted.version):
        raise ShapeError([f"model: {wrong}"])
    return wanted


def _version_mistake(text: str) -> str:
    try:
        version = str(parse_version(text))
    except VersionError as error:
        return str(error)
    return "" if version == text else f"{text} is not in its whole form, {version}"
