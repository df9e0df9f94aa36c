"""`edge-agent workloads …`: what runs beside the configuration, what it says, and orders at the node itself."""

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.config import AgentConfig, load_config
from agent.workloads.containers import ContainerRunner
from agent.workloads.machine import Order
from agent.workloads.store import FILE_NAME, WorkloadsFile
from runtime.errors import ConfigError
from schemas.workloads import WorkloadType, plain


def add_commands(workloads: argparse.ArgumentParser) -> None:
    """The subcommands; each takes `--config`."""
    commands = workloads.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")
        command.set_defaults(run=run)
        return command

    ls = add("ls", "each workload: state, generation, restarts, since when and why", _ls)
    ls.add_argument("--json", action="store_true")
    logs = add("logs", "what a container said last, or what happened to another workload", _logs)
    logs.add_argument("-n", "--lines", type=int, default=100, help="so many (default 100)")
    stop = add("stop", "stop it here, until a restart or until the coordinator wants another generation", _order)
    stop.set_defaults(order=Order.STOP)
    restart = add("restart", "stop and start it, also one that was given up or stopped here", _order)
    restart.set_defaults(order=Order.RESTART)
    for command in (logs, stop, restart):
        command.add_argument("name", metavar="NAME")


def _ls(arguments: argparse.Namespace) -> int:
    with _file(load_config(arguments.config)) as file:
        standings = file.standings()
    if arguments.json:
        for name, one in standings.items():
            print(json.dumps({"name": name, "type": one.type, **plain(one.report)}, ensure_ascii=False))  # noqa: T201
        return 0
    print(f"{'NAME':<24} {'TYPE':<16} {'STATE':<9} {'GENERATION':>10} {'RESTARTS':>8} {'SINCE':<20} REASON")  # noqa: T201
    for name, one in standings.items():
        since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(one.since_utc_ms / 1000))
        cells = f"{name:<24} {one.type:<16} {one.state:<9} {one.generation:>10} {one.restarts:>8} {since:<20}"
        print(f"{cells} {one.reason}".rstrip())  # noqa: T201
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    lines = max(1, arguments.lines)
    with _file(config) as file:
        standing = file.standings().get(arguments.name)
        said = file.notes(arguments.name, lines)
    if standing is None and not said:
        raise _unknown(arguments.name)
    if standing is not None and standing.type is WorkloadType.CONTAINER:
        container = asyncio.run(ContainerRunner(config.node.id, config.workloads).logs(arguments.name, lines))
        said = said if container is None else container
    for line in said:
        print(line)  # noqa: T201
    return 0


def _order(arguments: argparse.Namespace) -> int:
    with _file(load_config(arguments.config)) as file:
        if arguments.name not in file.standings():
            raise _unknown(arguments.name)
        file.order(arguments.name, arguments.order)
    print(f"{arguments.name}: {arguments.order} is ordered; a running agent does it within a second")  # noqa: T201
    return 0


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"no workload is called {name!r} here", hint="edge-agent workloads ls")


@contextmanager
def _file(config: AgentConfig) -> Iterator[WorkloadsFile]:
    path = config.node.data_dir / FILE_NAME
    if not path.exists():
        raise ConfigError(f"there are no workloads at {path}", hint="did the agent run, and is node.data_dir right?")
    file = WorkloadsFile(path)
    try:
        yield file
    finally:
        file.close()
