"""What is served, and what a call may use: values only."""

import asyncio
import math
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from runtime.calls.errors import CallError, CallFailedError, CallRejectedError
from runtime.calls.served import Call, Nothing, Served, Table, arguments, plain
from runtime.errors import EdgewrightError
from schemas.messages import CallProgress
from schemas.shape import Limit


@dataclass(frozen=True, slots=True)
class Box:
    camera_id: str
    width: Annotated[int, Limit(ge=1, le=9)] = 3


async def run_nothing(given: Any) -> None:
    return None


def table() -> Table:
    named = [plain(name, Nothing, run_nothing, parallel=2) for name in ("snapshot", "startStream")]
    return Table(named, {"analyzeTrafficFlow": "no function is bound to it", "snapshot": "not so"})


def test_what_is_announced_is_what_is_served() -> None:
    assert table().names == ["cancel", "snapshot", "startStream"]
    assert table().get("snapshot").name == "snapshot"
    assert (table().limit("snapshot"), table().limit("nobody")) == (2, 0)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        (
            "analyzeTrafficFlow",
            "not_bound",
            "is declared and not served here: no function is bound",
        ),
        ("snapshots", "unknown_function", "did you mean snapshot?"),
        ("startstream", "unknown_function", "did you mean startStream?"),
        ("zzz", "unknown_function", "no function 'zzz' here; There are: cancel, snapshot, startStream"),
    ],
)
def test_what_is_not_served_is_told_apart(name: str, code: str, said: str) -> None:
    with pytest.raises(CallRejectedError) as refused:
        table().get(name)
    assert refused.value.code == code
    assert said in str(refused.value)


@pytest.mark.parametrize("names", [("a", "a"), ("cancel",)])
def test_a_name_twice_is_a_defect(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="served twice"):
        Table([plain(name, Nothing, run_nothing) for name in names])


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({}, "camera_id"),
        ({"camera_id": 5}, "camera_id"),
        ({"camera_id": "c", "width": 10}, "width"),
        ({"camera_id": "c", "widht": 1}, "widht"),
    ],
)
def test_arguments_at_fault_are_named(raw: dict[str, Any], field: str) -> None:
    with pytest.raises(CallRejectedError) as refused:
        arguments(Box)(raw)
    assert (refused.value.code, refused.value.field) == ("bad_arguments", field)


def test_a_plain_function_gets_its_arguments() -> None:
    async def area(box: Box) -> int:
        return box.width * 2

    served = plain("area", Box, area, timeout_s=7.0)
    assert (served.timeout_s, served.parallel, served.encode(5)) == (7.0, 0, 5)
    assert asyncio.run(served.run(Call(), served.parse({"camera_id": "c", "width": 4}))) == 8  # type: ignore[arg-type]


def test_a_call_made_of_nothing_has_all_the_time() -> None:
    call = Call()
    call.progress(0.5, "to nobody")
    assert (call.id, call.caller, call.deadline_s, call.is_over) == ("", "", math.inf, False)


def test_a_call_counts_down_by_the_clock_it_is_given() -> None:
    now = [10.0]
    call = Call("7", "f", "me", ends_s=12.5, now_s=lambda: now[0])
    assert call.deadline_s == 2.5
    now[0] = 13.0
    # Only who cut it off says that it is over: then what it gives up is not taken for an answer.
    assert (call.deadline_s, call.is_over) == (0.0, False)


@pytest.mark.parametrize(
    ("share", "said"), [(None, None), (0.4, 0.4), (1.5, 1.0), (-1, 0.0), (math.nan, None), (math.inf, None)]
)
def test_progress_is_made_to_fit_the_wire(share: float | None, said: float | None) -> None:
    told: list[CallProgress] = []
    Call(report=told.append).progress(share, "x" * 1000)
    assert told == [CallProgress(said, "x" * 500)]


def test_errors_carry_what_a_caller_needs() -> None:
    rejected = CallRejectedError("stale", "revision 3 is now", "if_revision", {"revision": 3})
    assert (rejected.code, str(rejected), rejected.field) == ("stale", "revision 3 is now", "if_revision")
    assert rejected.value == {"revision": 3}
    failed = CallFailedError("no_frame", "none yet", value=[1])
    assert (failed.code, failed.value) == ("no_frame", [1])
    assert isinstance(failed, CallError)
    assert issubclass(CallError, EdgewrightError)


def test_served_is_a_value() -> None:
    one = Served("f", arguments(Nothing), lambda call, given: run_nothing(given))
    with pytest.raises(AttributeError):
        one.name = "g"  # type: ignore[misc]
