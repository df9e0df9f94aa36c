"""`edge-agent outbox …`: the outbox for people. Everything but `salvage` also while the agent runs."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from agent.config import load_config
from agent.outbox import inspect
from agent.outbox.salvage import adopt_finished, damage, salvage
from agent.outbox.tables import LaneAccount
from runtime.errors import ConfigError
from schemas.identity import Lane

Add = Callable[[str, str], argparse.ArgumentParser]


def add_commands(outbox: argparse.ArgumentParser) -> None:
    """The subcommands; each takes `--config`."""
    commands = outbox.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")
        command.set_defaults(run=run)
        return command

    listing = add("ls", "what waits in each lane: rows, bytes, numbers, age of the oldest, caps", _ls)
    listing.add_argument("--json", action="store_true")
    show = add("show", "one row", _show)
    show.add_argument("lane", choices=[lane.value for lane in Lane])
    show.add_argument("seq", type=int)
    account = add("account", "the exact account by lane; status 1 if its sum does not hold", _account)
    account.add_argument("--table", action="store_true", help="for reading; without it JSON")
    add("export", "every waiting row as a line of JSON", _export)
    add("quarantine", "every row that was set aside, with the reason, as a line of JSON", _quarantine)
    add("gaps", "what was given up and the coordinator has not answered for", _gaps)
    add("check", "read the whole file and recount it; status 1 if something is wrong", _check)
    add("salvage", "set a damaged file aside and save what can be read; the agent does it by itself", _salvage)


def _path(arguments: argparse.Namespace) -> Path:
    return load_config(arguments.config).node.data_dir / "outbox.db"


def _lines(lines: Iterable[str]) -> int:
    try:
        for line in lines:
            print(line)  # noqa: T201
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()  # as `| head` asks: quietly
    return 0


def _table(rows: list[dict[str, object]]) -> Iterable[str]:
    cells = [list(rows[0]), *([("-" if v is None else str(v)) for v in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for first, *rest in cells:
        columns = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *columns])


def _ls(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    rows = inspect.listing(config.node.data_dir / "outbox.db")
    for row in rows:
        caps = config.outbox.lane(Lane(str(row["lane"])))
        row |= {"rows_max": caps.rows_max or None, "bytes_max": caps.bytes_max or None}
        row |= {"age_max_s": caps.age_max_s or None, "durability": caps.durability.value}
    return _lines([json.dumps(rows, indent=2)] if arguments.json else _table(rows))


def _show(arguments: argparse.Namespace) -> int:
    return _lines([inspect.show(_path(arguments), Lane(arguments.lane), arguments.seq)])


def _account(arguments: argparse.Namespace) -> int:
    found: list[LaneAccount] = inspect.account(_path(arguments))
    rows = [asdict(one) for one in found]
    _lines(_table(rows) if arguments.table else [json.dumps(rows, indent=2)])
    return 0 if all(one.holds for one in found) else 1


def _export(arguments: argparse.Namespace) -> int:
    return _lines(inspect.export(_path(arguments)))


def _quarantine(arguments: argparse.Namespace) -> int:
    return _lines(inspect.quarantined(_path(arguments)))


def _gaps(arguments: argparse.Namespace) -> int:
    return _lines(json.dumps(gap) for gap in inspect.gap_records(_path(arguments)))


def _check(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    path = config.node.data_dir / "outbox.db"
    wrong = inspect.check(path, config.node.id)
    _lines(wrong or [f"{path}: nothing is wrong"])
    return 1 if wrong else 0


def _salvage(arguments: argparse.Namespace) -> int:
    from agent.lock import only_one

    config = load_config(arguments.config)
    path = config.node.data_dir / "outbox.db"
    with only_one(config.node.data_dir):
        adopt_finished(path)
        if not path.exists():
            raise ConfigError(f"there is no outbox at {path}", hint="is node.data_dir right?")
        reason = damage(path, thorough=True)
        if not reason:
            return _lines([f"{path}: not damaged, nothing done"])
        return _lines([json.dumps(asdict(salvage(path, node=config.node.id, reason=reason)), indent=2)])
