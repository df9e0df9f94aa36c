"""How plates, seams and defects look: a strip of the belt as shaded colour.

Idea: a height field and an albedo are painted over the strip's pixels, normals come from the height's gradient, and a
distant light gives Lambert diffuse and Blinn-Phong specular shading (Blinn 1977). Everything depends on world
coordinates alone, so that neighbouring strips meet without a visible border.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from platforms.manufacturing.weld_parts import Defect, DefectKind, FloatArray, Line, Part, f32

TILE = 256
"""Side of the noise tiles, pixels; they wrap."""

MARGIN = 6
"""Columns painted beyond each side of a strip, so that gradients and blur see their neighbours."""


@dataclass(frozen=True, slots=True)
class Textures:
    """Tileable noise, each (TILE, TILE) float32 with mean 0 and deviation 1."""

    brushed: FloatArray
    cloudy: FloatArray
    grainy: FloatArray


def make_textures(seed: int) -> Textures:
    """White noise shaped in the frequency domain, which makes it tileable."""
    rng = np.random.default_rng([seed, 0x7E57])
    fy = np.fft.fftfreq(TILE)[:, None]
    fx = np.fft.rfftfreq(TILE)[None, :]
    radius = np.hypot(fx, fy) + 1.0 / TILE

    def shaped(response: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> FloatArray:
        spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE))) * response
        spectrum[0, 0] = 0.0
        noise = np.fft.irfft2(spectrum, s=(TILE, TILE))
        return np.asarray(noise / noise.std(), np.float32)

    return Textures(
        brushed=shaped(np.exp(-((fx * 90) ** 2)) * np.exp(-((fy * 1.6) ** 2))),
        cloudy=shaped(radius**-1.6 * np.exp(-((radius * 4) ** 2))),
        grainy=shaped(np.exp(-((radius * 2.2) ** 2))),
    )


@dataclass(slots=True)
class _Canvas:
    """A strip, or a plate on it, while it is painted.

    x: (1, w), y: (h, 1) world pixels; height: (h, w) pixels; rgb: (h, w, 3), 0..1;
    gloss: (h, w), weight of the specular term
    """

    x: FloatArray
    y: FloatArray
    height: FloatArray
    rgb: FloatArray
    gloss: FloatArray

    def window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice] | None:
        """Rows and columns of the pixels inside a world box, None where it misses the strip."""
        left, top = float(self.x[0, 0]), float(self.y[0, 0])
        c0, c1 = max(0, int(x0 - left)), min(self.x.shape[1], int(x1 - left) + 2)
        r0, r1 = max(0, int(y0 - top)), min(self.y.shape[0], int(y1 - top) + 2)
        return (slice(r0, r1), slice(c0, c1)) if r0 < r1 and c0 < c1 else None


def paint_strip(
    x0: int, width: int, height: int, parts: list[Part], line: Line, textures: Textures, scale: float, defects: bool
) -> FloatArray:
    """The belt from world column x0, shaded and not yet blurred: (height, width, 3) float32, 0..1 and above."""
    x = np.arange(x0, x0 + width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    level = np.zeros((height, width), np.float32)
    canvas = _Canvas(x, y, level, np.empty((height, width, 3), np.float32), np.zeros_like(level))
    _paint_belt(canvas, line, textures, scale)
    for part in parts:
        low, high = part.x_range()
        if high >= x0 and low <= x0 + width:
            _paint_part(canvas, part, line, textures, scale)
            if defects:
                for defect in part.defects:
                    _paint_defect(canvas, defect, scale)
    return _shade(canvas, line, parts[0].number if parts else 0)


def _tile(texture: FloatArray, canvas: _Canvas, at: tuple[int, int] = (0, 0)) -> FloatArray:
    """The texture over the canvas, wrapped: (h, w)."""
    rows = (canvas.y[:, 0].astype(np.int64) + at[0]) % TILE
    columns = (canvas.x[0].astype(np.int64) + at[1]) % TILE
    return f32(texture[rows[:, None], columns[None, :]])


def _paint_belt(canvas: _Canvas, line: Line, textures: Textures, scale: float) -> None:
    """Ribbed rubber between two rails."""
    rib = np.sin(canvas.x * np.float32(2 * np.pi / (26 * scale)))
    grain = _tile(textures.grainy, canvas)
    tone = 1.0 + 0.10 * grain + 0.08 * _tile(textures.cloudy, canvas)
    canvas.rgb[:] = tone[:, :, None] * f32(line.belt_rgb)
    canvas.height[:] = 0.5 * scale * np.clip(rib * 2.0, -1, 1) + 0.25 * grain
    rail = np.abs(canvas.y - canvas.y[-1] / 2) - (canvas.y[-1] / 2 - 13 * scale)
    on_rail = np.clip(rail, 0, 1)
    canvas.height[:] = canvas.height * (1 - on_rail) + on_rail * 3.0 * np.minimum(rail, 3 * scale)
    steel = f32([0.30, 0.31, 0.33])
    canvas.rgb[:] += on_rail[:, :, None] * (steel - canvas.rgb)
    canvas.gloss[:] = 0.06 + 0.25 * on_rail


def _paint_part(canvas: _Canvas, part: Part, line: Line, textures: Textures, scale: float) -> None:
    """Shadow, plate, heat tint, seam and the harmless marks."""
    u, v = part.plate(canvas.x, canvas.y)
    corner = 7.0 * scale
    qu, qv = np.abs(u) - (part.half[0] - corner), np.abs(v) - (part.half[1] - corner)
    outside = np.hypot(np.maximum(qu, 0), np.maximum(qv, 0)) + np.minimum(np.maximum(qu, qv), 0) - corner
    canvas.rgb *= (1 - 0.65 * np.clip(1 - outside / (12 * scale), 0, 1))[:, :, None]
    on_plate = np.clip(0.5 - outside, 0, 1).astype(np.float32)

    noise = Textures(
        brushed=_tile(textures.brushed, canvas, part.texture_at),
        cloudy=_tile(textures.cloudy, canvas, part.texture_at),
        grainy=_tile(textures.grainy, canvas, part.texture_at),
    )
    tone = part.tone * (1.0 + 0.055 * noise.brushed + 0.05 * noise.cloudy + 0.02 * noise.grainy)
    rgb = tone[:, :, None] * f32(line.plate_rgb)
    height = 4.0 * scale * np.clip(-outside / (3.5 * scale), 0, 1) + 0.10 * noise.brushed
    plate = _Canvas(canvas.x, canvas.y, height, rgb, np.full_like(height, 0.22))

    across = (v - part.seam_centre_v(u)) / np.float32(part.bead_half_width)
    ends = f32(np.clip((part.half[0] - 9 * scale - np.abs(u)) / (9 * scale), 0, 1))
    _tint(rgb, across, part.tint * ends * (1 + 0.25 * noise.cloudy))
    _paint_bead(plate, part, noise, u, across, ends, scale)
    for x, y, radius, depth in part.stains:
        rgb *= (1 - depth * np.exp(-((canvas.x - x) ** 2 + (canvas.y - y) ** 2) / radius**2))[:, :, None]

    canvas.rgb += on_plate[:, :, None] * (rgb - canvas.rgb)
    canvas.height += on_plate * (height - canvas.height)
    canvas.gloss += on_plate * (plate.gloss - canvas.gloss)
    for scratch in part.scratches:
        _stroke(canvas, scratch, light=0.16, dig=0.25)


_TINT_AT = f32([0.0, 0.95, 1.1, 1.45, 1.85, 2.4, 3.2, 4.2])
"""Distance from the seam's centre in half widths, for the colours below (temper colours of heated steel)."""
_TINT_RGB = f32(
    [
        [0.50, 0.48, 0.47],
        [0.46, 0.42, 0.38],
        [0.52, 0.44, 0.36],
        [0.60, 0.50, 0.40],
        [0.50, 0.44, 0.58],
        [0.46, 0.56, 0.76],
        [0.82, 0.76, 0.60],
        [1.00, 1.00, 1.00],
    ]
)
_TINT_STEPS = 32
"""Entries of the table below for each half width."""


