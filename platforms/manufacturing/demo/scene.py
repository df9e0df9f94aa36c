"""A weld line under an inspection camera, with marks that never move and faults that a camera has.

Idea: picture, truth and faults are pure functions of (seed, line, index), as in `weld_scene`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from platforms.manufacturing.inspection.picture import Fault
from platforms.manufacturing.weld_parts import STEEL, Defect, Line
from platforms.manufacturing.weld_scene import WeldScene

Rgb = NDArray[np.uint8]

MARK = 6  # pixels of one cell of a mark, at 360 rows
MARK_CELLS = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0]], bool)
FIXED = (0.0, 0.0, 1.0, 0.1)
"""The strip of the picture with the marks: parts lie below it."""
ROUND_S = 60.0
FAULTS: tuple[tuple[float, float, Fault], ...] = (
    (18.0, 24.0, Fault.BLURRED),
    (34.0, 36.0, Fault.BLACK),
    (46.0, 52.0, Fault.SHIFTED),
)
"""Seconds of each minute in which a camera with `faults` has one."""
SHIFT_PX = (16, 36)  # down and to the right


@dataclass(frozen=True, slots=True)
class Passing:
    """A part whose middle passes the middle of the picture in frame `index`. fault: of the camera at that moment."""

    number: int
    index: float
    defects: tuple[Defect, ...]
    fault: Fault | None


class WeldStation(WeldScene):
    """`faults=1`: the camera has each of FAULTS once a minute."""

    def __init__(
        self,
        seed: int = 1,
        width: int = 640,
        height: int = 360,
        fps: float = 30.0,
        *,
        line: Line | str = STEEL,
        faults: int = 0,
    ) -> None:
        super().__init__(seed, width, height, fps, line=line)
        self._faults = bool(faults)
        cell = max(1, round(MARK * height / 360))
        self._mark = np.kron(MARK_CELLS, np.ones((cell, cell), bool))

    def render(self, index: int) -> Rgb:
        frame = super().render(index)
        self._draw_marks(frame)
        match self.fault_at(index):
            case Fault.BLACK:
                return np.asarray(frame // 32, np.uint8)
            case Fault.WHITE:
                return np.full_like(frame, 255)
            case Fault.BLURRED:
                return _blurred(frame, 7)
            case Fault.SHIFTED:
                down, right = SHIFT_PX
                moved = np.pad(frame, ((down, 0), (right, 0), (0, 0)), mode="edge")
                return np.ascontiguousarray(moved[: frame.shape[0], : frame.shape[1]])
        return frame

    def fault_at(self, index: int) -> Fault | None:
        """What the camera has in that frame."""
        second = index / self.fps % ROUND_S
        if not self._faults:
            return None
        return next((fault for begin, end, fault in FAULTS if begin <= second < end), None)

    def passing(self, first: int, last: int) -> Iterator[Passing]:
        """The parts that pass the middle of the picture from frame `first` up to `last`, in order."""
        step = self.line.speed_px_s * self._scale / self.fps
        middle = self.size[0] / 2
        for number in self._cells(first * step, last * step + self.size[0]):
            part = self._part(number)
            if part is None:
                continue
            index = (part.centre[0] - middle) / step
            if first <= index < last:
                yield Passing(part.number, index, part.defects, self.fault_at(round(index)))

    def _draw_marks(self, frame: Rgb) -> None:
        side, width = len(self._mark), self.size[0]
        for share in (0.05, 0.35, 0.65, 0.91):
            left = round(share * width)
            frame[4 : 4 + side, left : left + side] = np.where(self._mark, 235, 10)[:, :, None]


def _blurred(frame: Rgb, side: int) -> Rgb:
    """Two passes of a box of `side` pixels along each axis."""
    smooth = frame.astype(np.float32)
    for axis in (0, 1, 0, 1):
        padded = np.pad(smooth, [(side // 2 + 1, side // 2) if a == axis else (0, 0) for a in range(3)], mode="edge")
        sums = np.cumsum(padded, axis=axis, dtype=np.float32)
        high = np.take(sums, range(side, sums.shape[axis]), axis=axis)
        low = np.take(sums, range(sums.shape[axis] - side), axis=axis)
        smooth = np.asarray((high - low) / side, np.float32)
    return np.asarray(np.clip(smooth, 0, 255), np.uint8)
