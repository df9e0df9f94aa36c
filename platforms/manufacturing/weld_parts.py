"""What passes under the camera: plates with a welded seam, good or defective, laid out along the belt.

Idea: a part is a pure function of (seed, its number). Coordinates are *world* pixels: x along the belt, y across it,
origin at the top of the picture, for a picture 360 pixels high (`scale` adapts other heights).

    k-th cell of the belt            pitch_px
    |<------------------------------------------------------>|
    |      +----------------------------------+              |
    |      |  plate          spatter .:.      |     gap      |
    |      |=====(pore)====seam====/crack/====|              |
    |      |        ~~undercut~~              |              |
    |      +----------------------------------+              |
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]
Box = tuple[float, float, float, float]

DEFECTS_PER_PART_MAX = 8
"""Ids of defects are `part * DEFECTS_PER_PART_MAX + position`."""


def f32(values: ArrayLike) -> FloatArray:
    """A float32 array."""
    return np.asarray(values, np.float32)


class DefectKind(StrEnum):
    """The four classes, in the order of the model's labels."""

    PORE = "pore"
    CRACK = "crack"
    UNDERCUT = "undercut"
    SPATTER = "spatter"


KINDS = tuple(DefectKind)


@dataclass(frozen=True, slots=True)
class Line:
    """A production line as the camera sees it. Lengths in pixels of a picture 360 high; colours are RGB, 0..1."""

    name: str = "steel"
    speed_px_s: float = 110.0
    leftward: bool = True
    pitch_px: float = 560.0
    defective_share: float = 0.6
    plate_rgb: tuple[float, float, float] = (0.56, 0.58, 0.60)
    belt_rgb: tuple[float, float, float] = (0.13, 0.14, 0.15)
    light_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    light_azimuth_deg: float = -60.0
    light_elevation_deg: float = 48.0
    exposure: float = 1.0
    vignette: float = 0.25
    focus_px: float = 0.6
    shutter_share: float = 0.25
    noise_levels: float = 2.5
    flicker: float = 0.015
    heat_tint: float = 0.8


