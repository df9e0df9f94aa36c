"""`edgectl schema check FILE`: what is wrong with a schema, and with the functions that are bound to it."""

import argparse
from pathlib import Path
from typing import Any

from coordinator.ctl.bindings import BESIDE, bindings_report
from platforms.finding import find_schema
from schemas.language.load import load
from schemas.language.problems import SchemaError


def add_check(inner: Any) -> None:
    """The command beneath `edgectl schema`."""
    text = "what is wrong with a schema, with line and column; with --bindings also with its functions"
    check = inner.add_parser("check", help=text, description=text)
    check.add_argument("file", type=Path, metavar="FILE")
    text = "and whether the Python is as the schema declares; without a file functions.py beside the schema"
    check.add_argument("--bindings", nargs="?", type=Path, const=BESIDE, metavar="MODULE_FILE", help=text)
    check.set_defaults(run=_check)


def _check(parsed: argparse.Namespace) -> int:
    try:
        loaded = load(parsed.file, find_schema)
    except SchemaError as error:
        print(error)  # noqa: T201
        return 1
    schema = loaded.schema
    lines = [str(problem) for problem in loaded.warnings]
    lines.append(f"{parsed.file}: {len(schema.functions)} functions, {len(schema.events)} events, no errors")
    status = 0
    if parsed.bindings is not None:
        report = bindings_report(schema, parsed.file, parsed.bindings)
        lines.append(str(report))
        status = 1 if report.problems else 0
    print("\n".join(lines))  # noqa: T201
    return status
