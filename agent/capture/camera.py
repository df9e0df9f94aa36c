"""Runs one camera: open, read, pace, hand on; notice when it fails, say so once, come back."""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from time import monotonic, monotonic_ns, time_ns

from agent.capture.address import redact
from agent.capture.errors import CameraFrozenError, CameraStalledError, CaptureInterruptedError
from agent.capture.frame import Frame
from agent.capture.health import Health, StreamWatch
from agent.capture.pacing import Pacer, Replay
from agent.capture.picture import fingerprint
from agent.capture.settings import CameraConfig
from agent.capture.source import Captured, FrameSource, open_source
from agent.capture.watchdog import Watchdog
from runtime.backoff import Backoff
from runtime.errors import AuthError, ConfigError, EdgewrightError, PermanentError

log = logging.getLogger(__name__)

_WATCHDOG = Watchdog()  # shared by all cameras; has no thread until the first one starts
_RATE_FRAMES = 64
_RATE_WINDOW_S = 5.0
_TIME_STEP_MIN_S = 1e-4


class CameraState(Enum):
    """What is true of a camera in each state."""

    STARTING = "starting"  # no frame has come yet, and nothing has failed
    RUNNING = "running"  # frames come and the picture moves
    STALLED = "stalled"  # connected, frames stopped coming; reconnecting
    FROZEN = "frozen"  # frames come, all with the same picture; was reconnected once, goes on
    AUTH_FAILED = "auth_failed"  # the camera refuses our credentials; asked again slowly
    LOST = "lost"  # nothing answers; reconnecting
    FAILED = "failed"  # a file or folder that cannot be read, or a defect; the thread has ended
    ENDED = "ended"  # a file or folder came to its end; the thread has ended
    STOPPED = "stopped"  # by `stop`; the thread has ended


_DOWN = frozenset((CameraState.STALLED, CameraState.LOST))


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """A change of state, with its reason fit for people and logs (credentials removed)."""

    camera_id: str
    state: CameraState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CameraStats:
    """What a camera has done since its start. read = admitted + skipped (+ 1 that is just being handed on)."""

    state: CameraState
    frames_read: int
    frames_admitted: int
    frames_skipped: int  # left out to keep to fps_target
    decode_errors: int
    reconnects: int
    stalls: int
    freezes: int
    format_changes: int  # codec or size differed after a reconnect
    fps: float  # of the source, over the last seconds
    width: int
    height: int
    format: str
    last_error: str


