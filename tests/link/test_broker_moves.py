"""A node with two real brokers: kill -9 of the first and its return, silence, a wrong password, a bridge."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.link import link as link_module
from coordinator.fleet.registry import NodeState
from runtime.mqtt import BrokerAddress
from schemas.identity import Lane
from schemas.messages import Presence
from tests.broker import Broker, free_port, start_broker
from tests.link.nodes import RULES, WAIT_S, Ears, brokers_at, node, retained_status, until

Scene = Callable[[Broker, Broker, Ears], Awaitable[None]]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "LOOK_S", 0.1)
    monkeypatch.setattr(link_module, "HAND_OVER_S", 0.5)


def play(tmp_path: Path, scene: Scene, *, first_conf: str = "", second_conf: str = "") -> None:
    async def main() -> None:
        first = start_broker(tmp_path, extra_conf=first_conf)
        second = start_broker(tmp_path, extra_conf=second_conf)
        ears = Ears()
        try:
            async with asyncio.timeout(WAIT_S):
                await scene(first, second, ears)
        finally:
            await ears.close()
            first.kill()
            second.kill()

    asyncio.run(main())


def test_the_first_broker_is_killed_and_comes_back(tmp_path: Path) -> None:
    async def scene(first: Broker, second: Broker, ears: Ears) -> None:
        await ears.attach(first.port)
        await ears.attach(second.port)
        async with node(tmp_path, *brokers_at(first.port, second.port)) as gw:
            await gw.use(first.port)
            await gw.append(Lane.EVENT, 50)
            await until(lambda: gw.pending() == 0)
            first.kill()
            await gw.append(Lane.ALERT, 5)
            await gw.append(Lane.EVENT, 200)
            await gw.append(Lane.SAMPLE, 200)
            await gw.use(second.port)
            await gw.all_stored_in(ears)
            (away,) = [data for kind, _, data in gw.announced if kind == "BrokerChanged"]
            assert (away["to"], away["preferred"]) == (f"mqtt://127.0.0.1:{second.port}", False)
            assert "connection lost" in away["reason"]

            first.start()
            await ears.attach(first.port)
            feeding = asyncio.create_task(feed(gw.append))
            await gw.use(first.port)
            feeding.cancel()
            await gw.all_stored_in(ears)
            back = gw.announced[-1][2]
            assert (back["to"], back["preferred"]) == (f"mqtt://127.0.0.1:{first.port}", True)
            assert "answers again" in back["reason"]
            assert gw.link.state()["moves_total"] == 1
            assert gw.link.state()["brokers"][0]["last_trouble"] in ("lost", "unreachable")

            # Left in order: it says so there, and was never away for those who compare sessions.
            left = await retained_status(second.port)
            assert left is not None and left.state is Presence.OFFLINE and "moved to" in left.reason
            kept = await retained_status(first.port)
            assert kept is not None and kept.state is Presence.ONLINE and kept.session > left.session
            assert [event.type for event in ears.told] == ["NodeOnline"]
            assert ears.node_state is NodeState.ONLINE
        await until(lambda: ears.node_state is NodeState.OFFLINE)

    async def feed(append: Callable[[Lane, int], Awaitable[None]]) -> None:
        while True:
            await append(Lane.EVENT, 3)
            await append(Lane.SAMPLE, 3)
            await asyncio.sleep(0.02)

    play(tmp_path, scene)


def test_without_the_first_it_begins_at_the_second_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(first: Broker, second: Broker, ears: Ears) -> None:
        await ears.attach(second.port)
        absent = free_port()
        async with node(tmp_path, *brokers_at(absent, second.port)) as gw:
            await gw.use(second.port)
            await gw.append(Lane.EVENT, 10)
            await gw.all_stored_in(ears)
            await until(lambda: "refused" in gw.link.state()["brokers"][0]["last_reason"])
            await asyncio.sleep(5 * RULES.probe_s)
            assert gw.uses(second.port)
            warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
            assert len(warnings) == 2
            assert f"mqtt://127.0.0.1:{second.port}: connected instead of mqtt://127.0.0.1:{absent}" in warnings[1]
            assert len(ears.statuses) == 1

    play(tmp_path, scene)


def test_a_broker_that_no_coordinator_hears_is_left(tmp_path: Path) -> None:
    async def scene(first: Broker, second: Broker, ears: Ears) -> None:
        await ears.attach(second.port)
        async with node(tmp_path, *brokers_at(first.port, second.port)) as gw:
            await gw.use(first.port)
            await gw.append(Lane.EVENT, 20)
            await gw.use(second.port)
            await gw.all_stored_in(ears)
            report = gw.link.state()["brokers"][0]
            assert (report["last_trouble"], report["failures_total"]) == ("silent", 1)
            assert report["return_after_s"] == 2 * RULES.return_after_s
            left = await retained_status(first.port)
            assert left is not None and left.state is Presence.OFFLINE

    play(tmp_path, scene)


def test_samples_that_wait_for_a_coordinator_count_too(tmp_path: Path) -> None:
    """They are not even published where the coordinator is known to be away."""

    async def scene(first: Broker, second: Broker, ears: Ears) -> None:
        await ears.attach(first.port, online=False)
        ears.answers = False
        other = Ears()
        await other.attach(second.port)
        async with node(tmp_path, *brokers_at(first.port, second.port)) as gw:
            await gw.use(first.port)
            await gw.append(Lane.SAMPLE, 20)
            await gw.use(second.port)
            await gw.all_stored_in(other)
            assert ears.arrived == []
        await other.close()

    play(tmp_path, scene)


@pytest.mark.slow
def test_where_nobody_answers_it_stays_rather_than_go_round(tmp_path: Path) -> None:
    async def scene(first: Broker, second: Broker, ears: Ears) -> None:
        async with node(tmp_path, *brokers_at(first.port, second.port)) as gw:
            await gw.use(first.port)
            await gw.append(Lane.EVENT, 20)
            await gw.use(second.port)  # away from the first silence; the second leads nowhere
            await asyncio.sleep(1.5 * RULES.silent_after_s)
            assert gw.link.state()["moves_total"] <= 2
            await ears.attach(first.port)
            await ears.attach(second.port)
            await gw.all_stored_in(ears)

    play(tmp_path, scene)


def test_a_return_that_is_refused_leaves_the_fallback_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "gw-1", "right"], check=True, timeout=20)
    strict = f"allow_anonymous false\npassword_file {passwords}\nuser root"

    async def scene(first: Broker, second: Broker, ears: Ears) -> None:
        await ears.attach(second.port)
        absent = BrokerAddress(port=free_port(), username="gw-1", password="wrong")
        async with node(tmp_path, absent, BrokerAddress(port=second.port)) as gw:
            await gw.use(second.port)
            strange = start_broker(tmp_path, absent.port, extra_conf=strict)
            try:
                await until(lambda: gw.link.state()["brokers"][0]["last_trouble"] == "auth", gw.link.state)
                await gw.append(Lane.EVENT, 10)
                await gw.all_stored_in(ears)
                assert gw.uses(second.port)
                assert [status.session for _, status in ears.statuses] == [2]
                assert gw.link.state()["brokers"][0]["not_tried_for_s"] > 10
                assert "staying with" in caplog.text and "wrong" not in caplog.text
            finally:
                strange.kill()

    play(tmp_path, scene)


def test_a_broker_that_accepts_and_does_no_more_is_not_returned_to(tmp_path: Path) -> None:
    async def half_dead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes.fromhex("20 03 00 00 00"))  # CONNACK: accepted
        await reader.read(1000)
        writer.close()

    async def scene(first: Broker, second: Broker, ears: Ears) -> None:
        await ears.attach(second.port)
        port = free_port()
        async with node(tmp_path, *brokers_at(port, second.port)) as gw:
            await gw.use(second.port)
            server = await asyncio.start_server(half_dead, "127.0.0.1", port)
            await until(lambda: gw.link.state()["brokers"][0]["failures_total"] >= 3, gw.link.state)
            assert gw.link.state()["brokers"][0]["return_after_s"] >= 4 * RULES.return_after_s
            await gw.append(Lane.EVENT, 10)
            await gw.all_stored_in(ears)
            assert gw.uses(second.port)
            assert [(status.state, status.session) for _, status in ears.statuses] == [(Presence.ONLINE, 2)]
            server.close()

    play(tmp_path, scene)


def test_two_brokers_with_a_bridge_between_them_know_one_node(tmp_path: Path) -> None:
    """The coordinator hears both words, the new `online` and the old `offline`, in either order."""
    first_port = free_port()

    async def scene(unused: Broker, second: Broker, ears: Ears) -> None:
        await ears.attach(second.port)
        async with node(tmp_path, *brokers_at(first_port, second.port)) as gw:
            await gw.use(second.port)
            await gw.append(Lane.EVENT, 20)
            bridge = f"connection b\naddress 127.0.0.1:{second.port}\ntopic # both 1\nbridge_protocol_version mqttv50"
            first = start_broker(tmp_path, first_port, extra_conf=bridge)
            try:
                commands = 0
                while not gw.uses(first_port):
                    ears.command(second.port, "count")
                    commands += 1
                    await asyncio.sleep(0.05)
                await gw.append(Lane.EVENT, 20)
                await gw.all_stored_in(ears)
                for port in (first_port, second.port):
                    for _ in range(100):
                        kept = await retained_status(port)
                        if kept and (kept.state, kept.session) == (Presence.ONLINE, gw.link.session):
                            break
                    assert kept is not None and kept.state is Presence.ONLINE, port
                assert [event.type for event in ears.told] == ["NodeOnline"]
                assert ears.node_state is NodeState.ONLINE
                ears.command(second.port, "count")  # through the bridge
                await until(lambda: len(ears.results) >= gw.runs["count"] > 0)
                assert gw.runs["count"] <= commands + 1  # none came twice
            finally:
                first.kill()

    play(tmp_path, scene)


@pytest.mark.slow
def test_a_stop_in_the_middle_of_anything_ends_offline(tmp_path: Path) -> None:
    async def scene(first: Broker, second: Broker, ears: Ears) -> None:
        await ears.attach(first.port)
        await ears.attach(second.port)
        for n in range(6):
            first.kill()
            async with node(tmp_path, *brokers_at(first.port, second.port)) as gw:
                await gw.use(second.port)
                first.start()
                await ears.attach(first.port)
                await asyncio.sleep(RULES.return_after_s - 0.3 + 0.2 * n)
            last = gw.link.session
            statuses = [(await retained_status(port)) for port in (first.port, second.port)]
            assert all(status is None or status.state is Presence.OFFLINE for status in statuses), statuses
            assert max(status.session for status in statuses if status) in (last, last - 1)

    play(tmp_path, scene)
