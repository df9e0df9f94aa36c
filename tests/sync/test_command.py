"""`syncDataToCloud` as a call: what is refused, and that a standing policy is one for good until it is taken back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.degrade.switches import Switches
from agent.link.gate import OpenGate
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.outbox.tables import LaneAccount
from agent.results.recorder import Recorder
from agent.results.settings import ResultsSettings
from agent.state import StateFile
from agent.sync import sync as driver
from agent.sync.command import sync_function
from agent.sync.sync import Sync
from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Call, Served
from schemas.identity import Lane
from schemas.sync import Mode, SyncPolicy, parse_policy

CONFIGURED = SyncPolicy(window_s=30.0)


class Node:
    """One life of the parts that the command needs."""

    def __init__(self, folder: Path) -> None:
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.state = StateFile(folder / "state.db")
        self.file = OutboxFile(folder / "outbox.db", node="gw-1", boot=self.state.boot)
        switches = Switches()
        self.recorder = Recorder(folder / "results.db", ResultsSettings(), switches, lambda *what: None)
        self.sync = Sync(
            CONFIGURED, rate=OpenGate(), outbox=Outbox(self.file), recorder=self.recorder, state=self.state,
            switches=switches, act=lambda drafts: None, announce=lambda *what: self.told.append(what),
        )  # fmt: skip
        self.function: Served = sync_function(self.sync)

    async def call(self, **arguments: Any) -> dict[str, Any]:
        return dict(await self.function.run(Call(), self.function.parse(arguments)))

    def close(self) -> None:
        self.file.close()
        self.state.close()


def play(folder: Path, scene: Callable[[Node], Awaitable[None]]) -> None:
    async def run() -> None:
        node = Node(folder)
        try:
            await scene(node)
        finally:
            await asyncio.to_thread(node.close)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("arguments", "field", "said"),
    [
        ({"data_filter": {"colour": "red"}}, "data_filter", "data_filter.colour: unknown key"),
        ({"data_filter": {"since_utc_ms": 5, "until_utc_ms": 4}}, "data_filter", "since_utc_ms: 5 must be less than"),
        ({"sync_policy": {"mode": "most"}}, "sync_policy", "sync_policy.mode: 'most' must be one of all, sample"),
        ({"sync_policy": {"budget": {"day_bytes": 0}}}, "sync_policy", "sync_policy.budget.day_bytes: 0 would let"),
        (
            {"sync_policy": {"windows": [{"start": "1", "end": "2"}]}},
            "sync_policy",
            "windows[0].end: '2' must be a time",
        ),
        ({"sync_policy": {"filter": {"types": ["a"]}}, "data_filter": {"types": ["b"]}}, "sync_policy", "given too"),
        (
            {"data_filter": {"x": 1}, "sync_policy": {"y": 1}},
            "data_filter",
            "data_filter.x: unknown key; sync_policy.y",
        ),
        ({"data_filter": []}, "data_filter", "must be a table"),
        ({"sync_id": "a b"}, "sync_id", "1 to 63 letters, digits"),
        ({"filter": {}}, "filter", "unknown key; did you mean data_filter?"),
        ({"cancel": True, "reset": True}, "reset", "reset: means nothing beside cancel"),
        ({"sync_policy": {}, "sync_id": "x"}, "sync_id", "sync_id: means nothing beside sync_policy"),
    ],
)
def test_what_is_refused_and_why(tmp_path: Path, arguments: dict[str, Any], field: str, said: str) -> None:
    async def scene(node: Node) -> None:
        with pytest.raises(CallRejectedError) as caught:
            await node.call(**arguments)
        assert (caught.value.code, caught.value.field) == ("bad_arguments", field)
        assert said in str(caught.value)
        assert node.sync.policy == CONFIGURED
        assert node.told == []

    play(tmp_path, scene)


def test_a_standing_policy_holds_over_restarts_until_it_is_taken_back(tmp_path: Path) -> None:
    chosen: list[SyncPolicy] = []

    async def set_it(node: Node) -> None:
        node.sync.on_policy = chosen.append
        outlet = node.sync.outlet("cam1", "gate", local_only=False, recorded=False)
        answer = await node.call(
            sync_policy={"mode": "changes", "budget": {"day_bytes": 7}, "compress": False},
            data_filter={"classes": ["person"]},
        )
        assert answer["source"] == "command"
        assert (answer["policy"]["mode"], answer["policy"]["filter"]["classes"]) == ("changes", ["person"])
        assert [policy.compress for policy in chosen] == [False]
        assert outlet._shaper.policy == node.sync.policy
        node.sync.gate.sent(Lane.ALERT, 7, 0.0)
        assert not node.sync.gate.may_send(Lane.SAMPLE, 1, 0.0)
        assert [kind for kind, _, _ in node.told] == ["SyncPolicyChanged"]
        node.sync._keep_budget()

    async def still_there(node: Node) -> None:
        assert (node.sync.policy.mode, node.sync.source) == (Mode.CHANGES, "command")
        assert node.sync.policy.filter.classes == ("person",)
        assert not node.sync.gate.may_send(Lane.SAMPLE, 1, 0.0), "what was spent is remembered"
        node.sync.apply(parse_policy({"mode": "all"}))
        assert node.sync.source == "desired"
        assert (await node.call(reset=True))["source"] == "configuration"
        assert node.sync.policy == CONFIGURED

    async def as_configured(node: Node) -> None:
        assert (node.sync.policy, node.sync.source) == (CONFIGURED, "configuration")

    for scene in (set_it, still_there, as_configured):
        play(tmp_path, scene)


@pytest.mark.parametrize("kept", ["x", "[]", '{"policy": {"mode": "most"}}', '{"policy": 7, "source": 1}'])
def test_a_remembered_policy_that_cannot_be_read_gives_way_to_the_configured_one(tmp_path: Path, kept: str) -> None:
    state = StateFile(tmp_path / "state.db")
    state.remember(driver._POLICY, kept).result()
    state.remember(driver._BUDGET, kept).result()
    state.close()

    async def scene(node: Node) -> None:
        assert node.sync.policy == CONFIGURED

    play(tmp_path, scene)


def test_counters_by_lane(tmp_path: Path) -> None:
    async def scene(node: Node) -> None:
        node.sync.gate.sent(Lane.SAMPLE, 700, 0.0)
        accounts = [
            LaneAccount("sample", 10, 5, 1, 2, shed=1, damaged=1), LaneAccount("event", 0, 0, 0, 0),
            LaneAccount("alert", 3, 3, 0, 0),
        ]  # fmt: skip
        assert node.sync.lanes(accounts, {Lane.ALERT: 2}) == {
            "sample": {"synced": 5, "failed": 4, "retried": 0, "bytes": 700},
            "alert": {"synced": 3, "failed": 0, "retried": 2, "bytes": 0},
        }

    play(tmp_path, scene)


def test_the_policy_of_desired_state_is_followed_once_and_the_last_to_speak_counts(tmp_path: Path) -> None:
    wanted = {"mode": "changes", "deadband": 2}

    async def followed(node: Node) -> None:
        assert node.sync.follow({}) == []
        assert node.sync.policy == CONFIGURED
        assert node.sync.follow({"mode": "most"}) != []
        assert node.sync.policy == CONFIGURED
        assert node.sync.follow(wanted) == []
        assert (node.sync.policy.mode, node.sync.source) == (Mode.CHANGES, "desired")
        await node.call(sync_policy={"mode": "all"})

    async def after_a_start(node: Node) -> None:
        assert node.sync.follow(wanted) == []  # said again, as at each start
        assert (node.sync.policy.mode, node.sync.source) == (Mode.ALL, "command")
        assert node.sync.follow({}) == []
        assert (node.sync.policy, node.sync.source) == (CONFIGURED, "configuration")

    play(tmp_path, followed)
    play(tmp_path, after_a_start)
