"""Specs and states of workloads, as documents have them."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platforms.catalogue import open_catalogue
from schemas.fields import Owner, mistake
from schemas.language.schema import Ref
from schemas.language.validators import Validators
from schemas.shape import ShapeError
from schemas.workloads import (
    ContainerSpec,
    FunctionSpec,
    Network,
    PipelineSpec,
    PortSpec,
    Pull,
    ResourceRequirements,
    Restart,
    VolumeSpec,
    WorkloadReport,
    WorkloadSpec,
    WorkloadState,
    WorkloadType,
    parse_report,
    parse_workload,
    plain,
)

DECLARED = Validators(open_catalogue().schemas[0]).type(Ref("Workload_Spec"))
CONTAINER = {"type": "container", "container": {"image": "registry.local/pump:1.4"}}
PIPELINE = {"type": "VIDEO_ANALYTICS", "pipeline": {"camera": "door", "model": "finder@1.4.0"}}
FUNCTION = {"type": "Data_Processing", "function": {"name": "countCustomers", "every_s": 5}}

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
words = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20)
whole_numbers = st.integers(-(2**63), 2**63 - 1)
resources = st.builds(
    ResourceRequirements, cpu_cores=st.floats(0, 64), memory_mb=st.floats(0, 1e6), gpu_count=st.integers(0, 8),
    accelerators=st.lists(names, max_size=2).map(tuple),
)  # fmt: skip
pipelines = st.builds(PipelineSpec, names, names, st.none() | st.floats(0, 1), st.lists(words, max_size=3).map(tuple))
functions = st.builds(FunctionSpec, names, st.dictionaries(names, whole_numbers | words, max_size=3))
containers = st.builds(
    ContainerSpec, names, st.lists(words, max_size=3).map(tuple),
    ports=st.builds(PortSpec, st.integers(1, 65535), st.integers(1, 65535)).map(lambda one: (one,)),
    volumes=st.builds(VolumeSpec, names.map("/srv/{}".format), st.just("/data"), st.booleans()).map(lambda v: (v,)),
    network=st.just(Network.BRIDGE), pull=st.sampled_from(Pull), pids_max=st.integers(1, 1000),
)  # fmt: skip


@st.composite
def specs(draw: st.DrawFn) -> WorkloadSpec:
    """Every sound spec of some kind."""
    kind = draw(st.sampled_from(WorkloadType))
    common: dict[str, Any] = {
        "generation": draw(st.integers(0, 1000)),
        "env": draw(st.dictionaries(names, words, max_size=3)),
        "resources": draw(resources),
        "restart": draw(st.sampled_from(Restart)),
        "priority": draw(st.integers(0, 1000)),
    }
    if kind is WorkloadType.CONTAINER:
        return WorkloadSpec(kind, **common, container=draw(containers))
    if kind is WorkloadType.DATA_PROCESSING:
        return WorkloadSpec(kind, **common, function=draw(functions))
    return WorkloadSpec(kind, **common, pipeline=draw(pipelines))


@given(specs())
@settings(max_examples=50)
def test_a_spec_survives_its_plain_form_and_core_edge_takes_it(spec: WorkloadSpec) -> None:
    assert parse_workload(plain(spec)) == spec
    assert mistake("workloads.w.spec", plain(spec), Owner.COORDINATOR) is None
    DECLARED.check(plain(spec))


@pytest.mark.parametrize("raw", [CONTAINER, PIPELINE, FUNCTION])
def test_a_type_may_be_written_in_either_case_and_is_kept_in_lower_case(raw: dict[str, Any]) -> None:
    shouted, whispered = ({**raw, "type": case(raw["type"])} for case in (str.upper, str.lower))
    assert parse_workload(shouted) == parse_workload(whispered)
    assert plain(parse_workload(shouted))["type"] == whispered["type"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], "must be a table"),
        ({"type": "batch"}, "type: 'batch' must be one of ai_inference"),
        ({"type": "container"}, "container: is missing"),
        ({**CONTAINER, "pipeline": {"camera": "door"}}, "pipeline: does not belong to a workload of type container"),
        ({**CONTAINER, "colour": "red"}, "colour: unknown key"),
        ({**CONTAINER, "restart": "sometimes"}, "restart: 'sometimes' must be one of always, on_failure, never"),
        ({**CONTAINER, "priority": 1001}, "priority: 1001 must be at most 1000"),
        ({**CONTAINER, "generation": -1}, "generation: -1 must be at least 0"),
        ({**CONTAINER, "env": {"A B": "1"}}, "env: 'A B' is no name of a variable"),
        ({**CONTAINER, "env": {"A": 1}}, "env.A: 1 must be a text"),
        ({**CONTAINER, "env": {f"A{i}": "" for i in range(101)}}, "env: 101 variables; at most 100"),
        ({**CONTAINER, "env": {"A": "x" * 20_000}}, "bytes in all; at most 16384"),
        (
            {"type": "data_processing", "function": {"name": "f", "arguments": {"a": [2**63]}}},
            "function.arguments: holds a whole number of more than 64 bits",
        ),
        (
            {"type": "ai_inference", "pipeline": {"camera": "door", "settings": {"x": math.nan}}},
            "pipeline.settings: holds nan, which is no JSON number",
        ),
        ({**CONTAINER, "resources": {"memory_mb": -1}}, "resources.memory_mb: -1.0 must be at least 0"),
        ({"type": "container", "container": {"image": "--privileged"}}, "must be the name of an image"),
        ({"type": "container", "container": {"image": "a", "privileged": True}}, "container.privileged: unknown key"),
        (
            {"type": "container", "container": {"image": "a", "ports": [{"host": 80, "container": 80}]}},
            'ports: need network = "bridge"; with none',
        ),
        (
            {"type": "container", "container": {"image": "a", "volumes": [{"host": "/a/../etc", "container": "/b"}]}},
            "container.volumes[0].host: '/a/../etc' must be a whole path",
        ),
        ({"type": "container", "container": {"image": "a", "network": "wan"}}, "must be one of none, bridge, host"),
        ({"type": "data_processing", "function": {"name": "a b"}}, "name: 'a b' must be the name of a function"),
        ({"type": "data_processing", "function": {"name": "a", "every_s": 0}}, "every_s: 0.0 must be at least 0.1"),
        ({"type": "ai_inference", "pipeline": {}}, "pipeline.camera: is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_place(raw: Any, said: str) -> None:
    with pytest.raises(ShapeError) as refused:
        parse_workload(raw)
    assert said in str(refused.value)
    assert "must be a workload:" in (mistake("workloads.w.spec", raw, Owner.COORDINATOR) or "")


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(ShapeError) as refused:
        parse_workload({"type": "container", "priority": -1, "restart": "x", "env": {"A": 1, "-": "\0"},
                        "container": {"image": "", "pids_max": 0, "ports": [1]}})  # fmt: skip
    assert len(refused.value.mistakes) == 7


def test_a_state_is_the_nodes_to_tell() -> None:
    report = WorkloadReport(WorkloadState.FAILED, 3, 5, "exit code 1", 1_700_000_000_000)
    assert parse_report(plain(report)) == parse_report({**plain(report), "later": 1}) == report
    assert mistake("workloads.w.state", plain(report), Owner.NODE) is None
    assert "belongs to the node" in (mistake("workloads.w.state", plain(report), Owner.COORDINATOR) or "")
    assert "must be the state" in (mistake("workloads.w.state", {"state": "gone"}, Owner.NODE) or "")
