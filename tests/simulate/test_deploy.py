"""`edgectl deploy` on a simulated fleet: real registry, roll-out and coordinator; nodes that are not there."""

import json
from pathlib import Path
from typing import Any

from tests.broker import broker
from tests.coordinator.process import ROOT, Process, edgectl
from tests.simulate.processes import coordinator, simulation, states

NODES = 40


def models(running: Process) -> list[dict[str, Any]]:
    """What each node says that its pipeline runs."""
    rows = running.query("SELECT document FROM reported")
    fields = [json.loads(text)["fields"] for (text,) in rows]
    return [one["pipelines.seam.model"] for one in fields if "pipelines.seam.model" in one]


def test_a_model_comes_to_a_simulated_fleet_and_goes_again(tmp_path: Path) -> None:
    fast = "batch_pause_ms = 20.0\n"
    with broker(tmp_path) as mqtt, coordinator(tmp_path, mqtt.port, fast) as running:
        ctl = ["--config", str(running.config)]
        weld = ROOT / "platforms/manufacturing/models/weld_defects"
        assert edgectl([*ctl, "model", "add", str(weld), "--channel", "stable"]).returncode == 0
        scenario = tmp_path / "simulate.toml"
        scenario.write_text(
            f"[fleet]\nnodes = {NODES}\nheartbeat_s = 2.0\n[load]\nevents_per_node = 0.0\n[desired]\ndelay_s = 0.1\n"
            '[workloads]\ncontainers = 0.0\n[models]\npipelines = ["seam=weld_defects@0.9.0"]\n'
            "fetch_s = 0.5\nactivate_s = 0.2\n"
            "fetch_failing = 0.1\nfailing = 0.1\nsilent = 0.1\nflapping = 0.1\n"
            f'[run]\nbrokers = ["127.0.0.1:{mqtt.port}"]\nfor_s = 600.0\ndrain_s = 0.0\n'
        )
        with simulation(tmp_path, *ctl, "simulate", "--scenario", str(scenario)) as run:
            run.until(lambda: states(running).get("online") == NODES, "all register")
            run.until(lambda: len(models(running)) == NODES, "all say what they run")
            assert {one["model"] for one in models(running)} == {"weld_defects@0.9.0"}
            assert 'containers=""' in edgectl([*ctl, "node", "show", "sim-00001"]).stdout
            why = edgectl([*ctl, "why", "sim-00001", "hardware.containers exists"])
            assert why.returncode == 1 and "hardware.containers exists" in why.stdout
            # A first wave in which some are sound, whoever is ready first: one that fails altogether is paused.
            words = ["deploy", "weld_defects", "--select", "label.simulated = true", "--waves", "25%,50%,100%"]
            words += ["--fetch-rate", "1000", "--rate", "1000", "--accept", "2s", "--budget", "60%", "--watch"]
            done = edgectl([*ctl, *words])
            assert done.returncode == 0, done.stdout + done.stderr
            assert "wave 1 of 3" in done.stdout and "completed" in done.stdout.splitlines()[-1]
            found = json.loads(edgectl([*ctl, "rollout", "show", "r-1", "--nodes", "--json"]).stdout)
            told = [one["reason"] for one in found["node_list"] if one["state"] == "failed"]
            assert {"refused models.weld_defects.release: simulated: nobody serves it",
                    "refused pipelines.seam.model: simulated: it is worse than what runs"} == set(told)  # fmt: skip
            assert found["nodes"]["silent"] >= 1
            run.until(lambda: sum(bool(one["digest"]) for one in models(running)) >= 24, "most run it")
            undone = edgectl([*ctl, "deploy", "--undo", "--watch"])
            assert undone.returncode == 0, undone.stdout + undone.stderr
            run.until(lambda: not any(one["digest"] for one in models(running)), "none runs it any more")
            run.interrupt()
            report = run.end()
    assert report["bad_messages"] == 0 and report["models_activated"] >= 24
    assert report["models_refused"] >= 2 and report["reconnects"] >= 1
