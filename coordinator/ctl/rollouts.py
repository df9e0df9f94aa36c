"""`edgectl rollout`: orders about roll-outs are calls to the coordinator; what is shown comes from its store."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from coordinator.ctl import calling, rollout_options
from coordinator.ctl.arguments import UsageError
from coordinator.ctl.calling import Broker
from coordinator.ctl.documents import value
from coordinator.ctl.rollout_watch import EXIT_FAILED, watch, words
from coordinator.ctl.tables import age, pairs, printable, table
from coordinator.store.reader import Reader
from coordinator.store.rollouts import RolloutNodeView, RolloutView
from schemas.messages import Command, Result
from schemas.topics import COORDINATOR

Parsed = argparse.Namespace
Store = Callable[[Parsed], Reader]


def add_commands(commands: Any, broker: Broker, store: Store) -> None:
    """Beside the other commands of `edgectl`."""
    text = "one change to many nodes, wave by wave: docs/rollouts.md"
    inner = commands.add_parser("rollout", help=text, description=text).add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[Parsed], int]) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = inner.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="JSON instead of a table")
        command.set_defaults(run=run)
        return command

    start = add("start", "begin one", lambda parsed: _start(parsed, broker, store))
    start.add_argument("--select", required=True, help="which nodes, as `site = plant-7, line in (3, 4)`; all")
    start.add_argument("--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="JSON, or text")
    start.add_argument("--unset", nargs="+", action="extend", default=[], metavar="FIELD")
    rollout_options.add_options(start)
    show = add("show", "one in full", lambda parsed: _show(parsed, store))
    show.add_argument("--nodes", action="store_true", help="and each of its nodes")
    show.add_argument("--state", default="", help="of the nodes only those in it")
    show.add_argument("--watch", action="store_true", help="a line of progress until it has ended")
    add("ls", "all that are remembered", lambda parsed: _list(parsed, store))
    pause = add("pause", "nobody more is told", lambda parsed: _order(parsed, broker, "pauseRollout"))
    text = "it goes on; what has failed so far is forgiven"
    resume = add("resume", text, lambda parsed: _order(parsed, broker, "resumeRollout"))
    abort = add("abort", "end it", lambda parsed: _order(parsed, broker, "abortRollout", roll_back=parsed.roll_back))
    abort.add_argument("--roll-back", action="store_true", help="and put the former values back")
    for command in (show, pause, resume, abort):
        command.add_argument("id", metavar="ID")
    for command in (start, pause, resume, abort):
        text = "wait so long for the coordinator (default 30)"
        command.add_argument("--timeout", type=calling.seconds, default=30.0, metavar="S", help=text)


# ---- commands ----------------------------------------------------------------------------------


def _start(parsed: Parsed, broker: Broker, store: Store) -> int:
    asked = {**rollout_options.asked_of(parsed), "source": who()}
    result = ask(parsed, broker, "startRollout", asked)
    if result.error is not None:
        return complain(f"not begun: {result.error.message}")
    told = result.result
    if not parsed.json:
        write(f"{told['id']} has begun: {told['nodes']} nodes, {told['here']} of them there")
    return _watch(store(parsed), parsed, told["id"]) if parsed.watch else 0


def _order(parsed: Parsed, broker: Broker, function: str, **more: Any) -> int:
    result = ask(parsed, broker, function, {"id": parsed.id, "source": who(), **more})
    if result.error is not None:
        return complain(result.error.message)
    if not parsed.json:
        write(f"{parsed.id} is {words(result.result['state'])}")
    return 0


def _list(parsed: Parsed, store: Store) -> int:
    found = store(parsed).rollouts()
    if parsed.json:
        write(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        write(listed(found, _now_ms()))
    return 0


def _show(parsed: Parsed, store: Store) -> int:
    reader = store(parsed)
    found = one_rollout(reader, parsed.id)
    if parsed.watch:
        return _watch(reader, parsed)
    nodes = reader.rollout_nodes(parsed.id, parsed.state, 1_000_000) if parsed.nodes or parsed.state else []
    if parsed.json:
        document = {**asdict(found), "node_list": [asdict(node) for node in nodes]}
        write(json.dumps(document, indent=2, ensure_ascii=False))
        return 0
    write(shown(found, _now_ms()))
    if nodes:
        write("\n" + node_list(nodes, _now_ms()))
    return 0


def _watch(reader: Reader, parsed: Parsed, key: str = "") -> int:
    return watch(lambda: one_rollout(reader, key or parsed.id), good="completed", as_json=parsed.json)


def one_rollout(reader: Reader, key: str) -> RolloutView:
    found = reader.rollouts(key)
    if not found:
        raise UsageError(f"there is no roll-out {key!r}; edgectl rollout ls lists them")
    return found[0]


def ask(parsed: Parsed, broker: Broker, function: str, asked: dict[str, Any]) -> Result:
    where = broker(parsed, "rollout")
    result = calling.ask(where, COORDINATOR, Command(function, asked), timeout_s=parsed.timeout)
    if parsed.json:
        said = calling.shown(result)
        write(json.dumps(json.loads(said), ensure_ascii=False) if getattr(parsed, "watch", False) else said)
    return result


# ---- as text -----------------------------------------------------------------------------------


def listed(found: Sequence[RolloutView], now_utc_ms: int) -> str:
    """A line each."""
    rows = [
        (
            one.id,
            words(one.state),
            f"{one.wave}/{one.waves}",
            f"{one.nodes.get('verified', 0)}/{sum(one.nodes.values())}",
            str(one.nodes.get("failed", 0) + one.nodes.get("silent", 0)),
            age(one.started_utc_ms, now_utc_ms),
            changes(one),
            one.plan["select"],
        )
        for one in found
    ]
    return table(("ROLL-OUT", "STATE", "WAVE", "VERIFIED", "FAILED", "AGE", "CHANGES", "NODES"), rows)


def shown(found: RolloutView, now_utc_ms: int) -> str:
    """Everything but the nodes."""
    plan = found.plan
    rows = [
        ("roll-out", found.id),
        ("state", f"{words(found.state)}, for {age(found.since_utc_ms, now_utc_ms)}"),
        ("reason", found.reason),
        ("begun", f"{age(found.started_utc_ms, now_utc_ms)} ago by {plan['source'] or 'somebody'}"),
        ("nodes of", plan["select"] + (", and who joins" if plan["continuous"] else "")),
        ("changes", changes(found)),
        ("wave", f"{found.wave} of {found.waves}: {', '.join(plan['waves'])}; bake {plan['bake_s']:g} s"),
        ("budget", f"{plan['budget']:.1%} of at least {plan['sample_min']}, then {plan['on_failure']}"),
        ("rate", f"{plan['rate_per_s']:g} nodes a second"),
        *((words(state), str(count)) for state, count in found.nodes.items()),
    ]
    return pairs([row for row in rows if row[1]])


def changes(found: RolloutView) -> str:
    """`log.level=DEBUG, -heartbeat_s`."""
    plan = found.plan
    return ", ".join(
        ([plan["model"]] if plan.get("model") else [])
        + [f"{path}={value(item)}" for path, item in plan["set"].items()]
        + [f"-{p}" for p in plan["unset"]]
    )


def node_list(found: Sequence[RolloutNodeView], now_utc_ms: int) -> str:
    """A line each."""
    rows = [
        (
            one.node,
            words(one.state),
            str(one.wave) if one.at_utc_ms else "",
            str(one.revision or ""),
            age(one.at_utc_ms, now_utc_ms),
            one.reason,
        )
        for one in found
    ]
    return table(("NODE", "STATE", "WAVE", "REVISION", "AGE", "WHY"), rows)


def of_node(found: RolloutView, one: RolloutNodeView, now_utc_ms: int) -> str:
    """`gw-1 in r-3 (running): failed for 5m, in wave 2: refused log.level: no`."""
    is_in_a_wave = bool(found.told) and one.state not in ("waiting", "excluded")
    where = f", in wave {one.wave} of {found.waves}" if is_in_a_wave else ""
    since = f" for {age(one.at_utc_ms, now_utc_ms)}" if one.at_utc_ms else ""
    why = f": {one.reason}" if one.reason else ""
    return printable(f"{one.node} in {found.id} ({words(found.state)}): {words(one.state)}{since}{where}{why}")


def who() -> str:
    """Who asks, for the history."""
    return f"edgectl, {os.environ.get('SUDO_USER') or os.environ.get('USER') or 'somebody'}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def write(text: str) -> None:
    print(text)  # noqa: T201


def complain(text: str) -> int:
    print(f"edgectl: {text}", file=sys.stderr)  # noqa: T201
    return EXIT_FAILED
