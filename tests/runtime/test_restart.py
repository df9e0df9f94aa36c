import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.restart import FailureHistory, GiveUp, Restart, RestartPolicy, after_failure

POLICY = RestartPolicy(backoff_first_s=1, backoff_max_s=5, restarts_max=4, window_s=60, jitter_share=0.5)


def fail_at(policy: RestartPolicy, times_s: list[float], jitter: float = 0.0) -> list[float | None]:
    """The delay after each failure; None where the policy gives up, which ends the list."""
    history = FailureHistory()
    delays: list[float | None] = []
    for now_s in times_s:
        verdict = after_failure(policy, history, now_s, jitter)
        if isinstance(verdict, GiveUp):
            return [*delays, None]
        delays.append(verdict.delay_s)
        history = verdict.history
    return delays


@pytest.mark.parametrize(
    ("times_s", "delays_s"),
    [
        pytest.param([0], [1], id="first failure waits the first back-off"),
        pytest.param([0, 1, 3, 7], [1, 2, 4, 5], id="doubles up to the maximum"),
        pytest.param([0, 1, 3, 7, 12], [1, 2, 4, 5, None], id="one failure more than allowed gives up"),
        pytest.param(
            [0, 100, 200, 300, 400, 500], [1, 1, 1, 1, 1, 1], id="failures outside the window are forgotten"
        ),
        pytest.param([0, 10, 65], [1, 2, 2], id="the window slides"),
        pytest.param([0, 60], [1, 1], id="a failure one window old no longer counts"),
    ],
)
def test_delays(times_s: list[float], delays_s: list[float | None]) -> None:
    assert fail_at(POLICY, times_s) == delays_s


def test_jitter_shortens_the_delay_by_its_share_at_most() -> None:
    assert fail_at(POLICY, [0], jitter=1.0) == [0.5]


def test_a_policy_without_limit_never_gives_up_and_stays_bounded() -> None:
    policy = RestartPolicy(restarts_max=None, backoff_first_s=0.001, backoff_max_s=0.01, window_s=1e9)
    history = FailureHistory()
    for second in range(1_000):
        verdict = after_failure(policy, history, float(second), 0.0)
        assert isinstance(verdict, Restart)
        history = verdict.history
    assert len(history.failed_mono_s) < 100


def test_no_restarts_allowed_gives_up_at_the_first_failure() -> None:
    assert after_failure(RestartPolicy(restarts_max=0), FailureHistory(), 5.0, 0.0) == GiveUp(failures=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"backoff_first_s": 0.0},
        {"backoff_first_s": 2.0, "backoff_max_s": 1.0},
        {"restarts_max": -1},
        {"window_s": 0.0},
        {"jitter_share": 1.5},
    ],
)
def test_an_impossible_policy_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RestartPolicy(**wrong)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 100), max_size=200), st.floats(0, 1))
def test_never_more_restarts_in_a_window_than_allowed(gaps_s: list[float], jitter: float) -> None:
    now_s, history = 0.0, FailureHistory()
    restarts_s: list[float] = []
    for gap_s in gaps_s:
        now_s += gap_s
        verdict = after_failure(POLICY, history, now_s, jitter)
        if isinstance(verdict, GiveUp):
            break
        assert 0 < verdict.delay_s <= POLICY.backoff_max_s
        history = verdict.history
        restarts_s.append(now_s)
        assert sum(1 for at in restarts_s if now_s - at < POLICY.window_s) <= 4
