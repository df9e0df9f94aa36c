"""`edgectl`: the operator's command line. Looks into the coordinator's store, and calls functions of nodes."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from coordinator.config import CoordinatorConfig, load_config
from coordinator.ctl import alerts as alert_commands
from coordinator.ctl import (
    arguments,
    calling,
    deploy,
    documents,
    evidence,
    rollouts,
    show,
    simulate,
    state,
    workloads,
)
from coordinator.ctl.arguments import UsageError
from coordinator.ctl.call import EXIT_INTERRUPTED, InterruptedCallError
from coordinator.ctl.calling import seconds
from coordinator.ctl.evidence import Opener
from coordinator.ctl.fleet import FleetCommands
from coordinator.ctl.whereabouts import broker_of
from coordinator.store.reader import PAGE_MAX, EventFilter, Reader
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress
from schemas.errors import LocalWireError
from schemas.messages import Command
from schemas.shape import fields_of
from schemas.topics import COORDINATOR, TopicSpace

EXIT_FAILED = 1
EXIT_USAGE = 2
FOLLOW_EVERY_S = 0.3
SETTLES_S = 0.02  # transactions of coordinators are short
Arguments = argparse.Namespace


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 for a failure, 2 for a mistake in the command line."""
    words = sys.argv[1:] if argv is None else argv
    parsed = _parser(words).parse_args(words)
    try:
        status = int(parsed.run(parsed))
        sys.stdout.flush()
        return status
    except InterruptedCallError as error:
        return _complain(str(error), EXIT_INTERRUPTED)
    except (UsageError, LocalWireError) as error:
        return _complain(str(error), EXIT_USAGE)
    except EdgewrightError as error:
        return _complain(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # The reader of our output has what it wanted. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """For a command line of these words."""
    parser = argparse.ArgumentParser(prog="edgectl", description=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--config", type=Path, metavar="FILE", help="coordinator.toml; else $EDGECTL_CONFIG")
    where.add_argument("--data-dir", type=Path, metavar="DIR", help="the coordinator's data folder")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, run: Callable[[Arguments], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="JSON instead of a table")
        command.set_defaults(run=run)
        return command

    FleetCommands(_reader, _broker).add(commands)
    events = add("events", "what happened; with --json one object a line", _events)
    alerts = add("alerts", "the alerts among it", _events)
    for command, only in ((events, False), (alerts, True)):
        command.set_defaults(alerts_only=only)
        command.add_argument("--node", default="", help="of one node")
        command.add_argument("--topic", default="", metavar="TYPE", help="of a type; * and ? stand for anything")
        command.add_argument("--since", default="", metavar="WHEN", help="90s, 5m, 2h, 3d, or an ISO time")
        command.add_argument("--limit", type=_count, default=50, help="the newest so many (default 50)")
        command.add_argument("--follow", action="store_true", help="and whatever comes, until Ctrl-C")
    streams = add("streams", "cameras: frames, rates, detections", _streams)
    streams.add_argument("--node", default="", help="of one node")
    refused = add("refused", "messages that could not be taken, kept as they came", _refused)
    refused.add_argument("--limit", type=_count, default=50, help="the newest so many (default 50)")
    gaps = add("gaps", "what is missing: given up at the edge, or not explained", _gaps)
    gaps.add_argument("node", nargs="?", default="", metavar="NODE", help="of one node")
    gaps.add_argument("--limit", type=_count, default=200, help="of each kind so many (default 200)")
    text = "what is not explained is shown when it is missing for so long, as 90s, 5m, 2h (default 5m)"
    gaps.add_argument("--open-for", default="5m", metavar="SPAN", help=text)
    text = "pictures and clips that came from the nodes"
    evidence.add_commands(commands.add_parser("evidence", help=text, description=text), Opener(_reader, _config))
    text = "alerts that are on, acknowledgement, and what raises them at a node; `alerts` lists their events"
    alert_commands.add_commands(commands.add_parser("alert", help=text, description=text), _reader, _broker)
    text = "platform state: what nodes and the coordinator keep by key, with its age"
    state.add_commands(commands.add_parser("state", help=text, description=text), _reader)
    _add_documents(commands)
    rollouts.add_commands(commands, _broker, _reader)
    deploy.add_command(commands, _broker, _reader)
    workloads.add_commands(commands, _broker, _reader)
    text = "the schemas of platforms: check, format, compare, show and export them"
    schemas = commands.add_parser("schema", help=text, description=text)
    text = "platforms of your own: docs/your-own-platform.md"
    platforms = commands.add_parser("platform", help=text, description=text)
    text = "the model registry: add, list, promote and retire models, and who can run which"
    models = commands.add_parser("model", help=text, description=text)
    if "schema" in words:  # what these stand on takes longer to import than all the rest
        from coordinator.ctl import schema as schema_commands

        schema_commands.add_commands(schemas)
    elif "platform" in words:
        from coordinator.ctl import platforms as platform_commands

        platform_commands.add_commands(platforms, _config_path)
    elif "model" in words:
        from coordinator.ctl import models as model_commands

        model_commands.add_commands(models, Opener(_reader, _config))
    add("status", "what the coordinator has done", _status)
    add("leases", "duties that one coordinator has at a time, and who", _leases)
    calling.add_commands(commands, _broker)
    simulate.add_commands(commands, _config, _reader)
    return parser


def _add_documents(commands: Any) -> None:
    def add(parent: Any, name: str, text: str, run: Callable[[Arguments], int]) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = parent.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="JSON instead of a table")
        command.set_defaults(run=run)
        return command

    text = "how a node should be, beside how it is; docs/desired-state.md lists the fields"
    desired = commands.add_parser("desired", help=text, description=text)
    inner = desired.add_subparsers(required=True, metavar="WHAT")
    add(inner, "show", "each field: desired, written at the node, what holds", _desired).add_argument("node")
    add(inner, "history", "what was changed, when and by whom", _history).add_argument("node")
    setting = add(inner, "set", "make the next revision with these values", _set_desired)
    unsetting = add(inner, "unset", "make the next revision without these values", _set_desired)
    for command, items, metavar in ((setting, "set", "FIELD=VALUE"), (unsetting, "unset", "FIELD")):
        command.add_argument("node", metavar="NODE")
        command.add_argument(items, nargs="+", metavar=metavar, help="values are JSON, or else text")
        text = "only if this is the revision now; else refused, with the current one"
        command.add_argument("--if-revision", type=int, metavar="N", help=text)
        command.add_argument("--timeout", type=seconds, default=30.0, metavar="S", help="wait so long (default 30)")
        command.set_defaults(**{"unset" if items == "set" else "set": []})
    add(commands, "reported", "what a node says it is", _reported).add_argument("node", metavar="NODE")
    conflicts = add(commands, "conflicts", "where coordinator and node wrote a field differently", _conflicts)
    conflicts.add_argument("node", nargs="?", default="", metavar="NODE", help="of one node")
    conflicts.add_argument("--limit", type=_count, default=50, help="the newest so many (default 50)")


# ---- commands -----------------------------------------------------------------------------------


def _events(parsed: Arguments) -> int:
    since_ms = arguments.since(parsed.since, _now_ms()) if parsed.since else 0
    wanted = EventFilter(parsed.node, parsed.topic, since_ms, parsed.alerts_only)
    reader = _reader(parsed)
    if parsed.follow:
        wanted = replace(wanted, until_row=_settled(reader, 0))
    found = reader.events(wanted, parsed.limit)
    titles = not parsed.json
    while True:
        if parsed.json:
            for event in found:
                _write(json.dumps(asdict(event), ensure_ascii=False))
        elif found or titles:
            _write(show.events(found, titles=titles))
            titles = False
        sys.stdout.flush()
        if not parsed.follow:
            return 0
        is_page = wanted.after_row is not None and len(found) == PAGE_MAX
        after, until = found[-1].row if is_page else wanted.until_row, wanted.until_row
        if not is_page:
            time.sleep(FOLLOW_EVERY_S)
            until = _settled(reader, until or 0)
        wanted = replace(wanted, after_row=after, until_row=until, since_utc_ms=0)
        found = reader.events(wanted, PAGE_MAX)


def _settled(reader: Reader, before: int) -> int:
    """The row up to which all events are there: what is slow to be committed is waited for, not passed over."""
    while (row := reader.settled_row()) is None:
        time.sleep(SETTLES_S)
    return max(row, before)


def _streams(parsed: Arguments) -> int:
    reader = _reader(parsed)
    found, stale = reader.streams(parsed.node), show.staleness(reader.counters(), _now_ms())
    return _print(parsed, lambda: stale + show.streams(found, _now_ms()), [asdict(stream) for stream in found])


def _refused(parsed: Arguments) -> int:
    found = _reader(parsed).refused(parsed.limit)
    return _print(parsed, lambda: show.refused(found, _now_ms()), show.refused_json(found))


def _leases(parsed: Arguments) -> int:
    found = _reader(parsed).leases()
    return _print(parsed, lambda: show.leases(found, _now_ms()), [asdict(one) for one in found])


def _gaps(parsed: Arguments) -> int:
    until_ms = arguments.since(parsed.open_for, _now_ms(), option="--open-for")
    reader = _reader(parsed)
    found = reader.gaps(parsed.node, parsed.limit) + reader.holes(parsed.node, parsed.limit, until_ms)
    return _print(parsed, lambda: show.gaps(found, _now_ms()), [asdict(gap) for gap in found])


def _desired(parsed: Arguments) -> int:
    found = _reader(parsed).documents(parsed.node)
    return _print(parsed, lambda: documents.desired(found, _now_ms()), fields_of(found))


def _reported(parsed: Arguments) -> int:
    found = _reader(parsed).documents(parsed.node)
    return _print(parsed, lambda: documents.reported(found, _now_ms()), fields_of(found.reported))


def _history(parsed: Arguments) -> int:
    found = _reader(parsed).history(parsed.node)
    return _print(parsed, lambda: documents.history(found, _now_ms()), [asdict(step) for step in found])


def _conflicts(parsed: Arguments) -> int:
    found = _reader(parsed).conflicts(parsed.node, parsed.limit)
    return _print(parsed, lambda: documents.conflicts(found, _now_ms()), [asdict(item) for item in found])


def _set_desired(parsed: Arguments) -> int:
    asked = {
        "node": parsed.node,
        "set": arguments.field_values(parsed.set),
        "unset": parsed.unset,
        "if_revision": parsed.if_revision,
        "source": f"edgectl, {os.environ.get('SUDO_USER') or os.environ.get('USER') or 'somebody'}",
    }
    command = Command("setDesired", asked)
    result = calling.ask(_broker(parsed, "desired"), COORDINATOR, command, timeout_s=parsed.timeout)
    if parsed.json:
        _write(calling.shown(result))
    if result.error is not None:
        return _complain(f"not changed: {result.error.message}", EXIT_FAILED)
    if not parsed.json:
        document, changed = result.result["desired"], result.result["changed"]
        said = ", ".join(f"{path}: {documents.value(a)} -> {documents.value(b)}" for path, (a, b) in changed.items())
        _write(f"epoch {document['epoch']}, revision {document['revision']}: {said or 'nothing to change'}")
        if not result.result["registered"]:
            _write(f"no node {parsed.node} has registered yet; it gets this when it does")
    return 0


def _status(parsed: Arguments) -> int:
    reader = _reader(parsed)
    counters, totals, frozen, replicas = reader.counters(), reader.totals(), reader.freezes(), reader.replicas()
    document = {"counters": counters, "rows": totals, "frozen": [asdict(one) for one in frozen]}
    document["replicas"] = [asdict(one) for one in replicas]
    head = f"{show.freezes(frozen, _now_ms())}\n" if frozen else ""
    head += f"{show.replicas(replicas, _now_ms())}\n\n" if replicas else ""
    return _print(parsed, lambda: head + show.status(counters, totals, _now_ms()), document)


def _broker(parsed: Arguments, what: str) -> tuple[BrokerAddress, TopicSpace]:
    config = _config(parsed)
    if config is None:
        raise UsageError(f"{what} needs the broker's address: give --config FILE or set EDGECTL_CONFIG")
    return broker_of(config, getattr(parsed, "node", "")), TopicSpace(config.topic_root)


# ---- small things -------------------------------------------------------------------------------


def _config(parsed: Arguments) -> CoordinatorConfig | None:
    path = _config_path(parsed)
    return load_config(path) if path else None


def _config_path(parsed: Arguments) -> Path | None:
    named = parsed.config or (None if parsed.data_dir else os.environ.get("EDGECTL_CONFIG"))
    return Path(named) if named else None


def _reader(parsed: Arguments) -> Reader:
    config = _config(parsed)
    if config is None and parsed.data_dir is None:
        raise UsageError("where is the store? give --config FILE or --data-dir DIR, or set EDGECTL_CONFIG")
    return Reader(parsed.data_dir if config is None else config.place)


def _print(parsed: Arguments, text: Callable[[], str], document: Any) -> int:
    _write(json.dumps(document, indent=2, ensure_ascii=False) if parsed.json else text())
    return 0


def _write(text: str) -> None:
    print(text)  # noqa: T201


def _complain(text: str, status: int) -> int:
    print(f"edgectl: {text}", file=sys.stderr)  # noqa: T201
    return status


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100_000:
        raise argparse.ArgumentTypeError("must be 1 to 100000")
    return value


if __name__ == "__main__":
    sys.exit(main())
