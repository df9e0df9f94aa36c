"""Gabor filters: pairs of an even and an odd wave under a Gaussian, turned through half a circle.

The amplitude of such a pair says how much there is of a wavelength in a direction; filtered once more it says how
that is spread. These are the two orders of a scattering transform (Bruna and Mallat, "Invariant Scattering
Convolution Networks", 2013), which knows textures without having learnt any.
"""

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float32]

WAVELENGTH = 4.5  # pixels
SIGMA = 2.0  # pixels
RADIUS = 4  # the filter is 9 x 9


def gabor(directions: int) -> tuple[Real, Real]:
    """Even and odd filters, (directions, 9, 9) float32 each; a plain picture gives 0, the energy of a pair is 1."""
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1].astype(np.float64)
    envelope = np.exp(-(x**2 + y**2) / (2 * SIGMA**2))
    evens, odds = [], []
    for angle in np.pi * np.arange(directions) / directions:
        phase = 2 * np.pi / WAVELENGTH * (x * np.cos(angle) + y * np.sin(angle))
        even, odd = envelope * np.cos(phase), envelope * np.sin(phase)
        even -= envelope * even.sum() / envelope.sum()
        size = np.sqrt((even**2).sum() + (odd**2).sum())
        evens.append(even / size)
        odds.append(odd / size)
    return np.stack(evens).astype(np.float32), np.stack(odds).astype(np.float32)
