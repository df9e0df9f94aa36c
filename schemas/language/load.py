"""Files to schemas: reads a `.edge` file and those it imports. The one place of the language that opens files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.language import platform
from schemas.language.limits import FILE_BYTES_MAX, IMPORTS_MAX
from schemas.language.parse import parse
from schemas.language.problems import Problem, SchemaError, Severity
from schemas.language.schema import Schema
from schemas.language.tree import File, Import, Place

SUFFIX = ".edge"

Find = Callable[[str], Path | None]
"""Where the platform of this name has its schema; None: there is none."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A schema, the tree it was built from, those it imports by name, and warnings (never errors)."""

    schema: Schema
    file: File
    imported: Mapping[str, Schema]
    warnings: tuple[Problem, ...] = ()


def load(path: Path, find: Find = lambda name: None) -> Loaded:
    """The schema in `path`. Raises SchemaError with everything that is wrong, imported files included."""
    return _Loader(find).load(path)


def load_text(text: str, name: str = "text", find: Find = lambda name: None, *, folder: Path | None = None) -> Loaded:
    """The same of a text; paths of imports go from `folder`."""
    loader = _Loader(find)
    return loader.build(parse(text, f"{name}{SUFFIX}"), name, folder or Path())


class _Loader:
    def __init__(self, find: Find) -> None:
        self._find = find
        self._done: dict[Path, Loaded] = {}
        self._under_way: list[Path] = []

    def load(self, path: Path) -> Loaded:
        path = path.resolve()
        if path in self._done:
            return self._done[path]
        self._under_way.append(path)
        try:
            loaded = self.build(parse(read_text(path), str(path)), path.stem, path.parent)
        finally:
            self._under_way.pop()
        self._done[path] = loaded
        return loaded

    def build(self, file: File, name: str, folder: Path) -> Loaded:
        problems: list[Problem] = []
        imported: dict[str, Schema] = {}
        for one in file.imports:
            try:
                schema = self._import(one, file, folder).schema
            except SchemaError as error:
                problems += error.problems
            else:
                if schema.name in imported:
                    problems.append(_at(file, one, f"{schema.name} is imported twice", "leave one out"))
                imported[schema.name] = schema
        if problems:
            raise SchemaError(problems)  # what its names mean is not known; what else is wrong comes after
        schema, scope = platform.build(file, name, imported)
        if any(problem.severity is Severity.ERROR for problem in scope.problems):
            raise SchemaError(scope.problems)
        return Loaded(schema, file, imported, tuple(scope.problems))

    def _import(self, one: Import, file: File, folder: Path) -> Loaded:
        path = folder / one.target if one.is_path else self._named(one, folder)
        if path is None or not path.is_file():
            what = f"there is no file {path}" if one.is_path else f"there is no platform {one.target}"
            hint = "" if one.is_path else f"put {one.target}{SUFFIX} beside this file, or install the platform"
            raise SchemaError([_at(file, one, what, hint)])
        if path.resolve() in self._under_way:
            way = " → ".join(step.name for step in (*self._under_way, path))
            raise SchemaError([_at(file, one, f"files import each other in a circle: {way}", "move what both need")])
        if len(self._done) >= IMPORTS_MAX:
            raise SchemaError([_at(file, one, f"more than {IMPORTS_MAX} files are imported", "put some together")])
        return self.load(path)

    def _named(self, one: Import, folder: Path) -> Path | None:
        beside = folder / f"{one.target}{SUFFIX}"
        return beside if beside.is_file() else self._find(one.target)


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


def _at(file: File, one: Import, message: str, hint: str) -> Problem:
    lines = file.text.split("\n")
    return Problem(file.name, one.place, message, hint, line=lines[one.place.line - 1])
