"""Puts together what raises alerts on this node, from its configuration and its platforms."""

from collections.abc import Callable, Mapping
from typing import Any

from agent.actions.actions import Actions
from agent.alerting.alerting import Alerting, Watching
from agent.alerting.rule import configured
from agent.alerting.store import FILE_NAME, AlertsFile
from agent.config import AgentConfig
from agent.outbox.outbox import Outbox
from agent.results.recorder import Recorder
from platforms.assembly import Assembly
from schemas.fields import Owner
from schemas.language.schema import Ref, Schema
from schemas.state import StateView

COLLECTION, VALUE = "alerts", "Alert_Event"  # a platform that declares this has the alerts of the node in it


def open_alerting(
    config: AgentConfig,
    assembly: Assembly,
    *,
    boot: int,
    outbox: Outbox,
    state: StateView,
    streams: Mapping[str, Watching],
    actions: Actions,
    recorder: Recorder,
) -> Alerting:
    """Nothing runs yet. Raises StorageError."""
    schemas = assembly.catalogue.schemas
    made = Alerting(
        config.alerting,
        [configured(one) for one in config.alerts],
        AlertsFile(config.node.data_dir / FILE_NAME, set_aside=True),
        node=config.node.id,
        boot=boot,
        outbox=outbox,
        state=state,
        collections=collections_of(schemas),
        schemas=schemas,
        streams=streams,
        actions=actions,
        results_path=recorder.path,
        taken=frozenset(rule.name for pipeline in config.pipelines for rule in pipeline.rules),
    )
    actions.named = made.named
    recorder.on_keep = made.kept
    return made


def collections_of(schemas: tuple[Schema, ...]) -> list[str]:
    """Those of the platforms' state that hold the alerts of a node."""
    found = []
    for schema in schemas:
        one = schema.state.get(COLLECTION)
        if one is not None and one.owner is Owner.NODE and one.value == Ref(VALUE):
            found.append(f"{schema.name}.{COLLECTION}")
    return found


def normal_arguments(assembly: Assembly) -> Callable[[Any], Any]:
    """Makes of the arguments of a `triggerAlert`, which were checked, what core declares."""
    checks = assembly.base_checks("triggerAlert")
    assert checks is not None, "core declares it"
    return checks[0]
