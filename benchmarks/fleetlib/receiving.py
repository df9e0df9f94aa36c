"""How many QoS 1 messages a second the coordinator takes, and a bare paho loop on the same broker.

Both are stopped (SIGSTOP) while a sender fills the broker's queue, and go on when it is full: so nobody shares the
processor with a sender. The coordinator decodes, checks, deduplicates, commits and answers; paho counts. Filling has
to take less than 30 s: who is stopped for longer than 1.5 keep-alives is gone. `ingest_cpu_us`: processor time of the
coordinator for a message, all threads.
"""

import asyncio
import os
import signal
import sys
import time
from typing import Any

from benchmarks.fleetlib.world import World
from runtime.mqtt import BrokerAddress, Connection, Message
from schemas.codec import encode_event
from schemas.identity import Identity
from schemas.messages import Event

SENDERS = 50  # nodes
UNDER_WAY_MAX = 400
TIMEOUT_S = 300.0
RECEIVER = """
import sys, time
import paho.mqtt.client as paho
left = int(sys.argv[2])
def on_message(client, userdata, message):
    global left
    left -= 1
    if not left:
        print(time.monotonic(), flush=True)
        client.disconnect()
client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="bare", protocol=paho.MQTTv5)
client.on_message = on_message
client.on_subscribe = lambda *rest: print("ready", flush=True)
client.connect("127.0.0.1", int(sys.argv[1]), 60)
client.subscribe("edge/v1/+/event/+", qos=1)
client.loop_forever()
"""


async def measure(world: World, messages: int) -> dict[str, Any]:
    """Both in turn, each with messages of its own. The coordinator of this world is not started yet."""
    paho_s = await _paho(world.ports[0], messages)
    coordinator_s, cpu_s = await _coordinator(world, messages)
    ingest, bare = messages / coordinator_s, messages / paho_s
    return {
        "ingest_msg_s": round(ingest),
        "paho_msg_s": round(bare),
        "ratio_vs_paho": round(ingest / bare, 3),
        "ingest_messages": messages,
        "ingest_cpu_us": round(1e6 * cpu_s / messages, 1),
    }


async def _paho(port: int, messages: int) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RECEIVER, str(port), str(messages), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None, "a pipe"
    try:
        await process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        await _fill(port, messages, "bare")
        began_s = time.monotonic()
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(TIMEOUT_S):
            return float(await process.stdout.readline()) - began_s
    finally:
        process.kill()
        await process.wait()


async def _coordinator(world: World, messages: int) -> tuple[float, float]:
    """Seconds that it took, and of processor time."""
    world.start_coordinator()
    pid = world.stack.pid("coordinator")
    first = _last(world)
    os.kill(pid, signal.SIGSTOP)
    try:
        await _fill(world.ports[0], messages, f"s{time.time_ns():x}")
    finally:
        os.kill(pid, signal.SIGCONT)
    began_s, cpu_s = time.monotonic(), world.cpu_s()
    while _last(world) < first + messages:
        world.stack.check()
        if time.monotonic() - began_s > TIMEOUT_S:
            raise TimeoutError(f"{_last(world) - first} of {messages} messages are stored after {TIMEOUT_S:g} s")
        await asyncio.sleep(0.02)
    return time.monotonic() - began_s, world.cpu_s() - cpu_s


def _last(world: World) -> int:
    return int(world.query("SELECT coalesce(max(id), 0) FROM events")[0][0])


async def _fill(port: int, messages: int, stream: str) -> None:
    """Events as agents write them, as fast as the broker takes them."""
    under_way = 0
    room = asyncio.Event()

    def confirmed(mid: int, accepted: bool) -> None:
        nonlocal under_way
        under_way -= 1
        room.set()

    connection = Connection(
        BrokerAddress(port=port), client_id="filler", on_message=lambda delivery: None, on_puback=confirmed
    )
    await connection.connect()
    for number in range(messages):
        while under_way >= UNDER_WAY_MAX:
            room.clear()
            await room.wait()
        under_way += 1
        connection.publish(_event(number, stream))
        if number % 50 == 0:
            await asyncio.sleep(0)
    while under_way:
        room.clear()
        await room.wait()
    await connection.close()


def _event(number: int, stream: str) -> Message:
    node, seq = f"send-{number % SENDERS}", number // SENDERS + 1
    left = seq * 37 % 1000
    data = {
        "camera_id": "cam1", "object_id": str(seq), "class": "person", "confidence": 0.9,
        "box": [left, 120, left + 80, 300], "age_s": 0.0, "frame_width": 1280, "frame_height": 720,
    }  # fmt: skip
    event = Event(Identity(node, stream, "event", seq), "ObjectSeen", "cam1/1", 1_795_521_600_000 + number, data, 1)
    topic = f"edge/v1/{node}/event/ObjectSeen"
    return Message(topic, encode_event(event), content_type="application/cloudevents+json")
