"""What is recorded: an outbox and a coordinator's store that do everything they do, with a witness beside them.

The witness is the file `journal`: a line before something is asked for, a line after it was promised.
"""

import asyncio
import os
import random
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from agent.outbox.opening import open_outbox
from agent.outbox.rows import Draft
from agent.outbox.settings import LaneSettings, OutboxSettings
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, GapRow, RefusedMessage, Row
from schemas.identity import Lane
from schemas.messages import Closed, Refusal, Severity

NODE = "gw-1"
WAIT_S = 60.0
SETTINGS = OutboxSettings(ballast_bytes=0, sample=LaneSettings(rows_max=40))
LANES = (Lane.EVENT, Lane.SAMPLE, Lane.ALERT, Lane.SAMPLE, Lane.STATE, Lane.LIFECYCLE)


class Witness:
    """Lines, each written at once."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def say(self, *words: object) -> None:
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())


def outbox(folder: Path, groups: int) -> None:
    """Two lives of an outbox: the first ends in order, the second as the process does."""
    witness, chance, uid = Witness(folder), random.Random(7), 0

    def done(future: "Future[Any]") -> Any:
        return future.result(WAIT_S)

    for boot in (1, 2):
        witness.say("boot", boot)
        file, _ = open_outbox(folder / "outbox.db", node=NODE, boot=boot, settings=SETTINGS)
        for _ in range(groups):
            drafts = []
            for _ in range(chance.randint(1, 5)):
                lane, uid = chance.choice(LANES), uid + 1
                severity = Severity.INFO if lane is Lane.ALERT else None
                data = {"uid": uid, "text": "x" * chance.randint(1, 600)}
                drafts.append(Draft(lane, "Load", "load", uid, data, severity))
            rows = done(file.append(drafts))
            for row in rows:
                witness.say("kept", row.lane.value, row.seq, row.stream)
            _answer(file, witness, chance, rows[0].lane, done)
        if boot == 1:
            witness.say("closing")
            file.close()
            witness.say("closed")
    os._exit(0)


def _answer(file: Any, witness: Witness, chance: random.Random, lane: Lane, done: Any) -> None:
    """Now and then, what a coordinator says: rows stored, a row refused, gaps closed."""
    what = chance.random()
    waiting = file.take(lane, 0, 6)
    if what < 0.2 and waiting:
        last = waiting[chance.randrange(len(waiting))].seq
        witness.say("answered", lane.value, waiting[0].seq, last)
        done(file.acknowledge([(lane, waiting[0].seq, last)]))
    elif what < 0.25 and waiting:
        witness.say("answered", lane.value, waiting[-1].seq, waiting[-1].seq)
        done(file.quarantine([Refusal(waiting[-1].stream, lane.value, waiting[-1].seq, "no")]))
    elif what < 0.3:
        for gap in file.gaps(3):
            witness.say("answered", gap.lane, gap.first, gap.last)
            held = [(gap.first, gap.first)] if chance.random() < 0.5 else []
            done(file.closed([Closed(gap.stream, gap.lane, gap.first, gap.last, held)]))
    elif what < 0.32:
        done(file.tick())


def batches(count: int) -> list[Batch]:
    """What a coordinator stores, the same each time: rows in and out of order, twice, gaps, what is refused."""
    chance, found, next_seq = random.Random(11), [], dict.fromkeys(("alert", "event", "sample"), 1)
    for number in range(count):
        batch = Batch()
        for _ in range(chance.randint(1, 12)):
            lane = chance.choice(("alert", "event", "sample"))
            seq = next_seq[lane] if chance.random() < 0.8 else chance.randint(1, next_seq[lane])
            next_seq[lane] = max(next_seq[lane], seq + 1)
            text = '{"text": "' + "x" * chance.randint(1, 400) + '"}'
            row = Row(NODE, "s1", lane, seq, "Load", "load", None, number, number, 1, text)
            (batch.samples if lane == "sample" else batch.events).append(row)
        if chance.random() < 0.1:
            first = next_seq["sample"]
            next_seq["sample"] = first + 3
            batch.gaps.append(GapRow(NODE, "s1", "sample", first, first + 2, "rows", number))
        if chance.random() < 0.1:
            batch.refused.append(RefusedMessage(f"edge/v1/{NODE}/event/X", NODE, "no", b"?" * 100, number))
        found.append(batch)
    return found


def coordinator(folder: Path, count: int) -> None:
    """A store that commits one batch after the other."""
    witness = Witness(folder)

    async def commit_all() -> None:
        store = SqliteStore(folder)
        for number, batch in enumerate(batches(count)):
            await store.commit(batch)
            witness.say("answered", number)

    asyncio.run(commit_all())
    os._exit(0)


def main() -> None:
    """WORKLOAD FOLDER COUNT"""
    workload, folder, count = sys.argv[1:]
    {"outbox": outbox, "coordinator": coordinator}[workload](Path(folder), int(count))


if __name__ == "__main__":
    main()
