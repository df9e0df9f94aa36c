"""Who waits for windows, budget and meter, and who never does."""

import asyncio
import math
import os
from pathlib import Path
from typing import Any

import pytest

from agent.link.gate import OpenGate, RateGate
from agent.link.settings import LinkSettings
from agent.sync.gate import SyncGate, lane_of
from agent.sync.metered import link_is_metered, says_metered
from schemas.identity import Lane
from schemas.sync import parse_policy

NOON_NS = 1_795_521_600_000_000_000  # 12:00 UTC, a Tuesday
HOUR_NS = 3_600_000_000_000
WAITS = {Lane.SAMPLE, Lane.EVIDENCE}


class Clock:
    def __init__(self) -> None:
        self.ns = NOON_NS

    def __call__(self) -> int:
        return self.ns


def gate(clock: Clock | None = None, **policy: Any) -> SyncGate:
    return SyncGate(OpenGate(), parse_policy(policy), clock=clock or Clock())


def held(by: SyncGate, now_s: float = 0.0) -> set[Lane]:
    return {lane for lane in Lane if not by.may_send(lane, 1, now_s)}


@pytest.mark.parametrize(
    ("policy", "waiting"),
    [
        ({}, set()),
        ({"metered": "yes"}, WAITS),
        ({"metered": "no"}, set()),
        ({"windows": [{"start": "22:00", "end": "06:00"}], "timezone": "UTC"}, WAITS),
        ({"windows": [{"start": "11:00", "end": "13:00"}], "timezone": "UTC"}, set()),
        ({"windows": [{"start": "11:00", "end": "13:00"}], "timezone": "Asia/Tokyo"}, WAITS),
        ({"metered": "yes", "lanes": []}, {Lane.SAMPLE}),
        ({"metered": "yes", "lanes": [], "priority": "high"}, {Lane.STATE}),
        ({"metered": "yes", "lanes": ["sample", "evidence", "state", "event"]}, WAITS | {Lane.STATE, Lane.EVENT}),
    ],
)
def test_which_lanes_wait(policy: dict[str, Any], waiting: set[Lane]) -> None:
    assert held(gate(**policy)) == waiting
    assert not {Lane.ALERT, Lane.LIFECYCLE} & waiting


@pytest.mark.parametrize(
    ("policy", "lane", "again_s"),
    [
        ({"metered": "yes"}, Lane.SAMPLE, math.inf),  # time changes nothing
        ({"windows": [{"start": "22:00", "end": "06:00"}], "timezone": "UTC"}, Lane.SAMPLE, 500.0 + 47.75),
        ({"budget": {"hour_bytes": 100}}, Lane.SAMPLE, 500.0 + 3587.75),
        ({"budget": {"month_bytes": 100}}, Lane.EVIDENCE, 500.0 + 3587.75),  # the clock may be set meanwhile
        ({"metered": "yes"}, Lane.EVENT, 503.0),  # held by the rate alone
    ],
)
def test_a_gate_that_says_no_says_when_to_ask_again(policy: dict[str, Any], lane: Lane, again_s: float) -> None:
    clock = Clock()
    clock.ns += 12_250_000_000
    by = SyncGate(RateGate(LinkSettings(messages_s_max=1)), parse_policy(policy), clock=clock)
    for _ in range(3):
        by.sent(Lane.EVENT, 100, 500.0)
    assert not by.may_send(lane, 1, 500.0)
    assert by.look_again_s(lane, 1, 500.0) == again_s


def test_the_look_at_a_window_is_a_new_one() -> None:
    """Not the answer of just before the minute was over."""
    clock = Clock()
    clock.ns += 59_500_000_000
    by = gate(clock, windows=[{"start": "12:01", "end": "14:00"}], timezone="UTC")
    assert by.reason(100.0) == "window"
    again_s = by.look_again_s(Lane.SAMPLE, 1, 100.2)
    clock.ns += round((again_s - 100.0) * 1e9)
    assert by.may_send(Lane.SAMPLE, 1, again_s)


