"""The node's side of models: what its desired document names is fetched, proved and run. Read this file first.

    plan ─► wanted ─► Fetcher (releases on this disk) ─► Switching (a release into a pipeline) ─► standing ─► report

`load` is what a pipeline starts with: the release that it ran, from the cache and without a network, or else the
configured model. What a pipeline runs, ran before and tries is journalled (`models.json`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.config import PipelineConfig
from agent.documents.plan import Plan
from agent.documents.standing import Standing
from agent.infer.bundle import Bundle
from agent.infer.bundle_files import load_bundle
from agent.infer.engine import ModelError
from agent.link.asking import Asking
from agent.models import records
from agent.models.cache import FOLDER_NAME, Cache
from agent.models.fetch import Fetcher
from agent.models.http import HttpSource
from agent.models.job import State
from agent.models.journal import FILE_NAME, RecordsFile
from agent.models.needs import facts_of
from agent.models.over_mqtt import MqttSource
from agent.models.records import Ref
from agent.models.settings import NodeModelsTable
from agent.models.signatures import Trust
from agent.models.sources import Source
from agent.models.switching import Seat, Switching, reference_of
from agent.stream import Stream
from runtime.errors import EdgewrightError
from schemas.messages import Birth
from schemas.release import WantedRelease

log = logging.getLogger(__name__)

LOOK_S = 0.5  # while something is on probation
IDLE_S = 5.0
TELL_S = 1.0  # between two reports that differ in nothing but how far something is
RETRY_S = 30.0  # what could not be done for a pipeline is tried again so often


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a desired document names."""

    releases: Mapping[str, WantedRelease]  # by model
    models: Mapping[str, Ref]  # by pipeline

    @property
    def refs(self) -> set[Ref]:
        """Each release once."""
        held = {Ref(f"{name}@{one.version}", one.digest) for name, one in self.releases.items()}
        return held | set(self.models.values())


