"""The mass-outage guard: when many nodes turn suspect at once, the network is at fault and no work is moved. Pure.

It freezes a site where a large share of it turned suspect within a short while, the whole fleet where a share of all
did, and everything while the coordinator's own probe through the broker does not come back. A freeze ends when few
enough are missing, nobody has gone for a while and nobody comes back any more (those who wait for their turn at a
busy broker are not lost), or when it has lasted so long that somebody must have wanted it.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

FLEET = ""  # the scope of a freeze of everything; sites have names, and nodes without one share theirs
NO_SITE = "(no site)"
RETURNING_MS = 10_000


def scope_of_broker(name: str) -> str:
    """The scope of a freeze of the nodes at one of several brokers."""
    return f"(broker {name})"


@dataclass(frozen=True, slots=True)
class GuardRules:
    """Shares are of the registered nodes; a freeze needs the count too, or a site of three would always be frozen."""

    window_ms: int = 60_000
    site_share_max: float = 0.2
    site_count_min: int = 4
    fleet_share_max: float = 0.05
    fleet_count_min: int = 10
    calm_ms: int = 30_000  # without a further loss, before a freeze ends
    returning_ms: int = RETURNING_MS  # without anybody who came back, before a freeze ends while some are missing
    freeze_max_ms: int = 15 * 60_000


@dataclass(frozen=True, slots=True)
class Freeze:
    """`scope` is a site or FLEET."""

    scope: str
    since_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A freeze began or ended. `quiet`: it lies within one of everything, and nobody is told of it."""

    scope: str
    frozen: bool
    reason: str
    lasted_ms: int = 0
    quiet: bool = False


