"""What of a release this node needs, and what its keeping costs. Pure.

The manifest, the labels, the golden frames, the variant for this node (schemas/choosing.py), and beside an
accelerator's the CPU's, if the node can run it: the last rung when the accelerator is lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.bundles import Target
from schemas.choosing import Facts, choose
from schemas.messages import Birth
from schemas.release import Release, ReleaseFile, ReleaseVariant, Role

_ALWAYS = frozenset({Role.MANIFEST, Role.LABELS, Role.GOLDEN})


@dataclass(frozen=True, slots=True)
class Needed:
    """The files, each once by its content, and the variant they are for. Without one: `why_not`."""

    variant: ReleaseVariant | None
    files: tuple[ReleaseFile, ...] = ()
    why_not: str = ""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes by SHA-256."""
        return {file.sha256: file.bytes for file in self.files}


def needed(release: Release, facts: Facts) -> Needed:
    """What a node with these facts needs of a release."""
    choice = choose(release, facts)
    if choice.variant is None:
        return Needed(None, why_not=f"no variant of {release.reference} runs here: {choice.why_not}")
    can_run = {one.variant.target for one in choice.verdicts if not one.why_not}
    targets = {choice.variant.target} | ({Target.CPU} & can_run)
    models = {variant.file for variant in release.variants if variant.target in targets}
    files = tuple(file for file in release.files if file.role in _ALWAYS or file.path in models)
    return Needed(choice.variant, files)


def facts_of(birth: Birth) -> Facts:
    """What choosing a variant asks for of a node."""
    accelerators = birth.hardware.get("accelerators", ())
    found: dict[str, str | float | tuple[str, ...]] = {
        "hardware.arch": str(birth.hardware.get("arch", "")),
        "hardware.accelerators": tuple(str(one) for one in accelerators) if isinstance(accelerators, list) else (),
    }
    return found | {f"resources.{key}": float(value) for key, value in birth.resources.items()}
