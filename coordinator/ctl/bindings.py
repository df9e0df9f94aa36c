"""Whether functions are as a schema declares them: what `edgectl schema check --bindings` adds to the check."""

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from coordinator.ctl.arguments import UsageError
from platforms.binding import check_bindings, check_checks, check_hooks, check_listeners
from platforms.errors import PlatformError
from platforms.finding import SHIPPED, Kind, Origin
from platforms.functions import bindings_of, checks_of, hooks_of, listeners_of
from platforms.loading import functions_module
from schemas.language.schema import Schema

BESIDE = Path()  # --bindings without a file: functions.py beside the schema


@dataclass(frozen=True, slots=True)
class Report:
    """`problems` are the mismatches, a line each. `unbound` is what has no Python, which is allowed."""

    problems: Sequence[str]
    bound: int = 0
    unbound: Sequence[str] = ()

    def __str__(self) -> str:
        lines = [*self.problems, *(f"{name} is declared and not bound" for name in self.unbound)]
        count = f"{len(self.problems)} mismatch{'' if len(self.problems) == 1 else 'es'}"
        return "\n".join([*lines, f"{self.bound} of {self.bound + len(self.unbound)} functions bound, {count}"])


def bindings_report(schema: Schema, file: Path, module: Path = BESIDE) -> Report:
    """`file` is the schema's, `module` the Python's. Raises UsageError where there is no such module; one that cannot
    be imported is a mismatch."""
    path = file.parent / "functions.py" if module == BESIDE else module
    if not path.is_file():
        raise UsageError(f"--bindings: there is no {path}; name the file, or bind nothing and leave --bindings out")
    try:
        loaded = _imported(path.absolute(), file.absolute())
    except PlatformError as error:
        return Report([_short(str(error))], 0, list(schema.functions))
    bindings = list(bindings_of(loaded))
    problems = [*map(str, check_bindings(schema, bindings)), *check_hooks(list(hooks_of(loaded)))]
    problems += [*check_listeners(list(listeners_of(loaded))), *check_checks(list(checks_of(loaded)))]
    unbound = [name for name in schema.functions if name not in {binding.name for binding in bindings}]
    return Report([_short(problem) for problem in problems], len(schema.functions) - len(unbound), unbound)


def _imported(path: Path, file: Path) -> ModuleType:
    """A platform's own `functions.py` as the part of its package, so that what it imports is found; any other file
    alone. Raises PlatformError."""
    if path == file.parent / "functions.py" and file.stem == file.parent.name:
        shipped = file.stem in SHIPPED and file.parent == Path(sys.modules["platforms"].__path__[0]) / file.stem
        kind, package = (Kind.SHIPPED, f"platforms.{file.stem}") if shipped else (Kind.FOLDER, file.stem)
        module = functions_module(Origin(file.stem, kind, file.parent, package))
        assert module is not None  # the file is there
        return module
    spec = importlib.util.spec_from_file_location(f"edge_bindings_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--bindings: {path} is no file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever somebody else's code does while it is imported is told
        del sys.modules[spec.name]
        raise PlatformError(f"{path}: {traceback.format_exception_only(error)[-1].strip()}") from error
    return module


def _short(problem: str) -> str:
    """With paths from here, where they lie beneath."""
    return problem.replace(f"{Path.cwd()}/", "")
