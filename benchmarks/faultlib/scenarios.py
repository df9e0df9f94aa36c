"""Every other fault, each a scenario on a site of its own: what happens, and what must be so at the end.

A scenario returns the verdict on its site. `needs` says why one cannot be run here.
"""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from benchmarks.faultlib.recording import Disk, build_recorder, read_log
from benchmarks.faultlib.site import AGENT, COORDINATOR, ROOT, Site, faketime, uids_in
from benchmarks.faultlib.verdict import Verdict, read_journal, stored_uids
from runtime.sqlite import connect

Scenario = Callable[[Path], Verdict]
DAY_S = 86_400
PAGE = 4096


def long_cut(folder: Path, cut_s: float = 15.0) -> Verdict:
    """The link is refused for long, again and again cut while it comes back."""
    with Site(folder) as site:
        site.start_all(400)
        site.until_kept(200)
        site.proxy.refuse()
        time.sleep(cut_s)
        for _ in range(5):
            site.proxy.forward()
            time.sleep(0.5)
            site.proxy.cut()
        return site.finish("long cut")


def half_open(folder: Path) -> Verdict:
    """Nothing passes and nobody says so: first only upwards, then both ways; then the line is stalled."""
    with Site(folder) as site:
        site.start_all(200)
        for directions in (("up",), ("up", "down")):
            site.until_kept(200)
            site.proxy.half_open(*directions)
            site.until_connected_again()
            site.proxy.forward()
        site.until_kept(200)
        site.proxy.stall()
        time.sleep(12.0)
        return site.finish("half open")


def slow_link(folder: Path) -> Verdict:
    """20 kB/s and 50 ms each way, with more rows than fit, then a good line."""
    with Site(folder) as site:
        site.start_all(400)
        site.proxy.slow(delay_s=0.05, bytes_s=20_000)
        site.until_kept(3000)
        return site.finish("slow link")


def repeats(folder: Path) -> Verdict:
    """Every second message comes again, later and in another order."""
    with Site(folder) as site:
        site.start_broker()
        site.start_coordinator()
        with _echo(site.stack.port) as repeated:
            site.start_agent(300)
            site.until_kept(2400)
            site.drain_agent()
            time.sleep(1.0)
            verdict = site.finish("duplicated and reordered")
        verdict.expect(repeated[0] > 200, f"only {repeated[0]} messages were repeated")
        verdict.notes.append(f"{repeated[0]} messages repeated")
        return verdict


