"""What the node decides about models, with plain numbers for time."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.models import records
from agent.models.fetching import Ask, Fetching, Item, Rest
from agent.models.garbage import HeldRelease, bytes_of, to_drop
from agent.models.golden import Answer, Figures, Thresholds, accuracy, judge
from agent.models.needs import facts_of, needed
from agent.models.probation import Probation, complaint
from agent.models.records import STARTS_MAX, Record, Ref, Trial
from runtime.backoff import Backoff
from schemas.bundles import Requires, Target
from schemas.messages import Birth
from schemas.release import Release, ReleaseFile, ReleaseVariant, Role

OLD, NEW = Ref("finder@1.0.0", "a" * 64), Ref("finder@2.0.0", "b" * 64)

# ---- what is needed ----------------------------------------------------------------------------


def release(*variants: tuple[Target, Requires]) -> Release:
    files = [
        ("bundle.toml", Role.MANIFEST),
        ("labels.txt", Role.LABELS),
        ("golden.toml", Role.GOLDEN),
        ("card.md", Role.OTHER),
    ]
    shared = tuple(ReleaseFile(name, f"{i}" * 64, 10, role) for i, (name, role) in enumerate(files))
    models = tuple(ReleaseFile(f"{t.value}.tflite", f"{t.value[0]}" * 64, 100, Role.MODEL) for t, _ in variants)
    made = tuple(ReleaseVariant(t, f"{t.value}.tflite", f"{t.value[0]}" * 64, 100, r) for t, r in variants)
    return Release("finder", "1.0.0", made, (*shared, *models))


@pytest.mark.parametrize(
    ("hardware", "resources", "gets", "models"),
    [
        ({}, {}, "cpu", {"cpu.tflite"}),
        ({"accelerators": ["edgetpu"]}, {}, "edgetpu", {"edgetpu.tflite", "cpu.tflite"}),
        ({}, {"gpu": 1.0}, "gpu", {"gpu.tflite", "cpu.tflite"}),
    ],
)
def test_a_node_needs_its_variant_and_the_last_rung(
    hardware: dict[str, Any], resources: dict[str, float], gets: str, models: set[str]
) -> None:
    free = Requires()
    found = needed(
        release((Target.CPU, free), (Target.GPU, free), (Target.EDGETPU, free)),
        facts_of(Birth(hardware=hardware, resources=resources)),
    )
    assert found.variant is not None and found.variant.target.value == gets
    names = {file.path for file in found.files}
    assert names == {"bundle.toml", "labels.txt", "golden.toml"} | models


def test_a_release_that_nothing_here_can_run_says_why() -> None:
    found = needed(release((Target.CPU, Requires(arch=("arm64",)))), facts_of(Birth(hardware={"arch": "x86_64"})))
    assert (found.variant, found.files) == (None, ())
    assert "no variant of finder@1.0.0 runs here: cpu: it is for arm64, and the node is x86_64" in found.why_not


# ---- the cache's garbage -----------------------------------------------------------------------

HELD = st.lists(
    st.builds(
        HeldRelease,
        st.uuids().map(lambda one: one.hex * 2),
        st.just("m@1.0.0"),
        st.dictionaries(st.sampled_from([c * 64 for c in "abcdef"]), st.integers(1, 50), min_size=1),
        st.floats(0, 1000),
    ),
    max_size=8,
    unique_by=lambda one: one.digest,
)


@given(HELD, st.data(), st.integers(0, 300), st.integers(0, 100))
def test_what_is_kept_stays_and_no_more_goes_than_has_to(
    held: list[HeldRelease], data: st.DataObject, bytes_max: int, more: int
) -> None:
    sizes = {"abcdef"[i] * 64: 10 * (i + 1) for i in range(6)}  # one size for each content
    held = [HeldRelease(one.digest, one.reference, {k: sizes[k] for k in one.sizes}, one.used_s) for one in held]
    keep = {one.digest for one in held if data.draw(st.booleans())}
    dropped = to_drop(held, keep, bytes_max=bytes_max, more_bytes=more)
    left = [one for one in held if one not in dropped]
    assert not keep & {one.digest for one in dropped}
    assert bytes_of(left) + more <= bytes_max or {one.digest for one in left} == keep
    if dropped:
        assert bytes_of([*left, dropped[-1]]) + more > bytes_max
        free = [one for one in left if one.digest not in keep]
        assert all(one.used_s >= gone.used_s for one in free for gone in dropped)


# ---- getting things ----------------------------------------------------------------------------

BACKOFF = Backoff(1.0, 60.0)


class World:
    """Sources that serve, cut, lack or lie, as drawn; a clock that only goes on by resting."""

    def __init__(self, sizes: list[int], sources: int) -> None:
        self.now_s = 0.0
        self.have = [0] * len(sizes)
        self.sizes = sizes
        names = [f"s{i}" for i in range(sources)]
        items = [Item(str(i), size) for i, size in enumerate(sizes)]
        self.fetching = Fetching(items, names, backoff=BACKOFF, patience_s=600, now_s=0.0)

    def step(self, what: str, amount: int, jitter: float) -> Ask | Rest | None:
        fetching = self.fetching
        ask = fetching.next(self.now_s)
        if isinstance(ask, Rest):
            assert ask.until_s > self.now_s
            self.now_s = ask.until_s
        if not isinstance(ask, Ask):
            return ask
        i = int(ask.item.key)
        assert ask.offset == self.have[i]
        got = min(amount, self.sizes[i] - self.have[i])
        if what == "serve":
            got = self.sizes[i] - self.have[i]
        if what in ("serve", "cut"):
            self.have[i] += got
            fetching.progressed(ask, got, self.now_s)
        if self.have[i] == self.sizes[i]:
            fetching.got(ask, self.now_s)
        elif what == "cut":
            fetching.cut(ask, "cut", self.now_s, jitter)
        elif what == "missing":
            fetching.missing(ask, "404", self.now_s, jitter)
        else:
            self.have[i] = 0
            fetching.wrong(ask, "another", self.now_s, jitter)
        return ask


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=4),
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from(["cut", "missing", "wrong", "serve"]), st.integers(0, 400), st.floats(0, 1)),
        max_size=60,
    ),
)
@settings(max_examples=150)
def test_whatever_happens_it_gets_there_once_somebody_serves(
    sizes: list[int], sources: int, steps: list[tuple[str, int, float]]
) -> None:
    world = World(sizes, sources)
    for what, amount, jitter in steps:
        share = world.fetching.share
        world.step(what, amount, jitter)
        assert 0.0 <= share <= 1.0
    for _ in range(3 * (len(sizes) + sources) + 10):
        if world.step("serve", 0, 0.5) is None:
            break
    assert world.fetching.next(world.now_s) is None
    assert world.have == sizes
    assert (world.fetching.share, world.fetching.trouble(world.now_s)) == (1.0, "")


def test_sources_are_asked_in_turn_and_rest_longer_each_time() -> None:
    fetching = Fetching([Item("x", 10)], ["a", "b"], backoff=BACKOFF, patience_s=600, now_s=0.0)
    asked = []
    for now_s in (0.0, 0.0):
        ask = fetching.next(now_s)
        assert isinstance(ask, Ask)
        asked.append(ask.source)
        fetching.cut(ask, "refused", now_s, 1.0)
    assert asked == [0, 1]
    assert fetching.next(0.0) == Rest(1.0, "a: refused; b: refused")
    ask = fetching.next(1.0)
    assert isinstance(ask, Ask) and ask.source == 0
    fetching.cut(ask, "refused", 1.0, 1.0)
    ask = fetching.next(1.0)
    assert isinstance(ask, Ask) and ask.source == 1
    fetching.progressed(ask, 4, 1.0)
    fetching.cut(ask, "broke", 1.0, 1.0)
    rest = fetching.next(1.0)
    assert isinstance(rest, Rest) and rest.until_s == 2.0  # bytes came: b's rest begins anew


def test_who_says_when_to_come_back_is_listened_to() -> None:
    fetching = Fetching([Item("x", 10)], ["a"], backoff=BACKOFF, patience_s=600, now_s=0.0)
    ask = fetching.next(0.0)
    assert isinstance(ask, Ask)
    fetching.cut(ask, "busy", 0.0, 0.5, at_least_s=10.0)
    rest = fetching.next(0.0)
    assert isinstance(rest, Rest) and rest.until_s == 15.0


def test_trouble_is_told_when_nobody_has_it_or_nothing_comes() -> None:
    fetching = Fetching([Item("x", 10)], ["a", "b"], backoff=BACKOFF, patience_s=100, now_s=0.0)
    for why in ("404", "another"):
        ask = fetching.next(0.0)
        assert isinstance(ask, Ask) and fetching.trouble(0.0) == ""
        fetching.missing(ask, why, 0.0, 0.0)
    assert fetching.trouble(0.0) == "nobody serves it: a: 404; b: another"
    silent = Fetching([Item("x", 10)], ["a"], backoff=BACKOFF, patience_s=100, now_s=0.0)
    ask = silent.next(0.0)
    assert isinstance(ask, Ask)
    silent.cut(ask, "refused", 0.0, 0.0)
    assert (silent.trouble(99.0), silent.trouble(100.0)) == ("", "nothing has come for 100 s: a: refused")
    assert "set models.sources" in Fetching([Item("x")], [], backoff=BACKOFF, patience_s=1, now_s=0.0).trouble(0.0)


# ---- records -----------------------------------------------------------------------------------


def test_a_model_that_proves_itself_stays_and_the_one_before_is_at_hand() -> None:
    first = records.passed(records.swapped(records.begun(Record(), OLD)))
    assert (first.running, first.before, first.trial) == (OLD, None, None)
    second = records.swapped(records.begun(first, NEW))
    assert (second.running, second.trial) == (OLD, Trial(NEW, 0, True))
    assert second.digests == {OLD.digest, NEW.digest}
    done = records.passed(second)
    assert (done.running, done.before) == (NEW, OLD)
    assert records.failed(second, NEW, "slow") == Record(OLD, None, None, {NEW.digest: "slow"})
    assert records.configured(done) == Record(None, NEW)


@pytest.mark.parametrize(
    ("record", "ref", "loads"),
    [
        (Record(), NEW, None),  # never here: it starts with the configured one, and is swapped in
        (Record(NEW), NEW, NEW),
        (Record(OLD), NEW, OLD),
        (Record(OLD), None, None),
        (Record(OLD, trial=Trial(NEW)), NEW, OLD),
        (Record(OLD, trial=Trial(NEW, swapped=True)), NEW, NEW),
    ],
)
def test_what_a_pipeline_starts_with(record: Record, ref: Ref | None, loads: Ref | None) -> None:
    assert records.to_load(record, ref) == loads


def test_a_model_that_ends_the_agent_again_and_again_is_refused() -> None:
    record = records.swapped(records.begun(Record(OLD), NEW))
    for _ in range(STARTS_MAX):
        record = records.restarted(record)
        assert records.to_load(record, NEW) == NEW
    assert records.unblamed(record).trial == Trial(NEW, 0, True)
    record = records.restarted(record)
    assert (record.running, record.trial) == (OLD, None)
    assert "the agent ended 3 times" in record.refused[NEW.digest]
    assert records.wanted(record, NEW).refused
    assert not records.wanted(record, OLD).refused


@given(
    st.lists(st.sampled_from(["old", "new", "none", "swap", "pass", "fail", "restart", "configured"]), max_size=40)
)
def test_no_order_of_events_runs_what_is_refused(steps: list[str]) -> None:
    record, ref = Record(), None
    for step in steps:
        if step in ("old", "new", "none"):
            ref = {"old": OLD, "new": NEW, "none": None}[step]
            record = records.wanted(record, ref)
            if ref is not None and ref.digest not in record.refused and record.running != ref:
                record = records.begun(record, ref)
        elif step == "swap":
            record = records.swapped(record)
        elif step == "pass" and record.trial is not None and record.trial.swapped:
            record = records.passed(record)
        elif step == "fail" and record.trial is not None:
            record = records.failed(record, record.trial.ref, "why")
        elif step == "restart":
            record = records.restarted(record)
        elif step == "configured":
            record = records.configured(record)
        loads = records.to_load(record, ref)
        assert loads is None or ref is not None
        assert loads is None or loads.digest not in record.refused
        assert loads is None or loads.digest in record.digests


# ---- probation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "failures", "said"),
    [
        ("edgetpu", 2, ""),
        ("edgetpu", 3, "3 frames failed"),
        ("cpu", 0, "edgetpu was lost; cpu stands in"),
        ("", 0, "none runs it any more"),
    ],
)
def test_probation(engine: str, failures: int, said: str) -> None:
    assert said in complaint(Probation(10.0, "edgetpu", 5, 40), engine, 40 + failures, 3)


# ---- golden frames -----------------------------------------------------------------------------


def answer(*found: tuple[str, list[float]]) -> Answer:
    boxes = np.array([box for _, box in found], np.float32).reshape(-1, 4)
    return Answer(boxes, tuple(label for label, _ in found))


A, B = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]


@pytest.mark.parametrize(
    ("said", "truth", "share"),
    [
        ([("pore", A)], [("pore", A)], 1.0),
        ([("pore", [1.0, 0.0, 11.0, 10.0])], [("pore", A)], 1.0),  # IoU 0.82
        ([("pore", [6.0, 0.0, 16.0, 10.0])], [("pore", A)], 0.0),  # IoU 0.25
        ([("crack", A)], [("pore", A)], 0.0),
        ([("pore", A), ("pore", A)], [("pore", A)], 2 / 3),  # an object counts once
        ([("pore", A)], [("pore", A), ("crack", B)], 2 / 3),
        ([], [("pore", A)], 0.0),
        ([("pore", A)], [], 0.0),
        ([], [], 1.0),
        ([("pore", [5.0, 5.0, 5.0, 5.0])], [("pore", [5.0, 5.0, 5.0, 5.0])], 0.0),  # of no size
    ],
)
def test_accuracy_of_a_detector(said: Any, truth: Any, share: float) -> None:
    assert accuracy([answer(*said)], [answer(*truth)], classifier=False) == pytest.approx(share)


def test_accuracy_of_a_classifier_is_top_1() -> None:
    says = [answer(("cat", A), ("dog", A)), answer(("dog", A)), answer()]
    truth = [answer(("cat", A)), answer(("cat", A)), answer(("cat", A))]
    assert accuracy(says, truth, classifier=True) == pytest.approx(1 / 3)


@given(st.lists(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([A, B])), max_size=4), max_size=4))
def test_a_model_agrees_with_itself(frames: list[list[tuple[str, list[float]]]]) -> None:
    answers = [answer(*frame) for frame in frames]
    assert accuracy(answers, answers, classifier=False) == 1.0


OF_OLD = Figures(10, 0.9, 4.0, 8.0)


@pytest.mark.parametrize(
    ("new", "old", "said"),
    [
        (Figures(10, 0.9, 4, 8), OF_OLD, ""),
        (Figures(10, 0.885, 4, 22), OF_OLD, ""),
        (Figures(10, 0.87, 4, 8), OF_OLD, "accuracy 0.870 on 10 frames, the model before has 0.900"),
        (Figures(10, 0.9, 4, 22.5), OF_OLD, "latency p95 22.5 ms, the model before has 8.0 ms (at most 22.0 ms"),
        (Figures(10, 0.4, 4, 8), None, "on 10 frames, at least 0.5"),
        (Figures(10, 0.9, 4, 5000), None, ""),
        (Figures(0, None, 4, 8), OF_OLD, ""),
        (Figures(10, 0.1, 4, 99), OF_OLD, "; latency"),
    ],
)
def test_the_gate(new: Figures, old: Figures | None, said: str) -> None:
    refusal = judge(new, old, Thresholds()).refusal
    assert said in refusal and bool(said) == bool(refusal)


def test_a_latency_of_its_own_may_be_asked_for() -> None:
    assert "at most 5 ms" in judge(Figures(1, 1.0, 4, 8), None, Thresholds(latency_ms_max=5)).refusal
