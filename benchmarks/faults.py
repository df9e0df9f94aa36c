"""The fault campaign: whatever is killed, cut, filled, torn or put back, nothing that was kept is lost or doubled.

usage: python -m benchmarks.faults [--full] [--only PART ...] [--json]

Parts: `kills` (kill -9 of running processes at named points and at random), `replay` (recorded file writes of an
outbox and of a coordinator's store, cut and torn at every sector, opened again), the scenarios of
`faultlib.scenarios` by name, `liar` (a coordinator that lies: the checker must find it), `backlog` (a million rows),
`bridge` (mosquitto's own).

`crash_points`: kills and replayed crashes together. `committed_rows_lost`: rows whose append had returned, by the
load's own journal, and that are neither at the coordinator nor set aside nor given up and said to be so.
`duplicates_stored`: rows that the coordinator has more than once, or numbers given out twice. `account_mismatch`:
sums of an outbox that are wrong, or differ from the coordinator's, and every other thing that a scenario expects.
"""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import backlog
from benchmarks.faultlib import bridge
from benchmarks.faultlib.kills import kills
from benchmarks.faultlib.replay import Found, replay
from benchmarks.faultlib.scenarios import SCENARIOS, lying_coordinator
from benchmarks.faultlib.site import Site, SiteError
from benchmarks.faultlib.verdict import Verdict

KILLS, KILLS_FULL = 220, 1_000
KILLS_A_SITE = 55
REPLAYS, REPLAYS_FULL = {"outbox": 800, "coordinator": 300}, {"outbox": 12_000, "coordinator": 3_500}
BACKLOG_ROWS = 1_000_000
BRIDGE_ROWS = 20_000
PERSISTENT = "persistence true\npersistence_location {folder}/\nuser root\n"  # it snapshots every half hour


class Campaign:
    """Runs the parts and adds up what they found."""

    def __init__(self, folder: Path, *, full: bool, say: Callable[[str], None]) -> None:
        self.figures: dict[str, Any] = {
            "crash_points": 0, "process_kills": 0, "committed_rows_lost": 0, "duplicates_stored": 0,
            "account_mismatch": 0,
        }  # fmt: skip
        self.scenarios: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, str] = {}
        self._folder = folder
        self._full = full
        self._say = say

    def run(self, part: str) -> None:
        """One part by its name."""
        began_s = time.monotonic()
        match part:
            case "kills":
                self._kills()
            case "replay":
                self._replay()
            case "liar":
                found = lying_coordinator(self._folder / part)
                self.figures["checker_finds_losses"] = found.lost > 0 and found.mismatches > 0
            case "backlog":
                self.figures |= backlog.measure(BACKLOG_ROWS)
            case "bridge":
                self.figures |= bridge.compare(self._folder / part, BRIDGE_ROWS)
            case _:
                scenario, needs = SCENARIOS[part]
                if why := needs():
                    self.skipped[part] = why
                else:
                    self._scenario(part, scenario)
        shutil.rmtree(self._folder / part, ignore_errors=True)
        self._say(f"{part}: {time.monotonic() - began_s:.0f} s")

    def _kills(self) -> None:
        left, seed = KILLS_FULL if self._full else KILLS, 0
        while left > 0:
            count, seed = min(left, KILLS_A_SITE), seed + 1
            left -= count

            def one(folder: Path, count: int = count, seed: int = seed) -> Verdict:
                with Site(folder, broker=PERSISTENT.format(folder=folder)) as site:
                    return kills(site, count, seed)

            self._scenario(f"kills_{seed}", one)

    def _scenario(self, name: str, scenario: Callable[[Path], Verdict]) -> None:
        folder = self._folder / name
        folder.mkdir(parents=True)
        try:
            verdict = scenario(folder)
        except SiteError as error:
            verdict = Verdict(name, mismatches=1, notes=[str(error)])
        self._add(verdict.lost, verdict.duplicates, verdict.mismatches)
        self.figures["process_kills"] += verdict.kills
        self.figures["crash_points"] += verdict.kills
        self.scenarios[name] = verdict.fields()
        self._say(f"{name}: {'as it should be' if verdict.fine else f'WRONG {verdict.fields()}'}")

    def _replay(self) -> None:
        for workload, count in (REPLAYS_FULL if self._full else REPLAYS).items():
            found: Found = replay(workload, count)
            self._add(found.lost, found.duplicates, found.mismatches)
            self.figures["crash_points"] += found.crashes
            self.figures[f"replayed_{workload}"] = found.crashes
            for text in found.examples:
                self._say(f"WRONG {text}")

    def _add(self, lost: int, duplicates: int, mismatches: int) -> None:
        self.figures["committed_rows_lost"] += lost
        self.figures["duplicates_stored"] += duplicates
        self.figures["account_mismatch"] += mismatches


PARTS = ("kills", "replay", *SCENARIOS, "liar", "backlog", "bridge")


def main(argv: list[str] | None = None) -> int:
    """Prints what was found; with --json one object on the last line. 1 when something was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(prog="benchmarks.faults", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--full", action="store_true", help="1,000 kills and 15,500 replayed crashes")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)  # thousands of files are opened again, each with something to say
    folder = Path(tempfile.mkdtemp(prefix="edgewright-faults-"))

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        campaign = Campaign(folder, full=arguments.full, say=say)
        for part in arguments.only:
            campaign.run(part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = campaign.figures | {"scenarios": campaign.scenarios, "skipped": campaign.skipped}
    if arguments.json:
        print(json.dumps(figures))
    else:
        print(json.dumps(figures, indent=2))
    right = not (figures["committed_rows_lost"] or figures["duplicates_stored"] or figures["account_mismatch"])
    return 0 if right and figures.get("checker_finds_losses", True) else 1


if __name__ == "__main__":
    sys.exit(main())
