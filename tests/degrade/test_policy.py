"""The ladders against figures in plain numbers, and against anything a machine may do."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.degrade.pipelines import Pace, Priority, Standing, paces
from agent.degrade.policy import LADDERS, SWITCHED, Cause, Limits, Policy, Step, limits_of
from agent.degrade.settings import DegradationSettings

SETTINGS = DegradationSettings(down_after_s=10.0, up_after_s=60.0)


def moved(policy: Policy, cause: Cause, film: Sequence[tuple[float, float | None]]) -> list[tuple[float, str, str]]:
    """(when, which way, which step) for (when, figure)."""
    return [
        (now_s, "down" if change.down else "up", change.step.value)
        for now_s, figure in film
        for change in policy.observe({cause: figure}, now_s)
    ]


def test_cpu_steps_down_in_order_and_back_up_the_other_way() -> None:
    busy = [(float(t), 99.0) for t in range(0, 60, 5)]
    idle = [(float(t), 20.0) for t in range(60, 300, 5)]
    policy = Policy(SETTINGS)
    assert moved(policy, Cause.CPU, busy + idle) == [
        (10.0, "down", "half_rate_lowest"),
        (20.0, "down", "no_clips"),
        (30.0, "down", "pause_lowest"),
        (120.0, "up", "pause_lowest"),
        (180.0, "up", "no_clips"),
        (240.0, "up", "half_rate_lowest"),
    ]
    assert policy.steps == frozenset()


@pytest.mark.parametrize(
    ("cause", "figure", "order"),
    [
        (Cause.DISK, 0.0, ["no_clips", "short_retention", "no_raw", "no_samples"]),
        (Cause.HEAT, 90.0, ["half_rate_all", "pause_accelerated"]),
        (Cause.MEMORY, 1.0, ["no_clips", "half_rate_lowest", "pause_lowest"]),
        (Cause.BACKLOG, 1e6, ["coarse", "samples_stay"]),
        (Cause.LOOP, 900.0, ["half_rate_lowest", "no_clips", "pause_lowest"]),
    ],
)
def test_each_cause_has_its_order(cause: Cause, figure: float, order: list[str]) -> None:
    film = [(10.0 * n, figure) for n in range(10)]
    assert [step for _, _, step in moved(Policy(SETTINGS), cause, film)] == order


def test_what_is_neither_bad_nor_fine_moves_nothing() -> None:
    policy = Policy(SETTINGS)
    assert len(moved(policy, Cause.CPU, [(0.0, 99.0), (10.0, 99.0)])) == 1
    assert moved(policy, Cause.CPU, [(10.0 + t, 90.0) for t in range(1000)]) == []


def test_a_short_peak_is_no_overload() -> None:
    film = [(float(t), 99.0 if t % 8 else 50.0) for t in range(200)]
    assert moved(Policy(SETTINGS), Cause.CPU, film) == []


def test_a_figure_that_cannot_be_read_moves_nothing() -> None:
    policy = Policy(SETTINGS)
    moved(policy, Cause.HEAT, [(0.0, 99.0), (10.0, 99.0)])
    assert moved(policy, Cause.HEAT, [(10.0 + t, None) for t in range(1000)]) == []
    assert policy.levels[Cause.HEAT] == 1


def test_what_is_nobodys_to_drop_is_on_no_ladder() -> None:
    assert not any(word in step for step in Step for word in ("event", "alert", "lifecycle"))
    assert set(SWITCHED) | {
        *(Step.HALF_RATE_LOWEST, Step.PAUSE_LOWEST, Step.HALF_RATE_ALL, Step.PAUSE_ACCELERATED)
    } == set(Step)


figures = st.none() | st.floats(0, 200)
films = st.lists(
    st.tuples(st.floats(0.01, 40.0), st.dictionaries(st.sampled_from(list(Cause)), figures)), max_size=80
)


@given(films)
def test_it_never_oscillates_keeps_the_order_and_returns_to_normal(
    film: list[tuple[float, dict[Cause, float | None]]],
) -> None:
    policy, now_s = Policy(SETTINGS), 0.0
    changed_s = dict.fromkeys(Cause, -math.inf)
    in_force: dict[Cause, list[Step]] = {cause: [] for cause in Cause}
    limits = limits_of(SETTINGS)
    for wait_s, seen in film:
        now_s += wait_s
        for change in policy.observe(seen, now_s):
            ladder = LADDERS[change.cause]
            dwell_s = SETTINGS.down_after_s if change.down else SETTINGS.up_after_s
            assert now_s - changed_s[change.cause] >= dwell_s
            changed_s[change.cause] = now_s
            if change.down:
                assert limits[change.cause].is_bad(change.figure)
                assert change.step is ladder[len(in_force[change.cause])]
                in_force[change.cause].append(change.step)
            else:
                assert limits[change.cause].is_fine(change.figure)
                assert in_force[change.cause].pop() is change.step
        assert policy.levels == {cause: len(steps) for cause, steps in in_force.items()}
        assert policy.steps == {step for steps in in_force.values() for step in steps}
    fine: dict[Cause, float | None] = {cause: limit.fine for cause, limit in limits.items()}
    for _ in range(max(map(len, LADDERS.values())) + 1):
        policy.observe(fine, now_s)
        now_s += SETTINGS.up_after_s
    policy.observe(fine, now_s)
    assert policy.steps == frozenset()


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_no_figure_is_bad_and_fine(bad: float, fine: float, figure: float) -> None:
    limits = Limits(bad, fine)
    assert bad == fine or not (limits.is_bad(figure) and limits.is_fine(figure))


def test_thresholds_that_leave_no_room_between_them_are_refused() -> None:
    wrong = DegradationSettings(cpu_percent_ok=95.0, disk_free_mb_ok=100.0)
    assert wrong.mistakes() == [
        "cpu_percent_ok: must be below cpu_percent_max",
        "disk_free_mb_ok: must be above disk_free_mb_min",
    ]
    assert DegradationSettings().mistakes() == []


LOW, NORMAL = Standing(Priority.LOW), Standing()
CRITICAL = Standing(Priority.CRITICAL)
FAST = Standing(accelerated=True)
FAST_CRITICAL = Standing(Priority.CRITICAL, accelerated=True)


@pytest.mark.parametrize(
    ("steps", "pipelines", "found"),
    [
        (set(), [LOW, NORMAL], [Pace(), Pace()]),
        ({Step.HALF_RATE_LOWEST}, [LOW, NORMAL], [Pace(2), Pace()]),
        ({Step.HALF_RATE_LOWEST}, [NORMAL, NORMAL], [Pace(2), Pace(2)]),
        ({Step.HALF_RATE_LOWEST}, [CRITICAL], [Pace()]),
        ({Step.HALF_RATE_LOWEST, Step.PAUSE_LOWEST}, [LOW, NORMAL], [Pace(2, True), Pace()]),
        ({Step.PAUSE_LOWEST}, [NORMAL, CRITICAL], [Pace(1, True), Pace()]),
        ({Step.PAUSE_LOWEST}, [NORMAL, NORMAL], [Pace(), Pace()]),
        ({Step.PAUSE_LOWEST}, [CRITICAL, CRITICAL], [Pace(), Pace()]),
        ({Step.HALF_RATE_ALL}, [LOW, CRITICAL], [Pace(2), Pace(2)]),
        ({Step.PAUSE_ACCELERATED}, [FAST, NORMAL, FAST_CRITICAL], [Pace(1, True), Pace(), Pace()]),
    ],
)
def test_what_the_steps_mean_for_each_pipeline(
    steps: set[Step], pipelines: list[Standing], found: list[Pace]
) -> None:
    named = {str(n): standing for n, standing in enumerate(pipelines)}
    assert list(paces(steps, named).values()) == found
