"""What a node's word means for its roll-out. Pure."""

from dataclasses import replace

from coordinator.rollout.plan import REASON_CHARS_MAX, Plan, missing, refusal
from coordinator.rollout.state import Beat, News, NodeRun, NodeState, NotTold, Reported, Restored, Told
from schemas.messages import Heartbeat

Verdict = tuple[NodeState, str]
ILL = frozenset({"waiting", "failed", "stalled", "frozen", "lost", "auth_failed"})  # of a pipeline or its camera
NOT_YET = "it has reported the fields; a heartbeat without an error is waited for"


def verdict(plan: Plan, node: NodeRun, news: News) -> Verdict | None:
    """The state of a node that was told, after its report or heartbeat; None where that changes nothing."""
    match news:
        case Reported() if (news.epoch, news.revision) >= (node.epoch, node.revision):
            return _reported(plan, node, news)
        case Beat() if node.state in (NodeState.TOLD, NodeState.SILENT) and news.desired_hash == node.hash:
            return NodeState.ACCEPTED, ""
        case Beat() if plan.healthy:
            return _healthy(node, news.ill)
    return None


def outcome(node: NodeRun, news: Told | NotTold | Restored, wave: int) -> NodeRun:
    """The node after what was asked for it is done, or could not be."""
    match news:
        case Told():
            state = NodeState.TOLD if news.revision else NodeState.VERIFIED  # of no document nothing is wanted
            document = replace(node, epoch=news.epoch, revision=news.revision, hash=news.hash)
            return replace(document, state=state, reason="", wave=wave, changed=news.changed)
        case NotTold():
            return replace(node, state=NodeState.EXCLUDED if news.excluded else NodeState.FAILED, reason=news.reason)
        case Restored():
            return replace(node, state=NodeState.KEPT if news.kept else NodeState.ROLLED_BACK, reason=news.kept)


def overdue(plan: Plan, node: NodeRun) -> Verdict:
    """The state of a node under way whose time is over."""
    if node.state is NodeState.TOLD:
        return NodeState.SILENT, f"no answer within {plan.accept_s:g} s"
    more = f": {node.reason}" if node.reason else ""
    return NodeState.FAILED, f"not verified within {plan.verify_s:g} s{more}"[:REASON_CHARS_MAX]


def illness(heartbeat: Heartbeat) -> str:
    """The first of a node's pipelines that does not run as it should, and why; "" where all do."""
    for stream in heartbeat.streams:
        if stream.error or stream.state in ILL:
            what = f"{stream.camera}/{stream.pipeline}" if stream.pipeline else stream.camera
            return f"{what} is {stream.state or 'in trouble'}: {stream.error or 'no reason told'}"[:REASON_CHARS_MAX]
    return ""


def _reported(plan: Plan, node: NodeRun, said: Reported) -> Verdict | None:
    if refused := refusal(plan, said.refused):
        return NodeState.FAILED, refused
    if other := missing(plan, said.holds):
        # Of a verified node it is the doing of another hand, after ours.
        return None if node.state is NodeState.VERIFIED else (NodeState.FAILED, other)
    if not plan.healthy:
        return NodeState.VERIFIED, ""
    return None if node.state is NodeState.VERIFIED else (NodeState.ACCEPTED, NOT_YET)


def _healthy(node: NodeRun, ill: str) -> Verdict | None:
    if node.state is NodeState.VERIFIED:
        return (NodeState.FAILED, f"it was verified; then {ill}"[:REASON_CHARS_MAX]) if ill else None
    if node.state is NodeState.ACCEPTED and node.reason:  # its report has come, and said that the fields hold
        return (NodeState.ACCEPTED, f"{NOT_YET}; {ill}"[:REASON_CHARS_MAX]) if ill else (NodeState.VERIFIED, "")
    return None
