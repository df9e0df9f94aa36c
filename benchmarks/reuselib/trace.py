"""Which lines a process has run: a tracer that a process gets by its environment, and what it has written.

The product knows nothing of it. `environment(…)` leads Python to a `sitecustomize` of ours, which traces the files
that are asked about and writes down each line of them when it is run for the first time: a process may be killed at
any moment and nothing is lost.
"""

import os
from collections.abc import Iterable
from pathlib import Path

OUT, FILES = "EDGEWRIGHT_TRACE_OUT", "EDGEWRIGHT_TRACE_FILES"

HOOK = """
import os, sys, threading

def _begin():
    wanted = frozenset(os.environ["EDGEWRIGHT_TRACE_FILES"].split(os.pathsep))
    out = open(os.path.join(os.environ["EDGEWRIGHT_TRACE_OUT"], f"{os.getpid()}.lines"), "a", buffering=1)
    seen = set()

    def line(frame, event, argument):
        if event == "line":
            place = (frame.f_code.co_filename, frame.f_lineno)
            if place not in seen:
                seen.add(place)
                out.write(f"{place[1]} {place[0]}\\n")
        return line

    def call(frame, event, argument):
        return line if frame.f_code.co_filename in wanted else None

    threading.settrace(call)
    sys.settrace(call)

_begin()
"""


def environment(folder: Path, out: Path, files: Iterable[Path], path: Iterable[Path]) -> dict[str, str]:
    """What a process needs to be traced; `folder` gets the hook, `out` what was run, `path` is its PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    return {
        "PYTHONPATH": os.pathsep.join(map(str, [folder, *path])),
        OUT: str(out),
        FILES: os.pathsep.join(sorted(map(str, files))),
    }


def lines_run(out: Path) -> dict[Path, set[int]]:
    """By file. A last line that is cut off is left out."""
    found: dict[Path, set[int]] = {}
    for path in sorted(out.glob("*.lines")):
        for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
            number, blank, name = text.rstrip("\n").partition(" ")
            if text.endswith("\n") and blank and number.isdigit():
                found.setdefault(Path(name), set()).add(int(number))
    return found
