"""The subscription to the coordinator's presence that all nodes share is given up as soon as it has done its work."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, cast

import pytest

from agent.link.session import Session
from runtime.mqtt import Connection

PLAIN, ALONE = "edge/v1/coordinator/status", "$share/gw-1/edge/v1/coordinator/status"


class FakeConnection:
    def __init__(self, shares: bool) -> None:
        self.shares = shares
        self.subscribed: list[str] = []
        self.given_up: list[str] = []

    async def subscribe(self, filters: Mapping[str, int], *, optional: Collection[str]) -> frozenset[str]:
        self.subscribed += filters
        return frozenset() if self.shares else frozenset(optional)

    def unsubscribe(self, *filters: str) -> None:
        self.given_up += filters


@pytest.mark.parametrize("heard_before", [True, False])
@pytest.mark.parametrize(("shares", "given_up"), [(True, [PLAIN]), (False, [])])
def test_it_goes_once_something_was_heard_and_the_broker_shares(
    heard_before: bool, shares: bool, given_up: list[str]
) -> None:
    session, connection = Session(0, cast(Any, None)), FakeConnection(shares)
    session.connection = cast(Connection, connection)
    if heard_before:  # what is retained may come before the answer to the subscription
        session.heard_coordinator()
    asyncio.run(session.subscribe({"edge/v1/gw-1/ack": 1}, PLAIN, ALONE))
    assert connection.subscribed == ["edge/v1/gw-1/ack", PLAIN, ALONE]
    assert connection.given_up == (given_up if heard_before else [])
    session.heard_coordinator()
    session.heard_coordinator()
    assert connection.given_up == given_up
