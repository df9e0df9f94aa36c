"""The peer: a mosquitto bridge with persistence at the edge, in the same outage, with the same rows.

What was acknowledged to its source and never arrives is lost. Rates are from the first row that arrives to the last,
each row a message of its own; with the bridge it has arrived at the other broker, with ours it is committed there.
"""

import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.faultlib.site import AGENT, Site
from scripts.stack import free_port

TIMEOUT_S = 120.0
UNDER_WAY_MAX = 500
QUIET_S = 3.0  # nothing new for so long: the bridge has sent all that it has
_EDGE = """
user root
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 1000
connection cloud
address 127.0.0.1:{cloud}
bridge_protocol_version mqttv50
topic # out 1
cleansession false
remote_clientid edge
notifications false
restart_timeout 1
keepalive_interval 5
autosave_interval {autosave_s}
"""
_CLOUD = (
    "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 1000\n"
)


def compare(folder: Path, rows: int = 20_000) -> dict[str, Any]:
    """Both, with and without a kill -9 in the middle of the outage."""
    payload = _payload()
    drain = _Bridge(folder / "bridge").outage(rows, payload, kill=False)
    killed = _Bridge(folder / "bridge-killed").outage(rows, payload, kill=True)
    saving = _Bridge(folder / "bridge-saving", autosave_s=1).outage(rows, payload, kill=True)
    ours = _ours(folder / "ours", rows, kill=False)
    ours_killed = _ours(folder / "ours-killed", rows, kill=True)
    return {
        "bridge_rows": rows,
        "bridge_lost": killed["lost"],
        "bridge_lost_saving_each_s": saving["lost"],
        "bridge_lost_without_kill": drain["lost"],
        "bridge_drain_rows_s": drain["rows_s"],
        "ours_lost": ours_killed["lost"],
        "ours_lost_without_kill": ours["lost"],
        "ours_drain_rows_s": ours["rows_s"],
        "ratio_vs_mosquitto_bridge": round(ours["rows_s"] / drain["rows_s"], 3) if drain["rows_s"] else None,
    }


def _payload() -> str:
    """About what an event of ours takes."""
    return (
        '{"specversion":"1.0","type":"Load","source":"gw-1","data":{"value":1.5,"pad":"' + "x" * 200 + '"},"id":"%s"}'
    )


# ---- the bridge -------------------------------------------------------------------------------------


