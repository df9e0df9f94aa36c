"""What the real agent processes of these tests watch: pictures with an object, large enough to travel a while."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from agent.capture.frame import Rgb
from tests.agent_process.agents import AgentProcess, bundle, camera, picture, pipeline, run_agent
from tests.capture.helpers import write_clip

OBJECT = 9  # the cell that is bright
RULE = f'[[pipelines.rules]]\nname = "there"\nclasses = ["c{OBJECT}"]\nfor_s = 0.3\nclear_after_s = 0.3\n'


def noisy(cell: int | None, n: int) -> Rgb:
    """512x512 with detail everywhere: its JPEG has some hundred kilobytes, and each is another one."""
    large = np.kron(picture(cell), np.ones((8, 8, 1), np.uint8)).astype(np.int16)
    noise = np.random.default_rng(n).integers(-60, 60, large.shape, np.int16)
    found: Rgb = np.clip(large + noise, 0, 255).astype(np.uint8)
    return found


def film(path: Path, seconds: float = 4.0) -> Path:
    """Nothing, then the object, then nothing."""
    count = round(seconds * 20)
    shown = range(count // 4, count // 2)
    return write_clip(path, (noisy(OBJECT if n in shown else None, n) for n in range(count)))


def body(folder: Path, evidence: str, *, seconds: float = 4.0) -> str:
    """The configuration of a node with one camera and evidence of its alerts."""
    film(folder / "film.mp4", seconds)
    return (
        camera("cam1", "film.mp4", "realtime = true")
        + pipeline("cam1", bundle(folder / "cells"), f"object_events = false\nsample_interval_s = 0\n{RULE}")
        + f"[evidence]\nenabled = true\nfree_bytes_min = 0\npre_s = 0.5\npost_s = 0.5\ncooldown_s = 0.0\n{evidence}\n"
    )


def kept(agent: AgentProcess) -> list[dict[str, Any]]:
    """By `edge-agent evidence ls`, also while it runs; the newest first."""
    shown = run_agent("evidence", "ls", "--config", str(agent.config))
    return [json.loads(line) for line in shown.stdout.splitlines()]
