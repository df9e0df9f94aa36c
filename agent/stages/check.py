"""What a machine lacks for the stages of its configuration."""

from collections.abc import Mapping, Sequence

from agent.config import AgentConfig
from agent.stages.inputs import is_there
from agent.stages.machine import NodeMachine
from agent.stages.settings import made_stages
from platforms.stages import ALSO, StageKinds
from runtime.errors import EdgewrightError


def stages_here(config: AgentConfig, kinds: StageKinds, labels: Mapping[str, Sequence[str]]) -> list[str]:
    """What is wrong on this machine with stages whose settings are well and whose models can all be read. `labels`:
    of each pipeline's model that can be, by the pipeline's title."""
    mistakes: list[str] = []
    uses_broker = False
    machine = NodeMachine()
    for where, pipeline, made in made_stages(config, kinds):
        if isinstance(made, list):
            continue
        looking = (pipeline.title, *(pipeline.stage or {}).get(ALSO, ()))
        if all(title in labels for title in looking):
            known = [label for title in looking for label in labels[title]]
            try:
                mistakes += [f"{where}.{text}" for text in made.mistakes(machine, known)]
            except Exception as error:  # noqa: BLE001 - somebody else's code: the other mistakes are told too
                mistakes.append(f"{where}: cannot be checked: {error!r}")
        wires = made.wires
        if wires.line is not None and not is_there(wires.line):
            mistakes.append(f"{where}: the chip {wires.line.chip} of its input line does not exist")
        uses_broker = uses_broker or wires.uses_broker
    if uses_broker:
        try:
            config.local_broker.address()
        except EdgewrightError as error:
            mistakes.append(str(error))
    return mistakes
