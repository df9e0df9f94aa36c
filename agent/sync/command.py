"""`syncDataToCloud(data_filter, sync_policy)`: send what was kept here once, or set the standing policy."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from agent.sync.sync import Sync
from runtime.calls import served
from runtime.calls.errors import CallRejectedError
from schemas.shape import Limit, ShapeError
from schemas.sync import DataFilter, SyncPolicy, parse_filter, parse_policy, plain

NAME = Limit(pattern=r"|[A-Za-z0-9][A-Za-z0-9._-]{0,62}", means="1 to 63 letters, digits, . _ -")


@dataclass(frozen=True, slots=True)
class SyncCall:
    """Without `sync_policy`: kept results that match `data_filter` are sent once, under `sync_id`, which follows from
    the filter where none is given; `cancel` ends the one that runs. With it: the standing policy, for results that
    match the filter; `reset` goes back to the one of agent.toml.
    """

    data_filter: dict[str, Any] = field(default_factory=dict)
    sync_policy: dict[str, Any] | None = None
    sync_id: Annotated[str, NAME] = ""
    cancel: bool = False
    reset: bool = False


def sync_function(sync: Sync) -> served.Served:
    """Bound to one agent's."""

    async def run(call: SyncCall) -> dict[str, Any]:
        _check_alone(call)
        if call.cancel:
            return {"cancelled": sync.cloud.cancel()}
        if call.reset:
            sync.apply(None)
            return {"source": sync.source, "policy": plain(sync.policy)}
        data_filter = _parsed_filter(call)
        if call.sync_policy is None:
            return await sync.cloud.start(data_filter, call.sync_id)
        policy = _parsed_policy(call)
        if call.data_filter:
            policy = replace(policy, filter=data_filter)
        sync.apply(policy, "command")
        return {"source": sync.source, "policy": plain(sync.policy)}

    return served.plain("syncDataToCloud", SyncCall, run)


def _check_alone(call: SyncCall) -> None:
    given = {
        "cancel": call.cancel,
        "reset": call.reset,
        "sync_policy": call.sync_policy is not None,
        "sync_id": bool(call.sync_id),
        "data_filter": bool(call.data_filter),
    }
    for name, others in (
        ("cancel", ("reset", "sync_policy", "sync_id", "data_filter")),
        ("reset", ("sync_policy", "sync_id", "data_filter")),
        ("sync_policy", ("sync_id",)),
    ):
        for other in others:
            if given[name] and given[other]:
                raise CallRejectedError(
                    "bad_arguments", f"{other}: means nothing beside {name}; leave one of them out", other
                )


def _parsed_filter(call: SyncCall) -> DataFilter:
    try:
        return parse_filter(call.data_filter, "data_filter")
    except ShapeError as error:
        mistakes = error.mistakes
    if call.sync_policy is not None:  # all mistakes in one go
        try:
            parse_policy(call.sync_policy, "sync_policy")
        except ShapeError as error:
            mistakes = [*mistakes, *error.mistakes]
    raise CallRejectedError("bad_arguments", "; ".join(mistakes), "data_filter")


def _parsed_policy(call: SyncCall) -> SyncPolicy:
    try:
        policy = parse_policy(call.sync_policy, "sync_policy")
    except ShapeError as error:
        raise CallRejectedError("bad_arguments", str(error), "sync_policy") from error
    if call.data_filter and policy.filter != DataFilter():
        raise CallRejectedError(
            "bad_arguments", "sync_policy.filter: data_filter is given too; leave one of them out", "sync_policy"
        )
    return policy
