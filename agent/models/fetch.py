"""Gets the releases that are wanted here onto the disk, one after the other: the driver of prefetching.

A release is a job of three steps: its document, its signature where keys are configured, its files. A job that has to
rest lets others go on. Killed or cut at any byte, the next start goes on with what is on the disk.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from agent.link.bucket import TokenBucket
from agent.models.cache import Cache, Part
from agent.models.fetching import Ask, Fetching, Item, Rest
from agent.models.job import Job, State
from agent.models.needs import needed
from agent.models.records import Ref
from agent.models.room import Room
from agent.models.settings import MIB, NodeModelsTable
from agent.models.signatures import Trust
from agent.models.sources import CutError, MissingError, Source, WrongError
from runtime.backoff import Backoff
from runtime.errors import EdgewrightError
from runtime.sqlite import DiskFullError, StorageError
from schemas.choosing import Facts
from schemas.release import ReleaseError, decode_release, digest_of

log = logging.getLogger(__name__)

IDLE_S = 30.0  # looked at again so often, when nobody says that there is something to do
HELD_BACK_S = 5.0  # a link that is metered: asked again so often
NO_ROOM_S = 60.0  # a full disk: looked at again so often
FREE_EVERY_BYTES = 16 * MIB  # of a file: how much room the disk has left is asked so often
STEP_PERCENT = 10  # progress is told in steps of so much
SIGNATURE = "signature"


class Fetcher:
    """One node's. `want` says what is wanted, `run` gets it, `job` says how far it is, `on_change` hears of news."""

    def __init__(
        self,
        table: NodeModelsTable,
        cache: Cache,
        trust: Trust,
        *,
        facts: Callable[[], Facts],
        announce: Callable[[str, str, dict[str, Any]], None],
        keep: Callable[[], Collection[str]],
        held_back: Callable[[], str] = lambda: "",
    ) -> None:
        """`keep`: digests that no want of room removes. `held_back`: why nothing may be fetched now, or ""."""
        self._table = table
        self._cache = cache
        self._trust = trust
        self._facts = facts
        self._announce = announce
        self._room = Room(cache, keep, bytes_max=table.bytes_max, free_bytes_min=table.free_bytes_min)
        self._held_back = held_back
        self._random = random.Random()
        self._bucket = TokenBucket(table.bytes_s_max, max(table.bytes_s_max, 256 * 1024))
        self._sources: list[Source] = []
        self._jobs: dict[str, Job] = {}
        self._wake = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None
        self.bytes_total = 0
        self.prefetched_total = 0

    # ---- told by others -------------------------------------------------------------------------

    def serve_from(self, sources: Iterable[Source]) -> None:
        """From now on these, in this order."""
        self._sources = list(sources)
        for job in self._jobs.values():
            if job.is_open:
                job.fetching, job.due_s = None, min(job.due_s, time.monotonic())
        self._wake.set()

    def want(self, refs: Collection[Ref]) -> None:
        """These and no others. What is not wanted any more is let go, with what has come of it."""
        by_digest = {ref.digest: ref for ref in refs}
        self._jobs = {
            digest: job for digest, job in self._jobs.items() if digest in by_digest and job.ref == by_digest[digest]
        }
        now_s = time.monotonic()
        for digest, ref in by_digest.items():
            if digest not in self._jobs:
                held = self._cache.held(digest)
                spread_s = 0.0 if held else self._table.spread_s * self._random.random()
                self._jobs[digest] = Job(ref, now_s + spread_s, now_s)
        self._wake.set()

    def again(self, digest: str) -> None:
        """A release that was here is not sound: it is fetched anew."""
        if digest in self._jobs:
            now_s = time.monotonic()
            self._jobs[digest] = Job(self._jobs[digest].ref, now_s, now_s)
            self._wake.set()

    def job(self, digest: str) -> Job | None:
        return self._jobs.get(digest)

    def pause(self, count: int) -> float:
        """So many bytes came: for how long to take none. From any thread."""
        now_s = time.monotonic()
        self._bucket.take(count, now_s)
        return self._bucket.wait_s(1.0, now_s)

    # ---- one job after the other ----------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            job = self._due()
            if job is not None:
                await self._work_on(job)
                continue
            left = [one.due_s for one in self._jobs.values() if one.is_open]
            wait_s = min([IDLE_S, *(due_s - time.monotonic() for due_s in left)])
            try:
                async with asyncio.timeout(max(0.01, wait_s)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _due(self) -> Job | None:
        now_s = time.monotonic()
        due = [job for job in self._jobs.values() if job.is_open and job.due_s <= now_s]
        return min(due, key=lambda job: job.due_s, default=None)

    async def _work_on(self, job: Job) -> None:
        try:
            await self._advance(job)
        except (DiskFullError, StorageError) as error:
            self._rest(job, NO_ROOM_S, State.REFUSED, str(error))
        except OSError as error:
            self._rest(job, NO_ROOM_S, State.REFUSED, f"models: {error.filename or ''}: {error.strerror or error}")
        except EdgewrightError as error:
            self._rest(job, self._table.retry_max_s, State.REFUSED, str(error))

    async def _advance(self, job: Job) -> None:
        """Until it is held, has to rest, or is refused."""
        while self._jobs.get(job.ref.digest) is job and not job.final:
            if job.release is None:
                if not await self._known(job):
                    return
                continue
            if self._trust.asks and not job.signature:
                if not await self._signed(job):
                    return
                continue
            if job.needed is None:
                job.needed = needed(job.release, self._facts())
            if job.needed.variant is None:
                self._refuse(job, job.needed.why_not)
                return
            if await self._all_here(job):
                await self._hold(job)
                return
            if not await self._step(job, job.fetching):
                return

    async def _known(self, job: Job) -> bool:
        """Whether the release's document is here: from the disk, or a step to get it."""
        kept = await asyncio.to_thread(self._cache.document, job.ref.digest)
        if kept is not None:
            job.signature = await asyncio.to_thread(self._cache.signature, job.ref.digest)
            if self._trust.mistake(job.ref.digest, job.signature):
                job.signature = ""  # asked for anew: keys may have been configured since
            return self._take_document(job, kept)
        if job.fetching is None:
            job.fetching = self._fetching([Item(job.ref.digest)])
        return await self._step(job, job.fetching)

    def _take_document(self, job: Job, document: bytes) -> bool:
        job.fetching = None
        try:
            release = decode_release(document, strict=False)
        except ReleaseError as error:
            self._refuse(job, str(error))
            return False
        if release.reference != job.ref.model:
            self._refuse(job, f"the digest is that of {release.reference}, not of {job.ref.model}")
            return False
        job.document, job.release = document, release
        return True

    async def _signed(self, job: Job) -> bool:
        if job.fetching is None:
            job.fetching = self._fetching([Item(SIGNATURE)])
        return await self._step(job, job.fetching)

    async def _all_here(self, job: Job) -> bool:
        """Whether nothing is left to be fetched; else there is room for it, and `fetching` gets it."""
        if job.fetching is not None:
            return job.fetching.next(time.monotonic()) is None
        assert job.needed is not None
        if await asyncio.to_thread(self._cache.held, job.ref.digest) is not None:
            return True  # checked when it came; whoever loads it reads it again
        lacking = await asyncio.to_thread(self._room.lacking, job.needed)
        if not lacking:
            return True
        await asyncio.to_thread(self._room.make, job.needed, lacking)
        job.fetching = self._fetching(lacking)
        return False

    async def _hold(self, job: Job) -> None:
        """All is here: it becomes a bundle that can be run."""
        assert job.release is not None and job.needed is not None
        was_held = await asyncio.to_thread(self._cache.held, job.ref.digest)
        if was_held is None:
            files = {file.path: file.sha256 for file in job.needed.files}
            await asyncio.to_thread(self._cache.keep_release, job.ref.digest, job.document, job.signature, files)
            (via, _), *_rest = [*job.bytes_by.most_common(1), ("cache", 0)]
            data = {
                "model": job.ref.model,
                "digest": job.ref.digest,
                "bytes": sum(job.bytes_by.values()),
                "duration_ms": round((time.monotonic() - job.begun_s) * 1000),
                "via": via,
            }
            self._announce("ModelPrefetched", job.name, data)
            self.prefetched_total += 1
            log.info("models: %s is here, %d bytes by %s", job.ref.model, data["bytes"], via)
        job.state, job.text, job.fetching = State.HELD, "", None
        job.document = b""
        self.on_change()

    # ---- one step of a job ----------------------------------------------------------------------

    async def _step(self, job: Job, fetching: Fetching | None) -> bool:
        """Asks one source for one thing. False: the job has to rest now."""
        assert fetching is not None
        if why := self._held_back():
            self._rest(job, HELD_BACK_S, State.PENDING, f"waiting: {why}")
            return False
        ask = fetching.next(time.monotonic())
        if ask is None:
            return True
        if isinstance(ask, Rest):
            trouble = fetching.trouble(time.monotonic())
            state = State.REFUSED if trouble else State.PENDING
            text = trouble or f"prefetching {self._percent(fetching)} %, waiting for a source: {ask.why}"
            self._rest(job, max(0.01, ask.until_s - time.monotonic()), state, text)
            return False
        source = self._sources[ask.source]
        try:
            await self._get(job, fetching, ask, source)
        except CutError as error:
            why = str(error)
            fetching.cut(ask, why, time.monotonic(), self._random.random(), at_least_s=error.at_least_s)
            self._say(job, source.name, why)
        except MissingError as error:
            why = "it is not signed" if ask.item.key == SIGNATURE else str(error)
            fetching.missing(ask, why, time.monotonic(), self._random.random())
            self._say(job, source.name, why)
        except WrongError as error:
            fetching.wrong(ask, str(error), time.monotonic(), self._random.random())
            self._say(job, source.name, str(error))
        else:
            job.complaints.clear()
            self._tell(job, fetching)
        return True

    async def _get(self, job: Job, fetching: Fetching, ask: Ask, source: Source) -> None:
        if job.release is None:
            await self._get_document(job, source)
        elif ask.item.key == SIGNATURE:
            signature = await source.signature(job.name, job.version)
            if wrong := self._trust.mistake(job.ref.digest, signature):
                raise WrongError(wrong)
            job.signature, job.fetching = signature, None
        else:
            await self._get_file(job, fetching, ask, source)

    async def _get_document(self, job: Job, source: Source) -> None:
        parts: list[bytes] = []
        await source.document(job.name, job.version, job.ref.digest, parts.append)
        document = b"".join(parts)
        if (digest := digest_of(document)) != job.ref.digest:
            raise WrongError(f"its {job.ref.model} has the digest {digest}, wanted is {job.ref.digest}")
        self._take_document(job, document)

    async def _get_file(self, job: Job, fetching: Fetching, ask: Ask, source: Source) -> None:
        part = await asyncio.to_thread(self._cache.part, ask.item.key)
        taken = _Taken(self._room, part)
        try:
            if part.bytes > ask.item.size:
                part.discard()
                part = taken.part = await asyncio.to_thread(self._cache.part, ask.item.key)
            fetching.begin_at(part.bytes)
            begun_at = part.bytes
            try:
                if part.bytes < ask.item.size:
                    taken.progress = lambda at: self._progress(job, fetching, taken, at)
                    await source.blob(ask.item.key, ask.item.size, part.bytes, taken.take)
            finally:
                came = part.bytes - begun_at
                fetching.begin_at(begun_at)
                fetching.progressed(ask, came, time.monotonic())
                job.bytes_by["mqtt" if source.name.endswith("MQTT") else "http"] += came
                self.bytes_total += came
            if await asyncio.to_thread(part.finish):
                fetching.got(ask, time.monotonic())
            elif begun_at:  # what was on the disk may have been spoilt by a power cut: once more from its beginning
                raise CutError("what had come of it before was not right, and is fetched anew")
            else:
                raise WrongError("what it has by this name is something else")
        finally:
            await asyncio.to_thread(part.close)

    def _progress(self, job: Job, fetching: Fetching, taken: "_Taken", at: int) -> None:
        """On the loop: so much of the file in hand is here."""
        taken.halt = self._held_back()
        fetching.begin_at(at)
        self._tell(job, fetching)

    # ---- small things ---------------------------------------------------------------------------

    def _fetching(self, items: Sequence[Item]) -> Fetching:
        backoff = Backoff(self._table.retry_first_s, self._table.retry_max_s)
        names = [source.name for source in self._sources]
        return Fetching(items, names, backoff=backoff, patience_s=self._table.patience_s, now_s=time.monotonic())

    def _rest(self, job: Job, seconds: float, state: State, text: str) -> None:
        job.due_s = time.monotonic() + seconds
        if (job.state, job.text) != (state, text):
            if state is State.REFUSED:
                log.warning("models: %s: %s", job.ref.model, text)
            job.state, job.text = state, text
            self.on_change()

    def _refuse(self, job: Job, reason: str) -> None:
        """For good."""
        job.final = True
        self._rest(job, IDLE_S, State.REFUSED, reason)

    def _tell(self, job: Job, fetching: Fetching) -> None:
        text = f"prefetching {self._percent(fetching)} %"
        if (
            not job.final
            and not fetching.trouble(time.monotonic())
            and (job.state, job.text) != (State.PENDING, text)
        ):
            job.state, job.text = State.PENDING, text
            self.on_change()

    @staticmethod
    def _say(job: Job, source: str, why: str) -> None:
        """Of a source, once until something comes."""
        news = job.complaints.get(source) != why
        job.complaints[source] = why
        log.log(logging.INFO if news else logging.DEBUG, "models: %s: %s: %s", job.ref.model, source, why)

    @staticmethod
    def _percent(fetching: Fetching) -> int:
        return int(fetching.share * 100) // STEP_PERCENT * STEP_PERCENT


class _Taken:
    """What a thread takes of a file, told to the loop now and then."""

    def __init__(self, room: Room, part: Part) -> None:
        self._room = room
        self.part = part
        self._loop = asyncio.get_running_loop()
        self._unchecked = 0
        self._told_mono_s = 0.0
        self.progress: Callable[[int], None] = lambda at: None
        self.halt = ""  # why no more is to come now

    def take(self, data: bytes) -> None:
        """In a thread. Raises StorageError, or CutError where there is to be a pause."""
        if self.halt:
            raise CutError(self.halt)
        self._unchecked += len(data)
        if self._unchecked >= FREE_EVERY_BYTES:
            self._unchecked = 0
            self._room.check()
        self.part.append(data)
        now_s = time.monotonic()
        if now_s - self._told_mono_s >= 1.0:
            self._told_mono_s = now_s
            self._loop.call_soon_threadsafe(self.progress, self.part.bytes)