class Camera:
    """One camera in its own thread, `camera-<id>`.

    `on_frame` and `on_state` are called in that thread. `on_state` hears of every change of state once: when the
    camera is lost, not at each failed attempt to reconnect, and when it is back. An exception from `on_frame` is a
    defect and ends this camera (FAILED), none of the others.
    """

    def __init__(
        self,
        config: CameraConfig,
        on_frame: Callable[[Frame], object],
        on_state: Callable[[CameraStatus], object],
        *,
        make_source: Callable[[CameraConfig], FrameSource] = open_source,
        watchdog: Watchdog = _WATCHDOG,
    ) -> None:
        """Raises ConfigError when the configuration is impossible."""
        config.check()
        self.config = config
        self._on_frame = on_frame
        self._on_state = on_state
        self._make_source = make_source
        self._watchdog = watchdog
        self._shown = redact(config.source)
        self._thread = threading.Thread(target=self._run, name=f"camera-{config.id}", daemon=True)
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # guards _source between the reader and whoever interrupts it
        self._source: FrameSource | None = None
        self._stalled = False  # the watchdog has interrupted the present source
        self._watch = StreamWatch(config.frozen_after_s)
        self._backoff = Backoff(config.retry_first_s, config.retry_max_s)
        self._pacer = Pacer(config.fps_target)
        self._replay = Replay()
        self._random = random.Random()
        self._state = CameraState.STARTING
        self._read = self._admitted = self._skipped = self._broken = 0
        self._connects = self._stalls = self._freezes = self._format_changes = 0
        self._arrivals_s: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._last_time_s = float("-inf")
        self._size = (0, 0)
        self._format = ""
        self._last_error = ""

    # For the owner, from any thread.

    def start(self) -> None:
        """Begin; once only."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the thread and close the source. False: it did not end in time (a put that waits for room, say)."""
        self._stopping.set()
        with self._lock:
            if self._source is not None:
                self._source.interrupt()
        if self._thread.ident is None:  # never started
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stopping(self) -> bool:
        """Whether `stop` was called: for `Slot.put`."""
        return self._stopping.is_set()

    @property
    def state(self) -> CameraState:
        return self._state

    def stats(self) -> CameraStats:
        source = self._source
        return CameraStats(
            state=self._state,
            frames_read=self._read,
            frames_admitted=self._admitted,
            frames_skipped=self._skipped,
            decode_errors=self._broken + (source.broken if source is not None else 0),
            reconnects=max(0, self._connects - 1),
            stalls=self._stalls,
            freezes=self._freezes,
            format_changes=self._format_changes,
            fps=self._rate(),
            width=self._size[0],
            height=self._size[1],
            format=self._format,
            last_error=self._last_error,
        )

    # The reader thread, from top to bottom.

    def _run(self) -> None:
        self._watchdog.watch(self, self._check)
        try:
            self._on_state(CameraStatus(self.config.id, self._state))
            self._serve()
        except Exception as defect:  # the supervision boundary of this thread
            log.exception("camera %s ended by a defect", self.config.id)
            self._enter(CameraState.FAILED, f"defect: {type(defect).__name__}")
        finally:
            self._watchdog.forget(self)

    def _serve(self) -> None:
        """Sessions until the source ends for good."""
        failures = 0
        while not self._stopping.is_set():
            frames_before = self._read
            live = True
            try:
                source = self._make_source(self.config)
                live = source.live
                self._session(source)
                self._enter(CameraState.ENDED)
                return
            except EdgewrightError as error:
                if self._stopping.is_set():
                    break
                self._note(error, live)
                if self._state is CameraState.FAILED:
                    return
                failures = 1 if self._read > frames_before else failures + 1
                needs_person = isinstance(error, (AuthError, PermanentError))
                pause_s = self.config.retry_slow_s if needs_person else self._pause_s(failures - 1)
                self._stopping.wait(pause_s)
        self._enter(CameraState.STOPPED)

    def _session(self, source: FrameSource) -> None:
        """One connection from open to close. Returns at the end of the source, raises when it fails."""
        self._stalled = False
        with self._lock:
            self._source = source
            if self._stopping.is_set():
                source.interrupt()
        try:
            patience_s = self.config.open_timeout_s
            self._watch.read_began(monotonic() + patience_s)
            source.open()
            self._watch.reconnected()
            self._connects += 1
            self._watch.read_began(monotonic() + patience_s)
            while (captured := source.read()) is not None:
                self._watch.read_ended()
                now_s = monotonic()
                self._deliver(source, captured, now_s)
                if source.live:
                    self._look(captured, now_s)
                patience_s = self.config.stall_after_s
                self._watch.read_began(monotonic() + patience_s)
        except CaptureInterruptedError:
            if self._stalled and not self._stopping.is_set():
                self._stalls += 1
                raise CameraStalledError(
                    f"{self._shown} sent no frame for {patience_s:g} s",
                    hint="check camera and network",
                ) from None
            raise
        finally:
            self._watch.read_ended()
            with self._lock:
                self._source = None
            self._broken += source.broken
            source.close()

    def _deliver(self, source: FrameSource, captured: Captured, now_s: float) -> None:
        index, self._read = self._read, self._read + 1
        self._arrivals_s.append(now_s)
        self._size = (captured.picture.width, captured.picture.height)
        if source.format != self._format:
            self._new_format(source.format)
        frozen = self._watch.health(now_s) is Health.FROZEN
        self._enter(CameraState.FROZEN if frozen else CameraState.RUNNING)
        if not self._pacer.admit(captured.time_s):
            self._skipped += 1
            return
        available_ns = captured.captured_mono_ns
        if self.config.realtime and not source.live:
            if self._stopping.wait(self._replay.wait_s(captured.time_s, now_s)):
                return
            available_ns = monotonic_ns()  # a recorded frame becomes available when it is due
        time_s = captured.time_s
        if source.live:  # a new connection must not set the time back
            time_s = max(time_s, self._last_time_s + _TIME_STEP_MIN_S)
            self._last_time_s = time_s
        self._on_frame(Frame(self.config.id, index, time_s, available_ns, time_ns() // 1_000_000, captured.picture))
        self._admitted += 1

    def _look(self, captured: Captured, now_s: float) -> None:
        """Notice a frozen picture; the first time it is worth a new connection."""
        if not self._watch.wants_look(now_s):
            return
        before = self._watch.health(now_s)
        self._watch.look(now_s, fingerprint(captured.picture))
        if self._watch.health(now_s) is Health.FROZEN and before is not Health.FROZEN:
            self._freezes += 1
            raise CameraFrozenError(
                f"{self._shown} has sent the same picture for {self.config.frozen_after_s:g} s",
                hint="restart the camera, or raise frozen_after_s if nothing ever moves there",
            )

    def _new_format(self, now: str) -> None:
        if self._format and self._connects > 1:
            self._format_changes += 1
            log.warning("camera %s changed its stream from %s to %s", self.config.id, self._format, now)
        self._format = now

    # Helpers.

    def _check(self, now_s: float) -> None:
        """The watchdog's question, in its thread: a live source that is waited for too long is interrupted."""
        if self._watch.health(now_s) is not Health.STALLED:
            return
        with self._lock:
            if self._source is not None and self._source.live and not self._stalled:
                self._stalled = True
                self._source.interrupt()

    def _note(self, error: EdgewrightError, live: bool) -> None:
        """A session failed: remember why, and report it if that changes what is known of the camera."""
        self._last_error = str(error)
        log.debug("camera %s: %s", self.config.id, error)
        if isinstance(error, AuthError):
            state = CameraState.AUTH_FAILED
        elif isinstance(error, ConfigError) or (isinstance(error, PermanentError) and not live):
            state = CameraState.FAILED
        elif isinstance(error, CameraStalledError):
            state = CameraState.STALLED
        elif isinstance(error, CameraFrozenError):
            state = CameraState.FROZEN
        else:
            state = CameraState.LOST
        # While it is down, how the attempts to reconnect fail is no news.
        if not (state in _DOWN and self._state in _DOWN | {CameraState.AUTH_FAILED}):
            self._enter(state, str(error))

    def _enter(self, state: CameraState, reason: str = "") -> None:
        if state is self._state:
            return
        self._state = state
        level = (
            logging.INFO
            if state in (CameraState.RUNNING, CameraState.ENDED, CameraState.STOPPED)
            else logging.WARNING
        )
        log.log(level, "camera %s is %s%s", self.config.id, state.value, f": {reason}" if reason else "")
        self._on_state(CameraStatus(self.config.id, state, reason))

    def _pause_s(self, attempt: int) -> float:
        return self._backoff.delay_s(attempt, self._random.random())

    def _rate(self) -> float:
        arrivals_s = [at_s for at_s in list(self._arrivals_s) if at_s > monotonic() - _RATE_WINDOW_S]
        if len(arrivals_s) < 2:
            return 0.0
        return (len(arrivals_s) - 1) / max(1e-6, arrivals_s[-1] - arrivals_s[0])
