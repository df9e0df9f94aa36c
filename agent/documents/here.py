"""What the configuration says that desired state may change. Pure."""

from pathlib import Path

from agent.config import AgentConfig
from agent.documents.plan import Here


def here(config: AgentConfig) -> Here:
    """From the configuration of this node."""
    return Here(
        {pipeline.title: Path(pipeline.model).name[:200] for pipeline in config.pipelines},
        frozenset(
            [rule.name for pipeline in config.pipelines for rule in pipeline.rules]
            + [alert.name for alert in config.alerts]
        ),
        config.node.labels,
        config.node.heartbeat_s,
        config.log.level,
    )
