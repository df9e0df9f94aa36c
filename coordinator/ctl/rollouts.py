"""`edgectl rollout`: orders about roll-outs are calls to the coordinator; what is shown comes from its store."""

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from coordinator.ctl import arguments, calling
from coordinator.ctl.arguments import UsageError
from coordinator.ctl.calling import Broker
from coordinator.ctl.documents import value
from coordinator.ctl.tables import age, pairs, printable, table
from coordinator.store.reader import Reader
from coordinator.store.rollouts import RolloutNodeView, RolloutView
from schemas.messages import Command, Result
from schemas.topics import COORDINATOR

EXIT_FAILED = 1
WATCH_EVERY_S = 0.5
ENDED = frozenset({"completed", "aborted", "paused", "rolled_back"})  # a watcher has nothing to wait for
GOOD = frozenset({"completed"})
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]+)?)(ms|s|m|h|d)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
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
    _start_options(start)
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


def _start_options(start: argparse.ArgumentParser) -> None:
    start.add_argument("--select", required=True, help="which nodes, as `site = plant-7, line in (3, 4)`; all")
    start.add_argument("--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="JSON, or text")
    start.add_argument("--unset", nargs="+", action="extend", default=[], metavar="FIELD")
    text = "totals at the end of each, counts or percent (default 100%%)"
    start.add_argument("--waves", default="100%", metavar="1,5%,25%,100%", help=text)
    start.add_argument("--bake", type=span, default=0.0, metavar="SPAN", help="wait after each wave, as 30s, 5m, 1h")
    text = "share of failed and silent nodes that is borne (default 5%%)"
    start.add_argument("--budget", type=share, default=0.05, metavar="SHARE", help=text)
    start.add_argument("--min-sample", type=int, default=10, metavar="N", help="fewer are no sample (default 10)")
    start.add_argument("--rate", type=float, default=50.0, metavar="N", help="nodes told a second (default 50)")
    text = "until a node that was told has it (default 60s)"
    start.add_argument("--accept", type=span, default=60.0, metavar="SPAN", help=text)
    start.add_argument("--verify", type=span, default=60.0, metavar="SPAN", help="then until it holds (default 60s)")
    text = "what is done by itself when the budget is spent (default pause)"
    start.add_argument("--on-failure", choices=("pause", "abort", "rollback"), default="pause", help=text)
    start.add_argument("--continuous", action="store_true", help="include nodes that come to be selected later")
    start.add_argument("--healthy", action="store_true", help="a node needs a heartbeat without an error too")
    start.add_argument("--id", default="", help="a name for it (default: r-1, r-2, ...)")
    start.add_argument("--watch", action="store_true", help="a line of progress until it has ended")


# ---- commands ----------------------------------------------------------------------------------


def _start(parsed: Parsed, broker: Broker, store: Store) -> int:
    asked = {
        "select": parsed.select,
        "set": arguments.field_values(parsed.set),
        "unset": parsed.unset,
        "waves": [part.strip() for part in parsed.waves.split(",")],
        "bake_s": parsed.bake,
        "budget": parsed.budget,
        "sample_min": parsed.min_sample,
        "rate_per_s": parsed.rate,
        "accept_s": parsed.accept,
        "verify_s": parsed.verify,
        "on_failure": parsed.on_failure,
        "continuous": parsed.continuous,
        "healthy": parsed.healthy,
        "id": parsed.id,
        "source": _who(),
    }
    result = _ask(parsed, broker, "startRollout", asked)
    if result.error is not None:
        return _complain(f"not begun: {result.error.message}")
    told = result.result
    if not parsed.json:
        _write(f"{told['id']} has begun: {told['nodes']} nodes, {told['here']} of them there")
    return _watch(store(parsed), told["id"]) if parsed.watch else 0


def _order(parsed: Parsed, broker: Broker, function: str, **more: Any) -> int:
    result = _ask(parsed, broker, function, {"id": parsed.id, "source": _who(), **more})
    if result.error is not None:
        return _complain(result.error.message)
    if not parsed.json:
        _write(f"{parsed.id} is {_words(result.result['state'])}")
    return 0


def _list(parsed: Parsed, store: Store) -> int:
    found = store(parsed).rollouts()
    if parsed.json:
        _write(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        _write(listed(found, _now_ms()))
    return 0


def _show(parsed: Parsed, store: Store) -> int:
    reader = store(parsed)
    found = _one(reader, parsed.id)
    if parsed.watch:
        return _watch(reader, parsed.id)
    nodes = reader.rollout_nodes(parsed.id, parsed.state, 1_000_000) if parsed.nodes or parsed.state else []
    if parsed.json:
        document = {**asdict(found), "node_list": [asdict(node) for node in nodes]}
        _write(json.dumps(document, indent=2, ensure_ascii=False))
        return 0
    _write(shown(found, _now_ms()))
    if nodes:
        _write("\n" + node_list(nodes, _now_ms()))
    return 0


def _watch(reader: Reader, key: str) -> int:
    """A line that is written over on a terminal, and a new one at each change elsewhere; until it has ended."""
    on_terminal, before = sys.stdout.isatty(), ""
    while True:
        found = _one(reader, key)
        line = progress(found)
        if line != before:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(f"\r\x1b[K{line[:width]}" if on_terminal else f"{line}\n")
            sys.stdout.flush()
            before = line
        if found.state in ENDED:
            if on_terminal:
                sys.stdout.write("\n")
            return 0 if found.state in GOOD else EXIT_FAILED
        time.sleep(WATCH_EVERY_S)


def _one(reader: Reader, key: str) -> RolloutView:
    found = reader.rollouts(key)
    if not found:
        raise UsageError(f"there is no roll-out {key!r}; edgectl rollout ls lists them")
    return found[0]


def _ask(parsed: Parsed, broker: Broker, function: str, asked: dict[str, Any]) -> Result:
    where = broker(parsed, "rollout")
    result = calling.ask(where, COORDINATOR, Command(function, asked), timeout_s=parsed.timeout)
    if parsed.json:
        _write(calling.shown(result))
    return result


# ---- as text -----------------------------------------------------------------------------------


def progress(found: RolloutView) -> str:
    """One line: `r-3 running, wave 2 of 4: 12 of 200 verified, 1 failed, 3 told`."""
    counts = dict(found.nodes)
    verified, total = counts.pop("verified", 0), sum(found.nodes.values())
    waiting = counts.pop("waiting", 0)
    rest = [f"{count} {_words(state)}" for state, count in counts.items()] + (
        [f"{waiting} waiting"] if waiting else []
    )
    more = f" ({found.reason})" if found.reason else ""
    text = f"{found.id} {_words(found.state)}, wave {found.wave} of {found.waves}: {verified} of {total} verified"
    return printable(", ".join([text, *rest]) + more)


def listed(found: Sequence[RolloutView], now_utc_ms: int) -> str:
    """A line each."""
    rows = [
        (
            one.id,
            _words(one.state),
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
        ("state", f"{_words(found.state)}, for {age(found.since_utc_ms, now_utc_ms)}"),
        ("reason", found.reason),
        ("begun", f"{age(found.started_utc_ms, now_utc_ms)} ago by {plan['source'] or 'somebody'}"),
        ("nodes of", plan["select"] + (", and who joins" if plan["continuous"] else "")),
        ("changes", changes(found)),
        ("wave", f"{found.wave} of {found.waves}: {', '.join(plan['waves'])}; bake {plan['bake_s']:g} s"),
        ("budget", f"{plan['budget']:.1%} of at least {plan['sample_min']}, then {plan['on_failure']}"),
        ("rate", f"{plan['rate_per_s']:g} nodes a second"),
        *((_words(state), str(count)) for state, count in found.nodes.items()),
    ]
    return pairs([row for row in rows if row[1]])


def changes(found: RolloutView) -> str:
    """`log.level=DEBUG, -heartbeat_s`."""
    plan = found.plan
    return ", ".join(
        [f"{path}={value(item)}" for path, item in plan["set"].items()] + [f"-{p}" for p in plan["unset"]]
    )


def node_list(found: Sequence[RolloutNodeView], now_utc_ms: int) -> str:
    """A line each."""
    rows = [
        (
            one.node,
            _words(one.state),
            str(one.wave) if one.at_utc_ms else "",
            str(one.revision or ""),
            age(one.at_utc_ms, now_utc_ms),
            one.reason,
        )
        for one in found
    ]
    return table(("NODE", "STATE", "WAVE", "REVISION", "AGE", "WHY"), rows)


def span(text: str) -> float:
    """`30s`, `5m`, `1h`; a number alone is seconds."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("not like 30s, 5m or 1h")
    return float(found[1]) * _UNITS_S[found[2] or "s"]


def share(text: str) -> float:
    """`5%` or `0.05`."""
    number = text.removesuffix("%")
    try:
        found = float(number) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError("not like 5% or 0.05") from error
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError("must be 0% to 100%")
    return found


def _words(state: str) -> str:
    return state.replace("_", " ")


def _who() -> str:
    return f"edgectl, {os.environ.get('SUDO_USER') or os.environ.get('USER') or 'somebody'}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _write(text: str) -> None:
    print(text)  # noqa: T201


def _complain(text: str) -> int:
    print(f"edgectl: {text}", file=sys.stderr)  # noqa: T201
    return EXIT_FAILED
