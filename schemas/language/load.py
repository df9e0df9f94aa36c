"""Files to schemas: a `.edge` file and those it imports. `cache.py` has the same for who needs the schema alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.language import platform
from schemas.language.files import SUFFIX, Find, meant, read_text
from schemas.language.limits import IMPORTS_MAX
from schemas.language.parse import Parsed, parse_what_can_be
from schemas.language.problems import Problem, SchemaError
from schemas.language.schema import Schema
from schemas.language.tree import File, Import


@dataclass(frozen=True, slots=True)
class Loaded:
    """A schema, the tree it was built from, those it imports by name, and warnings (never errors)."""

    schema: Schema
    file: File
    imported: Mapping[str, Schema]
    warnings: tuple[Problem, ...] = ()


def load(path: Path, find: Find = lambda name: None) -> Loaded:
    """The schema in `path`. Raises SchemaError with everything that is wrong, imported files included."""
    return Loader(find).load(path)


def load_text(text: str, name: str = "text", find: Find = lambda name: None, *, folder: Path | None = None) -> Loaded:
    """The same of a text; paths of imports go from `folder`."""
    loader = Loader(find)
    return loader.build(parse_what_can_be(text, f"{name}{SUFFIX}"), name, folder or Path())


@dataclass(frozen=True, slots=True)
class Way:
    """Where an import led: the file `path`, for one that stands in a file of `folder`. Both are resolved."""

    folder: Path
    target: str
    is_path: bool
    path: Path


class Loader:
    """For one schema. `texts` are those of the files that were read, `ways` where their imports led."""

    def __init__(self, find: Find) -> None:
        self.texts: dict[Path, str] = {}
        self.ways: list[Way] = []
        self._find = find
        self._done: dict[Path, Loaded | None] = {}  # None: what is wrong with it is told already
        self._under_way: list[Path] = []

    def load(self, path: Path) -> Loaded:
        path = path.resolve()
        if path in self._done:
            if (found := self._done[path]) is None:
                raise SchemaError([])
            return found
        self._under_way.append(path)
        self._done[path] = None
        try:
            self.texts[path] = text = read_text(path)
            loaded = self.build(parse_what_can_be(text, str(path)), path.stem, path.parent)
        finally:
            self._under_way.pop()
        self._done[path] = loaded
        return loaded

    def build(self, parsed: Parsed, name: str, folder: Path) -> Loaded:
        """Raises SchemaError with what is wrong with it and with what it imports."""
        file, damage = parsed.file, parsed.damage
        elsewhere: list[Problem] = []
        here: list[Problem] = list(parsed.problems)
        imported: dict[str, Schema] = {}
        for one in file.imports:
            if one.place.line in damage.lines:
                damage = replace(damage, anything=True)
                continue
            try:
                schema = self._import(one, file, folder).schema
            except SchemaError as error:
                damage = replace(damage, anything=True)
                elsewhere += [problem for problem in error.problems if problem.file != file.name]
                here += [problem for problem in error.problems if problem.file == file.name]
            else:
                if schema.name in imported:
                    here.append(_at(file, one, f"{schema.name} is imported twice", "leave one out"))
                imported[schema.name] = schema
        schema, scope = platform.build(file, name, imported, damage)
        here = sorted([*here, *scope.problems], key=lambda problem: problem.place)
        problems = [*elsewhere, *here]
        if damage.anything or any(problem.is_error for problem in problems):
            raise SchemaError(problems)
        return Loaded(schema, file, imported, tuple(problems))

    def _import(self, one: Import, file: File, folder: Path) -> Loaded:
        try:
            path = meant(one.target, one.is_path, folder, self._find)
            is_there = path is not None and path.is_file()
            resolved = path.resolve() if path is not None else None
        except (OSError, RuntimeError, ValueError) as error:  # no name of a file, or links in a circle
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise SchemaError([_at(file, one, f"{one.target[:80]} cannot be opened: {why}", "")]) from error
        if one.is_path and (not one.target.endswith(SUFFIX) or Path(one.target).is_absolute()):
            hint = f'write import "name{SUFFIX}", with the way from the folder of this file'
            raise SchemaError([_at(file, one, f"{one.target[:80]} is no path of a {SUFFIX} file", hint)])
        if path is None or resolved is None or not is_there:
            what = f"there is no file {str(path)[-200:]}" if one.is_path else f"there is no platform {one.target}"
            hint = "" if one.is_path else f"put {one.target}{SUFFIX} beside this file, or install the platform"
            raise SchemaError([_at(file, one, what, hint)])
        if resolved in self._under_way:
            names = [step.name for step in self._under_way[self._under_way.index(resolved) :]]
            way = " → ".join([*names, path.name])
            raise SchemaError([_at(file, one, f"files import each other in a circle: {way}", "move what both need")])
        if len(self._done) > IMPORTS_MAX:
            raise SchemaError([_at(file, one, f"more than {IMPORTS_MAX} files are imported", "put some together")])
        self.ways.append(Way(folder, one.target, one.is_path, resolved))
        return self.load(path)


def _at(file: File, one: Import, message: str, hint: str) -> Problem:
    lines = file.text.split("\n")
    return Problem(file.name, one.place, message, hint, line=lines[one.place.line - 1])
