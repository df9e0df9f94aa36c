"""`pipelines.<name>.spec`: what it may say, what it means beside the configuration, who has the last word."""

from typing import Any

import pytest

from agent.config import PipelineConfig
from agent.decide.settings import ZoneSettings
from agent.degrade.throttle import Throttle
from agent.documents.plan import Here, Tuning, plan
from agent.workloads.pipelines import read_pipeline
from schemas.documents import Desired, Write
from schemas.fields import Owner, mistake
from schemas.hlc import Stamp
from schemas.resolve import Known, resolve
from schemas.workloads import parse_named_pipeline, workload_of

SPEC: dict[str, Any] = {"version": 2, "pipeline": {"camera": "cam1", "settings": {"fps_max": 5.0}}}
OTHER: dict[str, Any] = {"version": 7, "pipeline": {"camera": "cam1", "confidence_min": 0.4}}
HERE = Here({"weld": "weld_defects"})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (SPEC, None),
        (OTHER, None),
        ({"pipeline": {"camera": "cam1"}}, None),
        ({"version": 1}, "pipeline: is missing"),
        ({"version": -1, "pipeline": {"camera": "cam1"}}, "version"),
        ({"pipeline": {"camera": "cam1", "confidence_min": 2}}, "confidence_min"),
        ({"pipeline": {"camera": "cam1"}, "model": "x"}, "unknown key"),
        ("weld", "must be a table"),
    ],
)
@pytest.mark.parametrize("writer", [Owner.COORDINATOR, Owner.NODE])
def test_what_a_named_pipeline_may_say(value: Any, said: str | None, writer: Owner) -> None:
    wrong = mistake("pipelines.weld.spec", value, writer)
    assert wrong is None if said is None else wrong is not None and said in wrong


def known(desired: Any, local: Any, *, local_later: bool) -> Known:
    early, late = Stamp(1000, 0, "a"), Stamp(2000, 0, "b")
    fields = {} if desired is None else {"pipelines.weld.spec": desired}
    stamp = Write(desired, early if local_later else late).written
    document = Desired(1, 1, fields, {} if desired is None else {"pipelines.weld.spec": stamp})
    written = {} if local is ... else {"pipelines.weld.spec": Write(local, late if local_later else early)}
    return Known(document, written)


@pytest.mark.parametrize(
    ("desired", "local", "local_later", "version"),
    [
        (None, SPEC, True, 2),
        (OTHER, ..., True, 7),
        (OTHER, SPEC, True, 2),
        (OTHER, SPEC, False, 7),
        (OTHER, None, True, 0),  # taken back at the node, later: as configured
    ],
)
def test_the_later_word_holds_whoever_says_it(desired: Any, local: Any, local_later: bool, version: int) -> None:
    made = plan(resolve(known(desired, local, local_later=local_later)), HERE)
    assert (made.workloads["weld"].generation if version else made.workloads.get("weld")) == (version or None)
    assert made.named == (frozenset({"weld"}) if version else frozenset())


def test_a_workload_of_its_name_goes_before_it_and_the_report_says_so() -> None:
    workload = {"type": "video_analytics", "pipeline": {"camera": "cam1"}}
    desired = Desired(1, 1, {"workloads.weld.spec": workload, "pipelines.weld.spec": SPEC})
    made = plan(resolve(Known(desired)), HERE)
    assert (made.named, made.workloads["weld"].generation) == (frozenset(), 1)
    assert "is called weld already" in made.refused["pipelines.weld.spec"]


def test_what_it_does_not_say_is_as_the_configured_one_has_it() -> None:
    zone = ZoneSettings("belt", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)))
    there = PipelineConfig("cam1", "/models/weld", "weld", zones=(zone,), classes=("pore",), sample_interval_s=3.0)
    spec = workload_of(parse_named_pipeline(SPEC))
    config, tuning = read_pipeline("weld", spec, "/models/other", there)
    assert (config.model, config.fps_max, config.classes) == ("/models/other", 5.0, ("pore",))
    assert (config.zones, config.sample_interval_s, tuning) == ((zone,), 3.0, Tuning())
    alone, _ = read_pipeline("weld", spec, "/models/other")
    assert (alone.zones, alone.classes) == ((), ())


def test_what_holds_of_a_pipeline_lies_upon_what_it_was_given_with() -> None:
    given = Tuning(True, 0.4, frozenset({"a"}))
    assert Tuning().over(given) == given
    assert Tuning(False, 0.6, frozenset({"b"})).over(given) == Tuning(False, 0.6, frozenset({"a", "b"}))


@pytest.mark.parametrize(
    ("fps_max", "times", "taken"),
    [
        (0.0, [0.0, 0.01, 0.02], [0, 1, 2]),
        (10.0, [n / 30 for n in range(13)], [0, 3, 6, 9, 12]),
        (10.0, [n / 25 for n in range(11)], [0, 3, 5, 8, 10]),  # on average 10 a second, though 25 is no multiple
        (10.0, [n / 5 for n in range(4)], [0, 1, 2, 3]),
        (10.0, [5.0, 5.02, 0.0, 0.05, 0.1], [0, 2, 4]),  # a recording that begins again
        (10.0, [0.0, 60.0, 60.05, 60.1], [0, 1, 3]),  # after a gap there is no rush
    ],
)
def test_no_more_frames_than_so_many_a_second(fps_max: float, times: list[float], taken: list[int]) -> None:
    throttle = Throttle()
    throttle.fps_max = fps_max
    assert [n for n, time_s in enumerate(times) if throttle.is_due(time_s)] == taken