@contextmanager
def _echo(port: int) -> Iterator[list[int]]:
    """Publishes what passes once more, after up to 2 s: a bridge with a loop, a broker that delivers again."""
    chance, repeated, timers = random.Random(3), [0], list[threading.Timer]()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="echo", protocol=mqtt.MQTTv5)

    def again(topic: str, payload: bytes, properties: Properties | None) -> None:
        copy = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        for name in ("ContentType", "PayloadFormatIndicator"):
            if properties is not None and hasattr(properties, name):
                setattr(copy, name, getattr(properties, name))
        client.publish(topic, payload, qos=1, properties=copy)

    def came(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if chance.random() < 0.5:
            repeated[0] += 1
            timer = threading.Timer(
                chance.random() * 2.0, again, (message.topic, message.payload, message.properties)
            )
            timers.append(timer)
            timer.start()

    client.on_message = came
    client.connect("127.0.0.1", port)
    only_others = SubscribeOptions(qos=1, noLocal=True)
    client.subscribe([(f"edge/v1/+/{kind}", only_others) for kind in ("event/+", "alert/+", "sync")])
    client.loop_start()
    try:
        yield repeated
    finally:
        for timer in timers:
            timer.cancel()
        client.disconnect()
        client.loop_stop()


def disk_full(folder: Path) -> Verdict:
    """A small volume fills up and has room again: the load waits, and what was given up is said."""
    ballast = "[outbox]\nballast_bytes = 1048576\n"
    with _small_volume(folder / "volume", 16) as volume, Site(folder, agent=ballast) as site:
        site.outbox_folder.symlink_to(volume)
        site.start_broker()
        site.start_coordinator()
        site.start_agent(400, pad=200)
        site.until_kept(400)
        site.proxy.refuse()
        filler = volume / "filler"
        with suppress(OSError):  # the agent has taken what was left: it is full all the same
            filler.write_bytes(bytes(max(0, shutil.disk_usage(volume).free - 600_000)))
        site.until("a full disk", lambda: "cannot store" in site.stack.log_tail(AGENT, 200))
        time.sleep(15.0)
        filler.unlink()
        return site.finish("disk full")


def read_only_disk(folder: Path) -> Verdict:
    """An agent starts on a volume that has become read-only and says so; then it is writable again.

    The kernel makes no volume read-only while a file on it is open for writing, so the agent is killed before.
    """
    with _small_volume(folder / "volume", 32) as volume, Site(folder) as site:
        site.outbox_folder.symlink_to(volume)
        site.start_all(200)
        site.until_kept(400)
        site.kill(AGENT)
        _mount("-o", "remount,ro", str(volume))
        log = folder / f"{AGENT}.log"
        before = log.stat().st_size
        site.start_agent(200)
        site.until("the agent's word on the disk", lambda: log.stat().st_size > before or site.is_dead(AGENT))
        time.sleep(1.0)  # what comes right after it
        said = log.read_bytes()[before:].decode()
        site.stack.stop_one(AGENT, kill=True)
        _mount("-o", "remount,rw", str(volume))
        site.start_agent(200)
        site.until_kept(200)
        verdict = site.finish("read-only disk")
        verdict.expect("read-only" in said.lower(), f"it does not say what is wrong: {said}")
        verdict.notes.append(said.strip().splitlines()[-1] if said.strip() else "")
        return verdict


@contextmanager
def _small_volume(at: Path, mib: int) -> Iterator[Path]:
    at.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={mib}m", "edgewright", str(at))
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=False)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def can_mount() -> str:
    """Why no volume can be mounted here, or an empty text."""
    if os.geteuid() != 0:
        return "mounting a small volume needs root"
    probe = Path("/tmp") / f"edgewright-mount-{os.getpid()}"
    try:
        with _small_volume(probe, 1):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"mounting a small volume is not allowed here: {error}"
    finally:
        probe.rmdir()


def torn_outbox(folder: Path, times: int = 6) -> Verdict:
    """After a kill the end of the log is cut off, or a page is damaged: what can be read must arrive, once.

    What was in the part that is gone was there for nobody to save: the verdict is on the rest.
    """
    chance = random.Random(5)
    with Site(folder) as site:
        site.start_broker()
        site.start_coordinator()
        readable: set[str] = set()
        for number in range(times):
            site.proxy.refuse()
            site.start_agent(400)
            site.until_kept(400)
            site.kill(AGENT)
            _tear(site.outbox, number, chance)
            readable |= _readable(site.outbox, folder / "look")
            site.start_agent(0)
            site.until("the outbox opened again", lambda: site.account() and not site.is_dead(AGENT), 30.0)
            site.proxy.forward()
            site.until("an empty outbox", lambda: site.account() and site.pending() == 0, 60.0)
            site.kill(AGENT)
        verdict = site.finish("torn outbox", sums=False)
        arrived = stored_uids(site.store, "gw-1").keys()
        _, kept = read_journal(site.journal)
        verdict.lost = len(readable - arrived)
        verdict.notes = [f"{len(kept - arrived)} of {len(kept)} rows were in what was torn away"]
        return verdict


