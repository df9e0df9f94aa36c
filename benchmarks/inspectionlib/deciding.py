"""From the trigger to the verdict on the output topic, and to a local action: real mosquitto, real agent process.

The broker of the line is one mosquitto; the fleet's broker is away all the time (nobody listens on its port), so the
events pile up in the outbox while the line goes on. The camera is a rendered line at 30 frames/s; signals come at
random moments.

- `decision_ms_*`: a signal is published → the verdict is received by a subscriber of the output topic. The station
  puts together the pictures of the last 0.15 s, so it need not wait for one.
- `decision_next_frame_ms_*`: the same where only a picture taken after the signal counts: with the wait for the
  camera (33 ms between frames), the model and all the rest.
- `gate_decision_ms_*`: trigger by motion: the picture in which a part passes the gate is captured → its verdict is
  handed to the broker, as the agent says in its message.
- `ratio_to_invoke`: decision_ms_p50 over one bare invoke of the same model.
- `action_ms_*`: a signal is published → the message of a local action on `PartInspected` is received: the event's
  way with the decision before it and both hops of the broker.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent.config import model_path
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from scripts.stack import Stack, StackError, free_port

NODE = "inspect"
SIGNAL, VERDICT, ACTION = "line/signal", "line/verdict", "line/action"
ANSWER_S = 30.0
WARM_UP_S = 3.0


@dataclass(slots=True)
class Heard:
    """What a subscriber of the line heard, with its own clock."""

    verdicts_ns: asyncio.Queue[tuple[int, dict[str, Any]]] = field(default_factory=asyncio.Queue)
    actions_ns: asyncio.Queue[int] = field(default_factory=asyncio.Queue)

    def take(self, delivery: Delivery) -> None:
        now_ns = time.monotonic_ns()
        if delivery.topic == VERDICT:
            self.verdicts_ns.put_nowait((now_ns, json.loads(delivery.payload)))
        elif delivery.topic == ACTION:
            self.actions_ns.put_nowait(now_ns)


def body(port: int, station: str) -> str:
    """The agent's configuration behind `[node]` and `[broker]`."""
    return f"""
[local_broker]
port = {port}
[platforms]
enabled = ["manufacturing"]
[[cameras]]
id = "cam1"
source = "scene:weld?seed=1&fps=30"
[[pipelines]]
camera = "cam1"
model = "weld_defects"
object_events = false
[pipelines.stage]
kind = "manufacturing.inspection"
rules = [{{ verdict = "reject", confidence_min = 0.3 }}]
output = {{ topic = "{VERDICT}" }}
{station}
[[actions]]
name = "action"
do = "mqtt"
topic = "{ACTION}"
payload = "{{data.verdict}}"
on = {{ types = ["PartInspected"] }}
"""


def signalled(before_s: float, after_s: float, frames: int) -> str:
    signal = f'topic = "{SIGNAL}", before_s = {before_s}, after_s = {after_s}, debounce_s = 0.0'
    return f'trigger = "signal"\npart = {{ find = "none", frames = {frames} }}\nsignal = {{ {signal} }}'


def run(folder: Path, name: str, station: str, work: Any) -> Any:
    """One agent on one line, and `work(connection, heard)` beside it."""
    with Stack(folder / name) as stack:
        stack.start_broker()
        local, stack.port = stack.port, free_port()  # where the agent looks for the fleet nobody listens
        stack.start_agent(NODE, body(local, station))
        return asyncio.run(_beside(stack, local, work))


async def _beside(stack: Stack, port: int, work: Any) -> Any:
    heard = Heard()

    def receive(delivery: Delivery) -> None:
        heard.take(delivery)
        connection.acknowledge(delivery)

    connection = Connection(BrokerAddress(port=port), client_id="benchmark", on_message=receive)
    await connection.connect()
    await connection.subscribe({VERDICT: 1, ACTION: 1})
    try:
        return await work(stack, connection, heard)
    finally:
        await connection.close()


