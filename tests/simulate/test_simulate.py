"""Simulated fleets against a real mosquitto and a real coordinator process: what is lost, what comes twice, who is
there at the end."""

import asyncio
import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from coordinator.store.reader import Reader
from runtime.calls.client import Client
from runtime.mqtt import BrokerAddress
from tests.broker import broker
from tests.coordinator.process import Process, edgectl
from tests.simulate.processes import coordinator, counts, simulation, states, until

FAST = "batch_pause_ms = 20.0\n"


def desire(port: int, nodes: list[str]) -> None:
    async def main() -> None:
        async with Client(BrokerAddress(port=port), name="test") as client:
            for node in nodes:
                await client.call("coordinator", "setDesired", {"node": node, "set": {"log.level": "DEBUG"}})

    asyncio.run(main())


def applied(running: Process, nodes: list[str]) -> bool:
    reader = Reader(running.data_dir)
    try:
        views = [reader.documents(node).reported for node in nodes]
        return all(view.fields.get("log.level") == "DEBUG" for view in views if view) and all(views)
    finally:
        reader.close()


@pytest.mark.timeout(400)
def test_a_fleet_through_faults_and_a_broker_restart_loses_nothing(tmp_path: Path) -> None:
    nodes = 200
    faults = (
        "drop:10%@3s",
        "half-open:5%@4s+8s",
        "kill:3%@5s+2s",
        "reboot:3%@6s+2s",
        "slow:5%@3s+4s",
        "flap:2%@3s+9s",
    )
    with broker(tmp_path) as mqtt, coordinator(tmp_path, mqtt.port, FAST) as running:
        arguments = ["--data-dir", str(running.data_dir), "simulate", "--broker", f"127.0.0.1:{mqtt.port}"]
        arguments += ["--nodes", str(nodes), "--processes", "2", "--heartbeat", "5", "--events-per-node", "0.5"]
        arguments += ["--for", "5m", "--drain", "60s", *(part for fault in faults for part in ("--fault", fault))]
        with simulation(tmp_path, *arguments) as run:
            run.until(lambda: states(running).get("online") == nodes, "all register")
            first_boot = min(boot for boot, _ in counts(running).values())
            wanted = [f"sim-{number:05d}" for number in (1, 2, 3, 100, 200)]
            desire(mqtt.port, wanted)
            run.until(lambda: applied(running, wanted), "desired documents are applied")
            # 6 nodes are killed and 6 reboot: those that these faults found connected come back with the next boot.
            run.until(lambda: sum(boot > first_boot for boot, _ in counts(running).values()) >= 6, "boots")
            run.until(lambda: sum(count > (first_boot, 1) for count in counts(running).values()) >= 25, "sessions")
            before = counts(running)
            mqtt.restart()
            run.until(lambda: all(counts(running)[node] > was for node, was in before.items()), "all are back")
            run.until(lambda: states(running) == {"online": nodes}, "all are online")
            run.interrupt()
            report = run.end()
        assert report["connected_at_end"] == nodes
        assert report["faults"] >= 40
        assert report["produced"] > 100
        assert report["produced"] == report["sent"] == report["acked"] == report["stored"]
        assert (report["lost"], report["duplicates"], report["unanswered"], report["refused"]) == (0, 0, 0, 0)
        assert report["bad_messages"] == 0
        assert report["desired_applied"] >= len(wanted)
        rows = running.query("SELECT count(*) FROM events WHERE node GLOB 'sim-*' AND lane IN ('event', 'alert')")
        assert rows == [(report["produced"],)]
        keys = "SELECT count(*) FROM (SELECT DISTINCT node, type, subject FROM events WHERE node GLOB 'sim-*')"
        assert running.query(keys) == rows
        # Each has said goodbye.
        until(lambda: states(running) == {"offline": nodes}, "all are gone")
        assert {reason for (reason,) in running.query("SELECT DISTINCT reason FROM nodes")} == {"stopped"}
        assert running.stop() == 0