def _tint_table() -> FloatArray:
    """What the tint takes away from a channel, by distance: (n, 3)."""
    at = np.arange(int(_TINT_AT[-1]) * _TINT_STEPS + 8) / _TINT_STEPS
    columns = [np.interp(at, _TINT_AT, _TINT_RGB[:, channel] / 0.86) for channel in range(3)]
    return np.asarray(1 - np.minimum(np.stack(columns, axis=1), 1.0), np.float32)


_TINT = _tint_table()


def _tint(rgb: FloatArray, across: FloatArray, weight: FloatArray) -> None:
    """Temper colours beside the seam, multiplied in."""
    step = np.minimum(np.abs(across) * _TINT_STEPS, len(_TINT) - 1).astype(np.intp)
    rgb *= 1 - np.clip(weight, 0, 1)[:, :, None] * _TINT[step]


def _paint_bead(
    plate: _Canvas, part: Part, noise: Textures, u: FloatArray, across: FloatArray, ends: FloatArray, scale: float
) -> None:
    """A convex bead whose solidification ripples are arcs, like fish scales.

    across: distance from the seam's centre in half widths; ends: 1 along the seam, 0 beyond its ends. Both (h, w).
    """
    cap = np.maximum(1 - across**2, 0) * ends
    on_bead = np.clip(cap * 6, 0, 1)
    bend = part.ripple_bend * part.bead_half_width * across**2
    phase = (u + bend + 0.9 * scale * noise.cloudy) * np.float32(2 * np.pi / part.ripple_pitch)
    ripple = np.sin(phase) + 0.4 * np.sin(2 * phase + 0.8)
    plate.height += 0.42 * part.bead_half_width * cap
    plate.height += on_bead * (0.085 * part.ripple_pitch * ripple + 0.25 * noise.grainy + 0.3 * noise.cloudy)
    tone = 1 + on_bead * (0.05 * ripple - 0.06 + 0.03 * noise.grainy)
    plate.rgb *= tone[:, :, None]
    plate.gloss += on_bead * 0.28


