"""The one place of the language that opens schema files: their texts, and which file an import means."""

from collections.abc import Callable
from pathlib import Path

from schemas.language.limits import FILE_BYTES_MAX
from schemas.language.problems import Problem, SchemaError
from schemas.language.tree import Place

SUFFIX = ".edge"

Find = Callable[[str], Path | None]
"""Where the platform of this name has its schema; None: there is none."""


def read_text(path: Path) -> str:
    """The text of a schema file. Raises SchemaError when it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        return content.decode()
    except OSError as error:
        raise SchemaError([Problem(str(path), Place(), f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise SchemaError(
            [Problem(str(path), Place(), f"is no UTF-8: {error.reason} at byte {error.start}")]
        ) from error


def meant(target: str, is_path: bool, folder: Path, find: Find) -> Path | None:
    """The file that an import in `folder` means, which need not be there; None: no platform has this name.
    Raises OSError and ValueError for what cannot be the name of a file."""
    if is_path:
        return folder / target
    beside = folder / f"{target}{SUFFIX}"
    return beside if beside.is_file() else find(target)
