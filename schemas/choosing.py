"""Which variant of a model a node gets, and why not another. Pure, and the same at both sides: a node is its facts.

Facts are what its birth says, flat: `hardware.arch`, `hardware.accelerators`, `resources.memory_mb` and so on.

The first of `PREFERENCE` that the node can run is taken. What a node does not say of itself it does not have: a
model is not sent on a guess.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.bundles import Target
from schemas.release import Release, ReleaseVariant

Fact = str | float | tuple[str, ...]
Facts = Mapping[str, Fact]

PREFERENCE = (Target.EDGETPU, Target.NPU, Target.GPU, Target.CPU)
_ARCH = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64", "armv8l": "arm64"}
_ACCELERATORS = {Target.EDGETPU: ("edgetpu",), Target.NPU: ("npu",), Target.GPU: ("gpu", "nvidia")}
_COUNTS = {Target.NPU: "resources.npu", Target.GPU: "resources.gpu"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a node can run one variant; `why_not` is empty where it can."""

    variant: ReleaseVariant
    why_not: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """The variant for a node, or None, and what was thought of each in the order of preference."""

    variant: ReleaseVariant | None
    verdicts: tuple[Verdict, ...]

    @property
    def why_not(self) -> str:
        """In one line, for a model that the node cannot run."""
        return "; ".join(
            f"{one.variant.target.value}: {', '.join(one.why_not)}" for one in self.verdicts if one.why_not
        )


def choose(release: Release, facts: Facts) -> Choice:
    """What a node with these facts gets."""
    ordered = sorted(release.variants, key=lambda variant: PREFERENCE.index(variant.target))
    verdicts = tuple(Verdict(variant, tuple(_why_not(variant, facts))) for variant in ordered)
    return Choice(next((one.variant for one in verdicts if not one.why_not), None), verdicts)


def who_can(release: Release, nodes: Iterable[Facts]) -> tuple[Counter[str], Counter[str]]:
    """(nodes by the target they get, nodes that can run nothing of it by the reason)."""
    runs: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for facts in nodes:
        choice = choose(release, facts)
        if choice.variant is None:
            reasons[choice.why_not] += 1
        else:
            runs[choice.variant.target.value] += 1
    return runs, reasons


def _why_not(variant: ReleaseVariant, facts: Facts) -> list[str]:
    found = []
    if not _has_hardware(variant.target, facts):
        found.append(f"the node has no {variant.target.value}")
    wanted = variant.requires
    if wanted.arch:
        arch = facts.get("hardware.arch")
        names = ", ".join(wanted.arch)
        if not isinstance(arch, str) or not arch:
            found.append(f"it is for {names}, and the node does not say what it is")
        elif _arch(arch) not in {_arch(one) for one in wanted.arch}:
            found.append(f"it is for {names}, and the node is {arch}")
    for key, unit, least in (("memory_mb", "MB of memory", wanted.memory_mb), ("cores", "cores", wanted.cores)):
        if least:
            found += _short_of(facts.get(f"resources.{key}"), least, unit)
    return found


def _short_of(has: Fact | None, least: float, unit: str) -> list[str]:
    if not isinstance(has, float):
        return [f"it needs {least:g} {unit}, and the node does not say how many it has"]
    return [] if has >= least else [f"it needs {least:g} {unit}, and the node has {has:g}"]


def _has_hardware(target: Target, facts: Mapping[str, Fact]) -> bool:
    if target is Target.CPU:
        return True
    found = facts.get("hardware.accelerators", ())
    if isinstance(found, tuple) and any(one.lower().startswith(_ACCELERATORS[target]) for one in found):
        return True
    count = facts.get(_COUNTS.get(target, ""), 0.0)
    return isinstance(count, float) and count >= 1


def _arch(name: str) -> str:
    return _ARCH.get(name.lower(), name.lower())
