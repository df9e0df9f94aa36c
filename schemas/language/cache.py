"""Schemas that were read once are kept on disk: the next process needs no parser, a quarter of a start's time.

    <folder>/schema-<key>.json   a digest of the rest │ files with their digests, ways of imports, schema, warnings

What is kept holds as long as the schema's file, every file that it imports and what each import means are as they
were; the key is of the file's path and of the program that reads schemas. A schema with errors is not kept. JSON and
no pickle: it is read as fast, and nothing in it can be run. Whatever is wrong with the folder or a file in it, the
schema is parsed as ever.

A folder of somebody else, or that others may write to, is not used: they could loosen a schema's limits.
"""

import hashlib
import json
import logging
import os
import stat
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.language.files import Find, meant, read_text
from schemas.language.packing import pack, unpack
from schemas.language.problems import Problem, SchemaError
from schemas.language.schema import Schema

if TYPE_CHECKING:
    from schemas.language.load import Loader

log = logging.getLogger(__name__)

VARIABLE = "EDGEWRIGHT_CACHE"
ENTRIES_MAX = 64
ENTRY_BYTES_MAX = 4 * 1024 * 1024
BYTES_MAX = 16 * 1024 * 1024
_OURS = f"schema-{'[0-9a-f]' * 32}.*"


@dataclass(frozen=True, slots=True)
class Read:
    """A schema, and warnings (never errors)."""

    schema: Schema
    warnings: tuple[Problem, ...] = ()


def load_schema(path: Path, find: Find = lambda name: None) -> Read:
    """As `load` has it, without the tree. Raises SchemaError with everything that is wrong."""
    folder = cache_folder(os.environ)
    if folder is None:
        return _parsed(path, find)[0]
    try:
        entry = folder / f"schema-{_key(path)}.json"
        return _kept(entry, find)
    except _UNREADABLE as error:
        log.debug("%s is parsed, not read from %s: %r", path, folder, error)
    read, loader = _parsed(path, find)
    try:
        _keep(folder / f"schema-{_key(path)}.json", read, loader)
    except _UNWRITABLE as error:
        log.debug("%s is not kept in %s: %r", path, folder, error)
    return read


def cache_folder(environ: Mapping[str, str]) -> Path | None:
    """$EDGEWRIGHT_CACHE, systemd's folder of the service, or one beneath ~/.cache; None: nothing is kept."""
    if (named := environ.get(VARIABLE)) is not None:
        return Path(named) if named else None
    if service := environ.get("CACHE_DIRECTORY", "").partition(":")[0]:
        return Path(service)
    if Path(beneath := environ.get("XDG_CACHE_HOME", "")).is_absolute():
        return Path(beneath) / "edgewright"
    home = environ.get("HOME", "")
    return Path(home) / ".cache" / "edgewright" if Path(home).is_absolute() else None


# ---- reading -------------------------------------------------------------------------------------


class _StaleError(Exception):
    """What is kept is of another time, or damaged."""


_UNREADABLE = (OSError, _StaleError, SchemaError, ValueError, TypeError, LookupError, RuntimeError)
"""An entry that is not there, is damaged or stale; a file it names that is gone; links in a circle."""
_UNWRITABLE = (OSError, ValueError, TypeError, RuntimeError)
"""No folder of ours, no room, a schema that is too large; what `pack` does not know."""


def _parsed(path: Path, find: Find) -> tuple[Read, "Loader"]:
    from schemas.language.load import Loader  # the parser and its tables: most starts need neither

    loader = Loader(find)
    loaded = loader.load(path)
    return Read(loaded.schema, loaded.warnings), loader


def _kept(entry: Path, find: Find) -> Read:
    """Raises one of _UNREADABLE."""
    _check_folder(entry.parent)
    with entry.open("rb") as file:
        content = file.read(ENTRY_BYTES_MAX + 1)
    digest, _, rest = content.partition(b"\n")
    if digest != _digest(rest).encode():
        raise _StaleError("it is damaged")
    files, ways, schema, warnings = json.loads(rest)
    for name, was in files:
        if _digest(read_text(Path(name)).encode()) != was:
            raise _StaleError(f"{name} has changed")
    for folder, target, is_path, was in ways:
        path = meant(target, is_path, Path(folder), find)
        if path is None or not path.is_file() or str(path.resolve()) != was:
            raise _StaleError(f"import {target} means another file now")
    return Read(unpack(schema), unpack(warnings))


# ---- writing -------------------------------------------------------------------------------------


def _keep(entry: Path, read: Read, loader: "Loader") -> None:
    """Writes it whole or not at all, and removes what is too much. Raises one of _UNWRITABLE."""
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_folder(entry.parent)
    files = [(str(path), _digest(text.encode())) for path, text in loader.texts.items()]
    ways = [(str(way.folder), way.target, way.is_path, str(way.path)) for way in loader.ways]
    data: list[Any] = [files, ways, pack(read.schema), pack(read.warnings)]
    rest = json.dumps(data, separators=(",", ":")).encode()
    content = _digest(rest).encode() + b"\n" + rest
    if len(content) > ENTRY_BYTES_MAX:
        raise ValueError(f"{len(content)} bytes; at most {ENTRY_BYTES_MAX} are kept")
    part = entry.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        part.write_bytes(content)
        part.replace(entry)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    _remove_oldest(entry.parent)


def _remove_oldest(folder: Path) -> None:
    """Down to the limits. Other processes may be at it too."""
    found = [(about.st_mtime_ns, about.st_size, path) for path in folder.glob(_OURS) for about in [path.lstat()]]
    size = 0
    for count, (_, one_size, path) in enumerate(sorted(found, reverse=True), 1):
        size += one_size
        if count > ENTRIES_MAX or size > BYTES_MAX:
            path.unlink(missing_ok=True)


# ---- names ---------------------------------------------------------------------------------------


def _check_folder(folder: Path) -> None:
    """Raises OSError where it is not there, or not ours alone."""
    about = folder.stat()
    if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} is somebody else's, or others may write to it")


def _key(path: Path) -> str:
    """Also of the Python that runs: what a pattern may be depends on it."""
    return _digest(f"{_program()} {sys.hexversion} ".encode() + os.fsencode(path.resolve()))


@lru_cache(maxsize=1)
def _program() -> str:
    """A digest of the Python and the grammar that make a schema of a text."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), here / "grammar.lark", here.parent / "fields.py"]
    return _digest(b"".join(file.read_bytes() for file in files))


def _digest(content: bytes) -> str:
    """32 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:32]
