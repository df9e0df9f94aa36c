"""What the coordinator's side alone can take: decode, dedupe, commit to disk, answer. No broker, one process.

Messages as an agent with a backlog sends them: batches of 500 samples, and events one by one (`--events` percent of
the rows). Every row is committed with the store's own durability.

usage: python -m benchmarks.ingest [--json] [--dsn DSN]

`ingest_rows_s`: from the first message in the inbox to the answer of the last row. `commit_ms_p99`: one transaction.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from coordinator.counters import Counters
from coordinator.fleet.registry import Fleet, LivenessRules
from coordinator.ingest.batch import BatchLimits
from coordinator.ingest.inbox import Inbox, Item
from coordinator.ingest.ingest import Ingest
from coordinator.link.outgoing import Outgoing
from coordinator.store.place import PostgresPlace, open_store
from platforms.catalogue import open_catalogue
from runtime.mqtt import Delivery, Message
from schemas.codec import encode_event, encode_packed
from schemas.identity import Identity
from schemas.messages import Ack, Event, SyncBatch, SyncRow
from schemas.topics import TopicSpace

BATCH_ROWS = 500
WAITING_MAX = 200  # messages in the inbox at a time


class _Wire:
    """Takes the answers."""

    index = 0

    def __init__(self) -> None:
        self.answered = 0
        self.outgoing = Outgoing(TopicSpace())

    def publish(self, message: Message) -> None:
        """Anything else."""

    def answer(self, *answers: tuple[str, Ack]) -> None:
        for node, ack in answers:
            self.outgoing.answer(node, ack)
        while self.outgoing.next(1024 * 1024) is not None:
            pass  # encoded, as for a broker that takes all at once

    def acknowledge(self, *deliveries: Delivery) -> None:
        self.answered += len(deliveries)


def deliveries(rows: int, events_percent: int) -> list[Delivery]:
    """What a node would send, sample batches and events mixed."""
    found: list[Delivery] = []
    events_each = BATCH_ROWS * events_percent // max(1, 100 - events_percent)
    sample = event = 0
    while sample + event < rows:
        batch = [
            SyncRow("sample", sample + i, "CountsChanged", "cam1/lane-1", 1_764_000_000_000 + i, _data(sample + i))
            for i in range(1, BATCH_ROWS + 1)
        ]
        sample += BATCH_ROWS
        found.append(_delivery("sync", encode_packed(SyncBatch("0f1e2d3c4b5a6978", 1, batch))))
        for _ in range(events_each):
            event += 1
            who = Identity("gw-1", "0f1e2d3c4b5a6978", "event", event)
            said = Event(who, "ObjectSeen", "cam1/lane-1", 1_764_000_000_000 + event, _data(event), 1)
            found.append(_delivery("event/ObjectSeen", encode_event(said)))
    return found


def _data(n: int) -> dict[str, Any]:
    """Of a CountsChanged, and of an ObjectSeen."""
    counts = {"person": n % 7, "car": n % 3}
    return {"uid": n, "camera_id": "cam1", "pipeline": "lane-1", "counts": counts, "box": [0, 0, 640, 480]}


def _delivery(below: str, payload: bytes) -> Delivery:
    return Delivery(f"edge/v1/gw-1/{below}", payload, 1, False, 1)


async def measure(rows: int = 200_000, events_percent: int = 10, dsn: str = "") -> dict[str, Any]:
    """The keys of the benchmark."""
    messages = deliveries(rows, events_percent)
    with tempfile.TemporaryDirectory(prefix="edgewright-ingest-") as folder:
        store, counters, wire = open_store(PostgresPlace(dsn) if dsn else Path(folder)), Counters(), _Wire()
        inbox = Inbox(counters)
        fleet = Fleet([], LivenessRules(), 0)
        ingest = Ingest(store, fleet, inbox, counters, TopicSpace(), BatchLimits(), open_catalogue())
        task = asyncio.create_task(ingest.run(), name="ingest")
        began_s, cpu_s = time.monotonic(), time.process_time()
        for message in messages:
            while len(inbox) >= WAITING_MAX:
                await asyncio.sleep(0.001)
            inbox.put(Item(message, wire, 1_764_000_000_000))
        inbox.close()
        await task
        took_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        store.close()
    assert wire.answered == len(messages)
    assert ingest.figures() == {"invalid": 0, "unchecked": 0}
    said = counters.snapshot()
    return {
        "rows": counters.stored,
        "messages": len(messages),
        "ingest_rows_s": round(counters.stored / took_s),
        "cpu_s": round(cpu_s, 2),
        "commits": counters.batches,
        "commit_ms_p50": round(said["commit_ms_p50"], 1),
        "commit_ms_p99": round(said["commit_ms_p99"], 1),
    }


def main(argv: list[str] | None = None) -> int:
    """Prints what was measured; with --json one object on the last line."""
    parser = argparse.ArgumentParser(prog="benchmarks.ingest", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--events", type=int, default=10, metavar="PERCENT")
    parser.add_argument("--dsn", default="", help="a PostgreSQL database to ingest into, instead of a file")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    found = asyncio.run(measure(arguments.rows, arguments.events, arguments.dsn))
    if arguments.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:20} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
