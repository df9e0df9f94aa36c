"""How many replicas of a workload have no place, and why: kept, and told where it is news. Pure."""

from collections import Counter
from dataclasses import replace

import numpy as np

from coordinator.schedule.book import Book
from coordinator.schedule.failing import backoff_ms
from coordinator.schedule.index import Standing
from coordinator.schedule.live import Live
from coordinator.schedule.placement import HAS_IT, NO_CONTAINERS, NOT_SELECTED, ever, why_not
from coordinator.schedule.workload import REASON_CHARS_MAX

REASONS_TOLD = 3


def account(book: Book, live: Live) -> None:
    """How many replicas have no place, and why: kept, and told where it is news."""
    kept = live.kept
    if live.is_everywhere:
        meant = book.index.members[live.name] & (book.index.standing != Standing.NOBODY)
        missing = int(np.count_nonzero(meant)) - sum(node in book.index.slots for node in live.placed)
    else:
        missing = kept.replicas - sum(not (one.leaving or book.is_lost(one.node)) for one in live.placed.values())
    missing = max(0, missing)
    if missing and live.name in book.dirty and not book.room:
        return  # it is not done yet
    (book.pending.add if missing else book.pending.discard)(live.name)
    reason = _why_missing(book, live, missing) if missing else ""
    if (missing, reason) == (kept.missing, kept.reason):
        return
    book.save(live, replace(live.kept, missing=missing, reason=reason))
    is_news = missing > kept.missing or (missing and _kind(reason) != _kind(kept.reason))
    if is_news and not live.is_everywhere:
        book.tell("WorkloadPending", workload=live.name, missing=missing, reason=reason)


def _why_missing(book: Book, live: Live, missing: int) -> str:
    if (wait_ms := backoff_ms(live)) > book.now_ms:
        times = live.kept.failures
        return f"it failed {times} times one after another; the next try is in {_span(wait_ms - book.now_ms)}"
    ask = book.ask(live, missing)
    found = why_not(book.index, ask)
    del found[HAS_IT]
    if live.is_everywhere:
        del found[NOT_SELECTED], found[NO_CONTAINERS]
    nodes = len(book.index)
    if not live.is_everywhere and not ever(book.index, ask):
        return _reasons(f"no node can ever have it, of {nodes}: ", found)
    return _reasons("", found)


def _reasons(head: str, found: Counter[str]) -> str:
    """The commonest ones."""
    parts = [
        f"{count} {'node' if count == 1 else 'nodes'}: {reason}" for reason, count in found.most_common(REASONS_TOLD)
    ]
    return (head + ("; ".join(parts) or "there are no nodes"))[:REASON_CHARS_MAX]


def _kind(reason: str) -> str:
    return "".join(char for char in reason if not char.isdigit())


def _span(ms: int) -> str:
    return f"{max(1, round(ms / 1000))} s"
