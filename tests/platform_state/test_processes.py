"""Real agent, broker and coordinator: kill -9 at both ends, no network, clocks that are a day off."""

import asyncio
import io
import json
import random
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.__main__ import main as agent_main
from coordinator.edgectl import main as edgectl_main
from tests.agent_process.agents import wait_until
from tests.broker import Broker, start_broker
from tests.documents.test_clock_jumps import LIBRARY, FakeClock
from tests.platform_state.programs import COUNTS, StateAgent, StateCoordinator

RED, GREEN = {"phase": "red"}, {"phase": "green"}
ROADS = "traffic.intersections"
FAST = "[state]\nmin_interval_s = 0.05\n"


@dataclass(frozen=True, slots=True)
class System:
    broker: Broker
    coordinator: StateCoordinator
    agent: StateAgent

    def ctl(self, *arguments: str, fails: bool = False) -> Any:
        """`edgectl`, in this process: starting another costs half a second."""
        status, out, err = run_main(edgectl_main, "--config", str(self.coordinator.config), *arguments)
        assert (status != 0) == fails, out + err
        return err if fails else json.loads(out) if "--json" in arguments else out

    def local(self, *arguments: str, fails: bool = False) -> Any:
        """`edge-agent state`."""
        status, out, err = run_main(agent_main, "state", *arguments, "--config", str(self.agent.config))
        assert (status != 0) == fails, out + err
        return err if fails else out

    def at_the_node(self) -> dict[str, Any]:
        rows = [json.loads(line) for line in self.local("ls", "--json").splitlines()]
        return {f"{row['collection']}.{row['key']}": row["value"] for row in rows}

    def at_the_coordinator(self) -> dict[str, Any]:
        found = self.ctl("state", "ls", "--json")
        return {f"{one['platform']}.{one['collection']}.{one['key']}": one["value"] for one in found}

    def until_alike(self) -> dict[str, Any]:
        wait_until(
            lambda: self.at_the_node() == self.at_the_coordinator(),
            lambda: f"{self.at_the_node()}\n{self.at_the_coordinator()}\n{self.agent.log[-3000:]}",
        )
        return self.at_the_node()

    def restart_coordinator(self) -> None:
        self.coordinator.kill()
        self.coordinator.start()


