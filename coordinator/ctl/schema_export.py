"""`edgectl schema export`: a platform's schema as JSON Schema, AsyncAPI, an HTML page or a Python module."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.ctl.arguments import UsageError
from platforms.finding import SHIPPED, find_schema
from runtime.errors import PermanentError
from schemas.language.asyncapi import asyncapi
from schemas.language.files import SUFFIX
from schemas.language.html import html_page
from schemas.language.json_schema import document, roots
from schemas.language.load import Loaded, load
from schemas.language.problems import SchemaError
from schemas.language.python import python_module
from schemas.topics import ROOT, check_node_name

Arguments = argparse.Namespace
AGAIN = "the same command without --check writes it"


@dataclass(frozen=True, slots=True)
class Format:
    """One of the documents that a schema can become."""

    text: str
    make: Callable[[Loaded, Arguments], str]


def add_export(subparsers: Any) -> None:
    """Adds `export` to the commands of `edgectl schema`."""
    text = "a platform's schema as a document for others"
    export = subparsers.add_parser("export", help=text, description=text)
    formats = export.add_subparsers(required=True, metavar="FORMAT")
    for name, form in FORMATS.items():
        command = formats.add_parser(name, help=form.text, description=form.text)
        text = f"a platform by its name, or a {SUFFIX} file"
        command.add_argument("platform", metavar="PLATFORM_OR_FILE", help=text)
        command.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there; else it is printed")
        command.add_argument(
            "--check", action="store_true", help="write nothing; fail if FILE is not what it would be"
        )
        if name == "json-schema":
            text = "only this: a type, or arguments.F, result.F, event.E, state.S"
            command.add_argument("--of", default="", metavar="PART", help=text)
        if name in ("asyncapi", "html"):
            command.add_argument(
                "--topic-root", default=ROOT, metavar="ROOT", help=f"what topics begin with ({ROOT})"
            )
        if name == "asyncapi":
            command.add_argument("--node", help="of this one node; else topics have the parameter {node}")
            command.add_argument(
                "--broker", default="localhost", metavar="HOST", help="the broker's host (localhost)"
            )
        command.set_defaults(run=_export, format=name)


def _export(parsed: Arguments) -> int:
    if parsed.check and parsed.output is None:
        raise UsageError("--check compares a file: name it with -o FILE")
    made = FORMATS[parsed.format].make(_loaded(parsed.platform), parsed)
    if parsed.check:
        return _check(parsed.output, made)
    if parsed.output is None:
        sys.stdout.write(made)
        return 0
    try:
        parsed.output.write_text(made, encoding="utf-8", newline="\n")
    except OSError as error:
        raise PermanentError(f"{parsed.output} cannot be written: {error.strerror}") from error
    return 0


def _check(path: Path, made: str) -> int:
    try:
        found = path.read_bytes()
    except OSError as error:
        raise PermanentError(f"{path} cannot be read: {error.strerror}", hint=AGAIN) from error
    if found == made.encode():
        return 0
    pairs = zip(found.decode(errors="replace").split("\n"), made.split("\n"), strict=False)
    line = next((at for at, (old, new) in enumerate(pairs, 1) if old != new), None)
    where = "from the schema: it is shorter or longer" if line is None else f"from the schema, first in line {line}"
    raise PermanentError(f"{path} differs {where}", hint=AGAIN)


def _loaded(named: str) -> Loaded:
    path = Path(named)
    if path.suffix != SUFFIX and not path.is_file():
        found = find_schema(named)
        if found is None:
            known = ", ".join(name for name in SHIPPED if find_schema(name) is not None)
            raise UsageError(f"there is no platform {named}, and no file; there are: {known or 'none'}")
        path = found
    try:
        return load(path, find_schema)
    except SchemaError as error:
        raise PermanentError(f"{named} cannot be used:\n{error}") from error


# ---- the documents ------------------------------------------------------------------------------


def _json_schema(loaded: Loaded, parsed: Arguments) -> str:
    try:
        return _json(document(loaded.schema, parsed.of))
    except KeyError as error:
        known = ", ".join([*roots(loaded.schema), *loaded.schema.types])
        raise UsageError(f"--of {parsed.of}: there is no such part; there are: {known}") from error


def _asyncapi(loaded: Loaded, parsed: Arguments) -> str:
    if parsed.node is not None and (wrong := check_node_name(parsed.node)):
        raise UsageError(f"--node: {wrong}")
    _needs_block(loaded, parsed)
    schemas = [loaded.schema, *(one for one in loaded.imported.values() if one.platform)]
    return _json(asyncapi(schemas, node=parsed.node, root=parsed.topic_root, host=parsed.broker))


def _html(loaded: Loaded, parsed: Arguments) -> str:
    return html_page(loaded.schema, root=parsed.topic_root)


def _python(loaded: Loaded, parsed: Arguments) -> str:
    return python_module(loaded.schema)


def _needs_block(loaded: Loaded, parsed: Arguments) -> None:
    if not loaded.schema.platform:
        raise UsageError(f"{parsed.platform} declares types alone: messages need an edge_computing block")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


FORMATS = {
    "json-schema": Format("JSON Schema 2020-12: to check messages with", _json_schema),
    "asyncapi": Format("AsyncAPI 3.0: topics, messages and how to call", _asyncapi),
    "html": Format("one HTML page: the reference for people", _html),
    "python": Format("a Python module: typed records, events and functions", _python),
}
