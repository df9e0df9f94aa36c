"""Throws broken input at everything that reads what others wrote: the schema language and every decoder of the wire.

    python -m benchmarks.fuzz --inputs 1000000 [--target parser|codec|blobs|documents|compress] [--seed N] [--json]

Each input is made from its number alone, so that one that breaks something can be had again. Allowed is a value, or
the error that the reader promises; anything else, more than CPU_S_MAX of processor time for one input, or more memory
than MEMORY_BYTES_MAX, is a defect: it is printed with its number, and the exit status is 1.
"""

import argparse
import json
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.fuzzlib import readers, texts, wires

CPU_S_MAX = 20.0  # a file at its limits takes some; a hang takes more
MEMORY_BYTES_MAX = 2 * 1024**3
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "v1"


class TooSlowError(Exception):
    """One input took too much processor time."""


@dataclass(slots=True)
class Outcome:
    """`accepted` of `inputs` were taken; `defects` have the number of the input and what went wrong."""

    target: str
    inputs: int = 0
    accepted: int = 0
    defects: list[tuple[int, str]] = field(default_factory=list)
    slowest_s: float = 0.0


Make = Callable[[random.Random], Any]
Read = Callable[[Any], bool]
"""True: taken; False: refused with the promised error. Raises for anything else."""


def targets() -> dict[str, tuple[Make, Read]]:
    """What is fuzzed: how its input is made, and what reads it."""
    seeds = {path.name: path.read_bytes() for path in sorted(GOLDEN.iterdir())} if GOLDEN.is_dir() else {}
    made = wires.Wires(seeds)
    return {
        "parser": (texts.make, readers.read_schema),
        "codec": (made.message, readers.read_message),
        "blobs": (made.blob, readers.read_blob),
        "documents": (made.document, readers.read_document),
        "compress": (made.frame, readers.read_frame),
    }


def fuzz(target: str, numbers: Sequence[int], seed: int, *, defects_max: int = 20) -> Outcome:
    """Runs the inputs with these numbers, until there are too many defects to go on."""
    make, read = targets()[target]
    outcome = Outcome(target)
    for number in numbers:
        value = make(random.Random(f"{target} {seed} {number}"))
        began_s = time.process_time()
        try:
            with _limited_cpu():
                outcome.accepted += read(value)
        except Exception:  # noqa: BLE001  whatever comes out is the finding
            outcome.defects.append((number, f"{traceback.format_exc(limit=-6)}\ninput: {value!r:.2000}"))
            if len(outcome.defects) >= defects_max:
                break
        outcome.slowest_s = max(outcome.slowest_s, time.process_time() - began_s)
        outcome.inputs += 1
    return outcome


@contextmanager
def _limited_cpu() -> Iterator[None]:
    """Processor time, not the clock: a busy machine makes nothing slow."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"more than {CPU_S_MAX} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="in total (default 100000)")
    parser.add_argument("--target", choices=["all", *targets()], default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="the first input's number")
    parser.add_argument("--every-s", type=float, default=60.0, help="a line of progress so often (default 60)")
    parser.add_argument("--json", action="store_true")
    parsed = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    names = list(targets()) if parsed.target == "all" else [parsed.target]
    outcomes = {name: Outcome(name) for name in names}
    began_s = told_s = time.monotonic()
    batch, done = 200, 0
    while done < parsed.inputs and not any(len(one.defects) >= 20 for one in outcomes.values()):
        name = names[(done // batch) % len(names)]
        count = min(batch, parsed.inputs - done)
        first = parsed.first + outcomes[name].inputs
        _add(outcomes[name], fuzz(name, range(first, first + count), parsed.seed))
        done += count
        if time.monotonic() - told_s > parsed.every_s:
            told_s = time.monotonic()
            print(f"{done} inputs, {sum(len(one.defects) for one in outcomes.values())} defects", flush=True)
    for one in outcomes.values():
        for number, text in one.defects:
            print(f"{one.target} input {number} of seed {parsed.seed}:\n{text}", file=sys.stderr)
    figures = {
        "inputs": done,
        "seconds": round(time.monotonic() - began_s, 1),
        "defects": sum(len(one.defects) for one in outcomes.values()),
        "rss_mb_max": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "targets": {
            one.target: {"inputs": one.inputs, "accepted": one.accepted, "slowest_s": round(one.slowest_s, 3)}
            for one in outcomes.values()
        },
    }
    print(json.dumps(figures) if parsed.json else json.dumps(figures, indent=2))
    return 1 if figures["defects"] else 0


def _add(total: Outcome, more: Outcome) -> None:
    total.inputs += more.inputs
    total.accepted += more.accepted
    total.defects += more.defects
    total.slowest_s = max(total.slowest_s, more.slowest_s)


if __name__ == "__main__":
    raise SystemExit(main())
