"""The sender while samples have to wait: nothing else does, waiting costs nothing, and then everything goes."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.link import sender as sender_module
from agent.link.gate import Gate, OpenGate, RateGate
from agent.link.pace import ROWS_BEGIN
from agent.link.settings import LinkSettings
from agent.outbox.rows import Row
from agent.sync.gate import SyncGate
from schemas.compress import is_compressed
from schemas.identity import Lane
from schemas.sync import parse_policy
from tests.link.senders import WAIT_S, Rig, events

EVENT, SAMPLE = Lane.EVENT, Lane.SAMPLE


def test_an_end_that_comes_with_news_is_an_end(tmp_path: Path) -> None:
    """The loop is cancelled in the very turn in which it is woken."""

    async def scenario() -> None:
        rig = Rig(tmp_path, gate=SyncGate(OpenGate(), parse_policy({"metered": "yes"})))
        await rig.append(SAMPLE, 5)
        rig.sender.coordinator(True)
        await rig.connect()
        await asyncio.sleep(0.02)
        assert rig.task is not None
        rig.sender.coordinator(True)
        rig.task.cancel()
        done, _ = await asyncio.wait({rig.task}, timeout=5.0)
        rig.wire.is_open = False
        assert done
        rig.task = None
        rig.file.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("compress", [True, False])
def test_samples_wait_and_events_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: bool) -> None:
    async def scenario() -> None:
        gate = SyncGate(OpenGate(), parse_policy({"metered": "yes"}))
        rig = Rig(tmp_path, gate=gate)
        gate.on_change = rig.sender.wake
        rig.sender.compress(compress)
        read: list[Lane] = []
        take = rig.file.take

        def watched(lane: Lane, after_seq: int, count_max: int) -> list[Row]:
            read.append(lane)
            return take(lane, after_seq, count_max)

        monkeypatch.setattr(rig.file, "take", watched)
        await rig.append(SAMPLE, 700, "waited before")
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.append(SAMPLE, 5, "live")
        for _ in range(20):
            await rig.append(EVENT, 1)
            await asyncio.sleep(0.01)
        await rig.until(lambda: len(wire.rows) == 20, "events")
        assert {lane for lane, _ in wire.rows} == {EVENT}
        assert SAMPLE not in read, "a batch that may not go is not even read"
        rig.puback()
        await rig.answer(EVENT, (1, 20))
        await asyncio.sleep(0.1)
        assert not rig.sender.waiting(), "an agent that stops does not wait for what may not go"
        gate.set_policy(parse_policy({"metered": "no"}))
        assert rig.sender.waiting()
        while len({key for key in wire.rows if key[0] is SAMPLE}) < 705:
            rig.puback()
            await rig.answer(SAMPLE, (1, 705))  # frees what was sent of it
            await asyncio.sleep(0.01)
        batches: list[Any] = [m.payload for m, keys in zip(wire.published, wire.keys, strict=True) if len(keys) > 100]
        assert batches
        assert all(is_compressed(payload) is compress for payload in batches)
        assert gate.bytes_total[SAMPLE] == sum(len(m.payload) for m in wire.published if m.topic.endswith("/sync"))
        await rig.close()

    async def within() -> None:
        async with asyncio.timeout(WAIT_S):
            await scenario()

    asyncio.run(within())


def in_time(scenario: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(WAIT_S):
            await scenario()

    asyncio.run(within())


class Asked:
    """Counts how often a gate is asked."""

    def __init__(self, inner: Gate) -> None:
        self._inner = inner
        self.times = 0

    def may_send(self, lane: Lane, size: int, now_s: float) -> bool:
        self.times += 1
        return self._inner.may_send(lane, size, now_s)

    def look_again_s(self, lane: Lane, size: int, now_s: float) -> float:
        return self._inner.look_again_s(lane, size, now_s)

    def sent(self, lane: Lane, size: int, now_s: float) -> None:
        self._inner.sent(lane, size, now_s)


def test_what_is_held_back_sleeps_until_somebody_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "TICK_S", 3600.0)

    async def scenario() -> None:
        inner = SyncGate(OpenGate(), parse_policy({"metered": "yes"}))
        gate = Asked(inner)
        rig = Rig(tmp_path, gate=gate)
        inner.on_change = rig.sender.wake
        await rig.append(SAMPLE, ROWS_BEGIN)
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.until(lambda: gate.times > 0, "the gate is not asked")
        times = gate.times
        await asyncio.sleep(0.5)
        assert gate.times == times, "nothing has changed"
        await rig.append(Lane.ALERT, 1)
        await rig.until(lambda: len(wire.rows) == 1, "an alert waits for the gate's time")
        inner.set_policy(parse_policy({"metered": "auto"}))
        await rig.until(lambda: len(wire.rows) == 1 + ROWS_BEGIN, "another policy wakes nobody")
        rig.puback()
        await rig.answer(SAMPLE, (1, ROWS_BEGIN))
        inner.found_metered(True)
        await rig.append(SAMPLE, ROWS_BEGIN)
        await rig.lose()
        again = await rig.connect()
        await rig.until(lambda: (Lane.ALERT, 1) in again.rows, "not sent again")
        await rig.answer(Lane.ALERT, (1, 1))
        inner.found_metered(False)
        await rig.until(lambda: len(again.rows) == 1 + ROWS_BEGIN, "a link that costs nothing any more wakes nobody")
        await rig.close()

    in_time(scenario)


def test_a_rate_is_used_to_the_full_without_looking_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "TICK_S", 3600.0)

    async def scenario() -> None:
        gate = Asked(RateGate(LinkSettings(messages_s_max=20, burst_s=0.1)))
        rig = Rig(tmp_path, gate=gate)
        await rig.append(EVENT, 12)
        wire = await rig.connect()
        while len(wire.rows) < 12:  # no PUBACK and nobody else wakes it: the gate's time does
            await asyncio.sleep(0.01)
        assert wire.rows == events(*range(1, 13))
        assert gate.times < 100
        await rig.close()

    in_time(scenario)
