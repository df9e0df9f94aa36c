"""`edge-agent state …`: platform state as this node keeps it, with or without a network and a running agent."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.config import load_config
from agent.platform_state import tables
from agent.platform_state.store import NoStateError, opened, utc_ms
from agent.platform_state.tables import FILE_NAME, Kept
from runtime.errors import ConfigError
from runtime.machine_time import machine_time
from schemas.state import descend, possible_keys, split_path

VALUE_CHARS = 60  # shown of one in a list


def add_commands(state: argparse.ArgumentParser) -> None:
    """The subcommands; each takes `--config`."""
    commands = state.add_subparsers(required=True, metavar="WHAT")
    get = commands.add_parser("get", help="one value, or a field of it", description=_get.__doc__)
    get.add_argument("path", metavar="PLATFORM.COLLECTION.KEY[.FIELD...]")
    get.set_defaults(run=_get)
    listing = commands.add_parser("ls", help="the keys with their values", description=_ls.__doc__)
    listing.add_argument("path", nargs="?", default="", metavar="PLATFORM[.COLLECTION]")
    listing.set_defaults(run=_ls)
    for command in (get, listing):
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")
        command.add_argument("--json", action="store_true")


def _get(arguments: argparse.Namespace) -> int:
    """Shows what this node has written under a key. Of keys with dots in them the longest that is there is meant."""
    try:
        collection, words = split_path(arguments.path)
        if not words:
            raise ValueError(f"{arguments.path!r} names no key")
    except ValueError as error:
        raise ConfigError(str(error), hint="edge-agent state ls lists what is there") from error
    with opened(_path(arguments)) as db:
        now_ms = utc_ms(db, machine_time())
        found = ((tables.get(db, collection, key), fields) for key, fields in possible_keys(words))
        kept, fields = next(((one, rest) for one, rest in found if one is not None), (None, words))
    if kept is None:
        raise NoStateError(f"there is no {arguments.path} here", hint="edge-agent state ls lists what is there")
    try:
        value = descend(kept.value, fields)
    except LookupError as error:
        raise NoStateError(f"{collection}.{kept.key}: {error.args[0]}") from error
    shown = _shown(kept, now_ms) | {"field": ".".join(fields), "value": value}
    if arguments.json:
        return _print([json.dumps(shown, indent=2, ensure_ascii=False)])
    age = f"written {shown['age_s']:.0f} s ago" + ("" if shown["in_outbox"] else ", not in the outbox yet")
    return _print([_text(value), f"{collection}.{kept.key}, {age}"])


def _ls(arguments: argparse.Namespace) -> int:
    """Shows what this node has written, in the order of the keys. Exit status 0 also where there is nothing."""
    wanted = arguments.path.split(".")
    with opened(_path(arguments)) as db:
        now_ms = utc_ms(db, machine_time())
        found = [one for one in tables.entries(db, "") if one.collection.split(".")[: len(wanted)] == wanted]
        if not arguments.path:
            found = tables.entries(db, "")
    shown = [_shown(kept, now_ms) for kept in found]
    if arguments.json:
        return _print(json.dumps(one, ensure_ascii=False) for one in shown)
    lines = [(f"{one['collection']}.{one['key']}", f"{one['age_s']:.0f} s", _text(one["value"])) for one in shown]
    width = max((len(path) for path, _, _ in lines), default=0)
    return _print(f"{path:<{width}}  {age:>8}  {_cut(text)}" for path, age, text in lines)


def _path(arguments: argparse.Namespace) -> Path:
    return load_config(arguments.config).node.data_dir / FILE_NAME


def _shown(kept: Kept, now_ms: int) -> dict[str, Any]:
    return {
        "collection": kept.collection,
        "key": kept.key,
        "value": kept.value,
        "time_utc_ms": kept.time_utc_ms,
        "age_s": max(0, now_ms - kept.time_utc_ms) / 1000,
        "in_outbox": kept.at == kept.sent,  # or personal: then it does not leave
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_CHARS else text[: VALUE_CHARS - 3] + "..."


def _print(lines: Iterable[str]) -> int:
    try:
        for line in lines:
            print(line)  # noqa: T201
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()  # as `| head` asks: quietly
    return 0
