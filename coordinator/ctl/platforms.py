"""`edgectl platform`: makes a new one, and lists what there is."""

import argparse
import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coordinator.ctl.arguments import UsageError
from coordinator.ctl.platform_new import new_platform
from coordinator.ctl.tables import table
from platforms.errors import PlatformError
from platforms.finding import Finder
from platforms.loading import BASE, load_platform
from platforms.settings import read_platforms

Arguments = argparse.Namespace
ConfigPath = Callable[[Arguments], Path | None]
"""The configuration file that the command line or the environment names."""


@dataclass(frozen=True, slots=True)
class Line:
    """One platform as it is listed."""

    name: str
    kind: str
    version: str = ""
    bound: int = 0
    declared: int = 0
    events: int = 0
    folder: str = ""
    problem: str = ""


def add_commands(parser: Any, config_path: ConfigPath) -> None:
    """The commands beneath `edgectl platform`."""
    inner = parser.add_subparsers(required=True, metavar="WHAT")
    text = "makes a folder with a schema, functions, a test and a demonstration that runs"
    new = inner.add_parser("new", help=text, description=text)
    new.add_argument("name", metavar="NAME", help="a name for Python: a-z 0-9 _")
    new.add_argument(
        "--in", dest="beneath", type=Path, default=Path(), metavar="DIR", help="make it there (default: here)"
    )
    new.set_defaults(run=_new)
    text = "those that come with Edgewright, are installed, or lie in folders of the configuration"
    ls = inner.add_parser("ls", help=text, description=text)
    ls.add_argument(
        "--folder", action="append", type=Path, default=[], metavar="DIR", help="and the one in this folder"
    )
    ls.add_argument("--json", action="store_true", help="JSON instead of a table")
    ls.set_defaults(run=lambda parsed: _ls(parsed, config_path))


def listed(folders: Sequence[Path]) -> list[Line]:
    """Each platform, loaded to see what is wrong with it."""
    finder = Finder(folders)
    found = []
    for one in finder.all():
        if isinstance(one, PlatformError):
            found.append(Line("-", "-", problem=str(one)))
            continue
        try:
            platform = load_platform(one.name, finder)
        except PlatformError as error:
            found.append(Line(one.name, one.kind.value, folder=str(one.folder), problem=str(error)))
            continue
        schema = platform.schema
        bound, declared = len(platform.bindings), len(schema.functions)
        found.append(
            Line(one.name, one.kind.value, schema.version, bound, declared, len(schema.events), str(one.folder))
        )
    return found


def _new(parsed: Arguments) -> int:
    made = new_platform(parsed.name, parsed.beneath)
    folder = parsed.beneath / parsed.name
    lines = [f"made {folder}:", *(f"  {path.relative_to(folder)}" for path in made), "", "next:"]
    name = parsed.name
    lines += [
        f"  cd {folder}",
        f"  edgectl schema check {name}/{name}.edge --bindings",
        "  python -m pytest",
        "  python demo.py",
    ]
    print("\n".join(lines))  # noqa: T201
    return 0


def _ls(parsed: Arguments, config_path: ConfigPath) -> int:
    found = listed([*_folders(config_path(parsed)), *parsed.folder])
    if parsed.json:
        print(json.dumps([asdict(line) for line in found], indent=2))  # noqa: T201
    else:
        print(shown(found))  # noqa: T201
    return 1 if any(line.problem for line in found) else 0


def shown(found: Sequence[Line]) -> str:
    """As a table, what is wrong below it."""
    titles = ("PLATFORM", "FROM", "VERSION", "BOUND", "EVENTS", "FOLDER")
    rows = [
        (line.name, line.kind, line.version, _bound(line), str(line.events), line.folder)
        if not line.problem
        else (line.name, line.kind, "", "broken", "", line.folder)
        for line in found
    ]
    problems = [f"\n{line.problem}" for line in found if line.problem]
    return "\n".join([table(titles, rows), *problems])


def _bound(line: Line) -> str:
    """The functions of the base platform come with the processes."""
    return "built in" if line.name == BASE else f"{line.bound}/{line.declared}"


def _folders(path: Path | None) -> Sequence[Path]:
    """Those of a configuration's `[platforms]`: read here alone, so that a broken rest of the file hides nothing."""
    if path is None:
        return ()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8")).get("platforms", {})
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: platforms is no table")
    return read_platforms(raw, path.resolve().parent)[0].folders
