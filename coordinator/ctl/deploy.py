"""`edgectl deploy`: a model to many nodes, as a roll-out of its own kind; and the way back."""

import argparse
from collections.abc import Callable
from typing import Any

from coordinator.ctl import calling, rollout_options
from coordinator.ctl.arguments import UsageError
from coordinator.ctl.calling import Broker
from coordinator.ctl.rollout_watch import watch
from coordinator.ctl.rollouts import ask, complain, one_rollout, who, write
from coordinator.store.reader import Reader
from coordinator.store.rollouts import RolloutView

Parsed = argparse.Namespace
Store = Callable[[Parsed], Reader]
GONE = frozenset({"rolling_back", "rolled_back"})


def add_command(commands: Any, broker: Broker, store: Store) -> None:
    """Beside the other commands of `edgectl`."""
    text = "bring a model to nodes: fetch, then activate wave by wave; docs/rollouts.md"
    command: argparse.ArgumentParser = commands.add_parser("deploy", help=text, description=text)
    command.add_argument("--json", action="store_true", help="JSON instead of text; with --watch an object a line")
    command.set_defaults(run=lambda parsed: _deploy(parsed, broker, store))
    text = "NAME, NAME@VERSION or NAME@CHANNEL; NAME is what stable gives out. With --undo the name, or a roll-out"
    command.add_argument("model", nargs="?", default="", metavar="MODEL", help=text)
    command.add_argument("--select", default="", help="which nodes, as `site = plant-7, line in (3, 4)`; all")
    text = "that are to run it (default: those that run a model of this name)"
    command.add_argument("--pipelines", default="", metavar="A,B", help=text)
    text = "and fields with it, in the same revision"
    command.add_argument("--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help=text)
    text = "put back what nodes had before the newest deployment, or that of this model, or this roll-out"
    command.add_argument("--undo", action="store_true", help=text)
    rollout_options.add_fetch_options(command)
    rollout_options.add_options(command)
    text = "wait so long for the coordinator (default 30)"
    command.add_argument("--timeout", type=calling.seconds, default=30.0, metavar="S", help=text)
    command.set_defaults(unset=[])


def _deploy(parsed: Parsed, broker: Broker, store: Store) -> int:
    if parsed.undo:
        return _undo(parsed, broker, store)
    if not parsed.model or not parsed.select:
        raise UsageError("deploy: which MODEL to which nodes? edgectl deploy finder --select all")
    asked = {
        **rollout_options.asked_of(parsed),
        **rollout_options.fetch_asked_of(parsed),
        "model": parsed.model,
        "pipelines": [name.strip() for name in parsed.pipelines.split(",") if name.strip()],
        "source": who(),
    }
    result = ask(parsed, broker, "startRollout", asked)
    if result.error is not None:
        return complain(f"not begun: {result.error.message}")
    told = result.result
    if not parsed.json:
        left_out = f"; {told['excluded']} more cannot take it" if told.get("excluded") else ""
        write(f"{told['id']} brings {told['model']} to {told['nodes']} nodes, {told['here']} of them there{left_out}")
    return _watch(parsed, store(parsed), told["id"], "completed") if parsed.watch else 0


def _undo(parsed: Parsed, broker: Broker, store: Store) -> int:
    reader = store(parsed)
    found = _newest(reader.rollouts(), parsed.model)
    result = ask(parsed, broker, "abortRollout", {"id": found.id, "roll_back": True, "source": who()})
    if result.error is not None:
        return complain(result.error.message)
    if not parsed.json:
        write(f"{found.id} ({found.plan['model']}): what nodes had before is put back")
    return _watch(parsed, reader, found.id, "rolled_back") if parsed.watch else 0


def _newest(found: list[RolloutView], named: str) -> RolloutView:
    """The newest deployment that can be undone: of all, of a model, or a roll-out."""
    name = named.partition("@")[0]
    for one in reversed(found):
        model = one.plan.get("model", "")
        is_meant = not named or named in (one.id, model) or name == model.partition("@")[0]
        if model and is_meant and one.state not in GONE:
            return one
    raise UsageError(f"there is no deployment{f' of {named!r}' if named else ''} to undo; edgectl rollout ls")


def _watch(parsed: Parsed, reader: Reader, key: str, good: str) -> int:
    return watch(lambda: one_rollout(reader, key), good=good, as_json=parsed.json)