def _distance(canvas_x: FloatArray, canvas_y: FloatArray, points: FloatArray) -> FloatArray:
    """Distance to a polyline in units of its local half width: (h, w). 1 is the line's edge."""
    best = np.full(np.broadcast_shapes(canvas_x.shape, canvas_y.shape), np.inf, np.float32)
    for (ax, ay, ar), (bx, by, br) in pairwise(points):
        dx, dy = bx - ax, by - ay
        t = np.clip(((canvas_x - ax) * dx + (canvas_y - ay) * dy) / (dx * dx + dy * dy + 1e-6), 0, 1)
        away = np.hypot(canvas_x - ax - t * dx, canvas_y - ay - t * dy)
        np.minimum(best, away / (ar + t * (br - ar)), out=best)
    return best


def _stroke(canvas: _Canvas, points: FloatArray, light: float, dig: float) -> None:
    """A line of changed brightness and depth, for scratches (light > 0) and cracks (light < 0)."""
    reach = 3 * float(points[:, 2].max())
    (x0, y0), (x1, y1) = points[:, :2].min(0) - reach, points[:, :2].max(0) + reach
    window = canvas.window(x0, y0, x1, y1)
    if window is None:
        return
    rows, columns = window
    near = np.exp(-(_distance(canvas.x[:, columns], canvas.y[rows], points) ** 2))
    canvas.rgb[window] *= (1 + light * near)[:, :, None]
    canvas.height[window] -= dig * near
    canvas.gloss[window] *= 1 - 0.8 * near


def _paint_defect(canvas: _Canvas, defect: Defect, scale: float) -> None:
    strength = defect.strength
    match defect.kind:
        case DefectKind.CRACK:
            _stroke(canvas, defect.points, light=-0.90 * strength, dig=1.0 * scale)
        case DefectKind.UNDERCUT:
            _groove(canvas, defect, 0.8 * strength)
        case DefectKind.PORE:
            for x, y, radius in defect.points:
                _hole(canvas, x, y, radius, strength)
        case DefectKind.SPATTER:
            for x, y, radius in defect.points:
                _drop(canvas, x, y, radius, strength)


