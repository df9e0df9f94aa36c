"""`[[actions]]` and `[local_broker]`: what the node does itself about which events."""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from agent.actions.template import template_mistakes
from agent.decide.facts import AlertState
from runtime.config import EndpointConfig
from runtime.mqtt import BrokerAddress
from schemas.messages import Severity
from schemas.shape import Limit

FAILED = "ActionFailed"  # what is said of an action that failed; it triggers none
ALERTS = ("AlertRaised", "AlertUpdated", "AlertCleared")
EVENT_TYPES = frozenset(
    {
        *ALERTS,
        *("ObjectSeen", "ObjectUpdated", "ObjectGone", "LineCrossed", "ZoneCountChanged", "FrameAnalyzed"),
        *(
            "CameraStateChanged",
            "PipelineStarted",
            "PipelineStopped",
            "PipelineFailed",
            "EngineChanged",
            "AnomalyDrift",
        ),
        *("SensorStateChanged", "StreamSample", "DegradationChanged", "BrokerChanged", "CloudSyncCompleted"),
        *("ResultAggregate", "CountsChanged", "FrameResult", "SyncPolicyChanged", "ResultsSetAside"),
        *("EvidenceStored", "EvidenceFailed", "EvidenceHealed", "EvidenceLost", "EvidenceRefused"),
    }
)
"""Event types of the core; platforms may have more."""


class Do(StrEnum):
    """What an action does."""

    MQTT = "mqtt"
    WEBHOOK = "webhook"
    COMMAND = "command"
    GPIO = "gpio"


class Drive(StrEnum):
    """What a line does at an event."""

    PULSE = "pulse"  # active for pulse_s
    FOLLOW = "follow"  # active while at least one matching alert is raised
    LATCH = "latch"  # active until every matching alert is over and acknowledged


@dataclass(frozen=True, slots=True)
class OnSettings:
    """The events an action is for: those that fulfil every list that is not empty."""

    types: tuple[str, ...] = ()  # empty: every alert, and events only if they are named
    severities: tuple[Severity, ...] = ()
    states: tuple[AlertState, ...] = ()
    rules: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    fields: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of an event's data: one of these texts each

    RENAMED: ClassVar[Mapping[str, str]] = {"verdicts": 'fields = { verdict = ["reject"] }'}


