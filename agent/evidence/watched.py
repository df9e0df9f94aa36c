"""One camera as evidence sees it: its last seconds, where people were in them, and what is being collected."""

import threading
from collections import deque

import numpy as np

from agent.capture.frame import Frame
from agent.evidence.blur import NEAR_S, Boxes, BoxHistory, heads, shares
from agent.evidence.ring import Collection, Rate, Ring, RingFrame
from agent.evidence.settings import Blur, EvidenceSettings
from agent.infer.detections import Detections, Heat
from agent.track.tracks import Tracks

COLLECTIONS_MAX = 4  # clips of one camera at a time
FRAMES_MAX = 4  # full frames held for pictures, between decision and commit
HEATS_MAX = 64  # a kilobyte each, so also of pictures about which something is said later
SLACK_S = 2.0  # between a moment and the news that something happened in it


class Watched:
    """Camera thread, ring thread, maker thread and loop meet here; the lock is held for moments only."""

    def __init__(self, camera_id: str, settings: EvidenceSettings) -> None:
        self.camera_id = camera_id
        self._settings = settings
        self._lock = threading.Lock()
        self._rate = Rate(settings.clip_fps)
        span_s = settings.pre_s + SLACK_S
        self._ring = Ring(bytes_max=settings.ring_bytes_max, span_s=span_s)
        # Made later than collected: the boxes of a clip are still needed when its last frame has come.
        self._boxes = BoxHistory(span_s + settings.post_s + 2 * SLACK_S)
        self._collections: list[Collection] = []
        self._frames: deque[Frame] = deque(maxlen=FRAMES_MAX)
        self._heats: deque[tuple[int, Heat]] = deque(maxlen=HEATS_MAX)  # by the time of their frame
        self.waiting = 0  # frames on their way into the ring

    def wants(self, frame: Frame) -> bool:
        """Whether this frame goes into the ring; asked in the camera's thread, once a frame."""
        return self._rate.passes(frame.time_s)

    def put(self, frame: RingFrame) -> None:
        with self._lock:
            self._ring.put(frame)
            for collection in self._collections:
                collection.add(frame)

    def found(self, frame: Frame, labels: tuple[str, ...], detections: Detections, tracks: Tracks) -> None:
        """What a model saw in a frame; a model that knows no people says nothing about them."""
        if detections.heat is not None and len(detections):
            self._heats.append((frame.captured_utc_ms, detections.heat))
        boxes = boxes_to_hide(self._settings, frame, labels, detections, tracks)
        if boxes is not None:
            with self._lock:
                self._boxes.seen(frame.time_s, boxes)

    def hold(self, frame: Frame) -> None:
        """Something happened in this frame: a picture of it may be wanted soon."""
        self._frames.append(frame)

    def let_go(self, time_s: float) -> None:
        """Frames of long ago need not take memory."""
        while self._frames and abs(time_s - self._frames[0].time_s) > SLACK_S:
            self._frames.popleft()

    def held(self, utc_ms: int) -> Frame | None:
        """The frame of that moment, if it is held."""
        return next((frame for frame in self._frames if frame.captured_utc_ms == utc_ms), None)

    def heat(self, utc_ms: int) -> Heat | None:
        """Of the frame of that moment, if something was found in it."""
        return next((heat for at_ms, heat in self._heats if at_ms == utc_ms), None)

    def nearest(self, time_s: float) -> RingFrame | None:
        with self._lock:
            return self._ring.nearest(time_s)

    @property
    def newest_s(self) -> float | None:
        with self._lock:
            return self._ring.newest_s

    def collect(self, time_s: float) -> Collection | None:
        """Begins a clip around that moment; None when enough are under way."""
        settings = self._settings
        from_s, to_s = time_s - settings.pre_s, time_s + settings.post_s
        with self._lock:
            if len(self._collections) >= COLLECTIONS_MAX:
                return None
            begun = self._ring.between(from_s, float("inf"))
            collection = Collection(begun, from_s=from_s, to_s=to_s, bytes_max=settings.ring_bytes_max)
            self._collections.append(collection)
            return collection

    def collected(self, collection: Collection) -> None:
        """The clip takes no further frames."""
        with self._lock:
            self._collections.remove(collection)

    def boxes(self) -> BoxHistory:
        """A copy of what is known now."""
        with self._lock:
            return self._boxes.copy()

    def looked_beyond(self, time_s: float) -> bool:
        """Whether boxes were looked for after that moment and its neighbours."""
        with self._lock:
            newest_s = self._boxes.newest_s
        return newest_s is not None and newest_s >= time_s + NEAR_S


def boxes_to_hide(
    settings: EvidenceSettings, frame: Frame, labels: tuple[str, ...], detections: Detections, tracks: Tracks
) -> Boxes | None:
    """As shares of the picture, detected and predicted ones; None where the model knows nothing of the kind."""
    people = [i for i, label in enumerate(labels) if label in settings.person_classes]
    faces = [i for i, label in enumerate(labels) if label in settings.face_classes]
    if settings.blur is Blur.NONE or not (people or (faces and settings.blur is Blur.FACES)):
        return None
    classes = np.concatenate((detections.class_id, tracks.class_id))
    xyxy = np.concatenate((detections.xyxy, tracks.xyxy)).astype(np.float32)
    boxes = shares(xyxy, frame.picture.width, frame.picture.height)
    of_people = boxes[np.isin(classes, people)]
    if settings.blur is Blur.PEOPLE:
        return of_people
    return np.concatenate((heads(of_people), boxes[np.isin(classes, faces)]))
