"""`edge-agent evidence …`: what the node keeps, also while the agent runs: the index is only read."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection

from agent.config import load_config
from agent.evidence.files import Files
from agent.evidence.store import FOLDER_NAME, INDEX_NAME
from agent.evidence.tables import COLUMNS, Kept, kept_of, listed, shown
from runtime.errors import ConfigError, PermanentError
from runtime.sqlite import connect, storage_errors


def add_commands(evidence: argparse.ArgumentParser) -> None:
    """The subcommands; each takes `--config`."""
    commands = evidence.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")
        command.set_defaults(run=run)
        return command

    ls = add("ls", "what is kept, newest first, a line of JSON each", _ls)
    ls.add_argument("--camera", default="", metavar="ID")
    ls.add_argument("--event", default="", metavar="ID", help="what belongs to this event")
    ls.add_argument("--limit", type=int, default=100, help="so many (default 100)")
    show = add("show", "one piece, with its events", _show)
    export = add("export", "copies a piece to a file and checks its hash", _export)
    for command in (show, export):
        command.add_argument("sha256", metavar="SHA256", help="or the first digits of it")
    export.add_argument("-o", "--out", type=Path, required=True, metavar="FILE")


def _ls(arguments: argparse.Namespace) -> int:
    with _index(arguments) as db:
        found = listed(db, camera_id=arguments.camera, event_id=arguments.event, limit=max(1, arguments.limit))
    try:
        for kept in found:
            print(json.dumps(shown(kept), ensure_ascii=False))  # noqa: T201
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()  # as `| head` asks: quietly
    return 0


def _show(arguments: argparse.Namespace) -> int:
    kept = _only(arguments)
    path = Files(_data_dir(arguments) / FOLDER_NAME).path(kept.sha256)
    print(json.dumps(shown(kept) | {"path": str(path)}, indent=2, ensure_ascii=False))  # noqa: T201
    return 0


def _export(arguments: argparse.Namespace) -> int:
    kept = _only(arguments)
    files = Files(_data_dir(arguments) / FOLDER_NAME)
    if not files.is_sound(kept.sha256):
        raise PermanentError(f"{files.path(kept.sha256)} is damaged or gone", hint="the agent reports and drops it")
    try:
        shutil.copyfile(files.path(kept.sha256), arguments.out)
    except OSError as error:
        raise PermanentError(f"cannot write {arguments.out}: {error.strerror}") from error
    print(f"{arguments.out}: {kept.bytes} bytes, {kept.piece.content_type}, hash verified")  # noqa: T201
    return 0


def _only(arguments: argparse.Namespace) -> Kept:
    digits = str(arguments.sha256)
    if not digits or set(digits) - set("0123456789abcdef"):
        raise ConfigError(f"{digits}: no hexadecimal digits of a SHA-256")
    with _index(arguments) as db:
        rows = db.execute(f"SELECT {COLUMNS} FROM evidence WHERE sha256 GLOB ? LIMIT 2", (f"{digits}*",)).fetchall()
        found = [kept_of(row, db) for row in rows]
    if len(found) != 1:
        what = "several pieces begin so; give more digits" if found else "there is none; edge-agent evidence ls"
        raise PermanentError(f"{digits}: {what}")
    return found[0]


def _data_dir(arguments: argparse.Namespace) -> Path:
    return load_config(arguments.config).node.data_dir


@contextmanager
def _index(arguments: argparse.Namespace) -> Iterator[Connection]:
    path = _data_dir(arguments) / INDEX_NAME
    if not path.exists():
        raise ConfigError(f"there is no evidence at {path}", hint="is evidence.enabled, and did the agent run?")
    db = connect(path, read_only=True)
    try:
        with storage_errors(str(path)):
            yield db
    finally:
        db.close()
