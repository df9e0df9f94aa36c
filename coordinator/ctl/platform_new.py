"""`edgectl platform new bakery`: a folder that is an installable package, with a test and a demonstration."""

import importlib.util
import keyword
import re
import sys
from importlib import resources
from pathlib import Path

from coordinator.ctl.arguments import UsageError
from platforms.finding import SHIPPED
from platforms.settings import ENABLED, FOLDERS
from runtime.errors import PermanentError

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

# What is made of each template, beneath the new folder.
FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "init.py.txt": "{name}/__init__.py",
    "schema.edge.txt": "{name}/{name}.edge",
    "counting.py.txt": "{name}/counting.py",
    "functions.py.txt": "{name}/functions.py",
    "test.py.txt": "tests/test_{name}.py",
    "demo.py.txt": "demo.py",
}


def name_mistake(name: str) -> str:
    """Why no platform can be called so, or empty."""
    if not NAME.fullmatch(name):
        return "a name has 1 to 40 of a-z 0-9 _ and begins with a letter: it is a package of Python, and a folder"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "it is a word of Python"
    if name in SHIPPED:
        return "a platform of this name comes with Edgewright"
    if name in (ENABLED, FOLDERS, "tests"):
        return "it means something else already; choose another"
    if name in sys.stdlib_module_names or _is_package(name):
        return "Python has a package of this name already"
    return ""


def new_platform(name: str, beneath: Path) -> list[Path]:
    """Makes the folder `name` in `beneath`; returns the files. Raises UsageError and PermanentError, nothing made."""
    if mistake := name_mistake(name):
        raise UsageError(f"platform new {name}: {mistake}")
    folder = beneath / name
    texts = {target.format(name=name): _filled(template, name) for template, target in FILES.items()}
    try:
        folder.mkdir()  # refuses what is there, a file too, so nothing is overwritten
    except FileExistsError as error:
        raise PermanentError(
            f"{folder} is there already", hint="choose another name, or another folder: --in DIR"
        ) from error
    except OSError as error:
        raise PermanentError(f"cannot make {folder}: {error.strerror}", hint="--in DIR says where") from error
    made = []
    for target, text in texts.items():
        path = folder / target
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise PermanentError(f"cannot write {path}: {error.strerror}", hint=f"remove {folder}") from error
        made.append(path)
    return made


def _filled(template: str, name: str) -> str:
    text = resources.files("coordinator.ctl").joinpath("templates", "platform", template).read_text(encoding="utf-8")
    title = "_".join(part.capitalize() for part in name.split("_") if part)
    for mark, value in (("@@name@@", name), ("@@Name@@", title), ("@@NAME@@", name.upper())):
        text = text.replace(mark, value)
    return text


def _is_package(name: str) -> bool:
    """A folder of that name by chance, without files of Python, is none."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None