def asking(seconds: float) -> Any:
    """Signals at random moments, each once the one before is answered: (decision, action) milliseconds."""

    async def work(stack: Stack, connection: Connection, heard: Heard) -> tuple[list[float], list[float]]:
        await _first_answer(stack, connection, heard)
        decisions: list[float] = []
        actions: list[float] = []
        rng = random.Random(1)
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            await asyncio.sleep(rng.uniform(0.15, 0.3))
            began_ns = time.monotonic_ns()
            connection.publish(Message(SIGNAL, b""))
            at_ns, verdict = await asyncio.wait_for(heard.verdicts_ns.get(), ANSWER_S)
            decisions.append((at_ns - began_ns) / 1e6)
            if verdict["part"] == 0:  # no picture came in all that time: an answer, but no part and so no event
                continue
            actions.append((await asyncio.wait_for(heard.actions_ns.get(), ANSWER_S) - began_ns) / 1e6)
        return decisions, actions

    return work


async def _first_answer(stack: Stack, connection: Connection, heard: Heard) -> None:
    until_s = time.monotonic() + 30.0
    while time.monotonic() < until_s:
        stack.check()
        connection.publish(Message(SIGNAL, b""))
        try:
            await asyncio.wait_for(heard.verdicts_ns.get(), 1.0)
            break
        except TimeoutError:
            continue
    else:
        raise StackError(f"no verdict within 30 s:\n{stack.log_tail(NODE)}")
    await asyncio.sleep(WARM_UP_S)
    for queue in (heard.verdicts_ns, heard.actions_ns):
        while not queue.empty():
            queue.get_nowait()


def listening(seconds: float) -> Any:
    """What the agent says of each part that passes the gate, milliseconds."""

    async def work(stack: Stack, connection: Connection, heard: Heard) -> list[float]:
        await asyncio.sleep(WARM_UP_S + seconds)
        stack.check()
        return [float(heard.verdicts_ns.get_nowait()[1]["ms"]) for _ in range(heard.verdicts_ns.qsize())]

    return work


def decision(folder: Path, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of the decision, and those of the action."""
    invoke_ms = bare_invoke_ms()
    at_once, actions = run(folder, "at-once", signalled(0.15, 0.5, 3), asking(seconds))
    next_frame, _ = run(folder, "next-frame", signalled(0.0, 1.0, 1), asking(seconds / 2))
    gate = run(folder, "gate", "", listening(max(seconds, 12.0)))
    found = {
        **_percentiles("decision_ms", at_once),
        "decisions": len(at_once),
        **_percentiles("decision_next_frame_ms", next_frame),
        **_percentiles("gate_decision_ms", gate),
        "gate_parts": len(gate),
        "invoke_ms": round(invoke_ms, 3),
    }
    found["ratio_to_invoke"] = round(found["decision_ms_p50"] / invoke_ms, 3)
    found["ratio_gate_to_invoke"] = round(found["gate_decision_ms_p50"] / invoke_ms, 3) if gate else None
    return found, {**_percentiles("action_ms", actions), "actions": len(actions)}


def _percentiles(name: str, values: list[float]) -> dict[str, Any]:
    if not values:
        return {f"{name}_p50": None, f"{name}_p99": None}
    p50, p99 = np.percentile(values, (50, 99))
    return {f"{name}_p50": round(float(p50), 3), f"{name}_p99": round(float(p99), 3)}


_BARE = """
import sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
times = []
for n in range(420):
    began = time.perf_counter()
    interpreter.invoke()
    if n >= 20:
        times.append(time.perf_counter() - began)
print(float(np.median(times)) * 1000)
"""


def bare_invoke_ms() -> float:
    """The median of 400 invokes of the shipped model in a process of its own, one thread."""
    model = model_path(Path(), "weld_defects") / "weld_defects_int8.tflite"
    done = subprocess.run([sys.executable, "-c", _BARE, str(model)], capture_output=True, text=True, check=True)
    return float(done.stdout)
