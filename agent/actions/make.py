"""Settings to the technology that does it, and the part of their check that opens files."""

import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from agent.actions.fake_gpio import FakeLine
from agent.actions.gpio import GpiodLine
from agent.actions.http import WebhookRunner, tls_context
from agent.actions.local_broker import LocalBroker, MqttRunner
from agent.actions.pins import OutputLine, PinRunner
from agent.actions.program import ProgramRunner
from agent.actions.runner import Runner
from agent.actions.settings import ActionSettings, Do, LocalBrokerConfig
from runtime.config import secret
from runtime.errors import EdgewrightError

SIMULATOR = "fake:"


def runner_of(action: ActionSettings, broker: LocalBroker) -> Runner:
    """Nothing is opened yet."""
    match action.do:
        case Do.MQTT:
            return MqttRunner(action, broker)
        case Do.WEBHOOK:
            return WebhookRunner(
                action.name,
                action.url,
                token_file=action.token_file,
                ca_file=action.ca_file,
                retries=action.retries,
                timeout_s=action.timeout_s,
            )
        case Do.COMMAND:
            return ProgramRunner(action.command, action.timeout_s)
        case Do.GPIO:
            return PinRunner(action, lambda: _line(action))


def _line(action: ActionSettings) -> OutputLine:
    if action.chip.startswith(SIMULATOR):
        return FakeLine(Path(action.chip.removeprefix(SIMULATOR)), action.line, active_low=action.active_low)
    return GpiodLine(action.chip, action.line, active_low=action.active_low, consumer=f"edge-agent {action.name}")


def check_actions(actions: Sequence[ActionSettings | None], broker: LocalBrokerConfig) -> list[str]:
    """What is wrong on this machine: programs, secrets, certificates, devices that are not there."""
    mistakes = []
    if any(action and action.do is Do.MQTT for action in actions):
        mistakes += _tried("", broker.address)
    for i, action in enumerate(actions):
        if action is None:
            continue
        where = f"actions[{i}]."
        if action.command and action.do is Do.COMMAND and shutil.which(action.command[0]) is None:
            mistakes.append(f"{where}command: there is no program {action.command[0]!r} that can be run")
        if action.do is Do.WEBHOOK:
            mistakes += _tried(where, partial(secret, "token", action.token_file, ""))
            mistakes += _tried(where, partial(tls_context, action.ca_file))
        if action.do is Do.GPIO:
            path = Path(action.chip.removeprefix(SIMULATOR))
            if action.chip.startswith(SIMULATOR):
                if not os.access(path.parent, os.W_OK):
                    mistakes.append(f"{where}chip: {path.parent} is no folder that can be written")
            elif not path.exists():
                mistakes.append(f"{where}chip: {path} does not exist")
    return mistakes


def _tried(where: str, what: Callable[[], object]) -> list[str]:
    try:
        what()
    except EdgewrightError as error:
        return [f"{where}{error}"]
    return []