@dataclass(frozen=True, slots=True)
class ActionSettings:
    """One `[[actions]]` table; the keys after `parallel` belong to one kind each."""

    name: Annotated[str, Limit(pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", means="1 to 63 letters, digits, . _ -")]
    do: Do
    on: OnSettings = OnSettings()
    named: bool = False  # only for alerts that name it; of `on` only severities, states and cameras count
    cooldown_s: Annotated[float, Limit(ge=0, le=86400)] = 0.0
    timeout_s: Annotated[float, Limit(gt=0, le=300)] = 10.0
    queue_max: Annotated[int, Limit(ge=1, le=10000)] = 100
    parallel: Annotated[int, Limit(ge=1, le=8)] = 1
    topic: str = ""
    payload: Annotated[str, Limit(len_max=65536)] = "{json}"
    retain: bool = False
    url: str = ""
    token_file: Path | None = None
    ca_file: Path | None = None
    retries: Annotated[int, Limit(ge=0, le=10)] = 2
    command: tuple[str, ...] = ()
    chip: str = "/dev/gpiochip0"
    line: int | str = ""
    active_low: bool = False
    drive: Drive = Drive.PULSE
    pulse_s: Annotated[float, Limit(gt=0, le=3600)] = 1.0
    exit_active: bool = False


OWN_KEYS: dict[Do, tuple[str, ...]] = {
    Do.MQTT: ("topic", "payload", "retain"),
    Do.WEBHOOK: ("url", "token_file", "ca_file", "retries"),
    Do.COMMAND: ("command",),
    Do.GPIO: ("chip", "line", "active_low", "drive", "pulse_s", "exit_active"),
}


@dataclass(frozen=True, slots=True)
class LocalBrokerConfig(EndpointConfig):
    """The `[local_broker]` table: where actions publish; it may be another broker than the fleet's."""

    def address(self, table: str = "local_broker") -> BrokerAddress:
        """With the password read from where it is kept. Raises ConfigError."""
        return EndpointConfig.address(self, table)


# ---- what is wrong -------------------------------------------------------------------------------


def actions_mistakes(
    actions: Sequence[ActionSettings | None], cameras: Sequence[str], rules: set[str], *, open_types: bool = False
) -> list[str]:
    """Every mistake in the actions that the shape alone does not show; None stands for one too wrong to be read.

    `open_types`: platforms are enabled that may declare further events; `undeclared` asks them.
    """
    mistakes = []
    given = [(i, action) for i, action in enumerate(actions) if action]
    names = [action.name for _, action in given]
    lines: dict[tuple[str, int | str], str] = {}
    for i, action in given:
        where = f"actions[{i}]"
        if names.count(action.name) > 1:
            mistakes.append(f"{where}.name: {action.name!r} is given {names.count(action.name)} times")
        wrong = on_mistakes(action.on, cameras, rules, open_types=open_types)
        mistakes += [f"{where}.{text}" for text in (*wrong, *own_mistakes(action))]
        if action.named and (action.on.types or action.on.rules):
            mistakes.append(f"{where}.named: only alerts that name it reach it: name no on.types and no on.rules")
        if action.do is Do.GPIO and action.line != "":
            other = lines.setdefault((action.chip, action.line), action.name)
            if other != action.name:
                mistakes.append(f"{where}.line: {action.line!r} of {action.chip} is driven by {other!r} already")
    return mistakes


def on_mistakes(on: OnSettings, cameras: Sequence[str], rules: set[str], *, open_types: bool = False) -> list[str]:
    """What names nothing that there is, each as `on.key: what`."""
    mistakes = []
    for kind in on.types:
        if kind == FAILED:
            mistakes.append(f"on.types: {FAILED} triggers nothing, or a failing action would trigger itself")
        elif not kind.isidentifier():
            mistakes.append(f"on.types: {kind!r} is no event type")
        elif kind not in EVENT_TYPES and not open_types:
            mistakes.append(f"on.types: no event is called {kind!r}; there are {', '.join(sorted(EVENT_TYPES))}")
    mistakes += [f"on.cameras: no camera has the id {name!r}" for name in on.cameras if name not in cameras]
    mistakes += [f"on.rules: no pipeline has a rule {name!r}" for name in on.rules if name not in rules]
    return mistakes


def own_mistakes(action: ActionSettings) -> list[str]:
    """Of what belongs to its kind, each as `key: what`."""
    defaults = {f.name: f.default for f in fields(ActionSettings)}
    mistakes = [
        f"{key}: belongs to do = {kind.value!r}, not to {action.do.value!r}"
        for kind, keys in OWN_KEYS.items()
        if kind is not action.do
        for key in keys
        if getattr(action, key) != defaults[key]
    ]
    return mistakes + _CHECKS[action.do](action)


def _mqtt(action: ActionSettings) -> list[str]:
    mistakes = [f"payload: {text}" for text in template_mistakes(action.payload)]
    if not action.topic:
        return [*mistakes, "topic: is needed for do = 'mqtt'"]
    if any(sign in action.topic for sign in "+#\0") or action.topic.startswith("$") or len(action.topic) > 1024:
        mistakes.append(f"topic: {action.topic!r} cannot be published on; no + or #, and no $ at its beginning")
    return mistakes + [f"topic: {text}" for text in template_mistakes(action.topic)]


def _webhook(action: ActionSettings) -> list[str]:
    try:
        url = urlsplit(action.url)
        host, _ = url.hostname, url.port
    except ValueError as error:
        return [f"url: is no address: {error}"]
    if url.scheme not in ("http", "https") or not host:
        return ["url: must be http://host/... or https://host/..."]
    if any(sign.isspace() or not sign.isprintable() for sign in action.url) or not action.url.isascii():
        return ["url: must have no blanks and only ASCII characters"]
    mistakes = []
    if url.username or url.password:
        mistakes.append("url: secrets do not belong here; use token_file")
    if url.scheme == "http":
        if _is_public(host):
            mistakes.append("url: https:// is needed for an address outside the local network")
        if action.ca_file:
            mistakes.append("ca_file: is given, but the url is not https://")
    return mistakes


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False  # a name: where it leads is known only then


def _command(action: ActionSettings) -> list[str]:
    if not action.command or not action.command[0]:
        return ["command: is needed for do = 'command': the program and its arguments, as a list"]
    return [f"command: argument {i} holds a NUL" for i, text in enumerate(action.command) if "\0" in text]


def _gpio(action: ActionSettings) -> list[str]:
    mistakes = []
    if action.line == "" or isinstance(action.line, bool) or (isinstance(action.line, int) and action.line < 0):
        mistakes.append("line: is needed for do = 'gpio': a number from 0, or a line's name")
    if not action.chip.startswith(("/", "fake:/")):
        mistakes.append(f"chip: {action.chip!r} must be a device like /dev/gpiochip0, or fake:/path/state.json")
    if action.parallel != 1:
        mistakes.append("parallel: a line is driven by one event at a time")
    if action.drive is not Drive.PULSE:
        drive = f"drive = '{action.drive.value}'"
        if set(action.on.types) - set(ALERTS):
            mistakes.append(f"on.types: {drive} follows alerts only")
        if action.on.states or action.on.types:
            mistakes.append(f"on: {drive} must see alerts raised and cleared: name no types and no states")
        if action.cooldown_s:
            mistakes.append(f"cooldown_s: {drive} has none: it would miss that an alert is over")
    return mistakes


_CHECKS: dict[Do, Callable[[ActionSettings], list[str]]] = {
    Do.MQTT: _mqtt,
    Do.WEBHOOK: _webhook,
    Do.COMMAND: _command,
    Do.GPIO: _gpio,
}
