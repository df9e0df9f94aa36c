"""What a platform listens to: marks, their check, and a node's queues."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from platforms.binding import check_listeners
from platforms.context import Context, KeptResult
from platforms.finding import Finder
from platforms.functions import Listener, On, every, on_events, on_samples, rule_kind, stage
from platforms.listening import QUEUE_MAX, Listening, MakeContext
from platforms.loading import load_platform
from platforms.platform import Platform
from platforms.samples import SampleWindow
from platforms.testing import FakeHost, load_folder
from schemas.language.schema import Placement

SCHEMA = """
edge_computing Acme @version("1.0.0") {
  platform_name: "Acme"
  edge_node_types: [Gateway]
  functions: [heardSoFar(): Integer @edge]
  events: [Told(count: Integer) @source(node)]
}
"""
FUNCTIONS = """
from platforms.functions import at_start, every, function, on_events, on_samples, rule_kind

@at_start
async def begin(context):
    context.memory["heard"] = []

@on_events("LineCrossed")
async def heard(context, event):
    context.memory["heard"].append(event.subject)
    await context.emit("Told", {"count": len(context.memory["heard"])}, routine=True)

@on_samples
def measured(context, window):
    context.memory["heard"].append(window.sensor)

@every(5)
async def look(context):
    context.memory["heard"].append("time")

class Nobody:
    def matches(self, scene):
        return []

@rule_kind("nobody")
def nobody(settings, labels):
    return Nobody()

@function("heardSoFar")
async def heard_so_far(context):
    return len(context.memory["heard"])
