"""`edgectl alert …`: alerts of nodes as the coordinator knows them, their acknowledgement, and what raises them."""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coordinator.ctl import calling
from coordinator.ctl.tables import local_time, table
from coordinator.store.reader import Reader
from coordinator.store.state_views import KeyView, Wanted
from runtime.errors import PermanentError
from schemas.messages import Command, Result

LIMIT = 1000
Open = Callable[[argparse.Namespace], Reader]


def add_commands(parser: argparse.ArgumentParser, open_: Open, broker: calling.Broker) -> None:
    """`ls`, `ack`, `rules` and `rm`. `open_` finds the store, `broker` whoever carries a call."""
    commands = parser.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="JSON instead of a table")
        command.set_defaults(run=run)
        return command

    ls = add("ls", "alerts that are on or not acknowledged, as nodes said last", lambda parsed: _ls(parsed, open_))
    ls.add_argument("node", nargs="?", default="", metavar="NODE", help="of one node")
    ls.add_argument("--all", action="store_true", help="and those that were, for as long as nodes show them")
    ack = add("ack", "acknowledge an alert: it does not escalate any more", lambda parsed: _ack(parsed, broker))
    rules = add("rules", "what raises alerts at a node", lambda parsed: _rules(parsed, broker))
    rm = add("rm", "take away a rule that a call has made", lambda parsed: _rm(parsed, broker))
    for command in (ack, rules, rm):
        command.add_argument("node", metavar="NODE")
        command.add_argument("--timeout", type=calling.seconds, default=30.0, metavar="S", help="wait so long")
    ack.add_argument("alert_id", metavar="ID", help="of an alert, or the name of its rule")
    ack.add_argument("--by", default="", help="who (default: you)")
    ack.add_argument("--note", default="")
    rm.add_argument("name", metavar="RULE")


def _ls(parsed: argparse.Namespace, open_: Open) -> int:
    views = [one for one in open_(parsed).state(Wanted("core", "alerts", node=parsed.node), LIMIT) if one.written_by]
    found = [one for one in map(_alert, views) if parsed.all or _is_open(one)]
    if parsed.json:
        _write(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    rows = [
        (
            one["node_id"],
            one["alert_id"],
            "over" if one.get("state") == "cleared" else "on",
            one.get("severity", ""),
            local_time(one["raised_at"]) if one.get("raised_at") else "",
            one.get("acknowledged_by") or ("yes" if one.get("acknowledged_at") else "no"),
            one.get("message") or one.get("cause") or "",
        )
        for one in found
    ]
    _write(table(("NODE", "ID", "STATE", "SEVERITY", "RAISED", "ACKNOWLEDGED", "MESSAGE"), rows))
    return 0


def _alert(view: KeyView) -> dict[str, Any]:
    value = view.value if isinstance(view.value, Mapping) else {}
    return {"alert_id": view.key, **value, "node_id": value.get("node_id") or ", ".join(view.written_by)}


def _is_open(alert: Mapping[str, Any]) -> bool:
    return alert.get("state") != "cleared" or alert.get("acknowledged_at") is None


def _ack(parsed: argparse.Namespace, broker: calling.Broker) -> int:
    by = parsed.by or os.environ.get("SUDO_USER") or os.environ.get("USER") or "somebody"
    given = {"alert_id": parsed.alert_id, "by": by, "note": parsed.note}
    found = _asked(parsed, broker, Command("ackAlert", given)).result
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime((found.get("acknowledged_at") or 0) / 1000))
    text = f"{found['alert_id']}: acknowledged by {found.get('acknowledged_by') or 'somebody'}, {when}"
    _write(json.dumps(found, indent=2, ensure_ascii=False) if parsed.json else text)
    return 0


def _rules(parsed: argparse.Namespace, broker: calling.Broker) -> int:
    rules: Sequence[Mapping[str, Any]] = _asked(parsed, broker, Command("listAlerts", {"limit": 500})).result["rules"]
    if parsed.json:
        _write(json.dumps(rules, indent=2, ensure_ascii=False))
        return 0
    rows = [
        (
            one["name"],
            one["source"],
            one["severity"],
            ", ".join(one["actions"]),
            _when(one),
        )
        for one in rules
    ]
    _write(table(("NAME", "SOURCE", "SEVERITY", "ACTIONS", "WHEN"), rows))
    return 0


def _when(rule: Mapping[str, Any]) -> str:
    if rule["when"] or not rule["camera_id"]:
        return str(rule["when"])
    return f"{', '.join(rule['classes']) or 'anything'} at {rule['camera_id']}"


def _rm(parsed: argparse.Namespace, broker: calling.Broker) -> int:
    result = _asked(parsed, broker, Command("removeAlert", {"name": parsed.name}))
    _write(calling.shown(result) if parsed.json else f"{parsed.name} is gone")
    return 0


def _asked(parsed: argparse.Namespace, broker: calling.Broker, command: Command) -> Result:
    """Raises PermanentError where the node refuses or fails."""
    where = broker(parsed, f"alert {command.function}")
    result = calling.ask(where, parsed.node, command, timeout_s=parsed.timeout)
    if result.error is not None:
        raise PermanentError(f"{parsed.node}: {result.error.message}")
    return result


def _write(text: str) -> None:
    print(text)  # noqa: T201
