"""`edgectl simulate`: how much a broker and a coordinator carry, before there is a fleet. docs/simulate.md."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.config import CoordinatorConfig
from coordinator.ctl.calling import seconds
from coordinator.store.reader import Reader
from schemas.language.scalars import duration_s

Config = Callable[[argparse.Namespace], CoordinatorConfig | None]
Open = Callable[[argparse.Namespace], Reader]

# Option, table and key of the scenario, how it is read, what it says.
_OPTIONS: tuple[tuple[str, str, str, Any, str], ...] = (
    ("--nodes", "fleet", "nodes", int, "so many nodes"),
    ("--sites", "fleet", "sites", int, "spread over so many sites"),
    ("--prefix", "fleet", "prefix", str, "their names are PREFIX-00001 and so on"),
    ("--seed", "fleet", "seed", int, "the same seed makes the same fleet and the same faults"),
    ("--heartbeat", "fleet", "heartbeat_s", seconds, "seconds between two heartbeats"),
    ("--keepalive", "fleet", "keepalive_s", int, "keep-alive of the connections, seconds"),
    ("--events-per-node", "load", "events_per_node", float, "events a second at each node"),
    ("--desired-failing", "desired", "failing", float, "share of nodes that refuse what is desired"),
    ("--desired-silent", "desired", "silent", float, "share of nodes that never report"),
    ("--workloads-failing", "workloads", "failing", float, "share of starts of workloads that fail"),
    ("--models-failing", "models", "failing", float, "share of nodes that refuse to run a model"),
    ("--models-silent", "models", "silent", float, "share of nodes that fall silent over a model"),
    ("--models-flapping", "models", "flapping", float, "share of nodes that come and go over a model"),
    ("--processes", "run", "processes", int, "in so many processes; each holds 19,000 nodes at most"),
    ("--nice", "run", "nice", int, "how far they give way to what runs beside them here, up to 19"),
    ("--connects", "run", "connects_per_s", float, "first connections a second, all together"),
    ("--topic-root", "run", "topic_root", str, "the root of the topics"),
)
_SPANS = (
    ("--for", "run", "for_s", "how long, such as 90s or 10m"),
    ("--models-fetch", "models", "fetch_s", "until a release of a model is fetched"),
    ("--drain", "run", "drain_s", "at the end wait so long for answers"),
)


def add_commands(commands: Any, config: Config, open_: Open) -> None:
    """Beside the other commands of `edgectl`. Where a store is named, it is asked at the end what has arrived."""
    text = "a fleet of simulated nodes with real connections, and faults; figures at the end"
    command = commands.add_parser("simulate", help=text, description=text)
    command.add_argument("--scenario", type=Path, metavar="FILE", help="TOML; deploy/simulate.toml has every key")
    for option, table, key, read, meaning in _OPTIONS:
        command.add_argument(option, dest=f"{table}.{key}", type=read, metavar=key.upper()[:10], help=meaning)
    for option, table, key, meaning in _SPANS:
        command.add_argument(option, dest=f"{table}.{key}", type=span, metavar="SPAN", help=meaning)
    meaning = "HOST:PORT; given more than once, the nodes are spread over them"
    command.add_argument("--broker", action="append", default=[], metavar="ADDRESS", help=meaning)
    meaning = "what goes wrong, such as drop:5%%@60s or half-open:1%%/2m+90s; may be given more than once"
    command.add_argument("--fault", action="append", default=[], metavar="FAULT", help=meaning)
    meaning = "PIPELINE=NAME@VERSION that nodes have, with the model that they run; may be given more than once"
    command.add_argument("--pipeline", action="append", default=[], metavar="PIPELINE", help=meaning)
    command.add_argument("--json", action="store_true", help="one JSON object at the end, nothing else")
    command.set_defaults(run=lambda parsed: _run(parsed, config, open_))


def span(text: str) -> float:
    """`90s`, `10m`, or a number of seconds."""
    value = duration_s(text)
    return float(text) if value is None else value  # what cannot be is said with all else


def _run(parsed: argparse.Namespace, config: Config, open_: Open) -> int:
    # Imported here: nobody else pays for it.
    import asyncio

    from coordinator.ctl.simulate_show import Live, summary
    from coordinator.simulate.fleet import simulate
    from coordinator.simulate.scenario import load_scenario

    coordinator = config(parsed)
    reader = open_(parsed) if coordinator or parsed.data_dir else None
    flags = _flags(parsed)
    if parsed.broker:
        flags.setdefault("run", {})["brokers"] = parsed.broker
    elif coordinator and parsed.scenario is None:
        flags.setdefault("run", {})["brokers"] = [f"{one.host}:{one.port}" for _, one in coordinator.named_brokers()]
    if parsed.pipeline:
        flags.setdefault("models", {})["pipelines"] = parsed.pipeline
    scenario = load_scenario(parsed.scenario, flags, parsed.fault)
    with Live(sys.stderr, every_line=not parsed.json) as live:
        found = asyncio.run(simulate(scenario, live.show))
    found |= {"stored": None, "lost": None, "duplicates": None}
    if reader is not None:
        kept = reader.simulated(scenario.fleet.prefix, found["boot"])
        found |= {"stored": kept.distinct, "lost": max(0, found["acked"] - kept.distinct)}
        found["duplicates"] = kept.rows - kept.distinct
    print(json.dumps(found, indent=2) if parsed.json else summary(found))  # noqa: T201
    return 0


def _flags(parsed: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """By table and key, what the command line says."""
    flags: dict[str, dict[str, Any]] = {}
    for name, value in vars(parsed).items():
        table, dot, key = name.partition(".")
        if dot and value is not None:
            flags.setdefault(table, {})[key] = value
    return flags
