"""A bundle's folder as it lies on a disk, checked as a whole, to a release; then its files into the store.

All regular files of the folder belong to the release, hidden ones excepted: what nothing names, such as a model card
or golden frames, travels too. Links are refused: what they lead to is nobody's to give away.
"""

import hashlib
import os
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path

from coordinator.models.blobs import Blobs
from coordinator.models.release import (
    FILE_BYTES_MAX,
    FILES_MAX,
    ModelRefusedError,
    Release,
    ReleaseFile,
    ReleaseVariant,
    Role,
    check_signature,
    decode_release,
    digest_of,
    encode_release,
)
from coordinator.models.versions import VersionError, parse_reference, parse_version
from schemas.bundles import LABELS_MAX, MANIFEST, BundleShape, VariantShape, label_lines, read_bundle
from schemas.shape import ShapeError

SIGNATURE = "bundle.sig"
MANIFEST_BYTES_MAX = 256 * 1024
LABELS_BYTES_MAX = 4 * 1024 * 1024
_TFLITE = b"TFL3"  # at byte 4 of every TFLite file


@dataclass(frozen=True, slots=True)
class FolderRelease:
    """What is to be added: the release, its document, and where its files lie."""

    folder: Path
    release: Release
    document: bytes
    signature: str = ""

    @property
    def digest(self) -> str:
        return digest_of(self.document)


def read_folder(folder: Path) -> FolderRelease:
    """Everything checked, nothing stored. Raises ModelRefusedError with every mistake found."""
    try:
        names = sorted(_names(folder))
    except OSError as error:
        raise ModelRefusedError(f"model folder {folder} cannot be read: {error.strerror}") from error
    signature = check_signature(_text(folder, SIGNATURE, 1024)) if SIGNATURE in names else ""
    names = [name for name in names if name != SIGNATURE]
    if MANIFEST not in names:
        raise ModelRefusedError(f"model folder {folder} has no {MANIFEST}", hint="edge-agent model import makes one")
    if len(names) > FILES_MAX:
        raise ModelRefusedError(f"model folder {folder} has {len(names)} files, at most {FILES_MAX}")
    bundle = _manifest(folder)
    mistakes: list[str] = []
    files = {name: file for name in names if (file := _file(folder, name, _role(name, bundle), mistakes))}
    variants = tuple(_variant(folder, one, files, mistakes) for one in bundle.variants)
    labels = _labels(folder, bundle, files, mistakes)
    version = _version(bundle, mistakes)
    if mistakes:
        raise ModelRefusedError(
            f"model folder {folder} has {len(mistakes)} mistake(s): {'; '.join(mistakes)}", hint="nothing was added"
        )
    document = encode_release(
        Release(
            bundle.name, version, variants, tuple(files.values()), bundle.description, bundle.licence, labels,
            bundle.declared, bundle.lineage,
        )
    )  # fmt: skip
    return FolderRelease(folder, decode_release(document), document, signature)


def store_files(found: FolderRelease, blobs: Blobs) -> int:
    """Puts files and document into the store, durable when this returns. Returns the bytes that were new."""
    new = 0
    for file in found.release.files:
        with _opened(found.folder, file.path) as source:
            new += file.bytes * blobs.put(file.sha256, source, file.bytes)
    blobs.put(found.digest, BytesIO(found.document), len(found.document))
    return new