def _tear(outbox: Path, number: int, chance: random.Random) -> None:
    wal = outbox.with_name(outbox.name + "-wal")
    size = wal.stat().st_size
    if number % 2 == 0:
        with wal.open("r+b") as file:
            file.truncate(max(32, size - chance.randint(1, 3 * PAGE)))
    else:
        with wal.open("r+b") as file:  # the last page, torn in its middle
            file.seek(max(32, size - PAGE // 2))
            file.write(chance.randbytes(512))
    outbox.with_name(outbox.name + "-shm").unlink(missing_ok=True)


def _readable(outbox: Path, look: Path) -> set[str]:
    """The rows that the torn files still hold, looked at in a copy."""
    shutil.rmtree(look, ignore_errors=True)
    look.mkdir()
    for suffix in ("", "-wal"):
        source = outbox.with_name(outbox.name + suffix)
        if source.exists():
            shutil.copy(source, look / source.name)
    return uids_in(look / outbox.name)


def clock_jumps(folder: Path) -> Verdict:
    """The agent's wall clock, then the coordinator's, jumps a day ahead, a day back, and to 1970."""
    clock = {name: folder / f"{name}-offset" for name in (AGENT, COORDINATOR)}
    for file in clock.values():
        file.write_text("+0\n", encoding="ascii")
    with Site(folder, agent="[outbox.event]\nage_max_s = 3600\n[outbox.sample]\nage_max_s = 3600\n") as site:
        for name, file in clock.items():
            site.environment[name] = dict(faketime(file))
        site.start_all(200)
        site.until_kept(200)
        for offset in (f"+{DAY_S}", f"-{DAY_S}", f"-{int(time.time()) - 1000}", "+0"):
            for file in clock.values():
                file.write_text(offset + "\n", encoding="ascii")
                site.until_kept(100)
                site.proxy.refuse()
                site.until_kept(100)
                site.proxy.forward()
        for file in clock.values():
            file.write_text(f"-{DAY_S}\n", encoding="ascii")
        site.kill(AGENT)  # and a start in the past
        site.start_agent(200)
        site.until_kept(200)
        verdict = site.finish("clock jumps")
        verdict.expect(verdict.shed == 0, f"{verdict.shed} rows were given up for their age")
        return verdict


def old_outbox(folder: Path) -> Verdict:
    """A copy of the outbox from earlier is put back: its rows come again, new ones get numbers of their own."""
    with Site(folder) as site:
        site.start_broker()
        site.start_coordinator()
        site.proxy.refuse()
        site.start_agent(400)
        site.until_kept(400)
        site.kill(AGENT)
        site.copy_outbox(folder / "copy")
        site.proxy.forward()
        site.start_agent(400)
        site.until_kept(400)
        site.drain_agent()
        site.put_outbox(folder / "copy")
        site.start_agent(400)
        site.until_kept(400)
        return site.finish("old copy of the outbox", sums=False)


def old_coordinator(folder: Path) -> Verdict:
    """The coordinator's database is put back from a backup: what came since is missing there, and it says so."""
    with Site(folder) as site:
        site.start_all(300)
        site.until_kept(400)
        backup = folder / "backup.db"
        with closing(connect(site.store, read_only=True)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        site.until_kept(400)
        site.drain_agent()
        site.stop(COORDINATOR)
        for suffix in ("-wal", "-shm"):
            site.store.with_name(site.store.name + suffix).unlink(missing_ok=True)
        gone = len(stored_uids(site.store, "gw-1"))
        shutil.copy(backup, site.store)
        gone -= len(stored_uids(site.store, "gw-1"))
        site.start_coordinator()
        site.start_agent(300)
        site.until_kept(400)
        verdict = site.finish("coordinator from an old backup", sums=False)
        found = json.loads(
            subprocess.run(
                [sys.executable, "-m", "coordinator.edgectl", "--config", str(folder / "coordinator.toml"),
                 "gaps", "--json", "--open-for", "0s"],
                cwd=ROOT, check=True, capture_output=True, text=True,
            ).stdout
        )  # fmt: skip
        told = sum(item["last"] - item["first"] + 1 for item in found)
        verdict.expect(verdict.lost == gone, f"{verdict.lost} rows are missing, {gone} were in what was put back")
        verdict.expect(told >= gone, f"{told} of the {gone} rows that are missing are shown by edgectl gaps")
        verdict.notes = [f"{gone} rows went with the database that was replaced; edgectl gaps shows {told}"]
        verdict.lost = 0
        return verdict


def failed_commits(folder: Path) -> Verdict:
    """The coordinator's disk refuses commits; and with each kill it loses all that it had not flushed."""
    with Site(folder) as site:
        log = folder / "recorded"
        site.environment[COORDINATOR] = {
            "LD_PRELOAD": str(build_recorder(folder)),
            "RECORD_FOLDER": str(folder / "coordinator"),
            "RECORD_LOG": str(log),
        }
        disk = Disk()
        site.start_broker()
        site.start_coordinator("refuse:3")
        site.start_agent(200)
        for _ in range(4):
            site.until_kept(250)
            site.kill(COORDINATOR)
            _lose_unflushed(disk, log, folder / "coordinator")
            site.start_coordinator("refuse:4")
        site.until_kept(100)
        site.kill(COORDINATOR)
        _lose_unflushed(disk, log, folder / "coordinator")
        del site.environment[COORDINATOR]
        return site.finish("failed commits, lost writes")


def _lose_unflushed(disk: Disk, log: Path, place: Path) -> None:
    """What the coordinator had written and not flushed is gone, as after a power cut."""
    for change in read_log(log):
        if change.name.startswith("coordinator.db"):
            disk.apply(change)
    disk.lose_unflushed()
    for path in place.glob("coordinator.db*"):
        path.unlink()
    for name, data in disk.files.items():
        (place / name).write_bytes(data)


def poison(folder: Path) -> Verdict:
    """Rows that no message can hold, rows whose bytes are broken, rows that the coordinator refuses: none blocks."""
    with Site(folder) as site:
        site.start_broker()
        site.start_coordinator()
        site.proxy.refuse()
        site.start_agent(400, oversize=3)
        site.until_kept(800)
        site.kill(AGENT)
        with closing(connect(site.outbox)) as db:
            broken = db.execute(
                "UPDATE rows SET payload = X'00FF00' WHERE (lane, seq) IN"
                " (SELECT lane, seq FROM rows WHERE lane IN ('event', 'sample') AND seq % 50 = 7)"
            ).rowcount
            foul = db.execute(
                "UPDATE rows SET payload = CAST(replace(CAST(payload AS TEXT), '\"Load\"', '\"\"') AS BLOB)"
                " WHERE lane = 'event' AND seq % 50 = 8"
            ).rowcount
        site.proxy.forward()
        site.start_agent(200)
        site.until_kept(200)
        verdict = site.finish("poison and oversize rows")
        verdict.expect(broken > 0 and foul > 0, "nothing was broken")
        verdict.expect(
            verdict.quarantined == broken + foul, f"{verdict.quarantined} set aside, {broken} + {foul} broken"
        )
        verdict.notes.append(f"{broken} broken and {foul} refused rows set aside")
        return verdict


def small_packets(folder: Path) -> Verdict:
    """A broker that takes 10,000 bytes a packet: batches become smaller, what is larger by itself is set aside."""
    with Site(folder, broker="max_packet_size 10000\n") as site:
        site.start_all(200)
        site.until_kept(200)
        site.kill(AGENT)
        site.start_agent(200, pad=11_000, count=16)
        site.until_kept(16)
        site.kill(AGENT)
        site.start_agent(200)
        site.until_kept(200)
        verdict = site.finish("small packet limit")
        verdict.expect(verdict.quarantined == 16, f"{verdict.quarantined} rows were set aside, 16 are too large")
        return verdict


def quota(folder: Path) -> Verdict:
    """Lanes reach their caps while nobody takes anything: the oldest give way, and each is accounted for."""
    caps = "[outbox.event]\nrows_max = 150\n[outbox.sample]\nrows_max = 200\n"
    with Site(folder, agent=caps) as site:
        site.start_all(300)
        site.until_kept(300)
        for cut_s in (3.0, 4.0):
            site.proxy.refuse()
            time.sleep(cut_s)
            site.proxy.forward()
            site.until_kept(150)
        verdict = site.finish("quota reached")
        verdict.expect(verdict.shed > 100, f"only {verdict.shed} rows were given up")
        missing = verdict.kept - verdict.stored
        verdict.expect(missing <= verdict.shed, f"{missing} rows are missing, {verdict.shed} were given up")
        return verdict


def lying_coordinator(folder: Path) -> Verdict:
    """A coordinator that answers for what it has thrown away: the checker must find it."""
    with Site(folder) as site:
        site.start_broker()
        site.start_coordinator(lie=4)
        site.start_agent(200)
        site.until_kept(600)
        return site.finish("lying coordinator")


SCENARIOS: dict[str, tuple[Scenario, Callable[[], str]]] = {
    "long_cut": (long_cut, lambda: ""),
    "half_open": (half_open, lambda: ""),
    "slow_link": (slow_link, lambda: ""),
    "repeats": (repeats, lambda: ""),
    "disk_full": (disk_full, can_mount),
    "read_only_disk": (read_only_disk, can_mount),
    "torn_outbox": (torn_outbox, lambda: ""),
    "clock_jumps": (clock_jumps, lambda: ""),
    "old_outbox": (old_outbox, lambda: ""),
    "old_coordinator": (old_coordinator, lambda: ""),
    "failed_commits": (failed_commits, lambda: ""),
    "poison": (poison, lambda: ""),
    "small_packets": (small_packets, lambda: ""),
    "quota": (quota, lambda: ""),
}
