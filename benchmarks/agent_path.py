"""The whole frame path against the bare model: `python -m benchmarks.agent_path --json`.

Real processes on this machine: mosquitto, the coordinator, one agent with one camera. One inference thread
everywhere. Every frame becomes an event (FrameAnalyzed) that is committed, published and stored by the coordinator.

- `throughput_ratio`, `throughput_ratio_fast`: frames a second that the coordinator has stored, over raw `invoke`
  calls a second of the same model in the same run (measured before and after, the mean of both).
- `overhead_ms_*`: decoded frame available to event at a subscriber, less the invoke; the clip at its own rate.
- `e2e_ms_*`: the same with nothing taken off, the project's own weld model on its own rendered line at 30 frames/s.
"""

import argparse
import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from agent.infer.bundle_maker import make_bundle
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from scripts.stack import ROOT, Stack, StackError

ASSETS = ROOT.parent / "shared" / "assets"
CLIP = ASSETS / "video" / "road_counting_640x352.mp4"
COCO = ASSETS / "models" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
YOLO = ASSETS / "models" / "yolov8n_full_integer_quant_224.tflite"
COCO_LABELS = ASSETS / "labels" / "coco" / "config.yaml"
WARM_UP_S = 4.0


@dataclass(slots=True)
class Figures:
    """What is printed; keys as the issue names them."""

    clip: str = CLIP.name
    threads: int = 1
    seconds_each: float = 0.0
    model: str = COCO.name
    model_fast: str = YOLO.name
    raw_invokes_s: float = 0.0
    path_frames_s: float = 0.0
    throughput_ratio: float = 0.0
    raw_invokes_s_fast: float = 0.0
    path_frames_s_fast: float = 0.0
    throughput_ratio_fast: float = 0.0
    overhead_ms_p50: float = 0.0
    overhead_ms_p99: float = 0.0
    e2e_ms_p50: float = 0.0
    e2e_ms_p99: float = 0.0
    e2e_frames: int = 0
    loop_stall_ms_p99: float = 0.0
    rss_mb: float = 0.0
    start_to_first_result_s: float = 0.0
    lost: int = 0
    duplicated: int = 0
    targets_missed: list[str] = field(default_factory=list)


TARGETS: dict[str, tuple[str, float]] = {
    "throughput_ratio": (">=", 0.92),
    "throughput_ratio_fast": (">=", 0.75),
    "overhead_ms_p50": ("<=", 4.0),
    "overhead_ms_p99": ("<=", 12.0),
    "e2e_ms_p50": ("<=", 10.0),
    "e2e_ms_p99": ("<=", 20.0),
    "loop_stall_ms_p99": ("<=", 2.0),
    "rss_mb": ("<=", 140.0),
    "start_to_first_result_s": ("<=", 3.0),
    "lost": ("<=", 0.0),
    "duplicated": ("<=", 0.0),
}


# ---- the bare model ------------------------------------------------------------------------------

_RAW = """
import sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
given = interpreter.get_input_details()[0]
low, high = (0, 256) if given["dtype"] == np.uint8 else (-128, 128)
picture = np.random.default_rng(1).integers(low, high, given["shape"]).astype(given["dtype"])
interpreter.set_tensor(given["index"], picture)
for _ in range(20):
    interpreter.invoke()
began, count = time.perf_counter(), 0
while time.perf_counter() - began < float(sys.argv[2]):
    interpreter.invoke()
    count += 1
print(count / (time.perf_counter() - began))
"""


