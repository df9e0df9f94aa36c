"""Inspection of parts: what the detector finds, how long a decision takes, few-shot anomaly inspection.

usage: python -m benchmarks.inspection [--json] [--tiny] [--only PART ...] [--scenes N] [--seconds S]

One JSON object, a key for each part; what a key means says the part in `benchmarks/inspectionlib/`. `targets` has
what is aimed at; `missed` names the targets that these figures do not reach, `left_out` the parts that were not
measured and why.
"""

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.inspectionlib.deciding import decision
from benchmarks.inspectionlib.detector import detector
from scripts.stack import StackError

PARTS = ("detector", "decision", "action", "anomaly")
TARGETS: dict[str, dict[str, tuple[str, float]]] = {
    "detector": {
        "recall_at_1pct_false_alarms": (">=", 0.95),
        "decision_ms_p50": ("<", 10.0),
        "decision_ms_p99": ("<", 20.0),
    },
    "action": {"action_ms_p99": ("<=", 20.0)},
    "anomaly": {
        "auroc": (">=", 0.93),
        "decision_ms_p95": ("<=", 50.0),
        "auroc_minus_padim": (">=", -0.02),
    },
}


def measure(only: tuple[str, ...], *, tiny: bool, scenes: int, seconds: float) -> dict[str, Any]:
    """The figures of the parts that are asked for."""
    found: dict[str, Any] = {}
    left_out: dict[str, str] = {part: "not asked for" for part in PARTS if part not in only}
    if "detector" in only:
        found["detector"] = detector(3 if tiny else scenes)
    if {"decision", "action"} & set(only):
        with tempfile.TemporaryDirectory(prefix="edgewright-inspect-") as folder:
            deciding, acting = decision(Path(folder), 4.0 if tiny else seconds)
        if "decision" in only:
            found.setdefault("detector", {}).update(deciding)
        if "action" in only:
            found["action"] = acting
    if "anomaly" in only:
        try:
            found["anomaly"] = importlib.import_module("benchmarks.inspectionlib.anomaly").anomaly(tiny)
        except ModuleNotFoundError as error:
            left_out["anomaly"] = f"{error.name} is not there"
    found["targets"] = {
        part: {key: f"{sign} {bound:g}" for key, (sign, bound) in keys.items()} for part, keys in TARGETS.items()
    }
    found["missed"] = missed(found)
    found["left_out"] = left_out
    return found


def missed(found: dict[str, Any]) -> list[str]:
    """The targets that were measured and not reached."""
    texts = []
    for part, keys in TARGETS.items():
        for key, (sign, bound) in keys.items():
            value = found.get(part, {}).get(key)
            if not isinstance(value, int | float):
                continue
            reached = {">=": value >= bound, "<=": value <= bound, "<": value < bound}[sign]
            if not reached:
                texts.append(f"{part}.{key} {value} is not {sign} {bound:g}")
    return texts


def main(argv: list[str] | None = None) -> int:
    """0: measured; 1: a run failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.inspection", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--tiny", action="store_true", help="a short run, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    parser.add_argument("--scenes", type=int, default=100, help="of the detector: 6 pictures each (default 100)")
    parser.add_argument("--seconds", type=float, default=40.0, help="of signals (default 40)")
    arguments = parser.parse_args(argv)
    try:
        found = measure(
            tuple(arguments.only), tiny=arguments.tiny, scenes=arguments.scenes, seconds=arguments.seconds
        )
    except (StackError, TimeoutError) as error:
        print(f"inspection failed: {str(error) or 'no answer in time'}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=None if arguments.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