def _names(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in [*files, *(one for one in folders if (Path(root) / one).is_symlink())]:
            if not name.startswith("."):
                yield (Path(root) / name).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _manifest(folder: Path) -> BundleShape:
    try:
        return read_bundle(tomllib.loads(_text(folder, MANIFEST, MANIFEST_BYTES_MAX)))
    except tomllib.TOMLDecodeError as error:
        raise ModelRefusedError(f"{folder / MANIFEST} is not valid TOML: {error}") from error
    except ShapeError as error:
        raise ModelRefusedError(f"{folder / MANIFEST}: {error}", hint="nothing was added") from error


def _role(name: str, bundle: BundleShape) -> Role:
    if name == MANIFEST:
        return Role.MANIFEST
    if name in {variant.file for variant in bundle.variants}:
        return Role.MODEL
    if name == bundle.labels:
        return Role.LABELS
    return Role.GOLDEN if name.startswith(("golden.", "golden/")) else Role.OTHER


def _file(folder: Path, name: str, role: Role, mistakes: list[str]) -> ReleaseFile | None:
    try:
        with _opened(folder, name) as file:
            size = os.fstat(file.fileno()).st_size
            if not 1 <= size <= FILE_BYTES_MAX:
                mistakes.append(f"{name}: it has {size} bytes, and 1 to {FILE_BYTES_MAX} are wanted")
                return None
            if not name.isprintable() or len(name) > 200:
                mistakes.append(f"{name!r}: a name of at most 200 printable characters is wanted")
                return None
            return ReleaseFile(name, hashlib.file_digest(file, "sha256").hexdigest(), size, role)
    except ModelRefusedError as error:
        mistakes.append(error.what)
    return None


def _variant(folder: Path, one: VariantShape, files: dict[str, ReleaseFile], mistakes: list[str]) -> ReleaseVariant:
    file = files.get(one.file)
    if file is None:
        mistakes.append(f"{one.file}: the file of variant {one.target.value} is not there")
    elif file.sha256 != one.sha256:
        mistakes.append(f"{one.file}: it has the sha256 {file.sha256}, but {MANIFEST} states {one.sha256}")
    else:
        with _opened(folder, one.file) as opened:
            if opened.read(8)[4:] != _TFLITE:
                mistakes.append(f"{one.file}: it is not a TFLite model")
    return ReleaseVariant(one.target, one.file, one.sha256, file.bytes if file else 0, one.requires, one.declared)


def _labels(folder: Path, bundle: BundleShape, files: dict[str, ReleaseFile], mistakes: list[str]) -> int:
    if isinstance(bundle.labels, tuple):
        count = len(bundle.labels)
    elif bundle.labels not in files:
        mistakes.append(f"{bundle.labels}: the file of labels is not there")
        return 0
    else:
        try:
            count = len(label_lines(_bytes(folder, bundle.labels, LABELS_BYTES_MAX)))
        except ModelRefusedError as error:
            mistakes.append(error.what)
            return 0
        except UnicodeDecodeError as error:
            mistakes.append(f"{bundle.labels}: it is not UTF-8 text: {error}")
            return 0
        if not 0 < count <= LABELS_MAX:
            mistakes.append(f"{bundle.labels}: 1 to {LABELS_MAX} labels are wanted, not {count}")
    if bundle.label_offset >= count:
        mistakes.append(f"label_offset: leaves none of the {count} labels")
    return count


def _version(bundle: BundleShape, mistakes: list[str]) -> str:
    try:
        if bundle.lineage.parent and not parse_reference(bundle.lineage.parent)[1]:
            mistakes.append(f"lineage.parent: {bundle.lineage.parent!r} is not NAME@VERSION")
    except VersionError as error:
        mistakes.append(f"lineage.parent: {error}")
    try:
        return str(parse_version(bundle.version))
    except VersionError as error:
        mistakes.append(f"version: {error}")
        return ""


def _bytes(folder: Path, name: str, bytes_max: int) -> bytes:
    with _opened(folder, name) as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise ModelRefusedError(f"{name}: it is larger than {bytes_max} bytes")
    return data


def _text(folder: Path, name: str, bytes_max: int) -> str:
    try:
        return _bytes(folder, name, bytes_max).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelRefusedError(f"{name}: it is not UTF-8 text: {error}") from error


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[BufferedReader]:
    """A regular file, whatever stands there: no link is followed, and a pipe is not waited for."""
    try:
        fd = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ModelRefusedError(f"{name}: it cannot be opened: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ModelRefusedError(f"{name}: it is no regular file")
        yield file
