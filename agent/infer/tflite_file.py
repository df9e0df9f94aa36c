"""What can be told of a .tflite file without running it."""

import ast
import hashlib
import mmap
import zipfile
from pathlib import Path

from agent.infer.engine import ModelError
from schemas.bundles import label_lines as label_lines

IDENTIFIER = b"TFL3"
"""The FlatBuffers file identifier of TFLite models, at byte offset 4."""
EDGETPU_OP = b"edgetpu-custom-op"
LABEL_FILE_BYTES_MAX = 4 << 20


def check_identifier(path: Path) -> None:
    """Raises ModelError, saying what was found instead, unless the file is a TFLite model."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise ModelError(f"model file {path} cannot be read: {error.strerror}", hint="check the path") from error
    if head[4:8] == IDENTIFIER:
        return
    raise ModelError(
        f"{path} is not a TFLite model: {_found(head)} where the identifier TFL3 belongs",
        hint="copy the file again or convert the model to .tflite",
    )


def _found(head: bytes) -> str:
    if not head:
        return "the file is empty"
    known = {
        b"PK\x03\x04": "a zip archive",
        b"\x89PNG": "a PNG picture",
        b"\xff\xd8\xff": "a JPEG picture",
        b"\x89HDF": "a Keras HDF5 file",
        b"\x1f\x8b": "a gzip file",
        b"version https://git-lfs": "a git LFS pointer",
    }
    for mark, what in known.items():
        if head.startswith(mark):
            return f"it is {what}, with {head[4:8]!r}"
    if b"<html" in head.lower():
        return f"it is a web page, with {head[4:8]!r}"
    return f"it has {head[4:8]!r}" if len(head) >= 8 else f"it ends after {len(head)} bytes"


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_compiled_for_edgetpu(path: Path) -> bool:
    """Whether the model contains the Edge TPU's custom op, which runs nowhere else."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(EDGETPU_OP) >= 0


def embedded_labels(path: Path) -> tuple[str, ...]:
    """The labels in the file's metadata, or none.

    TFLite metadata is a zip archive appended to the model: either a text file of labels, one a line, or
    a Python literal with a `names` mapping as YOLO exporters write it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [i for i in archive.infolist() if i.file_size <= LABEL_FILE_BYTES_MAX]
            texts = {i.filename: archive.read(i) for i in members if i.filename.endswith((".txt", ".json"))}
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):
        return ()
    for read in (_named_labels, _listed_labels):
        for name, text in sorted(texts.items(), key=lambda item: "label" not in item[0].lower()):
            if labels := read(name, text):
                return labels
    return ()


def _named_labels(_name: str, text: bytes) -> tuple[str, ...]:
    try:
        value = ast.literal_eval(text.decode())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    names = value.get("names") if isinstance(value, dict) else None
    if not isinstance(names, dict) or sorted(names) != list(range(len(names))):
        return ()
    return tuple(str(names[i]) for i in range(len(names)))


def _listed_labels(name: str, text: bytes) -> tuple[str, ...]:
    if not name.endswith(".txt") or "label" not in name.lower():
        return ()
    return label_lines(text)
