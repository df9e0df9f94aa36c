"""`deployModel`, as core declares it: a model to nodes by name, by their labels, or by their sites."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from coordinator.fleet.facts import LazyFacts
from coordinator.fleet.registry import Fleet, Node
from coordinator.models.channels import Deployable
from coordinator.rollout.plan import REASON_CHARS_MAX, Plan
from coordinator.rollout.rollouts import Rollouts
from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Served, plain
from schemas.bundles import NAME_PATTERN
from schemas.shape import Limit

Text = Annotated[str, Limit(len_max=200)]
NAMED_MAX = 10


@dataclass(frozen=True, slots=True)
class AiModel:
    """The model that is meant: `model_id` is its name in the registry, `version` a version or a channel."""

    model_id: Annotated[str, Limit(pattern=NAME_PATTERN)]
    name: Text = ""  # for people
    version: Text = ""
    size_mb: float = 0.0
    hardware_requirements: dict[str, Any] = field(default_factory=dict)  # what counts is what the release requires
    sha256: str | None = None  # of the release's document, or of one of its variants


@dataclass(frozen=True, slots=True)
class NodeSelector:
    """Which nodes: those named, or those that bear all labels, at one of the sites; both where both are said."""

    ids: Annotated[tuple[str, ...], Limit(len_max=10_000)] = ()
    labels: dict[str, str] = field(default_factory=dict)
    sites: Annotated[tuple[str, ...], Limit(len_max=1000)] = ()

    @property
    def text(self) -> str:
        """For people."""
        parts = [f"{len(self.ids)} nodes by name"] if self.ids else []
        wanted = [f"{key} = {value}" for key, value in self.labels.items()]
        wanted += [f"site in ({', '.join(self.sites)})"] if self.sites else []
        return " or ".join([*parts, ", ".join(wanted)] if wanted else parts)[:REASON_CHARS_MAX]

    def means(self, node: Node) -> bool:
        """By labels and sites alone."""
        if not self.labels and not self.sites:
            return False
        facts = LazyFacts(node)
        has_labels = all(facts.get(f"label.{key}") == value for key, value in self.labels.items())
        return has_labels and (not self.sites or node.site in self.sites)


@dataclass(frozen=True, slots=True)
class DeployModel:
    """The arguments of `deployModel`."""

    model: AiModel
    target_nodes: NodeSelector


class Deploying:
    """One coordinator's."""

    def __init__(self, rollouts: Rollouts, fleet: Fleet) -> None:
        self._rollouts = rollouts
        self._fleet = fleet

    def function(self) -> Served:
        return plain("deployModel", DeployModel, self.deploy)

    async def deploy(self, asked: DeployModel) -> str:
        """Begins the roll-out, and says its id. Raises CallRejectedError with every reason."""
        model, target = asked.model, asked.target_nodes
        if not (target.ids or target.labels or target.sites):
            text = "target_nodes: name ids, labels or sites; for all nodes: edgectl deploy --select all"
            raise CallRejectedError("bad_arguments", text, "target_nodes")
        unknown = sorted({name for name in target.ids if name not in self._fleet.nodes})
        if unknown:
            more = f" and {len(unknown) - NAMED_MAX} more" if len(unknown) > NAMED_MAX else ""
            text = f"target_nodes.ids: not registered: {', '.join(unknown[:NAMED_MAX])}{more}"
            raise CallRejectedError("unknown_node", text, "target_nodes")
        names = {*target.ids, *(node.name for node in self._fleet.nodes.values() if target.means(node))}
        wanted = f"{model.model_id}@{model.version}" if model.version else model.model_id
        plan = Plan(target.text, model=wanted, source="deployModel")
        begun = await self._rollouts.start(plan, names=sorted(names), is_meant=lambda found: _mistake(model, found))
        return str(begun["id"])


def _mistake(model: AiModel, found: Deployable) -> str:
    """Why this release is not the one that is meant."""
    release, digest = found.release, found.digest
    if not model.sha256 or model.sha256.lower() in {digest, *(one.sha256 for one in release.variants)}:
        return ""
    return f"{release.reference} has the digest {digest}, and no file with the hash {model.sha256}"
