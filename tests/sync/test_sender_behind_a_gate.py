"""The sender while samples have to wait: nothing else does, waiting costs nothing, and then everything goes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.link.gate import OpenGate
from agent.outbox.rows import Row
from agent.sync.gate import SyncGate
from schemas.compress import is_compressed
from schemas.identity import Lane
from schemas.sync import parse_policy
from tests.link.senders import WAIT_S, Rig

EVENT, SAMPLE = Lane.EVENT, Lane.SAMPLE


def test_an_end_that_comes_with_news_is_an_end(tmp_path: Path) -> None:
    """The loop is cancelled in the very turn in which it is woken."""

    async def scenario() -> None:
        rig = Rig(tmp_path)
        rig.sender._gate = SyncGate(OpenGate(), parse_policy({"metered": "yes"}))
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
        rig = Rig(tmp_path)
        gate = SyncGate(OpenGate(), parse_policy({"metered": "yes"}))
        rig.sender._gate, rig.sender.compress = gate, compress
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
