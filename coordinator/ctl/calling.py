"""`edgectl call` and `edgectl cancel`: a function of a node or of the coordinator, by a person."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from coordinator.ctl import arguments
from coordinator.ctl.call import Telling, cancel, watched_call
from runtime.mqtt import BrokerAddress
from schemas.messages import Command, CommandState, Result
from schemas.shape import fields_of
from schemas.topics import TopicSpace

EXIT_FAILED = 1
Broker = Callable[[argparse.Namespace, str], tuple[BrokerAddress, TopicSpace]]
"""Where the command line says that the broker is; the text names what needs it."""


def add_commands(commands: Any, broker: Broker) -> None:
    """Beside the other commands of `edgectl`."""
    text = "call a function of a node, or of the coordinator, and wait for its result; Ctrl-C cancels the call"
    calling = commands.add_parser("call", help=text, description=text)
    calling.add_argument("node", metavar="NODE", help="or coordinator")
    calling.add_argument("function", metavar="FUNCTION")
    calling.add_argument("arguments", nargs="*", metavar="KEY=VALUE", help="values are JSON, or else text")
    calling.add_argument("--json", metavar="OBJECT", help="all arguments as one JSON object")
    calling.add_argument("--timeout", type=seconds, default=30.0, metavar="S", help="wait so long (default 30)")
    text = "the call is ended there when it has taken so long"
    calling.add_argument("--deadline", type=seconds, metavar="S", help=text)
    text = "asked again with the same one it is answered again and not run again (default: a new one)"
    calling.add_argument("--id", type=identifier, metavar="ID", help=text)
    calling.set_defaults(run=lambda parsed: _call(parsed, broker))
    text = "end a call that runs, by the id it was given"
    cancelling = commands.add_parser("cancel", help=text, description=text)
    cancelling.add_argument("node", metavar="NODE", help="or coordinator")
    cancelling.add_argument("id", type=identifier, metavar="ID")
    cancelling.add_argument("--timeout", type=seconds, default=10.0, metavar="S", help="wait so long (default 10)")
    cancelling.set_defaults(run=lambda parsed: _cancel(parsed, broker))


def ask(where: tuple[BrokerAddress, TopicSpace], node: str, command: Command, *, timeout_s: float) -> Result:
    """The answer; meanwhile stderr tells how far it is, and Ctrl-C cancels. Raises InterruptedCallError."""
    with Telling(sys.stderr) as telling:
        return asyncio.run(watched_call(*where, node, command, telling, timeout_s=timeout_s))


def shown(result: Result) -> str:
    """As JSON; of progress nothing is left once a call has ended."""
    fields = fields_of(result)
    del fields["progress"]
    return json.dumps(fields, indent=2, ensure_ascii=False)


def identifier(text: str) -> str:
    """What a call may be known by."""
    if not 1 <= len(text) <= 128:
        raise argparse.ArgumentTypeError("must be 1 to 128 characters")
    return text


def seconds(text: str) -> float:
    """How long something may take."""
    value = float(text)
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError("must be more than 0 and at most a day")
    return value


def _call(parsed: argparse.Namespace, broker: Broker) -> int:
    given = arguments.call_arguments(parsed.arguments, parsed.json)
    command = Command(parsed.function, given, parsed.id or "", deadline_s=parsed.deadline)
    result = ask(broker(parsed, "call"), parsed.node, command, timeout_s=parsed.timeout)
    print(shown(result))  # noqa: T201
    return 0 if result.state is CommandState.SUCCEEDED else EXIT_FAILED


def _cancel(parsed: argparse.Namespace, broker: Broker) -> int:
    why = asyncio.run(cancel(*broker(parsed, "cancel"), parsed.node, parsed.id, timeout_s=parsed.timeout))
    if why:
        print(f"edgectl: not cancelled: {why}", file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    print(f"{parsed.id} is being cancelled")  # noqa: T201
    return 0
