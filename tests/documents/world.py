"""A coordinator and a node that keep their documents as the real ones do; time and delivery are in a test's hands."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.documents.journal import Journal
from agent.documents.plan import Here, plan
from agent.documents.report import make_report
from coordinator.documents.changes import Change
from coordinator.store import documents
from coordinator.store.migrations import MIGRATIONS
from coordinator.store.reports import take_reports
from coordinator.store.store import ReportedRow
from runtime.sqlite import connect, migrate, transaction
from runtime.timeline import MachineTime
from schemas.documents import Desired, Reported, decode_desired, decode_reported, encode
from schemas.resolve import Known, Resolution, resolve

NOON_MS = 1_795_521_600_000
DAY_MS = 86_400_000
NODE = "gw-1"
HERE = Here({"door": "weld"}, frozenset({"gate"}), {"line": "a"})


class Machine:
    """Clocks: the boot clock goes on, the wall clock may jump."""

    def __init__(self, name: str) -> None:
        self.now = MachineTime(name, 0, NOON_MS)

    def pass_time(self, ms: int) -> None:
        self.now = replace(self.now, steady_ms=self.now.steady_ms + ms, wall_ms=self.now.wall_ms + ms)

    def jump(self, ms: int) -> None:
        self.now = replace(self.now, wall_ms=max(0, self.now.wall_ms + ms))

    def reboot(self, jump_ms: int) -> None:
        """The machine itself starts anew, and its clock is wrong then: nothing can tell."""
        name = f"{self.now.machine_boot}'"
        self.now = MachineTime(name, 0, max(0, self.now.wall_ms + jump_ms))


class Cloud(Machine):
    """The coordinator's database."""

    def __init__(self, folder: Path) -> None:
        super().__init__("server")
        self.path = folder / "coordinator.db"
        self.db = connect(self.path)
        migrate(self.db, MIGRATIONS, what="test")
        self.events: list[str] = []
        with transaction(self.db):
            documents.change(self.db, "gw-0", Change({"heartbeat_s": 5}), self.now)  # its clock is known from here on

    def write(self, path: str, value: Any) -> Desired:
        with transaction(self.db):
            return documents.change(self.db, NODE, Change({path: value}), self.now).desired

    @property
    def desired(self) -> Desired:
        return documents.desired(self.db, NODE)

    @property
    def reported(self) -> Reported:
        return documents.reported(self.db, NODE)

    def take(self, payload: bytes, *, named: bool = False) -> None:
        with transaction(self.db):
            row = ReportedRow(NODE, decode_reported(payload), self.now.wall_ms, named)
            taken = take_reports(self.db, [row], self.now)[0]
        self.events += [event.type for event in taken.events]

    def resolved(self) -> Resolution:
        return resolve(Known(self.desired, self.reported.writes()))

    def back_up(self) -> Path:
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(shutil.copy(self.path, self.path.with_suffix(".backup")))

    def put_back(self, backup: Path) -> None:
        self.close()
        shutil.copy(backup, self.path)
        self.db = connect(self.path)

    def conflicts(self) -> set[tuple[str, str, str]]:
        found = [item.conflict for item in documents.found_conflicts(self.db, NODE, 1000)]
        return {(item["path"], item["coordinator_at"], item["node_at"]) for item in found}

    def close(self) -> None:
        self.db.close()


class Edge(Machine):
    """The node's journal and its report."""

    def __init__(self, folder: Path) -> None:
        super().__init__("gateway")
        self.path = folder / "documents.db"
        self.boot = 0
        self.journal = Journal(self.path, NODE)
        self.journal.keep_time(self.now)
        self.start()

    def start(self) -> None:
        """Again, with what is on the disk."""
        self.journal.close()
        self.journal = Journal(self.path, NODE)
        self.boot += 1
        self.report = Reported(self.boot)
        self.look()

    def look(self) -> bytes:
        journalled = self.journal.journalled()
        made = plan(resolve(journalled.known), HERE)
        self.report = make_report(journalled, made, self.boot, self.report)
        return encode(self.report)

    def write(self, path: str, value: Any) -> None:
        self.journal.write(path, value, self.now)
        self.look()

    def take(self, payload: bytes) -> bool:
        accepted = self.journal.accept(decode_desired(payload), self.now)
        self.look()
        return accepted

    def back_up(self) -> Path:
        self.journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(shutil.copy(self.path, self.path.with_suffix(".backup")))

    def put_back(self, backup: Path) -> None:
        self.journal.close()
        shutil.copy(backup, self.path)
        self.journal = Journal(self.path, NODE)
        self.start()

    @property
    def known(self) -> Known:
        return self.journal.journalled().known

    def close(self) -> None:
        self.journal.close()


class World:
    """Both, in a folder in memory."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.cloud, self.edge = Cloud(self.folder), Edge(self.folder)

    def exchange(self) -> None:
        """As a connection does: documents, and again for as long as a heartbeat names another one."""
        for _ in range(5):
            self.cloud.take(self.edge.look(), named=True)
            if self.cloud.desired.revision:
                self.edge.take(encode(self.cloud.desired))
            is_told = self.cloud.reported.hash == self.edge.report.hash
            if is_told and self.edge.known.desired.hash == (self.cloud.desired.hash or self.edge.known.desired.hash):
                return
        raise AssertionError(f"no end of it: {self.cloud.desired} {self.edge.known.desired}")

    def close(self) -> None:
        self.cloud.close()
        self.edge.close()
        shutil.rmtree(self.folder)
