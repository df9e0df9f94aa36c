"""The one thread that writes a database: SQLite and PostgreSQL give it their transactions."""

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from runtime.database import Database, StorageError

T = TypeVar("T")
D = TypeVar("D", bound=Database)
Waiting = tuple[Callable[[D], Any], "Future[Any]", bool | None]
QUEUE_MAX = 10_000  # jobs waiting for the writer; beyond that callers are refused, not delayed without end


class Writer(ABC, Generic[D]):
    """The one thread that writes. Callers send it functions of the connection and get a future.

    Jobs waiting at the same time share one transaction (group commit): each still succeeds or fails alone, in a
    savepoint, and no future is resolved before the commit is on disk. What cannot be committed fails all of them.
    """

    BATCH_MAX = 256

    def __init__(self, *, name: str) -> None:
        self._name = name
        # SimpleQueue hands over in C: a third of what queue.Queue costs the caller, who is the event loop.
        self._jobs: queue.SimpleQueue[Waiting[D] | None] = queue.SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # ---- what a database gives ------------------------------------------------------------------

    @abstractmethod
    def _transaction(self, flags: list[bool]) -> AbstractContextManager[D]:
        """Begins one; commits at its end, or rolls back on an error, which passes on. `flags`: those of the jobs."""

    @abstractmethod
    def _between(self) -> D:
        """The connection outside of a transaction."""

    @abstractmethod
    def _explained(self, error: BaseException) -> BaseException:
        """The same as StorageError or StorageFormatError where it is the database's and not the job's."""

    @abstractmethod
    def _let_go(self) -> None:
        """Closes the connection; the thread has ended."""

    # ---- for everybody --------------------------------------------------------------------------

    def submit(self, job: Callable[[D], T]) -> "Future[T]":
        """Runs `job` in a transaction. Raises StorageError when too many jobs wait.

        After `close` the future holds a StorageError.
        """
        return self._put(job, flag=False)

    def _put(self, job: Callable[[D], T], *, flag: bool) -> "Future[T]":
        future: Future[T] = Future()
        if self._jobs.qsize() >= QUEUE_MAX:
            raise StorageError(
                f"{self._name}: {QUEUE_MAX} writes wait already", hint="the disk is too slow for this load"
            )
        self._jobs.put((job, future, flag))
        if self._ended:
            self._refuse_late()
        return future

    def maintain(self, job: Callable[[D], T]) -> "Future[T]":
        """Runs `job` between two transactions: for what a database refuses inside of one, such as a checkpoint."""
        future: Future[T] = Future()
        self._jobs.put((job, future, None))
        if self._ended:
            self._refuse_late()
        return future

    def close(self, timeout_s: float = 10.0) -> None:
        """Writes what waits, then ends the thread and closes the connection."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._let_go()

    def _run(self) -> None:
        self._work()
        self._ended = True
        self._refuse_late()

    def _refuse_late(self) -> None:
        """Whoever came after the end is told, not left waiting: the thread and late callers may both get here."""
        while True:
            try:
                late = self._jobs.get_nowait()
            except queue.Empty:
                return
            if late is not None and late[1].set_running_or_notify_cancel():
                late[1].set_exception(StorageError(f"{self._name}: closed already"))

    def _work(self) -> None:
        while True:
            first = self._jobs.get()
            if first is None:
                return
            batch = [first]
            last = False
            while len(batch) < self.BATCH_MAX:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    last = True
                    break
                batch.append(job)
            self._commit(batch)
            if last:
                return

    def _commit(self, waiting: "list[Waiting[D]]") -> None:
        # Whoever was cancelled while waiting does not want it any more; from here on nobody can cancel.
        wanted = [item for item in waiting if item[1].set_running_or_notify_cancel()]
        for job, future, flag in wanted:
            if flag is None:
                self._maintain(job, future)
        batch = [(job, future, flag) for job, future, flag in wanted if flag is not None]
        if not batch:
            return
        alone = len(batch) == 1
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], BaseException]] = []
        try:
            with self._transaction([flag for _, _, flag in batch]) as db:
                for job, future, _ in batch:
                    try:
                        done.append((future, _one(db, job, alone=alone)))
                    except Exception as error:
                        if alone or not db.in_transaction:
                            raise  # without a savepoint the whole transaction takes it back
                        failed.append((future, self._explained(error)))
        except Exception as error:  # noqa: BLE001 - supervision boundary: the thread must live, all callers are told
            for _, future, _ in batch:
                if not future.done():
                    future.set_exception(self._explained(error))
            return
        for future, value in done:
            future.set_result(value)
        for future, problem in failed:
            future.set_exception(problem)

    def _maintain(self, job: Callable[[D], Any], future: "Future[Any]") -> None:
        try:
            future.set_result(job(self._between()))
        except Exception as error:  # noqa: BLE001 - supervision boundary: the thread must live, the caller is told
            future.set_exception(self._explained(error))


def _one(db: D, job: Callable[[D], T], *, alone: bool) -> T:
    if alone:
        return job(db)
    db.execute("SAVEPOINT job")
    try:
        value = job(db)
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK TO job")
            db.execute("RELEASE job")
        raise
    db.execute("RELEASE job")
    return value
