"""A workload that gets another spec by a roll-out: room for it ahead, and what it is at the end. Pure."""

from dataclasses import replace

from coordinator.schedule.book import Book
from coordinator.schedule.failing import fail
from coordinator.schedule.index import covers, needs
from coordinator.schedule.live import Live
from coordinator.schedule.state import Kept, Phase, UpdateOver
from coordinator.schedule.workload import EVERYWHERE, Workload


def begin(book: Book, live: Live, workload: Workload, generation: int) -> list[str]:
    """Room is kept for it on the nodes that can run it; says which these are."""
    rollout = f"{workload.name[:50]}-{generation}"
    book.save(live, replace(live.kept, rollout=rollout, updating=True, other=workload, other_generation=generation))
    names = nodes_of(book, live)
    book.reserve(live, names, workload)
    return names


def nodes_of(book: Book, live: Live) -> list[str]:
    """Those that can run the spec that it is updated to."""
    assert live.kept.other is not None, "it is updated"
    need, found = needs(live.kept.other.resources), []
    for node in live.placed:
        slot = book.index.slots.get(node)
        if slot is not None:
            room = tuple(map(sum, zip(book.index.left(slot), live.held[node], strict=True)))
            if covers(room, need):
                found.append(node)
    return sorted(found)


def cancel(book: Book, live: Live) -> None:
    """Nothing of it holds."""
    book.reserve(live, list(live.placed), None)
    book.save(live, replace(live.kept, rollout="", updating=False, other=None, other_generation=0))
    book.dirty.add(live.name)


def end(book: Book, live: Live, over: UpdateOver) -> None:
    """Completed: it is what the roll-out brought. Rolled back, also later: it is what it was before.

    Aborted: what was changed stays, until the next update.
    """
    kept = live.kept
    if kept.updating:
        reached = {} if over.rolled_back else over.reached
        found = replace(kept, updating=False)
        if over.rolled_back:
            found = replace(found, other=None, other_generation=0)
        elif over.completed and kept.other is not None:
            found = replace(_swapped(found), replicas=replicas_of(kept.other, kept))
    elif over.rolled_back and kept.other is not None and kept.other_generation < kept.generation:
        reached, found = over.reached, replace(_swapped(kept), other=None, other_generation=0)
        found = replace(found, replicas=replicas_of(found.workload, kept))
    else:
        return
    for node, version in reached.items():
        if (placement := live.placed.get(node)) is not None:
            epoch, revision = max(version, (placement.epoch, placement.revision))
            book.mark(live, placement, generation=kept.other_generation, epoch=epoch, revision=revision)
    book.redefine(live, found)
    for placement in list(live.placed.values()):
        other = found.other if placement.generation == found.other_generation else None
        book.reserve(live, [placement.node], other)
        if placement.phase is Phase.FAILED:
            fail(book, live, placement, placement.reason or "it says so")


def _swapped(kept: Kept) -> Kept:
    assert kept.other is not None, "there is another one"
    new, old = (kept.other, kept.other_generation), (kept.workload, kept.generation)
    return replace(kept, workload=new[0], generation=new[1], other=old[0], other_generation=old[1])


def replicas_of(workload: Workload, before: Kept | None) -> int:
    """As declared; where a rule on load counts them, as many as there were, within its bounds."""
    rule = workload.scale
    if rule is None or workload.count == EVERYWHERE:
        return workload.count
    count = workload.count if before is None or before.replicas == EVERYWHERE else before.replicas
    return min(max(count, rule.min), rule.max)
