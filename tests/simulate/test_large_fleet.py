"""2,000 nodes on a real broker and a real coordinator."""

from pathlib import Path

import pytest

from tests.broker import broker
from tests.simulate.processes import coordinator, simulation, states


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_thousand_nodes_lose_nothing(tmp_path: Path) -> None:
    with broker(tmp_path) as mqtt, coordinator(tmp_path, mqtt.port) as running:
        arguments = ["--data-dir", str(running.data_dir), "simulate", "--broker", f"127.0.0.1:{mqtt.port}"]
        arguments += ["--nodes", "2000", "--sites", "50", "--processes", "2", "--events-per-node", "0.05"]
        arguments += ["--for", "60s", "--drain", "120s", "--fault", "drop:5%@20s", "--fault", "kill:1%@25s+5s"]
        with simulation(tmp_path, *arguments) as run:
            run.until(lambda: states(running).get("online") == 2000, "all register")
            report = run.end()
        assert (report["connected_at_end"], report["faults"] >= 110) == (2000, True)
        assert report["produced"] == report["acked"] == report["stored"] > 2000
        assert (report["lost"], report["duplicates"], report["unanswered"]) == (0, 0, 0)
        assert report["memory_kb_per_node"] < 20
