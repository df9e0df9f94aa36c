"""Models of one simulated node: a release is fetched for a while, then pipelines run it, or refuse it. Pure."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from coordinator.simulate.scenario import ModelsTable, Scenario
from schemas.release import WantedModel, WantedRelease, read_wanted_model, read_wanted_release
from schemas.shape import ShapeError

_MODELS, _RELEASE, _PIPELINES, _MODEL = "models.", ".release", "pipelines.", ".model"


class Manner(Enum):
    """How a node takes models."""

    SOUND = "sound"
    CANNOT_FETCH = "cannot fetch"  # refuses each release
    FAILS = "fails"  # fetches it, and refuses to run it
    SILENT = "silent"  # says nothing more once its document names a model
    FLAPS = "flaps"  # comes and goes for a while whenever it is told of one


def manner_of(scenario: Scenario, number: int) -> Manner:
    """Follows from the seed."""
    left = random.Random(f"{scenario.fleet.seed}/models/{number}").random()
    table = scenario.models
    shares = (
        (Manner.CANNOT_FETCH, table.fetch_failing),
        (Manner.FAILS, table.failing),
        (Manner.SILENT, table.silent),
        (Manner.FLAPS, table.flapping),
    )
    for manner, share in shares:
        if left < share:
            return manner
        left -= share
    return Manner.SOUND


def pipelines_of(scenario: Scenario, number: int) -> dict[str, str]:
    """By pipeline of node `number` the model that it is configured with, NAME@VERSION. Follows from the seed."""
    if random.Random(f"{scenario.fleet.seed}/pipelines/{number}").random() >= scenario.models.share:
        return {}
    return dict(pipeline(text) for text in scenario.models.pipelines)


def pipeline(text: str) -> tuple[str, str]:
    """`PIPELINE=NAME@VERSION`, in its parts."""
    title, _, model = text.partition("=")
    return title, model


@dataclass(slots=True)
class _Fetch:
    """A release on its way: half of it is here at `half_s`."""

    half_s: float
    due_s: float
    percent: int = 0  # 100: it is here
    refused: str = ""

    @property
    def next_s(self) -> float | None:
        if self.refused or self.percent == 100:
            return None
        return self.due_s if self.percent else self.half_s


@dataclass(slots=True)
class _Seat:
    """A pipeline. What runs is the configured model where `runs` is None."""

    configured: str
    runs: WantedModel | None = None
    wanted: WantedModel | None = None
    due_s: float | None = None  # the one that is wanted is being proved
    refused: str = ""  # why it does not run what is wanted


@dataclass(slots=True)
class Standing:
    """Of each path what holds, or how far it is, or why it is refused: as a report has it."""

    holds: dict[str, Any] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """What has come of it by now. `changed`: there is something to report."""

    changed: bool = False
    fetched: int = 0
    activated: int = 0
    refused: int = 0


def is_of_models(path: str) -> bool:
    """A field that is served in its own time."""
    return (path.startswith(_MODELS) and path.endswith(_RELEASE)) or (
        path.startswith(_PIPELINES) and path.endswith(_MODEL)
    )


class Models:
    """Those of one node, over its boots."""

    __slots__ = ("_fetches", "_releases", "_seats", "_unread", "manner")

    def __init__(self, manner: Manner = Manner.SOUND, pipelines: Mapping[str, str] | None = None) -> None:
        self.manner = manner
        self._releases: dict[str, WantedRelease] = {}  # by path
        self._unread: dict[str, str] = {}  # by path, why nothing comes of it
        self._fetches: dict[str, _Fetch] = {}  # by digest; what is here stays
        self._seats = {title: _Seat(model) for title, model in (pipelines or {}).items()}

    @property
    def pipelines(self) -> tuple[str, ...]:
        return tuple(self._seats)

    @property
    def next_s(self) -> float | None:
        """When something is due."""
        found = [one.next_s for one in self._fetches.values()] + [seat.due_s for seat in self._seats.values()]
        return min((at_s for at_s in found if at_s is not None), default=None)

    def wanted(self, fields: Mapping[str, Any], now_s: float, table: ModelsTable, dice: random.Random) -> bool:
        """What a desired document says of models. True where it names a release for the first time."""
        models = self._read(fields)
        for title, seat in self._seats.items():
            wanted = models.get(title)
            if wanted != seat.wanted:
                seat.wanted, seat.due_s, seat.refused = wanted, None, ""
            if wanted is None:
                seat.runs = None
        digests = {one.digest for one in self._releases.values()} | {one.digest for one in models.values()}
        for digest in self._fetches.keys() - digests:
            if self._fetches[digest].percent < 100:
                del self._fetches[digest]
        news = digests - self._fetches.keys()
        for digest in news:
            takes_s = table.fetch_s * dice.uniform(0.5, 1.5)
            self._fetches[digest] = _Fetch(now_s + takes_s / 2, now_s + takes_s)
        return bool(news)

    def _read(self, fields: Mapping[str, Any]) -> dict[str, WantedModel]:
        """By pipeline what it is to run; the releases beside it."""
        self._releases, self._unread, models = {}, {}, dict[str, WantedModel]()
        for path, value in fields.items():
            if value is None or not is_of_models(path):
                continue
            title = path.removeprefix(_PIPELINES).removesuffix(_MODEL)
            try:
                if path.startswith(_MODELS):
                    self._releases[path] = read_wanted_release(value)
                elif title in self._seats:
                    models[title] = read_wanted_model(value)
                else:
                    self._unread[path] = f"there is no pipeline {title}"
            except ShapeError as error:
                self._unread[path] = str(error)
        return models

    def step(self, now_s: float, table: ModelsTable, dice: random.Random) -> Outcome:
        """What is due is done."""
        outcome = Outcome()
        for one in self._fetches.values():
            if one.next_s is None or one.next_s > now_s:
                continue
            outcome.changed = True
            if one.due_s > now_s:
                one.percent = 50
            elif self.manner is Manner.CANNOT_FETCH:
                one.refused = "simulated: nobody serves it"
                outcome.refused += 1
            else:
                one.percent = 100
                outcome.fetched += 1
        for seat in self._seats.values():
            self._attend(seat, now_s, table.activate_s * dice.uniform(0.5, 1.5), outcome)
        return outcome

    def _attend(self, seat: _Seat, now_s: float, takes_s: float, outcome: Outcome) -> None:
        wanted = seat.wanted
        if wanted is None or seat.runs == wanted or seat.refused or self._fetches[wanted.digest].percent < 100:
            return
        if seat.due_s is None:
            seat.due_s, outcome.changed = now_s + takes_s, True
        if seat.due_s > now_s:
            return
        seat.due_s, outcome.changed = None, True
        if self.manner is Manner.FAILS:
            seat.refused = "simulated: it is worse than what runs"
            outcome.refused += 1
        else:
            seat.runs = wanted
            outcome.activated += 1

    def standing(self) -> Standing:
        """For the report."""
        found = Standing(refused=dict(self._unread))
        for path, release in self._releases.items():
            if not _is_open(path, self._fetches[release.digest], found):
                found.holds[path] = {"version": release.version, "digest": release.digest}
        for title, seat in self._seats.items():
            path, runs, wanted = f"{_PIPELINES}{title}{_MODEL}", seat.runs, seat.wanted
            model, digest = (seat.configured, "") if runs is None else (runs.model, runs.digest)
            found.holds[path] = {"model": model, "digest": digest}
            if seat.refused:
                found.refused[path] = seat.refused
            elif wanted is not None and wanted != runs and not _is_open(path, self._fetches[wanted.digest], found):
                found.pending[path] = "being proved"
        return found


def _is_open(path: str, one: _Fetch, found: Standing) -> bool:
    """The release is not here: it is said how far it is, or why it does not come."""
    if one.refused:
        found.refused[path] = one.refused
    elif one.percent < 100:
        found.pending[path] = f"prefetching {one.percent} %"
    return bool(one.refused) or one.percent < 100