def run_main(main: Any, *arguments: str) -> tuple[int, str, str]:
    """Status, output and complaints."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(list(arguments))
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    broker = start_broker(tmp_path)
    (tmp_path / "c").mkdir()
    coordinator = StateCoordinator(tmp_path / "c", broker.port)
    agent = StateAgent(tmp_path, broker.port, FAST)
    coordinator.start()
    try:
        asyncio.run(coordinator.connected())
        yield System(broker, coordinator, agent)
    finally:
        if agent.process is not None:
            agent.kill()
        coordinator.kill()
        broker.stop()


def test_state_of_a_node_can_be_asked_for_at_both_ends(system: System) -> None:
    system.agent.start()
    assert system.agent.write(ROADS, "IS-001", RED) == "done"
    assert system.agent.write(ROADS, "IS-001.north", GREEN) == "done"
    assert system.agent.write("retail.visitors", "v1", {"seen": 1}) == "done"
    assert "phase must be red, green or off" in system.agent.write(ROADS, "IS-002", {"phase": "blue"})
    wait_until(lambda: len(system.at_the_coordinator()) == 2, lambda: system.agent.log[-3000:])
    assert system.at_the_coordinator() == {f"{ROADS}.IS-001": RED, f"{ROADS}.IS-001.north": GREEN}

    one = system.ctl("state", "get", f"{ROADS}.IS-001.phase", "--json")
    assert (one["value"], one["field"], one["written_by"], one["stale"], one["checked"]) == (
        "red", "phase", ["gw-1"], False, True,
    )  # fmt: skip
    assert 0 <= one["age_s"] < 60
    text = system.ctl("state", "get", f"{ROADS}.IS-001.north")  # of keys with dots the longest
    assert '{"phase": "green"}' in text and "gw-1" in text

    said = json.loads(system.ctl("call", "gw-1", "status"))["result"]["platform_state"]
    assert (said["rows_total"], said["waiting"], said["refused_total"]) == (2, 0, {"bad_value": 1})

    # The node goes away: its word stays and is said to be old.
    system.broker.stop()
    assert system.agent.write(ROADS, "IS-001", GREEN) == "done"
    assert system.at_the_node()[f"{ROADS}.IS-001"] == GREEN
    system.agent.kill()
    assert system.local("get", f"{ROADS}.IS-001.phase").startswith("green\n")
    assert "visitors" in system.local("ls", "retail")
    system.broker.start()
    wait_until(lambda: "may be stale: gw-1 offline" in system.ctl("state", "get", f"{ROADS}.IS-001"))
    assert system.ctl("state", "get", f"{ROADS}.IS-001", "--json")["value"] == RED
    system.agent.start()
    wait_until(lambda: system.ctl("state", "get", f"{ROADS}.IS-001.phase", "--json")["value"] == "green")
    assert "may be stale" not in system.ctl("state", "ls", "traffic")


def test_killed_at_any_point_at_both_ends_the_coordinator_has_the_nodes_values(system: System) -> None:
    random.seed(7)
    system.agent.write_fast(True)
    for n in range(4):
        system.agent.start()
        if n % 2:
            system.restart_coordinator()
        if n == 2:
            system.broker.restart()
        wait_until(lambda: system.agent.log.count("runs, boot") > n, lambda: system.agent.log[-3000:])  # noqa: B023
        time.sleep(random.uniform(0.2, 1.2))
        system.agent.kill()
    system.agent.write_fast(False)
    held = system.at_the_node()
    assert held, system.agent.log[-2000:]
    system.agent.start()
    assert system.until_alike() == held
    assert system.agent.terminate() == 0
    assert system.at_the_node() == held
    totals = system.ctl("status", "--json")["counters"]
    assert totals["refused"] == 0


def test_an_outbox_that_is_lost_is_filled_again(system: System) -> None:
    system.agent.start()
    for key in "abc":
        system.agent.write(COUNTS, key, key)
    system.broker.stop()
    system.agent.write(COUNTS, "a", "later")
    system.agent.write(COUNTS, "b", None)
    wait_until(lambda: '"in_outbox": false' not in system.local("ls", "--json"))
    system.agent.kill()
    for path in (system.agent.data_dir).glob("outbox.db*"):
        path.unlink()
    system.broker.start()
    system.agent.start()
    wait_until(lambda: system.at_the_coordinator() == {f"{COUNTS}.a": "later", f"{COUNTS}.c": "c"})
    assert system.until_alike() == {f"{COUNTS}.a": "later", f"{COUNTS}.c": "c"}


def test_what_was_just_written_leaves_before_an_agent_stops(system: System) -> None:
    system.agent.config.write_text(system.agent.config.read_text().replace("0.05", "3600"))
    system.agent.start()
    for n in range(5):
        system.agent.write(COUNTS, "a", n)
    assert system.agent.terminate() == 0
    assert '"in_outbox": true' in system.local("ls", "--json")
    wait_until(lambda: system.at_the_coordinator() == {f"{COUNTS}.a": 4}, lambda: system.agent.log[-3000:])


def test_a_coordinator_that_has_lost_its_memory_can_ask_for_everything_again(system: System) -> None:
    system.agent.start()
    system.agent.write(COUNTS, "a", 1)
    system.until_alike()
    system.coordinator.kill()
    for path in system.coordinator.data_dir.glob("coordinator.db*"):
        path.unlink()
    system.coordinator.start()
    wait_until(lambda: "gw-1" in run_main(edgectl_main, "--config", str(system.coordinator.config), "nodes")[1])
    assert system.at_the_coordinator() == {}
    said = system.ctl("call", "gw-1", "report", 'documents=["state"]')
    assert json.loads(said)["state"] == "succeeded"
    wait_until(lambda: system.at_the_coordinator() == {f"{COUNTS}.a": 1}, lambda: system.agent.log[-3000:])


@pytest.mark.slow
@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")
def test_a_clock_that_is_a_day_off_changes_nothing(system: System, tmp_path: Path) -> None:
    clock = FakeClock(tmp_path / "edge.time")
    system.agent.environment = clock.environment
    system.agent.start()
    system.agent.write(COUNTS, "a", 1)
    system.until_alike()
    for n, jump in enumerate(("+1d", "-1d", "+0", "-1d")):
        if n % 2:
            system.agent.kill()
            clock.jump(jump)
            system.agent.start()
        else:
            clock.jump(jump)
            time.sleep(1.5)  # longer than libfaketime keeps what it has read
        system.agent.write(COUNTS, "a", 10 + n)
        system.agent.write(COUNTS, f"b{n}", n)
        wait_until(
            lambda: system.at_the_coordinator().get(f"{COUNTS}.a") == 10 + n,  # noqa: B023
            lambda: f"{system.at_the_coordinator()}\n{system.agent.log[-3000:]}",
        )
        system.until_alike()
    one = system.ctl("state", "get", f"{COUNTS}.a", "--json")
    assert one["age_s"] < 3600  # the node's own time did not jump, and so neither did the age
