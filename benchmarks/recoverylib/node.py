"""`edge-agent`, which writes down the moment of each frame it has decided about: 8 bytes, the monotonic clock in ns.

usage: python -m benchmarks.recoverylib.node MARKS run --config CONFIG
"""

import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent.__main__ import main as edge_agent
from agent.infer.worker import Result
from agent.outbox.rows import Draft
from agent.pipeline import Pipeline

MARK = struct.Struct("<q")


def mark_decisions(path: Path) -> None:
    """From now on each decision of any pipeline leaves a mark. A whole write at a time: a kill leaves no half one."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    decide: Callable[[Pipeline, Result], list[Draft]] = Pipeline._decide

    def marked(self: Pipeline, result: Result) -> list[Draft]:
        drafts = decide(self, result)
        os.write(fd, MARK.pack(time.monotonic_ns()))
        return drafts

    Pipeline._decide = marked  # type: ignore[method-assign]


if __name__ == "__main__":
    mark_decisions(Path(sys.argv[1]))
    sys.exit(edge_agent(sys.argv[2:]))
