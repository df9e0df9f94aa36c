"""What a picture looks like: is the camera at fault, and where along the belt is a part?

Numbers of one luma plane; nothing is kept between pictures but what `CameraWatch` needs to say a fault once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from platforms.manufacturing.inspection.settings import CameraSettings, Find, Moves, PartSettings, Region

Luma = NDArray[np.uint8]
"""(height, width) uint8."""

POINTS_ACROSS, POINTS_DOWN = 96, 54  # of the grid that brightness is taken from
EDGE_CONTRAST_MIN = 25.0  # levels: weaker edges say nothing about sharpness
EDGE_SPAN = 8  # pixels over which an edge is taken as a whole
EDGES_MIN = 5
STRIPS_MAX = 40  # of a picture of any size
SHIFT_SIDE = 128  # pixels of the pictures that are laid over each other
LIKENESS_MIN = 0.04  # of the correlation's peak; less: it does not show the same thing


class Fault(StrEnum):
    """What is wrong with the camera."""

    BLACK = "black"
    WHITE = "white"
    BLURRED = "blurred"
    SHIFTED = "shifted"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the picture along the way of parts, pixels from `start` up to `end`; `cut_*`: it goes on beyond
    the region there."""

    start: float
    end: float
    cut_start: bool = False
    cut_end: bool = False

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2

    @property
    def length(self) -> float:
        return self.end - self.start

    @property
    def complete(self) -> bool:
        return not (self.cut_start or self.cut_end)


@dataclass(frozen=True, slots=True)
class Look:
    """One picture. `edge_px`: width of its sharpest edges; None where it has none. `extent`: the region along the way
    of parts, first and last pixel."""

    width: int
    height: int
    extent: tuple[float, float]
    spans: tuple[Span, ...] = ()
    edge_px: float | None = None
    faults: frozenset[Fault] = frozenset()


