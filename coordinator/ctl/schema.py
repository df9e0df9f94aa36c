"""`edgectl schema …`: checks, formats, compares and shows `.edge` files. Needs neither a store nor a broker."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.ctl import schema_show
from coordinator.ctl.arguments import UsageError
from coordinator.ctl.bindings import BESIDE, Report, bindings_report
from coordinator.ctl.schema_export import add_export
from platforms.finding import find_schema
from runtime.errors import PermanentError
from schemas.language.diff import Change, diff, is_compatible
from schemas.language.files import SUFFIX, read_text
from schemas.language.format import format_file
from schemas.language.load import Loaded, load
from schemas.language.parse import parse
from schemas.language.problems import Problem, SchemaError

EXIT_FAILED = 1


def add_commands(parser: argparse.ArgumentParser) -> None:
    """`check`, `fmt`, `diff` and `show`."""
    commands = parser.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    check = add("check", "all that is wrong with files, each with its place and what would be right", _check)
    check.add_argument("files", nargs="+", metavar="FILE", help=f"a {SUFFIX} file, or the name of a platform")
    check.add_argument("--strict", action="store_true", help="warnings count as errors")
    check.add_argument("--json", action="store_true", help="a list of problems, as JSON")
    text = "and whether the Python is as the schema declares; without a file functions.py beside the schema"
    check.add_argument("--bindings", nargs="?", type=Path, const=BESIDE, metavar="MODULE_FILE", help=text)
    fmt = add("fmt", "writes files in the canonical layout; comments stay", _fmt)
    fmt.add_argument("files", nargs="+", type=Path, metavar="FILE")
    fmt.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file would change")
    fmt.add_argument("--stdout", action="store_true", help="write to the standard output instead")
    compare = add(
        "diff", "what has changed on the wire, and what of it breaks; exit status 1 if something does", _diff
    )
    compare.add_argument("old", metavar="OLD", help=f"a {SUFFIX} file, or the name of a platform")
    compare.add_argument("new", metavar="NEW")
    compare.add_argument("--json", action="store_true", help="a list of changes, as JSON")
    show = add("show", "what a platform declares: functions, events, state, types", _show)
    show.add_argument("file", metavar="FILE|PLATFORM")
    show.add_argument("name", nargs="?", default="", metavar="NAME", help="one function, event, collection or type")
    show.add_argument("--json", action="store_true", help="JSON instead of tables")
    add_export(commands)


def path_of(text: str) -> Path:
    """A file as it was typed, or the schema of a platform with this name. Raises UsageError."""
    path = Path(text)
    if text.endswith(SUFFIX) or path.exists():
        return path
    found = find_schema(text)
    if found is None:
        raise UsageError(f"{text}: neither a {SUFFIX} file nor a platform that is installed")
    return found


def load_or_complain(text: str) -> Loaded | None:
    """The schema in a file or of a platform; what is wrong with it goes to the standard error output."""
    try:
        return load(path_of(text), find_schema)
    except SchemaError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return None


# ---- check --------------------------------------------------------------------------------------


def _check(parsed: argparse.Namespace) -> int:
    problems: dict[str, Problem] = {}  # by text: what two files import is told once
    for text in parsed.files:
        for problem in problems_of(path_of(text)):
            problems.setdefault(str(problem), problem)
    reports = [] if parsed.bindings is None else _bindings(parsed.files, parsed.bindings)
    errors = sum(1 for problem in problems.values() if problem.is_error)
    warnings = len(problems) - errors
    errors += sum(len(report.problems) for report in reports)
    if parsed.json:
        found = [_problem(one) for one in problems.values()]
        found += [{"severity": "error", "message": text} for report in reports for text in report.problems]
        print(json.dumps(found, indent=2, ensure_ascii=False))  # noqa: T201
    else:
        for told in (*problems, *map(str, reports)):
            print(told)  # noqa: T201
        files = f"{len(parsed.files)} {'file' if len(parsed.files) == 1 else 'files'}"
        print(f"{files}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")  # noqa: T201
    return EXIT_FAILED if errors or (parsed.strict and warnings) else 0


def _bindings(files: list[str], module: Path) -> list[Report]:
    """Of the files that can be used; the others' problems are told already."""
    if module != BESIDE and len(files) > 1:
        raise UsageError("--bindings: one module is for one schema; check the files one by one")
    reports = []
    for path in map(path_of, files):
        try:
            reports.append(bindings_report(load(path, find_schema).schema, path, module))
        except SchemaError:
            continue
    return reports


def problems_of(path: Path) -> list[Problem]:
    """Errors and warnings of a file and of what it imports."""
    try:
        return list(load(path, find_schema).warnings)
    except SchemaError as error:
        return list(error.problems)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _problem(one: Problem) -> dict[str, Any]:
    return {
        "file": one.file,
        "line": one.place.line,
        "column": one.place.column,
        "end_line": one.place.end_line,
        "end_column": one.place.end_column,
        "severity": one.severity.value,
        "message": one.message,
        "hint": one.hint,
    }


# ---- fmt ----------------------------------------------------------------------------------------


def _fmt(parsed: argparse.Namespace) -> int:
    status = 0
    for path in parsed.files:
        try:
            text = read_text(path)
            formatted = format_file(parse(text, str(path)))
        except SchemaError as error:
            print(error, file=sys.stderr)  # noqa: T201
            status = EXIT_FAILED
            continue
        if parsed.stdout:
            print(formatted, end="")  # noqa: T201
        elif formatted != text and parsed.check:
            print(f"{path} would change")  # noqa: T201
            status = EXIT_FAILED
        elif formatted != text:
            _write(path, formatted)
            print(f"{path} changed")  # noqa: T201
    return status


def _write(path: Path, text: str) -> None:
    """In one step, with the file's own permissions."""
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(text.encode())
        temporary.chmod(path.stat().st_mode & 0o7777)
        temporary.replace(path)
    except OSError as error:
        raise PermanentError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


# ---- diff and show ------------------------------------------------------------------------------


def _diff(parsed: argparse.Namespace) -> int:
    old, new = load_or_complain(parsed.old), load_or_complain(parsed.new)
    if old is None or new is None:
        return EXIT_FAILED
    changes = diff(old.schema, new.schema)
    if parsed.json:
        print(json.dumps([_change(one) for one in changes], indent=2, ensure_ascii=False))  # noqa: T201
    else:
        for one in changes:
            print(one)  # noqa: T201
        breaking = sum(1 for one in changes if one.is_breaking)
        print(f"{_count(len(changes), 'change')}, {breaking or 'none'} breaking")  # noqa: T201
    return 0 if is_compatible(changes) else EXIT_FAILED


def _change(one: Change) -> dict[str, Any]:
    return {"message": one.message, "path": one.path, "reason": one.reason, "breaking": one.is_breaking}


def _show(parsed: argparse.Namespace) -> int:
    loaded = load_or_complain(parsed.file)
    if loaded is None:
        return EXIT_FAILED
    if parsed.json:
        found = schema_show.as_json(loaded.schema, parsed.name)
        text = None if found is None else json.dumps(found, indent=2, ensure_ascii=False)
    else:
        text = schema_show.as_text(loaded.schema, parsed.name)
    if text is None:
        raise UsageError(f"{loaded.schema.name} declares no {parsed.name}")
    print(text)  # noqa: T201
    return 0
