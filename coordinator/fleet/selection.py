"""Which nodes selectors mean, kept up to date from what changes. Pure.

A change of a node costs the selectors that ask for a changed fact, whatever the size of the fleet and the number of
selectors. Only a new selector looks at every node, once.
"""

from collections.abc import Callable, Iterable

from coordinator.fleet.facts import LazyFacts, changed_facts, facts_of, says_the_same
from coordinator.fleet.node import Node
from coordinator.fleet.selector import Selector

OnChange = Callable[[str, bool], None]
"""(node, whether it is meant now)."""


class Selection:
    """The nodes that one selector means. `on_change` is told who joins and leaves."""

    def __init__(self, selector: Selector, nodes: Iterable[Node]) -> None:
        self.selector = selector
        self.members = {node.name for node in nodes if selector.matches(LazyFacts(node))}
        self.on_change: OnChange = lambda node, joined: None

    def look(self, name: str, node: Node | None) -> None:
        """Something that the selector asks for may have changed; None: the node is gone."""
        meant = node is not None and self.selector.matches(LazyFacts(node))
        if meant is (name in self.members):
            return
        (self.members.add if meant else self.members.discard)(name)
        self.on_change(name, meant)


class Selections:
    """Those of a fleet, found by the facts they ask for."""

    def __init__(self) -> None:
        self._all: dict[str, Selection] = {}
        self._by_fact: dict[str, set[str]] = {}

    def __getitem__(self, name: str) -> Selection:
        return self._all[name]

    def __len__(self) -> int:
        return len(self._all)

    def add(self, name: str, selector: Selector, nodes: Iterable[Node]) -> Selection:
        """One more, or another one under this name."""
        self.remove(name)
        self._all[name] = Selection(selector, nodes)
        for key in selector.keys:
            self._by_fact.setdefault(key, set()).add(name)
        return self._all[name]

    def remove(self, name: str) -> None:
        selection = self._all.pop(name, None)
        for key in selection.selector.keys if selection is not None else ():
            asking = self._by_fact[key]
            asking.discard(name)
            if not asking:
                del self._by_fact[key]

    def changed(self, name: str, before: Node | None, after: Node | None) -> int:
        """A node came, went or changed. Counts the selectors that were asked again."""
        if before is None or after is None:
            asked = set(self._all)
        else:
            asked = {one for fact in facts_changed(before, after) for one in self._by_fact.get(fact, ())}
        for one in asked:
            self._all[one].look(name, after)
        return len(asked)


def facts_changed(before: Node, after: Node) -> set[str]:
    """The names of the facts that are other now. Cheap where a node only comes back, as a whole fleet may at once."""
    if not says_the_same(before.birth, after.birth):
        return changed_facts(facts_of(before), facts_of(after))
    found = {"state"} if before.shown is not after.shown else set()
    if before.state is not after.state:
        found.add("liveness")
    return found | ({"boot"} if before.boot != after.boot else set())
