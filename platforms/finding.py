"""Where platforms lie: those that come with the project, installed packages, and folders that a configuration names.

A platform is a package: a folder with `<name>.edge`, and `functions.py` where it binds any function.

    shipped    platforms/<name>/
    installed  an entry point of the group `edgewright.platforms`: `bakery = "bakery"`, the package with both files
    folder     `[platforms] folders`: the package, or the project around it as `edgectl platform new` makes it

Nothing is imported to find a platform, but the packages around one that lies deeper (`acme` of `acme.bakery`).
"""

import difflib
import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from platforms.errors import BrokenPlatformError, ConflictError, NoSuchPlatformError, PlatformError

SHIPPED = ("core", "manufacturing", "traffic", "retail")
GROUP = "edgewright.platforms"
SUFFIX = ".edge"


class Kind(StrEnum):
    SHIPPED = "shipped"
    INSTALLED = "installed"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a platform comes from: `package` is what Python calls it."""

    name: str
    kind: Kind
    folder: Path
    package: str

    @property
    def schema(self) -> Path:
        return self.folder / f"{self.name}{SUFFIX}"

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.kind.value} in {self.folder}"


class Finder:
    """Knows all platforms of this machine: `folders` as they are at each question, packages as at the first one."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._folders = tuple(folders)

    def find(self, name: str) -> Origin:
        """Raises NoSuchPlatformError, BrokenPlatformError, and ConflictError where two have this name."""
        found = [] if (shipped := _shipped(name)) is None else [shipped]
        found += [_installed(entry) for entry in self._entries if entry.name == name]
        found += [one for folder in self._folders if (one := in_folder(folder)) is not None and one.name == name]
        if not found:
            raise self._none(name)
        if others := [one for one in found if one.folder.resolve() != found[0].folder.resolve()]:
            text = f"two platforms have the name {name}: {found[0].where} and {others[0].where}"
            raise ConflictError(text, "rename or remove one")
        return found[0]

    def schema(self, name: str) -> Path | None:
        """The `.edge` file of the platform, for imports by name; None where there is none that can be used."""
        try:
            return self.find(name).schema
        except PlatformError:
            return None

    def all(self) -> list[Origin | PlatformError]:
        """What there is, shipped first, then by name; in the place of what cannot be used, why."""
        found: list[Origin | PlatformError] = []
        for name in dict.fromkeys(self._names()):
            try:
                found.append(self.find(name))
            except PlatformError as error:
                found.append(error)
        return found + folder_names(self._folders)[1]

    @cached_property
    def _entries(self) -> list[EntryPoint]:
        return list(entry_points(group=GROUP))

    def _names(self) -> list[str]:
        shipped = [name for name in SHIPPED if _shipped(name) is not None]
        others = {entry.name for entry in self._entries}
        others |= {origin.name for folder in self._folders if (origin := in_folder(folder)) is not None}
        return [*shipped, *sorted(others)]

    def _none(self, name: str) -> NoSuchPlatformError:
        names = list(dict.fromkeys(self._names()))
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        known = ", ".join(names) or "none"
        hint = f"{meant}there are {known}; install its package, or name its folder in [platforms] folders"
        return NoSuchPlatformError(f"there is no platform {name}", hint)


def find_schema(name: str, folders: Sequence[Path] = ()) -> Path | None:
    """The `.edge` file of a platform, for imports by name."""
    return Finder(folders).schema(name)


def in_folder(folder: Path) -> Origin | None:
    """The platform in a folder, or in the folder of the same name in it; None without its `.edge` file."""
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - a link keeps its name, `..` does not
    for package in (folder, folder / folder.name):
        origin = Origin(folder.name, Kind.FOLDER, package, folder.name)
        if origin.schema.is_file():
            return origin
    return None


def _folder_mistake(folder: Path) -> PlatformError | None:
    if in_folder(folder) is not None:
        return None
    name = os.path.basename(os.path.abspath(folder))  # noqa: PTH100, PTH119
    if not folder.is_dir():
        return BrokenPlatformError(f"[platforms] folders: {folder} is no folder", "correct the path, or leave it out")
    others = [path.name for path in sorted(folder.glob(f"*{SUFFIX}"))]
    hint = f"it has {others[0]}: name folder and schema alike" if others else "edgectl platform new makes one"
    return BrokenPlatformError(f"[platforms] folders: {folder} has no {name}{SUFFIX}", hint)


def folder_names(folders: Iterable[Path]) -> tuple[list[str], list[PlatformError]]:
    """The platforms in these folders by name, and what is wrong with the other folders."""
    names, wrong = [], []
    for folder in folders:
        origin = in_folder(folder)
        if origin is not None:
            names.append(origin.name)
        elif (error := _folder_mistake(folder)) is not None:
            wrong.append(error)
    return names, wrong


def _shipped(name: str) -> Origin | None:
    origin = Origin(name, Kind.SHIPPED, Path(__file__).parent / name, f"platforms.{name}")
    return origin if name in SHIPPED and origin.schema.is_file() else None


def _installed(entry: EntryPoint) -> Origin:
    """Raises BrokenPlatformError where the entry point leads to no package with the schema."""
    said = f"the entry point {entry.name} = {entry.value!r} of the group {GROUP}"
    try:
        spec = importlib.util.find_spec(entry.value)
    except (ImportError, ValueError) as error:
        raise BrokenPlatformError(f"{said} leads to no package: {error}", "install its package again") from error
    if spec is None or not spec.submodule_search_locations:
        raise BrokenPlatformError(
            f"{said} leads to no package", f"its value is the package with {entry.name}{SUFFIX}"
        )
    for place in spec.submodule_search_locations:
        origin = Origin(entry.name, Kind.INSTALLED, Path(place), entry.value)
        if origin.schema.is_file():
            return origin
    places = " ".join(spec.submodule_search_locations)
    hint = f"list *{SUFFIX} in the package-data of its pyproject.toml"
    raise BrokenPlatformError(f"{said} leads to {places}, which has no {entry.name}{SUFFIX}", hint)
