"""Brings a release into a running pipeline: load, prove, swap, watch. The driver of activation.

One model is loaded at a time, so that there is room for two of them at most; any number may be on probation.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.config import PipelineConfig
from agent.decide.settings import check_decide_settings
from agent.infer.bundle import Bundle
from agent.infer.bundle_files import load_bundle
from agent.infer.engine import ModelError
from agent.infer.host import EngineHost
from agent.models import records
from agent.models.gate import Candidate, StoppedError, measure
from agent.models.golden import Figures, Thresholds, Verdict
from agent.models.golden_files import load_golden
from agent.models.journal import RecordsFile
from agent.models.probation import Probation, complaint
from agent.models.records import Record, Ref
from agent.models.settings import Golden as GoldenRule
from agent.models.settings import NodeModelsTable
from agent.slotted import AtWork
from agent.stream import Stream
from runtime.errors import EdgewrightError
from runtime.sqlite import StorageError
from schemas.versions import VersionError, parse_version

log = logging.getLogger(__name__)

Announce = Callable[[str, str, dict[str, Any]], None]


@dataclass(slots=True)
class Seat:
    """A pipeline, and what its place for a model knows."""

    stream: Stream
    config: PipelineConfig
    runs: Ref | None = None  # as loaded; None: the configured model
    bundle: Bundle | None = None
    doing: str = ""  # what is being done, for people
    not_before_s: float = 0.0  # monotonic: nothing is tried before
    probation: Probation | None = None
    live_from: int | None = None  # frames when the model came: it is measured once, some time after
    variant: str = ""  # the target of its file, since the swap

    @property
    def title(self) -> str:
        return self.config.title


class Switching:
    """One node's. `records` are journalled before what they say is done."""

    def __init__(
        self,
        table: NodeModelsTable,
        file: RecordsFile,
        *,
        hardware: str,
        announce: Announce,
        folder: Callable[[str], Path | None],
        is_unsound: Callable[[Ref, str], bool] = lambda ref, why: False,
    ) -> None:
        """`hardware`: what figures were measured on. `folder`: of a release by its digest, if it is here.
        `is_unsound`: what cannot be loaded is damaged here; then it comes anew. In a thread."""
        self._is_unsound = is_unsound
        self._table = table
        self._file = file
        self._hardware = hardware
        self._announce = announce
        self._folder = folder
        self._stop = threading.Event()
        self.records: dict[str, Record] = {}
        self.seats: dict[str, Seat] = {}
        self.on_change: Callable[[], None] = lambda: None

    # ---- records --------------------------------------------------------------------------------

    def begin(self) -> None:
        """As the last start left them. Blocks."""
        self.records = {title: records.restarted(record) for title, record in self._file.read().items()}
        self._write()

    def record(self, title: str) -> Record:
        return self.records.get(title, Record())

    def note(self, title: str, record: Record) -> None:
        """From now on; on the disk when this returns. Raises StorageError, and then nothing has changed."""
        before = self.records
        if self.record(title) == record:
            return
        self.records = {**before, title: record}
        try:
            self._file.write(self.records)
        except StorageError:
            self.records = before
            raise
        self.on_change()

    def _write(self) -> None:
        try:
            self._file.write(self.records)
        except StorageError as error:
            log.error("%s", error)  # as at any start on a full disk: it goes on with what it knows

    def end_in_order(self) -> None:
        """The agent ends because somebody asked: no trial is the worse for it. Blocks."""
        self.records = {title: records.unblamed(record) for title, record in self.records.items()}
        self._write()

    def stop(self) -> None:
        """A proof that is under way ends soon."""
        self._stop.set()

    def resume(self) -> None:
        """Proofs may be made, also after a `stop`."""
        self._stop.clear()

    # ---- one model into one pipeline ------------------------------------------------------------

    async def activate(self, seat: Seat, ref: Ref) -> None:
        """`ref` is here: it takes the place of what runs, or is refused, as the record then says.

        Raises StorageError.
        """
        record = self.record(seat.title)
        if not records.is_on_trial(record, ref):
            await asyncio.to_thread(self.note, seat.title, records.begun(record, ref))
        self._say(seat, "being loaded")
        host: EngineHost | None = None
        try:
            try:
                bundle = await asyncio.to_thread(self._load, ref)
            except ModelError as error:
                if await asyncio.to_thread(self._is_unsound, ref, str(error)):
                    return
                raise
            if wrong := check_decide_settings(seat.config.decide, bundle.labels):
                await self.refuse(seat, ref, "; ".join(wrong))
                return
            host = await self._opened(seat, bundle)
            self._say(seat, "being proved")
            verdict = await self._prove(seat, ref, bundle, host)
            if verdict is not None:
                seat.variant = _variant(host)
                self._tell_measured(seat, ref, verdict.new, host.stats().rung, "golden", verdict.agreement)
                if verdict.refusal:
                    await self.refuse(seat, ref, verdict.refusal)
                    return
            await self._swap(seat, ref, bundle, host)
            host = None
        except StoppedError:
            raise asyncio.CancelledError from None
        except StorageError:
            raise
        except EdgewrightError as error:
            await self.refuse(seat, ref, str(error))
        finally:
            seat.doing = ""
            if host is not None:
                await asyncio.to_thread(host.close)
            self.on_change()

    async def go_back(self, seat: Seat) -> None:
        """To what the record says, beside what still runs: after a refusal, or when nothing else is wanted.

        Raises EdgewrightError where the configured model cannot be loaded either.
        """
        ref = self.record(seat.title).running
        if ref == seat.runs:
            return
        self._say(seat, "being put back")
        try:
            bundle = await asyncio.to_thread(self._load, ref, seat.config)
            host = await self._opened(seat, bundle)
        except EdgewrightError as error:
            if ref is None:
                raise
            log.error("models: pipeline %s cannot go back to %s: %s", seat.title, ref.model, error)
            await asyncio.to_thread(self.note, seat.title, records.configured(self.record(seat.title)))
            await self.go_back(seat)
            return
        finally:
            seat.doing = ""
        await self._put_in(seat, ref, bundle, host)
        self.on_change()

    async def refuse(self, seat: Seat, ref: Ref, reason: str) -> None:
        """What ran before goes on, or comes back."""
        log.warning("models: pipeline %s does not run %s: %s", seat.title, ref.model, reason)
        seat.probation = seat.live_from = None
        await asyncio.to_thread(self.note, seat.title, records.failed(self.record(seat.title), ref, reason))
        data = {"pipeline": seat.title, "model": ref.model, "digest": ref.digest, "reason": reason[:500]}
        self._announce("ModelRefused", seat.title, data)
        await self.go_back(seat)
        self.on_change()

    async def _swap(self, seat: Seat, ref: Ref, bundle: Bundle, host: EngineHost) -> None:
        await asyncio.to_thread(self.note, seat.title, records.swapped(self.record(seat.title)))
        was = seat.runs.model if seat.runs else _reference(seat.bundle)
        variant = _variant(host)
        await self._put_in(seat, ref, bundle, host)
        engine, seat.variant = host.stats().rung, variant
        self.watch(seat)
        data = {
            "pipeline": seat.title,
            "model": ref.model,
            "digest": ref.digest,
            "variant": variant,
            "engine": engine,
            "was": was,
        }
        self._announce("ModelActivated", seat.title, data)
        log.info("models: pipeline %s runs %s on %s, in place of %s", seat.title, ref.model, engine, was or "none")

    async def _put_in(self, seat: Seat, ref: Ref | None, bundle: Bundle, host: EngineHost) -> None:
        runs, before = seat.runs, seat.bundle
        seat.runs, seat.bundle = ref, bundle  # what a start of the stream meanwhile is given: see `Models.load`
        try:
            await seat.stream.change_model(seat.title, bundle, host)
        except EdgewrightError:
            seat.runs, seat.bundle = runs, before
            raise

    def _load(self, ref: Ref | None, config: PipelineConfig | None = None) -> Bundle:
        """Raises ModelError."""
        if ref is None:
            assert config is not None
            return load_bundle(config.model)
        folder = self._folder(ref.digest)
        return load_bundle(folder if folder is not None else Path(ref.digest), in_part=True)

    async def _opened(self, seat: Seat, bundle: Bundle) -> EngineHost:
        """Raises EngineUnavailableError or ModelError. If cancelled meanwhile, it is closed once it has opened."""
        host = seat.stream.new_host(seat.title, bundle)
        opening = asyncio.ensure_future(asyncio.to_thread(host.open))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: host.close() if done.exception() is None else None)
            raise
        return host

    # ---- proving --------------------------------------------------------------------------------

    async def _prove(self, seat: Seat, ref: Ref, bundle: Bundle, host: EngineHost) -> Verdict | None:
        """None: nothing is asked for. Raises ModelError, EngineError, or StoppedError."""
        gate, record = self._table.gate, self.record(seat.title)
        if gate.golden is GoldenRule.OFF or ref in (record.running, record.before):
            return None  # what ran here before has proved itself: a roll-back is no comparison
        golden = await asyncio.to_thread(load_golden, bundle.variants[0].path.parent)
        if golden is None and gate.golden is GoldenRule.REQUIRED:
            raise ModelError("it has no golden frames, and models.gate asks for them")
        given = Thresholds(gate.accuracy_min, gate.accuracy_drop_max, gate.latency_factor_max, gate.latency_slack_ms)
        thresholds = golden.thresholds.over(given) if golden is not None else given
        at_work = seat.stream.at_work(seat.title)
        old = await self._beside(seat, at_work)
        work = asyncio.ensure_future(
            asyncio.to_thread(
                measure, Candidate(bundle, host), old, golden, thresholds,
                runs=gate.runs, stop=self._stop, at_work=at_work.engine if at_work else None,
            )
        )  # fmt: skip
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stop.set()
            await asyncio.gather(work, return_exceptions=True)  # the engines are in use until then
            raise
        finally:
            if old is not None:
                await asyncio.to_thread(old.host.close)

    async def _beside(self, seat: Seat, at_work: AtWork | None) -> Candidate | None:
        """The model that runs, opened once more on the same kind of engine; None where it does not, or cannot be."""
        if at_work is None:
            return None
        host: EngineHost | None = None
        try:
            host = seat.stream.new_host(seat.title, at_work.bundle, quiet=True)
            await asyncio.to_thread(host.open)
            if host.stats().rung == at_work.engine.rung:
                return Candidate(at_work.bundle, host)
        except EdgewrightError as error:
            log.info("models: pipeline %s: what runs is not opened a second time: %s", seat.title, error)
        if host is not None:
            await asyncio.to_thread(host.close)
        return None

    def _tell_measured(
        self, seat: Seat, ref: Ref, figures: Figures, engine: str, basis: str, agreement: float | None = None
    ) -> None:
        said: dict[str, Any] = {
            "model": ref.model,
            "digest": ref.digest,
            "variant": seat.variant,
            "hardware": self._hardware,
            "engine": engine,
            "frames": figures.frames,
            "latency_ms_p50": round(figures.latency_ms_p50, 3),
            "latency_ms_p95": round(figures.latency_ms_p95, 3),
            "basis": basis,
        }
        if figures.accuracy is not None:
            said["accuracy"] = round(figures.accuracy, 4)
        if agreement is not None:
            said["agreement"] = round(agreement, 4)
        self._announce("ModelMeasured", seat.title, said)

    # ---- watching -------------------------------------------------------------------------------

    def watch(self, seat: Seat) -> None:
        """From now on it is on probation."""
        at_work = seat.stream.at_work(seat.title)
        until_s = time.monotonic() + self._table.probation_s
        seat.probation = Probation(until_s, "", 0, 0)
        if at_work is not None:
            seat.probation = Probation(until_s, at_work.engine.rung, at_work.frames, at_work.failures)
            seat.live_from = at_work.frames

    async def look(self, seat: Seat) -> None:
        """Now and then: a probation ends, a model is measured at work. Raises StorageError."""
        at_work, ref = seat.stream.at_work(seat.title), seat.runs
        if ref is None:
            return
        if why := seat.stream.failure(seat.title):
            await self.refuse(seat, ref, why)
            return
        if seat.probation is not None:
            await self._look_at_probation(seat, seat.probation, at_work, ref)
        if seat.live_from is not None and at_work is not None and seat.bundle is not None:
            frames = at_work.frames - seat.live_from
            if frames < 0:  # the camera was started anew
                seat.live_from = at_work.frames
            elif frames >= self._table.live_frames:
                engine = at_work.engine
                figures = Figures(frames, None, engine.latency_ms_p50, engine.latency_ms_p95)
                seat.live_from = None
                self._tell_measured(seat, ref, figures, engine.rung, "live")

    async def _look_at_probation(self, seat: Seat, since: Probation, at_work: AtWork | None, ref: Ref) -> None:
        if at_work is not None and (not since.engine or at_work.failures < since.failures):
            seat.probation = since = replace(
                since, engine=at_work.engine.rung, frames=at_work.frames, failures=at_work.failures
            )
        failures_max = self._table.probation_failures_max
        if at_work is not None and (why := complaint(since, at_work.engine.rung, at_work.failures, failures_max)):
            await self.refuse(seat, ref, f"on probation: {why}")
        elif time.monotonic() >= since.until_s:
            await asyncio.to_thread(self.note, seat.title, records.passed(self.record(seat.title)))
            seat.probation = None
            log.info("models: pipeline %s keeps %s", seat.title, ref.model)
            self.on_change()

    def _say(self, seat: Seat, doing: str) -> None:
        seat.doing = doing
        self.on_change()


def _variant(host: EngineHost) -> str:
    """The target of the model file in use."""
    return host.rung.variant.target.value if host.rung is not None else ""


def reference_of(bundle: Bundle) -> str:
    """NAME@VERSION, the version in its whole form if it is one."""
    try:
        return f"{bundle.name}@{parse_version(bundle.version)}"
    except VersionError:
        return f"{bundle.name}@{bundle.version}"


def _reference(bundle: Bundle | None) -> str:
    return "" if bundle is None else reference_of(bundle)
