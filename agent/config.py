"""The agent's configuration, `agent.toml`, as frozen dataclasses; `deploy/agent.toml` comments every key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import platforms
from agent.actions.declared import undeclared
from agent.actions.settings import ActionSettings, LocalBrokerConfig, actions_mistakes
from agent.alerting.settings import AlertingSettings, AlertSettings, alerts_mistakes
from agent.capture.settings import CameraConfig
from agent.decide.settings import AlertRuleSettings, DecideSettings, LineSettings, ZoneSettings
from agent.degrade.pipelines import Priority
from agent.degrade.settings import DegradationSettings
from agent.evidence.settings import EvidenceSettings, evidence_mistakes
from agent.infer.settings import InferSettings
from agent.link.settings import BrokersConfig, LinkSettings
from agent.models.settings import NodeModelsTable, is_key, models_mistakes
from agent.outbox.settings import OutboxSettings, outbox_mistakes
from agent.platform_state.settings import StateSettings
from agent.results.settings import ResultsSettings
from agent.sensors.settings import SensorConfig, sensor_beside, sensors_mistakes
from agent.track.settings import TrackerSettings, check_tracker_settings
from agent.workloads.settings import WorkloadSettings
from platforms.checking import Here
from platforms.settings import PlatformsTable, read_platforms
from runtime.config import EndpointConfig, load_table, mistakes_error, secret
from runtime.logs import LogForm
from schemas.language.schema import Schema
from schemas.shape import Limit, read_what_can_be
from schemas.sync import SyncPolicy, policy_mistakes
from schemas.topics import check_node_name

T = TypeVar("T", BrokersConfig, EndpointConfig, "CameraTable", LocalBrokerConfig, ActionSettings)
NAME = Limit(pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", means="1 to 63 letters, digits, . _ -")
BROKER_FILES = ("password_file", "ca_file", "cert_file", "key_file")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The `[node]` table: who this gateway is."""

    id: str
    data_dir: Path = Path("/var/lib/edgewright-agent")
    name: Annotated[str, Limit(len_max=200)] = ""
    node_type: Annotated[str, Limit(len_max=100)] = "Industrial_Gateway"
    site: Annotated[str, Limit(len_max=100)] = ""
    labels: dict[str, str] = field(default_factory=dict)
    location: dict[str, float] = field(default_factory=dict)
    heartbeat_s: Annotated[float, Limit(ge=1, le=3600)] = 15.0
    resend_after_s: Annotated[float, Limit(ge=1, le=3600)] = 15.0


@dataclass(frozen=True, slots=True)
class CameraTable(CameraConfig):
    """A `[[cameras]]` table. The password stands in a file or in the environment."""

    enabled: bool = True
    password_file: Path | None = None
    password_env: str = ""

    def resolved(self) -> CameraConfig:
        """With the password read. Raises ConfigError."""
        values = {f.name: getattr(self, f.name) for f in fields(CameraConfig)}
        values["password"] = secret(f"camera {self.id}: password", self.password_file, self.password_env)
        return CameraConfig(**values)


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """A `[[pipelines]]` table: one model on one camera, and what is decided from it."""

    camera: str
    model: Annotated[str, Limit(len_min=1)]
    name: str = ""
    priority: Priority = Priority.NORMAL
    sample_interval_s: Annotated[float, Limit(ge=0, le=86400)] = 10.0
    local_only: bool = False
    fps_max: Annotated[float, Limit(ge=0, le=240)] = 0.0  # at most so many of the camera's frames a second; 0: all
    classes: Annotated[tuple[str, ...], Limit(len_max=1000)] = ()  # those that count; none: all of the model
    tracker: TrackerSettings = TrackerSettings()
    every_frame: bool = False
    object_events: bool = True
    update_interval_s: float = 2.0
    move_min: float = 0.25
    lines: tuple[LineSettings, ...] = ()
    zones: tuple[ZoneSettings, ...] = ()
    rules: tuple[AlertRuleSettings, ...] = ()
    stage: dict[str, Any] | None = None  # of a platform: `agent/stages/settings.py` judges it

    RENAMED: ClassVar[Mapping[str, str]] = {"inspection": '[pipelines.stage] with kind = "manufacturing.inspection"'}

    @property
    def title(self) -> str:
        """The pipeline's name; the camera's where none is given."""
        return self.name or self.camera

    @property
    def decide(self) -> DecideSettings:
        return DecideSettings(
            self.every_frame,
            self.object_events,
            self.update_interval_s,
            self.move_min,
            self.lines,
            self.zones,
            self.rules,
        )


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The `[log]` table."""

    level: Annotated[str, Limit(pattern="DEBUG|INFO|WARNING|ERROR", means="DEBUG, INFO, WARNING or ERROR")] = "INFO"
    form: LogForm = LogForm.AUTO


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The whole file."""

    node: NodeConfig
    broker: BrokersConfig = BrokersConfig()
    inference: InferSettings = InferSettings()
    cameras: Annotated[tuple[CameraTable, ...], Limit(len_max=64)] = ()
    pipelines: Annotated[tuple[PipelineConfig, ...], Limit(len_max=64)] = ()
    sensors: Annotated[tuple[SensorConfig, ...], Limit(len_max=64)] = ()
    actions: Annotated[tuple[ActionSettings, ...], Limit(len_max=64)] = ()
    alerts: Annotated[tuple[AlertSettings, ...], Limit(len_max=1000)] = ()
    alerting: AlertingSettings = AlertingSettings()
    local_broker: LocalBrokerConfig = LocalBrokerConfig()
    degradation: DegradationSettings = DegradationSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    link: LinkSettings = LinkSettings()
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    sync: SyncPolicy = SyncPolicy()
    results: ResultsSettings = ResultsSettings()
    state: StateSettings = StateSettings()
    workloads: WorkloadSettings = field(default_factory=WorkloadSettings)
    models: NodeModelsTable = NodeModelsTable()
    platforms: dict[str, Any] = field(default_factory=dict)
    log: LogConfig = LogConfig()