class Models:
    """One node's. `begin` before the first plan; `follow` with each; `fetcher.run` and `run` until cancelled."""

    def __init__(
        self,
        table: NodeModelsTable,
        data_dir: Path,
        trust: Trust,
        *,
        birth: Callable[[], Birth],
        streams: Callable[[], Mapping[str, Stream]],
        asking: Asking,
        link_is_metered: Callable[[], bool],
        announce: Callable[[str, str, dict[str, Any]], None],
    ) -> None:
        self._table = table
        self._streams = streams
        self._asking = asking
        self._announce = announce
        self._loop = asyncio.get_running_loop()
        self._wanted = Wanted({}, {})
        self._wake = asyncio.Event()
        self._complaint = ""
        self._told, self._told_mono_s = Standing(), 0.0
        self._later: asyncio.TimerHandle | None = None
        self._configured: dict[str, str] = {}  # by pipeline, as last loaded: NAME@VERSION
        self._sources: tuple[str, ...] | None = None
        self.on_change: Callable[[], None] = lambda: None
        self.cache = Cache(table.dir or data_dir / FOLDER_NAME)
        hardware = birth().hardware
        self.fetcher = Fetcher(
            table,
            self.cache,
            trust,
            facts=lambda: facts_of(birth()),
            announce=announce,
            keep=self._kept,
            held_back=lambda: "the link is metered" if table.when_metered == "wait" and link_is_metered() else "",
        )
        self.switching = Switching(
            table,
            RecordsFile(data_dir / FILE_NAME),
            hardware=str(hardware.get("cpu") or hardware.get("arch", "")),
            announce=announce,
            folder=self.cache.bundle,
            is_unsound=self._is_unsound,
        )
        self.fetcher.on_change = self.switching.on_change = self._changed
        asking_source: list[Source] = [self._over_mqtt()] if table.over_mqtt else []
        self._always = asking_source
        self._serve_from(table.sources)

    # ---- told by others -------------------------------------------------------------------------

    def begin(self) -> None:
        """Before the first plan and the first pipeline. Blocks."""
        self.switching.begin()

    def follow(self, plan: Plan) -> None:
        """From now on this is wanted."""
        models = {title: Ref(one.model, one.digest) for title, one in plan.models.items()}
        self._wanted = Wanted(dict(plan.releases), models)
        self._serve_from(self._table.sources if plan.sources is None else plan.sources)
        self.fetcher.want(self._wanted.refs)
        self._changed()

    def folder_of(self, reference: str) -> str | None:
        """Where a release `NAME@VERSION` that is wanted here lies; None while it does not."""
        folders = (self.cache.bundle(ref.digest) for ref in self._wanted.refs if ref.model == reference)
        return next((str(folder) for folder in folders if folder is not None), None)

    def load(self, config: PipelineConfig) -> Bundle:
        """What a pipeline starts with now; in a thread. Raises ModelError: the configured model is unusable too."""
        title = config.title
        ref = records.to_load(self.switching.record(title), self._wanted.models.get(title))
        folder = None if ref is None else self.cache.bundle(ref.digest)
        if ref is not None and folder is not None:
            try:
                bundle = load_bundle(folder, in_part=True)
            except ModelError as error:
                self.cache.discard_damaged(ref.digest)
                self._on_loop(self._damaged, title, ref, str(error))
            else:
                self.cache.touch(ref.digest)
                log.info("models: pipeline %s starts with %s", title, ref.model)
                self._on_loop(self._loaded, title, ref, bundle)
                return bundle
        bundle = load_bundle(config.model)
        self._on_loop(self._loaded, title, None, bundle)
        return bundle

    def stopped(self) -> None:
        """The agent ends in order: that is no sign against what is on trial. Blocks."""
        self.switching.end_in_order()

    # ---- what it says ---------------------------------------------------------------------------

    def standing(self) -> Standing:
        """For the report."""
        holds, pending, refused = dict[str, Any](), dict[str, str](), dict[str, str]()
        for name, release in self._wanted.releases.items():
            path, job = f"models.{name}.release", self.fetcher.job(release.digest)
            if job is None or job.state is State.PENDING:
                pending[path] = job.text if job else "waiting to be fetched"
            elif job.ref.model != f"{name}@{release.version}":
                refused[path] = f"its digest is wanted as {job.ref.model} too: one of the two is wrong"
            elif job.state is State.REFUSED:
                refused[path] = job.text
            else:
                holds[path] = {"version": release.version, "digest": release.digest}
        for seat in self._seats():
            self._stand(seat, holds, pending, refused)
        return Standing(holds, pending, refused)

    def _stand(self, seat: Seat, holds: dict[str, Any], pending: dict[str, str], refused: dict[str, str]) -> None:
        path, ref = f"pipelines.{seat.title}.model", self._wanted.models.get(seat.title)
        record = self.switching.record(seat.title)
        runs = seat.runs
        holds[path] = (
            {"model": self._configured.get(seat.title, "") or _name_of(seat.config), "digest": ""}
            if runs is None
            else {"model": runs.model, "digest": runs.digest}
        )
        if ref is None:
            if runs is not None:
                pending[path] = "the configured model is being put back"
            return
        job = self.fetcher.job(ref.digest)
        if (reason := record.refused.get(ref.digest)) is not None:
            refused[path] = reason
        elif runs == ref and seat.probation is None and not records.is_on_trial(record, ref):
            return
        elif runs == ref:
            on_trial = f"on probation for {self._table.probation_s:g} s"
            pending[path] = on_trial if seat.probation is not None else "on trial, and loaded anew"
            del holds[path]
        elif job is not None and job.state is State.REFUSED:
            refused[path] = job.text
        elif job is None or job.state is State.PENDING:
            pending[path] = job.text if job else "waiting to be fetched"
        elif job.ref != ref:
            refused[path] = f"its digest is wanted as {job.ref.model} too: one of the two is wrong"
        else:
            pending[path] = seat.doing or "waiting to be loaded"

    def report(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "pipelines": {
                seat.title: {
                    "runs": seat.runs.model if seat.runs else self._configured.get(seat.title, ""),
                    "digest": seat.runs.digest if seat.runs else "",
                    "on_probation": seat.probation is not None,
                    "refused": dict(self.switching.record(seat.title).refused),
                }
                for seat in self._seats()
            },
            "wanted": {
                ref.model: {"state": job.state.value, "text": job.text}
                for ref in self._wanted.refs
                if (job := self.fetcher.job(ref.digest)) is not None
            },
            "prefetched_total": self.fetcher.prefetched_total,
            "bytes_total": self.fetcher.bytes_total,
        }

    # ---- the driver -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        self.switching.resume()
        try:
            while True:
                self._wake.clear()
                for seat in self._seats():
                    try:
                        await self._attend(seat)
                    except EdgewrightError as error:
                        self._complain(f"models: pipeline {seat.title}: {error}")
                        seat.not_before_s = time.monotonic() + RETRY_S
                    else:
                        self._complaint = ""
                busy = any(seat.probation or seat.live_from is not None for seat in self.switching.seats.values())
                try:
                    async with asyncio.timeout(LOOK_S if busy or self._complaint else IDLE_S):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self.switching.stop()
            if self._later is not None:
                self._later.cancel()

    async def _attend(self, seat: Seat) -> None:
        """What is to be done for one pipeline now. Raises StorageError."""
        switching, ref = self.switching, self._wanted.models.get(seat.title)
        if time.monotonic() < seat.not_before_s:
            return
        record = records.wanted(switching.record(seat.title), ref)
        if record != switching.record(seat.title):
            await asyncio.to_thread(switching.note, seat.title, record)
        if ref is None:
            if seat.runs is not None or record.running is not None:
                seat.probation = seat.live_from = None
                await asyncio.to_thread(switching.note, seat.title, records.configured(record))
                await switching.go_back(seat)
            return
        if seat.runs == ref:
            await switching.look(seat)
        elif ref.digest in record.refused:
            await switching.go_back(seat)
        elif (job := self.fetcher.job(ref.digest)) is not None and job.state is State.HELD and job.ref == ref:
            self.cache.touch(ref.digest)
            await switching.activate(seat, ref)

    def _seats(self) -> list[Seat]:
        """One for each pipeline that there is now."""
        seats = {}
        for stream in self._streams().values():
            for config in stream.configs:
                seat = self.switching.seats.get(config.title)
                if seat is None or seat.stream is not stream:
                    seat = Seat(stream, config)
                    ref = records.to_load(self.switching.record(config.title), self._wanted.models.get(config.title))
                    if ref is not None and self.cache.bundle(ref.digest) is not None:
                        seat.runs = ref
                seats[config.title] = seat
        self.switching.seats = seats
        return list(seats.values())

    # ---- small things ---------------------------------------------------------------------------

    def _loaded(self, title: str, ref: Ref | None, bundle: Bundle) -> None:
        if ref is None:
            self._configured[title] = reference_of(bundle)
        seat = next((one for one in self._seats() if one.title == title), None)
        if seat is None:
            return
        seat.runs, seat.bundle = ref, bundle
        record = self.switching.record(title)
        if ref is not None and records.is_on_trial(record, ref) and seat.probation is None:
            self.switching.watch(seat)
        self._changed()

    def _is_unsound(self, ref: Ref, why: str) -> bool:
        if not self.cache.damaged(ref.digest):
            return False
        self.cache.discard_damaged(ref.digest)
        log.error("models: %s is damaged here and is fetched again: %s", ref.model, why)
        self._on_loop(self.fetcher.again, ref.digest)
        return True

    def _damaged(self, title: str, ref: Ref, reason: str) -> None:
        log.error("models: pipeline %s: %s is damaged here and is fetched again: %s", title, ref.model, reason)
        data = {"pipeline": title, "model": ref.model, "digest": ref.digest}
        self._announce("ModelRefused", title, data | {"reason": f"damaged here, fetched again: {reason}"[:500]})
        self.fetcher.again(ref.digest)

    def _kept(self) -> set[str]:
        """Digests that stay whatever the room: wanted, running, run before, on trial."""
        of_records = {digest for record in self.switching.records.values() for digest in record.digests}
        return {ref.digest for ref in self._wanted.refs} | of_records

    def _serve_from(self, urls: tuple[str, ...]) -> None:
        if urls == self._sources:
            return
        self._sources = urls
        table, pause = self._table, self.fetcher.pause
        over_http: list[Source] = [
            HttpSource(url, stall_s=table.stall_s, ca_file=table.ca_file, pause=pause) for url in urls
        ]
        self.fetcher.serve_from([*over_http, *self._always])

    def _over_mqtt(self) -> Source:
        return MqttSource(self._asking, pause=self.fetcher.pause)

    def _changed(self) -> None:
        self._wake.set()
        self._tell()

    def _tell(self) -> None:
        """What holds or is refused is news at once; how far it is, now and then: each report is a message."""
        now, told = self.standing(), self._told
        if now == told:
            return
        outline = (now.holds, now.refused, now.pending.keys()) != (told.holds, told.refused, told.pending.keys())
        wait_s = 0.0 if outline else self._told_mono_s + TELL_S - time.monotonic()
        if wait_s <= 0:
            self._told, self._told_mono_s = now, time.monotonic()
            self.on_change()
        elif self._later is None:
            self._later = self._loop.call_later(wait_s, self._tell_now)

    def _tell_now(self) -> None:
        self._later = None
        self._tell()

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(call, *arguments)

    def _complain(self, text: str) -> None:
        """Once, until it works again."""
        log.log(logging.DEBUG if text == self._complaint else logging.ERROR, "%s", text)
        self._complaint = text


def _name_of(config: PipelineConfig) -> str:
    """Until the model is loaded: the name of its folder."""
    return Path(config.model).name[:200]
