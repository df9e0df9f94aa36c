"""One edge and one coordinator as real processes, for a scenario of faults: started, killed, drained."""

import json
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.outbox.inspect import account
from agent.outbox.tables import LaneAccount
from benchmarks.faultlib.verdict import Verdict, judge
from runtime.errors import EdgewrightError
from scripts.stack import Stack, free_port
from tests.proxy import Proxy

NODE = "gw-1"
ROOT = Path(__file__).resolve().parents[2]
AGENT, COORDINATOR, BROKER = "agent", "coordinator", "broker"
DRAIN_S = 240.0


class SiteError(Exception):
    """The site did not come to where the scenario needs it: a failure of the product or of the campaign."""


class Site:
    """Broker ─ proxy ─ agent with the load, and the coordinator at the broker itself."""

    def __init__(self, folder: Path, *, agent: str = "", link: str = "", broker: str = "") -> None:
        """`agent`: further tables of agent.toml; `link`: further keys of its [broker]; `broker`: mosquitto's."""
        self.stack = Stack(folder, broker_conf=broker)
        self.proxy = Proxy(self.stack.port, free_port())
        self.folder = folder
        self.journal = folder / "journal.txt"
        self.outbox_folder = folder / NODE
        self.environment: dict[str, dict[str, str]] = {}
        self._agent_toml = folder / f"{NODE}.toml"
        self._agent_toml.write_text(
            f'[node]\nid = "{NODE}"\ndata_dir = "{self.outbox_folder}"\nheartbeat_s = 2.0\nresend_after_s = 3.0\n'
            f"[degradation]\nenabled = false\n"
            f"[broker]\nport = {self.proxy.port}\nkeepalive_s = 5\n{link}\n{agent}\n",
            encoding="utf-8",
        )
        self._coordinator_toml = folder / "coordinator.toml"
        self._coordinator_toml.write_text(
            f'[coordinator]\ndata_dir = "{folder}/coordinator"\n'
            f"[broker]\nport = {self.stack.port}\nkeepalive_s = 5\n",
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.stop()
        self.proxy.close()

    @property
    def outbox(self) -> Path:
        """The agent's outbox file."""
        return self.outbox_folder / "outbox.db"

    @property
    def store(self) -> Path:
        """The coordinator's database."""
        return self.folder / "coordinator" / "coordinator.db"

    # ---- starting and stopping -------------------------------------------------------------------

    def start_all(self, rate: float = 200.0) -> None:
        """Broker, coordinator, agent."""
        self.start_broker()
        self.start_coordinator()
        self.start_agent(rate)

    def start_broker(self) -> None:
        self.stack.start_broker()

    def start_coordinator(self, point: str = "", *, lie: int = 0) -> None:
        """With a point at which it kills itself, or lying about every n-th commit."""
        self._spawn(
            COORDINATOR, "benchmarks.faultlib.coordinator_node",
            "--config", str(self._coordinator_toml), "--point", point, "--lie", str(lie),
        )  # fmt: skip

    def start_agent(
        self, rate: float = 200.0, *, point: str = "", count: int = 0, pad: int = 0, oversize: int = 0, lane: str = ""
    ) -> None:
        """With a load of `rate` rows a second (0: none), of `count` rows (0: no end)."""
        self._spawn(
            AGENT, "benchmarks.faultlib.node", "--config", str(self._agent_toml), "--journal", str(self.journal),
            "--rate", str(rate), "--point", point, "--count", str(count), "--pad", str(pad),
            "--oversize", str(oversize), "--lane", lane,
        )  # fmt: skip

    def _spawn(self, name: str, module: str, *arguments: str) -> None:
        variables = [f"{key}={value}" for key, value in self.environment.get(name, {}).items()]
        self.stack.spawn(name, ["env", *variables, sys.executable, "-m", module, *arguments])

    def kill(self, name: str) -> None:
        """With -9; one that has died already is only buried."""
        self.stack.stop_one(name, kill=True)

    def stop(self, name: str) -> None:
        """In order. Raises SiteError when it does not end well."""
        status = self.stack.stop_one(name)
        if status not in (0, -signal.SIGTERM):
            raise SiteError(f"{name} ended with status {status}\n{self.stack.log_tail(name)}")

    def is_dead(self, name: str) -> bool:
        """True when it has ended by itself, as at its point."""
        return self.stack.ended(name) is not None

    # ---- waiting ---------------------------------------------------------------------------------

    def until(self, what: str, true: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Raises SiteError when it takes too long."""
        until_s = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > until_s:
                tails = "\n".join(self.stack.log_tail(name, 12) for name in (AGENT, COORDINATOR))
                raise SiteError(f"waited {timeout_s:.0f} s in vain: {what}\n{self.account()}\n{tails}")
            time.sleep(0.05)

    def account(self) -> list[LaneAccount]:
        """The outbox's account as it is on disk now; empty while there is none."""
        try:
            return account(self.outbox)
        except (EdgewrightError, sqlite3.Error):
            return []

    def pending(self) -> int:
        """Rows that wait in the outbox."""
        return sum(lane.pending for lane in self.account())

    def kept(self) -> int:
        """Rows of the load that are committed, by the journal."""
        try:
            return self.journal.read_bytes().count(b"C ")
        except OSError:
            return 0

    def until_kept(self, rows: int) -> None:
        """Until the load has committed so many rows more."""
        goal = self.kept() + rows
        self.until(f"{rows} rows more in the outbox", lambda: self.kept() >= goal)

    def until_connected_again(self, timeout_s: float = 40.0) -> None:
        """Until the agent has given its connection up and made another."""
        since = self.proxy.connections_total
        self.until("a new connection", lambda: self.proxy.connections_total > since, timeout_s)

    # ---- the end ---------------------------------------------------------------------------------

    def drain(self) -> None:
        """The load ends, the link is good, everything runs: until nothing waits any more. Then all end in order."""
        self.proxy.forward()
        for name, start in ((BROKER, self.start_broker), (COORDINATOR, self.start_coordinator)):
            if not self.stack.has(name) or self.is_dead(name):
                self.stack.forget(name)
                start()
        if self.stack.has(AGENT):
            if self.is_dead(AGENT):
                self.stack.forget(AGENT)
            else:
                self.stop(AGENT)
        self.start_agent(0)
        quiet = [0]

        def empty() -> bool:
            accounts = self.account()
            quiet[0] = quiet[0] + 1 if accounts and not any(lane.pending for lane in accounts) else 0
            return quiet[0] >= 10

        self.until("an empty outbox", empty, DRAIN_S)
        self.stop(AGENT)
        self.stop(COORDINATOR)
        self.stop(BROKER)

    def drain_agent(self) -> None:
        """The load ends and the outbox empties; the agent ends in order, the others run on."""
        self.stop(AGENT)
        self.start_agent(0)
        self.until("an empty outbox", lambda: self.account() and not self.pending(), DRAIN_S)
        self.stop(AGENT)

    def finish(self, name: str, *, sums: bool = True) -> Verdict:
        """Drains, then compares what the load has kept with what the coordinator has."""
        self.drain()
        return judge(name, self.journal, self.store, self.outbox, NODE, sums=sums)

    def copy_outbox(self, to: Path) -> None:
        """The files of the outbox as they are, of a stopped agent."""
        to.mkdir(parents=True, exist_ok=True)
        for suffix in ("", "-wal"):
            source = self.outbox.with_name(self.outbox.name + suffix)
            if source.exists():
                shutil.copy2(source, to / source.name)

    def put_outbox(self, back: Path) -> None:
        """An earlier copy instead of what is there."""
        for suffix in ("", "-wal", "-shm"):
            self.outbox.with_name(self.outbox.name + suffix).unlink(missing_ok=True)
        for source in back.iterdir():
            shutil.copy2(source, self.outbox_folder / source.name)


def faketime(offset_file: Path) -> Mapping[str, str]:
    """What makes a process read its wall clock through libfaketime, which follows a file. Raises SiteError."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise SiteError("libfaketime is not installed: scripts/setup --for test brings it")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset_file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def uids_in(db_path: Path) -> set[str]:
    """The rows of the load that an outbox file holds, waiting or set aside."""
    from agent.outbox.encode import shown
    from agent.outbox.inspect import opened

    with opened(db_path) as db:
        rows = db.execute("SELECT payload FROM rows UNION ALL SELECT payload FROM quarantine").fetchall()
    found = set()
    for (payload,) in rows:
        body = json.loads(shown(payload))["row"]
        uid = body.get("data", {}).get("uid") if isinstance(body, dict) else None
        if uid is not None:
            found.add(str(uid))
    return found
