"""A replica that has failed: what becomes of it, of its node, and of the next one. Pure; time is an argument.

It loses its place, and its node is avoided for a while. The next one waits longer with each failure in a row: of one
that was placed since the failure before. Many that were placed together and fail together are one failure.
"""

from dataclasses import replace

from coordinator.fleet.node import NodeState
from coordinator.schedule.book import OF_WORKLOAD, Book
from coordinator.schedule.live import Live, Origin
from coordinator.schedule.state import Avoided, Phase, Placement
from coordinator.schedule.workload import REASON_CHARS_MAX
from runtime.backoff import Backoff
from schemas.workloads import Restart

AVOID = Backoff(first_s=60.0, max_s=3600.0)  # a node, by how often it failed there
AGAIN = Backoff(first_s=1.0, max_s=300.0)  # after a failure, by how many came one after another
FORGIVEN_MS = 600_000  # without a failure for so long, the next one is the first


def fail(book: Book, live: Live, placement: Placement, reason: str) -> None:
    """A replica has failed on its node, which will not try again by itself."""
    now_ms, node = book.now_ms, placement.node
    if live.workload.restart is Restart.NEVER:
        book.mark(live, placement, phase=Phase.FAILED, reason=reason[:REASON_CHARS_MAX])
        return
    kept = live.kept
    first = not kept.failures or now_ms - kept.failed_utc_ms > FORGIVEN_MS
    if first or placement.placed_utc_ms >= kept.failed_utc_ms:
        book.save(live, replace(kept, failures=1 if first else kept.failures + 1, failed_utc_ms=now_ms))
    known = live.avoided.get(node)
    times = 1 if known is None else known.failures + 1
    until_ms = now_ms + round(AVOID.delay_s(times - 1, 1.0) * 1000)
    avoided = Avoided(live.name, node, until_ms, times, reason[:REASON_CHARS_MAX])
    live.avoided[node] = book.step.avoided[live.name, node] = avoided
    live.origins.append(Origin(node, f"it failed on {node}: {reason}"[:REASON_CHARS_MAX], placement.home))
    book.take(live, placement, f"it failed: {reason}"[:REASON_CHARS_MAX])
    book.dirty.add(live.name)


def backoff_ms(live: Live) -> int:
    """Until when nothing is placed, after failures; the first is followed at once. On every node each node has a wait
    of its own, while it is avoided."""
    kept = live.kept
    if kept.failures < 2 or live.is_everywhere:
        return 0
    return kept.failed_utc_ms + round(AGAIN.delay_s(kept.failures - 2, 1.0) * 1000)


def overdue(book: Book, live: Live) -> None:
    """Replicas that their nodes do not get to run, though they are there and we hear them."""
    limit_ms = round(live.workload.start_s * 1000)
    if book.hearing_since_ms is None:
        return
    for node in sorted(live.deploying):
        one = live.placed[node]
        slot = book.index.slots.get(node)
        there = None if slot is None else book.index.nodes[slot]
        if there is None or there.state is not NodeState.ONLINE:
            continue  # it is looked at again when it is back
        due_ms = max(one.since_utc_ms, book.hearing_since_ms, there.since_utc_ms) + limit_ms
        if due_ms > book.now_ms:
            book.timers.remind((OF_WORKLOAD, live.name), due_ms)
        else:
            more = f": {one.reason}" if one.reason else ""
            fail(book, live, one, f"it did not run within {live.workload.start_s:g} s{more}")


def forgive(book: Book, live: Live) -> None:
    """Nodes where it failed long ago: the next failure there is the first."""
    for one in list(live.avoided.values()):
        if one.until_utc_ms + FORGIVEN_MS < book.now_ms:
            del live.avoided[one.node]
            book.step.forgiven.append((live.name, one.node))
    live.stuck = {node: until_ms for node, until_ms in live.stuck.items() if until_ms > book.now_ms}
