"""A release into a pipeline: real engines, a stream that does as it is told, a journal that outlives the process."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from agent.config import PipelineConfig
from agent.decide.settings import AlertRuleSettings
from agent.documents.plan import Plan
from agent.infer.bundle import Bundle
from agent.infer.bundle_files import load_bundle
from agent.infer.host import EngineHost, EngineStats
from agent.infer.settings import InferSettings
from agent.link.asking import Asking
from agent.models import records
from agent.models.journal import RecordsFile
from agent.models.models import Models
from agent.models.records import Record, Ref, Trial
from agent.models.settings import GateSettings, Golden, NodeModelsTable
from agent.models.signatures import Trust
from agent.models.switching import Seat, Switching
from agent.slotted import AtWork
from agent.stream import Stream
from schemas.messages import Birth
from schemas.release import WantedModel
from tests.agent_process.agents import bundle

OLD, NEW = Ref("cells@1.0.0", "a" * 64), Ref("cells@2.0.0", "b" * 64)
TABLE = NodeModelsTable(probation_s=3600.0, gate=GateSettings(runs=3, latency_slack_ms=10_000.0))


class Told:
    """As a stream, as far as models go: what it runs, and how that does."""

    def __init__(self) -> None:
        self.bundle: Bundle | None = None
        self.engine = "cpu"
        self.frames = self.failures = 0
        self.broken = ""
        self.hosts: list[EngineHost] = []

    def new_host(self, pipeline: str, bundle: Bundle, *, quiet: bool = False) -> EngineHost:
        host = EngineHost(bundle, InferSettings(), lambda change: None)
        self.hosts.append(host)
        return host

    async def change_model(self, pipeline: str, bundle: Bundle, host: EngineHost) -> None:
        self.bundle = bundle
        host.close()  # it would be the inference thread's

    def at_work(self, pipeline: str) -> AtWork | None:
        if self.bundle is None:
            return None
        return AtWork(self.bundle, EngineStats(self.engine, 9, 0, 1.0, 2.0, 2.0), self.frames, self.failures)

    def failure(self, pipeline: str) -> str:
        return self.broken


class Place:
    """One pipeline, with its configured model running and two releases at hand."""

    def __init__(self, folder: Path, table: NodeModelsTable = TABLE, **config: Any) -> None:
        self.folder = folder
        if not (folder / "configured").exists():
            for name in ("configured", OLD.digest, NEW.digest):
                bundle(folder / name)
        self.stream = Told()
        self.stream.bundle = load_bundle(folder / "configured")
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.switching = Switching(
            table, RecordsFile(folder / "models.json"), hardware="here",
            announce=lambda kind, subject, data: self.events.append((kind, data)),
            folder=lambda digest: folder / digest,
        )  # fmt: skip
        self.switching.begin()
        self.seat = Seat(cast(Stream, self.stream), PipelineConfig("cam1", str(folder / "configured"), "p", **config))
        self.seat.bundle = self.stream.bundle

    @property
    def record(self) -> Record:
        return self.switching.record("p")

    def activate(self, ref: Ref) -> None:
        asyncio.run(self.switching.activate(self.seat, ref))
        assert not any(host.is_open for host in self.stream.hosts), "engines that nobody closed"

    def look(self) -> None:
        asyncio.run(self.switching.look(self.seat))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_model_is_proved_swapped_in_watched_and_kept(place: Place) -> None:
    place.activate(NEW)
    assert place.kinds() == ["ModelMeasured", "ModelActivated"]
    assert (place.record.trial, place.seat.runs) == (Trial(NEW, 0, True), NEW)
    place.look()
    assert place.seat.probation is not None and place.record.running is None
    place.seat.probation = None
    done = Place(place.folder, NodeModelsTable(probation_s=0.0, gate=TABLE.gate))
    done.activate(NEW)
    done.look()
    assert (done.record.running, done.record.trial, done.seat.probation) == (NEW, None, None)
    assert RecordsFile(place.folder / "models.json").read()["p"].running == NEW


@pytest.mark.parametrize(
    ("engine", "failures", "said"),
    [("cpu", 3, "3 frames failed"), ("", 0, "was lost, and none runs it any more")],
)
def test_one_that_fails_on_probation_gives_way_to_what_ran_before(
    place: Place, engine: str, failures: int, said: str
) -> None:
    place.activate(NEW)
    place.stream.engine, place.stream.failures = engine, failures
    place.look()
    assert said in place.record.refused[NEW.digest]
    assert place.kinds()[-1] == "ModelRefused" and place.events[-1][1]["reason"].startswith("on probation: ")
    assert (place.seat.runs, place.record.running, place.seat.probation) == (None, None, None)
    assert place.stream.bundle is not None and place.stream.bundle.variants[0].path.parent.name == "configured"


def test_what_ran_before_comes_back_without_being_proved_again(place: Place) -> None:
    """A roll-back must not fail because the old model is the slower one."""
    always = Place(place.folder, NodeModelsTable(probation_s=0.0, gate=TABLE.gate))
    for ref in (OLD, NEW):
        always.activate(ref)
        always.look()
    assert (always.record.running, always.record.before) == (NEW, OLD)
    (place.folder / OLD.digest / "golden.toml").write_text("nothing that could be read")
    always.activate(OLD)
    assert always.kinds() == ["ModelMeasured", "ModelActivated"] * 2 + ["ModelActivated"]


def test_a_crash_of_the_agent_on_probation_counts_and_the_third_refuses(place: Place) -> None:
    place.activate(NEW)
    for _ in range(2):
        again = Place(place.folder)
        assert again.record.trial is not None and again.record.trial.swapped
    last = Place(place.folder)
    assert "the agent ended 3 times" in last.record.refused[NEW.digest]


def test_ends_in_order_count_for_nothing(place: Place) -> None:
    place.activate(NEW)
    for _ in range(5):
        again = Place(place.folder)
        again.switching.end_in_order()
    assert again.record.trial == Trial(NEW, 0, True)


def test_a_model_that_lacks_a_class_that_a_rule_names_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, rules=(AlertRuleSettings("there", classes=("unicorn",)),))
    place.activate(NEW)
    assert "'unicorn' is not among the model's labels" in place.record.refused[NEW.digest]
    assert place.kinds() == ["ModelRefused"]


def test_a_release_without_golden_frames_where_they_are_asked_for(tmp_path: Path) -> None:
    place = Place(tmp_path, NodeModelsTable(gate=GateSettings(golden=Golden.REQUIRED)))
    place.activate(NEW)
    assert "has no golden frames" in place.record.refused[NEW.digest]


def test_nothing_is_proved_where_nothing_is_asked(tmp_path: Path) -> None:
    place = Place(tmp_path, NodeModelsTable(gate=GateSettings(golden=Golden.OFF)))
    place.activate(NEW)
    assert place.kinds() == ["ModelActivated"]


def test_golden_frames_that_cannot_be_read_refuse_the_model(place: Place) -> None:
    folder = place.folder / NEW.digest
    (folder / "golden.toml").write_text('[[frames]]\nfile = "golden/1.jpg"\nobjects = []\n')
    place.activate(NEW)
    assert "there is no" in place.record.refused[NEW.digest]
    for text, said in (
        ("[[frames]]\nfile = '../x.jpg'", "must be a file inside the bundle"),
        ("classifier = true\n[[frames]]\nfile = 'x.jpg'", "a classifier's frame has a `label`"),
        ("[[frames]]\nfile = 'x.jpg'\nobjects = [{ class = 'a', box = [1, 2] }]", "too short"),
        ("frames = 7", "golden.toml"),
        ("no toml", "is not valid TOML"),
    ):
        (folder / "golden.toml").write_text(text)
        place.activate(NEW)
        assert said in place.record.refused[NEW.digest]


def test_a_journal_that_is_spoilt_counts_for_nothing(place: Place) -> None:
    place.activate(NEW)
    (place.folder / "models.json").write_text("{")
    assert Place(place.folder).record == Record()


def test_in_the_life_after_a_kill_a_model_on_trial_is_not_held_before_it_is_loaded(tmp_path: Path) -> None:
    async def scene() -> None:
        models = Models(
            TABLE, tmp_path, Trust({}), birth=Birth, streams=dict, asking=cast(Asking, None),
            link_is_metered=lambda: False, announce=lambda *said: None,
        )  # fmt: skip
        models.follow(Plan(models={"p": WantedModel(NEW.model, NEW.digest)}))
        models.switching.note("p", Record(trial=Trial(NEW, 1, True)))
        config = PipelineConfig("cam1", str(bundle(tmp_path / "configured")), "p")
        seat = Seat(cast(Stream, Told()), config)
        seat.runs = NEW
        held, pending, refused = dict[str, Any](), dict[str, str](), dict[str, str]()
        models._stand(seat, held, pending, refused)
        assert (held, refused) == ({}, {})
        assert pending == {"pipelines.p.model": "on trial, and loaded anew"}
        models.switching.note("p", records.passed(models.switching.record("p")))
        models._stand(seat, held, {}, refused)
        assert held == {"pipelines.p.model": {"model": NEW.model, "digest": NEW.digest}}

    asyncio.run(scene())
