"""A workload as an operator declares it: what is to run, how often, where, and how it may grow. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any

from coordinator.fleet.facts import FIXED, PREFIXES, fact_name
from coordinator.fleet.selector import Both, Compare, Has, In, Node, Not, Selector
from coordinator.fleet.selector_text import TEXT_CHARS_MAX, SelectorError, parse
from coordinator.rollout.plan import HOUR_S, WAVES_MAX, OnFailure, Plan, plan_mistakes
from schemas.shape import Limit, ShapeError, fields_of, read
from schemas.workloads import (
    PRIORITY,
    PRIORITY_MAX,
    PRIORITY_MIN,
    ContainerSpec,
    FunctionSpec,
    Name,
    PipelineSpec,
    ResourceRequirements,
    Restart,
    WorkloadSpec,
    WorkloadType,
    parse_workload,
    plain,
)

WORKLOADS_MAX = 1000  # of a fleet; each keeps a byte a node
REPLICAS_MAX = 100_000
EVERYWHERE = -1
"""As a number of replicas: one on every node that is meant."""
REASON_CHARS_MAX = 300
DAY_S = 24 * HOUR_S
ARCHITECTURES = {"x86_64": ("x86_64", "amd64", "x64"), "arm64": ("arm64", "aarch64", "armv8l")}
CONTAINERS = "hardware.containers"  # what runs them on a node; "" for nothing
# By what a node says that it has: the device files of its host, and how many there are.
ACCELERATORS = {
    "gpu": (("gpu", "nvidia"), "resources.gpu"),
    "npu": (("npu",), "resources.npu"),
    "tpu": (("edgetpu", "edgetpu-pcie", "edgetpu-usb"), "resources.tpu"),
}
_SPEC = frozenset(one.name for one in fields(WorkloadSpec)) - {"generation"}
_WATCHED = frozenset({"state", "liveness", "boot"})


class Metric(StrEnum):
    """What a rule on load goes by: the mean over the nodes that it runs on, of their newest heartbeats."""

    CPU_PERCENT = "cpu_percent"  # of all cores of a node
    TEMPERATURE_C = "temperature_c"
    LOOP_STALL_MS_P99 = "loop_stall_ms_p99"
    OUTBOX_PENDING = "outbox_pending"  # rows, all lanes together
    FPS = "fps"  # the least of the node's pipelines
    INFER_MS_P99 = "infer_ms_p99"  # the greatest of the node's pipelines
    DECIDE_MS_P99 = "decide_ms_p99"  # the greatest of the node's pipelines


@dataclass(frozen=True, slots=True)
class Spread:
    """How replicas are kept apart. `max`: at most so many with one value; `even`: where there are fewest first."""

    by: Annotated[str, Limit(len_min=1, len_max=200)] = "site"  # site, or a label
    max: Annotated[int, Limit(ge=1, le=REPLICAS_MAX)] | None = None
    even: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """More replicas while the mean of `on` is above, fewer while it is below; one at a time."""

    on: Metric
    max: Annotated[int, Limit(ge=1, le=REPLICAS_MAX)]
    above: float
    below: float
    min: Annotated[int, Limit(ge=1, le=REPLICAS_MAX)] = 1
    for_s: Annotated[float, Limit(ge=0, le=DAY_S)] = 60.0  # without a break
    cooldown_s: Annotated[float, Limit(ge=0, le=DAY_S)] = 300.0  # after each step


@dataclass(frozen=True, slots=True)
class UpdateRules:
    """How another spec reaches the nodes: a roll-out (docs/rollouts.md)."""

    waves: Annotated[tuple[str, ...], Limit(len_min=1, len_max=WAVES_MAX)] = ("1", "25%", "100%")
    bake_s: Annotated[float, Limit(ge=0, le=7 * DAY_S)] = 0.0
    budget: Annotated[float, Limit(ge=0, le=1)] = 0.05
    sample_min: Annotated[int, Limit(ge=1, le=1_000_000)] = 10
    rate_per_s: Annotated[float, Limit(gt=0, le=100_000)] = 50.0
    accept_s: Annotated[float, Limit(gt=0, le=DAY_S)] = 60.0
    verify_s: Annotated[float, Limit(gt=0, le=DAY_S)] = 300.0
    on_failure: OnFailure = OnFailure.ROLLBACK


@dataclass(frozen=True, slots=True)
class Workload:
    """The arguments of `applyWorkload`. `read_workload` says what is wrong with them, all of it."""

    name: Name
    type: WorkloadType
    replicas: Any = 1  # a number, or "all": on every node that is meant
    selector: Annotated[str, Limit(len_max=TEXT_CHARS_MAX)] = "all"
    hardware: Annotated[tuple[str, ...], Limit(len_max=10)] = ()
    resources: ResourceRequirements = ResourceRequirements()
    env: dict[str, str] = field(default_factory=dict)
    priority: Annotated[int, Limit(ge=PRIORITY_MIN, le=PRIORITY_MAX)] = PRIORITY
    restart: Restart = Restart.ALWAYS
    sticky: bool = False  # goes back to the node where it was, when that is back
    start_s: Annotated[float, Limit(ge=1, le=DAY_S)] = 600.0  # until it runs; else it has failed there
    spread: Spread | None = None
    scale: Scale | None = None
    update: UpdateRules = UpdateRules()
    pipeline: PipelineSpec | None = None
    function: FunctionSpec | None = None
    container: ContainerSpec | None = None
    exists: bool = False  # refused where it is not declared yet
    source: Annotated[str, Limit(len_max=200)] = ""

    @property
    def count(self) -> int:
        """How many replicas, or EVERYWHERE."""
        return EVERYWHERE if self.replicas == "all" else int(self.replicas)

    @property
    def path(self) -> str:
        """The field of a node's document that says that it runs there."""
        return spec_path(self.name)

    def spec(self, generation: int) -> dict[str, Any]:
        """What the nodes that run it are told."""
        given = {key: value for key, value in fields_of(self).items() if key in _SPEC and value is not None}
        return plain(parse_workload({**given, "generation": generation}))

    def same_spec(self, other: "Workload") -> bool:
        """Nodes would run the same."""
        return self.spec(1) == other.spec(1)