@pytest.mark.timeout(300)
def test_all_are_cut_and_come_back(tmp_path: Path) -> None:
    with broker(tmp_path) as mqtt, coordinator(tmp_path, mqtt.port, FAST + "will_hold_s = 1.0\n") as running:
        arguments = ["--data-dir", str(running.data_dir), "simulate", "--broker", f"127.0.0.1:{mqtt.port}"]
        arguments += ["--nodes", "40", "--heartbeat", "5", "--for", "5m", "--fault", "cut:100%@6s+8s", "--nice", "3"]
        with simulation(tmp_path, *arguments) as run:
            run.until(lambda: states(running).get("online") == 40, "all register")
            before = os.getpriority(os.PRIO_PROCESS, 0)
            assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in run.workers()] == [min(19, before + 3)]
            run.until(
                lambda: sum(states(running).get(state, 0) for state in ("suspect", "offline")) == 40, "all are cut"
            )
            run.until(lambda: states(running) == {"online": 40}, "all are back")
            run.interrupt()
            report = run.end()
        assert (report["faults"], report["reconnects"], report["disconnects"]) == (40, 40, 40)
        assert (report["lost"], report["duplicates"], report["unanswered"]) == (0, 0, 0)


# Connections that ended, and boots that began, of 4 nodes that are all struck.
STRUCK = {
    "drop:100%@2s": (4, 0),
    "half-open:100%@2s+2s": (4, 0),
    "slow:100%@2s+2s": (0, 0),
    "reboot:100%@2s+1s": (4, 4),
    "kill:100%@2s+1s": (4, 4),
    "flap:100%@2s+7s": (8, 0),
    "cut:100%@2s+3s": (4, 0),
}


def test_each_fault_does_what_its_name_says(tmp_path: Path) -> None:
    """Seven fleets side by side, on one broker."""
    listen = ["mosquitto_sub", "-t", "edge/v1/+/status", "-F", "%t %p", "-W", "60"]
    with broker(tmp_path) as mqtt, ExitStack() as stack, (tmp_path / "heard").open("wb") as heard:
        ear = subprocess.Popen([*listen, "-p", str(mqtt.port)], stdout=heard)
        stack.callback(ear.wait)
        stack.callback(ear.terminate)
        runs = {}
        for fault in STRUCK:
            folder = tmp_path / fault.split(":")[0]
            folder.mkdir()
            arguments = ["simulate", "--broker", f"127.0.0.1:{mqtt.port}", "--nodes", "4", "--prefix", folder.name]
            arguments += ["--events-per-node", "0", "--fault", fault, "--for", "11s", "--drain", "30s"]
            runs[fault] = stack.enter_context(simulation(folder, *arguments))
        reports = {fault: run.end() for fault, run in runs.items()}
    said = (tmp_path / "heard").read_text().splitlines()
    for fault, (ended, boots) in STRUCK.items():
        report, name = reports[fault], fault.split(":")[0]
        assert (report["faults"], report["disconnects"], report["reconnects"]) == (4, ended, ended), fault
        assert (report["connected_at_end"], report["unanswered"], report["first_error"]) == (4, 0, ""), fault
        mine = [json.loads(line.split(" ", 1)[1]) for line in said if f"/{name}-0" in line]
        assert len({one["boot"] for one in mine}) == (2 if boots else 1), fault
        # The broker said a will for each connection that ended without a goodbye; at the end all said one.
        wills = [one for one in mine if one["state"] == "offline" and not one["time_utc_ms"]]
        assert len(wills) == (0 if name == "reboot" else ended), fault
        goodbyes = [one for one in mine if one["state"] == "offline" and one["reason"] == "stopped"]
        assert len(goodbyes) == (8 if name == "reboot" else 4), fault


def test_without_a_coordinator_nothing_is_answered_and_that_is_said(tmp_path: Path) -> None:
    with broker(tmp_path) as mqtt:
        arguments = ["simulate", "--broker", f"127.0.0.1:{mqtt.port}", "--nodes", "10", "--for", "3s"]
        with simulation(tmp_path, *arguments, "--events-per-node", "2", "--drain", "1s") as run:
            report = run.end()
    assert (report["connected_at_end"], report["acked"], report["stored"], report["lost"]) == (10, 0, None, None)
    assert report["unanswered"] == report["produced"] > 0


def test_a_broker_that_is_not_there_is_named(tmp_path: Path) -> None:
    with simulation(
        tmp_path, "simulate", "--broker", "127.0.0.1:1", "--nodes", "2", "--for", "2s", "--drain", "0"
    ) as run:
        report = run.end()
    assert (report["connects"], report["connected_s"]) == (0, None)
    assert report["connects_failed"] >= 2
    assert "cannot connect to 127.0.0.1:1" in report["first_error"]