def load_config(path: Path) -> AgentConfig:
    """The file at `path`, checked as far as that needs no model and no camera. Raises ConfigError with all mistakes.

    Relative paths in it are relative to its folder.
    """
    config, mistakes = inspect_config(path)
    if mistakes or config is None:
        raise mistakes_error(path, mistakes)
    return config


def inspect_config(path: Path) -> tuple[AgentConfig | None, list[str]]:
    """Every mistake in the file at `path`, and what can be read of it for further checks: None in the place of a
    camera or pipeline too wrong to be read. Raises ConfigError where it is no TOML."""
    config, mistakes = read_what_can_be(AgentConfig, load_table(path))
    if config is None:
        return None, mistakes
    mistakes += [text for text in check(config) if text not in mistakes]
    return _beside_the_file(config, path.resolve().parent), mistakes


def _beside_the_file(config: AgentConfig, folder: Path) -> AgentConfig:
    return replace(
        config,
        node=replace(config.node, data_dir=folder / config.node.data_dir),
        broker=replace(
            _files_beside(folder, config.broker, *BROKER_FILES),
            fallbacks=tuple(b and _files_beside(folder, b, *BROKER_FILES) for b in config.broker.fallbacks),
        ),
        cameras=tuple(
            camera and replace(_files_beside(folder, camera, "password_file"), source=_beside(folder, camera.source))
            for camera in config.cameras
        ),
        local_broker=_files_beside(folder, config.local_broker, *BROKER_FILES),
        actions=tuple(a and _files_beside(folder, a, "token_file", "ca_file") for a in config.actions),
        sensors=tuple(s and sensor_beside(folder, s) for s in config.sensors),
        models=_models_beside(folder, config.models),
        pipelines=tuple(
            pipeline and replace(pipeline, model=str(model_path(folder, pipeline.model)))
            for pipeline in config.pipelines
        ),
    )


