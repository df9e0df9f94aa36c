"""What a run is to be: a TOML file, flags over it, all mistakes in one go. `deploy/simulate.toml` has every key."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from coordinator.simulate.faults import Fault, parse_fault, plan
from runtime.config import ROOT, load_table, mistakes_error
from runtime.errors import ConfigError
from schemas.bundles import NAME_PATTERN
from schemas.shape import Limit, ShapeError, read
from schemas.topics import check_node_name
from schemas.versions import VersionError, parse_reference

NODES_PER_PROCESS_MAX = 19_000  # a process may often open 20,000 files
SOURCES_MAX = 1_000
PIPELINES_MAX = 20
Share = Annotated[float, Limit(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class FleetTable:
    """The `[fleet]` table: who is there, and what they do while nothing happens."""

    nodes: Annotated[int, Limit(ge=1, le=1_000_000)] = 200
    sites: Annotated[int, Limit(ge=1, le=100_000)] = 10
    prefix: str = "sim"  # nodes are <prefix>-00001 and so on
    seed: int = 1
    heartbeat_s: Annotated[float, Limit(ge=1, le=3600)] = 15.0
    keepalive_s: Annotated[int, Limit(ge=5, le=3600)] = 20


@dataclass(frozen=True, slots=True)
class LoadTable:
    """The `[load]` table: what happens at each node."""

    events_per_node: Annotated[float, Limit(ge=0, le=1000)] = 0.1  # a second
    alerts: Share = 0.02  # of them are alerts, in a lane of their own
    resend_after_s: Annotated[float, Limit(ge=1, le=3600)] = 15.0
    outbox_rows_max: Annotated[int, Limit(ge=1, le=1_000_000)] = 1000
    rows_under_way_max: Annotated[int, Limit(ge=1, le=65_535)] = 20  # or what the broker's receive maximum allows


@dataclass(frozen=True, slots=True)
class DesiredTable:
    """The `[desired]` table: what nodes make of a desired document."""

    delay_s: Annotated[float, Limit(ge=0, le=3600)] = 1.0
    failing: Share = 0.0  # these nodes refuse every field
    silent: Share = 0.0  # these never report


@dataclass(frozen=True, slots=True)
class WorkloadsTable:
    """The `[workloads]` table: what nodes make of workloads that are placed on them."""

    start_s: Annotated[float, Limit(ge=0, le=3600)] = 2.0
    failing: Share = 0.0  # of all starts
    containers: Share = 1.0  # of nodes that run containers, and say so


@dataclass(frozen=True, slots=True)
class ModelsTable:
    """The `[models]` table: which pipelines nodes have, and what they make of models that are deployed to them."""

    pipelines: Annotated[tuple[str, ...], Limit(len_max=PIPELINES_MAX)] = ()  # PIPELINE=NAME@VERSION, as configured
    share: Share = 1.0  # of nodes that have them; the others have none
    fetch_s: Annotated[float, Limit(ge=0, le=86_400)] = 5.0  # until a release is there
    activate_s: Annotated[float, Limit(ge=0, le=3600)] = 2.0  # from then until a pipeline runs it
    fetch_failing: Share = 0.0  # these nodes cannot fetch
    failing: Share = 0.0  # these fetch, and refuse to run it
    silent: Share = 0.0  # these say nothing more once they are told of a model
    flapping: Share = 0.0  # these come and go for a minute whenever they are told of a release


@dataclass(frozen=True, slots=True)
class RunTable:
    """The `[run]` table: where, for how long, with what."""

    brokers: tuple[str, ...] = ("127.0.0.1:1883",)
    topic_root: Annotated[str, ROOT] = "edge/v1"
    password_env: str = ""  # unset: anonymous; set: the user name is the node's, the password that of all
    for_s: Annotated[float, Limit(gt=0, le=30 * 86_400)] = 60.0
    drain_s: Annotated[float, Limit(ge=0, le=3600)] = 30.0  # then no events, until every row has its answer
    processes: Annotated[int, Limit(ge=1, le=256)] = 1
    nice: Annotated[int, Limit(ge=0, le=19)] = 0  # of the processes: how far they give way to what is measured
    connects_per_s: Annotated[float, Limit(gt=0, le=100_000)] = 1000.0  # new connections, all processes together
    sources: tuple[str, ...] = ()  # addresses to connect from; to a loopback broker 127.0.0.x by themselves


@dataclass(frozen=True, slots=True)
class Scenario:
    """The whole file."""

    fleet: FleetTable = FleetTable()
    load: LoadTable = LoadTable()
    desired: DesiredTable = DesiredTable()
    workloads: WorkloadsTable = WorkloadsTable()
    models: ModelsTable = ModelsTable()
    run: RunTable = RunTable()
    faults: tuple[str, ...] = ()

    @property
    def parsed_faults(self) -> list[Fault]:
        return [parse_fault(text) for text in self.faults]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [address(text) for text in self.run.brokers]

    def node(self, number: int) -> str:
        """The name of node `number`, from 0."""
        return f"{self.fleet.prefix}-{number + 1:05d}"


def address(text: str) -> tuple[str, int]:
    """`host:port`; 1883 where no port is given. Raises ValueError."""
    host, colon, port_text = text.rpartition(":")
    if not colon:
        host, port_text = text, "1883"
    if not host or not port_text.isascii() or not port_text.isdigit() or not 0 < int(port_text) < 65_536:
        raise ValueError(f"{text[:80]!r} is no broker; write one like 127.0.0.1:1883")
    return host.strip("[]"), int(port_text)


def load_scenario(path: Path | None, flags: dict[str, dict[str, Any]], faults: list[str]) -> Scenario:
    """The file, with flags in its tables' place, and more faults. Raises ConfigError with all mistakes."""
    table = load_table(path) if path else {}
    where = path or Path("the command line")
    for name, values in flags.items():
        if isinstance(table.setdefault(name, {}), dict):
            table[name].update(values)
    if faults:
        table["faults"] = [*(table.get("faults") or []), *faults]
    try:
        scenario = read(Scenario, table, strict=True)
    except ShapeError as error:
        raise mistakes_error(where, error.mistakes) from error
    mistakes = scenario_mistakes(scenario)
    if mistakes:
        raise mistakes_error(where, mistakes)
    return scenario


