"""Nodes that are drained: they get nothing new, and what is there goes elsewhere. Pure; time is an argument."""

from dataclasses import replace

from coordinator.schedule.book import OF_DRAIN, Book
from coordinator.schedule.reconcile import DRAINED
from coordinator.schedule.state import Drain


def begin(book: Book, drain: Drain) -> int:
    """From now on, or otherwise than before. Says how many replicas are there."""
    if (before := book.drains.get(drain.node)) is not None:
        drain = replace(drain, since_utc_ms=before.since_utc_ms, moved=before.moved, done=before.done)
    book.drains[drain.node] = book.step.drains[drain.node] = drain
    book.index.drain(drain.node, drained=True)
    if drain.until_utc_ms:
        book.timers.remind((OF_DRAIN, drain.node), drain.until_utc_ms)
    there = book.on.get(drain.node, set())
    book.dirty.update(there)
    for one in book.everywhere & there:
        if (look := book.lives[one].look) is not None:
            look.add(book.index.slots[drain.node])
    return len(there)


def due(book: Book, node: str) -> None:
    """The time of a drain may be over."""
    drain = book.drains.get(node)
    if drain is not None and drain.until_utc_ms:
        if drain.until_utc_ms <= book.now_ms:
            end(book, node)
        else:
            book.timers.remind((OF_DRAIN, node), drain.until_utc_ms)


def end(book: Book, node: str) -> None:
    """The node may be given something again."""
    del book.drains[node]
    book.step.drains.pop(node, None)
    book.step.undrained.append(node)
    book.index.drain(node, drained=False)
    book.dirty.update(book.on.get(node, ()))
    book.gain(node)


def settle(book: Book) -> None:
    """Nodes that are drained and have nothing any more."""
    for change in book.step.nodes.values():
        drain = book.drains.get(change.node)
        if drain is not None and (moved := sum(why.endswith(DRAINED) for why in change.why.values())):
            book.drains[drain.node] = book.step.drains[drain.node] = replace(drain, moved=drain.moved + moved)
    for node, drain in book.drains.items():
        if not drain.done and node not in book.on:
            done = replace(drain, done=True)
            book.drains[node] = book.step.drains[node] = done
            book.tell("NodeDrained", node=node, moved=done.moved, reason=done.reason)
