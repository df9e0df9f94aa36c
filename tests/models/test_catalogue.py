"""The catalogue on a real store: what is added, promoted, retired, refused, and found again."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordinator.models import channels
from coordinator.models.release import ModelRefusedError, Release, digest_of, encode_release
from coordinator.models.versions import parse_version
from coordinator.store import models
from coordinator.store.migrations import MIGRATIONS
from coordinator.store.models import Done
from coordinator.store.place import Place, open_alone
from runtime.database import Database, transaction
from runtime.sqlite import connect, migrate
from schemas.bundles import Target
from tests.models.making import release


@pytest.fixture
def db(place: Place) -> Iterator[Database]:
    with closing(open_alone(place)) as opened:
        yield opened


def add(db: Database, one: Release, **more: Any) -> Done:
    document = encode_release(one)
    given = {"source": "test", "now_ms": 1000, **more}
    return models.add(db, one, document, digest_of(document), **given)


def promote(db: Database, version: str, channel: str, now_ms: int = 2000) -> Done:
    return models.promote(db, "finder", version, channel, source="anna", now_ms=now_ms)


def retire(db: Database, version: str, **more: Any) -> Done:
    return models.retire(db, "finder", version, source="ben", now_ms=3000, **more)


def test_a_release_is_found_as_it_was_added(db: Database) -> None:
    one = release(Target.CPU, Target.EDGETPU, parent="finder@0.9.0")
    assert add(db, one, channel="canary", signature="k s").changed
    (view,) = models.listed(db)
    assert (view.reference, view.targets, view.channels) == ("finder@1.0.0", ("cpu", "edgetpu"), ("canary",))
    assert (view.bytes, view.parent, view.signature, view.source) == (200, "finder@0.9.0", "k s", "test")
    assert models.release_of(db, "finder", "1.0.0") == one
    assert models.children(db, "finder", "0.9.0") == ["finder@1.0.0"]
    assert set(models.named_files(db)) == {view.digest, *(file.sha256 for file in one.files)}
    assert all(models.is_named(db, sha256) for sha256 in models.named_files(db))
    assert not models.is_named(db, "0" * 64)
    assert [(m.target, m.nodes, m.latency_ms_p95) for m in models.measured(db, "finder", "1.0.0")] == [
        ("cpu", 0, None),
        ("edgetpu", 0, None),
    ]


def test_a_version_is_never_overwritten(db: Database) -> None:
    assert add(db, release()).changed
    assert not add(db, release()).changed  # just the same again: harmless
    with pytest.raises(ModelRefusedError, match="is here with other bytes"):
        add(db, replace(release(), description="another"))
    assert len(models.listed(db)) == 1
    assert [step.action for step in models.history(db, "finder", 9)] == ["added"]


def test_a_signature_may_come_later(db: Database) -> None:
    add(db, release())
    assert not add(db, release(), signature="k s").changed
    assert not add(db, release()).changed
    assert models.listed(db)[0].signature == "k s"


def test_versions_are_listed_newest_first_by_their_rank(db: Database) -> None:
    for version in ("1.9.0", "1.10.0", "1.10.0-rc.2", "0.1.0"):
        add(db, release(version=version))
    add(db, release(name="another", version="0.0.1"))
    assert [one.reference for one in models.listed(db)] == [
        "another@0.0.1", "finder@1.10.0", "finder@1.10.0-rc.2", "finder@1.9.0", "finder@0.1.0",
    ]  # fmt: skip
    assert len(models.listed(db, "finder")) == 4


def test_a_channel_gives_out_one_version_and_history_says_who(db: Database) -> None:
    add(db, release(version="1.0.0"), channel="stable")
    add(db, release(version="1.1.0"), channel="canary")
    assert promote(db, "1.1.0", "stable").replaced == "1.0.0"
    assert not promote(db, "1.1.0", "stable").changed
    assert models.channels_of(db, "finder") == {"canary": "1.1.0", "stable": "1.1.0"}
    assert [one.version for one in models.listed(db, channel="stable")] == ["1.1.0"]
    last = models.history(db, "finder", 1)[0]
    assert (last.action, last.version, last.channel, last.replaced) == ("promoted", "1.1.0", "stable", "1.0.0")
    assert (last.time_utc_ms, last.source) == (2000, "anna")


def test_a_retired_version_is_out_for_good(db: Database) -> None:
    add(db, release(version="1.0.0"), channel="stable")
    with pytest.raises(ModelRefusedError, match="is given out by stable"):
        retire(db, "1.0.0")
    add(db, release(version="1.1.0"), channel="stable")
    assert retire(db, "1.0.0").changed
    assert not retire(db, "1.0.0").changed
    with pytest.raises(ModelRefusedError, match="is retired"):
        promote(db, "1.0.0", "canary")
    assert {one.version: one.state for one in models.listed(db)} == {"1.1.0": "active", "1.0.0": "retired"}
    assert models.document_of(db, "finder", "1.0.0") is not None  # nodes that have it may still ask for it


def test_withdrawing_empties_the_channels(db: Database) -> None:
    add(db, release(), channel="stable")
    promote(db, "1.0.0", "canary")
    assert retire(db, "1.0.0", withdraw=True).changed
    assert models.channels_of(db, "finder") == {}
    steps = [(step.action, step.channel) for step in models.history(db, "finder", 9)]
    assert steps[-3:] == [("withdrawn", "canary"), ("withdrawn", "stable"), ("retired", "")]


@pytest.mark.parametrize(
    ("version", "channel", "said"),
    [
        ("9.9.9", "stable", "there is no model finder@9.9.9"),
        ("1.0.0", "", "is no channel"),
        ("1.0.0", "Stable", "is no channel"),
        ("1.0.0", "a/b", "is no channel"),
        ("1.0.0", "a" * 40, "is no channel"),
        ("2.0.0-rc.1", "stable", "is a pre-release, and channel stable takes none"),
    ],
)
def test_what_cannot_be_promoted_is_said(db: Database, version: str, channel: str, said: str) -> None:
    add(db, release(version="1.0.0"))
    add(db, release(version="2.0.0-rc.1"), channel="canary")
    with pytest.raises(ModelRefusedError, match=said):
        promote(db, version, channel)


def test_a_release_whose_channel_is_refused_is_not_added(db: Database) -> None:
    with pytest.raises(ModelRefusedError), transaction(db):
        add(db, release(version="2.0.0-rc.1"), channel="stable")
    assert models.listed(db) == []


def test_there_are_limits(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "VERSIONS_MAX", 1)
    monkeypatch.setattr(channels, "CHANNELS_MAX", 1)
    monkeypatch.setattr(models, "MODELS_MAX", 1)
    monkeypatch.setattr(models, "HISTORY_MAX", 3)
    add(db, release(), channel="a")
    with pytest.raises(ModelRefusedError, match="1 versions of it"):
        add(db, release(version="1.0.1"))
    with pytest.raises(ModelRefusedError, match="1 models"):
        add(db, release(name="another"))
    with pytest.raises(ModelRefusedError, match="1 channels"):
        promote(db, "1.0.0", "b")
    for _ in range(5):
        db.execute("DELETE FROM model_channels")
        promote(db, "1.0.0", "a")
    assert len(models.history(db, "finder", 99)) == 3


class Registry(RuleBasedStateMachine):
    """The catalogue beside what a dict would say."""

    versions = st.sampled_from(["1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0"])
    names = st.sampled_from(["stable", "canary", "night"])

    def __init__(self) -> None:
        super().__init__()
        self.db = connect(Path(":memory:"))
        migrate(self.db, MIGRATIONS, what="test")
        self.there: dict[str, str] = {}
        self.given: dict[str, str] = {}

    def teardown(self) -> None:
        self.db.close()

    @contextmanager
    def expecting(self, refused: bool) -> Iterator[None]:
        try:
            with transaction(self.db):
                yield
        except ModelRefusedError:
            assert refused
        else:
            assert not refused

    @rule(version=versions, other=st.booleans())
    def added(self, version: str, other: bool) -> None:
        text = "b" if other else "a"
        refused = self.there.get(version, text)[0] != text
        with self.expecting(refused):
            add(self.db, replace(release(version=version), description=text))
        if not refused:
            self.there.setdefault(version, text)

    @rule(version=versions, channel=names)
    def promoted(self, version: str, channel: str) -> None:
        state = self.there.get(version, "")
        refused = state in ("", "a!", "b!") or (channel == "stable" and bool(parse_version(version).before))
        with self.expecting(refused):
            promote(self.db, version, channel)
        if not refused:
            self.given[channel] = version

    @rule(version=versions, withdraw=st.booleans())
    def retired(self, version: str, withdraw: bool) -> None:
        refused = version not in self.there or (version in self.given.values() and not withdraw)
        with self.expecting(refused):
            retire(self.db, version, withdraw=withdraw)
        if not refused:
            self.there[version] = self.there[version][0] + "!"
            self.given = {channel: given for channel, given in self.given.items() if given != version}

    @invariant()
    def they_agree(self) -> None:
        assert models.channels_of(self.db, "finder") == self.given
        views = {one.version: one for one in models.listed(self.db)}
        assert {version: one.state == "retired" for version, one in views.items()} == {
            version: text.endswith("!") for version, text in self.there.items()
        }


TestRegistry = Registry.TestCase
TestRegistry.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