def look_at(luma: Luma, part: PartSettings, camera: CameraSettings, region: Region) -> Look:
    """All that one picture says by itself."""
    height, width = luma.shape
    points = luma[:: max(1, height // POINTS_DOWN), :: max(1, width // POINTS_ACROSS)]
    faults = set()
    if float(np.percentile(points, 99)) <= camera.black_max * 255:
        faults.add(Fault.BLACK)
    elif float((points >= 250).mean()) >= camera.white_share:
        faults.add(Fault.WHITE)
    edge_px = None if faults else edge_width(luma)
    if edge_px is not None and camera.edge_px_max and edge_px > camera.edge_px_max:
        faults.add(Fault.BLURRED)
    x0, y0, x1, y1 = (
        round(region[0] * width), round(region[1] * height), round(region[2] * width), round(region[3] * height)
    )  # fmt: skip
    upright = part.moves in (Moves.UP, Moves.DOWN)
    seen = luma[y0:y1, x0:x1].T if upright else luma[y0:y1, x0:x1]
    start, end = (y0, y1) if upright else (x0, x1)
    blind = bool(faults & {Fault.BLACK, Fault.WHITE})
    spans = () if blind or part.find is Find.NONE else spans_in(seen, part, start)
    return Look(width, height, (float(start), float(end)), spans, edge_px, frozenset(faults))


def edge_width(luma: Luma) -> float | None:
    """Pixels over which the sharpest horizontal edges rise: 2 to 3 in a sharp picture, 5 and more in a blurred one.

    In strips of eight columns, spread over the picture: the largest step over EDGE_SPAN rows, divided by the largest
    between two rows; the median of the strips with contrast. Rows, because parts move along them and smear what
    stands across.
    """
    height, width = luma.shape
    if height <= EDGE_SPAN or width < 16:
        return None
    step = max(16, width // STRIPS_MAX)
    apart = luma[:, : width // step * step].reshape(height, width // step, step)
    strips = apart[:, :, :8].mean(axis=2, dtype=np.float32)
    whole = np.abs(strips[EDGE_SPAN:] - strips[:-EDGE_SPAN]).max(axis=0)
    strong = whole > EDGE_CONTRAST_MIN
    if int(strong.sum()) < EDGES_MIN:
        return None
    step = np.abs(strips[1:] - strips[:-1]).max(axis=0)
    return float(np.median(whole[strong] / np.maximum(step[strong], 1.0)))


def spans_in(seen: Luma, part: PartSettings, start: int) -> tuple[Span, ...]:
    """Parts along axis 1 of a region whose first column is pixel `start`. A gap of 2 % in a part is none."""
    length = seen.shape[1]
    if length < 2 or seen.shape[0] < 2:
        return ()
    profile = np.median(seen[:: max(1, seen.shape[0] // 24)], axis=0)
    there = profile > part.level * 255 if part.find is Find.BRIGHTER else profile < part.level * 255
    edges = np.flatnonzero(np.diff(np.concatenate(([False], there, [False])).astype(np.int8)))
    found: list[list[int]] = []
    for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if found and a - found[-1][1] <= 0.02 * length:
            found[-1][1] = b
        else:
            found.append([a, b])
    return tuple(_spans(found, length, part, start))


def _spans(found: list[list[int]], length: int, part: PartSettings, start: int) -> Iterable[Span]:
    for a, b in found:
        cut_start, cut_end = a <= 1, b >= length - 1
        long_enough = b - a >= part.length_min * length or cut_start or cut_end
        if long_enough and b - a >= 0.02 * length and b - a <= part.length_max * length:
            yield Span(float(start + a), float(start + b), cut_start, cut_end)


# ---- the camera has been moved -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a picture lies from the reference, pixels of the full picture. likeness: the peak of the correlation,
    1 for the same picture."""

    dx: float
    dy: float
    likeness: float


class Reference:
    """The picture of a camera as it should stand. Phase correlation (Kuglin and Hines 1975)."""

    def __init__(self, luma: Luma, fixed: Region) -> None:
        self._fixed = fixed
        self._spectrum = np.fft.rfft2(_windowed(_piece(luma, fixed)[0]))

    def shift(self, luma: Luma) -> Shift:
        piece, step_x, step_y = _piece(luma, self._fixed)
        cross = np.fft.rfft2(_windowed(piece)) * np.conj(self._spectrum)
        peaks = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=piece.shape)
        y, x = np.unravel_index(int(np.argmax(peaks)), peaks.shape)
        height, width = piece.shape
        dy = (int(y) + height // 2) % height - height // 2
        dx = (int(x) + width // 2) % width - width // 2
        return Shift(dx * step_x, dy * step_y, float(peaks[y, x]))


def _piece(luma: Luma, fixed: Region) -> tuple[NDArray[np.float32], float, float]:
    """The fixed part at SHIFT_SIDE² pixels, each the mean of what it stands for, with the pixels in one of them."""
    height, width = luma.shape
    x0, x1 = round(fixed[0] * width), max(round(fixed[2] * width), round(fixed[0] * width) + 1)
    y0, y1 = round(fixed[1] * height), max(round(fixed[3] * height), round(fixed[1] * height) + 1)
    piece = luma[y0:y1, x0:x1].astype(np.float32)
    columns, rows = min(SHIFT_SIDE, piece.shape[1]), min(SHIFT_SIDE, piece.shape[0])
    at_y = np.linspace(0, piece.shape[0], rows + 1).astype(int)[:-1]
    at_x = np.linspace(0, piece.shape[1], columns + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(piece, at_y, axis=0), at_x, axis=1)
    counts = np.outer(np.diff([*at_y, piece.shape[0]]), np.diff([*at_x, piece.shape[1]]))
    return np.asarray(sums / counts, np.float32), piece.shape[1] / columns, piece.shape[0] / rows


def _windowed(piece: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without its mean and faded out at the border, which would correlate with itself."""
    window = np.outer(np.hanning(piece.shape[0]), np.hanning(piece.shape[1]))
    return np.asarray((piece - piece.mean()) * window, np.float32)


def is_shifted(shift: Shift, settings: CameraSettings) -> bool:
    """Moved too far, or showing something else altogether."""
    return max(abs(shift.dx), abs(shift.dy)) > settings.shift_px_max or shift.likeness < LIKENESS_MIN


# ---- faults that last ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FaultChange:
    """A fault of the camera has begun or is over."""

    fault: Fault
    raised: bool
    time_s: float  # when it began, or ended, to be so


class CameraWatch:
    """Told of each picture's faults; says which begin and end once they have lasted `hold_s`."""

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._since_s: dict[Fault, float] = {}  # since when it is as it is not yet told
        self.told: set[Fault] = set()

    def see(self, time_s: float, faults: Iterable[Fault]) -> list[FaultChange]:
        now = set(faults)
        changes = []
        for fault in Fault:
            if (fault in now) == (fault in self.told):
                self._since_s.pop(fault, None)
                continue
            since_s = self._since_s.setdefault(fault, time_s)
            if time_s < since_s:  # the clock went back: the wait begins anew
                since_s = self._since_s[fault] = time_s
            if time_s - since_s >= self._hold_s:
                changes.append(FaultChange(fault, fault in now, since_s))
                self.told ^= {fault}
                del self._since_s[fault]
        return changes
