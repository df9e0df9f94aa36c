"""Where a model that a workload names lies on this node."""

from collections.abc import Callable, Mapping
from pathlib import Path

from agent.config import model_path
from agent.workloads.errors import NotNowError

FindModel = Callable[[str], str]
"""The folder of the bundle for a reference. Raises NotNowError where there is none yet."""


def finder(configured: Mapping[str, str], folder: Path, in_cache: Callable[[str], str | None]) -> FindModel:
    """`configured`: the folders of the models of this node's pipelines, by name; `folder`: where others may lie;
    `in_cache`: where a release of the registry does.

    A reference is `name@version` of the registry, the name of a model that a pipeline here is configured with or that
    a platform brings, or the name or path of a bundle, relative to `folder`.
    """

    def find_model(reference: str) -> str:
        if (cached := in_cache(reference)) is not None:
            return cached
        if reference in configured:
            return configured[reference]
        found = model_path(folder, reference)
        if not (found / "bundle.toml").exists():
            known = ", ".join(sorted(configured)) or "none is configured"
            raise NotNowError(f"model {reference} is not on this node ({known})")
        return str(found)

    return find_model