def check(config: AgentConfig) -> list[str]:
    """Every mistake that the shape alone does not show."""
    mistakes = []
    if wrong := check_node_name(config.node.id):
        mistakes.append(f"node.id: {wrong}")
    mistakes += [f"inference.{text}" for text in config.inference.mistakes()]
    mistakes += [f"degradation.{text}" for text in config.degradation.mistakes()]
    mistakes += outbox_mistakes(config.outbox)
    mistakes += [f"workloads.{text}" for text in config.workloads.mistakes()]
    mistakes += [f"sync.{text}" for text in policy_mistakes(config.sync)]
    mistakes += config.broker.mistakes()
    cameras = [(i, camera) for i, camera in enumerate(config.cameras) if camera]
    ids = [camera.id for _, camera in cameras]
    for i, camera in cameras:
        where = f"cameras[{i}]"
        mistakes += [f"{where}.{text}" for text in camera.problems()]
        if camera.password:
            mistakes.append(f"{where}.password: secrets do not belong here; use password_file or password_env")
        if wrong_id := NAME.mistake(camera.id):
            mistakes.append(f"{where}.id: {wrong_id}")
        if ids.count(camera.id) > 1:
            mistakes.append(f"{where}.id: {camera.id!r} is given {ids.count(camera.id)} times")
    pipelines = [(i, pipeline) for i, pipeline in enumerate(config.pipelines) if pipeline]
    titles = [pipeline.title for _, pipeline in pipelines]
    for i, pipeline in pipelines:
        where = f"pipelines[{i}]"
        if pipeline.camera not in ids and len(ids) == len(config.cameras):
            known = ", ".join(ids) or "there is none"
            mistakes.append(f"{where}.camera: no camera has the id {pipeline.camera!r} ({known})")
        if titles.count(pipeline.title) > 1:
            mistakes.append(f"{where}.name: {pipeline.title!r} is given {titles.count(pipeline.title)} times")
        mistakes += [f"{where}.tracker.{text}" for text in check_tracker_settings(pipeline.tracker)]
    rules = {rule.name for _, pipeline in pipelines for rule in pipeline.rules if rule}
    actions = [action.name for action in config.actions if action]
    mistakes += alerts_mistakes(config.alerts, config.alerting, rules, actions, ids)
    rules |= {alert.name for alert in config.alerts if alert}
    open_types = bool(config.platforms.get("enabled") or config.platforms.get("folders"))
    mistakes += actions_mistakes(config.actions, ids, rules, open_types=open_types)
    mistakes += evidence_mistakes(config.evidence, ids, rules, open_types=open_types)
    mistakes += sensors_mistakes(config.sensors)
    mistakes += models_mistakes(config.models)
    mistakes += read_platforms(config.platforms, Path())[1]
    return mistakes


def event_mistakes(config: AgentConfig, schemas: Sequence[Schema]) -> list[str]:
    """Events, and fields of them, that actions and evidence name and no platform declares."""
    on = [(f"actions[{i}]", action.on) for i, action in enumerate(config.actions) if action]
    on.append(("evidence", config.evidence.on))
    return [f"{where}.{text}" for where, one in on for text in undeclared(one, schemas)]


def platforms_table(config: AgentConfig, path: Path) -> PlatformsTable:
    """What the configuration at `path`, which has no mistakes, says of platforms."""
    return read_platforms(config.platforms, path.resolve().parent)[0]


def what_is_here(config: AgentConfig) -> Here:
    """What settings of platforms may name. What is too wrong to be read has no id: then nothing is said of names."""
    cameras, sensors = config.cameras, config.sensors
    return Here(
        [camera.id for camera in cameras] if all(cameras) else None,
        [sensor.id for sensor in sensors] if all(sensors) else None,
    )


def _models_beside(folder: Path, table: NodeModelsTable) -> NodeModelsTable:
    keys = {name: text if is_key(text) else str(folder / text) for name, text in table.trusted_keys.items()}
    return replace(
        table,
        dir=folder / table.dir if table.dir else None,
        ca_file=folder / table.ca_file if table.ca_file else None,
        trusted_keys=keys,
    )


def model_path(folder: Path, model: str) -> Path:
    """A bundle's folder: a path, or the bare name of a model that ships with a platform."""
    if "/" not in model and not (folder / model).exists():
        for root in platforms.__path__:
            for found in sorted(Path(root).glob(f"*/models/{model}/bundle.toml")):
                return found.parent
    return folder / model


def _beside(folder: Path, source: str) -> str:
    """A file source relative to the config's folder; addresses and devices stay as they are."""
    if "://" in source or source.startswith(("scene:", "v4l2:", "/")):
        return source
    for prefix in ("file:", "images:"):
        if source.startswith(prefix):
            return prefix + str(folder / source.removeprefix(prefix))
    return str(folder / source)


def _files_beside(folder: Path, table: T, *names: str) -> T:
    """The table with its files, where they are given, relative to the config's folder."""
    given = {name: folder / value for name in names if (value := getattr(table, name)) is not None}
    return replace(table, **given)
