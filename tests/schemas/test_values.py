"""Instances that are made quickly are instances like any other."""

from copy import copy, deepcopy
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from coordinator.fleet.node import Node, NodeState, changed
from runtime.mqtt import Delivery
from schemas.identity import Identity
from schemas.messages import Heartbeat
from schemas.values import quick_maker


@dataclass(frozen=True, slots=True)
class Checked:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("it must count")


@dataclass(frozen=True)
class WithoutSlots:
    number: int


@dataclass(frozen=True, slots=True)
class Derived(Identity):
    more: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    number: int
    double: int = field(init=False, default=2)


@pytest.mark.parametrize(
    "value", [Identity("a", "b", "c", 4), Heartbeat(seq=3), Delivery("t", b"p", 1, False, 2), Node("x")]
)
def test_they_cannot_be_told_apart(value: object) -> None:
    cls = type(value)
    made = quick_maker(cls)(*(getattr(value, one.name) for one in fields(value)))  # type: ignore[arg-type]
    assert made == value and type(made) is cls and repr(made) == repr(value)
    assert copy(made) == value and deepcopy(made) == value
    name = fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        setattr(made, name, 1)
    assert replace(made, **{name: 7}) == replace(value, **{name: 7})  # type: ignore[type-var]


@pytest.mark.parametrize("cls", [Checked, WithoutSlots, Derived, Made, int])
def test_a_class_with_more_to_it_is_made_as_ever(cls: type) -> None:
    assert quick_maker(cls) is cls


def test_a_hash_stays_what_it_is() -> None:
    assert {quick_maker(Identity)("a", "b", "c", 4): 1}[Identity("a", "b", "c", 4)] == 1


def test_a_changed_node_is_another() -> None:
    node = Node("a")
    after = changed(node, boot=3, state=NodeState.ONLINE)
    assert after == replace(node, boot=3, state=NodeState.ONLINE) and node == Node("a")
    with pytest.raises(KeyError):
        changed(node, color="red")
