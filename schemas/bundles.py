"""What `bundle.toml` says of a model: the shape that the agent and the model registry share.

The agent reads the tables `input`, `output` and `thresholds` itself (agent/infer/bundle.py). What only the registry
needs, `requires`, `declared` and `lineage`, changes nothing in how a model runs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any

from schemas.shape import Limit, ShapeError, read

MANIFEST = "bundle.toml"
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME_MEANS = "at most 64 letters, digits, dots, dashes and underscores, a letter or digit first"
LABELS_MAX = 100_000
VARIANTS_MAX = 16
FIGURES_MAX = 50  # of one kind

REGISTRY_KEYS = ("declared", "lineage")
"""Keys of the manifest that are for the registry alone."""
VARIANT_REGISTRY_KEYS = ("requires", "declared")

Digest = Annotated[str, Limit(pattern="[0-9a-f]{64}", means="64 hex digits, lower case")]
Text = Annotated[str, Limit(len_max=2000)]
Word = Annotated[str, Limit(pattern=r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}", means="1 to 64 plain characters")]
Figure = Annotated[float, Limit(ge=0, lt=1e12)]


class Target(StrEnum):
    """The hardware a model file is made for."""

    CPU = "cpu"
    EDGETPU = "edgetpu"  # compiled for the Edge TPU; no CPU can run it
    GPU = "gpu"
    NPU = "npu"


@dataclass(frozen=True, slots=True)
class Requires:
    """What a node must have beside the hardware of the target."""

    arch: Annotated[tuple[Word, ...], Limit(len_max=8)] = ()  # any of these; empty: any at all
    memory_mb: Figure = 0.0
    cores: Figure = 0.0


@dataclass(frozen=True, slots=True)
class Declared:
    """What whoever made the model says of it. Accuracies by their metric, latencies by the hardware measured on."""

    accuracy: dict[str, Figure] = field(default_factory=dict)  # map50 = 0.61
    latency_ms: dict[str, Figure] = field(default_factory=dict)  # "raspberry-pi-5" = 38.5

    def mistakes(self, where: str) -> list[str]:
        found = []
        for name, figures in (("accuracy", self.accuracy), ("latency_ms", self.latency_ms)):
            if len(figures) > FIGURES_MAX:
                found.append(f"{where}.{name}: {len(figures)} figures, at most {FIGURES_MAX}")
            found += [f"{where}.{name}: a name of 1 to 64 characters is wanted" for key in figures if not _named(key)]
        return found


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where the model comes from."""

    parent: Annotated[str, Limit(len_max=140)] = ""  # NAME@VERSION
    note: Text = ""  # how it was trained


@dataclass(frozen=True, slots=True)
class VariantShape:
    """The same model for one kind of hardware."""

    target: Target
    file: Annotated[str, Limit(len_min=1, len_max=200)]
    sha256: Digest
    requires: Requires = Requires()
    declared: Declared = field(default_factory=Declared)


@dataclass(frozen=True, slots=True)
class BundleShape:
    """The whole manifest; the tables that only the agent can judge are left as they are."""

    name: Annotated[str, Limit(pattern=NAME_PATTERN, means=NAME_MEANS)]
    version: Annotated[str, Limit(len_min=1, len_max=64)]
    labels: Annotated[str, Limit(len_min=1, len_max=200)] | tuple[str, ...]
    variants: Annotated[tuple[VariantShape, ...], Limit(len_min=1, len_max=VARIANTS_MAX)]
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, Any] = field(default_factory=dict)
    description: Text = ""
    licence: Annotated[str, Limit(len_max=200)] = ""
    label_offset: Annotated[int, Limit(ge=0, le=LABELS_MAX)] = 0
    declared: Declared = field(default_factory=Declared)
    lineage: Lineage = Lineage()


def read_bundle(table: Mapping[str, Any]) -> BundleShape:
    """A manifest's table. Raises ShapeError with every mistake."""
    bundle = read(BundleShape, _lower_digests(table), strict=True)
    mistakes = bundle.declared.mistakes("declared")
    named = [("labels", bundle.labels)] if isinstance(bundle.labels, str) else []
    for i, variant in enumerate(bundle.variants):
        named.append((f"variants[{i}].file", variant.file))
        mistakes += variant.declared.mistakes(f"variants[{i}].declared")
    mistakes += [f"{where}: {file!r} must be a file inside the bundle" for where, file in named if not inside(file)]
    targets = [variant.target for variant in bundle.variants]
    if len(set(targets)) < len(targets):
        mistakes.append("variants: two variants have the same target")
    if isinstance(bundle.labels, tuple) and not 0 < len(bundle.labels) <= LABELS_MAX:
        mistakes.append(f"labels: 1 to {LABELS_MAX} labels are wanted, not {len(bundle.labels)}")
    if mistakes:
        raise ShapeError(mistakes)
    return bundle


def inside(file: str) -> bool:
    """Whether a name from a manifest stays within the bundle's folder."""
    path = PurePosixPath(file)
    return bool(file) and not path.is_absolute() and ".." not in path.parts


def label_lines(text: bytes) -> tuple[str, ...]:
    """One label a line; lines may all begin with their number (`17 cat`, `17: cat`), which then counts.

    Blank lines at the end are cut, one in the middle keeps its number. ValueError when it is not UTF-8.
    """
    lines = [line.strip() for line in text.decode("utf-8-sig").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [re.fullmatch(r"(\d{1,5})[\s:,]+(\S.*)", line) for line in lines if line]
    pairs = [(int(match[1]), match[2]) for match in numbered if match]
    if not lines or len(pairs) < len(numbered):
        return tuple(lines)
    names = ["???"] * (max(number for number, _ in pairs) + 1)
    for number, name in pairs:
        names[number] = name
    return tuple(names)


def _named(key: str) -> bool:
    return bool(re.fullmatch(r"[^\x00-\x1f\x7f]{1,64}", key))


def _lower_digests(table: Mapping[str, Any]) -> dict[str, Any]:
    """The agent takes digests in capitals too."""
    variants = table.get("variants")
    if not isinstance(variants, list):
        return dict(table)
    lowered = [
        {**one, "sha256": one["sha256"].lower()}
        if isinstance(one, dict) and isinstance(one.get("sha256"), str)
        else one
        for one in variants
    ]
    return {**table, "variants": lowered}