class _Bridge:
    """Two brokers, a source at the one and a sink at the other."""

    def __init__(self, folder: Path, autosave_s: int = 1800) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._autosave_s = autosave_s  # how often the broker writes down what it holds; the default is its own
        self._edge_port, self._cloud_port = free_port(), free_port()
        self._sent: set[str] = set()
        self._arrived: Counter[str] = Counter()
        self._times_s: list[float] = []

    def outage(self, rows: int, payload: str, *, kill: bool) -> dict[str, Any]:
        """The rows lost, and the rate at which they came when the link was back."""
        cloud = self._broker("cloud", _CLOUD.format(port=self._cloud_port))
        edge = self._edge()
        sink = self._sink()
        try:
            self._publish(100, payload)
            self._settle(100)
            _end(cloud)  # the outage
            self._publish(rows // 2, payload)
            if kill:
                edge.kill()
                edge.wait()
                edge = self._edge()
            self._publish(rows - rows // 2, payload)
            self._times_s.clear()
            cloud = self._broker("cloud", _CLOUD.format(port=self._cloud_port))
            self._settle(rows + 100)
        finally:
            sink.disconnect()
            sink.loop_stop()
            _end(edge)
            _end(cloud)
        times_s = self._times_s
        span_s = times_s[-1] - times_s[0] if len(times_s) > 1 else 0.0
        return {
            "lost": len(self._sent - self._arrived.keys()),
            "rows_s": round((len(times_s) - 1) / span_s) if span_s else 0,
        }

    def _edge(self) -> "subprocess.Popen[bytes]":
        conf = _EDGE.format(
            port=self._edge_port, cloud=self._cloud_port, folder=self._folder, autosave_s=self._autosave_s
        )
        return self._broker("edge", conf)

    def _broker(self, name: str, text: str) -> "subprocess.Popen[bytes]":
        conf = self._folder / f"{name}.conf"
        conf.write_text(text, encoding="utf-8")
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "mosquitto"
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([program, "-c", str(conf)], stdout=log, stderr=log)
        time.sleep(0.3)
        return process

    def _sink(self) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="sink", protocol=mqtt.MQTTv5)

        def came(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
            self._arrived[message.topic] += 1
            self._times_s.append(time.monotonic())

        client.on_message = came

        def connected(client: mqtt.Client, *_: object) -> None:
            client.subscribe("row/#", qos=1)

        client.on_connect = connected
        client.reconnect_delay_set(0.05, 0.2)  # type: ignore[arg-type] # seconds of any kind, though typed int
        client.connect("127.0.0.1", self._cloud_port)
        client.loop_start()
        return client

    def _publish(self, rows: int, payload: str) -> None:
        """Each row counts as sent when the edge's broker has acknowledged it."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="source", protocol=mqtt.MQTTv5)
        acknowledged: set[int] = set()
        topics: dict[int, str] = {}
        places = threading.Semaphore(UNDER_WAY_MAX)

        def came(_client: mqtt.Client, _data: object, mid: int, *_: object) -> None:
            acknowledged.add(mid)
            places.release()

        client.on_publish = came
        client.max_inflight_messages_set(UNDER_WAY_MAX)
        client.connect("127.0.0.1", self._edge_port)
        client.loop_start()
        begin = len(self._sent)
        for number in range(begin, begin + rows):
            if not places.acquire(timeout=10.0):
                break
            topic = f"row/{number}"
            topics[client.publish(topic, payload % number, qos=1).mid] = topic
        until_s = time.monotonic() + 10.0
        while len(acknowledged) < len(topics) and time.monotonic() < until_s:
            time.sleep(0.01)
        self._sent.update(topics[mid] for mid in list(acknowledged))
        client.disconnect()
        client.loop_stop()

    def _settle(self, count: int) -> None:
        """Until so many have arrived, or no more come."""
        until_s = time.monotonic() + TIMEOUT_S
        last, since_s = -1, time.monotonic()
        while len(self._arrived) < count and time.monotonic() < until_s:
            if len(self._arrived) != last:
                last, since_s = len(self._arrived), time.monotonic()
            elif last > 0 and time.monotonic() - since_s > QUIET_S + 5.0:
                return
            time.sleep(0.02)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


# ---- ours -------------------------------------------------------------------------------------------


def _ours(folder: Path, rows: int, *, kill: bool) -> dict[str, Any]:
    """The same with an agent and a coordinator."""
    with Site(folder) as site:
        site.start_broker()
        site.start_coordinator()
        site.proxy.refuse()
        parts = [rows // 2, rows - rows // 2] if kill else [rows]
        for number, part in enumerate(parts):
            site.start_agent(1e9, count=part, lane="event", pad=100)
            site.until_kept(part)
            if kill and number == 0:
                site.kill(AGENT)
        before = _received(site)
        site.proxy.forward()
        times_s: list[tuple[float, int]] = []
        until_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until_s:
            found = _received(site) - before
            if found and (not times_s or found != times_s[-1][1]):
                times_s.append((time.monotonic(), found))
            if found >= rows:
                break
            time.sleep(0.01)
        verdict = site.finish("ours")
    (first_s, had), (last_s, has) = times_s[0], times_s[-1]
    return {"lost": verdict.lost, "rows_s": round((has - had) / (last_s - first_s)) if last_s > first_s else 0}


def _received(site: Site) -> int:
    try:
        with closing(sqlite3.connect(f"file:{site.store}?mode=ro", uri=True)) as db:
            return int(
                db.execute("SELECT coalesce(sum(last - first + 1), 0) FROM received WHERE lane = 'event'").fetchone()[
                    0
                ]
            )
    except sqlite3.Error:
        return 0