def spec_path(name: str) -> str:
    return f"workloads.{name}.spec"


def state_path(name: str) -> str:
    return f"workloads.{name}.state"


def read_workload(raw: Mapping[str, Any]) -> Workload:
    """From a file's table or the arguments of a call. Raises ShapeError with every mistake."""
    given = dict(raw)
    if isinstance(given.get("type"), str):
        given["type"] = given["type"].lower()
    workload = read(Workload, given, strict=True)
    if mistakes := workload_mistakes(workload):
        raise ShapeError(mistakes)
    return workload


def declared(workload: Workload) -> dict[str, Any]:
    """As it is kept: `read_workload` reads it back. Who applied it is not part of it."""
    return {key: value for key, value in fields_of(workload).items() if key not in ("exists", "source")}


def workload_mistakes(workload: Workload) -> list[str]:
    """What the shape alone does not show."""
    found = []
    replicas = workload.replicas
    is_count = type(replicas) is int and 0 <= replicas <= REPLICAS_MAX
    if not is_count and replicas != "all":
        found.append(f'replicas: {str(replicas)[:40]!r} must be a number from 0 to {REPLICAS_MAX}, or "all"')
    try:
        found += [f"update.{text}" for text in plan_mistakes(update_plan(workload, 1))]
    except ShapeError as error:
        found += error.mistakes
    found += _selector_mistakes(workload.selector)
    for word in workload.hardware:
        if word not in ARCHITECTURES and word not in ACCELERATORS:
            found.append(f"hardware: {word[:40]!r} must be one of {', '.join([*ARCHITECTURES, *ACCELERATORS])}")
    if workload.spread is not None:
        found += _spread_mistakes(workload.spread, everywhere=replicas == "all")
    if workload.scale is not None:
        found += _scale_mistakes(workload.scale, everywhere=replicas == "all")
    return found


