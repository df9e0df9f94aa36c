import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.capture.slot import Keep, Slot, Slots
from tests.capture.helpers import wait_until


class NewestModel(RuleBasedStateMachine):
    """Slots of live cameras against a plain model: a dict of what waits, and the counts."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: Slots[int] = Slots()
        self.cameras: dict[str, Slot[int]] = {}
        self.waiting: dict[str, int] = {}
        self.passed_over: dict[str, int] = {}  # turns given to others while this one waited
        self.serial = 0

    @rule(name=st.sampled_from("abcd"))
    def add(self, name: str) -> None:
        if name in self.cameras:
            with pytest.raises(ValueError, match="already"):
                self.slots.add(name)
        else:
            self.cameras[name] = self.slots.add(name, Keep.NEWEST)

    @rule(name=st.sampled_from("abcd"))
    def remove(self, name: str) -> None:
        self.slots.remove(name)
        slot = self.cameras.pop(name, None)
        self.waiting.pop(name, None)
        self.passed_over.pop(name, None)
        if slot is not None:
            assert not slot.put(0)

    @precondition(lambda self: self.cameras)
    @rule(data=st.data())
    def put(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.cameras)))
        self.serial += 1
        assert self.cameras[name].put(self.serial)
        self.waiting[name] = self.serial
        self.passed_over.setdefault(name, 0)

    @rule()
    def take(self) -> None:
        got = self.slots.take(timeout_s=0)
        if not self.waiting:
            assert got is None
            return
        assert got is not None
        name, item = got
        assert self.waiting.pop(name) == item  # the newest one
        del self.passed_over[name]
        for other in self.passed_over:
            self.passed_over[other] += 1
            assert self.passed_over[other] < 4, "a waiting camera was passed over by more than one round"

    @invariant()
    def accounts_balance(self) -> None:
        for name, slot in self.cameras.items():
            assert slot.offered == slot.replaced + slot.taken + (name in self.waiting)
            assert slot.waiting == (name in self.waiting)


NewestModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestNewest = NewestModel.TestCase


def test_every_item_arrives_in_order_from_several_threads() -> None:
    slots: Slots[int] = Slots()
    producers = []
    for name in ("a", "b", "c"):
        slot = slots.add(name, Keep.EVERY)
        producers.append(threading.Thread(target=lambda slot=slot: [slot.put(n) for n in range(200)], name=name))
    for producer in producers:
        producer.start()
    got: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for _ in range(600):
        taken = slots.take(timeout_s=30)
        assert taken is not None
        got[taken[0]].append(taken[1])
    for producer in producers:
        producer.join(30)
    assert all(items == list(range(200)) for items in got.values())
    assert slots.take(timeout_s=0) is None


def test_a_waiting_take_is_woken_by_a_put() -> None:
    slots: Slots[str] = Slots()
    slot = slots.add("cam")
    got: list[tuple[str, str] | None] = []
    taker = threading.Thread(target=lambda: got.append(slots.take()))
    taker.start()
    slot.put("picture")
    taker.join(30)
    assert got == [("cam", "picture")]


def test_close_wakes_the_taker() -> None:
    slots: Slots[str] = Slots()
    got: list[object] = []
    taker = threading.Thread(target=lambda: got.append(slots.take()))
    taker.start()
    slots.close()
    taker.join(30)
    assert got == [None]
    with pytest.raises(ValueError, match="closed"):
        slots.add("late")


@pytest.mark.parametrize("end", ["close", "remove", "stopped"])
def test_a_blocked_put_is_released(end: str) -> None:
    slots: Slots[int] = Slots()
    slot = slots.add("cam", Keep.EVERY)
    assert slot.put(1)
    stopped = threading.Event()
    kept: list[bool] = []
    putter = threading.Thread(target=lambda: kept.append(slot.put(2, stopped.is_set)))
    putter.start()
    if end == "close":
        slots.close()
    elif end == "remove":
        slots.remove("cam")
    else:
        stopped.set()
        slot.wake()
    wait_until(lambda: kept)
    putter.join(30)
    assert kept == [False]
    assert slot.offered == 1
