"""The checker: what the load has kept, by its own journal, against what the coordinator has committed."""

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.outbox.inspect import account
from schemas.identity import Lane

LOAD_LANES = (Lane.LIFECYCLE.value, Lane.ALERT.value, Lane.EVENT.value, Lane.SAMPLE.value)


@dataclass(slots=True)
class Verdict:
    """What one scenario came to. `lost`, `duplicates` and `mismatches` must be 0."""

    scenario: str
    kept: int = 0  # rows whose append had returned
    stored: int = 0  # of the load, at the coordinator
    lost: int = 0
    duplicates: int = 0
    mismatches: int = 0
    shed: int = 0
    damaged: int = 0
    quarantined: int = 0
    kills: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        return not (self.lost or self.duplicates or self.mismatches)

    def expect(self, true: object, otherwise: str) -> None:
        """A thing that the scenario promises beside the sums."""
        if not true:
            self.mismatches += 1
            self.notes.append(otherwise)

    def fields(self) -> dict[str, Any]:
        return asdict(self)


def judge(scenario: str, journal: Path, store: Path, outbox: Path, node: str, *, sums: bool = True) -> Verdict:
    """The verdict on a site that has ended. `sums`: the outbox has lived through it all in one file, unharmed.

    Lost is what was kept and is neither stored, nor set aside, nor given up and said to be so. The account must hold,
    nothing may wait, and its `stored` must be what the coordinator has of the node, row for row.
    """
    begun, kept = read_journal(journal)
    found = stored_uids(store, node)
    verdict = Verdict(scenario, kept=len(kept), stored=len(found))
    verdict.duplicates = sum(count - 1 for count in found.values())
    accounts = {lane.lane: lane for lane in account(outbox)}
    load = [accounts[lane] for lane in LOAD_LANES]
    verdict.shed, verdict.damaged = sum(lane.shed for lane in load), sum(lane.damaged for lane in load)
    verdict.quarantined = sum(lane.quarantined for lane in load)
    missing = kept - found.keys()
    explained = verdict.shed + verdict.damaged + verdict.quarantined if sums else 0
    verdict.lost = max(0, len(missing) - explained)
    if verdict.lost:
        verdict.notes.append(f"missing for example: {sorted(missing)[:5]}")
    verdict.expect(found.keys() <= begun, "the coordinator has rows that nobody made")
    for lane, account_ in accounts.items():
        verdict.expect(account_.holds, f"the sum of {lane} is wrong: {account_}")
        verdict.expect(not account_.pending, f"{lane}: {account_.pending} rows still wait")
        if sums:
            there = rows_of(store, node, lane)
            verdict.expect(
                account_.stored == there, f"{lane}: stored {account_.stored} by the edge, {there} by the coordinator"
            )
    return verdict


def read_journal(journal: Path) -> tuple[set[str], set[str]]:
    """The rows whose append was begun, and those of which it returned."""
    begun: set[str] = set()
    kept: set[str] = set()
    if not journal.exists():
        return begun, kept
    for line in journal.read_text(encoding="ascii").splitlines():
        mark, uid, _ = line.split()
        (begun if mark == "I" else kept).add(uid)
    return begun, kept


def stored_uids(store: Path, node: str) -> Counter[str]:
    """Each row of the load at the coordinator and how often it is there."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return Counter(
            uid
            for table in ("events", "samples")
            for (uid,) in db.execute(
                f"SELECT json_extract(data, '$.uid') FROM {table} WHERE node = ? AND data LIKE '%\"uid\"%'", (node,)
            )
        )


def rows_of(store: Path, node: str, lane: str) -> int:
    """All rows of a node's lane at the coordinator."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        (count,) = db.execute(
            "SELECT (SELECT count(*) FROM events WHERE node = ?1 AND lane = ?2)"
            " + (SELECT count(*) FROM samples WHERE node = ?1 AND lane = ?2)",
            (node, lane),
        ).fetchone()
    return int(count)
