"""Progress, cancel, deadline and limits of a dispatcher with a real journal; the connection is a list."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from runtime.calls import running
from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.calls.running import Spaced
from runtime.calls.served import Call, Nothing, Served, arguments, plain
from runtime.calls.threads import in_thread
from runtime.sqlite import StorageError
from schemas.messages import CallProgress, CommandState, Result
from tests.calls.desk import MINE, Desk, Gate, code, play, until

Run = Callable[[Call, Any], Any]


def served(run: Run, **more: Any) -> Served:
    return Served("work", arguments(Nothing), run, **more)


def gated(gate: Gate, **more: Any) -> Served:
    return plain("work", Nothing, gate.run, **more)


# ---- progress ----------------------------------------------------------------------------------


def test_progress_goes_where_the_answer_goes_and_is_never_the_answer(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def work(call: Call, given: Nothing) -> str:
        call.progress(0.4, "2 of 5")
        await go.wait()
        return call.caller

    async def scene() -> None:
        desk = Desk(tmp_path, [served(work)])
        desk.send("work", {"_id": "a"}, response_topic=MINE, correlation=b"c")
        await until(lambda: len(desk.published) == 2)
        for topic in ("edge/v1/gw-1/result/work", MINE):
            (told,) = desk.on(topic)
            assert (told.id, told.state, told.progress) == ("a", CommandState.RUNNING, CallProgress(0.4, "2 of 5"))
            assert (told.result, told.error) == (None, None)
        assert {(message.qos, message.correlation) for message in desk.published} == {(0, b"c")}
        (known,) = await asyncio.wrap_future(desk.state.journal.unfinished())
        assert (known.state, known.result) == (CommandState.RUNNING, None)
        go.set()
        answer = await desk.answered("a")
        assert (answer.state, answer.result, answer.progress) == (CommandState.SUCCEEDED, "work/me", None)
        assert b"progress" not in desk.published[-1].payload
        assert {message.qos for message in desk.published[2:]} == {1}
        await desk.end()

    play(scene)


def test_the_newest_progress_wins_and_little_of_it_goes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PROGRESS_EVERY_S", 0.2)
    second = threading.Event()

    def work(call: Call, given: Nothing) -> int:
        for n in range(5000):
            call.progress(n / 5000)
        assert second.wait(20)
        for n in range(5000):
            call.progress(n / 5000, "again")
        return 1

    async def scene() -> None:
        desk = Desk(tmp_path, [served(in_thread(work))])
        desk.send("work", {"_id": "a"})
        newest = CallProgress(4999 / 5000)
        await until(lambda: any(result.progress == newest for result in desk.on("edge/v1/gw-1/result/work")))
        assert len(desk.published) < 100
        second.set()
        await desk.answered("a")
        count = len(desk.published)
        await asyncio.sleep(0.3)
        assert len(desk.published) == count  # what still waited is not said after the answer
        await desk.end()

    play(scene)


def test_progress_keeps_its_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        loop, told = asyncio.get_running_loop(), list[tuple[float, float | None]]()
        spaced = Spaced(lambda progress: told.append((loop.time(), progress.share)))
        while len(told) < 4:
            spaced.put(CallProgress(len(told) / 4))
            await asyncio.sleep(0.002)
        spaced.close()
        times = [at for at, _ in told]
        assert min(b - a for a, b in itertools.pairwise(times)) >= 0.05
        assert [share for _, share in told] == [0.0, 0.25, 0.5, 0.75]

    monkeypatch.setattr(running, "PROGRESS_EVERY_S", 0.05)
    play(scene)


# ---- cancel --------------------------------------------------------------------------------------


def test_a_running_call_is_cancelled_once_and_says_so(tmp_path: Path) -> None:
    async def scene() -> None:
        gate = Gate()
        desk = Desk(tmp_path, [gated(gate)])
        desk.send("work", {"_id": "a"})
        await until(lambda: gate.begun)
        assert (await desk.ask("cancel", {"id": "a"})).result == {"cancelled": True}
        assert code(await desk.answered("a")) == (CommandState.CANCELLED, "cancelled")
        assert gate.ended == {"cancelled": 1}
        late = (await desk.ask("cancel", {"id": "a"})).result
        assert (late["cancelled"], "ended already: cancelled" in late["why"]) == (False, True)
        desk.send("work", {"_id": "a"})
        await until(lambda: len([result for result in desk.answers if result.id == "a"]) == 2)
        assert gate.begun == 1
        await desk.end()

    play(scene)


@pytest.mark.parametrize(
    ("payload", "state", "said"),
    [
        ({"id": "never"}, CommandState.SUCCEEDED, "no call with this id came to gw-1"),
        ({"id": "done"}, CommandState.SUCCEEDED, "this work has ended already: succeeded"),
        ({}, CommandState.REJECTED, ""),
        ({"id": ""}, CommandState.REJECTED, ""),
    ],
)
def test_what_does_not_run_cannot_be_cancelled(
    tmp_path: Path, payload: dict[str, Any], state: CommandState, said: str
) -> None:
    async def scene() -> None:
        gate = Gate()
        gate.open.set()
        desk = Desk(tmp_path, [gated(gate)])
        await desk.ask("work", {"_id": "done"})
        result = await desk.ask("cancel", payload)
        assert result.state is state
        if said:
            assert result.result["cancelled"] is False
            assert said in result.result["why"]
        await desk.end()

    play(scene)


def test_a_call_that_waits_for_the_journal_can_be_cancelled_before_it_begins(tmp_path: Path) -> None:
    async def scene() -> None:
        gate = Gate()
        desk = Desk(tmp_path, [gated(gate)])
        accept = desk.state.journal.accept
        held: Future[Any] = Future()

        def hold(*args: Any, **more: Any) -> Any:
            accept(*args, **more).add_done_callback(lambda future: None)
            return held

        desk.state.journal.accept = hold  # type: ignore[method-assign]
        desk.send("work", {"_id": "a"})
        desk.send("cancel", {"id": "a"})
        await asyncio.sleep(0.05)
        assert desk.published == []
        held.set_result(None)
        assert code(await desk.answered("a")) == (CommandState.CANCELLED, "cancelled")
        await until(lambda: desk.on("edge/v1/gw-1/result/cancel"))
        assert desk.on("edge/v1/gw-1/result/cancel")[0].result == {"cancelled": True}
        assert gate.begun == 0
        await desk.end()

    play(scene)


def test_a_repetition_of_an_ended_call_cannot_be_cancelled(tmp_path: Path) -> None:
    async def scene() -> None:
        gate = Gate()
        gate.open.set()
        desk = Desk(tmp_path, [gated(gate)])
        await desk.ask("work", {"_id": "a"})
        desk.send("work", {"_id": "a"})
        desk.send("cancel", {"id": "a"})  # arrives while the journal looks
        await until(lambda: desk.on("edge/v1/gw-1/result/cancel"))
        assert desk.on("edge/v1/gw-1/result/cancel")[0].result["cancelled"] is False
        assert {result.state for result in desk.answers} == {CommandState.SUCCEEDED}
        await desk.end()

    play(scene)


def test_cancel_is_let_in_where_everything_is_taken(tmp_path: Path) -> None:
    async def scene() -> None:
        gate = Gate()
        desk = Desk(tmp_path, [gated(gate)], parallel_max=3)
        for n in range(3):
            desk.send("work", {"_id": f"w-{n}"})
        await until(lambda: gate.begun == 3)
        assert code(await desk.ask("work", {})) == (CommandState.REJECTED, "busy")
        assert (await desk.ask("cancel", {"id": "w-1"})).result == {"cancelled": True}
        await desk.answered("w-1")
        desk.send("work", {"_id": "next"})
        await until(lambda: gate.begun == 4)
        await desk.end()

    play(scene)


def test_one_that_does_not_let_itself_be_ended_is_answered_for_and_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "GRACE_S", 0.05)
    go = asyncio.Event()

    async def stubborn(call: Call, given: Nothing) -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                assert call.is_over

    async def scene() -> None:
        desk = Desk(tmp_path, [served(stubborn, parallel=1)])
        desk.send("work", {"_id": "a"})
        await until(lambda: desk.dispatcher._by_id and next(iter(desk.dispatcher._places)).task)
        await desk.ask("cancel", {"id": "a"})
        answer = await desk.answered("a")
        assert code(answer) == (CommandState.CANCELLED, "cancelled")
        assert answer.error is not None and "may go on" in answer.error.message
        assert code(await desk.ask("work", {})) == (CommandState.REJECTED, "busy")
        go.set()
        await until(lambda: not desk.dispatcher._places)
        assert code(await desk.ask("work", {}))[0] is CommandState.SUCCEEDED
        await desk.end()

    play(scene)


# ---- deadline ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout_s", "deadline_s", "expected"),
    [(30.0, 0.3, "deadline"), (0.05, 30.0, "timeout"), (0.05, None, "timeout"), (30.0, 0.0, "deadline")],
)
def test_the_smaller_of_deadline_and_timeout_ends_a_call(
    tmp_path: Path, timeout_s: float, deadline_s: float | None, expected: str
) -> None:
    async def scene() -> None:
        gate = Gate()
        desk = Desk(tmp_path, [gated(gate, timeout_s=timeout_s)])
        answer = await desk.ask("work", {} if deadline_s is None else {"_deadline_s": deadline_s})
        assert code(answer) == (CommandState.FAILED, expected)
        assert gate.ended["cancelled"] == gate.begun <= (0 if deadline_s == 0 else 1)
        await desk.end()

    play(scene)


def test_a_function_sees_how_much_time_is_left(tmp_path: Path) -> None:
    async def scene() -> None:
        seen: list[float] = []

        async def work(call: Call, given: Nothing) -> None:
            seen.append(call.deadline_s)

        desk = Desk(tmp_path, [served(work, timeout_s=100.0)])
        await desk.ask("work", {})
        await desk.ask("work", {"_deadline_s": 50})
        assert 60 < seen[0] <= 100
        assert 20 < seen[1] <= 50
        await desk.end()

    play(scene)


def test_a_thread_is_answered_for_at_its_deadline_and_sees_that_it_is_over(tmp_path: Path) -> None:
    ended = threading.Event()

    def work(call: Call, given: Nothing) -> None:
        while not call.is_over:
            time.sleep(0.005)
        ended.set()

    async def scene() -> None:
        desk = Desk(tmp_path, [served(in_thread(work))])
        assert code(await desk.ask("work", {"_deadline_s": 1.0})) == (CommandState.FAILED, "deadline")
        assert await asyncio.to_thread(ended.wait, 20)
        ended.clear()
        desk.send("work", {"_id": "c"})
        await until(lambda: any(thread.name == "call[work]" for thread in threading.enumerate()))
        await desk.ask("cancel", {"id": "c"})
        assert code(await desk.answered("c")) == (CommandState.CANCELLED, "cancelled")
        assert await asyncio.to_thread(ended.wait, 20)
        await desk.end()

    play(scene)


def test_threads_that_nobody_waits_for_are_counted(tmp_path: Path) -> None:
    go = threading.Event()

    def work(call: Call, given: Nothing) -> bool:
        return go.wait(20)

    async def scene() -> None:
        desk = Desk(tmp_path, [served(in_thread(work, threads_max=2))])
        for _ in range(2):
            assert code(await desk.ask("work", {"_deadline_s": 1.0})) == (CommandState.FAILED, "deadline")
        assert code(await desk.ask("work", {})) == (CommandState.REJECTED, "busy")
        go.set()
        await until(lambda: not any(thread.name == "call[work]" for thread in threading.enumerate()))
        assert (await desk.ask("work", {})).result is True
        await desk.end()

    play(scene)


@pytest.mark.parametrize("error", [StopIteration("none left"), ZeroDivisionError("a defect"), SystemExit(3)])
def test_what_a_thread_raises_is_its_answer(tmp_path: Path, error: BaseException) -> None:
    def work(call: Call, given: Nothing) -> None:
        raise error

    async def scene() -> None:
        desk = Desk(tmp_path, [served(in_thread(work))])
        assert code(await desk.ask("work", {})) == (CommandState.FAILED, "defect")
        await desk.end()

    play(scene)


# ---- limits --------------------------------------------------------------------------------------


def test_a_function_runs_as_often_as_it_allows_and_a_repetition_needs_no_place(tmp_path: Path) -> None:
    async def scene() -> None:
        gate, other = Gate(), Gate()
        desk = Desk(tmp_path, [gated(gate, parallel=2), plain("other", Nothing, other.run)])
        for n in range(2):
            desk.send("work", {"_id": f"w-{n}"})
        busy = await desk.ask("work", {"_id": "w-2"})
        assert code(busy) == (CommandState.REJECTED, "busy")
        assert busy.error is not None and "work runs 2 at a time" in busy.error.message
        desk.send("other", {"_id": "o"})
        await until(lambda: gate.begun == 2 and other.begun == 1)
        acknowledged = len(desk.acknowledged)
        desk.send("work", {"_id": "w-0"})  # it runs: its one answer is on the way
        await until(lambda: len(desk.acknowledged) > acknowledged)
        assert desk.answer("w-0") is None
        gate.open.set()
        assert {(await desk.answered(f"w-{n}")).state for n in range(2)} == {CommandState.SUCCEEDED}
        gate.open.clear()
        for n in (3, 4):
            desk.send("work", {"_id": f"w-{n}"})
        await until(lambda: gate.begun == 4)
        desk.send("work", {"_id": "w-1"})  # answered from the journal, while every place is taken
        await until(lambda: len([result for result in desk.answers if result.id == "w-1"]) == 2)
        assert {result.state for result in desk.answers if result.id == "w-1"} == {CommandState.SUCCEEDED}
        desk.published.clear()  # what was refused for want of a place was not remembered
        gate.open.set()
        await desk.answered("w-3")
        await desk.answered("w-4")
        assert code(await desk.ask("work", {"_id": "w-2"}))[0] is CommandState.SUCCEEDED
        assert desk.dispatcher.refused_total == 1
        await desk.end()

    play(scene)


# ---- answers -------------------------------------------------------------------------------------


async def _stale(call: Call, given: Nothing) -> None:
    raise CallRejectedError("stale", "revision 3 is now", "if_revision", {"revision": 3})


async def _half(call: Call, given: Nothing) -> None:
    raise CallFailedError("half", "only half of it", {"done": 5})


async def _word(call: Call, given: Nothing) -> str:
    return "a word"


async def _itself(call: Call, given: Nothing) -> None:
    raise asyncio.CancelledError


def _doubled(value: Any) -> Any:
    return [value, value]


def _refused(value: Any) -> Any:
    raise CallFailedError("bad_result", f"{value!r} is not what was declared")


@pytest.mark.parametrize(
    ("one", "state", "said", "value"),
    [
        (served(_stale), CommandState.REJECTED, ("stale", "if_revision"), {"revision": 3}),
        (served(_half), CommandState.FAILED, ("half", ""), {"done": 5}),
        (served(_word, encode=_doubled), CommandState.SUCCEEDED, None, ["a word", "a word"]),
        (served(_word, encode=_refused), CommandState.FAILED, ("bad_result", ""), None),
        (served(_itself), CommandState.FAILED, ("defect", ""), None),
    ],
)
def test_how_a_call_ends_is_what_is_answered(
    tmp_path: Path, one: Served, state: CommandState, said: tuple[str, str] | None, value: Any
) -> None:
    async def scene() -> None:
        desk = Desk(tmp_path, [one])
        answer = await desk.ask("work", {})
        assert (answer.state, answer.result) == (state, value)
        assert (None if answer.error is None else (answer.error.code, answer.error.field)) == said
        await desk.end()

    play(scene)


def test_a_declared_function_that_nobody_serves_has_an_answer_of_its_own(tmp_path: Path) -> None:
    async def scene() -> None:
        desk = Desk(tmp_path, [served(_word)], unbound={"analyse": "it is placed in the coordinator"})
        answer = await desk.ask("analyse", {})
        assert code(answer) == (CommandState.REJECTED, "not_bound")
        assert answer.error is not None and "placed in the coordinator" in answer.error.message
        assert desk.dispatcher.names == ["cancel", "work"]
        await desk.end()

    play(scene)


def test_one_that_stops_takes_nothing_and_says_so(tmp_path: Path) -> None:
    async def scene() -> None:
        gate = Gate()
        desk = Desk(tmp_path, [gated(gate)])
        await desk.dispatcher.stop()
        assert code(await desk.ask("work", {"_id": "a"})) == (CommandState.REJECTED, "stopping")
        assert await asyncio.wrap_future(desk.state.journal.find("a")) is None
        await desk.end()

    play(scene)


def test_an_answer_that_the_journal_did_not_take_is_the_answer_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> "Future[None]":
        raise StorageError("disk full")

    async def scene() -> None:
        gate = Gate()
        gate.open.set()
        desk = Desk(tmp_path, [gated(gate)])
        with monkeypatch.context() as patch:
            patch.setattr(desk.state.journal, "finish", full)
            first = await desk.ask("work", {"_id": "a"})
        desk.send("work", {"_id": "a"})
        await until(lambda: len(desk.answers) == 2)
        assert desk.answers == [first, first]
        known = await asyncio.wrap_future(desk.state.journal.find("a"))
        assert known is not None and known.state is CommandState.SUCCEEDED
        await desk.end()

    play(scene)


def test_only_an_earlier_start_is_said_to_be_interrupted_also_when_an_id_comes_back(tmp_path: Path) -> None:
    async def first() -> None:
        desk = Desk(tmp_path, [gated(Gate())])
        desk.send("work", {"_id": "a"})
        await until(lambda: desk.dispatcher._by_id)
        await until(lambda: desk.acknowledged)
        await desk.end()

    async def second() -> None:
        gate = Gate()
        desk = Desk(tmp_path, [gated(gate)])
        desk.send("work", {"_id": "a"})  # before the link said that it is connected
        assert code(await desk.answered("a")) == (CommandState.FAILED, "interrupted")

        def forget(db: Any) -> None:
            db.execute("DELETE FROM commands")

        await asyncio.wrap_future(desk.state.journal._writer.submit(forget))
        desk.published.clear()
        desk.send("work", {"_id": "a"})
        await until(lambda: gate.begun)
        desk.send("work", {"_id": "a"})
        await until(lambda: len(desk.acknowledged) == 3)
        assert desk.published == []
        gate.open.set()
        answer: Result = await desk.answered("a")
        assert answer.state is CommandState.SUCCEEDED
        await desk.end()

    play(first)
    play(second)


def test_a_call_that_has_ended_is_not_cancelled_while_its_answer_is_journalled(tmp_path: Path) -> None:
    async def scene() -> None:
        gate = Gate()
        gate.open.set()
        desk = Desk(tmp_path, [gated(gate)])
        finish, held = desk.state.journal.finish, Future[None]()
        desk.state.journal.finish = lambda *args: held  # type: ignore[method-assign]
        desk.send("work", {"_id": "a"})
        await until(lambda: gate.ended)
        desk.send("cancel", {"id": "a"})
        await until(lambda: desk.on("edge/v1/gw-1/result/cancel"))
        assert desk.on("edge/v1/gw-1/result/cancel")[0].result["cancelled"] is False
        desk.state.journal.finish = finish  # type: ignore[method-assign]
        held.set_result(None)
        assert (await desk.answered("a")).state is CommandState.SUCCEEDED
        await desk.end()

    play(scene)
