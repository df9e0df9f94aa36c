"""What can be a roll-out, and what a node's report means for it."""

from typing import Any

import pytest

from coordinator.ctl.rollout_options import share, span
from coordinator.ctl.rollout_watch import progress
from coordinator.rollout.fields import missing, refusal
from coordinator.rollout.follow import illness
from coordinator.rollout.plan import Plan, Wave, plan_mistakes, wave_of
from coordinator.rollout.rate import Rate
from coordinator.store.rollouts import RolloutView
from schemas.messages import Heartbeat, StreamReport

DEBUG = {"log.level": "DEBUG"}


@pytest.mark.parametrize(
    ("text", "nodes", "told"),
    [("1", 100, 1), ("5%", 100, 5), ("5%", 101, 6), ("5%", 3, 1), ("7", 3, 3), ("100%", 7, 7), ("0.5%", 1000, 5),
     ("5%", 0, 0), ("3", 0, 0), ("14%", 50, 7)],
)  # fmt: skip
def test_a_wave_is_so_many_nodes(text: str, nodes: int, told: int) -> None:
    assert wave_of(text).quota(nodes) == told


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "0%", "101%", "1.5", "5 %%", "1e3", "99999999"])
def test_what_is_no_wave_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wave"):
        wave_of(text)


def test_a_wave_reads_as_it_was_written() -> None:
    assert [str(wave_of(text)) for text in ("1", "5%", "0.5%")] == ["1", "5%", "0.5%"]
    assert wave_of(" 25 % ") == Wave(percent=25)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan("site = ", DEBUG), "select: expected a value"),
        (Plan(" ", DEBUG), "write all where every node is meant"),
        (Plan("all", {"warp": 9}), "there is no field 'warp'"),
        (Plan("all", {"log.level": "LOUD"}), "log.level = 'LOUD': must be one of"),
        (Plan("all", {"pipelines.door.model": "m"}), "NAME@VERSION"),
        (Plan("all", {}), "name at least one field"),
        (Plan("all", {"log.level": None}), "name it in unset"),
        (Plan("all", DEBUG, ("log.level",)), "both set and unset"),
        (Plan("all", DEBUG, waves=("1", "5")), "the last wave is 5, not 100%"),
        (Plan("all", DEBUG, waves=("10%", "5%", "100%")), "so they grow"),
        (Plan("all", DEBUG, waves=("5", "5", "100%")), "so they grow"),
        (Plan("all", DEBUG, waves=("many", "100%")), "wave 'many'"),
        (Plan("all", {f"labels.n{i}": "x" for i in range(101)}), "101 fields; at most 100"),
    ],
)
def test_what_cannot_be_a_rollout_says_why(plan: Plan, said: str) -> None:
    assert said in "; ".join(plan_mistakes(plan))


def test_every_mistake_is_told_in_one_go() -> None:
    found = plan_mistakes(Plan("site =", {"warp": 9}, waves=("0", "100%")))
    assert len(found) == 3


def test_a_sound_plan_has_no_mistakes() -> None:
    assert plan_mistakes(Plan("site = a, line in (3, 4)", DEBUG, ("heartbeat_s",), ("1", "5%", "20", "100%"))) == []
    assert plan_mistakes(Plan("all", {}, ("log.level",))) == []


@pytest.mark.parametrize(
    ("wanted", "holds", "said"),
    [
        (DEBUG, DEBUG, ""),
        (DEBUG, {"log.level": "INFO"}, 'log.level holds "INFO", not "DEBUG"'),
        ({"heartbeat_s": 5}, {"heartbeat_s": 5.0}, ""),
        ({"heartbeat_s": 5}, {"heartbeat_s": 6}, "heartbeat_s holds 6, not 5"),
        ({"sync": {"mode": "full"}}, {}, ""),  # too long to be told
        ({"alerts.gate.muted_until_utc_ms": 5}, {"alerts.gate.muted_until_utc_ms": 9}, ""),
        ({"alerts.gate.muted_until_utc_ms": 5}, {"alerts.gate.muted_until_utc_ms": 4}, "holds 4, not 5"),
        ({"pipelines.a.classes_ignored": ["x"]}, {"pipelines.a.classes_ignored": ["y", "x"]}, ""),
        ({"pipelines.a.classes_ignored": ["x"]}, {"pipelines.a.classes_ignored": ["y"]}, "holds"),
        ({"labels.line": "a"}, {"labels.line": "b"}, 'labels.line holds "b", not "a"'),
    ],
)
def test_a_field_holds_by_its_rule(wanted: dict[str, Any], holds: dict[str, Any], said: str) -> None:
    found = missing(wanted, holds)
    assert said in found and bool(said) == bool(found)


def test_only_a_refusal_of_ours_counts() -> None:
    plan = Plan("all", DEBUG, ("heartbeat_s",))
    assert refusal(plan.paths, {"labels.x": "no"}) == ""
    said = refusal(plan.paths, {"heartbeat_s": "never", "log.level": "no"})
    assert said == "refused heartbeat_s: never; log.level: no"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (StreamReport("cam1", "door", "running"), ""),
        (StreamReport("cam1", "door", "paused"), ""),
        (StreamReport("cam1", "door", "starting"), ""),
        (StreamReport("cam1", "door", "failed"), "cam1/door is failed: no reason told"),
        (StreamReport("cam1", "", "lost", error="timeout"), "cam1 is lost: timeout"),
        (StreamReport("cam1", "door", "running", error="cut"), "cam1/door is running: cut"),
    ],
)
def test_a_pipeline_that_does_not_run_is_an_illness(stream: StreamReport, said: str) -> None:
    assert illness(Heartbeat(streams=[StreamReport("cam0", "a", "running"), stream])) == said


def test_so_many_a_second_and_no_more_than_a_seconds_worth_at_once() -> None:
    rate = Rate(20.0)
    told = [rate.take(at_ms, 100) for at_ms in range(0, 10_000, 50)]
    assert 200 <= sum(told) <= 202
    assert max(told) <= 2
    assert rate.take(100_000, 100) == 20


def test_a_slow_rate_says_when_it_is_time() -> None:
    rate = Rate(0.5)
    assert (rate.take(0, 5), rate.take(0, 5), rate.next_ms(0)) == (1, 0, 2000)
    assert (rate.take(1999, 5), rate.take(2000, 5)) == (0, 1)
    rate.give_back(1)
    assert rate.next_ms(2000) == 2000


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("1.5h", 5400), ("7", 7), ("250ms", 0.25)])
def test_spans_as_people_write_them(text: str, seconds: float) -> None:
    assert span(text) == seconds


def test_shares_as_people_write_them() -> None:
    assert (share("5%"), share("0.05"), share("100%")) == (0.05, 0.05, 1.0)


def test_a_line_of_progress() -> None:
    nodes = {"failed": 1, "told": 3, "verified": 12, "waiting": 184}
    view = RolloutView("r-3", "rolling_back", 2, 4, "because", 0, 0, nodes, {})
    said = "r-3 rolling back, wave 2 of 4: 12 of 200 verified, 1 failed, 3 told, 184 waiting (because)"
    assert progress(view) == said
