"""Any mixture of commits, lost connections and late, partial or absent answers ends with every row answered."""

import asyncio
import random
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.identity import Lane
from tests.link.senders import WAIT_S, Rig

LANES = [Lane.LIFECYCLE, Lane.ALERT, Lane.EVENT]
STEPS = ["append", "append", "append", "puback", "answer", "answer_some", "lose", "connect", "coordinator", "wait"]


async def storm(folder: Path, steps: list[str], seed: int) -> None:
    chance = random.Random(seed)
    rig = Rig(folder, resend_after_s=0.05)
    produced = dict.fromkeys(LANES, 0)
    sent: set[tuple[Lane, int]] = set()
    online = False
    for step in steps:
        match step:
            case "append":
                lane, count = chance.choice(LANES), chance.randint(1, 40)
                await rig.append(lane, count)
                produced[lane] += count
            case "puback":
                rig.puback(chance.randint(1, 50))
            case "answer" | "answer_some" if rig.task is not None:
                for lane, seq in list(dict.fromkeys(rig.wire.rows)):
                    if step == "answer" or chance.random() < 0.3:
                        await rig.answer(lane, (seq, seq))
            case "lose":
                await rig.lose()
            case "connect" if rig.task is None:
                sent.update(rig.wire.rows)
                await rig.connect()
            case "coordinator":
                online = not online
                rig.sender.coordinator(online)
            case "wait":
                await asyncio.sleep(chance.choice([0, 0.002, 0.01]))
        for found in rig.file.account():
            assert found.produced == found.stored + found.pending
    # Now the world is kind.
    if rig.task is None:
        await rig.connect()
    rig.sender.coordinator(True)
    answered = 0
    while any(found.pending for found in rig.file.account()):
        rig.puback()
        await asyncio.sleep(0.005)
        new, answered = rig.wire.rows[answered:], len(rig.wire.rows)
        for lane in LANES:
            seqs = [(seq, seq) for key, seq in new if key is lane]
            if seqs:
                await rig.answer(lane, *seqs)
    account = {Lane(found.lane): found for found in rig.file.account()}
    assert {lane: account[lane].stored for lane in LANES} == produced
    await rig.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.sampled_from(STEPS), max_size=30), seed=st.integers(0, 2**32))
def test_every_row_is_answered_in_the_end(steps: list[str], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(asyncio.wait_for(storm(Path(folder), steps, seed), WAIT_S))
