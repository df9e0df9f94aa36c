"""The `[pipelines.stage]` tables of a configuration, held against the platforms that bring the stages. Pure."""

from collections.abc import Iterator

from agent.config import AgentConfig, PipelineConfig
from platforms.stages import Stage, StageError, StageKinds


def stage_mistakes(config: AgentConfig, kinds: StageKinds) -> list[str]:
    """Every mistake in the settings of stages, each as `pipelines[i].stage.key: what`."""
    return [text for _, _, made in made_stages(config, kinds) if isinstance(made, list) for text in made]


def made_stages(config: AgentConfig, kinds: StageKinds) -> Iterator[tuple[str, PipelineConfig, Stage | list[str]]]:
    """Of each pipeline that has one: its place in the file, the pipeline, and the stage, or its mistakes."""
    for i, pipeline in enumerate(config.pipelines):
        if not pipeline or pipeline.stage is None:
            continue
        where = f"pipelines[{i}].stage"
        beside = [one for one in config.pipelines if one and one is not pipeline and one.camera == pipeline.camera]
        try:
            made = kinds.make(pipeline.stage, pipeline.camera, pipeline.title, [one.title for one in beside])
        except StageError as error:
            yield where, pipeline, [f"{where}.{text}" for text in error.mistakes]
        else:
            yield where, pipeline, made