def _groove(canvas: _Canvas, defect: Defect, depth: float) -> None:
    window = canvas.window(*defect.box)
    if window is None:
        return
    rows, columns = window
    near = np.exp(-(_distance(canvas.x[:, columns], canvas.y[rows], defect.points) ** 2) * 1.6)
    canvas.rgb[window] *= (1 - 0.75 * depth * near)[:, :, None]
    canvas.height[window] -= depth * float(defect.points[:, 2].max()) * near
    canvas.gloss[window] *= 1 - 0.7 * near


def _disc(canvas: _Canvas, x: float, y: float, reach: float) -> tuple[tuple[slice, slice], FloatArray] | None:
    """A window around a point and the distances in it."""
    window = canvas.window(x - reach, y - reach, x + reach, y + reach)
    if window is None:
        return None
    rows, columns = window
    return window, np.hypot(canvas.x[:, columns] - x, canvas.y[rows] - y)


def _hole(canvas: _Canvas, x: float, y: float, radius: float, strength: float) -> None:
    """A crater: dark inside, with a raised rim."""
    found = _disc(canvas, x, y, radius + 3)
    if found is None:
        return
    window, away = found
    inside = np.clip((0.85 * radius - away) / (0.3 * radius) + 0.5, 0, 1)
    rim = np.exp(-(((away - radius) / (0.22 * radius)) ** 2))
    canvas.rgb[window] *= (1 - (0.55 + 0.35 * strength) * inside)[:, :, None]
    canvas.rgb[window] *= (1 + 0.15 * rim)[:, :, None]
    canvas.height[window] += 0.18 * radius * rim - 0.35 * radius * inside
    canvas.gloss[window] *= 1 - 0.9 * inside


def _drop(canvas: _Canvas, x: float, y: float, radius: float, strength: float) -> None:
    """A ball of metal: a bright dome with a dark foot."""
    found = _disc(canvas, x, y, radius + 2)
    if found is None:
        return
    window, away = found
    on = np.clip(radius - away + 0.5, 0, 1)
    foot = np.exp(-(((away - radius) / 1.2) ** 2))
    canvas.rgb[window] *= (1 + 0.25 * on - 0.5 * strength * foot)[:, :, None]
    canvas.height[window] += 1.1 * np.sqrt(np.maximum(radius**2 - away**2, 0))
    canvas.gloss[window] += 0.6 * on


def _shade(canvas: _Canvas, line: Line, part_number: int) -> FloatArray:
    """Lambert and Blinn-Phong under the line's light, whose direction wanders from part to part."""
    azimuth = np.radians(line.light_azimuth_deg + 25 * np.sin(part_number * 0.7))
    elevation = np.radians(line.light_elevation_deg)
    light = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    half = light + np.array([0, 0, 1])
    light, half = f32(light), f32(half / np.linalg.norm(half))
    hy, hx = _gradient(canvas.height)
    inverse = 1 / np.sqrt(hx * hx + hy * hy + 1)
    diffuse = np.maximum((light[2] - hx * light[0] - hy * light[1]) * inverse, 0) / light[2]
    aligned = np.maximum((half[2] - hx * half[0] - hy * half[1]) * inverse, 0)
    shine = aligned**2
    shine = shine * shine
    shine = shine * shine
    shine = shine * shine
    shine = canvas.gloss * (shine * shine)
    return np.asarray(
        canvas.rgb * (0.38 + 0.62 * diffuse)[:, :, None] + shine[:, :, None] * f32(line.light_rgb), np.float32
    )


def _gradient(height: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Central differences along y and x; zero at the border."""
    hy, hx = np.zeros_like(height), np.zeros_like(height)
    hy[1:-1] = 0.5 * (height[2:] - height[:-2])
    hx[:, 1:-1] = 0.5 * (height[:, 2:] - height[:, :-2])
    return hy, hx
