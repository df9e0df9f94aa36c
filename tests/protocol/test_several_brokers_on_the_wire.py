"""P84 to P86 with real brokers: one coordinator at several of them, nodes that move, a broker that is killed."""

import asyncio
from pathlib import Path

from tests.coordinator.sender import TestNode, until
from tests.fleet.brokers import Listener, at_brokers, no_sooner
from tests.fleet.fakes import Fake, all_leave
from tests.fleet.processes import FAST, LONG_S, count, ctl, retained, shown, told

FLEET = "edge/v1/fleet/event/+"
RESULTS = "edge/v1/coordinator/result/+"
STATUS = "edge/v1/coordinator/status"


def test_p84_a_node_is_answered_and_told_where_it_was_last_heard(tmp_path: Path) -> None:
    async def scene() -> None:
        await coordinator.connected(2)
        async with TestNode(brokers[0].port, "gw-1") as node:
            node.present()
            node.born()
            node.send(range(1, 21))
            await until(lambda: not node.waiting)
        async with (
            TestNode(brokers[1].port, "gw-1") as node,
            Listener(brokers[0].port, RESULTS, "edge/v1/gw-1/#") as first,
            Listener(brokers[1].port, "edge/v1/gw-1/desired") as second,
        ):
            node.present(session=2)
            node.born(session=2)
            node.send(range(11, 31))  # half of them for the second time
            await until(lambda: not node.waiting)
            assert coordinator.query("SELECT count(*) FROM events WHERE node = 'gw-1'") == [(30,)]
            first.call("setDesired", {"node": "gw-1", "set": {"heartbeat_s": 7}, "_id": "d-1"})
            assert (await first.has("/result/setDesired"))["state"] == "succeeded"
            assert (await second.has("/desired"))["fields"] == {"heartbeat_s": 7}
            assert first.on("/gw-1/desired") == []
            # The goodbye of the session before, at the broker that it has left, changes nothing.
            async with TestNode(brokers[0].port, "gw-1") as late:
                late.publish("status", b'{"state":"offline","boot":1,"session":1,"time_utc_ms":5,"v":1}', retain=True)
                await no_sooner(2.0)
            assert shown(coordinator, "gw-1") == "online"

    with at_brokers(tmp_path, 2) as (coordinator, brokers):
        asyncio.run(scene())


def test_p85_events_and_presence_are_at_every_broker_and_answers_where_was_asked(tmp_path: Path) -> None:
    async def scene() -> None:
        await coordinator.connected(3)
        async with (
            Listener(brokers[0].port, FLEET, RESULTS, STATUS) as one,
            Listener(brokers[1].port, FLEET, RESULTS, STATUS) as two,
            Listener(brokers[2].port, FLEET, RESULTS, STATUS) as three,
            TestNode(brokers[1].port, "gw-1") as node,
        ):
            node.present()
            node.born()
            events = [await ear.has("/NodeRegistered") for ear in (one, two, three)]
            assert len({event["id"] for event in events}) == 1
            for ear in (one, two, three):
                assert (await ear.has("/coordinator/status"))["state"] == "online"
            three.call("status", {"_id": "s-1"})
            two.call("status", {"_id": "s-2"})
            answer = await three.has("/result/status")
            assert (answer["id"], answer["state"]) == ("s-1", "succeeded")
            assert {name: at["connected"] for name, at in answer["result"]["brokers"].items()} == {
                "b0": True, "b1": True, "b2": True,
            }  # fmt: skip
            assert (await two.has("/result/status"))["id"] == "s-2"
            assert one.on("/result/status") == []
            one.call("status", {"_id": "s-1"})  # asked again somewhere else: answered from the journal, there
            assert (await one.has("/result/status")) == answer
            assert [found["id"] for found in two.on("/result/status")] == ["s-2"]
        coordinator.stop()
        for broker in brokers:
            found = await asyncio.to_thread(retained, broker.port, "coordinator")
            assert '"state":"offline"' in found

    with at_brokers(tmp_path, 3) as (coordinator, brokers):
        asyncio.run(scene())


def test_p85_what_is_retained_of_a_node_that_was_taken_out_is_cleared_at_every_broker(tmp_path: Path) -> None:
    async def scene() -> None:
        await coordinator.connected(2)
        for session, broker in enumerate(brokers, start=1):
            async with TestNode(broker.port, "gw-1") as node:
                node.present(session=session)
                node.born(session=session)
                await until(lambda: shown(coordinator, "gw-1") == "online")
        found = await ctl(coordinator, "node", "deregister", "gw-1", "--force")
        assert found.returncode == 0, found
        for broker in brokers:
            await until(lambda: True)
            for _ in range(20):
                left = await asyncio.to_thread(retained, broker.port, "gw-1")
                if not left:
                    break
            assert left == ""

    with at_brokers(tmp_path, 2) as (coordinator, brokers):
        asyncio.run(scene())


def test_p86_a_broker_that_is_killed_takes_none_of_its_nodes_with_it(tmp_path: Path) -> None:
    """And the others are judged as ever."""

    async def scene() -> None:
        await coordinator.connected(3)
        fakes = [Fake(brokers[n % 3].port, f"n-{n:02d}").start() for n in range(30)]
        await until(lambda: count(coordinator, "online") == 30, LONG_S)
        async with Listener(brokers[0].port, FLEET) as ear:
            brokers[1].kill()
            await fakes[0].cut()  # at a broker that is heard
            await until(lambda: told(coordinator, "NodeOffline"), LONG_S)
            await ear.has("/FailoverFrozen", lambda found: found["subject"] == "(broker b1)")
            await no_sooner(6.0)  # twice as long as silence and hold together
            assert [one["node"] for one in told(coordinator, "NodeOffline")] == ["n-00"]
            assert count(coordinator, "online") == 29
            looked = await ctl(coordinator, "nodes")
            assert "STALE: the coordinator does not hear the broker b1" in looked.stdout
            assert "no node of broker b1 is taken for lost" in looked.stdout
            assert "broker b1" in (await ctl(coordinator, "status")).stdout
            brokers[1].start()
            await coordinator.connected(4)
            fakes[0].start()
            await until(lambda: count(coordinator, "online") == 30, LONG_S)
            await until(lambda: all(fake.connection for fake in fakes), LONG_S)
            await fakes[1].cut()  # of the broker that was away: heard again, and judged again
            await until(lambda: len(told(coordinator, "NodeOffline")) == 2, LONG_S)
            assert told(coordinator, "NodeOffline")[1]["node"] == "n-01"
        await all_leave(fakes)

    rules = f"{FAST}\n[fleet]\nprobe_s = 1.0\nprobe_lost_s = 2.0\noutage_calm_s = 1.0\n"
    with at_brokers(tmp_path, 3, rules) as (coordinator, brokers):
        asyncio.run(scene())
