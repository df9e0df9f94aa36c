"""Teach, then a real agent on a film: the defect is an alert with its heat map, and a dimmed lamp is drift."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np

from agent.capture.picture import RgbPicture
from agent.capture.pyav import jpeg
from agent.outbox.inspect import export
from agent.teach.teaching import teach
from tests.agent_process.agents import AgentProcess, camera, pipeline, run_agent, wait_until
from tests.anomaly.parts import part
from tests.anomaly.test_teaching import OURS
from tests.broker import free_port
from tests.capture.helpers import write_clip

RULE = '[[pipelines.rules]]\nname = "bad-part"\nclasses = ["anomaly"]\nfor_s = 0.2\nclear_after_s = 0.3\n'
EVIDENCE = "[evidence]\nenabled = true\nclip = false\nfree_bytes_min = 0\ncooldown_s = 0.0\n"


def events(agent: AgentProcess, kind: str) -> list[dict[str, Any]]:
    path = agent.data_dir / "outbox.db"
    rows = [json.loads(line) for line in export(path)] if path.exists() else []
    return [row["row"]["data"] for row in rows if row["type"] == kind]


def test_a_taught_model_alerts_with_its_heat_map_and_watches_for_drift(tmp_path: Path) -> None:
    # Taught from frames of a film, as a person would who cuts them out of one: the codec leaves its traces.
    frames = tmp_path / "frames"
    frames.mkdir()
    pictures_of(write_clip(tmp_path / "good.mp4", (part(n) for n in range(40))), frames)
    teach(frames, tmp_path / "taught", OURS, camera="cam1")
    shown = [part(100 + n, defect=20 <= n < 40, light=0.97 if n >= 60 else 1.0) for n in range(200)]
    film = write_clip(tmp_path / "film.mp4", iter(shown))
    body = camera("cam1", film, "realtime = false") + pipeline("cam1", tmp_path / "taught", RULE) + EVIDENCE
    with AgentProcess(tmp_path, free_port(), body) as agent:
        agent.start()
        agent.wait_for_log("camera cam1 is ended")
        wait_until(lambda: len(events(agent, "EvidenceStored")) >= 2, lambda: agent.log[-2000:])
        wait_until(
            lambda: events(agent, "PipelineStopped") or events(agent, "AlertCleared"), lambda: agent.log[-2000:]
        )
        assert agent.terminate() == 0
        (seen, *_) = events(agent, "ObjectSeen")
        assert seen["class"] == "anomaly"
        (raised,) = events(agent, "AlertRaised")
        assert raised["rule"] == "bad-part"
        drifts = events(agent, "AnomalyDrift")
        assert [drift["drift"] for drift in drifts][:1] == ["worse"]
        stored = events(agent, "EvidenceStored")
        assert [one["view"] for one in stored if one["event_type"] == "AlertRaised"] == ["", "heat"]
        heat_map = next(one for one in stored if one["view"] == "heat")
        listed = run_agent("evidence", "show", heat_map["sha256"], "--config", str(agent.config))
        assert json.loads(listed.stdout)["view"] == "heat"


def pictures_of(film: Path, folder: Path) -> None:
    with av.open(str(film)) as container:
        for n, frame in enumerate(container.decode(video=0)):
            rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            (folder / f"{n:03}.jpg").write_bytes(jpeg(RgbPicture(rgb), 95))
