"""`edgectl workload`: orders about workloads are calls to the coordinator; what is shown comes from its store."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coordinator.ctl import calling, show
from coordinator.ctl.arguments import UsageError
from coordinator.ctl.calling import Broker
from coordinator.ctl.rollout_options import share, span
from coordinator.ctl.tables import age, pairs, table
from coordinator.schedule.workload import EVERYWHERE, declared, read_workload
from coordinator.store.reader import Reader
from coordinator.store.schedule_views import DrainView, PlacementView, WorkloadView
from runtime.config import load_table, mistakes_error
from schemas.messages import Command, Result
from schemas.shape import ShapeError
from schemas.topics import COORDINATOR

EXIT_FAILED = 1
NODES_SHOWN = 50
Parsed = argparse.Namespace
Store = Callable[[Parsed], Reader]


def add_commands(commands: Any, broker: Broker, store: Store) -> None:
    """Beside the other commands of `edgectl`."""
    text = "what is to run on nodes, how often and where: docs/scheduling.md"
    inner = commands.add_parser("workload", help=text, description=text).add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[Parsed], int]) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = inner.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="JSON instead of a table")
        command.set_defaults(run=run)
        return command

    text = "declare workloads, or change them, as their TOML files say; deploy/workload.toml has every key"
    apply = add("apply", text, lambda parsed: _apply(parsed, broker))
    apply.add_argument("file", nargs="+", type=Path, metavar="FILE")
    text = "change one that is declared; its nodes get the new spec by a roll-out"
    update = add("update", text, lambda parsed: _apply(parsed, broker, exists=True))
    update.add_argument("file", nargs=1, type=Path, metavar="FILE")
    text = "totals at the end of each, counts or percent (default: as the file says)"
    update.add_argument("--waves", metavar="1,25%,100%", help=text)
    update.add_argument("--bake", type=span, metavar="SPAN", help="wait after each wave, as 30s, 5m, 1h")
    update.add_argument("--budget", type=share, metavar="SHARE", help="share of failed nodes that is borne, as 5%%")
    add("ls", "all workloads", lambda parsed: _list(parsed, store))
    showing = add("show", "one in full, with its nodes", lambda parsed: _show(parsed, store))
    showing.add_argument("--all", action="store_true", help=f"and more than {NODES_SHOWN} nodes")
    scale = add("scale", "so many replicas from now on", lambda parsed: _scale(parsed, broker))
    remove = add("rm", "take it from all nodes", lambda parsed: _remove(parsed, broker))
    why = add("why", "why it is where it is, and not elsewhere", lambda parsed: _why(parsed, broker))
    for command in (showing, scale, remove, why):
        command.add_argument("name", metavar="NAME")
    scale.add_argument("replicas", type=int, metavar="N")
    why.add_argument("node", nargs="?", default="", metavar="NODE", help="one node, with each reason")
    add("drains", "nodes that are drained, and what is left there", lambda parsed: _drains(parsed, store))
    for command in (apply, update, scale, remove, why):
        text = "wait so long for the coordinator (default 30)"
        command.add_argument("--timeout", type=calling.seconds, default=30.0, metavar="S", help=text)


# ---- commands ----------------------------------------------------------------------------------


def _apply(parsed: Parsed, broker: Broker, *, exists: bool = False) -> int:
    asked = [
        _read(path, _update_of(parsed) if exists else {}) for path in parsed.file
    ]  # all of them before the first
    for given in asked:
        result = _ask(parsed, broker, "applyWorkload", {**given, "exists": exists, "source": _who()})
        if result.error is not None:
            return _complain(f"{given['name']} is not applied: {result.error.message}")
        told = result.result
        if not parsed.json:
            how = f": the roll-out {told['rollout']} brings it to {told['nodes']} nodes" if told["rollout"] else ""
            _write(f"{told['name']} is declared, generation {told['generation']}{how}")
    return 0


def _update_of(parsed: Parsed) -> dict[str, Any]:
    waves = None if parsed.waves is None else [part.strip() for part in parsed.waves.split(",")]
    given = {"waves": waves, "bake_s": parsed.bake, "budget": parsed.budget}
    return {key: value for key, value in given.items() if value is not None}


def _read(path: Path, update: Mapping[str, Any]) -> dict[str, Any]:
    raw = load_table(path)
    if update and isinstance(raw.setdefault("update", {}), dict):
        raw["update"].update(update)
    try:
        return declared(read_workload(raw))
    except ShapeError as error:
        raise mistakes_error(path, error.mistakes) from error


def _list(parsed: Parsed, store: Store) -> int:
    reader = store(parsed)
    found = reader.workloads()
    if parsed.json:
        _write(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        _write(show.staleness(reader.counters(), _now_ms()) + listed(found))
    return 0


def _show(parsed: Parsed, store: Store) -> int:
    reader = store(parsed)
    found = reader.workloads(parsed.name)
    if not found:
        raise UsageError(f"there is no workload {parsed.name!r}; edgectl workload ls lists them")
    nodes = reader.placements(parsed.name, 1_000_000 if parsed.all or parsed.json else NODES_SHOWN)
    if parsed.json:
        document = {**asdict(found[0]), "nodes": [asdict(node) for node in nodes]}
        _write(json.dumps(document, indent=2, ensure_ascii=False))
        return 0
    _write(show.staleness(reader.counters(), _now_ms()) + shown(found[0], _now_ms()))
    if nodes:
        left_out = sum(found[0].placed.values()) - len(nodes)
        more = f"\nand {left_out} more: --all" if left_out > 0 else ""
        _write("\n" + placed(nodes, _now_ms()) + more)
    return 0


def _scale(parsed: Parsed, broker: Broker) -> int:
    asked = {"name": parsed.name, "replicas": parsed.replicas, "source": _who()}
    return _order(parsed, broker, "scaleWorkload", asked, "{replicas} of {name} are wanted")


def _remove(parsed: Parsed, broker: Broker) -> int:
    asked = {"name": parsed.name, "source": _who()}
    return _order(parsed, broker, "removeWorkload", asked, "{name} goes from its nodes")


def _why(parsed: Parsed, broker: Broker) -> int:
    result = _ask(parsed, broker, "whyWorkload", {"name": parsed.name, "node": parsed.node})
    if result.error is not None:
        return _complain(result.error.message)
    if not parsed.json:
        _write(reasons_at(result.result) if parsed.node else reasons(result.result))
    return 0


def _drains(parsed: Parsed, store: Store) -> int:
    found = store(parsed).drains()
    if parsed.json:
        _write(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        _write(drained(found, _now_ms()))
    return 0


def _order(parsed: Parsed, broker: Broker, function: str, asked: dict[str, Any], said: str) -> int:
    result = _ask(parsed, broker, function, asked)
    if result.error is not None:
        return _complain(result.error.message)
    if not parsed.json:
        _write(said.format_map(result.result))
    return 0


def _ask(parsed: Parsed, broker: Broker, function: str, asked: dict[str, Any]) -> Result:
    where = broker(parsed, "workload")
    result = calling.ask(where, COORDINATOR, Command(function, asked), timeout_s=parsed.timeout)
    if parsed.json:
        _write(calling.shown(result))
    return result


# ---- as text -----------------------------------------------------------------------------------


def listed(found: Sequence[WorkloadView]) -> str:
    """A line each."""
    rows = [
        (
            one.name,
            one.type,
            _state(one),
            _wanted(one),
            str(one.placed.get("running", 0)),
            str(one.document["priority"]),
            str(one.generation),
            one.document["selector"],
            one.reason,
        )
        for one in found
    ]
    titles = ("WORKLOAD", "TYPE", "STATE", "WANTED", "RUNNING", "PRIORITY", "GENERATION", "NODES", "WHY")
    return table(titles, rows)


def shown(found: WorkloadView, now_utc_ms: int) -> str:
    """Everything but the nodes."""
    document = found.document
    needs = [f"{key} {value:g}" for key, value in document["resources"].items() if value and key != "accelerators"]
    spread, scale = document["spread"], document["scale"]
    counted = [f"{count} {state}" for state, count in found.placed.items()]
    rows = [
        ("workload", found.name),
        ("type", found.type),
        ("state", _state(found)),
        ("wanted", _wanted(found)),
        ("placed", ", ".join(counted)),
        ("without a place", f"{found.missing}: {found.reason}" if found.missing else ""),
        ("nodes of", document["selector"]),
        ("hardware", ", ".join(document["hardware"])),
        ("needs", ", ".join(needs)),
        ("priority", str(document["priority"])),
        ("spread", "" if spread is None else f"by {spread['by']}, {_spread(spread)}"),
        ("scaled", "" if scale is None else f"by {scale['on']}: {scale['min']} to {scale['max']}"),
        ("generation", str(found.generation)),
        ("updated by", f"the roll-out {found.rollout}" if found.updating else ""),
        ("declared", f"{age(found.declared_utc_ms, now_utc_ms)} ago"),
    ]
    return pairs([row for row in rows if row[1]])


def placed(nodes: Sequence[PlacementView], now_utc_ms: int) -> str:
    """A line each."""
    rows = [
        (
            one.node,
            one.node_state or "gone",
            one.phase,
            age(one.since_utc_ms, now_utc_ms),
            str(one.generation),
            str(one.restarts),
            f"leaving: {one.leaving}" if one.leaving else one.reason,
        )
        for one in nodes
    ]
    return table(("NODE", "NODE IS", "STATE", "FOR", "GENERATION", "RESTARTS", "WHY"), rows)


def reasons(found: Mapping[str, Any]) -> str:
    """Of all nodes, the commonest first."""
    head = (
        f"{found['missing']} without a place: {found['reason']}" if found["missing"] else "each replica has a place"
    )
    could = f"of {found['nodes']} nodes {found['ever']} could ever have it, {found['free']} could have one more now"
    rows = [(str(one["nodes"]), one["reason"]) for one in found["reasons"]]
    return "\n".join([head, could, *([table(("NODES", "WHY NOT"), rows)] if rows else [])])


def reasons_at(found: Mapping[str, Any]) -> str:
    """Of one node."""
    if found["leaving"]:
        head = f"{found['workload']} is on {found['node']} until another one runs: {found['leaving']}"
    elif found["placed"]:
        head = f"{found['workload']} is on {found['node']}"
    else:
        head = f"{found['workload']} {'is not' if found['reasons'] else 'could be'} on {found['node']}"
    lines = [f"  {reason}" for reason in found["reasons"] if reason != "it has it"]
    return "\n".join([head, *lines, *_verdict(found["selector"], 1)])


def drained(found: Sequence[DrainView], now_utc_ms: int) -> str:
    """A line each."""
    rows = [
        (
            one.node,
            "drained" if one.done else f"{one.left} left",
            str(one.moved),
            age(one.since_utc_ms, now_utc_ms),
            f"in {age(now_utc_ms, one.until_utc_ms)}" if one.until_utc_ms else "",
            one.reason,
        )
        for one in found
    ]
    return table(("NODE", "STATE", "MOVED", "FOR", "ENDS", "REASON"), rows)


def _verdict(verdict: Mapping[str, Any], depth: int) -> list[str]:
    mark = "yes" if verdict["holds"] else "no "
    found = f" ({verdict['found']})" if verdict["found"] else ""
    line = f"{'  ' * depth}{mark} {verdict['text']}{found}"
    return [line, *(line for inner in verdict["inner"] for line in _verdict(inner, depth + 1))]


def _state(one: WorkloadView) -> str:
    return "removed" if one.removed else f"{one.state}, updating" if one.updating else one.state


def _wanted(one: WorkloadView) -> str:
    return "all" if one.replicas == EVERYWHERE else str(one.replicas)


def _spread(spread: Mapping[str, Any]) -> str:
    parts = [f"at most {spread['max']}"] if spread["max"] is not None else []
    return ", ".join([*parts, "evenly"] if spread["even"] else parts)


def _who() -> str:
    return f"edgectl, {os.environ.get('SUDO_USER') or os.environ.get('USER') or 'somebody'}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _write(text: str) -> None:
    print(text)  # noqa: T201


def _complain(text: str) -> int:
    print(f"edgectl: {text}", file=sys.stderr)  # noqa: T201
    return EXIT_FAILED
