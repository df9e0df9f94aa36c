"""The timer wheel: never early, never lost, in order."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.simulate.wheel import STEP_S, Wheel

times = st.floats(0, 100, allow_nan=False)


@given(st.lists(times, max_size=30), st.lists(times, max_size=10))
def test_each_timer_fires_once_and_never_early(due: list[float], looks: list[float]) -> None:
    wheel: Wheel[int] = Wheel()
    for number, at_s in enumerate(due):
        wheel.put(at_s, number)
    fired: list[int] = []
    for now_s in [*sorted(looks), 200.0]:
        found = wheel.take(now_s)
        assert [at_s for at_s, _ in found] == sorted(at_s for at_s, _ in found)
        for at_s, number in found:
            assert due[number] <= at_s + 1e-9 <= due[number] + STEP_S + 1e-6
            assert at_s <= now_s
        fired += [number for _, number in found]
    assert sorted(fired) == list(range(len(due)))
    assert len(wheel) == 0


def test_what_is_put_in_for_the_past_is_due_at_once() -> None:
    wheel: Wheel[str] = Wheel()
    wheel.put(10.0, "late")
    assert [item for _, item in wheel.take(50.0)] == ["late"]
    wheel.put(1.0, "over")
    assert [item for _, item in wheel.take(50.0)] == ["over"]
