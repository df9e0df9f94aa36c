"""What a simulated node makes of a desired document, and what it answers to a command. Pure."""

import random
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from coordinator.simulate.packets import Properties, Property
from coordinator.simulate.scenario import Scenario
from schemas.codec import decode_command, encode_result
from schemas.documents import Desired, Reported, content_hash, encode
from schemas.errors import RemoteWireError
from schemas.messages import Command, CommandError, CommandState, Result
from schemas.shape import fields_of
from schemas.topics import Kind


class Character(Enum):
    """How a node takes what is desired of it."""

    APPLIES = "applies"
    FAILS = "fails"  # refuses every field
    SILENT = "silent"  # never reports


def character_of(scenario: Scenario, number: int) -> Character:
    """Follows from the seed."""
    drawn = random.Random(f"{scenario.fleet.seed}/character/{number}").random()
    failing, silent = scenario.desired.failing, scenario.desired.silent
    if drawn < failing:
        return Character.FAILS
    return Character.SILENT if drawn < failing + silent else Character.APPLIES


def apply_desired(before: Reported, desired: Desired, boot: int, *, fails: bool) -> Reported:
    """The report that answers to a document. One that fails goes on with what it had."""
    values = {path: value for path, value in desired.fields.items() if value is not None}
    return Reported(
        boot=boot,
        serial=before.serial + 1 if boot == before.boot else 1,
        epoch=desired.epoch,
        revision=desired.revision,
        desired_hash=desired.hash,
        fields=before.fields if fails else values,
        refused=dict.fromkeys(values, "simulated: cannot be applied") if fails else {},
    )


def after_boot(report: Reported, boot: int) -> Reported:
    """The report as the next boot publishes it."""
    return replace(report, boot=boot, serial=1)


def encode_reported(report: Reported) -> tuple[bytes, str]:
    """As it travels, and its hash."""
    return encode(report), content_hash(fields_of(report))


@dataclass(frozen=True, slots=True)
class Answer:
    """To a command: the last level of each topic, payload and properties. `publish` names documents to be said
    again."""

    leaves: tuple[str, ...]
    payload: bytes
    properties: Properties
    publish: tuple[str, ...] = ()


def answer_to(
    function: str, payload: bytes, retained: bool, asked: Properties, own: str, node: str, utc_ms: int, status: Any
) -> Answer:
    """`own` is the prefix of the node's results. Only `status` and `report` are served."""
    command = Command(function, {})
    published: tuple[str, ...] = ()
    state, value, error = CommandState.REJECTED, None, None
    try:
        command = decode_command(function, payload)
        correlation: bytes = asked.get(Property.CORRELATION_DATA, b"")
        command = replace(command, id=command.id or correlation.decode("utf-8", "replace")[:128])
        if retained:
            error = CommandError("retained", "a retained command would run again at every connect")
        elif function == "status":
            state, value = CommandState.SUCCEEDED, status
        elif function == "report":
            published = _documents(command.arguments)
            state, value = CommandState.SUCCEEDED, {"published": list(published)}
        else:
            error = CommandError("unknown_function", f"a simulated node serves status and report, not {function}")
    except RemoteWireError as mistake:
        error = CommandError("bad_message", str(mistake))
    result = Result(function, state, command.id, node, utc_ms, value, error)
    leaves: tuple[str, ...] = (function,)
    wanted = asked.get(Property.RESPONSE_TOPIC, "")
    if wanted.startswith(own) and wanted != own + function and not set("+#") & set(wanted):
        leaves = (function, wanted.removeprefix(own))
    about = (
        {Property.CORRELATION_DATA: asked[Property.CORRELATION_DATA]} if Property.CORRELATION_DATA in asked else {}
    )
    return Answer(leaves, encode_result(result, packed=command.packed), about, published)


def _documents(arguments: dict[str, Any]) -> tuple[str, ...]:
    known = (Kind.BIRTH.value, Kind.REPORTED.value)
    named = arguments.get("documents") or known
    return tuple(name for name in known if name in named)