def test_a_broker_that_wants_a_password(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    for name in ("sim-00001", "sim-00002"):
        create = ["-c"] if not passwords.exists() else []
        subprocess.run(["mosquitto_passwd", "-b", *create, str(passwords), name, "right"], check=True)
    scenario = tmp_path / "simulate.toml"
    with broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}\nuser root\n") as mqtt:
        for password, connected in (("right", 2), ("wrong", 0)):
            scenario.write_text(
                f'[fleet]\nnodes = 2\n[run]\nbrokers = ["127.0.0.1:{mqtt.port}"]\npassword_env = "SIM_PASSWORD"\n'
                "for_s = 2.0\ndrain_s = 0.0\n",
                encoding="utf-8",
            )
            done = edgectl(["simulate", "--scenario", str(scenario), "--json"], SIM_PASSWORD=password)
            assert done.returncode == 0, done.stderr
            report = json.loads(done.stdout)
            assert report["connected_at_end"] == connected
            assert password not in done.stdout + done.stderr or password == "right"
    assert "0x87" in report["first_error"]


def test_nodes_are_spread_over_brokers(tmp_path: Path) -> None:
    with broker(tmp_path) as first, broker(tmp_path) as second:
        arguments = ["simulate", "--nodes", "10", "--for", "5m"]
        for one in (first, second):
            arguments += ["--broker", f"127.0.0.1:{one.port}"]
        with simulation(tmp_path, *arguments, "--events-per-node", "0") as run:
            for one, rest in ((first, 1), (second, 0)):
                listen = [
                    "mosquitto_sub",
                    "-p",
                    str(one.port),
                    "-t",
                    "edge/v1/+/birth",
                    "-C",
                    "5",
                    "-W",
                    "60",
                    "-F",
                    "%t",
                ]
                heard = subprocess.run(listen, capture_output=True, text=True, check=True).stdout.split()
                assert {int(topic.split("/")[2][-2:]) % 2 for topic in heard} == {rest}
            run.interrupt()
            assert run.end()["connected_at_end"] == 10


def test_a_broker_without_an_address_is_named() -> None:
    done = edgectl(["simulate", "--nodes", "2", "--broker", "no-such-host.invalid:1883"])
    assert done.returncode == 1
    assert "broker no-such-host.invalid" in done.stderr
    assert "Traceback" not in done.stderr


def test_mistakes_are_said_before_anything_is_started() -> None:
    done = edgectl(["simulate", "--nodes", "99000", "--fault", "melt:1%@1s"])
    assert done.returncode == 1
    assert "there is no fault melt" in done.stderr and "give 6 or more" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_that_is_killed_ends_the_run_with_an_error(tmp_path: Path) -> None:
    with broker(tmp_path) as mqtt:
        arguments = ["simulate", "--broker", f"127.0.0.1:{mqtt.port}", "--nodes", "4", "--for", "5m"]
        with simulation(tmp_path, *arguments, "--processes", "2") as run:
            children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
            until(lambda: len(children.read_text().split()) == 2, "two workers")
            worker = int(children.read_text().split()[0])
            subprocess.run(["kill", "-9", str(worker)], check=True)
            assert run.process.wait(60) == 1
        assert "a worker ended" in (tmp_path / "simulate.err").read_text()


def test_workers_end_with_the_one_who_started_them(tmp_path: Path) -> None:
    with broker(tmp_path) as mqtt:
        arguments = ["simulate", "--broker", f"127.0.0.1:{mqtt.port}", "--nodes", "4", "--for", "5m"]
        with simulation(tmp_path, *arguments) as run:
            children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
            until(lambda: children.read_text().split(), "a worker")
            worker = children.read_text().split()[0]
            run.process.kill()
            run.process.wait(60)
            until(lambda: not Path(f"/proc/{worker}/stat").exists() or is_dead(worker), "it ends")


def is_dead(pid: str) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"


def test_a_broker_that_takes_few_messages_at_a_time_is_not_pushed(tmp_path: Path) -> None:
    with broker(tmp_path, "max_inflight_messages 2\n") as mqtt, coordinator(tmp_path, mqtt.port, FAST) as running:
        arguments = ["--data-dir", str(running.data_dir), "simulate", "--broker", f"127.0.0.1:{mqtt.port}"]
        arguments += ["--nodes", "5", "--events-per-node", "20", "--for", "4s", "--drain", "60s"]
        with simulation(tmp_path, *arguments) as run:
            report = run.end()
        assert report["produced"] == report["stored"] > 100
        assert (report["disconnects"], report["first_error"], report["unanswered"]) == (0, "", 0)
