"""A camera over a conveyor with welded plates, rendered: the scene of the demo and of the model's training.

Idea: the picture and the truth are pure functions of (seed, line, index); numpy only. The belt is painted in vertical
strips, each once when it comes into view and kept in a small cache; a frame is a crop of the strips, times the light
field, plus sensor noise.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from platforms.manufacturing.weld_parts import (
    LINES,
    STEEL,
    Box,
    Defect,
    DefectKind,
    FloatArray,
    Line,
    Part,
    f32,
    part_at,
)
from platforms.manufacturing.weld_surface import MARGIN, make_textures, paint_strip

STRIP = 32
"""Columns painted at a time: small enough that a new strip does not delay its frame much."""
LIGHT_FRAMES = 10
"""Frames for which the light field is kept."""
BAND = 40
"""Rows worked on at a time: they stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class WeldDefect:
    """A defect as the camera sees it. xyxy: pixels of the frame, x0 y0 x1 y1, cut at its border;
    visible_share: the part of the whole box inside the frame, 0..1."""

    label: DefectKind
    xyxy: Box
    defect_id: int
    visible_share: float


@dataclass(frozen=True, slots=True)
class WeldPart:
    """A part as the camera sees it. number: of its cell on the belt; xyxy: pixels, not cut at the frame's border."""

    number: int
    xyxy: Box
    defects: tuple[Defect, ...]


