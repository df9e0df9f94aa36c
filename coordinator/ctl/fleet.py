"""`edgectl nodes`, `node`, `why` and `maintenance`: the fleet, as the coordinator keeps it."""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from coordinator.ctl import arguments, calling, rollouts, show
from coordinator.ctl.arguments import UsageError
from coordinator.ctl.calling import Broker, seconds
from coordinator.fleet.node import Shown
from coordinator.fleet.selector import Selector
from coordinator.fleet.selector_text import SelectorError, parse
from coordinator.rollout.plan import ID
from coordinator.store.reader import Reader
from coordinator.store.rollouts import RolloutView
from schemas.messages import Command
from schemas.topics import COORDINATOR

EXIT_FAILED = 1
ROLLOUT_NODES_MAX = 1_000_000
NOT_TAKEN = frozenset({"excluded", "failed", "silent"})
Arguments = argparse.Namespace
Opener = Callable[[Arguments], Reader]


class FleetCommands:
    """Beside the other commands of `edgectl`."""

    def __init__(self, reader: Opener, broker: Broker) -> None:
        self._reader = reader
        self._broker = broker

    def add(self, commands: Any) -> None:
        nodes = _command(commands, "nodes", "list the nodes", self._nodes)
        nodes.add_argument("--status", choices=[shown.value for shown in Shown], default="", help="only these")
        nodes.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="only nodes with it")
        text = "only those it means, as 'site = plant-7 and hardware.accelerators has edgetpu': docs/fleet.md"
        nodes.add_argument("--select", default="", metavar="SELECTOR", help=text)
        text = "one node in full; take it out of the fleet; end its ban; move its workloads elsewhere"
        node = _command(commands, "node", text, self._node)
        node.add_argument("what", choices=("show", "deregister", "admit", "drain", "undrain"))
        node.add_argument("node", metavar="NODE")
        node.add_argument("--force", action="store_true", help="deregister: though it is there")
        node.add_argument("--ban", action="store_true", help="deregister: and keep it out until `admit`")
        node.add_argument("--for", dest="span", default="", metavar="SPAN", help="drain: so long, as 90s, 2h, 3d")
        node.add_argument("--reason", default="", help="drain: for whoever looks at the list")
        _timeout(node)
        text = "why a selector means a node, or not, part by part; or what a roll-out made of it"
        why = _command(commands, "why", text, self._why)
        why.add_argument("node", metavar="NODE")
        why.add_argument("selector", metavar="SELECTOR|ROLL-OUT")
        text = "nodes that somebody works on: their absence is no loss"
        windows = commands.add_parser("maintenance", help=text, description=text)
        inner = windows.add_subparsers(required=True, metavar="WHAT")
        adding = _command(inner, "add", "begin or plan one", self._add)
        adding.add_argument("selector", metavar="SELECTOR", help="which nodes, as 'name = gw-1'")
        adding.add_argument("--for", dest="span", required=True, metavar="SPAN", help="90s, 5m, 2h, 3d")
        adding.add_argument("--from", dest="begin", default="", metavar="TIME", help="an ISO time (default: now)")
        adding.add_argument("--reason", default="", help="for whoever looks at the list")
        _timeout(adding)
        _command(inner, "ls", "those planned and under way", self._windows)
        ending = _command(inner, "end", "end one before its time", self._end)
        ending.add_argument("id", metavar="ID")
        _timeout(ending)

    # ---- what the store knows --------------------------------------------------------------------

    def _nodes(self, parsed: Arguments) -> int:
        reader = self._reader(parsed)
        selector = _selector(parsed.select) if parsed.select else None
        found = reader.nodes(state=parsed.status, labels=arguments.labels(parsed.label), selector=selector)
        if parsed.json:
            return _write(json.dumps([asdict(node) for node in found], indent=2, ensure_ascii=False))
        return _write(show.staleness(reader.counters(), _now_ms()) + show.nodes(found, _now_ms(), reader.freezes()))

    def _node(self, parsed: Arguments) -> int:
        if parsed.what != "show":
            return self._change_node(parsed)
        reader = self._reader(parsed)
        found = reader.node(parsed.node)
        if found is None:
            banned = f"{parsed.node} is banned; edgectl node admit {parsed.node} ends that"
            unknown = f"there is no node {parsed.node}; edgectl nodes lists them"
            return _complain(banned if reader.is_banned(parsed.node) else unknown)
        if parsed.json:
            return _write(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return _write(show.staleness(reader.counters(), _now_ms()) + show.node(found, _now_ms()))

    def _why(self, parsed: Arguments) -> int:
        reader = self._reader(parsed)
        if re.fullmatch(ID, parsed.selector) and (found := reader.rollouts(parsed.selector)):
            return self._why_rollout(parsed, reader, found[0])
        verdict = self._reader(parsed).why(parsed.node, _selector(parsed.selector))
        if verdict is None:
            return _complain(f"there is no node {parsed.node}; edgectl nodes lists them")
        text = json.dumps(asdict(verdict), indent=2, ensure_ascii=False) if parsed.json else show.why(verdict)
        _write(text)
        return 0 if verdict.holds else EXIT_FAILED

    def _why_rollout(self, parsed: Arguments, reader: Reader, found: RolloutView) -> int:
        """What became of the node, or why it is none of those that were selected."""
        nodes = reader.rollout_nodes(found.id, "", ROLLOUT_NODES_MAX)
        one = next((node for node in nodes if node.node == parsed.node), None)
        if one is not None:
            text = rollouts.of_node(found, one, _now_ms())
            _write(json.dumps(asdict(one), indent=2, ensure_ascii=False) if parsed.json else text)
            return EXIT_FAILED if one.state in NOT_TAKEN else 0
        _write(f"{parsed.node} takes no part in {found.id}: {found.plan['select']}")
        try:
            verdict = reader.why(parsed.node, parse(found.plan["select"]))
        except SelectorError:  # nodes were named
            verdict = None
        if verdict is not None:
            _write(show.why(verdict))
        return EXIT_FAILED

    def _windows(self, parsed: Arguments) -> int:
        found = self._reader(parsed).windows()
        if parsed.json:
            return _write(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
        return _write(show.windows(found, _now_ms()))

    # ---- what the coordinator is asked for -------------------------------------------------------

    def _change_node(self, parsed: Arguments) -> int:
        if parsed.what == "admit":
            return self._ask(parsed, "admitNode", {"node": parsed.node}, f"{parsed.node} may register again")
        if parsed.what == "undrain":
            asked = {"node": parsed.node, "source": _source()}
            return self._ask(parsed, "undrainNode", asked, f"{parsed.node} may be given workloads again")
        if parsed.what == "drain":
            asked = {"node": parsed.node, "reason": parsed.reason, "source": _source()}
            asked |= {"for_s": _span_s(parsed.span)} if parsed.span else {}
            said = f"{parsed.node} gets nothing new; {{replicas}} replicas go elsewhere: edgectl workload drains"
            return self._ask(parsed, "drainNode", asked, said)
        asked = {"node": parsed.node, "force": parsed.force, "ban": parsed.ban, "source": _source()}
        back = "it stays out until `edgectl node admit`" if parsed.ban else "it is back when its agent connects anew"
        return self._ask(parsed, "deregisterNode", asked, f"{parsed.node} is taken out; {back}")

    def _add(self, parsed: Arguments) -> int:
        now_ms = _now_ms()
        asked = {
            "selector": str(_selector(parsed.selector).text),
            "for_s": _span_s(parsed.span),
            "from_utc_ms": arguments.since(parsed.begin, now_ms, option="--from") if parsed.begin else None,
            "reason": parsed.reason,
            "source": _source(),
        }
        return self._ask(parsed, "addMaintenance", asked, "{id}: {nodes} nodes are meant now")

    def _end(self, parsed: Arguments) -> int:
        return self._ask(parsed, "endMaintenance", {"id": parsed.id}, "{id} is over")

    def _ask(self, parsed: Arguments, function: str, asked: dict[str, Any], said: str) -> int:
        where = self._broker(parsed, parsed.title)
        result = calling.ask(where, COORDINATOR, Command(function, asked), timeout_s=parsed.timeout)
        if parsed.json:
            _write(calling.shown(result))
        if result.error is not None:
            return _complain(result.error.message)
        if not parsed.json:
            _write(said.format_map(result.result))
        return 0


def _command(commands: Any, name: str, text: str, run: Callable[[Arguments], int]) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("--json", action="store_true", help="JSON instead of a table")
    command.set_defaults(run=run, title=name)
    return command


def _timeout(command: argparse.ArgumentParser) -> None:
    command.add_argument("--timeout", type=seconds, default=30.0, metavar="S", help="wait so long (default 30)")


def _selector(text: str) -> Selector:
    try:
        return parse(text)
    except SelectorError as error:
        raise UsageError(str(error)) from error


def _span_s(text: str) -> float:
    now_ms = _now_ms()
    found = (now_ms - arguments.since(text, now_ms, option="--for")) / 1000
    if found <= 0:
        raise UsageError(f"--for {text}: not like 90s, 5m, 2h, 3d")
    return found


def _source() -> str:
    return f"edgectl, {os.environ.get('SUDO_USER') or os.environ.get('USER') or 'somebody'}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _write(text: str) -> int:
    print(text)  # noqa: T201
    return 0


def _complain(text: str) -> int:
    print(f"edgectl: {text}", file=sys.stderr)  # noqa: T201
    return EXIT_FAILED
