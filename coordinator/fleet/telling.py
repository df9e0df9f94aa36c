"""What is told of nodes, and what their own messages say: values to values. Pure."""

from collections.abc import Mapping
from typing import Any

from coordinator.fleet.flapping import Flap
from coordinator.fleet.guard import Turn
from coordinator.fleet.node import FleetEvent, Moment, Node, Word
from coordinator.fleet.twins import Seen, Twins
from schemas.messages import Birth, Presence, Status


def registered(name: str, birth: Birth, now: Moment) -> FleetEvent:
    data: dict[str, Any] = {"node": name, "node_id": name, "location": _place(birth.location)}
    data |= {"node_type": birth.node_type, "site": birth.site, "labels": birth.labels}
    return FleetEvent("NodeRegistered", name, data, now.utc_ms)


def deregistered(node: Node, now: Moment, *, ban: bool, by: str) -> FleetEvent:
    data = {"node": node.name, "was": node.shown.value, "banned": ban, "by": by}
    return FleetEvent("NodeDeregistered", node.name, data, now.utc_ms)


def online(node: Node, reason: str, now: Moment) -> FleetEvent:
    return FleetEvent("NodeOnline", node.name, _presence(node, reason), now.utc_ms)


def offline(node: Node, reason: str, now: Moment) -> FleetEvent:
    return FleetEvent("NodeOffline", node.name, _presence(node, reason), now.utc_ms)


def flapping(node: Node, flap: Flap, now: Moment) -> FleetEvent:
    data = {"node": node.name, "losses": flap.losses, "reason": node.reason}
    return FleetEvent("NodeFlapping", node.name, data, now.utc_ms)


def steady(node: Node, now: Moment) -> FleetEvent:
    return FleetEvent("NodeSteady", node.name, {"node": node.name, "state": node.shown.value}, now.utc_ms)


def conflict(twins: Twins, now: Moment) -> FleetEvent:
    data = {"node": twins.node, "one": _agent(twins.one), "other": _agent(twins.other)}
    return FleetEvent("IdentityConflict", twins.node, data, now.utc_ms)


def frozen(turn: Turn, now: Moment) -> FleetEvent:
    """A freeze began or ended."""
    subject, data = turn.scope or "fleet", {"scope": turn.scope, "reason": turn.reason}
    if turn.frozen:
        return FleetEvent("FailoverFrozen", subject, data, now.utc_ms)
    return FleetEvent("FailoverResumed", subject, data | {"lasted_s": turn.lasted_ms / 1000}, now.utc_ms)


def seen(birth: Birth, now: Moment) -> Seen:
    """The agent that says this birth."""
    what = [str(birth.hardware[key]) for key in ("host", "arch", "cpu") if birth.hardware.get(key)]
    return Seen(birth.instance, birth.boot, birth.session, now.steady_ms, ", ".join(what)[:200])


def word_of(status: Status) -> Word:
    """A will is written when the connection begins and so has no time; a goodbye has."""
    if status.state is Presence.ONLINE:
        return Word.ALIVE
    if status.state is Presence.DRAINING:
        return Word.DRAINING
    return Word.GOODBYE if status.time_utc_ms else Word.WILL


def _presence(node: Node, reason: str) -> Mapping[str, Any]:
    return {"node": node.name, "boot": node.boot, "session": node.session, "reason": reason[:200]}


def _agent(one: Seen) -> Mapping[str, Any]:
    return {"instance": one.instance, "boot": one.boot, "session": one.session, "hardware": one.hardware}


def _place(location: Mapping[str, float]) -> dict[str, float] | None:
    """A place on the earth, where a node has told one that can be; None otherwise."""
    lat, lon, alt = (location.get(name) for name in ("lat", "lon", "alt"))
    if lat is None or lon is None or not (-90 <= lat <= 90 and -180 <= lon <= 180):
        return None
    return {"lat": lat, "lon": lon} | ({} if alt is None else {"alt": alt})