STEEL = Line()
STAINLESS = Line(
    name="stainless",
    speed_px_s=150.0,
    leftward=False,
    pitch_px=520.0,
    defective_share=0.5,
    plate_rgb=(0.70, 0.68, 0.64),
    belt_rgb=(0.10, 0.17, 0.14),
    light_rgb=(1.06, 1.0, 0.88),
    light_azimuth_deg=125.0,
    light_elevation_deg=40.0,
    exposure=0.9,
    vignette=0.4,
    focus_px=0.8,
    noise_levels=3.5,
    flicker=0.03,
    heat_tint=1.0,
)
LINES = {line.name: line for line in (STEEL, STAINLESS)}
"""The two lines of the demo: one each for two cameras that show different things."""


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect of one part.

    points: (n, 3) float32: x, y in world pixels and a radius; centres of drops and pores, or the vertices of a line
    box:    x0 y0 x1 y1 in world pixels, around all that is drawn
    """

    kind: DefectKind
    defect_id: int
    points: FloatArray
    strength: float
    box: Box


@dataclass(frozen=True, slots=True)
class Part:
    """A plate with its seam. u runs along the seam, v across it, both from the plate's centre; lengths in pixels."""

    number: int
    centre: tuple[float, float]
    half: tuple[float, float]
    angle_rad: float
    tone: float
    seam_v: float
    seam_wave: tuple[float, float, float]
    bead_half_width: float
    ripple_pitch: float
    ripple_bend: float
    tint: float
    texture_at: tuple[int, int]
    scratches: tuple[FloatArray, ...]
    stains: FloatArray
    defects: tuple[Defect, ...]

    def x_range(self) -> tuple[float, float]:
        """First and last world x that the plate or its shadow can touch."""
        reach = self.half[0] + abs(self.angle_rad) * self.half[1] + 14.0
        return self.centre[0] - reach, self.centre[0] + reach

    def seam_centre_v(self, u: FloatArray) -> FloatArray:
        """v of the seam's centre line at each u."""
        amplitude, wavelength, phase = self.seam_wave
        return np.asarray(self.seam_v + amplitude * np.sin(u / wavelength + phase), np.float32)

    def world(self, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Plate coordinates to world pixels."""
        cos, sin = np.float32(np.cos(self.angle_rad)), np.float32(np.sin(self.angle_rad))
        return self.centre[0] + u * cos - v * sin, self.centre[1] + u * sin + v * cos

    def plate(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """World pixels to plate coordinates."""
        cos, sin = np.float32(np.cos(self.angle_rad)), np.float32(np.sin(self.angle_rad))
        dx, dy = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        return dx * cos + dy * sin, dy * cos - dx * sin


def part_at(seed: int, number: int, line: Line, scale: float) -> Part | None:
    """The part in cell `number` (>= -1) of the belt, or None where the cell is empty."""
    rng = np.random.default_rng([seed, number + 1])
    if rng.random() < 0.08:
        return None
    pitch = line.pitch_px * scale
    length = pitch * rng.uniform(0.66, 0.80)
    slack = pitch - length
    angle = float(rng.normal(0.0, 0.018))
    bare = Part(
        number=number,
        centre=(
            float((number + 0.5) * pitch + rng.uniform(-0.2, 0.2) * slack),
            float(scale * rng.uniform(168, 192)),
        ),
        half=(float(length / 2), float(scale * rng.uniform(108, 132))),
        angle_rad=angle,
        tone=float(rng.uniform(0.85, 1.12)),
        seam_v=float(scale * rng.uniform(-24, 24)),
        seam_wave=(
            float(scale * rng.uniform(0.5, 3.0)),
            float(scale * rng.uniform(25, 70)),
            float(rng.uniform(0, 6.3)),
        ),
        bead_half_width=float(scale * rng.uniform(17, 25)),
        ripple_pitch=float(scale * rng.uniform(7.0, 11.0)),
        ripple_bend=float(rng.uniform(0.35, 0.8) * rng.choice([-1, 1])),
        tint=float(rng.uniform(0.3, 1.0) * line.heat_tint),
        texture_at=(int(rng.integers(4096)), int(rng.integers(4096))),
        scratches=(),
        stains=np.zeros((0, 4), np.float32),
        defects=(),
    )
    scratches = tuple(_scratch(rng, bare, scale) for _ in range(rng.integers(0, 4)))
    stains = np.array([_stain(rng, bare, scale) for _ in range(rng.integers(0, 3))], np.float32).reshape(-1, 4)
    defects = _defects(rng, bare, line, scale)
    return replace(bare, scratches=scratches, stains=stains, defects=defects)


def _scratch(rng: np.random.Generator, part: Part, scale: float) -> FloatArray:
    """(n, 3) x, y, half width of a shallow scratch: it looks a little like a crack and is none."""
    u0, v0 = rng.uniform(-0.9, 0.9) * part.half[0], rng.uniform(-0.9, 0.9) * part.half[1]
    length, heading = scale * rng.uniform(25, 110), rng.uniform(0, np.pi)
    t = np.linspace(0, 1, 4, dtype=np.float32)
    bow = scale * rng.uniform(-6, 6) * np.sin(np.pi * t)
    u = np.clip(u0 + length * t * np.cos(heading) - bow * np.sin(heading), -0.95 * part.half[0], 0.95 * part.half[0])
    v = np.clip(v0 + length * t * np.sin(heading) + bow * np.cos(heading), -0.95 * part.half[1], 0.95 * part.half[1])
    x, y = part.world(u.astype(np.float32), v.astype(np.float32))
    return np.stack([x, y, np.full(4, 0.7 * scale)], axis=1).astype(np.float32)


def _stain(rng: np.random.Generator, part: Part, scale: float) -> tuple[float, float, float, float]:
    """x, y, radius, depth of a soft dark smudge of oil or soot."""
    u, v = rng.uniform(-0.8, 0.8) * part.half[0], rng.uniform(-0.8, 0.8) * part.half[1]
    x, y = part.world(f32([u]), f32([v]))
    return float(x[0]), float(y[0]), scale * float(rng.uniform(12, 40)), float(rng.uniform(0.08, 0.25))


def _defects(rng: np.random.Generator, part: Part, line: Line, scale: float) -> tuple[Defect, ...]:
    """Up to four defects that keep apart from each other; none on a good part."""
    if rng.random() >= line.defective_share:
        return ()
    placed: list[Defect] = []
    for _ in range(int(rng.integers(1, 5))):
        kind = KINDS[int(rng.integers(len(KINDS)))]
        for _attempt in range(6):
            strength = float(rng.uniform(0.65, 1.0))
            points, pad = _SHAPES[kind](rng, part, scale)
            box = _around(points, pad * scale)
            if all(_apart(box, other.box, 5 * scale) for other in placed):
                number = part.number * DEFECTS_PER_PART_MAX + len(placed)
                placed.append(Defect(kind, number, points, strength, box))
                break
    return tuple(placed)


def _around(points: FloatArray, pad: float) -> Box:
    reach = points[:, 2] + pad
    return (
        float((points[:, 0] - reach).min()),
        float((points[:, 1] - reach).min()),
        float((points[:, 0] + reach).max()),
        float((points[:, 1] + reach).max()),
    )


def _apart(a: Box, b: Box, gap: float) -> bool:
    return a[2] + gap < b[0] or b[2] + gap < a[0] or a[3] + gap < b[1] or b[3] + gap < a[1]


def _placed(part: Part, u: FloatArray, v: FloatArray, radius: FloatArray) -> FloatArray:
    x, y = part.world(np.asarray(u, np.float32), np.asarray(v, np.float32))
    return np.stack([x, y, np.asarray(radius, np.float32)], axis=1).astype(np.float32)


def _pore(rng: np.random.Generator, part: Part, scale: float) -> tuple[FloatArray, float]:
    """A round gas hole in the bead."""
    u = np.array([rng.uniform(-0.85, 0.85) * part.half[0]], np.float32)
    v = part.seam_centre_v(u) + rng.uniform(-0.5, 0.5) * part.bead_half_width
    return _placed(part, u, v, np.array([scale * rng.uniform(5.5, 10.5)], np.float32)), 2.0


def _crack(rng: np.random.Generator, part: Part, scale: float) -> tuple[FloatArray, float]:
    """A jagged dark line in the bead, along it or across it into the plate."""
    across = rng.random() < 0.5
    length = scale * (rng.uniform(34, 70) if across else rng.uniform(45, 115))
    heading = rng.uniform(0.9, 2.2) if across else rng.uniform(-0.3, 0.3)
    n = max(4, int(length / (9 * scale)))
    along = np.linspace(-length / 2, length / 2, n)
    jag = scale * rng.uniform(1.8, 4.5) * rng.standard_normal(n)
    u0 = rng.uniform(-0.8, 0.8) * part.half[0]
    v0 = float(part.seam_centre_v(f32([u0]))[0]) + rng.uniform(-0.25, 0.25) * part.bead_half_width
    u = u0 + along * np.cos(heading) - jag * np.sin(heading)
    v = v0 + along * np.sin(heading) + jag * np.cos(heading)
    taper = 0.55 + 0.45 * np.sin(np.linspace(0.15, np.pi - 0.15, n))
    width = scale * rng.uniform(1.4, 2.4) * taper
    u = np.clip(u, -0.96 * part.half[0], 0.96 * part.half[0])
    return _placed(part, u.astype(np.float32), v.astype(np.float32), width.astype(np.float32)), 2.5


def _undercut(rng: np.random.Generator, part: Part, scale: float) -> tuple[FloatArray, float]:
    """A groove melted into the plate along one toe of the bead."""
    length = scale * rng.uniform(55, 140)
    limit = part.half[0] - 18 * scale - length / 2
    u = (rng.uniform(-limit, limit) + np.linspace(-length / 2, length / 2, 12)).astype(np.float32)
    side = rng.choice([-1.0, 1.0])
    width = scale * rng.uniform(3.0, 5.5)
    v = part.seam_centre_v(u) + side * (part.bead_half_width + 0.3 * width) + scale * 0.7 * rng.standard_normal(12)
    taper = 0.5 + 0.5 * np.sin(np.linspace(0.2, np.pi - 0.2, 12))
    return _placed(part, u, v.astype(np.float32), (width * taper).astype(np.float32)), 1.5


def _spatter(rng: np.random.Generator, part: Part, scale: float) -> tuple[FloatArray, float]:
    """A group of solidified drops on the plate beside the bead."""
    n = int(rng.integers(5, 13))
    side = rng.choice([-1.0, 1.0])
    reach = scale * rng.uniform(13, 32)
    seam = float(part.seam_centre_v(f32([0.0]))[0])
    inner, outer = part.bead_half_width + 0.7 * reach, 0.9 * part.half[1] - side * seam - reach
    v0 = seam + side * rng.uniform(inner, max(inner + 1, outer))
    u0 = rng.uniform(-0.82, 0.82) * part.half[0]
    radius = scale * rng.uniform(1.5, 4.2, n)
    angle, far = rng.uniform(0, 2 * np.pi, n), reach * np.sqrt(rng.uniform(0.02, 1.0, n))
    u = np.clip(u0 + far * np.cos(angle) * 1.15, -0.94 * part.half[0], 0.94 * part.half[0])
    v = np.clip(v0 + far * np.sin(angle) * 0.85, -0.92 * part.half[1], 0.92 * part.half[1])
    return _placed(part, u.astype(np.float32), v.astype(np.float32), radius.astype(np.float32)), 1.5


_SHAPES = {
    DefectKind.PORE: _pore,
    DefectKind.CRACK: _crack,
    DefectKind.UNDERCUT: _undercut,
    DefectKind.SPATTER: _spatter,
}
