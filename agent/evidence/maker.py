"""A picture or clip made of what was collected, with what has to be hidden hidden. Runs in a thread.

What may leave the node is made only of frames of which it is known where people are; the rest stays here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agent.capture.frame import Frame, Rgb
from agent.evidence.blur import Boxes, padded, pixelated
from agent.evidence.encode import clip_of, jpeg_of, rgb_of, small_rgb
from agent.evidence.heat import HEAT, heated
from agent.evidence.ring import RingFrame
from agent.evidence.settings import Blur, EvidenceSettings
from agent.evidence.tables import Piece
from agent.infer.detections import Heat

UNKNOWN = "no model looked for people in it, so nobody can say what to hide"
ORIGINAL = "the original of what was hidden elsewhere"

BoxesAt = Callable[[float], Boxes | None]


@dataclass(frozen=True, slots=True)
class Made:
    """A file to be kept, and what it is."""

    data: bytes = field(repr=False)
    piece: Piece


class Maker:
    """Makes pieces as `[evidence]` asks for."""

    def __init__(self, settings: EvidenceSettings) -> None:
        self._settings = settings
        self._regions: Boxes = np.array(settings.blur_regions, np.float32).reshape(-1, 4)
        self.frames_unknown_total = 0  # frames that stayed here because nobody knew what to hide

    def still(
        self, camera_id: str, source: Frame | RingFrame, boxes_at: BoxesAt, heat: Heat | None = None
    ) -> Iterator[Made]:
        """The picture of one moment, and once more with its heat map. Raises UndecodableError."""
        if isinstance(source, Frame):
            rgb, utc_ms = small_rgb(source.picture, self._settings.jpeg_width), source.captured_utc_ms
        else:
            rgb, utc_ms = rgb_of(source.jpeg), source.utc_ms
        piece = Piece("image/jpeg", camera_id, utc_ms, utc_ms, rgb.shape[1], rgb.shape[0])
        quality = self._settings.jpeg_quality
        hidden = self._hidden(rgb, source.time_s, boxes_at)
        if hidden is None:
            self.frames_unknown_total += 1
            stays = replace(piece, local_only=True, reason=UNKNOWN)
            yield Made(jpeg_of(rgb, quality), stays)
            yield from self._heated(rgb, source, heat, stays)
            return
        yield Made(jpeg_of(hidden, quality), replace(piece, blurred=self._settings.hides))
        yield from self._heated(hidden, source, heat, replace(piece, blurred=self._settings.hides))
        if self._settings.keep_original and self._settings.hides:
            yield Made(jpeg_of(rgb, quality), replace(piece, local_only=True, reason=ORIGINAL))

    def _heated(self, rgb: Rgb, source: Frame | RingFrame, heat: Heat | None, piece: Piece) -> Iterator[Made]:
        if heat is not None and isinstance(source, Frame):
            over = heated(rgb, heat, source.picture.width, source.picture.height)
            yield Made(jpeg_of(over, self._settings.jpeg_quality), replace(piece, view=HEAT))

    def clip(self, camera_id: str, frames: Sequence[RingFrame], boxes_at: BoxesAt) -> Iterator[Made]:
        """The seconds around one moment; `frames` has at least one. Raises UndecodableError."""
        known = [frame for frame in frames if not self._asks_for_boxes or boxes_at(frame.time_s) is not None]
        self.frames_unknown_total += len(frames) - len(known)
        if known:
            yield Made(clip_of(self._read(known, boxes_at)), self._piece(camera_id, known))
        if not known or (self._settings.keep_original and self._settings.hides):
            piece = self._piece(camera_id, frames)
            stays = replace(piece, blurred=False, local_only=True, reason=ORIGINAL if known else UNKNOWN)
            yield Made(clip_of((frame.time_s, rgb_of(frame.jpeg)) for frame in frames), stays)

    def _read(self, frames: Sequence[RingFrame], boxes_at: BoxesAt) -> Iterator[tuple[float, Rgb]]:
        for frame in frames:
            hidden = self._hidden(rgb_of(frame.jpeg), frame.time_s, boxes_at)
            assert hidden is not None  # only frames of which it is known are given
            yield frame.time_s, hidden

    def _piece(self, camera_id: str, frames: Sequence[RingFrame]) -> Piece:
        rgb = rgb_of(frames[0].jpeg)
        return Piece(
            "video/mp4",
            camera_id,
            frames[0].utc_ms,
            frames[-1].utc_ms,
            rgb.shape[1],
            rgb.shape[0],
            blurred=self._settings.hides,
        )

    @property
    def _asks_for_boxes(self) -> bool:
        return self._settings.blur is not Blur.NONE

    def _hidden(self, rgb: Rgb, time_s: float, boxes_at: BoxesAt) -> Rgb | None:
        """With everything hidden; None where nobody knows what to hide."""
        boxes = self._regions
        if self._asks_for_boxes:
            found = boxes_at(time_s)
            if found is None:
                return None
            boxes = np.concatenate((boxes, padded(found)))
        return pixelated(rgb, boxes) if len(boxes) else rgb
