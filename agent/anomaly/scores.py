"""From a map of distances to one score of a picture, a threshold with a stated rate of false alarms, a confidence.

Scores of good pictures are positive and skewed; their logarithms are close to normal, so means and spreads are those
of the logarithm.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float32]

TOP_SHARE = 0.05
"""A picture is judged by the mean of its worst places, this share of all: one cell alone is noise."""
OUTLIER = 3.5
"""Robust spreads above the median from which a teaching picture is an outlier (Iglewicz and Hoaglin, 1993)."""
SPREAD_MIN = 0.02
_KERNEL = np.array(
    [0.054488685, 0.244201342, 0.402619947, 0.244201342, 0.054488685], np.float32
)  # Gauss, sigma 1 cell


@dataclass(frozen=True, slots=True)
class Scale:
    """What scores mean. `threshold` is the score from which a picture is anomalous."""

    threshold: float
    log_mean: float  # of the logarithm of scores of good pictures that taught nothing
    log_spread: float


def smoothed(maps: Real) -> Real:
    """(n, rows, columns) blurred by a Gaussian of one cell; the border repeats itself."""
    padded = np.pad(maps, ((0, 0), (2, 2), (2, 2)), mode="edge")
    rows, columns = maps.shape[1:]
    down = sum(_KERNEL[i] * padded[:, i : i + rows] for i in range(5))
    return np.asarray(sum(_KERNEL[i] * down[:, :, i : i + columns] for i in range(5)), np.float32)


def picture_scores(maps: Real) -> Real:
    """(n,) float32 of smoothed maps (n, rows, columns). NaN where a map has one."""
    flat = maps.reshape(len(maps), -1)
    top = max(1, round(TOP_SHARE * flat.shape[1]))
    return np.asarray(np.partition(flat, flat.shape[1] - top, axis=1)[:, -top:].mean(axis=1), np.float32)


def scale_of(scores: Real, false_alarms: float) -> Scale:
    """The scale from (n,) scores of good pictures that were held out.

    The threshold is the quantile that makes a share of `false_alarms` good pictures an alarm: the conformal one, in
    order the ceil((n + 1) * (1 - rate))-th (Vovk et al. 2005), where there are enough pictures for it; else that of a
    normal distribution of the logarithms, and no less than the worst good one.
    """
    if not 0 < false_alarms < 1:
        raise ValueError(f"a rate between 0 and 1 is wanted, not {false_alarms}")
    if len(scores) < 2 or not np.isfinite(scores).all() or (scores <= 0).any():
        raise ValueError("at least 2 scores are wanted, finite and above 0")
    logs = np.sort(np.log(scores.astype(np.float64)))
    mean, spread = float(logs.mean()), max(float(logs.std(ddof=1)), SPREAD_MIN)
    place = math.ceil((len(logs) + 1) * (1 - false_alarms))
    if place <= len(logs):
        threshold = float(logs[place - 1])
    else:
        threshold = max(float(logs[-1]), mean + spread * NormalDist().inv_cdf(1 - false_alarms))
    return Scale(math.exp(threshold), mean, spread)


def outliers(scores: Real) -> NDArray[np.intp]:
    """Indices of scores far above the rest, the farthest first: what does not look like the others."""
    logs = np.log(np.maximum(scores.astype(np.float64), 1e-12))
    middle = float(np.median(logs))
    spread = max(1.4826 * float(np.median(np.abs(logs - middle))), SPREAD_MIN)
    far = (logs - middle) / spread
    found = np.flatnonzero(far > OUTLIER)
    return found[np.argsort(-far[found], kind="stable")]


def confidence(score: float, scale: Scale) -> float:
    """0..1; 0.5 at the threshold, 0.88 two spreads above it. 0 for a score that is no number."""
    if not math.isfinite(score) or score <= 0:
        return 0.0
    away = (math.log(score) - math.log(scale.threshold)) / scale.log_spread
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, away))))


def deviation(score: float, scale: Scale) -> float:
    """How far the score is from that of a usual good picture, in spreads."""
    return (math.log(max(score, 1e-12)) - scale.log_mean) / scale.log_spread
