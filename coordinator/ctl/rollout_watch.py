"""How far a roll-out is, as a line or as a bar for each phase, until it has ended."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from coordinator.ctl.tables import printable
from coordinator.store.rollouts import RolloutView

EXIT_FAILED = 1
WATCH_EVERY_S = 0.5
ENDED = frozenset({"completed", "aborted", "paused", "rolled_back"})  # a watcher has nothing to wait for
BAR_COLUMNS = 24
_OF_NO_PHASE = frozenset({"excluded", "rolled_back", "kept"})
_BEFORE = frozenset({"waiting", *_OF_NO_PHASE})


def watch(look: Callable[[], RolloutView], *, good: str, as_json: bool = False) -> int:
    """Until it has ended: a block that is written over on a terminal, a line at each change elsewhere, or JSON lines.

    Exit status 0 where it ended in the state `good`.
    """
    on_terminal, before, rows = sys.stdout.isatty() and not as_json, "", 0
    while True:
        found = look()
        said = json.dumps(asdict(found), ensure_ascii=False) if as_json else progress(found)
        lines = [said, *bars(found)] if on_terminal else [said]
        if "\n".join(lines) != before:
            before = "\n".join(lines)
            if on_terminal:
                width = shutil.get_terminal_size().columns - 1
                up = f"\x1b[{rows}F" if rows else ""
                sys.stdout.write(up + "".join(f"\x1b[K{line[:width]}\n" for line in lines))
                rows = len(lines)
            else:
                sys.stdout.write(f"{said}\n")
            sys.stdout.flush()
        if found.state in ENDED:
            return 0 if found.state == good else EXIT_FAILED
        time.sleep(WATCH_EVERY_S)


def bars(found: RolloutView) -> list[str]:
    """A bar for each phase of a roll-out that brings something to fetch; none for another one."""
    if not found.plan.get("prefetch"):
        return []
    return [f"  {name:<10} [{_bar(done, of)}] {done} of {of}" for name, done, of in phases(found)]


def phases(found: RolloutView) -> list[tuple[str, int, int]]:
    """(phase, how many nodes have come through it, of so many); one that failed counts as far as it came."""
    total = sum(count for state, count in found.nodes.items() if state not in _OF_NO_PHASE)
    told = sum(count for state, count in found.told.items() if state not in _OF_NO_PHASE)
    notified = sum(count for state, count in found.nodes.items() if state not in _BEFORE)
    fetched = told + found.nodes.get("ready", 0)
    active = sum(found.nodes.get(state, 0) for state in ("accepted", "verified"))
    return [
        ("notified", notified, total),
        ("fetched", fetched, total),
        ("activated", active, total),
        ("verified", found.nodes.get("verified", 0), total),
    ]


def _bar(done: int, of: int) -> str:
    full = BAR_COLUMNS * done // of if of else 0
    return "#" * full + "-" * (BAR_COLUMNS - full)


def progress(found: RolloutView) -> str:
    """One line: `r-3 running, wave 2 of 4: 12 of 200 verified, 1 failed, 3 told`."""
    counts = dict(found.nodes)
    verified, total = counts.pop("verified", 0), sum(found.nodes.values())
    waiting = counts.pop("waiting", 0)
    rest = [f"{count} {words(state)}" for state, count in counts.items()] + (
        [f"{waiting} waiting"] if waiting else []
    )
    more = f" ({found.reason})" if found.reason else ""
    text = f"{found.id} {words(found.state)}, wave {found.wave} of {found.waves}: {verified} of {total} verified"
    return printable(", ".join([text, *rest]) + more)


def words(state: str) -> str:
    """`rolling back`."""
    return state.replace("_", " ")
