"""The agent's link to a real broker through a link that stalls, half-opens, is slow, or takes only small packets."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.link.brokers import BrokerRules
from agent.link.pace import ROWS_MIN
from agent.outbox.file import OutboxFile
from runtime.mqtt import BrokerAddress, Limits
from schemas.codec import decode_packed, decode_result
from schemas.identity import Lane
from schemas.messages import CommandState, Gap, SyncBatch
from schemas.topics import Kind
from tests.broker import Broker, free_port, start_broker
from tests.link.nodes import WAIT_S, Ears, brokers_at, node, until
from tests.link.senders import Rig
from tests.proxy import DOWN, PUBACK, PUBLISH, UP, Proxy

Scene = Callable[[Broker, Proxy, Ears], Awaitable[None]]


def play(tmp_path: Path, scene: Scene, *, conf: str = "") -> None:
    async def main(broker: Broker, proxy: Proxy) -> None:
        ears = Ears()
        try:
            async with asyncio.timeout(WAIT_S):
                await ears.attach(broker.port)
                await scene(broker, proxy, ears)
        finally:
            await ears.close()

    broker = start_broker(tmp_path, extra_conf=conf)
    try:
        with Proxy(broker.port, free_port()) as proxy:
            asyncio.run(main(broker, proxy))
    finally:
        broker.kill()


def through(proxy: Proxy) -> BrokerAddress:
    """A dead link is noticed within two of these seconds and paho's own tick."""
    return replace(brokers_at(proxy.port)[0], keepalive_s=1)


async def said(caplog: pytest.LogCaptureFixture, text: str) -> None:
    await until(lambda: text in caplog.text, lambda: caplog.text[-2000:])


@pytest.mark.parametrize("swallowed", [(UP, DOWN), (DOWN,)])
def test_a_half_open_link_is_noticed_and_all_is_sent_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, swallowed: tuple[str, ...]
) -> None:
    caplog.set_level(logging.INFO)

    async def scene(broker: Broker, proxy: Proxy, ears: Ears) -> None:
        async with node(tmp_path, through(proxy), resend_after_s=60.0) as gw:
            await gw.use(proxy.port)
            await gw.append(Lane.EVENT, 20)
            await until(lambda: gw.pending() == 0)
            proxy.half_open(*swallowed)
            await gw.append(Lane.EVENT, 30)
            await gw.append(Lane.ALERT, 10)
            await gw.append(Lane.SAMPLE, 100)
            await said(caplog, "connection ended: keep-alive timeout")
            assert gw.pending() == 140
            proxy.forward()
            await gw.all_stored_in(ears)
            assert len(ears.stored) == 160
            # Up, the coordinator heard of nothing; down, it answered in vain and has met all that was sent twice.
            assert ears.duplicates == 0 if UP in swallowed else ears.duplicates >= 40

    play(tmp_path, scene)


def test_alerts_overtake_what_a_stalled_broker_held_up(tmp_path: Path) -> None:
    async def scene(broker: Broker, proxy: Proxy, ears: Ears) -> None:
        async with node(tmp_path, brokers_at(proxy.port)[0]) as gw:
            await gw.use(proxy.port)
            await gw.append(Lane.EVENT, 5)
            await until(lambda: gw.pending() == 0)
            proxy.stall()
            for _ in range(15):
                await gw.append(Lane.EVENT, 100, "x" * 500)
                await asyncio.sleep(0)
            assert gw.link.is_connected  # nobody has noticed, and nothing is stuck on our side
            await gw.append(Lane.ALERT, 50)
            before = len(ears.arrived)
            proxy.forward()  # the connections are reset: what had been swallowed is missing
            await gw.all_stored_in(ears)
            lanes = [lane for _, lane, _ in dict.fromkeys(ears.arrived[before:])]
            last_alert = len(lanes) - 1 - lanes[::-1].index("alert")
            assert lanes.count("alert") == 50
            assert last_alert < 500  # of 1550

    play(tmp_path, scene)


