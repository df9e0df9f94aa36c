"""Bearing faults in the envelope of a vibration: how sure it is that something knocks at a given frequency.

Damage excites a resonance at each knock; the resonance's envelope repeats at the fault's frequency although the
signal itself hides it (Randall & Antoni, Rolling element bearing diagnostics, MSSP 25, 2011). In each of a set of
bands the squared envelope's spectrum is taken, divided by its own floor, and asked for peaks at the frequency and its
multiples. In noise such a bin is exponentially distributed with mean 1, the greatest of m of them reaches x with
probability 1 - (1 - e^-x)^m, and Fisher's method puts the harmonics together. So the answer is the probability that
noise alone would look like this, whatever the sensor, its unit and its gain.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from platforms.manufacturing.maintenance.window import Signal

Spectrum = NDArray[np.float64]
"""(n,) power over its floor, by frequency bin; in noise its mean is 1."""

FOUND_LOG10_P = -6.0  # found: noise alone does this less than once in a million windows
HARMONICS = 3
SLIP = 0.02  # by which a fault's frequency may differ from the computed one
TONE_LIMIT = 4.0  # a line in the signal's spectrum that stands higher above its surroundings is cut to this
BANDS_PER_LEVEL = (1, 2, 4, 8)
_MEDIAN_OF_EXPONENTIAL = math.log(2)


@dataclass(frozen=True, slots=True)
class Finding:
    """What an envelope says about one frequency.

    log10_p: logarithm of the probability that noise alone looks like this, over all bands. hz: where the first
    harmonic was found. band_hz: the band that knocks most.
    """

    hz: float
    log10_p: float
    band_hz: tuple[float, float]


class Envelopes:
    """The spectra of a window's envelopes, one a band. `resolution_hz` is 1 / seconds of the window."""

    def __init__(self, signal: Signal, rate_hz: float) -> None:
        """`signal`: finite samples at `rate_hz`; at least a second of them says something about most machines."""
        self.resolution_hz = rate_hz / len(signal)
        whole = _limited(np.fft.rfft(signal - signal.mean()))
        self.bands: list[tuple[float, float]] = []
        self.spectra: list[Spectrum] = []
        for first, last in _bands(len(whole)):
            self.bands.append((first * self.resolution_hz, last * self.resolution_hz))
            self.spectra.append(_envelope_spectrum(whole[first:last]))

    def find(self, hz: float) -> Finding:
        """How sure it is that something knocks at `hz`. A frequency no band reaches has log10_p 0."""
        return self._find(hz, self.spectra)

    def _find(self, hz: float, spectra: Sequence[Spectrum]) -> Finding:
        best = Finding(hz, 0.0, (0.0, 0.0))
        for band, spectrum in zip(self.bands, spectra, strict=True):
            found_hz, log10_p = _test(spectrum, hz / self.resolution_hz)
            if log10_p < best.log10_p:
                best = Finding(found_hz * self.resolution_hz, log10_p, band)
        # The best of so many bands is as likely as many times the one.
        return Finding(best.hz, min(0.0, best.log10_p + math.log10(len(self.bands))), best.band_hz)

    def find_all(self, frequencies: Mapping[str, float], *, sure: float = FOUND_LOG10_P) -> dict[str, Finding]:
        """Each by its name. What is surely found explains its multiples: the others are looked for without them,
        since twice one frequency may be three times another. Two that lie as near as a bearing may slip cannot be
        told apart: both are found."""
        found: dict[str, Finding] = {}
        left, spectra = dict(frequencies), self.spectra
        while left:
            stage = {name: self._find(hz, spectra) for name, hz in left.items()}
            best = min(stage, key=lambda name: stage[name].log10_p)
            if stage[best].log10_p >= sure:
                return found | stage
            one = stage[best]
            for name, hz in tuple(left.items()):
                if name == best or (abs(one.hz - hz) <= SLIP * hz and stage[name].log10_p < sure):
                    found[name] = stage[name]
                    del left[name]
            spectra = [_without(spectrum, one.hz / self.resolution_hz) for spectrum in spectra]
        return found


