"""What a roll-out begins with: which nodes are meant, and what a model means for each. Driver.

Everything that is wrong is said at once.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.fleet.facts import LazyFacts, facts_of
from coordinator.fleet.registry import Fleet
from coordinator.fleet.selector_text import parse
from coordinator.models.channels import Deployable
from coordinator.models.release import ModelRefusedError
from coordinator.rollout.deploying import Deployment, Fit, shared, told
from coordinator.rollout.plan import Plan, plan_mistakes
from coordinator.store.many_documents import rows_of
from coordinator.store.sql import SqlStore
from runtime.calls.errors import CallRejectedError
from schemas.documents import canonical
from schemas.fields import Owner, mistakes

LOOKED_AT_ONCE = 500  # nodes, before others may have the loop
Own = Mapping[str, Mapping[str, Any]]
"""By node the fields of its own; None takes one back."""


Find = Callable[[str], Awaitable[Deployable]]
"""NAME, NAME@VERSION or NAME@CHANNEL. Raises ModelRefusedError with every reason."""


IsMeant = Callable[[Deployable], str]
"""Why a release is not the one that is meant; "" for the right one."""


@dataclass(frozen=True, slots=True)
class Begun:
    """All that a roll-out begins with."""

    plan: Plan
    names: list[str]
    own: Own = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)
    newcomers: frozenset[str] = frozenset()  # selected, and taken in once they have said what they run


class Beginning:
    """What has to be known of the fleet and the models."""

    def __init__(self, store: SqlStore, fleet: Fleet, find: Find) -> None:
        self._store = store
        self._fleet = fleet
        self._find = find

    async def prepare(
        self, asked: Plan, own: Own | None, names: Sequence[str] | None, is_meant: IsMeant = lambda found: ""
    ) -> Begun:
        """Nodes are those of `own`, or of `names`, or of the plan's selector. Raises CallRejectedError."""
        by_name = own is not None or names is not None
        wrong = plan_mistakes(asked, has_own=own is not None, by_name=by_name) + _own_mistakes(own or {})
        deployment, more = await self._deployment(asked, is_meant) if asked.model else (None, [])
        if wrong or more:
            code = "bad_arguments" if wrong else "bad_model"
            raise CallRejectedError(code, "; ".join([*wrong, *more]))
        if own is not None:
            chosen = sorted(name for name in own if name in self._fleet.nodes)
        elif names is not None:
            chosen = sorted(name for name in set(names) if name in self._fleet.nodes)
        else:
            chosen = await self._selected(asked.select)
        if not chosen and not asked.continuous:
            what = "those named are not registered" if by_name else f"no node is selected by {asked.select!r}"
            raise CallRejectedError("nobody", f"{what}; edgectl nodes lists them")
        if deployment is None:
            return Begun(asked, chosen, {name: own[name] for name in chosen} if own else {})
        return await self._deployed(asked, deployment, chosen)

    async def _deployed(self, asked: Plan, deployment: Deployment, chosen: Sequence[str]) -> Begun:
        fits = await self.fits(deployment, chosen)
        unheard = frozenset(name for name, fit in fits.items() if fit.unheard and asked.continuous)
        excluded = {name: fit.excluded for name, fit in fits.items() if fit.excluded and name not in unheard}
        taking = [name for name in chosen if name not in excluded and name not in unheard]
        if not taking and not asked.continuous:
            text = f"no node that is selected can take {deployment.release.reference}: {told(excluded.values())}"
            raise CallRejectedError("no_target", text)
        return Begun(deployment.planned(asked), taking, shared(fits), excluded, unheard)

    async def fits(self, deployment: Deployment, names: Sequence[str]) -> dict[str, Fit]:
        """What a model means for these nodes."""
        holds = await self._store.read(lambda db: _holds(db, names))
        found = {}
        for at, name in enumerate(names):
            node = self._fleet.nodes.get(name)
            if node is not None:
                found[name] = deployment.fit(LazyFacts(node), holds.get(name))
            if at % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1:
                await asyncio.sleep(0)
        return found

    async def again(self, plan: Plan) -> Deployment | None:
        """The deployment of a plan that began earlier; None where its release is given to nobody any more."""
        return (await self._deployment(plan))[0]

    async def _deployment(
        self, asked: Plan, is_meant: IsMeant = lambda found: ""
    ) -> tuple[Deployment | None, list[str]]:
        try:
            found = await self._find(asked.model)
        except ModelRefusedError as error:
            return None, [str(error)]
        if wrong := is_meant(found):
            return None, [wrong]
        return Deployment(found.release, found.digest, asked.pipelines), []

    async def _selected(self, select: str) -> list[str]:
        selector, found = parse(select), []
        for at, node in enumerate(list(self._fleet.nodes.values())):
            if selector.matches(facts_of(node)):
                found.append(node.name)
            if at % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1:
                await asyncio.sleep(0)
        return found


def _holds(db: Any, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By node the fields that it reports. What is damaged counts as not reported; the node's next report mends it."""
    found = {}
    for node, text in rows_of(db, "SELECT node, document FROM reported WHERE node", names):
        try:
            fields = json.loads(text)["fields"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(fields, dict):
            found[node] = fields
    return found


def _own_mistakes(own: Own) -> list[str]:
    """Each mistake once, however many nodes have it."""
    distinct = {canonical(fields): fields for fields in own.values()}
    found = [text for fields in distinct.values() for text in mistakes(fields, Owner.COORDINATOR)]
    return list(dict.fromkeys(found))
