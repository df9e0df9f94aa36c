"""What leaves a node, against its video and against sending every result: `python -m benchmarks.bandwidth --json`.

Real processes: mosquitto, the coordinator, and two agents on the same clip at its own speed at the same time. One has
the default policy (frames summed up, batches as zstd), the other sends the result of every frame (mode `all`, not
compressed); else they are the same. Each talks to the broker through a proxy that counts what it sends: every byte of
MQTT from connect to goodbye, heartbeats, events and acknowledgements included, without TCP and IP headers. The clips
are those of the test data that are H.264 and last 25 s or more; bytes are summed up over them. No evidence is sent.

- `reduction_vs_video`: 1 - bytes of the default agent / bytes of the clips' video packets.
- `reduction_vs_raw_results`: 1 - bytes of the default agent / bytes of the other one.
- `local_processing_rate`: every frame is decided on the node, and nothing waits for an answer of the cloud; this is
  the share of results (one a frame, and the routine samples) that stay: 1 - result rows that leave / results made.
  `facts_per_frame` says how many events and alerts, which all leave, there are beside them.
- `missing`: events and alerts at the edge that are not in the coordinator's store, plus frames whose result cannot be
  asked for at the node. The edge's count is independent of outbox and link: a local action publishes each event at
  the moment it is decided on a topic of its own, and a listener keeps the journal.
"""

import argparse
import asyncio
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av

from agent.infer.bundle_maker import make_bundle
from agent.outbox.inspect import account
from agent.results.store import NoResultsError, opened
from benchmarks.agent_path import ASSETS, YOLO
from runtime.mqtt import BrokerAddress, Connection, Delivery
from runtime.sqlite import StorageError
from schemas.codec import format_utc
from scripts.stack import Stack, StackError

CLIPS = (
    "road_counting_640x352.mp4",
    "vtest_480x360.avi",
    "intel_car-detection.mp4",
    "intel_bottle-detection.mp4",
    "fruit_shelf_360p.mp4",
)
FACTS = (
    "ObjectSeen", "ObjectUpdated", "ObjectGone", "LineCrossed", "ZoneCountChanged",
    "AlertRaised", "AlertUpdated", "AlertCleared",
)  # fmt: skip
DEFAULT, RAW = "default", "raw"
DRAIN_S = 60.0


@dataclass(slots=True)
class Figures:
    """What is printed; the first four as the issue names them."""

    reduction_vs_video: float = 0.0
    reduction_vs_raw_results: float = 0.0
    local_processing_rate: float = 0.0
    missing: int = 0
    seconds: float = 0.0
    video_bytes: int = 0
    bytes_default: int = 0
    bytes_raw: int = 0
    frames: int = 0  # decided by the default agent
    frames_of_video: int = 0  # more than those where the machine was too slow for two agents at the clip's own rate
    facts: int = 0  # events and alerts of the default agent
    facts_per_frame: float = 0.0
    results_made: int = 0
    result_rows_left: int = 0
    by_clip: dict[str, dict[str, float]] = field(default_factory=dict)


# ---- counting ---------------------------------------------------------------------------------------


class CountingProxy:
    """Passes connections on to the broker and counts the bytes of the side that connects."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self.sent_bytes = 0
        self.port = 0

    async def start(self) -> None:
        """Listens on a port of its own when this returns."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        try:
            await asyncio.gather(self._pass(reader, to_broker, count=True), self._pass(from_broker, writer))
        except OSError:
            return

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, count: bool = False) -> None:
        while data := await source.read(64 * 1024):
            self.sent_bytes += len(data) if count else 0
            sink.write(data)
            await sink.drain()
        sink.close()


class Journal:
    """What the edge decided, as its local actions told it: (node, type, subject, time)."""

    def __init__(self, port: int) -> None:
        self.facts: Counter[tuple[str, str, str, str]] = Counter()
        self._connection = Connection(BrokerAddress(port=port), client_id="journal", on_message=self._take)

    async def start(self) -> None:
        await self._connection.connect()
        await self._connection.subscribe({"journal/+": 1})

    async def close(self) -> None:
        await self._connection.close()

    def _take(self, delivery: Delivery) -> None:
        event = json.loads(delivery.payload)
        node = delivery.topic.partition("/")[2]
        self.facts[node, event["type"], event["subject"], event["time"]] += 1
        self._connection.acknowledge(delivery)