def _bands(bins: int) -> list[tuple[int, int]]:
    """Half-open spans of bins: the whole, its halves, quarters, eighths; the lowest eighth of all is left out: there
    the shaft and its multiples are."""
    lowest = bins // 8
    found = []
    for parts in BANDS_PER_LEVEL:
        edges = np.linspace(lowest if parts == 1 else 0, bins, parts + 1).astype(int)
        found += [(int(a), int(b)) for a, b in pairwise(edges) if a >= lowest]
    return found


def _limited(spectrum: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Without the tones of shafts and gears: what stands far above its surroundings is cut down to a few times
    them."""
    size = np.abs(spectrum)
    most = TONE_LIMIT * _floor(size, 257) / 0.94  # the median of a Rayleigh variable is 0.94 of its root mean square
    scale = np.ones_like(size)
    np.divide(most, size, out=scale, where=size > most)
    return spectrum * scale


def _envelope_spectrum(part: NDArray[np.complex128]) -> Spectrum:
    """Of the squared envelope of the signal in these bins: their inverse transform is its complex envelope."""
    square = np.abs(np.fft.ifft(part)) ** 2
    square -= square.mean()
    power = np.abs(np.fft.rfft(square * np.hanning(len(square)))) ** 2
    floor = _floor(power, 129) / _MEDIAN_OF_EXPONENTIAL
    return power / np.maximum(floor, np.finfo(np.float64).tiny)


def _floor(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The median around each bin, taken in blocks and drawn straight between their middles."""
    blocks = max(1, len(values) // width)
    edges = np.linspace(0, len(values), blocks + 1).astype(int)
    middles = (edges[:-1] + edges[1:]) / 2
    medians = np.array([np.median(values[a:b]) for a, b in pairwise(edges)])
    floor: NDArray[np.float64] = np.interp(np.arange(len(values)), middles, medians)
    return floor


def _test(spectrum: Spectrum, at: float) -> tuple[float, float]:
    """(bin of the first harmonic, log10 of the probability). The first harmonic is where the peak near `at` is, and
    the others are looked for at its multiples."""
    first, last = math.floor(at * (1 - SLIP)), math.ceil(at * (1 + SLIP))
    if first < 2 or last + 1 >= len(spectrum):
        return at, 0.0
    best_at, best = at, 0.0
    here = spectrum[first : last + 1]
    # Any of the few greatest bins may be the one whose multiples are there too.
    for start in np.argsort(here)[-3:]:
        statistic, count, begin = 0.0, 0, first + int(start)
        for harmonic in range(1, HARMONICS + 1):
            reach = harmonic  # a bin is half a bin wide of the mark, times the harmonic
            low, high = harmonic * begin - reach + 1, harmonic * begin + reach
            if high > len(spectrum):
                break
            peak, bins = float(spectrum[low:high].max()), high - low
            if harmonic == 1:
                peak, bins = float(here[start]), last - first + 1
            statistic += -2 * math.log(max(_exceeds(peak, bins), 1e-300))
            count += 1
        log10_p = _chi_square_tail_log10(statistic, count)
        if log10_p < best:
            best_at, best = float(begin), log10_p
    return best_at, best


def _without(spectrum: Spectrum, at: float) -> Spectrum:
    """The multiples of what was found are as high as the floor; they are wider the higher they are."""
    rest = spectrum.copy()
    for multiple in range(1, math.floor(len(spectrum) / at) + 1):
        reach = 2 + multiple
        rest[max(0, round(multiple * at) - reach) : round(multiple * at) + reach + 1] = 1.0
    return rest


def _exceeds(peak: float, bins: int) -> float:
    """P(the greatest of so many exponential variables reaches the peak)."""
    return -math.expm1(bins * math.log1p(-math.exp(-peak))) if peak > 0 else 1.0


def _chi_square_tail_log10(statistic: float, count: int) -> float:
    """log10 P(chi-square with 2·count degrees of freedom > statistic): a finite sum for an even number of them."""
    half = statistic / 2
    if half <= 0:
        return 0.0
    terms = [n * math.log(half) - math.lgamma(n + 1) for n in range(count)]
    top = max(terms)
    return min(0.0, (-half + top + math.log(sum(math.exp(term - top) for term in terms))) / math.log(10))
