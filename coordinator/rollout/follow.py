"""What a node's word means for its roll-out. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from coordinator.rollout.fields import missing, paths_of, refusal, still_working, wanted_of
from coordinator.rollout.plan import REASON_CHARS_MAX, Plan
from coordinator.rollout.state import (
    Beat,
    News,
    NodeRun,
    NodeState,
    Notified,
    NotTold,
    Reported,
    Restored,
    Told,
)
from schemas.messages import Heartbeat

ILL = frozenset({"waiting", "failed", "stalled", "frozen", "lost", "auth_failed"})  # of a pipeline or its camera
NOT_YET = "it has reported the fields; a heartbeat without an error is waited for"
_UNHEARD = frozenset({NodeState.NOTIFIED, NodeState.TOLD, NodeState.SILENT, NodeState.UNSTEADY})


def verdict(plan: Plan, node: NodeRun, news: News) -> NodeRun | None:
    """A node whose document was changed, after its report or heartbeat; None where that changes nothing."""
    match news:
        case Reported() if (news.epoch, news.revision) >= (node.epoch, node.revision):
            return _reported(plan, node, news) if node.told else _fetched(plan, node, news)
        case Beat() if node.state in _UNHEARD and news.desired_hash == node.hash:
            return _is(node, NodeState.ACCEPTED if node.told else NodeState.FETCHING)
        case Beat() if plan.needs_a_beat and node.told:
            return _beat(plan, node, news)
    return None


def outcome(node: NodeRun, news: Told | Notified | NotTold | Restored, wave: int) -> NodeRun:
    """The node after what was asked for it is done, or could not be."""
    match news:
        case Told():
            state = NodeState.TOLD if news.revision else NodeState.VERIFIED  # of no document nothing is wanted
            node = replace(node, epoch=news.epoch, revision=news.revision, hash=news.hash, p99_ms=news.p99_ms)
            return _is(replace(node, wave=wave, told=True, changed=node.changed or news.changed), state)
        case Notified():
            node = replace(node, epoch=news.epoch, revision=news.revision, hash=news.hash, changed=news.changed)
            return _is(node, NodeState.NOTIFIED)
        case NotTold():
            state = NodeState.EXCLUDED if news.excluded else NodeState.FAILED
            return _is(replace(node, told=not (news.excluded or news.fetch)), state, news.reason)
        case Restored():
            return _is(node, NodeState.KEPT if news.kept else NodeState.ROLLED_BACK, news.kept)


def overdue(plan: Plan, node: NodeRun, *, spared: bool) -> NodeRun:
    """A node under way whose time is over. `spared`: it flaps, or is in maintenance."""
    if spared:
        return _is(node, NodeState.UNSTEADY, "no answer in time; it flaps, or is in maintenance")
    more = f": {node.reason}" if node.reason else ""
    match node.state:
        case NodeState.UNSTEADY:  # it is steady now: its time begins anew
            return _is(node, NodeState.TOLD if node.told else NodeState.NOTIFIED)
        case NodeState.TOLD | NodeState.NOTIFIED:
            return _is(node, NodeState.SILENT, f"no answer within {plan.accept_s:g} s")
        case NodeState.FETCHING:
            return _is(node, NodeState.FAILED, f"not fetched within {plan.fetch_s:g} s{more}")
    limit_s = plan.fetch_s if node.pending else plan.verify_s
    return _is(node, NodeState.FAILED, f"not verified within {limit_s:g} s{more}")


def limit_s(plan: Plan, node: NodeRun) -> float | None:
    """How long a node may be as it is; None: as long as it likes."""
    match node.state:
        case NodeState.TOLD | NodeState.NOTIFIED | NodeState.UNSTEADY:
            return plan.accept_s
        case NodeState.FETCHING:
            return plan.fetch_s
        case NodeState.ACCEPTED:
            return plan.fetch_s if node.pending else plan.verify_s
    return None


def illness(heartbeat: Heartbeat) -> str:
    """The first of a node's pipelines that does not run as it should, and why; "" where all do."""
    for stream in heartbeat.streams:
        if stream.error or stream.state in ILL:
            what = f"{stream.camera}/{stream.pipeline}" if stream.pipeline else stream.camera
            return f"{what} is {stream.state or 'in trouble'}: {stream.error or 'no reason told'}"[:REASON_CHARS_MAX]
    return ""


def p99_ms(heartbeat: Heartbeat) -> dict[str, float]:
    """Of each pipeline's inference since the heartbeat before; one that ran nothing is not there."""
    return {one.pipeline or one.camera: one.infer_ms_p99 for one in heartbeat.streams if one.infer_ms_p99 > 0}


def _fetched(plan: Plan, node: NodeRun, said: Reported) -> NodeRun:
    """Before its turn."""
    paths = paths_of(plan, node)
    if refused := refusal(paths, said.refused):
        return _is(node, NodeState.FAILED, refused)
    if working := still_working(paths, said.pending):
        return _is(node, NodeState.FETCHING, working, pending=True)
    is_held = all(path in said.holds for path in paths) and not missing(plan.prefetch, said.holds)
    return _is(node, NodeState.READY if is_held else NodeState.FETCHING)


def _reported(plan: Plan, node: NodeRun, said: Reported) -> NodeRun | None:
    paths, verified = paths_of(plan, node), node.state is NodeState.VERIFIED
    if refused := refusal(paths, said.refused):
        return _is(node, NodeState.FAILED, refused)
    if working := still_working(paths, said.pending):
        return None if verified else _is(node, NodeState.ACCEPTED, working, pending=True)
    if other := missing(wanted_of(plan, node), said.holds):
        # Of a verified node it is the doing of another hand, after ours.
        return None if verified else _is(node, NodeState.FAILED, other)
    if not plan.needs_a_beat:
        return _is(node, NodeState.VERIFIED)
    return None if verified else _is(node, NodeState.ACCEPTED, NOT_YET)


def _beat(plan: Plan, node: NodeRun, beat: Beat) -> NodeRun | None:
    ill = beat.ill if plan.healthy else ""
    if node.state is NodeState.VERIFIED:
        return _is(node, NodeState.FAILED, f"it was verified; then {ill}") if ill else None
    if node.state is NodeState.ACCEPTED and node.reason and not node.pending:  # it has said that the fields hold
        wrong = ill or next(_too_slow(plan, node, beat.p99_ms), "")
        return _is(node, NodeState.ACCEPTED, f"{NOT_YET}; {wrong}") if wrong else _is(node, NodeState.VERIFIED)
    return None


def _too_slow(plan: Plan, node: NodeRun, now_ms: Mapping[str, float]) -> Iterator[str]:
    """Of the pipelines that the roll-out changes, or of all where it changes none in particular."""
    if not plan.judges_latency:
        return
    ours = {path.split(".")[1] for path in node.own if path.startswith("pipelines.")}
    for name in sorted(ours or now_ms.keys() | node.p99_ms.keys()):
        before, now = node.p99_ms.get(name), now_ms.get(name)
        limits = [plan.latency_max_ms] if plan.latency_max_ms else []
        limits += [before * plan.latency_ratio] if before and plan.latency_ratio else []
        if now is None and before:
            yield f"{name} has not run since"
        elif now is not None and limits and now > min(limits):
            was = f", {before:g} ms before" if before else ""
            yield f"{name} needs {now:g} ms (p99{was}), {min(limits):g} ms are allowed"


def _is(node: NodeRun, state: NodeState, reason: str = "", *, pending: bool = False) -> NodeRun:
    return replace(node, state=state, reason=reason[:REASON_CHARS_MAX], pending=pending)
