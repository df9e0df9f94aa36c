"""What is durable of roll-outs, and the driver on a real store without a broker."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.documents.changes import Change
from coordinator.fleet.registry import Fleet, LivenessRules, Moment, Node, NodeState
from coordinator.ingest.decode import News
from coordinator.rollout import rollouts as driver
from coordinator.rollout.arguments import AbortOf, OfRollout, StatusOf
from coordinator.rollout.beginning import Own
from coordinator.rollout.plan import Plan
from coordinator.rollout.rollouts import Rollouts
from coordinator.rollout.state import NodeState as State
from coordinator.rollout.state import NotTold, Reported, Restored, Run, Step, Told
from coordinator.rollout.state import State as Whole
from coordinator.store import documents, rollouts
from coordinator.store.place import Place, open_alone
from coordinator.store.reader import Reader
from coordinator.store.reports import take_reports
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, Committed, ReportedRow
from runtime.calls.errors import CallRejectedError
from runtime.database import Database, transaction
from runtime.sqlite import StorageError
from runtime.timeline import MachineTime
from schemas import documents as wire
from schemas.documents import Write, encode, sealed
from schemas.hlc import Stamp
from schemas.messages import Birth, Heartbeat

NOW = MachineTime("server", 0, 1_795_521_600_000)
ENABLED = "pipelines.door.enabled"


@pytest.fixture
def db(place: Place) -> Iterator[Database]:
    with closing(open_alone(place)) as made:
        yield made


def begin(db: Database, *nodes: str, **changes: Any) -> rollouts.Kept:
    with transaction(db):
        return rollouts.begin(db, Plan("all", **{"set": {ENABLED: True}, **changes}), nodes, NOW.wall_ms)


def do(db: Database, kept: rollouts.Kept, step: Step) -> rollouts.Done:
    with transaction(db):
        return rollouts.carry_out(db, kept, step, NOW)


def set_desired(db: Database, node: str, **values: Any) -> None:
    with transaction(db):
        documents.change(db, node, Change({path.replace("__", "."): value for path, value in values.items()}), NOW)


def report(db: Database, node: str, **local: Write) -> None:
    desired = documents.desired(db, node)
    writes = {path.replace("__", "."): write for path, write in local.items()}
    said = wire.Reported(
        1, 1, desired.epoch, desired.revision, desired.hash,
        local={path: write.value for path, write in writes.items()},
        stamps={path: write.written for path, write in writes.items()},
    )  # fmt: skip
    with transaction(db):
        take_reports(db, [ReportedRow(node, sealed(said), NOW.wall_ms)], NOW)[0]


def values(db: Database, node: str) -> dict[str, Any]:
    return {path: value for path, value in documents.desired(db, node).fields.items() if value is not None}


# ---- tables ------------------------------------------------------------------------------------


def test_a_node_is_told_with_what_it_had_at_hand_and_gets_exactly_that_back(db: Database) -> None:
    set_desired(db, "a", heartbeat_s=9, log__level="INFO", labels__line="x")
    kept = begin(db, "a", "b", set={"heartbeat_s": 7, "log.level": "DEBUG"}, unset=("labels.line",))
    before = values(db, "a"), values(db, "b")
    told = do(db, kept, Step(tell=["a", "b"]))
    assert [(type(one), one.node, one.changed) for one in told.news if isinstance(one, Told)] == [
        (Told, "a", True), (Told, "b", True),
    ]  # fmt: skip
    assert told.due == {name: documents.desired(db, name) for name in "ab"}
    assert values(db, "a") == values(db, "b") == {"heartbeat_s": 7, "log.level": "DEBUG"}
    back = do(db, kept, Step(restore=["a", "b"]))
    assert back.news == [Restored("a"), Restored("b")]
    assert (values(db, "a"), values(db, "b")) == before
    source = [step.source for step in documents.history(db, "a")]
    assert source[-2:] == ["roll-out r-1", "roll-out r-1, rolled back"]


def test_where_the_node_had_the_last_word_its_value_comes_back(db: Database) -> None:
    """The document itself had another one: it would not have held."""
    set_desired(db, "a", pipelines__door__enabled=True)
    over = documents.desired(db, "a").writes()[ENABLED].at
    report(db, "a", pipelines__door__enabled=Write(False, Stamp(over.wall_ms + 1, 0, "a"), over))
    kept = begin(db, "a")
    do(db, kept, Step(tell=["a"]))
    do(db, kept, Step(restore=["a"]))
    assert values(db, "a") == {ENABLED: False}


def test_what_another_hand_wrote_stays_and_other_fields_do_not_matter(db: Database) -> None:
    kept = begin(db, "a", "b", "c")
    do(db, kept, Step(tell=["a", "b", "c"]))
    set_desired(db, "a", log__level="DEBUG")
    set_desired(db, "b", pipelines__door__enabled=False)
    set_desired(db, "c", pipelines__door__enabled=True)  # the same once more: somebody insists
    done = do(db, kept, Step(restore=["a", "b", "c"]))
    assert done.news[0] == Restored("a")
    assert [bool(one.kept) for one in done.news if isinstance(one, Restored)] == [False, True, True]
    assert "another hand has changed pipelines.door.enabled since" in str(done.news[1])
    assert (values(db, "a"), values(db, "b")) == ({"log.level": "DEBUG"}, {ENABLED: False})


def test_a_node_that_has_it_all_is_told_nothing_and_what_it_reported_counts(db: Database) -> None:
    set_desired(db, "a", heartbeat_s=5)
    report(db, "a")
    kept = begin(db, "a", "b", set={"heartbeat_s": 5})
    do(db, kept, Step(tell=["b"]))
    done = do(db, kept, Step(tell=["a"]))
    told, said = done.news
    assert isinstance(told, Told) and isinstance(said, Reported)
    assert (told.changed, told.revision, said.revision, done.due) == (False, 1, 1, {})
    nothing = begin(db, "c", set={}, unset=("heartbeat_s",))
    assert do(db, nothing, Step(tell=["c"])).news == [Told("c", 0, 0, "", False)]


def test_a_node_that_cannot_be_told_says_why_and_holds_up_nobody(db: Database) -> None:
    set_desired(db, "full", **{f"labels__n{n}": "x" for n in range(1000)})
    set_desired(db, "torn", heartbeat_s=5)
    db.execute("UPDATE desired SET document = '{}' WHERE node = 'torn'")
    kept = begin(db, "full", "torn", "a")
    done = do(db, kept, Step(tell=["full", "torn", "a"]))
    assert [type(one) for one in done.news] == [NotTold, NotTold, Told]
    assert "1001 fields; at most 1000 are allowed" in str(done.news[0])


def test_the_later_of_two_rollouts_has_the_node(db: Database) -> None:
    first, other = begin(db, "a", "b"), begin(db, "a", set={"heartbeat_s": 5})
    second = begin(db, "a", "b", set={ENABLED: False})
    do(db, other, Step(tell=["a"]))
    do(db, second, Step(tell=["a"]))
    done = do(db, first, Step(tell=["a", "b"]))
    assert done.news[0] == NotTold("a", "the later roll-out r-3 sets the same fields", excluded=True)
    assert isinstance(done.news[1], Told)


def test_ids_are_given_once_and_history_is_bounded(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "HISTORY_MAX", 3)
    assert begin(db, "a", id="mine").id == "mine"
    with pytest.raises(rollouts.IdTakenError, match="a roll-out mine already"):
        begin(db, "a", id="mine")
    for n in range(2, 9):
        kept = begin(db, "a")
        assert kept.id == f"r-{n}"
        do(db, kept, Step(run=Run(Whole.COMPLETED)))
    assert [one.id for one in rollouts.views(db)] == ["mine", "r-5", "r-6", "r-7", "r-8"]
    (count,) = db.execute("SELECT count(DISTINCT rollout) FROM rollout_nodes").fetchone()
    assert count == 5
    assert begin(db, "a").id == "r-9"


def test_one_that_is_forgotten_does_nothing_any_more(db: Database) -> None:
    kept = begin(db, "a")
    with transaction(db):
        db.execute("DELETE FROM rollouts")
    done = do(db, kept, Step(tell=["a"], run=Run(Whole.RUNNING)))
    assert (done.forgotten, done.news, values(db, "a")) == (True, [], {})


def test_what_is_loaded_is_what_was_kept(db: Database) -> None:
    kept = begin(db, "a", "b", waves=("1", "100%"), bake_s=5.0)
    do(db, kept, Step(tell=["a"], run=Run(Whole.RUNNING, 1, 7, "so", 2, 3)))
    (again,) = rollouts.load(db)
    assert (again.plan, again.run) == (kept.plan, Run(Whole.RUNNING, 1, 7, "so", 2, 3))
    assert [(one.name, one.state, one.revision) for one in again.nodes] == [
        ("a", State.TOLD, 1),
        ("b", State.WAITING, 0),
    ]
    do(db, kept, Step(run=Run(Whole.ABORTED)))
    assert rollouts.load(db) == []
    assert [one.id for one in rollouts.load(db, "r-1")] == ["r-1"]


# ---- the driver --------------------------------------------------------------------------------


class Desk:
    """A driver on a store; nodes are in the fleet and answer when the test says so."""

    def __init__(self, store: SqliteStore, *names: str) -> None:
        self.store = store
        self.fleet = Fleet([Node(name, NodeState.ONLINE, birth=Birth()) for name in names], LivenessRules(), 0)
        self.published: list[str] = []
        self.driver = Rollouts(store, self.fleet, lambda node, document: self.published.append(node))

    async def answer(self, *names: str) -> None:
        """They report that they hold what they should."""
        for name in names:
            desired = await self.store.desired(name)
            said = sealed(
                wire.Reported(
                    1, desired.revision, desired.epoch, desired.revision, desired.hash, dict(desired.fields)
                )
            )
            committed = await self.store.commit(Batch(reported=[ReportedRow(name, said, 1)]))
            self.driver.heard([(News(name, said), encode(said))], committed)

    async def nodes(self, key: str) -> dict[str, int]:
        return dict((await self.driver.status(StatusOf(key)))["rollouts"][0]["nodes"])

    async def state(self, key: str) -> str:
        return str((await self.driver.status(StatusOf(key)))["rollouts"][0]["state"])


def play(folder: Path, scene: Callable[[Desk], Coroutine[Any, Any, None]], *names: str) -> None:
    async def run() -> None:
        store = SqliteStore(folder)
        desk = Desk(store, *names)
        task = asyncio.create_task(desk.driver.run())
        desk.driver.broker(heard=True)
        try:
            await scene(desk)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            store.close()

    asyncio.run(run())


async def until(true: Callable[[], Coroutine[Any, Any, object]]) -> None:
    for _ in range(3000):
        if await true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("waited in vain")


def test_nothing_is_told_before_the_broker_is_heard(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        desk.driver.broker(heard=False)
        key = (await desk.driver.start(Plan("all", {"heartbeat_s": 5})))["id"]
        await asyncio.sleep(0.1)
        assert (desk.published, await desk.state(key)) == ([], "pending")
        desk.driver.broker(heard=True)
        await until(lambda: told(desk, 2))
        await desk.answer("a", "b")
        await until(lambda: is_(desk, key, "completed"))

    play(tmp_path, scene, "a", "b")


def test_an_order_is_durable_when_it_is_answered(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        key = (await desk.driver.start(Plan("all", {"heartbeat_s": 5}, waves=("1", "100%"))))["id"]
        await until(lambda: told(desk, 1))
        assert (await desk.driver.pause(OfRollout(key, "me"))) == {"id": key, "state": "paused"}
        (view,) = Reader(tmp_path).rollouts(key)
        assert (view.state, view.reason) == ("paused", "paused by me")
        assert (await desk.driver.abort(AbortOf(key)))["state"] == "aborted"
        assert await desk.state(key) == "aborted"
        with pytest.raises(CallRejectedError, match="aborted already") as refused:
            await desk.driver.abort(AbortOf(key))
        assert refused.value.code == "wrong_state"
        await desk.driver.abort(AbortOf(key, roll_back=True))  # after all
        await until(lambda: is_(desk, key, "rolled_back"))
        assert [(await desk.store.desired(node)).fields for node in set(desk.published)] == [{}]

    play(tmp_path, scene, "a", "b", "c")


def test_a_disk_that_refuses_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(desk: Desk) -> None:
        sound, refusals = desk.store.run_telling, iter(range(3))

        async def refusing(job: Any) -> Any:
            if next(refusals, None) is not None:
                raise StorageError("full")
            return await sound(job)

        monkeypatch.setattr(desk.store, "run_telling", refusing)
        key = (await desk.driver.start(Plan("all", {"heartbeat_s": 5})))["id"]
        await until(lambda: told(desk, 2))
        assert next(refusals, None) is None
        await desk.answer("a", "b")
        await until(lambda: is_(desk, key, "completed"))
        assert {(await desk.store.desired(node)).revision for node in ("a", "b")} == {1}

    play(tmp_path, scene, "a", "b")


def test_a_node_that_answers_before_the_driver_knows_that_it_was_told_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(desk: Desk) -> None:
        sound = desk.store.run_telling

        async def slow(job: Any) -> Any:
            done = await sound(job)
            await desk.answer(*done.due)
            return done

        monkeypatch.setattr(desk.store, "run_telling", slow)
        key = (await desk.driver.start(Plan("all", {"heartbeat_s": 5}, accept_s=1000)))["id"]
        await until(lambda: is_(desk, key, "completed"))
        assert await desk.nodes(key) == {"verified": 2}

    play(tmp_path, scene, "a", "b")


def test_a_report_that_came_just_before_a_kill_counts(tmp_path: Path) -> None:
    async def before(desk: Desk) -> None:
        await desk.driver.start(Plan("all", {"heartbeat_s": 5}, accept_s=1000, id="x"))
        await until(lambda: told(desk, 2))
        desk.driver.heard = lambda news, committed: None  # type: ignore[method-assign]
        await desk.answer("a", "b")
        assert await desk.nodes("x") == {"told": 2}

    async def after(desk: Desk) -> None:
        await until(lambda: is_(desk, "x", "completed"))

    play(tmp_path, before, "a", "b")
    play(tmp_path, after, "a", "b")


def test_a_late_answer_counts_and_only_the_newest_completed_ones_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "COMPLETED_MAX", 2)

    async def scene(desk: Desk) -> None:
        for n in range(3):
            fields = {"heartbeat_s": 5 + n}
            await desk.driver.start(Plan("all", fields, id=f"x{n}", accept_s=0.05, budget=0.5))
            await until(lambda n=n: told(desk, 2 * n + 2))  # type: ignore[misc]
            await desk.answer("a")
            await until(lambda n=n: is_(desk, f"x{n}", "completed"))  # type: ignore[misc]
            assert await desk.nodes(f"x{n}") == {"silent": 1, "verified": 1}
        await until(lambda: waiting_for(desk, {"x1", "x2"}))
        await desk.answer("b")
        await until(lambda: waiting_for(desk, set()))
        assert await desk.nodes("x2") == {"verified": 2}
        assert await desk.nodes("x1") == {"failed": 1, "verified": 1}  # it holds what x2 set after it

    play(tmp_path, scene, "a", "b")


async def waiting_for(desk: Desk, keys: set[str]) -> bool:
    return set(desk.driver._live) == keys


def test_a_node_that_does_not_concern_a_rollout_costs_no_step(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        key = (await desk.driver.start(Plan("name = a", {"heartbeat_s": 5}, accept_s=1000)))["id"]
        await until(lambda: told(desk, 1))
        live = desk.driver._live[key]
        for name in ("b", "nobody"):
            desk.driver.heard([(News(name, Heartbeat()), b"")], Committed())
        assert live.news == {}
        desk.driver.heard([(News("a", Heartbeat()), b"")], Committed())
        assert len(live.news) == 1

    play(tmp_path, scene, "a", "b")


def test_nodes_may_have_fields_of_their_own_and_get_back_what_they_had(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        before = Change({"log.level": "INFO"})
        await desk.store.change_desired("b", before)
        own: Own = {"a": {"labels.line": "x"}, "b": {"log.level": None}, "nobody": {"labels.line": "z"}}
        begun = await desk.driver.start(Plan("two by name", {"heartbeat_s": 5}), own=own)
        assert begun["nodes"] == 2
        await until(lambda: told(desk, 2))

        async def fields(node: str) -> dict[str, Any]:
            document = await desk.store.desired(node)
            return {path: value for path, value in document.fields.items() if value is not None}

        assert await fields("a") == {"heartbeat_s": 5, "labels.line": "x"}
        assert await fields("b") == {"heartbeat_s": 5}
        both = await desk.driver.start(Plan("c", {}), own={"c": {"labels.line": "y"}})  # another node: no overlap
        with pytest.raises(CallRejectedError, match=r"writes labels\.line of a too"):
            await desk.driver.start(Plan("all", {"labels.line": "q"}))
        with pytest.raises(CallRejectedError, match="no field 'warp'"):
            await desk.driver.start(Plan("a", {}), own={"a": {"warp": 9}})
        with pytest.raises(CallRejectedError, match="those named are not registered"):
            await desk.driver.start(Plan("a", {}), own={"nobody": {"labels.line": "q"}})
        await desk.answer("a", "b", "c")
        await until(lambda: is_(desk, both["id"], "completed"))
        await until(lambda: is_(desk, begun["id"], "completed"))
        await desk.driver.abort(AbortOf(begun["id"], roll_back=True))
        await until(lambda: is_(desk, begun["id"], "rolled_back"))
        assert (await fields("a"), await fields("b")) == ({}, {"log.level": "INFO"})

    play(tmp_path, scene, "a", "b", "c")


def test_a_continuous_one_takes_in_who_comes_to_be_selected_by_any_change(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        def birth(node: str, **said: Any) -> None:
            draft = desk.fleet.draft()
            draft.birth(node, Birth(1, 1, **said), Moment(1, 1), live=True)
            desk.fleet.adopt(draft)

        key = (await desk.driver.start(Plan("resources.cores >= 4", {"heartbeat_s": 5}, continuous=True)))["id"]
        birth("a", resources={"cores": 2.0})
        assert await desk.nodes(key) == {}
        birth("a", resources={"cores": 4.0})
        await until(lambda: told(desk, 1))
        birth("b", resources={"cores": 8.0})
        await until(lambda: told(desk, 2))
        assert len(desk.fleet.selections) == 1
        await desk.driver.abort(AbortOf(key))
        await until(lambda: selections(desk, 0))
        birth("c", resources={"cores": 8.0})
        assert set(desk.published) == {"a", "b"}

    async def selections(desk: Desk, count: int) -> bool:
        return len(desk.fleet.selections) == count

    play(tmp_path, scene, "a", "b", "c")


def test_nobody_is_told_while_documents_wait_to_be_published(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        desk.driver.backlog = lambda: waiting
        waiting = driver.BACKLOG_MAX + 1
        key = (await desk.driver.start(Plan("all", {"heartbeat_s": 5})))["id"]
        await asyncio.sleep(0.2)
        assert desk.published == []
        await desk.driver.pause(OfRollout(key))  # an order does not wait
        await desk.driver.resume(OfRollout(key))
        waiting = 0
        await until(lambda: told(desk, 2))

    play(tmp_path, scene, "a", "b")


def test_a_node_in_maintenance_is_told_when_that_is_over(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        desk.fleet.nodes["a"] = replace(desk.fleet.nodes["a"], window="m-1")
        await desk.driver.start(Plan("all", {"heartbeat_s": 5}))
        await until(lambda: told(desk, 1))
        assert desk.published == ["b"]
        desk.fleet.nodes["a"] = replace(desk.fleet.nodes["a"], window="")
        desk.driver.heard([(News("a", Heartbeat()), b"")], Committed())
        await until(lambda: told(desk, 2))

    play(tmp_path, scene, "a", "b")


async def told(desk: Desk, count: int) -> bool:
    return len(desk.published) >= count


async def is_(desk: Desk, key: str, state: str) -> bool:
    return await desk.state(key) == state