class Guard:
    """One fleet's. Every change is told; `tick` lets time pass; both are O(changes), never O(nodes)."""

    def __init__(self, rules: GuardRules | None = None) -> None:
        self.rules = rules or GuardRules()
        self._losses: deque[tuple[int, str, str]] = deque()  # (when, node, site) within the window
        self._missing: dict[str, str] = {}  # nodes that turned suspect and are not back, with their site
        self._recent: Counter[str] = Counter()  # of the losses, by site; FLEET has all
        self._away: Counter[str] = Counter()  # of the missing
        self._freezes: dict[str, Freeze] = {}
        self._last_loss_ms: dict[str, int] = {}
        self._last_return_ms: dict[str, int] = {}
        self._forced: set[str] = set()  # freezes that ended by their length: begun anew by a further loss
        self._settled: Counter[str] = Counter()  # of the recent losses, those of a freeze that ended in calm
        self._quiet: set[str] = set()  # freezes of which nobody was told
        self._probes_lost: set[str] = set()  # scopes of which the coordinator does not hear itself

    @property
    def freezes(self) -> Mapping[str, Freeze]:
        """Those that hold, by scope."""
        return self._freezes

    def restore(self, freezes: Iterable[Freeze]) -> None:
        """Those that held when an earlier run ended."""
        self._freezes |= {one.scope: one for one in freezes}

    def holds(self, site: str, broker: str = FLEET) -> Freeze | None:
        """The freeze that keeps work of this site, and at the broker with this scope, where it is; None: it may be
        moved."""
        found = self._freezes.get(FLEET) or self._freezes.get(site or NO_SITE)
        return found or (self._freezes.get(broker) if broker else None)

    def lost(self, node: str, site: str, now_ms: int) -> None:
        """A node turned suspect."""
        site = site or NO_SITE
        if node not in self._missing:
            self._missing[node] = site
            self._count(self._away, site, 1)
        self._losses.append((now_ms, node, site))
        self._count(self._recent, site, 1)
        for scope in (site, FLEET):
            self._last_loss_ms[scope] = now_ms
            self._forced.discard(scope)

    def back(self, node: str, now_ms: int) -> None:
        """A node is heard again."""
        if (site := self._missing.get(node)) is not None:
            self._last_return_ms[site] = self._last_return_ms[FLEET] = now_ms
        self.gone(node)

    def gone(self, node: str) -> None:
        """A node is taken for lost, or was taken out of the fleet: it is missing no more."""
        site = self._missing.pop(node, None)
        if site is not None:
            self._count(self._away, site, -1)

    def probe(self, *, ok: bool, now_ms: int, scope: str = FLEET) -> None:
        """The coordinator's own message through the broker came back, or did not."""
        (self._probes_lost.discard if ok else self._probes_lost.add)(scope)

    def tick(self, sizes: Mapping[str, int], now_ms: int) -> list[Turn]:
        """Freezes that begin and end now. `sizes`: registered nodes by site; FLEET has all."""
        while self._losses and self._losses[0][0] <= now_ms - self.rules.window_ms:
            _, _, site = self._losses.popleft()
            self._count(self._recent, site, -1)
            for scope in (site, FLEET):
                self._settled[scope] = max(0, self._settled[scope] - 1)  # the oldest go first
        turns = []
        for scope in {*self._recent, *self._freezes, *self._probes_lost, FLEET}:
            frozen = self._freezes.get(scope)
            if frozen is None:
                if scope not in self._forced and (reason := self._reason(scope, sizes)):
                    self._freezes[scope] = Freeze(scope, now_ms, reason)
                    turns.append(Turn(scope, True, reason))
            elif why := self._ends(frozen, sizes, now_ms):
                del self._freezes[scope]
                if scope not in self._forced:
                    self._settled[scope] = self._recent[scope]  # they do not begin another one
                turns.append(Turn(scope, False, why, now_ms - frozen.since_ms))
        return self._told(turns)

    def _told(self, turns: list[Turn]) -> list[Turn]:
        """Where everything is frozen nobody is told of each site as well, but of those that stay so after it."""
        found, all_frozen = [], FLEET in self._freezes
        for turn in turns:
            quiet = turn.scope in self._quiet
            if turn.frozen and all_frozen and turn.scope != FLEET and turn.scope not in self._probes_lost:
                quiet = True
                self._quiet.add(turn.scope)
            elif not turn.frozen:
                self._quiet.discard(turn.scope)
            found.append(replace(turn, quiet=quiet))
        if not all_frozen and self._quiet:
            found += [Turn(scope, True, self._freezes[scope].reason) for scope in sorted(self._quiet)]
            self._quiet.clear()
        return found

    def _reason(self, scope: str, sizes: Mapping[str, int]) -> str:
        if scope in self._probes_lost:
            return "the coordinator's own messages do not come back through the broker"
        lost, size = self._recent[scope] - self._settled[scope], sizes.get(scope, 0)
        share_max, count_min = self._bounds(scope)
        if lost < count_min or lost <= share_max * size:
            return ""
        where = "the fleet" if scope == FLEET else scope
        return f"{lost} of {size} nodes of {where} turned suspect within {self.rules.window_ms // 1000} s"

    def _ends(self, frozen: Freeze, sizes: Mapping[str, int], now_ms: int) -> str:
        if frozen.scope in self._probes_lost:
            return ""  # nothing is known of anybody there
        if now_ms - frozen.since_ms >= self.rules.freeze_max_ms:
            self._forced.add(frozen.scope)
            return f"it lasted {self.rules.freeze_max_ms // 1000} s: what is away now counts as lost"
        share_max, count_min = self._bounds(frozen.scope)
        away, size = self._away[frozen.scope], sizes.get(frozen.scope, 0)
        calm = now_ms - self._last_loss_ms.get(frozen.scope, frozen.since_ms) >= self.rules.calm_ms
        few = away < count_min or away <= share_max * size / 2
        returned_ms = self._last_return_ms.get(frozen.scope)
        returning = away > 0 and returned_ms is not None and now_ms - returned_ms < self.rules.returning_ms
        return f"{size - away} of {size} nodes are there" if calm and few and not returning else ""

    def _bounds(self, scope: str) -> tuple[float, int]:
        rules = self.rules
        if scope == FLEET:
            return rules.fleet_share_max, rules.fleet_count_min
        return rules.site_share_max, rules.site_count_min

    @staticmethod
    def _count(counter: Counter[str], site: str, by: int) -> None:
        for scope in (site, FLEET):
            counter[scope] += by
            if not counter[scope]:
                del counter[scope]
