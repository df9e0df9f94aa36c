"""`edge-agent alerts …`: what is on, what raises it, and acknowledgement at the node, with or without a network."""

import argparse
import getpass
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.alerting.alert import Alert
from agent.alerting.functions import BY_CHARS_MAX, NOTE_CHARS_MAX, shown
from agent.alerting.rule import Rule, configured
from agent.alerting.store import FILE_NAME, AlertsFile, Order
from agent.config import AgentConfig, load_config
from runtime.errors import ConfigError


def add_commands(alerts: argparse.ArgumentParser) -> None:
    """The subcommands; each takes `--config`."""
    commands = alerts.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")
        command.set_defaults(run=run)
        return command

    ls = add("ls", "alerts that are on or not acknowledged", _ls)
    ls.add_argument("--all", action="store_true", help="and those that were, for as long as they are known")
    rules = add("rules", "what raises alerts: of agent.toml, and made by calls", _rules)
    for command in (ls, rules):
        command.add_argument("--json", action="store_true")
    ack = add("ack", "acknowledge an alert: it does not escalate any more", _ack)
    ack.add_argument("alert_id", metavar="ID", help="of an alert, or the name of its rule")
    ack.add_argument("--by", default="", help="who (default: you)")
    ack.add_argument("--note", default="")


def _ls(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    with _file(config) as file:
        found = [one for one in file.alerts() if arguments.all or one.is_on or not one.is_acknowledged]
    if arguments.json:
        for one in found:
            print(json.dumps(one.value(config.node.id), ensure_ascii=False))  # noqa: T201
        return 0
    print(f"{'ID':<32} {'STATE':<8} {'SEVERITY':<9} {'RAISED':<20} {'ACKNOWLEDGED':<16} MESSAGE")  # noqa: T201
    for one in found:
        raised = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(one.raised_utc_ms / 1000))
        state = "on" if one.is_on else "over"
        cells = f"{one.alert_id:<32} {state:<8} {one.severity.value:<9} {raised:<20} {_acknowledged(one):<16}"
        print(f"{cells} {one.message or one.cause}".rstrip())  # noqa: T201
    return 0


def _acknowledged(alert: Alert) -> str:
    return (alert.acknowledged_by or "yes") if alert.is_acknowledged else "no"


def _rules(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    rules = [configured(one) for one in config.alerts]
    names = {rule.name for rule in rules}
    with _file(config) as file:
        rules += [rule for rule in file.rules() if rule.name not in names]
    if arguments.json:
        for rule in rules:
            print(json.dumps(shown(rule), ensure_ascii=False))  # noqa: T201
        return 0
    print(f"{'NAME':<24} {'SOURCE':<11} {'SEVERITY':<9} WHEN")  # noqa: T201
    for rule in rules:
        print(f"{rule.name:<24} {rule.source:<11} {rule.severity.value:<9} {_when(rule)}")  # noqa: T201
    return 0


def _when(rule: Rule) -> str:
    if rule.seen is not None:
        return f"{', '.join(rule.seen.classes) or 'anything'} at {rule.seen.camera_id}"
    return rule.condition or "as the rule of its pipeline says"


def _ack(arguments: argparse.Namespace) -> int:
    by = arguments.by or _user()
    for key, text, most in (("--by", by, BY_CHARS_MAX), ("--note", arguments.note, NOTE_CHARS_MAX)):
        if len(text) > most:
            raise ConfigError(f"{key}: {len(text)} characters; at most {most} are allowed")
    with _file(load_config(arguments.config)) as file:
        known = file.alerts()
        if not any(arguments.alert_id in (one.alert_id, one.rule) for one in known):
            open_ = ", ".join(one.alert_id for one in known if not one.is_acknowledged) or "none is open"
            raise ConfigError(f"no alert {arguments.alert_id!r} is known here ({open_})", hint="edge-agent alerts ls")
        file.order(Order(arguments.alert_id, by, arguments.note))
    print(f"{arguments.alert_id}: acknowledged by {by}; a running agent does it within a second")  # noqa: T201
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody at the node"


@contextmanager
def _file(config: AgentConfig) -> Iterator[AlertsFile]:
    path = config.node.data_dir / FILE_NAME
    if not path.exists():
        raise ConfigError(f"there are no alerts at {path}", hint="did the agent run, and is node.data_dir right?")
    file = AlertsFile(path)
    try:
        yield file
    finally:
        file.close()
