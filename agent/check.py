"""The part of checking a configuration that opens files: secrets, models, labels, rules that name classes."""

from collections.abc import Mapping, Sequence

from agent.actions.make import check_actions
from agent.config import AgentConfig
from agent.decide.settings import check_decide_settings
from agent.infer.bundle import Bundle
from agent.infer.bundle_files import load_bundle
from agent.infer.fitting import fit
from agent.infer.host import EngineHost
from agent.infer.settings import InferSettings
from agent.models.signatures import read_trust
from agent.sensors.make import readers_mistakes
from agent.stages.check import stages_here
from platforms.stages import StageKinds
from platforms.watching import MakeCondition
from runtime.errors import EdgewrightError

_DECIDED = ("lines", "zones", "rules", "update_interval_s", "move_min")


def check_models(
    config: AgentConfig,
    known: list[str],
    kinds: Mapping[str, MakeCondition] | None = None,
    stages: StageKinds | None = None,
) -> list[str]:
    """Every mistake in the models, in what is decided from them and in the secrets; empty when all is well.

    `known` are the mistakes found before: what they spoil is not judged again. `kinds`: of alert rules,
    `stages`: of pipelines, both by the node's platforms.
    """
    mistakes = []
    labels: dict[str, Sequence[str]] = {}
    try:
        config.broker.addresses()
    except EdgewrightError as error:
        mistakes.append(str(error))
    mistakes += check_actions(config.actions, config.local_broker)
    try:
        read_trust(config.models.trusted_keys)
    except EdgewrightError as error:
        mistakes.append(str(error))
    mistakes += readers_mistakes(config.sensors)
    for i, camera in enumerate(config.cameras):
        try:
            if camera:
                camera.resolved()
        except EdgewrightError as error:
            mistakes.append(f"cameras[{i}]: {error}")
    for i, pipeline in enumerate(config.pipelines):
        where = f"pipelines[{i}]"
        if not pipeline or any(text.startswith(f"{where}.model") for text in known):
            continue
        try:
            bundle = load_bundle(pipeline.model)
            if not any(text.startswith("inference.") for text in known):
                _try(bundle, config.inference)
        except EdgewrightError as error:
            mistakes.append(f"{where}.model: {error}")
            continue
        labels[pipeline.title] = bundle.labels
        if not any(text.startswith(f"{where}.{key}") for text in known for key in _DECIDED):
            mistakes += [
                f"{where}: {text}" for text in check_decide_settings(pipeline.decide, bundle.labels, kinds or {})
            ]
    return mistakes if stages is None else mistakes + stages_here(config, stages, labels)


def _try(bundle: Bundle, settings: InferSettings) -> None:
    """Opens the model on the best engine there is and reads its tensors as the bundle says. Raises."""
    host = EngineHost(bundle, settings, lambda change: None)
    try:
        host.open()
        fit(bundle, host.input, host.outputs)
    finally:
        host.close()
