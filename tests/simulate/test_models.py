"""Models of simulated nodes: what they report while a release is on its way, and what becomes of it."""

import random
from typing import Any

import pytest

from coordinator.simulate.models import Manner, Models, manner_of, pipelines_of
from coordinator.simulate.scenario import FleetTable, ModelsTable, Scenario
from coordinator.simulate.world import Timer
from schemas.documents import Desired, Reported, decode_reported, encode
from tests.simulate.test_node import Wire, on

OLD, NEW = "a" * 64, "b" * 64
RELEASE, MODEL = "models.finder.release", "pipelines.door.model"
CONFIGURED = {"model": "finder@1.0.0", "digest": ""}
TABLE = ModelsTable(pipelines=("door=finder@1.0.0",), fetch_s=4.0, activate_s=2.0)


def release(digest: str = NEW, version: str = "2.0.0") -> dict[str, Any]:
    return {RELEASE: {"version": version, "digest": digest}}


def model(digest: str = NEW, version: str = "2.0.0") -> dict[str, Any]:
    return {MODEL: {"model": f"finder@{version}", "digest": digest}}


class Told(Wire):
    """A node with a pipeline; `manner` as the scenario would draw it."""

    def __init__(self, **shares: Any) -> None:
        table = ModelsTable(pipelines=TABLE.pipelines, fetch_s=TABLE.fetch_s, activate_s=TABLE.activate_s, **shares)
        super().__init__(models=table)
        self.revision = 0

    def want(self, **fields: Any) -> None:
        self.revision += 1
        self.hear("desired", encode(Desired(1, self.revision, fields)), retain=True)

    def reports(self, seconds: float = 20.0) -> list[Reported]:
        return [decode_reported(one.payload) for one in on(self.run(seconds), "reported")]


def test_it_says_what_it_runs_before_anybody_wants_anything() -> None:
    wire = Told()
    (said,) = on(wire.connect(), "reported")
    found = decode_reported(said.payload)
    assert (found.version, found.fields, found.pending, found.refused) == ((0, 0), {MODEL: CONFIGURED}, {}, {})
    assert [one.fields for one in Told(share=0.0).reports(5.0)] == []


def test_a_release_is_fetched_and_then_run_and_each_step_is_reported() -> None:
    wire = Told()
    wire.connect()
    wire.want(**release())
    found = wire.reports()
    assert [one.pending.get(RELEASE) for one in found] == ["prefetching 0 %", "prefetching 50 %", None]
    assert [RELEASE in one.fields for one in found] == [False, False, True]
    assert found[-1].fields == {MODEL: CONFIGURED, **release()}
    wire.want(**release(), **model())
    found = wire.reports()
    assert [(one.pending.get(MODEL), one.fields[MODEL]["model"]) for one in found] == [
        ("being proved", "finder@1.0.0"), (None, "finder@2.0.0"),
    ]  # fmt: skip
    assert [one.version for one in found] == [(1, 2)] * 2
    assert found[-1].serial > found[0].serial and not found[-1].refused
    figures = wire.world.figures
    assert (figures.models_fetched, figures.models_activated, figures.models_refused) == (1, 1, 0)


def test_what_is_taken_back_is_as_it_was_configured_and_what_was_fetched_stays() -> None:
    wire = Told()
    wire.connect()
    wire.want(**release(), **model())
    assert wire.reports()[-1].fields[MODEL]["digest"] == NEW
    wire.want(heartbeat_s=15)
    (said,) = wire.reports()
    assert said.fields == {"heartbeat_s": 15, MODEL: CONFIGURED}
    wire.want(**model())
    assert [one.pending.get(MODEL) for one in wire.reports()] == ["being proved", None]


@pytest.mark.parametrize(
    ("shares", "path", "why"),
    [
        ({"fetch_failing": 1.0}, RELEASE, "simulated: nobody serves it"),
        ({"failing": 1.0}, MODEL, "simulated: it is worse than what runs"),
    ],
)
def test_one_that_fails_keeps_what_it_runs(shares: dict[str, float], path: str, why: str) -> None:
    wire = Told(**shares)
    wire.connect()
    wire.want(**release(), **model())
    last = wire.reports()[-1]
    assert (last.refused[path], last.pending) == (why, {})
    assert last.fields[MODEL] == CONFIGURED
    assert wire.world.figures.models_refused == 1
    wire.want(heartbeat_s=15)
    wire.reports()
    wire.want(**release(), **model())
    assert wire.reports()[0].pending, "what was given up is tried anew"


def test_one_that_falls_silent_does_so_over_models_alone() -> None:
    wire = Told(silent=1.0)
    wire.connect()
    wire.want(heartbeat_s=15)
    assert len(wire.reports()) == 1
    wire.want(heartbeat_s=15, **release())
    assert wire.reports() == []
    wire.want(heartbeat_s=15)
    assert len(wire.reports()) == 1


def test_one_that_flaps_is_to_come_and_go_once_it_was_told() -> None:
    wire = Told(flapping=1.0)
    wire.connect()
    wire.want(**release())
    struck = []
    while wire.now_s < 110.0:
        wire.now_s += 0.5
        for _, (number, timer, of) in wire.world.wheel.take(wire.now_s):
            if timer is Timer.FLAP:
                struck.append(number)
            else:
                wire.out(wire.node.due(timer, of, wire.now_s))
    assert struck == [0]


def test_a_reboot_goes_on_with_what_was_on_its_way() -> None:
    wire = Told()
    wire.connect()
    wire.want(**release(), **model())
    wire.run(1.5)
    wire.node.disconnected()
    wire.run(1.0)
    wire.node.start(wire.now_s)
    (said,) = on(wire.connect(), "reported")
    assert decode_reported(said.payload).boot == 11
    wire.hear("desired", encode(Desired(1, 1, {**release(), **model()})), retain=True)
    last = wire.reports()[-1]
    assert last.fields == {MODEL: {"model": "finder@2.0.0", "digest": NEW}, **release()}


def test_what_cannot_be_read_or_is_for_nobody_is_refused() -> None:
    found = Models(Manner.SOUND, {"door": "finder@1.0.0"})
    wanted = {RELEASE: {"version": "x"}, MODEL: 3, "pipelines.gate.model": model()[MODEL]}
    assert not found.wanted(wanted, 0.0, TABLE, random.Random(1))
    said = found.standing()
    assert said.refused.keys() == wanted.keys()
    assert said.refused["pipelines.gate.model"] == "there is no pipeline gate"
    assert (said.holds, said.pending) == ({MODEL: CONFIGURED}, {})


def test_shares_are_of_all_nodes_and_follow_from_the_seed() -> None:
    shares = {"fetch_failing": 0.1, "failing": 0.2, "silent": 0.3, "flapping": 0.4}
    table = ModelsTable(pipelines=TABLE.pipelines, share=0.5, **shares)
    scenario = Scenario(fleet=FleetTable(nodes=2000), models=table)
    drawn = [manner_of(scenario, number) for number in range(2000)]
    for manner, share in zip(Manner, (0.0, *shares.values()), strict=True):
        assert abs(drawn.count(manner) / 2000 - share) < 0.05, manner
    has = [bool(pipelines_of(scenario, number)) for number in range(2000)]
    assert 0.45 < sum(has) / 2000 < 0.55
    assert drawn == [manner_of(scenario, number) for number in range(2000)]