def scenario_mistakes(scenario: Scenario) -> list[str]:
    """What the shape alone does not show."""
    found = []
    fleet, run = scenario.fleet, scenario.run
    if wrong := check_node_name(scenario.node(fleet.nodes - 1)):
        found.append(f"fleet.prefix: {wrong}")
    if not run.brokers:
        found.append("run.brokers: name one at least")
    for text in run.brokers:
        try:
            address(text)
        except ValueError as error:
            found.append(f"run.brokers: {error}")
    for text in scenario.faults:
        try:
            parse_fault(text)
        except ValueError as error:
            found.append(f"faults: {error}")
    if fleet.nodes > run.processes * NODES_PER_PROCESS_MAX:
        needed = -(-fleet.nodes // NODES_PER_PROCESS_MAX)
        found.append(f"run.processes: {run.processes} hold {NODES_PER_PROCESS_MAX} nodes each; give {needed} or more")
    if scenario.desired.failing + scenario.desired.silent > 1:
        found.append("desired.failing and desired.silent: they are shares of the same nodes, at most 1 together")
    found += _models_mistakes(scenario.models)
    if len(run.sources) > SOURCES_MAX:
        found.append(f"run.sources: {len(run.sources)} addresses; at most {SOURCES_MAX} can be used")
    if not found:
        try:
            plan(scenario.parsed_faults, fleet.nodes, run.for_s, fleet.seed)
        except ValueError as error:
            found.append(f"faults: {error}")
    return found


def _models_mistakes(table: ModelsTable) -> list[str]:
    found, titles = [], set()
    for text in table.pipelines:
        title, equals, model = text.partition("=")
        try:
            name, version = parse_reference(model)
        except VersionError as error:
            found.append(f"models.pipelines: {error}")
            continue
        if not equals or not version or not all(re.fullmatch(NAME_PATTERN, one) for one in (title, name)):
            found.append(f"models.pipelines: {text[:80]!r} must be like door=finder@1.0.0")
        if title in titles:
            found.append(f"models.pipelines: {title} stands twice")
        titles.add(title)
    if table.fetch_failing + table.failing + table.silent + table.flapping > 1:
        found.append("models: fetch_failing, failing, silent and flapping are shares of the same nodes, 1 together")
    return found


def with_processes(scenario: Scenario, processes: int) -> Scenario:
    return replace(scenario, run=replace(scenario.run, processes=processes))


def password_of(scenario: Scenario, environ: dict[str, str]) -> bytes | None:
    """Raises ConfigError where the environment does not have it."""
    name = scenario.run.password_env
    if not name:
        return None
    if not environ.get(name):
        raise ConfigError(f"run.password_env: the environment has no {name}, or it is empty")
    return environ[name].encode()
