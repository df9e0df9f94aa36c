"""Names to platforms: reads schemas, imports `functions.py`, and finds all that is wrong before a host starts.

A platform in a folder is imported as the package that it is, under its own name and without an entry in `sys.path`:
`from bakery.counting import loaves` works in it, and nothing else becomes importable. It stays imported for the life
of the process.
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from platforms.binding import check_bindings, check_checks, check_hooks, check_listeners
from platforms.errors import BrokenPlatformError, ConflictError, PlatformError, SeveralError
from platforms.finding import Finder, Kind, Origin, folder_names
from platforms.functions import bindings_of, checks_of, hooks_of, listeners_of
from platforms.platform import Platform, Platforms
from platforms.sameness import different_events, different_functions
from schemas.language.cache import load_schema
from schemas.language.problems import SchemaError

FUNCTIONS = "functions"
BASE = "core"  # every host has it


def load_platforms(names: Iterable[str], folders: Sequence[Path] = ()) -> Platforms:
    """Those with these names and those in these folders, `core` first. Raises SeveralError with all that is wrong."""
    finder = Finder(folders)
    in_folders, wrong = folder_names(folders)
    found: dict[str, Platform] = {}
    base = [BASE] if finder.schema(BASE) is not None else []
    for name in dict.fromkeys([*base, *names, *in_folders]):
        try:
            found[name] = load_platform(name, finder)
        except PlatformError as error:
            wrong.append(error)
    wrong += conflicts(found)
    if wrong:
        raise SeveralError(wrong)
    return Platforms(found)


def load_platform(name: str, finder: Finder) -> Platform:
    """Raises PlatformError: it is not there, or its schema, its Python or the binding of both is wrong."""
    origin = finder.find(name)
    try:
        read = load_schema(origin.schema, finder.schema)
    except SchemaError as error:
        raise BrokenPlatformError(f"the schema of {name} cannot be used:\n{error}") from error
    module = functions_module(origin)
    bindings = [] if module is None else list(bindings_of(module))
    hooks = [] if module is None else list(hooks_of(module))
    listeners = [] if module is None else list(listeners_of(module))
    checks = [] if module is None else list(checks_of(module))
    wrong = [*map(str, check_bindings(read.schema, bindings)), *check_hooks(hooks), *check_listeners(listeners)]
    wrong += check_checks(checks)
    if wrong:
        listed = "\n".join(f"  {one}" for one in wrong)
        raise BrokenPlatformError(f"{name}: its functions are not as its schema declares them\n{listed}")
    by_name = {one.name: one for one in bindings}
    return Platform(name, read.schema, by_name, hooks, origin, read.warnings, listeners, checks)


def functions_module(origin: Origin) -> ModuleType | None:
    """The platform's `functions`, imported; None where it has none. Raises PlatformError."""
    try:
        if origin.kind is Kind.FOLDER:
            _import_folder(origin)
        name = f"{origin.package}.{FUNCTIONS}"
        if importlib.util.find_spec(name) is None:
            return None
        return importlib.import_module(name)
    except PlatformError:
        raise
    except Exception as error:  # whatever somebody else's code does while it is imported is told, with its place
        raise BrokenPlatformError(
            f"{origin.name}: {_imported(error, origin)}", "correct it, or install what it needs"
        ) from error


def conflicts(platforms: Mapping[str, Platform]) -> list[PlatformError]:
    """What two of them declare differently, or bind each with Python of its own."""
    found: list[PlatformError] = []
    all_of_them = list(platforms.values())
    for place, one in enumerate(all_of_them):
        for other in all_of_them[place + 1 :]:
            both = f"{one.name} and {other.name}"
            for kind, names in (
                ("function", different_functions(one.schema, other.schema)),
                ("event", different_events(one.schema, other.schema)),
            ):
                for name, why in names.items():
                    text = f"the {kind} {name} is declared differently by {both}: {why}"
                    found.append(ConflictError(text, "rename one, or enable only one of the platforms"))
            for name in sorted(one.bindings.keys() & other.bindings.keys()):
                first, second = one.bindings[name], other.bindings[name]
                if first.run is not second.run:
                    text = f"{name} is bound by {both}: {first.place} and {second.place}"
                    found.append(ConflictError(text, "take out one of them"))
    return found


def _import_folder(origin: Origin) -> None:
    """Makes the folder the package of its name. Raises ConflictError where Python has another one."""
    known = sys.modules.get(origin.package)
    if known is not None:
        if _lies_in(getattr(known, "__path__", ()), origin.folder):
            return
        raise _taken(origin, getattr(known, "__file__", None) or "a module that is there already")
    there = importlib.util.find_spec(origin.package)
    if (
        there is not None
        and there.loader is not None
        and not _lies_in(there.submodule_search_locations, origin.folder)
    ):
        raise _taken(origin, there.origin or "another package")
    begin = origin.folder / "__init__.py"
    if begin.is_file():
        places = [str(origin.folder)]
        spec = importlib.util.spec_from_file_location(origin.package, begin, submodule_search_locations=places)
        assert spec is not None and spec.loader is not None
    else:
        spec = ModuleSpec(origin.package, None, is_package=True)
        spec.submodule_search_locations = [str(origin.folder)]
    module = importlib.util.module_from_spec(spec)
    sys.modules[origin.package] = module
    if spec.loader is not None:
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[origin.package]
            raise


def _lies_in(places: Iterable[str] | None, folder: Path) -> bool:
    return any(Path(place).resolve() == folder.resolve() for place in places or ())


def _taken(origin: Origin, by: str) -> ConflictError:
    text = (
        f"Python has another {origin.package} already ({by}), so the platform in {origin.folder} cannot be imported"
    )
    return ConflictError(text, "give the platform another name")


def _imported(error: Exception, origin: Origin) -> str:
    """The last line of the traceback, and the last place in it that is the platform's own."""
    last = traceback.format_exception_only(error)[-1].strip()
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_beneath(frame.filename, origin.folder)]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {last}"
    return f"{own[-1].filename}:{own[-1].lineno}: {last}" if own else f"{FUNCTIONS}.py cannot be imported: {last}"


def _is_beneath(filename: str, folder: Path) -> bool:
    return Path(filename).is_relative_to(folder)
