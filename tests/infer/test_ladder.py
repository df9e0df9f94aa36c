from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.infer.bundle import Bundle, Target, Variant, parse_bundle
from agent.infer.engine import EngineUnavailableError
from agent.infer.ladder import LadderPolicy, RetryRule, build_rungs
from agent.infer.settings import InferSettings

RULE = RetryRule(failures_max=3, failure_window_s=10, first_s=4, max_s=60, stable_s=30)


def bundle(*targets: str) -> Bundle:
    table = {
        "name": "b", "version": "1", "labels": ["a"], "output": {"decoder": "classification"},
        "variants": [{"target": "cpu", "file": "m", "sha256": "0" * 64}],
    }  # fmt: skip
    made = parse_bundle(table, Path("/b"), lambda _: (), "b")
    return replace(made, variants=tuple(Variant(Target(t), Path(f"/b/{t}.tflite"), "0" * 64) for t in targets))


@pytest.mark.parametrize(
    ("targets", "settings", "expected"),
    [
        (["cpu"], InferSettings(), [("cpu", "cpu", 0)]),
        (["cpu", "edgetpu"], InferSettings(fallback_fps=5), [("edgetpu", "edgetpu", 0), ("cpu", "cpu", 5)]),
        (["cpu"], InferSettings(rungs=("edgetpu", "gpu", "cpu")), [("gpu", "cpu", 0), ("cpu", "cpu", 0)]),
        (["cpu"], InferSettings(delegate_library="/x.so"), [("delegate", "cpu", 0), ("cpu", "cpu", 0)]),
        (["cpu", "gpu", "npu", "edgetpu"], InferSettings(),
         [("edgetpu", "edgetpu", 0), ("npu", "npu", 0), ("gpu", "gpu", 0), ("cpu", "cpu", 0)]),
        (["edgetpu"], InferSettings(), [("edgetpu", "edgetpu", 0)]),
        (["cpu"], InferSettings(rungs=("cpu",), fallback_fps=5), [("cpu", "cpu", 0)]),
    ],
)  # fmt: skip
def test_rungs_follow_the_bundle_and_the_config(
    targets: list[str], settings: InferSettings, expected: list[tuple[str, str, float]]
) -> None:
    rungs = build_rungs(bundle(*targets), settings)
    assert [(r.kind.value, r.variant.target.value, r.rate_fps) for r in rungs] == expected


def test_a_bundle_without_a_fitting_variant_is_refused() -> None:
    with pytest.raises(EngineUnavailableError, match="edgetpu: the bundle has no variant for it"):
        build_rungs(bundle("cpu"), InferSettings(rungs=("edgetpu",)))


def test_a_lost_rung_gives_way_to_the_one_below_and_is_wanted_again_after_the_wait() -> None:
    policy = LadderPolicy(3, RULE)
    policy.opened(0, 0.0)
    assert list(policy.lost(100.0, 0.5)) == [1, 2]
    policy.opened(1, 100.0)
    assert policy.wants(103.9) is None
    assert policy.wants(104.0) == 0


def test_the_wait_doubles_up_to_its_limit_and_starts_anew_after_a_stable_run() -> None:
    policy = LadderPolicy(2, RULE)
    policy.opened(1, 0.0)
    waits = []
    for _ in range(6):
        policy.refused(0, 1000.0, 0.5)
        waits.append(policy.retry_at_s(0) - 1000)
    assert waits == [4, 8, 16, 32, 60, 60]
    policy.opened(0, 2000.0)
    policy.lost(2001.0, 0.5)  # opening alone resets nothing
    assert policy.retry_at_s(0) - 2001 == 60
    policy.opened(0, 3000.0)
    policy.lost(3031.0, 0.5)
    assert policy.retry_at_s(0) - 3031 == 4


def test_jitter_spreads_the_wait_by_a_quarter() -> None:
    policy = LadderPolicy(1, RULE)
    for jitter, wait in ((0.0, 3.0), (1.0, 10.0)):
        policy.refused(0, 0.0, jitter)
        assert policy.retry_at_s(0) == pytest.approx(wait)


def test_a_rung_that_does_not_fit_is_never_wanted_again() -> None:
    policy = LadderPolicy(2, RULE)
    policy.refused(0, 0.0, 0.5, for_good=True)
    policy.opened(1, 0.0)
    assert policy.wants(1e9) is None
    assert list(policy.lost(1e9, 0.5)) == []


def test_failures_within_the_window_give_the_rung_up() -> None:
    policy = LadderPolicy(2, RULE)
    policy.opened(0, 0.0)
    assert [policy.failed(t) for t in (1, 6, 11.5, 12, 13)] == [False, False, False, True, True]


def test_failures_on_the_last_rung_are_borne() -> None:
    policy = LadderPolicy(2, RULE)
    policy.opened(1, 0.0)
    assert not any(policy.failed(t) for t in (1, 2, 3, 4, 5))


STEPS = st.lists(st.tuples(st.sampled_from(["lose", "fail", "open", "refuse"]), st.floats(0, 100)), max_size=60)


@given(STEPS, st.integers(1, 4))
def test_whatever_happens_only_better_rungs_are_wanted_and_waits_stay_bounded(
    steps: list[tuple[str, float]], rungs: int
) -> None:
    policy = LadderPolicy(rungs, RULE)
    policy.opened(0, 0.0)
    now = 0.0
    for step, later_s in steps:
        now += later_s
        wanted = policy.wants(now)
        if wanted is not None:
            assert policy.current is None or wanted < policy.current
        match step:
            case "lose":
                below = policy.lost(now, 0.5)
                if below:
                    policy.opened(below[0], now)
            case "fail":
                policy.failed(now)
            case "open" if wanted is not None:
                policy.opened(wanted, now)
            case "refuse" if wanted is not None:
                policy.refused(wanted, now, 1.0)
        for rung in range(rungs):
            assert policy.retry_at_s(rung) <= now + RULE.max_s * 1.25
    assert policy.wants(now + RULE.max_s * 1.25) == (None if policy.current == 0 else 0)