"""


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    folder = tmp_path_factory.mktemp("platforms") / "acme_listens"
    folder.mkdir()
    (folder / "acme_listens.edge").write_text(SCHEMA.replace("Acme", "Acme_Listens"))
    (folder / "functions.py").write_text(FUNCTIONS)
    return load_folder(folder)


def crossed(subject: str, type_: str = "LineCrossed") -> KeptResult:
    return KeptResult("gw-1", "cam1", type_, subject, 0, {})


def window(sensor: str) -> SampleWindow:
    return SampleWindow(sensor, 1, "", 1.0, {"value": np.zeros(2)}, 0.0, 0)


def test_a_users_own_platform_listens_and_remembers(acme: Platform) -> None:
    host = FakeHost(acme)
    host.start()
    host.heard(crossed("gate"))
    host.heard(crossed("x", "ObjectSeen"))
    host.measured(window("vib1"))
    host.look()
    assert host.context().memory["heard"] == ["gate", "vib1", "time"]
    assert host.call("heardSoFar") == 3
    assert [one.data for one in host.emitted] == [{"count": 1}]
    assert host.condition("nobody", {}).matches(None) == []  # type: ignore[arg-type]


def test_a_node_calls_them_after_its_start_and_one_after_the_other(acme: Platform) -> None:
    host = FakeHost(acme)

    async def run() -> Listening:
        listening = Listening([acme], lambda platform, call: host.context())
        tasks = [asyncio.create_task(task()) for _, task in listening.tasks()]
        listening.heard(crossed("a"))
        await asyncio.sleep(0.01)
        assert "heard" not in host.context().memory
        host.context().memory["heard"] = []
        measured = asyncio.create_task(listening.measured(window("vib1")))
        listening.started()
        await measured
        async with asyncio.timeout(20):
            while set(host.context().memory["heard"]) != {"a", "vib1", "time"}:
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return listening

    report = asyncio.run(run()).report()
    assert {name: figures["calls"] for name, figures in report.items()} == {
        "acme_listens.heard": 1,
        "acme_listens.look": 1,
        "acme_listens.measured": 1,
    }


def test_too_many_events_lose_the_oldest_and_are_counted(acme: Platform) -> None:
    async def run() -> Listening:
        listening = Listening([acme], lambda platform, call: FakeHost(acme).context())
        assert listening.wants("LineCrossed") and not listening.wants("ObjectSeen")
        for n in range(QUEUE_MAX + 3):
            listening.heard(crossed(str(n)))
        return listening

    figures = asyncio.run(run()).report()["acme_listens.heard"]
    assert (figures["waiting"], figures["dropped"]) == (QUEUE_MAX, 3)


def test_a_call_that_fails_is_the_tasks_failure_and_the_next_event_is_the_next(acme: Platform) -> None:
    """As a supervisor sees it: the task ends, is started again, and goes on behind the event that failed."""
    calls: list[str] = []

    async def heard(context: Context, event: KeptResult) -> None:
        calls.append(event.subject)
        if event.subject == "bad":
            raise ValueError("bad")

    mark = Listener(On.EVENTS, heard, types=("LineCrossed",))
    platform = Platform(acme.name, acme.schema, {}, [], acme.origin, (), [mark])

    async def run() -> None:
        listening = Listening([platform], lambda one, call: FakeHost(acme).context())
        listening.started()
        for subject in ("bad", "good"):
            listening.heard(crossed(subject))
        ((_, task),) = listening.tasks()
        with pytest.raises(ValueError, match="bad"):
            await task()
        again = asyncio.create_task(task())
        async with asyncio.timeout(20):
            while calls != ["bad", "good"]:
                await asyncio.sleep(0.01)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)

    asyncio.run(run())


@on_events()
async def of_nothing(context: Context, event: KeptResult) -> None: ...


@on_events("LineCrossed")
def not_async(context: Context, event: KeptResult) -> None: ...


@every(0.0)
async def too_often(context: Context) -> None: ...


@on_samples
def no_window(context: Context) -> None: ...


@rule_kind("no name")
def badly_named(settings: Mapping[str, Any], labels: Sequence[str]) -> None: ...


@on_samples(at="cloud")
def samples_far_away(context: Context, window: SampleWindow) -> None: ...


@every(1.0, at="clod")
async def nowhere(context: Context) -> None: ...


@stage("buns")
def of_too_much(settings: Mapping[str, Any], labels: Sequence[str]) -> None: ...


@stage("my buns")
def badly_named_stage(table: Any) -> None: ...


@pytest.mark.parametrize(
    ("marked", "said"),
    [
        (samples_far_away, "@on_samples(at='cloud'): what sensors measure does not leave a node: listen there"),
        (nowhere, "@every is called at one of edge, cloud, any, not at='clod'"),
        (of_too_much, "what @stage marks is `def make(table: StageTable) -> Stage`"),
        (badly_named_stage, "@stage('my buns'): its name is letters, digits and _"),
        (of_nothing, "wants the types of events"),
        (not_async, "what @on_events marks is `async def heard"),
        (too_often, "0.05 to 86400 seconds"),
        (no_window, "what @on_samples marks is `def measured"),
        (badly_named, "its name is letters, digits and _"),
    ],
)
def test_wrong_marks_are_named_with_their_place(marked: Any, said: str) -> None:
    (mistake,) = check_listeners([marked.__edge_listener__])
    assert said in mistake and mistake.startswith(f"{__file__}:")


def test_a_platform_with_a_wrong_mark_does_not_load(tmp_path: Path) -> None:
    folder = tmp_path / "acme_wrong"
    folder.mkdir()
    (folder / "acme_wrong.edge").write_text(SCHEMA.replace("Acme", "Acme_Wrong"))
    (folder / "functions.py").write_text(FUNCTIONS.replace("@every(5)", "@every(0)"))
    with pytest.raises(Exception, match=r"@every\(0\): 0\.05 to 86400 seconds"):
        load_platform("acme_wrong", Finder([folder]))


def test_what_manufacturing_listens_to() -> None:
    marks = {one.title: one.on for one in load_platform("manufacturing", Finder()).listeners}
    assert marks["watch_machines"] is On.SAMPLES and marks["follow_lines"] is On.EVENTS
    assert [one for one in marks if marks[one] is On.RULE] == ["too_close", "fallen", "missing_equipment", "alone"]
    assert [one for one in marks if marks[one] is On.STAGE] == ["inspection"]


def context_of(host: FakeHost) -> MakeContext:
    return lambda one, call: host.context()


def test_a_mark_says_who_calls_it(acme: Platform) -> None:
    calls: list[str] = []

    @on_events("LineCrossed", at="cloud")
    async def far(context: Context, event: KeptResult) -> None:
        calls.append("far")

    @on_events("LineCrossed", at="any")
    async def both(context: Context, event: KeptResult) -> None:
        calls.append("both")

    @every(5.0, at="cloud")
    async def time_far(context: Context) -> None:
        calls.append("time")

    @on_events("LineCrossed")
    async def near(context: Context, event: KeptResult) -> None:
        calls.append("near")

    @on_samples
    def measured(context: Context, window: SampleWindow) -> None: ...

    marked: list[Any] = [far, both, time_far, near, measured]
    marks = [one.__edge_listener__ for one in marked]
    assert check_listeners(marks) == []
    platform = Platform(acme.name, acme.schema, {}, [], acme.origin, (), marks)
    for placement, events, times, called in (
        (Placement.EDGE, ["both", "near"], [], ["both", "near"]),
        (Placement.CLOUD, ["far", "both"], ["time_far"], ["far", "both", "time"]),
    ):
        host = FakeHost(platform, placement=placement)
        listening = Listening([platform], context_of(host), placement)
        assert [ear.listener.title for ear in listening.events] == events
        assert [name.rpartition(".")[2] for name, _ in listening.times()] == times
        calls.clear()
        host.heard(crossed("gate"))
        host.look()
        assert calls == called


def test_a_coordinator_is_a_host_of_the_same_functions(acme: Platform) -> None:
    assert FakeHost(acme, placement=Placement.CLOUD).context().memory == {}
