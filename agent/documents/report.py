"""The reported document, from what is journalled and what is in force. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from agent.documents.journal import Journalled
from agent.documents.plan import Plan
from schemas.documents import CONFLICTS_MAX, Reported, encode, sealed
from schemas.errors import LocalWireError

NOTHING: Mapping[str, str] = MappingProxyType({})
REASON_CHARS = 60  # of a refusal, where all of them together are too much


def make_report(
    journalled: Journalled, plan: Plan, boot: int, before: Reported, pending: Mapping[str, str] = NOTHING
) -> Reported:
    """What the node says now: `before` where nothing has changed, else with the next serial."""
    desired, local = journalled.known.desired, journalled.known.local
    report = Reported(
        boot,
        before.serial,
        desired.epoch,
        desired.revision,
        desired.hash,
        dict(plan.holds),
        {path: write.value for path, write in local.items()},
        {path: write.written for path, write in local.items()},
        dict(plan.refused),
        journalled.conflicts[-CONFLICTS_MAX:],
        journalled.ahead_ms,
        dict(pending),
    )
    fitted = sealed(_fitted(report))
    return before if fitted == before else sealed(replace(fitted, serial=before.serial + 1))


def _fitted(report: Reported) -> Reported:
    """As it fits into a message: older conflicts are left out first, then what can be looked up elsewhere."""
    while not _fits(report) and report.conflicts:
        report = replace(report, conflicts=report.conflicts[len(report.conflicts) // 2 + 1 :])
    if not _fits(report):
        shortened = {path: text[:REASON_CHARS] for path, text in report.refused.items()}
        report = replace(report, refused=shortened)
    return report if _fits(report) else replace(report, fields={}, refused={})


def _fits(report: Reported) -> bool:
    try:
        encode(report)
    except LocalWireError:
        return False
    return True