def raw_invokes_s(model: Path, seconds: float) -> float:
    """Bare `invoke` calls a second, one thread, nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", _RAW, str(model), str(seconds)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


# ---- a subscriber --------------------------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """What a subscriber on the broker saw of FrameAnalyzed."""

    total_ms: list[float] = field(default_factory=list)  # captured to received
    invoke_ms: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    first_mono_s: float | None = None

    def take(self, delivery: Delivery) -> None:
        now_ns = time.monotonic_ns()
        event = json.loads(delivery.payload)
        timing = event["data"]["timing"]
        self.first_mono_s = self.first_mono_s or now_ns / 1e9
        self.ids.append(event["id"])
        self.total_ms.append((now_ns - timing["captured_mono_ns"]) / 1e6)
        self.invoke_ms.append(timing["invoke_ms"])

    def forget(self) -> None:
        self.total_ms.clear()
        self.invoke_ms.clear()


async def watch(stack: Stack, node: str, seconds: float) -> tuple[Seen, dict[str, object]]:
    """Listens for `seconds` after the warm-up, then asks the agent for its status."""
    seen = Seen()
    status: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    def receive(delivery: Delivery) -> None:
        if delivery.topic.endswith("/event/FrameAnalyzed"):
            seen.take(delivery)
        elif not status.done():
            status.set_result(json.loads(delivery.payload)["result"])
        connection.acknowledge(delivery)

    connection = Connection(BrokerAddress(port=stack.port), client_id="benchmark", on_message=receive)
    await connection.connect()
    await connection.subscribe({f"edge/v1/{node}/event/FrameAnalyzed": 1, f"edge/v1/{node}/result/status": 1})
    until_s = time.monotonic() + 30.0
    while seen.first_mono_s is None:
        stack.check()
        if time.monotonic() > until_s:
            raise StackError(f"no result within 30 s:\n{stack.log_tail(node)}")
        await asyncio.sleep(0.01)
    await asyncio.sleep(WARM_UP_S)
    seen.forget()
    await asyncio.sleep(seconds)
    connection.publish(Message(f"edge/v1/{node}/cmd/status", b"{}"))
    answer = await asyncio.wait_for(status, 10.0)
    await connection.close()
    return seen, answer


# ---- the runs ------------------------------------------------------------------------------------


def bundle(folder: Path, model: Path) -> Path:
    """A bundle of a test model; YOLO's labels are those of COCO's 80 classes."""
    out = folder / model.stem
    if not out.exists():
        labels = None if model is COCO else [f"class {i}" for i in range(80)]
        make_bundle(model, out, labels=labels, confidence=0.4)
    return out


def camera(source: Path, model: Path | str, *, realtime: bool, fps: float = 0.0) -> str:
    """One camera and its pipeline: every frame becomes an event."""
    return (
        f'[[cameras]]\nid = "cam"\nsource = "{source}"\nloop = true\nrealtime = {str(realtime).lower()}\n'
        f"fps_target = {fps}\n"
        f'[[pipelines]]\ncamera = "cam"\nmodel = "{model}"\nevery_frame = true\nobject_events = true\n'
        "[log]\nlevel = 'INFO'\n"
    )


@contextlib.contextmanager
def running(folder: Path, body: str) -> Iterator[Stack]:
    """Broker, coordinator and one agent."""
    with Stack(folder) as stack:
        stack.start_broker()
        stack.start_coordinator()
        time.sleep(1.0)
        stack.start_agent("bench", body)
        yield stack


def stored(stack: Stack) -> tuple[int, int, int]:
    """(rows, distinct sequences, highest sequence) of the event lane at the coordinator."""
    db = sqlite3.connect(f"file:{stack.folder}/coordinator/coordinator.db?mode=ro", uri=True)
    try:
        query = "SELECT count(*), count(DISTINCT seq), coalesce(max(seq), 0) FROM events WHERE lane = 'event'"
        rows, distinct, highest = db.execute(query).fetchone()
    finally:
        db.close()
    return int(rows), int(distinct), int(highest)


def frames_stored(stack: Stack) -> int:
    """FrameAnalyzed rows at the coordinator."""
    db = sqlite3.connect(f"file:{stack.folder}/coordinator/coordinator.db?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT count(*) FROM events WHERE type = 'FrameAnalyzed'").fetchone()[0])
    finally:
        db.close()


def throughput(folder: Path, model: Path, seconds: float, figures: Figures) -> tuple[float, float, float]:
    """(raw invokes/s, stored frames/s, memory in MiB); adds what was lost or doubled."""
    before = raw_invokes_s(model, seconds / 3)
    with running(folder / f"throughput-{model.stem}", camera(CLIP, bundle(folder, model), realtime=False)) as stack:
        time.sleep(WARM_UP_S + 2.0)
        stack.check()
        began, count = time.monotonic(), frames_stored(stack)
        time.sleep(seconds)
        frames_s = (frames_stored(stack) - count) / (time.monotonic() - began)
        memory_mb = stack.pss_mb("bench")
        settle(stack, figures)
    after = raw_invokes_s(model, seconds / 3)
    return (before + after) / 2, frames_s, memory_mb


def settle(stack: Stack, figures: Figures) -> None:
    """Stops the agent in order and counts what the coordinator has: every sequence, each once."""
    stack.stop_one("bench")
    time.sleep(1.5)
    rows, distinct, highest = stored(stack)
    figures.lost += highest - distinct
    figures.duplicated += rows - distinct


def paced(folder: Path, seconds: float, figures: Figures) -> None:
    """The clip at its own rate: what the path adds to the model."""
    with Stack(folder / "paced") as stack:
        stack.start_broker()
        stack.start_coordinator()
        time.sleep(1.0)
        began_s = time.monotonic()
        stack.start_agent("bench", camera(CLIP, bundle(folder, COCO), realtime=True))
        seen, status = asyncio.run(watch(stack, "bench", seconds))
        overhead = np.subtract(seen.total_ms, seen.invoke_ms)
        figures.overhead_ms_p50, figures.overhead_ms_p99 = _percentiles(overhead)
        figures.loop_stall_ms_p99 = float(str(status["loop_stall_ms_p99"]))
        figures.start_to_first_result_s = round((seen.first_mono_s or 0.0) - began_s, 2)
        figures.duplicated += len(seen.ids) - len(set(seen.ids))
        figures.rss_mb = max(figures.rss_mb, stack.pss_mb("bench"))
        settle(stack, figures)


def own_model(folder: Path, seconds: float, figures: Figures) -> None:
    """The shipped weld model on the rendered line at 30 frames/s, from frame to subscriber."""
    with running(folder / "own", camera(Path("scene:weld?seed=1&fps=30"), "weld_defects", realtime=True)) as stack:
        seen, _ = asyncio.run(watch(stack, "bench", seconds))
        figures.e2e_ms_p50, figures.e2e_ms_p99 = _percentiles(np.asarray(seen.total_ms))
        figures.e2e_frames = len(seen.total_ms)
        settle(stack, figures)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    if len(values) == 0:
        raise StackError("nothing was measured")
    p50, p99 = np.percentile(values, (50, 99))
    return round(float(p50), 2), round(float(p99), 2)


def measure(seconds: float) -> Figures:
    """All runs, one after the other."""
    figures = Figures(seconds_each=seconds)
    with tempfile.TemporaryDirectory(prefix="edgewright-bench-") as temporary:
        folder = Path(temporary)
        raw, path, memory_mb = throughput(folder, COCO, seconds, figures)
        figures.raw_invokes_s, figures.path_frames_s = round(raw, 2), round(path, 2)
        figures.throughput_ratio = round(path / raw, 4)
        figures.rss_mb = memory_mb
        raw, path, _ = throughput(folder, YOLO, seconds, figures)
        figures.raw_invokes_s_fast, figures.path_frames_s_fast = round(raw, 2), round(path, 2)
        figures.throughput_ratio_fast = round(path / raw, 4)
        paced(folder, seconds, figures)
        own_model(folder, seconds, figures)
    figures.rss_mb = round(figures.rss_mb, 1)
    figures.targets_missed = missed(figures)
    return figures


def missed(figures: Figures) -> list[str]:
    """The targets of issue 2 that these figures do not reach."""
    values = asdict(figures)
    return [
        f"{name} {values[name]} is not {sign} {bound:g}"
        for name, (sign, bound) in TARGETS.items()
        if not (values[name] >= bound if sign == ">=" else values[name] <= bound)
    ]


def main() -> int:
    """Exit status 0: measured; 1: a run failed, or rows were lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run (default 30)")
    arguments = parser.parse_args()
    if not CLIP.exists():
        print(f"{CLIP} is missing: the test data lies in ../shared/assets", file=sys.stderr)
        return 1
    try:
        figures = measure(arguments.seconds)
    except (StackError, subprocess.CalledProcessError, TimeoutError) as error:
        print(f"agent_path failed: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(asdict(figures)))
    else:
        for name, value in asdict(figures).items():
            print(f"{name:26} {value}")
    return 1 if figures.lost or figures.duplicated else 0


if __name__ == "__main__":
    sys.exit(main())