def update_plan(workload: Workload, generation: int, source: str = "", key: str = "") -> Plan:
    """The roll-out that brings its spec to the nodes where it runs. Raises ShapeError for a spec that is none."""
    rules = {one.name: getattr(workload.update, one.name) for one in fields(UpdateRules)}
    spec = {workload.path: workload.spec(generation)}
    return Plan(f"workload = {workload.name}", spec, id=key, source=source, **rules)


def _selector_mistakes(text: str) -> Iterator[str]:
    if not text.strip():
        yield "selector: it is empty; write all where every node is meant"
        return
    try:
        selector = parse(text)
    except SelectorError as error:
        yield f"selector: {error}"
        return
    if watched := sorted(selector.keys & _WATCHED):
        yield f"selector: {', '.join(watched)} changes by itself; the scheduler looks at who is there"
    if wrong := contradiction(selector.tree):
        yield f"selector: {wrong}: no node can be both"


def contradiction(tree: Node) -> str:
    """Two parts of an `and` that exclude each other, such as two sites at once; "" where none are seen."""
    if isinstance(tree, Both) and not tree.any:
        wanted: dict[str, tuple[set[str], str]] = {}
        for part in tree.parts:
            match part:
                case Compare(key, "=", value):
                    values = {value}
                case In(key, listed, False):
                    values = set(listed)
                case _:
                    if inner := contradiction(part):
                        return inner
                    continue
            known, text = wanted.get(fact_name(key), (values, str(part)))
            if (
                fact_name(key) not in ("platform", "function", "camera", "hardware.accelerators")
                and not known & values
            ):
                return f"{text} and {part}"
            wanted[fact_name(key)] = (known & values, text)
    return ""


def _spread_mistakes(spread: Spread, *, everywhere: bool) -> Iterator[str]:
    if everywhere:
        yield 'spread: with replicas = "all" there is nothing to choose'
    name = fact_name(spread.by)
    if spread.by != "site" and (spread.by in FIXED or (name.startswith(PREFIXES) and not name.startswith("label."))):
        yield f"spread.by: {spread.by[:40]!r} must be site or a label"
    if spread.max is None and not spread.even:
        yield "spread: give max, or even = true"


def _scale_mistakes(scale: Scale, *, everywhere: bool) -> Iterator[str]:
    if everywhere:
        yield 'scale: with replicas = "all" there is nothing to count'
    if scale.min > scale.max:
        yield f"scale.min: {scale.min} is more than max = {scale.max}"
    if scale.below >= scale.above:
        yield f"scale.below: {scale.below:g} must be less than above = {scale.above:g}, or it would swing for ever"


# ---- which nodes can have it -------------------------------------------------------------------


def selector_of(workload: Workload) -> Selector:
    """The operator's selector and what the workload itself asks for: hardware, camera, function, containers."""
    own = parse(workload.selector)
    parts = [own.tree, *_hardware(workload)]
    if workload.pipeline is not None:
        parts.append(Has("camera", workload.pipeline.camera))
    if workload.function is not None:
        parts.append(Has("function", workload.function.name))
    if workload.container is not None:
        parts.append(Not(Compare(CONTAINERS, "=", "")))  # an older node does not say: it is tried
    return own if len(parts) == 1 else Selector.of(workload.selector, Both(tuple(parts)))


def _hardware(workload: Workload) -> Iterator[Node]:
    """Of several architectures one is enough; of accelerators all are needed."""
    if archs := [name for word in workload.hardware for name in ARCHITECTURES.get(word, ())]:
        yield In("hardware.arch", tuple(archs))
    for word in workload.hardware:
        if word in ACCELERATORS:
            names, counted = ACCELERATORS[word]
            listed = tuple(Has("hardware.accelerators", name) for name in names)
            yield Both((*listed, Compare(counted, ">=", "1")), any=True)
    for name in workload.resources.accelerators:
        yield Has("hardware.accelerators", name)