def video(clip: Path, seconds: float) -> tuple[int, int, float]:
    """Bytes and frames of the video's first `seconds` (0: all), and how long they last."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name != "h264":
            raise StackError(f"{clip} is {stream.codec_context.name}, not H.264")
        size, frames = 0, 0
        rate = float(stream.average_rate or 25)
        for packet in container.demux(stream):
            if packet.size and (not seconds or frames < seconds * rate):
                size, frames = size + packet.size, frames + 1
    return size, frames, frames / rate


# ---- one clip ---------------------------------------------------------------------------------------


def agent_toml(folder: Path, node: str, proxy: int, broker: int, clip: Path, model: Path) -> str:
    """The default configuration on this clip; the other agent sends each frame's result as it is."""
    policy = '[sync]\nmode = "all"\ncompress = false\n' if node == RAW else ""
    return (
        f'[node]\nid = "{node}"\ndata_dir = "{folder / node}"\n[broker]\nport = {proxy}\n'
        f'[[cameras]]\nid = "cam"\nsource = "{clip}"\n[[pipelines]]\ncamera = "cam"\nmodel = "{model}"\n'
        '[[pipelines.zones]]\nname = "middle"\npolygon = [[0.2, 0.2], [0.8, 0.2], [0.8, 0.95], [0.2, 0.95]]\n'
        '[[pipelines.rules]]\nname = "somebody"\nclasses = ["person"]\n'
        f'[local_broker]\nport = {broker}\n[[actions]]\nname = "journal"\ndo = "mqtt"\ntopic = "journal/{{node}}"\n'
        f'payload = "{{json}}"\nqueue_max = 10000\non = {{ types = {json.dumps(FACTS)} }}\n{policy}'
    )


async def run_clip(folder: Path, clip: Path, model: Path, seconds: float, figures: Figures) -> None:
    """Both agents on one clip; adds to the figures."""
    shown = video(clip, seconds)
    with Stack(folder) as stack:
        stack.start_broker()
        stack.start_coordinator()
        journal = Journal(stack.port)
        await journal.start()
        proxies = {node: CountingProxy(stack.port) for node in (DEFAULT, RAW)}
        for node, proxy in proxies.items():
            await proxy.start()
            config = folder / f"{node}.toml"
            config.write_text(agent_toml(folder, node, proxy.port, stack.port, clip, model), encoding="utf-8")
            stack.spawn(node, [sys.executable, "-m", "agent", "run", "--config", str(config)])
        await finished(stack, shown[2])
        for node in proxies:
            await asyncio.to_thread(stack.stop_one, node)
        await until(stack, lambda: sum(missing_facts(stack, journal).values()) == 0, "events", wait_s=5.0, must=False)
        await journal.close()
        add(figures, stack, journal, proxies, clip, shown)
        for proxy in proxies.values():
            await proxy.close()


async def finished(stack: Stack, play_s: float) -> None:
    """Until both agents have played it for so long, or to its end, and nothing waits in their outboxes."""
    began = {node: await first_frame(stack, node) for node in (DEFAULT, RAW)}

    def is_over() -> bool:
        return all(time.monotonic() >= began[node] + play_s or ended(stack, node) for node in began)

    await until(stack, is_over, "the end of the clip")
    await until(stack, lambda: all(drained(stack, node) for node in began), "an empty outbox", wait_s=DRAIN_S)


async def first_frame(stack: Stack, node: str) -> float:
    await until(stack, lambda: kept_frames(stack, node) > 0, "a frame", wait_s=60.0)
    return time.monotonic()


async def until(
    stack: Stack, true: Callable[[], object], what: str, *, wait_s: float = 600.0, must: bool = True
) -> None:
    end_s = time.monotonic() + wait_s
    while not await asyncio.to_thread(true):
        stack.check()
        if time.monotonic() > end_s:
            if must:
                raise StackError(f"{what} did not come:\n{stack.log_tail(DEFAULT)}")
            return
        await asyncio.sleep(0.2)


def kept_frames(stack: Stack, node: str) -> int:
    """Frame results that can be asked for at the node."""
    try:
        with opened(stack.folder / node / "results.db") as db:
            found = db.execute("SELECT count(*) FROM results WHERE type = 'FrameResult'").fetchone()
    except (NoResultsError, StorageError):
        return 0
    return int(found[0])


def ended(stack: Stack, node: str) -> bool:
    wanted = "SELECT count(*) FROM events WHERE node = ? AND type = 'CameraStateChanged' AND data LIKE '%\"ended\"%'"
    return bool(stored(stack, wanted, node)[0][0])


def drained(stack: Stack, node: str) -> bool:
    return all(lane.pending == 0 for lane in account(stack.folder / node / "outbox.db"))


@contextmanager
def _store(stack: Stack) -> Iterator[sqlite3.Connection]:
    path = stack.folder / "coordinator" / "coordinator.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0)) as db:
        yield db


