"""Which variant a node gets, and the reasons against the others."""

import pytest

from coordinator.fleet.facts import Fact, facts_of_birth
from coordinator.models.choosing import choose, who_can
from schemas.bundles import Requires, Target
from schemas.messages import Birth
from tests.models.making import release

ALL = (Target.CPU, Target.GPU, Target.NPU, Target.EDGETPU)
PI: dict[str, Fact] = {"hardware.arch": "aarch64", "resources.memory_mb": 4096.0, "resources.cores": 4.0}


@pytest.mark.parametrize(
    ("targets", "facts", "gets"),
    [
        (ALL, {}, Target.CPU),
        (ALL, {"hardware.accelerators": ("edgetpu-pcie", "gpu")}, Target.EDGETPU),
        (ALL, {"hardware.accelerators": ("nvidia",)}, Target.GPU),
        (ALL, {"resources.gpu": 1.0}, Target.GPU),
        (ALL, {"resources.gpu": 0.0}, Target.CPU),
        (ALL, {"resources.npu": 1.0, "resources.gpu": 2.0}, Target.NPU),
        ((Target.EDGETPU,), {"hardware.accelerators": ("gpu",)}, None),
        ((Target.GPU,), {}, None),
    ],
)
def test_the_best_variant_that_the_node_can_run(
    targets: tuple[Target, ...], facts: dict[str, Fact], gets: Target | None
) -> None:
    choice = choose(release(*targets), facts)
    assert (choice.variant and choice.variant.target) is gets


@pytest.mark.parametrize(
    ("requires", "facts", "said"),
    [
        (Requires(arch=("arm64",)), PI, ""),
        (Requires(arch=("x86_64", "arm64")), PI, ""),
        (Requires(arch=("amd64",)), {"hardware.arch": "x86_64"}, ""),
        (Requires(arch=("x86_64",)), PI, "cpu: it is for x86_64, and the node is aarch64"),
        (Requires(arch=("x86_64",)), {}, "cpu: it is for x86_64, and the node does not say what it is"),
        (Requires(memory_mb=4096), PI, ""),
        (Requires(memory_mb=4097), PI, "cpu: it needs 4097 MB of memory, and the node has 4096"),
        (Requires(cores=2), {}, "cpu: it needs 2 cores, and the node does not say how many it has"),
        (
            Requires(arch=("x86_64",), cores=8),
            PI,
            "cpu: it is for x86_64, and the node is aarch64, it needs 8 cores, and the node has 4",
        ),
    ],
)
def test_requirements_are_met_or_said(requires: Requires, facts: dict[str, Fact], said: str) -> None:
    choice = choose(release(requires=requires), facts)
    assert choice.why_not == said
    assert (choice.variant is None) is bool(said)


def test_the_facts_of_a_birth_decide() -> None:
    birth = Birth(hardware={"arch": "x86_64", "accelerators": ["edgetpu-pcie"]}, resources={"memory_mb": 8000})
    choice = choose(release(*ALL), facts_of_birth(birth))
    assert choice.variant is not None
    assert choice.variant.target is Target.EDGETPU
    assert [one.why_not for one in choice.verdicts] == [
        (), ("the node has no npu",), ("the node has no gpu",), (),
    ]  # fmt: skip


def test_nodes_are_counted_by_what_they_get_and_why_not() -> None:
    one = release(Target.EDGETPU, Target.CPU, requires=Requires(memory_mb=1000))
    nodes: list[dict[str, Fact]] = [
        {"resources.memory_mb": 2000.0},
        {"resources.memory_mb": 2000.0, "hardware.accelerators": ("edgetpu-usb",)},
        {"resources.memory_mb": 500.0},
        {"resources.memory_mb": 500.0},
    ]
    runs, reasons = who_can(one, nodes)
    assert runs == {"cpu": 1, "edgetpu": 1}
    ((reason, count),) = reasons.items()
    assert count == 2
    assert "needs 1000 MB of memory, and the node has 500" in reason