def test_a_stalled_broker_is_given_up_within_the_keep_alive(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(broker: Broker, proxy: Proxy, ears: Ears) -> None:
        second = start_broker(tmp_path)
        await ears.attach(second.port)
        rules = BrokerRules(probe_s=0.2, return_after_s=60.0, silent_after_s=60.0)
        try:
            async with node(tmp_path, through(proxy), BrokerAddress(port=second.port), rules=rules) as gw:
                await gw.use(proxy.port)
                proxy.stall()
                await gw.append(Lane.EVENT, 500, "x" * 2000)
                await gw.append(Lane.ALERT, 5)
                await gw.use(second.port)
                await gw.all_stored_in(ears)
                assert "keep-alive timeout" in caplog.text
        finally:
            second.kill()

    play(tmp_path, scene)


def test_on_a_slow_link_less_is_under_way_and_nothing_is_lost(tmp_path: Path) -> None:
    async def scene(broker: Broker, proxy: Proxy, ears: Ears) -> None:
        proxy.slow(delay_s=0.1, bytes_s=400_000)
        async with node(tmp_path, brokers_at(proxy.port)[0], resend_after_s=60.0) as gw:
            most = 0
            await gw.append(Lane.EVENT, 150)
            await gw.append(Lane.SAMPLE, 1500)

            def done() -> bool:
                nonlocal most
                most = max(most, gw.sender.state()["backlog_rows_allowed"])
                return gw.pending() == 0

            await until(done, gw.sender.state)
            await gw.all_stored_in(ears)
            assert ears.duplicates <= 100  # what left before the coordinator was known to be there
            assert most == ROWS_MIN  # where answers are quick it is thousands

    play(tmp_path, scene)


def test_a_broker_of_small_packets_blocks_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(broker: Broker, proxy: Proxy, ears: Ears) -> None:
        async with node(tmp_path, brokers_at(proxy.port)[0]) as gw:
            await gw.use(proxy.port)
            for lane in (Lane.ALERT, Lane.EVENT, Lane.SAMPLE):
                await gw.append(lane, 3)
                await gw.append(lane, 1, "x" * 30_000)
                await gw.append(lane, 20, "x" * 4_000)
            await gw.all_stored_in(ears)
            outcome = {a.lane: (a.stored, a.quarantined) for a in gw.file.account() if a.produced}
            assert outcome == dict.fromkeys(("alert", "event", "sample"), (23, 1))
            # A result that the broker would not take is answered too, and the connection survives.
            ears.command(broker.port, "large", b'{"_id": "1"}')
            await until(lambda: ears.results)
            result = decode_result(ears.results[0])
            assert result.state is CommandState.FAILED and result.error is not None
            assert result.error.code == "result_too_large"
            assert proxy.connections_total == 1
            assert gw.link.session == 1

    play(tmp_path, scene, conf="max_packet_size 20000")


def test_a_broker_that_takes_hardly_anything_is_refused_with_a_hint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(broker: Broker, proxy: Proxy, ears: Ears) -> None:
        async with node(tmp_path, brokers_at(proxy.port)[0]) as gw:
            await gw.append(Lane.EVENT, 1, "x" * 1000)
            await said(caplog, "takes packets of 1000 bytes at most; raise its max_packet_size to 8192 or more")
            assert gw.pending() == 1  # and nothing was set aside

    play(tmp_path, scene, conf="max_packet_size 1000")


@pytest.mark.parametrize("receive_max", [1, 10])
def test_the_brokers_receive_maximum_is_kept_to(tmp_path: Path, receive_max: int) -> None:
    async def scene(broker: Broker, proxy: Proxy, ears: Ears) -> None:
        under_way, most = 0, 0

        def watch(direction: str, kind: int) -> None:
            nonlocal under_way, most
            under_way += (direction, kind) == (UP, PUBLISH)
            under_way -= (direction, kind) == (DOWN, PUBACK)
            most = max(most, under_way)

        async with node(tmp_path, brokers_at(proxy.port)[0]) as gw:
            gw.link._heartbeat_s = 3600.0  # QoS 0: they would be counted and never answered
            proxy.on_packet = watch
            await gw.use(proxy.port)
            for _ in range(10):
                await gw.append(Lane.EVENT, 30)
                await gw.append(Lane.SAMPLE, 30)
                await gw.append(Lane.ALERT, 1)
            await gw.all_stored_in(ears)
            assert 1 <= most <= receive_max + 1  # and one heartbeat at the beginning
            assert proxy.connections_total == 1

    play(tmp_path, scene, conf=f"max_inflight_messages {receive_max}")


def test_many_gaps_are_told_in_packets_that_the_broker_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gaps(self: OutboxFile, count_max: int) -> list[Gap]:
        return [Gap("0123456789abcdef", "event", 10 * n + 1, 10 * n + 5, "rows") for n in range(min(count_max, 400))]

    async def scenario() -> None:
        monkeypatch.setattr(OutboxFile, "gaps", gaps)
        rig = Rig(tmp_path, limits=Limits(packet_bytes_max=8192))
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.until(lambda: bool(wire.published), "no gaps are told")
        told = decode_packed(SyncBatch, Kind.SYNC, wire.published[0].payload).gaps
        assert 10 < len(told) < 400
        assert told == gaps(rig.file, len(told))
        assert wire.published[0].packet_bytes_max <= 8192
        await rig.close()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_row_is_stored_once_however_often_the_link_is_cut(tmp_path: Path) -> None:
    async def scene(broker: Broker, proxy: Proxy, ears: Ears) -> None:
        async with node(tmp_path, brokers_at(proxy.port)[0]) as gw:

            async def produce() -> None:
                for n in range(60):
                    await gw.append((Lane.EVENT, Lane.ALERT, Lane.SAMPLE)[n % 3], 10)
                    await asyncio.sleep(0.02)

            producing = asyncio.create_task(produce())
            for n in range(3):
                await gw.use(proxy.port)
                await asyncio.sleep(0.1 + 0.05 * n)
                proxy.cut()
                await until(lambda: not gw.link.is_connected)
            await producing
            await gw.all_stored_in(ears)
            assert len(ears.stored) == 600

    play(tmp_path, scene)
