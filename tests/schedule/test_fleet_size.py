"""The scheduler on a simulated fleet: many nodes, some that fail, some that are killed. And its benchmark, small."""

from pathlib import Path

import pytest

from benchmarks.fleetlib.scheduling import scheduling
from tests.broker import broker
from tests.coordinator.process import edgectl
from tests.simulate.processes import coordinator, simulation, states

NODES = 120
FAST = "batch_pause_ms = 20.0\nwill_hold_s = 1.0\n"
WORKLOAD = """
name = "w"
type = "container"
replicas = 60
selector = "simulated = true"
resources = { cpu_cores = 1.0 }
spread = { by = "site", max = 10 }
container = { image = "x" }
"""


def test_the_benchmark_places_and_replaces() -> None:
    found = scheduling(400, 24)
    assert (found["schedule_nodes"], found["schedule_workloads"]) == (400, 24)
    assert found["schedule_placed"] > 100
    assert 0 < found["schedule_ms_p50"] <= found["schedule_ms_p99"]
    assert found["replace_ms_p99"] > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_simulated_fleet_with_failures_and_kills_runs_what_is_wanted(tmp_path: Path) -> None:
    with broker(tmp_path) as mqtt, coordinator(tmp_path, mqtt.port, FAST) as running:
        arguments = ["--data-dir", str(running.data_dir), "simulate", "--broker", f"127.0.0.1:{mqtt.port}"]
        arguments += ["--nodes", str(NODES), "--heartbeat", "5", "--for", "10m", "--workloads-failing", "0.1"]
        arguments += ["--sites", "12", "--fault", "kill:2%@20s+300s", "--fault", "kill:1%@40s+300s"]
        with simulation(tmp_path, *arguments) as run:
            run.until(lambda: states(running).get("online") == NODES, "all register")
            path = tmp_path / "w.toml"
            path.write_text(WORKLOAD)
            applied = edgectl(["--config", str(running.config), "workload", "apply", str(path)])
            assert applied.returncode == 0, applied.stderr

            def all_run() -> bool:
                rows = running.query("SELECT count(*) FROM placements WHERE phase = 'running' AND leaving = ''")
                return bool(rows[0][0] == 60)

            run.until(all_run, "all of them run, though some failed")
            run.until(lambda: running.query("SELECT count(*) FROM nodes WHERE lost")[0][0] >= 2, "nodes are lost")
            lost = "SELECT count(*) FROM placements p JOIN nodes n ON n.node = p.node WHERE n.lost"
            run.until(lambda: running.query(lost)[0][0] == 0 and all_run(), "what they had is elsewhere")
            sites = "SELECT count(*) FROM placements p JOIN nodes n ON n.node = p.node GROUP BY n.birth ->> '$.site'"
            assert max(count for (count,) in running.query(sites)) <= 10
            moved = running.query("SELECT count(*) FROM events WHERE type = 'WorkloadMoved'")
            assert moved[0][0] >= 1
            run.interrupt()
            report = run.end()
        assert report["bad_messages"] == 0
        assert report["workloads_started"] >= 60
