"""A model from the registry to a running agent and back: registry, roll-out, agent, one after another."""

import asyncio
import json
import shutil
import socket
from pathlib import Path

import pytest

from tests.agent_process.agents import AgentProcess, camera, pipeline, wait_until
from tests.broker import start_broker
from tests.coordinator.process import ROOT, Process, edgectl
from tests.rollout.test_end_to_end import System

pytest.importorskip("agent.models", reason="this agent takes no models")
WELD = ROOT / "platforms/manufacturing/models/weld_defects"


def weld(folder: Path, version: str) -> Path:
    """The shipped model under another version, with its golden picture and truth."""
    folder.mkdir()
    for name in ("labels.txt", "weld_defects_int8.tflite"):
        shutil.copyfile(WELD / name, folder / name)
    text = (WELD / "bundle.toml").read_text(encoding="utf-8")
    (folder / "bundle.toml").write_text(text.replace('version = "1"', f'version = "{version}"'))
    return folder


@pytest.mark.parametrize(
    "over_http", [pytest.param(True, id="http"), pytest.param(False, id="mqtt", marks=pytest.mark.slow)]
)
def test_deployed_measured_and_undone(tmp_path: Path, over_http: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    broker = start_broker(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "a").mkdir()
    more = f"[models]\nhttp_port = {port}\n" if over_http else ""
    coordinator = Process(tmp_path / "c", broker.port, extra=more)
    system = System(broker, coordinator)
    sources = f'["http://127.0.0.1:{port}"]' if over_http else "[]"
    table = f"[models]\nsources = {sources}\nspread_s = 0\nprobation_s = 0.5\nlive_frames = 20\n"
    table += "[models.gate]\nruns = 3\nlatency_slack_ms = 1000.0\n"
    body = camera("cam1", "scene:weld?seed=1", "fps_target = 10") + pipeline("cam1", "weld_defects", 'name = "seam"')
    agent = AgentProcess(tmp_path / "a", broker.port, body + table)
    coordinator.start()
    try:
        asyncio.run(coordinator.connected())
        words = ["--config", str(coordinator.config), "model", "add", str(weld(tmp_path / "new", "2.0.0"))]
        done = edgectl([*words, "--channel", "stable"])
        assert done.returncode == 0, done
        with agent:
            agent.start()
            sql = "SELECT count(*) FROM reported WHERE document LIKE '%pipelines.seam.model%'"
            wait_until(lambda: coordinator.query(sql)[0][0])
            key = system.ctl("deploy", "weld_defects", "--select", "all", "--json")["result"]["id"]
            found = system.until(key, "completed", "paused")
            assert found["nodes"] == {"verified": 1}, (found, agent.log_path.read_text()[-3000:])
            (deployed,) = system.events("ModelDeployed")
            assert (deployed["version"], deployed["node_count"]) == ("2.0.0", 1)
            fetched = system.events("ModelPrefetched")
            assert fetched[-1]["via"] == ("http" if over_http else "mqtt")
            wait_until(lambda: system.events("ModelMeasured"))

            def figures() -> list[object]:
                done = edgectl(["--config", str(coordinator.config), "model", "show", "weld_defects", "--json"])
                return list(json.loads(done.stdout)["figures"])

            wait_until(lambda: figures())
            system.ctl("deploy", "--undo")
            system.until(key, "rolled_back")

            def runs() -> object:
                ((text,),) = coordinator.query("SELECT document FROM reported")
                return json.loads(text)["fields"].get("pipelines.seam.model")

            wait_until(lambda: runs() == {"model": "weld_defects@1.0.0", "digest": ""}, lambda: str(runs()))
    finally:
        coordinator.kill()
        broker.stop()
