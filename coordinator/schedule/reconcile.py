"""One workload: what has to change so that as many replicas run as are wanted. Pure; time is an argument.

- A replica whose node is lost is replaced at once; it keeps its place until there is another.
- One that is to leave a node that is there stays until another one runs in its stead.
- One that failed beyond its restart policy loses its place, and the next one waits (`failing.py`); what a lost node
  had does not. With `restart = never` it stays as it is.
- Nothing else moves.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

from coordinator.schedule.book import OF_WORKLOAD, Book
from coordinator.schedule.failing import backoff_ms, forgive, overdue
from coordinator.schedule.index import Standing, covers
from coordinator.schedule.live import SETTLED, Live, Origin
from coordinator.schedule.missing import account
from coordinator.schedule.placement import choose
from coordinator.schedule.preemption import Lower, make_room
from coordinator.schedule.state import Placement
from coordinator.schedule.workload import EVERYWHERE

EVICTIONS_MAX = 20  # of one look
DRAINED = "is drained"
HOME = "its home"  # so begins why a replica leaves for where it was


def reconcile(book: Book, live: Live) -> None:
    """As much of it as the step has room for; the rest is looked at by the next one."""
    live.tried_ms = book.now_ms
    if live.kept.removed:
        _remove(book, live)
        return
    forgive(book, live)
    if not live.kept.updating:
        overdue(book, live)
    rescale(book, live)
    (_everywhere if live.is_everywhere else _counted)(book, live)
    account(book, live)
    until_ms = [*(one.until_utc_ms for one in live.avoided.values()), *live.stuck.values()]
    if later := [at_ms for at_ms in until_ms if at_ms > book.now_ms]:
        book.timers.remind((OF_WORKLOAD, live.name), min(later))


# ---- replicas by number ------------------------------------------------------------------------


def _counted(book: Book, live: Live) -> None:
    standing, lost, leaving = _sorted(book, live)
    want = live.kept.replicas
    if len(standing) < want:
        standing += _fill(book, live, want - len(standing), lost, leaving)
    for one in _surplus(book, standing, want):
        if not _take(book, live, one, f"{want} are wanted"):
            return
        standing.remove(one)
    if len(standing) >= want:
        for one in lost:
            if one.node in live.placed and not _take(book, live, one, f"{one.node} is lost"):
                return
    running = sum(one.phase in SETTLED for one in standing)
    while leaving and running + len(leaving) > want:
        one = leaving.pop(0)
        if not _take(book, live, one, one.leaving):
            return


def _take(book: Book, live: Live, one: Placement, why: str) -> bool:
    """False where it has to wait for the next step."""
    if not book.room:
        book.dirty.add(live.name)
        return False
    book.take(live, one, why)
    return True


def _sorted(book: Book, live: Live) -> tuple[list[Placement], list[Placement], list[Placement]]:
    """Those that count, those whose node is lost, those that go once another one runs."""
    standing: list[Placement] = []
    lost: list[Placement] = []
    leaving: list[Placement] = []
    claimed = {one.home for one in live.placed.values() if one.leaving.startswith(HOME)}
    for one in list(live.placed.values()):
        if book.is_lost(one.node):
            lost.append(one)
            continue
        one = _renewed(book, live, one)
        why = _why_leaving(book, live, one, claimed)
        if why != one.leaving:
            one = book.mark(live, one, leaving=why)
        (leaving if one.leaving else standing).append(one)
    return standing, lost, leaving


def _renewed(book: Book, live: Live, one: Placement) -> Placement:
    """With the spec of now, where it has an older one and nobody else brings it."""
    may = book.room and live.stuck.get(one.node, 0) <= book.now_ms
    if may and _is_old(live, one) and _has_room_for(book, live, one):
        book.renew(live, one)
        return live.placed[one.node]
    return one


def _is_old(live: Live, one: Placement) -> bool:
    """It has another spec than that of now, and nobody brings it. What an aborted roll-out has changed stays."""
    kept = live.kept
    stays = {kept.generation, max(kept.generation, kept.other_generation)}
    return not kept.updating and one.generation not in stays


def _has_room_for(book: Book, live: Live, one: Placement) -> bool:
    slot = book.index.slots.get(one.node)
    if slot is None:
        return False
    held = live.held.get(one.node, (0.0,) * len(live.need))
    return covers(tuple(map(sum, zip(book.index.left(slot), held, strict=True))), live.need)


def _why_leaving(book: Book, live: Live, one: Placement, claimed: set[str]) -> str:
    """`claimed`: homes that somebody goes back to already."""
    if live.stuck.get(one.node, 0) > book.now_ms:
        return one.leaving
    if one.node in book.drains:
        return f"{one.node} {DRAINED}"
    if _is_old(live, one) and not _has_room_for(book, live, one):
        return f"{one.node} has no room for its new spec"
    is_away = one.home not in ("", one.node) and one.home not in claimed
    if is_away and one.phase in SETTLED and _can_go_home(book, live, one):
        claimed.add(one.home)
        return f"{HOME} {one.home} is back"
    return one.leaving if one.leaving.startswith(HOME) else ""


def _can_go_home(book: Book, live: Live, one: Placement) -> bool:
    slot = book.index.slots.get(one.home)
    if slot is None or one.home in live.placed or not book.room:
        return False
    avoided = live.avoided.get(one.home)
    return (
        book.index.standing[slot] == Standing.OPEN
        and bool(book.index.members[live.name][slot])
        and covers(book.index.left(slot), live.need)
        and (avoided is None or avoided.until_utc_ms <= book.now_ms)
    )


def _surplus(book: Book, standing: list[Placement], want: int) -> list[Placement]:
    """Those that are too many: what does not run first, then where the load is greatest."""

    def worth(one: Placement) -> tuple[bool, int, float]:
        slot = book.index.slots.get(one.node)
        return one.phase in SETTLED, -one.restarts, 0.0 if slot is None else -float(book.index.load[slot])

    return sorted(standing, key=worth)[: max(0, len(standing) - want)]


def _fill(book: Book, live: Live, missing: int, lost: list[Placement], leaving: list[Placement]) -> list[Placement]:
    """Places as many as there is room for. What it replaces goes at once where it is lost."""
    found: list[Placement] = []
    lost = [one for one in lost if live.stuck.get(one.node, 0) <= book.now_ms]
    moving = [one for one in leaving if not _has_successor(live, one)]

    def put(slot: int) -> None:
        origin = _origin(book, live, book.index.names[slot], lost, moving)
        placed = book.place(live, slot, "" if origin is None else origin.home)
        found.append(placed)
        data = {"workload": live.name}
        if origin is None:
            data |= {"node": placed.node, "reason": f"{live.kept.replicas} wanted"}
            book.tell("WorkloadScheduled", book.change(placed.node), **data)
        else:
            data |= {"from_node": origin.node, "to_node": placed.node, "reason": origin.reason}
            book.tell("WorkloadMoved", book.change(placed.node), **data)

    _place(book, live, missing, put, at_once=len(lost))
    return found


def _origin(book: Book, live: Live, node: str, lost: list[Placement], moving: list[Placement]) -> Origin | None:
    """Which one it replaces that is placed on this node; one whose node is lost goes at once."""
    homing = next((one for one in moving if one.home == node and one.leaving.startswith(HOME)), None)
    if homing is not None:
        moving.remove(homing)
        return Origin(homing.node, homing.leaving, homing.home)
    if lost:
        gone = lost.pop(0)
        book.take(live, gone, f"{gone.node} is lost")
        return Origin(gone.node, f"{gone.node} is lost", gone.home)
    if moving:
        gone = moving.pop(0)
        return Origin(gone.node, gone.leaving, gone.home)
    return live.origins.popleft() if live.origins else None


def _has_successor(live: Live, one: Placement) -> bool:
    """Somebody goes home in its stead: that is placed already."""
    return bool(one.home) and one.home != one.node and one.home in live.placed


def _place(
    book: Book, live: Live, missing: int, put: Callable[[int], None], within: Collection[int] | None = None,
    at_once: int = 0,
) -> bool:  # fmt: skip
    """False where it could not look for all of them just now. `at_once`: so many of them wait for no failure."""
    if waits := (wait_ms := backoff_ms(live)) > book.now_ms:
        book.timers.remind((OF_WORKLOAD, live.name), wait_ms)
        missing = min(missing, at_once)
    count = min(missing, book.room)
    homes = _home_first(book, live, count)
    slots = homes or choose(book.index, book.ask(live, count), within)
    for slot in slots:
        put(slot)
    count -= len(slots)
    for _ in range(min(count, EVICTIONS_MAX)):
        found = make_room(book.index, book.ask(live, 1), _lower(book, live), within)
        if found is None:
            break
        for name in found.victims:
            _give_way(book, book.lives[name], book.index.names[found.slot], live)
        put(found.slot)
    if not book.room or homes:
        book.dirty.add(live.name)
    return bool(book.room) and not waits


def _home_first(book: Book, live: Live, count: int) -> list[int]:
    """Homes that are back, each for the replica that leaves another node for it."""
    going = [one for one in live.placed.values() if one.leaving.startswith(HOME)]
    return [book.index.slots[one.home] for one in going if _can_go_home(book, live, one)][:count]


def _lower(book: Book, live: Live) -> list[Lower]:
    slots = book.index.slots
    return [
        Lower(one.name, one.priority, one.need, [slots[n] for n in one.placed if n in slots and n not in one.stuck])
        for one in book.lives.values()
        if one.priority < live.priority and one.placed
    ]


def _give_way(book: Book, victim: Live, node: str, winner: Live) -> None:
    reason = f"it gave way to {winner.name} on {node}"
    victim.origins.append(Origin(node, reason, victim.placed[node].home))
    book.take(victim, victim.placed[node], f"it gives way to {winner.name}")
    book.tell(
        "WorkloadPreempted", book.change(node), workload=victim.name, node=node, by=winner.name,
        priority=victim.priority, by_priority=winner.priority,
    )  # fmt: skip
    book.dirty.add(victim.name)


# ---- on every node -----------------------------------------------------------------------------


def _everywhere(book: Book, live: Live) -> None:
    index, slots = book.index, book.index.slots
    look, live.look = live.look, set()
    if look is not None:
        again = [*live.avoided.values()]
        look |= {slots[one.node] for one in again if one.until_utc_ms <= book.now_ms and one.node in slots}
    for node in list(live.placed) if look is None else [index.names[slot] for slot in look]:
        one = live.placed.get(node)
        if one is None or book.is_lost(node) or node not in slots:
            continue
        why = "" if index.members[live.name][slots[node]] else f"{node} is not selected any more"
        if _is_old(live, one) and not _has_room_for(book, live, one):
            why = f"{node} has no room for its new spec"
        why = f"{node} {DRAINED}" if node in book.drains else why
        if why and not _take(book, live, one, why):
            break
        if not why:
            _renewed(book, live, one)

    def put(slot: int) -> None:
        placed = book.place(live, slot)
        data = {"workload": live.name, "node": placed.node, "reason": "on every node that is meant"}
        book.tell("WorkloadScheduled", book.change(placed.node), **data)

    if not _place(book, live, len(index) if look is None else len(look), put, look):
        live.look = look


# ---- beginnings and ends -----------------------------------------------------------------------


def _remove(book: Book, live: Live) -> None:
    for one in list(live.placed.values()):
        if not book.room:
            break
        book.take(live, one, "it is removed")
    if live.placed:
        stuck = [until_ms for until_ms in live.stuck.values() if until_ms > book.now_ms]
        if stuck:
            book.timers.remind((OF_WORKLOAD, live.name), min(stuck))
        if len(stuck) < len(live.placed):
            book.dirty.add(live.name)
    elif not any(live.name in change.taken for change in book.step.nodes.values()):
        book.forget(live)
    else:
        book.timers.remind((OF_WORKLOAD, live.name), book.now_ms)  # once that is written


def rescale(book: Book, live: Live) -> None:
    """By the rule on load, where there is one."""
    if live.scaling is None:
        return
    kept = live.kept
    verdict = live.scaling.judge(book.now_ms, kept.replicas, kept.scaled_utc_ms)
    if verdict.wake_utc_ms is not None:
        book.timers.remind((OF_WORKLOAD, live.name), verdict.wake_utc_ms)
    if verdict.replicas != kept.replicas:
        scale(book, live, verdict.replicas, verdict.reason)
        book.dirty.add(live.name)


def scale(book: Book, live: Live, replicas: int, reason: str) -> None:
    """Another number of replicas is wanted."""
    before = live.kept.replicas
    book.save(live, replace(live.kept, replicas=replicas, scaled_utc_ms=book.now_ms))
    live.origins.clear()
    book.tell("WorkloadScaled", workload=live.name, before=before, after=replicas, reason=reason)


assert EVERYWHERE < 0  # so that no number of replicas is taken for it
