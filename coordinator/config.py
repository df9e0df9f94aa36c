"""The coordinator's configuration, `coordinator.toml`; `deploy/coordinator.toml` comments every key."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from coordinator.evidence.settings import BackendKind, EvidenceTable
from coordinator.fleet.registry import LivenessRules
from coordinator.fleet.settings import FleetTable
from coordinator.ingest.batch import BatchLimits
from coordinator.models.settings import ModelsTable
from coordinator.store.place import Place
from coordinator.store.settings import StoreBackend, StoreTable
from coordinator.store.sql import StoreLimits
from platforms.settings import PlatformsTable, read_platforms
from runtime.config import BrokerConfig, EndpointConfig, load, mistakes_error
from runtime.errors import ConfigError
from runtime.logs import LogForm
from runtime.mqtt import BrokerAddress
from schemas.shape import Limit

BROKERS_MAX = 16
INSTANCE = "[a-z0-9-]{0,32}"


@dataclass(frozen=True, slots=True)
class CoordinatorTable:
    """The `[coordinator]` table."""

    data_dir: Path = Path("/var/lib/edgewright-coordinator")
    instance: Annotated[str, Limit(pattern=INSTANCE, means="at most 32 of a-z 0-9 -")] = ""
    replicas: bool = False  # several coordinators share the store and the brokers
    lease_s: Annotated[float, Limit(ge=1, le=300)] = 15.0  # so long after the leader is gone another leads
    files_dir: Path = Path()  # models and evidence; empty: in data_dir
    batch_messages_max: Annotated[int, Limit(ge=1, le=1000)] = 500
    batch_bytes_max: Annotated[int, Limit(ge=4096, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    batch_pause_ms: Annotated[float, Limit(ge=0, le=1000)] = 50.0
    batch_aim_ms: Annotated[float, Limit(ge=1, le=10_000)] = 40.0
    heartbeat_s: Annotated[float, Limit(ge=1, le=3600)] = 15.0
    heartbeats_missed_max: Annotated[int, Limit(ge=1, le=100)] = 3
    will_hold_s: Annotated[float, Limit(ge=0, le=600)] = 3.0
    refused_rows_max: Annotated[int, Limit(ge=1, le=1_000_000)] = 10_000
    refused_bytes_max: Annotated[int, Limit(ge=4096, le=2**40)] = 64 * 1024 * 1024

    @property
    def batch_limits(self) -> BatchLimits:
        return BatchLimits(self.batch_messages_max, self.batch_bytes_max, self.batch_pause_ms, self.batch_aim_ms)

    @property
    def liveness(self) -> LivenessRules:
        return LivenessRules(
            round(self.heartbeat_s * 1000), self.heartbeats_missed_max, round(self.will_hold_s * 1000)
        )

    @property
    def files(self) -> Path:
        """The folder of models and evidence that are kept on disk."""
        return self.files_dir if self.has_files_dir else self.data_dir

    @property
    def has_files_dir(self) -> bool:
        return self.files_dir != Path()

    @property
    def client_id(self) -> str:
        return f"coordinator-{self.instance}" if self.instance else "coordinator"


@dataclass(frozen=True, slots=True)
class StateTable:
    """The `[state]` table: platform state."""

    rows_max: Annotated[int, Limit(ge=100, le=10_000_000)] = 100_000  # of a collection: keys times their writers


@dataclass(frozen=True, slots=True)
class LogTable:
    """The `[log]` table."""

    level: Annotated[str, Limit(pattern="DEBUG|INFO|WARNING|ERROR", means="DEBUG, INFO, WARNING or ERROR")] = "INFO"
    form: LogForm = LogForm.AUTO


@dataclass(frozen=True, slots=True)
class NamedBroker(EndpointConfig):
    """One of the `[[brokers]]` tables."""

    name: Annotated[str, Limit(pattern="[a-z0-9][a-z0-9-]{0,31}", means="1 to 32 of a-z 0-9 -")] = "broker"


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """The whole file. `[broker]` is the short form of one broker; with `brokers` only its `topic_root` counts."""

    coordinator: CoordinatorTable = CoordinatorTable()
    store: StoreTable = StoreTable()
    broker: BrokerConfig = BrokerConfig()
    brokers: tuple[NamedBroker, ...] = ()
    fleet: FleetTable = FleetTable()
    evidence: EvidenceTable = EvidenceTable()
    state: StateTable = StateTable()
    models: ModelsTable = ModelsTable()
    platforms: dict[str, Any] = field(default_factory=dict)
    log: LogTable = LogTable()

    @property
    def topic_root(self) -> str:
        """Of all brokers."""
        return self.broker.topic_root

    def address(self) -> BrokerAddress:
        """Of the first broker: what is said to the coordinator may be said at any. Raises ConfigError."""
        place, first = self.named_brokers()[0]
        return first.address(place)

    def named_brokers(self) -> list[tuple[str, NamedBroker]]:
        """Each with its place in the file, one at least."""
        if self.brokers:
            return [(f"brokers[{i}]", one) for i, one in enumerate(self.brokers)]
        found = self.broker
        only = NamedBroker(
            found.host, found.port, found.username, found.password_file, found.password_env, found.tls, found.ca_file,
            found.cert_file, found.key_file, found.keepalive_s,
        )  # fmt: skip
        return [("broker", only)]

    @property
    def place(self) -> Place:
        """Where the store is. Raises ConfigError."""
        return self.store.place(self.coordinator.data_dir)

    @property
    def store_limits(self) -> StoreLimits:
        return StoreLimits(self.coordinator.refused_rows_max, self.coordinator.refused_bytes_max, self.state.rows_max)


def load_config(path: Path, instance: str = "") -> CoordinatorConfig:
    """The file at `path`; a relative `data_dir` is relative to its folder. Raises ConfigError with all mistakes.

    `instance` stands in for that of the file, so that several coordinators can have one.
    """
    config = load(CoordinatorConfig, path)
    if instance:
        if re.fullmatch(INSTANCE, instance) is None:
            raise ConfigError(f"--instance: {instance[:60]!r} must be at most 32 of a-z 0-9 -")
        config = replace(config, coordinator=replace(config.coordinator, instance=instance))
    folder = path.resolve().parent
    table = replace(config.coordinator, data_dir=folder / config.coordinator.data_dir)
    if table.has_files_dir:
        table = replace(table, files_dir=folder / table.files_dir)
    store = config.store.beside(folder)
    mistakes = _mistakes(table, config) + store.mistakes()
    mistakes += config.fleet.mistakes() + config.evidence.mistakes()
    if config.models.backend is BackendKind.S3 and config.evidence.backend is not BackendKind.S3:
        mistakes += replace(config.evidence, backend=BackendKind.S3).mistakes()  # it is the same bucket
    mistakes += read_platforms(config.platforms, folder)[1]
    models, wrong = config.models.resolved(folder)
    mistakes += wrong
    if mistakes:
        raise mistakes_error(path, mistakes)
    evidence = _beside(folder, config.evidence)
    return replace(config, coordinator=table, store=store, evidence=evidence, models=models)


def platforms_table(config: CoordinatorConfig, path: Path) -> PlatformsTable:
    """What the configuration at `path` says of platforms."""
    return read_platforms(config.platforms, path.resolve().parent)[0]


def _beside(folder: Path, table: EvidenceTable) -> EvidenceTable:
    names = ("s3_ca_file", "s3_access_key_file", "s3_secret_key_file")
    return replace(table, **{name: folder / file for name in names if (file := getattr(table, name)) is not None})


def _mistakes(table: CoordinatorTable, config: CoordinatorConfig) -> list[str]:
    """What the shape alone does not show."""
    mistakes = []
    if table.data_dir.exists() and not table.data_dir.is_dir():
        mistakes.append(f"coordinator.data_dir: {table.data_dir} is no folder")
    mistakes += _mistakes_of_replicas(table, config) if table.replicas else []
    for place, broker in config.named_brokers():
        if broker.password_file is not None and broker.password_env:
            mistakes.append(f"{place}: password_file and password_env are both given; one is enough")
        if (broker.cert_file is None) != (broker.key_file is None):
            mistakes.append(f"{place}: cert_file and key_file belong together")
        try:
            broker.address(place)
        except ConfigError as error:
            mistakes.append(str(error))
    return mistakes + _mistakes_of_brokers(config)


def _mistakes_of_replicas(table: CoordinatorTable, config: CoordinatorConfig) -> list[str]:
    """What several coordinators need, so that any of them can lead."""
    mistakes = []
    if config.store.backend is not StoreBackend.POSTGRES:
        mistakes.append('coordinator.replicas: several share a database: set store.backend = "postgres"')
    if not table.instance:
        mistakes.append("coordinator.instance: is needed with replicas: a name that no other of them has")
    on_disk = [("models", config.models.backend)]
    on_disk += [("evidence", config.evidence.backend)] if config.evidence.enabled else []
    names = [name for name, backend in on_disk if backend is BackendKind.DISK]
    if names and not table.has_files_dir:
        what = " and ".join(f"{name}.backend" for name in names)
        mistakes.append(
            f"coordinator.files_dir: is needed with replicas while {what} is disk: a folder that all of them share"
        )
    return mistakes


def _mistakes_of_brokers(config: CoordinatorConfig) -> list[str]:
    """What several brokers must not have in common."""
    mistakes = []
    if config.brokers and replace(config.broker, topic_root="") != replace(BrokerConfig(), topic_root=""):
        mistakes.append("broker: with [[brokers]] only its topic_root counts; put the rest into one of them")
    if len(config.brokers) > BROKERS_MAX:
        mistakes.append(f"brokers: {len(config.brokers)}; at most {BROKERS_MAX}")
    for key, what in (("name", "name"), ("where", "address")):
        seen: dict[object, int] = {}
        for i, one in enumerate(config.brokers):
            value = one.name if key == "name" else (one.host, one.port)
            if value in seen:
                mistakes.append(f"brokers[{i}]: has the {what} of brokers[{seen[value]}]")
            seen.setdefault(value, i)
    return mistakes