def test_what_time_does_not_change_is_told() -> None:
    by, told = gate(metered="auto"), []
    by.on_change = lambda: told.append(held(by))
    for metered in (False, True, True, False):
        by.found_metered(metered)
    by.set_policy(parse_policy({"metered": "yes"}))
    assert told == [WAITS, set(), WAITS]


def test_a_window_opens_and_closes_as_time_goes_by() -> None:
    clock = Clock()
    by = gate(clock, windows=[{"start": "13:00", "end": "14:00"}], timezone="UTC")
    said = []
    for minutes in (0, 59, 60, 119, 120):
        clock.ns = NOON_NS + minutes * 60 * 1_000_000_000
        said.append(by.reason(60.0 * minutes))
    assert said == ["window", "window", "", "", "window"]


def test_the_answer_about_a_window_is_not_older_than_a_second_even_if_the_clock_of_the_loop_jumps() -> None:
    clock = Clock()
    by = gate(clock, windows=[{"start": "12:00", "end": "13:00"}], timezone="UTC")
    assert by.reason(10.0) == ""
    clock.ns += HOUR_NS
    assert by.reason(10.5) == ""
    assert by.reason(11.0) == "window"
    assert by.reason(5.0) == "window"


def test_every_byte_counts_against_the_budget_and_only_what_may_wait_waits() -> None:
    by = gate(budget={"hour_bytes": 100})
    by.sent(Lane.ALERT, 60, 0.0)
    assert held(by) == set()
    by.sent(Lane.SAMPLE, 60, 1.0)
    assert held(by) == WAITS
    assert by.report(2.0) == {
        "waiting_for": "budget",
        "lanes_that_wait": ["evidence", "sample"],
        "link_is_metered": False,
        "budget": {
            "hour": {"used": 120, "most": 100},
            "day": {"used": 120, "most": None},
            "month": {"used": 120, "most": None},
        },
    }
    assert by.bytes_total == {Lane.ALERT: 60, Lane.SAMPLE: 60}


def test_another_policy_keeps_what_was_spent() -> None:
    by = gate()
    by.sent(Lane.SAMPLE, 500, 0.0)
    by.set_policy(parse_policy({"budget": {"day_bytes": 400}}))
    assert held(by) == WAITS
    by.set_policy(parse_policy({"budget": {"day_bytes": 600}}))
    assert held(by) == set()


def test_the_rate_holds_beside_it() -> None:
    by = SyncGate(RateGate(LinkSettings(messages_s_max=1)), parse_policy({}), clock=Clock())
    assert held(by) == set()
    by.sent(Lane.EVENT, 1, 0.0)
    assert held(by) == {Lane.EVENT, Lane.STATE, Lane.SAMPLE, Lane.EVIDENCE}


def test_a_metered_link_counts_where_it_is_asked_for() -> None:
    for metered, waiting in (("auto", WAITS), ("no", set()), ("yes", WAITS)):
        by = gate(metered=metered)
        by.link_is_metered = True
        assert held(by) == waiting
    assert [lane_of(parse_policy({"priority": name})) for name in ("normal", "high")] == [Lane.SAMPLE, Lane.STATE]


@pytest.mark.parametrize(
    ("said", "metered"),
    [
        ("u 0\n", False),
        ("u 1\n", True),
        ("u 2\n", False),
        ("u 3\n", True),
        ("u 4\n", False),
        ("", False),
        ("x", False),
    ],
)
def test_what_network_manager_says(said: str, metered: bool) -> None:
    assert says_metered(said) is metered


@pytest.mark.parametrize(
    ("script", "metered"),
    [
        ('[ "$5" = Metered ] && echo "u 1"', True),
        ('echo "u 4"', False),
        ('echo "Unit org.freedesktop.NetworkManager not found." >&2; exit 1', False),
        ("exec sleep 60", False),
        (None, False),
    ],
)
def test_network_manager_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, metered: bool
) -> None:
    if script is not None:
        program = tmp_path / "busctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin" if script else str(tmp_path))
    monkeypatch.setattr("agent.sync.metered.TIMEOUT_S", 0.5)
    assert os.environ["PATH"]
    assert asyncio.run(link_is_metered()) is metered
