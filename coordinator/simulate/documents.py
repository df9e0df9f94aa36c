"""What a simulated node makes of a desired document, and what it answers to a command. Pure."""

import random
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from coordinator.simulate.models import Standing, is_of_models
from coordinator.simulate.packets import Properties, Property
from coordinator.simulate.scenario import Scenario
from schemas.codec import decode_command, encode_result
from schemas.documents import Desired, Reported, encode, sealed
from schemas.errors import RemoteWireError
from schemas.messages import Command, CommandError, CommandState, Result
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


class Papers:
    """The desired document of one node and its own report, over its boots."""

    __slots__ = ("_character", "_pending", "desired", "report", "report_hash")

    def __init__(self, character: Character) -> None:
        self._character = character
        self._pending: Desired | None = None  # taken, and not applied yet
        self.desired: Desired | None = None
        self.report: Reported | None = None
        self.report_hash = ""

    def started(self, boot: int) -> None:
        """What was not applied is taken again when it comes again."""
        self._pending = None
        if self.report is not None:
            self.report = replace(self.report, boot=boot, serial=1)

    def wanted(self, desired: Desired) -> Character | None:
        """None for a document that is no news; else what becomes of it, after a while where not SILENT."""
        newest = self._pending or self.desired
        if newest is not None and desired.version <= newest.version:
            return None
        self._pending = desired
        return self._character

    def apply(self, boot: int) -> Desired | None:
        """The document that holds from now on, or was refused: the report says so. None where there is none."""
        desired, self._pending = self._pending, None
        if desired is None or self._character is Character.SILENT:
            return None
        self.desired = desired
        before, fails = self.report or Reported(), self._character is Character.FAILS
        values = {path: value for path, value in desired.fields.items() if value is not None}
        self.report = Reported(
            boot=boot,
            serial=before.serial + 1 if boot == before.boot else 1,
            epoch=desired.epoch,
            revision=desired.revision,
            desired_hash=desired.hash,
            fields=before.fields if fails else values,
            refused=dict.fromkeys(values, "simulated: cannot be applied") if fails else {},
        )
        return desired

    def tell(self, facts: dict[str, Any], models: Standing, boot: int, *, anew: bool) -> None:
        """The report has these facts about workloads and models, and no others. `anew`: it was said already."""
        before = self.report or Reported(boot=boot, serial=1)
        if before.revision and self._character is Character.FAILS:
            return  # it has refused all of it
        fields = {path: value for path, value in before.fields.items() if not _is_served(path)}
        serial = before.serial + 1 if anew and before.boot == boot else before.serial
        self.report = replace(
            before, serial=serial, fields={**fields, **facts, **models.holds}, pending=models.pending,
            refused=models.refused,
        )  # fmt: skip

    def encode(self) -> bytes:
        """The report as it travels."""
        assert self.report is not None, "there is something to report"
        self.report_hash = sealed(self.report).hash
        return encode(self.report)


def _is_served(path: str) -> bool:
    """In its own time: what holds of it is not what is wanted."""
    return path.endswith(".state") or is_of_models(path)


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
    if wanted.startswith(own) and wanted != own + function and not set("+#\0") & set(wanted):
        leaves = (function, wanted.removeprefix(own))
    about = (
        {Property.CORRELATION_DATA: asked[Property.CORRELATION_DATA]} if Property.CORRELATION_DATA in asked else {}
    )
    return Answer(leaves, encode_result(result, packed=command.packed), about, published)


def _documents(arguments: dict[str, Any]) -> tuple[str, ...]:
    known = (Kind.BIRTH.value, Kind.REPORTED.value)
    named = arguments.get("documents") or known
    return tuple(name for name in known if name in named)
