"""`edge-agent local …`: what an operator changes at the node itself, with or without a network or a running agent."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.config import AgentConfig, load_config
from agent.documents.here import here
from agent.documents.journal import FILE_NAME, Journal
from agent.documents.plan import Plan, plan
from runtime.errors import ConfigError
from runtime.machine_time import machine_time
from schemas.fields import Owner, mistakes, typed
from schemas.resolve import Known, Outcome, Resolution, Side, resolve
from schemas.shape import fields_of


def add_commands(local: argparse.ArgumentParser) -> None:
    """The subcommands; each takes `--config`."""
    commands = local.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")
        command.set_defaults(run=run)
        return command

    show = add("show", "each field: written here, wanted by the coordinator, what holds", _show)
    show.add_argument("--json", action="store_true")
    add("conflicts", "where coordinator and node wrote a field differently, as lines of JSON", _conflicts)
    setting = add("set", "change fields here; docs/desired-state.md lists them", _set)
    setting.add_argument("fields", nargs="+", metavar="FIELD=VALUE", help="values are JSON, or else text")
    unsetting = add("unset", "take back what was changed here", _unset)
    unsetting.add_argument("fields", nargs="+", metavar="FIELD")


def _set(arguments: argparse.Namespace) -> int:
    values: dict[str, Any] = {}
    for item in arguments.fields:
        path, equals, text = item.partition("=")
        if not path or not equals:
            raise ConfigError(f"{item}: not like field=value")
        values[path] = typed(path, text)
    return _write(load_config(arguments.config), values)


def _unset(arguments: argparse.Namespace) -> int:
    return _write(load_config(arguments.config), dict.fromkeys(arguments.fields))


def _write(config: AgentConfig, values: dict[str, Any]) -> int:
    """All of the fields, or none and every mistake."""
    if wrong := mistakes(values, Owner.NODE) or _not_here(config, values):
        raise ConfigError("not changed: " + "; ".join(wrong))
    journal = _open(config)
    try:
        for path, value in values.items():
            changed = journal.write(path, value, machine_time())
            now = resolve(journal.journalled().known).outcomes.get(path)
            print(f"{path}: {_said(value, now) if changed else 'nothing to take back'}")  # noqa: T201
    finally:
        journal.close()
    return 0


def _said(value: Any, now: Outcome | None) -> str:
    """What came of a write."""
    if now is None:
        return "as configured"
    if now.value != value:
        return f"{_text(now.value)} holds ({now.winner.value})"
    return _text(value)


def _not_here(config: AgentConfig, values: dict[str, Any]) -> list[str]:
    outcomes = {path: Outcome(value, Side.NODE) for path, value in values.items() if value is not None}
    return list(plan(Resolution(outcomes, [], {}), here(config)).refused.values())


def _show(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    journal = _open(config)
    try:
        journalled = journal.journalled()
    finally:
        journal.close()
    made = plan(resolve(journalled.known), here(config))
    rows = _rows(journalled.known, made)
    if arguments.json:
        desired = journalled.known.desired
        shown = {"epoch": desired.epoch, "revision": desired.revision, "fields": rows}
        shown["conflicts"] = len(journalled.conflicts)
        print(json.dumps(shown, indent=2, ensure_ascii=False))  # noqa: T201
        return 0
    print(f"{'FIELD':<44} {'HERE':<16} {'COORDINATOR':<16} {'HOLDS':<16} REFUSED")  # noqa: T201
    for path, row in rows.items():
        cells = " ".join(f"{_text(row[key]):<16}" for key in ("here", "coordinator", "holds"))
        print(f"{path:<44} {cells} {row['refused']}".rstrip())  # noqa: T201
    return 0


def _conflicts(arguments: argparse.Namespace) -> int:
    journal = _open(load_config(arguments.config))
    try:
        for conflict in journal.journalled().conflicts:
            print(json.dumps(fields_of(conflict), ensure_ascii=False))  # noqa: T201
    finally:
        journal.close()
    return 0


def _rows(known: Known, made: Plan) -> dict[str, dict[str, Any]]:
    paths = sorted({*known.local, *known.desired.fields, *made.holds})
    return {
        path: {
            "here": known.local[path].value if path in known.local else None,
            "coordinator": known.desired.fields.get(path),
            "holds": made.holds.get(path),
            "refused": made.refused.get(path, ""),
        }
        for path in paths
    }


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _open(config: AgentConfig) -> Journal:
    return Journal(config.node.data_dir / FILE_NAME, config.node.id)