class WeldScene:
    """Frames and truth by index. One user at a time: `render` keeps a cache.

    `defects=False` renders the same parts without their defects.
    """

    def __init__(
        self,
        seed: int = 1,
        width: int = 640,
        height: int = 360,
        fps: float = 30.0,
        *,
        line: Line | str = STEEL,
        defects: bool = True,
    ) -> None:
        if seed < 0 or width < 64 or height < 48 or not fps > 0:
            raise ValueError(f"no scene of {width}x{height} at {fps} frames/s with seed {seed}")
        if isinstance(line, str):
            if line not in LINES:
                raise ValueError(f"there is no line {line!r}, only {', '.join(sorted(LINES))}")
            line = LINES[line]
        self.size = (width, height)
        self.fps = fps
        self.line = line
        self._seed = seed
        self._defects = defects
        self._scale = height / 360
        self._textures = make_textures(seed)
        self._strips: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._strips_max = width // STRIP + 4
        self._parts: OrderedDict[int, Part | None] = OrderedDict()
        self._light: tuple[int, FloatArray] | None = None
        rng = np.random.default_rng([seed, 0xCA3E])
        self._phase = rng.uniform(0, 2 * np.pi, 6)
        self._noise = _sensor_noise(rng, width, height, line.noise_levels)

    @property
    def cached_bytes(self) -> int:
        """What the scene holds beyond its fixed textures; bounded."""
        light = 0 if self._light is None else self._light[1].nbytes
        return light + sum(strip.nbytes for strip in self._strips.values())

    def render(self, index: int) -> NDArray[np.uint8]:
        """Frame `index` (>= 0): (height, width, 3) uint8 RGB, a new array."""
        width, height = self.size
        left = self._left(index)
        first, last = left // STRIP, (left + width - 1) // STRIP
        strips = [self._strip(number) for number in range(first, last + 1)]
        skipped = left - first * STRIP
        if not self.line.leftward:
            strips.reverse()
            skipped = (last + 1) * STRIP - left - width
        belt = np.concatenate(strips, axis=1)[:, skipped : skipped + width]
        light, flicker = self._light_field(index), self._flicker(index)
        row, column = self._noise_at(index)
        noise = self._noise[row : row + height, column : column + width]
        frame = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, BAND):
            rows = slice(top, top + BAND)
            band = belt[rows] * light[rows]
            band *= flicker
            band += noise[rows]
            np.clip(band, 0, 255, out=band)
            frame[rows] = band
        return frame

    def truth(self, index: int) -> list[WeldDefect]:
        """The defects in frame `index`, also those at its border."""
        if not self._defects:
            return []
        left = self._left(index)
        seen = (
            self._seen(defect, left)
            for number in self._cells(left, left + self.size[0])
            if (part := self._part(number)) is not None
            for defect in part.defects
        )
        return [defect for defect in seen if defect is not None]

    def parts(self, index: int) -> list[WeldPart]:
        """The parts in frame `index`, with all their defects, also those at its border."""
        left = self._left(index)
        found = (self._part(number) for number in self._cells(left, left + self.size[0]))
        seen = (self._seen_part(part, left) for part in found if part is not None)
        return [part for part in seen if part.xyxy[2] > 0 and part.xyxy[0] < self.size[0]]

    def _seen_part(self, part: Part, left: int) -> WeldPart:
        x0, x1 = part.centre[0] - part.half[0] - left, part.centre[0] + part.half[0] - left
        if not self.line.leftward:
            x0, x1 = self.size[0] - x1, self.size[0] - x0
        top, bottom = part.centre[1] - part.half[1], part.centre[1] + part.half[1]
        return WeldPart(part.number, (x0, top, x1, bottom), part.defects if self._defects else ())

    def _seen(self, defect: Defect, left: int) -> WeldDefect | None:
        width, height = self.size
        x0, y0, x1, y1 = defect.box
        x0, x1 = x0 - left, x1 - left
        if not self.line.leftward:
            x0, x1 = width - x1, width - x0
        cut = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if cut[2] - cut[0] < 1 or cut[3] - cut[1] < 1:
            return None
        share = (cut[2] - cut[0]) * (cut[3] - cut[1]) / ((x1 - x0) * (y1 - y0))
        return WeldDefect(defect.kind, cut, defect.defect_id, share)

    def _left(self, index: int) -> int:
        """World column of the frame's first column. A belt that moves rightward is the same belt seen in a mirror."""
        if index < 0:
            raise ValueError(f"frame index {index} is negative")
        return round(index * self.line.speed_px_s * self._scale / self.fps)

    def _cells(self, low: float, high: float) -> range:
        pitch = self.line.pitch_px * self._scale
        return range(int(low // pitch), int(high // pitch) + 1)

    def _part(self, number: int) -> Part | None:
        if number not in self._parts:
            self._parts[number] = part_at(self._seed, number, self.line, self._scale)
            if len(self._parts) > 6:
                self._parts.popitem(last=False)
        return self._parts[number]

    def _strip(self, number: int) -> NDArray[np.uint8]:
        """(height, STRIP, 3) uint8, painted or from the cache; the strip used longest ago is dropped."""
        strip = self._strips.pop(number, None)
        if strip is None:
            strip = self._paint(number)
            if len(self._strips) >= self._strips_max:
                self._strips.popitem(last=False)
        self._strips[number] = strip
        return strip

    def _paint(self, number: int) -> NDArray[np.uint8]:
        x0 = number * STRIP - MARGIN
        width = STRIP + 2 * MARGIN
        parts = [part for cell in self._cells(x0, x0 + width) if (part := self._part(cell)) is not None]
        rgb = paint_strip(
            x0, width, self.size[1], parts, self.line, self._textures, self._scale, self._defects
        )  # fmt: skip
        travel = self.line.speed_px_s * self._scale / self.fps * self.line.shutter_share
        focus = self.line.focus_px * (1 + 0.4 * np.sin(number * STRIP / (1100 * self._scale) + self._phase[0]))
        rgb = _blur(rgb, focus * self._scale, travel)
        strip = np.clip(rgb[:, MARGIN:-MARGIN] * 255, 0, 255).astype(np.uint8)
        return strip if self.line.leftward else np.ascontiguousarray(strip[:, ::-1])

    def _light_field(self, index: int) -> FloatArray:
        """(height, width, 3) float32 gain: exposure, colour, fall-off towards the corners and away from the lamp."""
        step = index // LIGHT_FRAMES
        if self._light is None or self._light[0] != step:
            line, phase = self.line, self._phase
            seconds = step * LIGHT_FRAMES / self.fps
            width, height = self.size
            x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
            y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
            azimuth = math.radians(line.light_azimuth_deg) + 0.3 * math.sin(seconds / 17 + phase[1])
            slope = 1 + 0.10 * (x * math.cos(azimuth) + y * math.sin(azimuth))
            fall = 1 - line.vignette * 0.5 * (x * x + y * y)
            warmth = 0.03 * math.sin(seconds / 29 + phase[2])
            exposure = line.exposure * (1 + 0.06 * math.sin(seconds / 11 + phase[3]))
            rgb = exposure * np.array(line.light_rgb) * [1 + warmth, 1, 1 - warmth]
            self._light = step, f32((fall * slope)[:, :, None] * f32(rgb))
        return self._light[1]

    def _flicker(self, index: int) -> np.float32:
        """Mains light of 100 Hz, nearly, sampled by the camera."""
        seconds = index / self.fps
        return np.float32(1 + self.line.flicker * np.sin(2 * np.pi * 100.6 * seconds + self._phase[4]))

    def _noise_at(self, index: int) -> tuple[int, int]:
        """Where the noise tile is cut for this frame: a different place for each of thousands of frames."""
        rows, columns = self._noise.shape[0] - self.size[1], self._noise.shape[1] - self.size[0]
        return index * 29 % (rows + 1), index * 53 % (columns + 1)


def _sensor_noise(rng: np.random.Generator, width: int, height: int, levels: float) -> NDArray[np.int8]:
    """Noise somewhat larger than a frame, (height + 61, width + 101, 3) int8."""
    noise = rng.standard_normal((height + 61, width + 101, 3), np.float32)
    noise *= levels
    np.rint(noise, out=noise)
    return np.clip(noise, -100, 100, out=noise).astype(np.int8)


def _blur(rgb: FloatArray, sigma: float, travel: float) -> FloatArray:
    """A Gaussian for the focus and, along the belt, a box for the motion. Edges repeat."""
    vertical = _gaussian(sigma)
    horizontal = np.convolve(vertical, _box(travel)).astype(np.float32)
    reach = MARGIN - 1
    if len(horizontal) > 2 * reach + 1:
        spare = (len(horizontal) - 2 * reach - 1) // 2
        horizontal = horizontal[spare : len(horizontal) - spare]
    return _convolved(_convolved(rgb, vertical, 0), horizontal / horizontal.sum(), 1)


def _convolved(rgb: FloatArray, kernel: FloatArray, axis: int) -> FloatArray:
    reach = len(kernel) // 2
    if reach == 0:
        return rgb
    pad = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
    padded = np.pad(rgb, pad, mode="edge")
    n = rgb.shape[axis]
    total = np.zeros_like(rgb)
    for shift, weight in enumerate(kernel):
        total += weight * (padded[shift : shift + n] if axis == 0 else padded[:, shift : shift + n])
    return total


def _gaussian(sigma: float) -> FloatArray:
    if sigma < 0.3:
        return np.ones(1, np.float32)
    reach = min(4, int(np.ceil(2.2 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _box(travel: float) -> FloatArray:
    """An odd box kernel of `travel` pixels, its ends weighted by the rest."""
    reach = int(np.ceil(max(travel - 1, 0) / 2))
    kernel = np.ones(2 * reach + 1, np.float32)
    if reach:
        kernel[0] = kernel[-1] = (travel - (2 * reach - 1)) / 2
    return np.asarray(kernel / kernel.sum(), np.float32)
