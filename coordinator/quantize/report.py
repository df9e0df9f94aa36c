"""What a conversion came to, for people. Pure."""

from collections.abc import Mapping
from typing import Any

from coordinator.ctl.tables import table

COSINE_LOW = 0.98  # below it the int8 model answers otherwise than the float one


def rows(found: Mapping[str, Any], pictures: int) -> str:
    """Size, latency and agreement, before and after."""
    before, after = found["before"], found["after"]
    head = [
        ("size", f"{before['bytes']:,} B", f"{after['bytes']:,} B", _ratio(before["bytes"], after["bytes"])),
        ("latency p50", *_pair(before, after, "latency_ms_p50")),
        ("latency p95", *_pair(before, after, "latency_ms_p95")),
    ]
    outputs = [
        (
            str(one["name"]),
            "x".join(str(size) for size in one["shape"]),
            f"{one['cosine']:.4f}",
            f"{one['cosine_min']:.4f}",
            f"{one['difference']:.2%}",
            "-" if one["top1"] is None else f"{one['top1']:.1%}",
        )
        for one in found["outputs"]
    ]
    agreement = table(("OUTPUT", "SHAPE", "COSINE", "LEAST", "DIFFERENCE", "SAME TOP 1"), outputs)
    return "\n\n".join(
        (
            table(("ON THIS MACHINE, 1 THREAD", "FLOAT", "INT8", "RATIO"), head),
            f"agreement of int8 with float on {pictures} pictures:\n{agreement}",
        )
    )


def warnings(found: Mapping[str, Any], pictures: int, few: int) -> list[str]:
    """What whoever uses it should know."""
    said = [
        f"{one['name']}: the int8 model answers otherwise (cosine {one['cosine_min']:.3f} on one of the pictures)"
        for one in found["outputs"]
        if one["cosine_min"] < COSINE_LOW
    ]
    names, wanted = [str(one["name"]) for one in found["outputs"]], found.get("outputs_wanted") or []
    if wanted and set(wanted) != set(names):
        said.append(
            f"outputs are called {', '.join(names)}, and {', '.join(wanted)} in the bundle's model: where its"
            " [output] goes by names, correct them"
        )
    if pictures < few:
        said.append(f"{pictures} calibration pictures are few: {few} or more of what the cameras see are better")
    return said


def note(found: Mapping[str, Any], pictures: int) -> str:
    """For the lineage of the new bundle."""
    least = min(one["cosine"] for one in found["outputs"])
    return f"int8 with {pictures} calibration pictures by TensorFlow {found['tensorflow']}; agreement {least:.4f}"


def _pair(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> tuple[str, str, str]:
    return f"{before[key]:.2f} ms", f"{after[key]:.2f} ms", _ratio(before[key], after[key])


def _ratio(before: float, after: float) -> str:
    return f"{after / before:.2f}" if before else "-"
