"""Which actions an alert reaches, and the line that stands until somebody has acknowledged it."""

from typing import Any

import pytest

from agent.actions.choose import Follower, Trigger
from agent.actions.settings import ActionSettings, Do, Drive, OnSettings
from agent.alerting.alert import Alert
from agent.decide.facts import AlertState
from agent.outbox.rows import Draft
from schemas.messages import Severity

ON, UPDATED, OVER = AlertState


def step(state: AlertState, reason: str = "", **more: Any) -> Draft:
    return Alert("a-1.a1", "a", Severity.CRITICAL, 0, state, reason=reason, **more).draft(1000)


def action(named: bool = True, do: Do = Do.COMMAND, drive: Drive = Drive.PULSE, **on: Any) -> ActionSettings:
    return ActionSettings("x", do, OnSettings(**on), named, drive=drive)


LIFE = [
    step(ON), step(UPDATED, "still"), step(UPDATED, "escalated"), step(UPDATED, "acknowledged"),
    step(UPDATED, "triggered again"), step(OVER, "condition"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "named", "acts"),
    [
        (action(), True, [0, 2, 4]),
        (action(), False, []),
        (action(named=False), False, [0, 1, 2, 3, 4, 5]),
        (action(named=False), True, [0, 1, 2, 3, 4, 5]),  # once each
        (action(named=False, rules=("other",)), True, []),
        (action(states=(AlertState.CLEARED,)), True, [5]),
        (action(severities=(Severity.INFO,)), True, []),
        (action(do=Do.GPIO, drive=Drive.LATCH), True, [0, 1, 2, 3, 4, 5]),
        (action(do=Do.GPIO), True, [0, 2, 4]),
    ],
)
def test_an_action_acts_at_these_steps(settings: ActionSettings, named: bool, acts: list[int]) -> None:
    trigger = Trigger(settings)
    assert [n for n, draft in enumerate(LIFE) if trigger.fires(draft, float(n), named=named)] == acts


def test_an_action_for_other_events_acts_for_an_alert_that_names_it_too() -> None:
    settings = action(named=False, types=("LineCrossed",))
    assert not Trigger(settings).fires(step(ON), 0.0)
    assert Trigger(settings).fires(step(ON), 0.0, named=True)


ACKED: dict[str, Any] = {"acknowledged_utc_ms": 5}


@pytest.mark.parametrize(
    ("latch", "life", "active"),
    [
        (False, [step(ON), step(OVER)], [True, False]),
        (True, [step(ON), step(OVER)], [True, True]),
        (True, [step(ON), step(OVER), step(OVER, "acknowledged", **ACKED)], [True, True, False]),
        (True, [step(ON), step(UPDATED, "acknowledged", **ACKED), step(OVER, **ACKED)], [True, True, False]),
        (True, [step(UPDATED, "restarted")], [True]),  # after a restart of the agent
    ],
)
def test_a_line_that_latches_waits_for_both(latch: bool, life: list[Draft], active: list[bool]) -> None:
    follower = Follower(latch=latch)
    assert [follower.see(draft) for draft in life] == active
