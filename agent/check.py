"""The part of checking a configuration that opens files: models, labels, rules that name classes."""

from agent.config import AgentConfig
from agent.decide.settings import check_decide_settings
from agent.infer.bundle_files import load_bundle
from runtime.errors import EdgewrightError


def check_models(config: AgentConfig) -> list[str]:
    """Every mistake in the models and in what is decided from them; empty when all is well."""
    mistakes = []
    for i, pipeline in enumerate(config.pipelines):
        try:
            bundle = load_bundle(pipeline.model)
        except EdgewrightError as error:
            mistakes.append(f"pipelines[{i}].model: {error}")
            continue
        mistakes += [f"pipelines[{i}]: {text}" for text in check_decide_settings(pipeline.decide, bundle.labels)]
    for i, camera in enumerate(config.cameras):
        try:
            camera.resolved()
        except EdgewrightError as error:
            mistakes.append(f"cameras[{i}]: {error}")
    return mistakes