def stored(stack: Stack, query: str, *values: object) -> list[tuple[Any, ...]]:
    """From the coordinator's store."""
    with _store(stack) as db:
        return db.execute(query, values).fetchall()


# ---- what came of it --------------------------------------------------------------------------------


def missing_facts(stack: Stack, journal: Journal) -> Counter[tuple[str, str, str, str]]:
    """What the edge decided and the coordinator does not have."""
    rows = stored(stack, "SELECT node, type, subject, time_utc_ms FROM events WHERE lane IN ('event', 'alert')")
    there = Counter((node, kind, subject, format_utc(at_ms)) for node, kind, subject, at_ms in rows)
    return journal.facts - there


def decided_frames(stack: Stack, node: str) -> int:
    """As the pipeline counted them itself."""
    wanted = "SELECT data FROM events WHERE node = ? AND type = 'PipelineStopped'"
    return sum(int(json.loads(data)["frames_total"]) for (data,) in stored(stack, wanted, node))


def add(
    figures: Figures, stack: Stack, journal: Journal, proxies: dict[str, CountingProxy], clip: Path,
    shown: tuple[int, int, float],
) -> None:  # fmt: skip
    """One clip's share of the figures."""
    video_bytes, video_frames, video_s = shown
    frames = {node: decided_frames(stack, node) for node in proxies}
    lost = sum(missing_facts(stack, journal).values())
    lost += sum(abs(frames[node] - kept_frames(stack, node)) for node in proxies)
    facts = sum(count for (node, *_), count in journal.facts.items() if node == DEFAULT)
    (left,) = stored(stack, "SELECT count(*) FROM samples WHERE node = ?", DEFAULT)[0]
    with opened(stack.folder / DEFAULT / "results.db") as db:
        (made,) = db.execute("SELECT count(*) FROM results").fetchone()
    sent = {node: proxy.sent_bytes for node, proxy in proxies.items()}
    figures.missing += lost
    figures.seconds += video_s
    figures.video_bytes += video_bytes
    figures.bytes_default += sent[DEFAULT]
    figures.bytes_raw += sent[RAW]
    figures.frames += frames[DEFAULT]
    figures.frames_of_video += video_frames
    figures.facts += facts
    figures.results_made += made
    figures.result_rows_left += left
    figures.by_clip[clip.name] = {
        "seconds": round(video_s, 1),
        "video_bytes": video_bytes,
        "bytes_default": sent[DEFAULT],
        "bytes_raw": sent[RAW],
        "frames_of_video": video_frames,
        "frames_default": frames[DEFAULT],
        "frames_raw": frames[RAW],
        "facts": facts,
        "missing": lost,
    }


def measure(clips: list[str], seconds: float) -> Figures:
    """All clips, one after the other."""
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="edgewright-bandwidth-") as temporary:
        folder = Path(temporary)
        model = folder / "model"
        make_bundle(YOLO, model, labels=_labels(), confidence=0.4)
        for name in clips:
            asyncio.run(run_clip(folder / name, ASSETS / "video" / name, model, seconds, figures))
    figures.reduction_vs_video = round(1 - figures.bytes_default / figures.video_bytes, 4)
    figures.reduction_vs_raw_results = round(1 - figures.bytes_default / figures.bytes_raw, 4)
    figures.local_processing_rate = round(1 - figures.result_rows_left / figures.results_made, 4)
    figures.facts_per_frame = round(figures.facts / figures.frames, 3)
    figures.seconds = round(figures.seconds, 1)
    return figures


def _labels() -> list[str]:
    """COCO's 80 names, with `person` first as there; the others are told apart by number."""
    return ["person", *(f"class {n}" for n in range(1, 80))]


def main() -> int:
    """Exit status 0: measured; 1: a run failed, or something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--seconds", type=float, default=0.0, help="of each clip; 0, the default: all of it")
    parser.add_argument("--clip", action="append", choices=CLIPS, help="only this one; may be given again")
    arguments = parser.parse_args()
    clips = arguments.clip or list(CLIPS)
    if not all((ASSETS / "video" / name).exists() for name in clips):
        print(f"{ASSETS}: a clip is missing; the test data lies in ../shared/assets", file=sys.stderr)
        return 1
    try:
        figures = measure(clips, arguments.seconds)
    except (StackError, subprocess.SubprocessError, TimeoutError) as error:
        print(f"bandwidth failed: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(asdict(figures)))
    else:
        for name, value in asdict(figures).items():
            print(f"{name:26} {value}")
    return 1 if figures.missing else 0


if __name__ == "__main__":
    sys.exit(main())
