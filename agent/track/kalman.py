"""A constant-velocity Kalman filter for all tracks at once.

The four box coordinates (cx, cy, w, h) move independently, each with a position and a velocity, so a covariance of
8 x 8 falls apart into four blocks of 2 x 2, of which three numbers differ. One track is therefore 5 x 4 numbers and
all tracks are one array:

    state: (5, 4, n) float64     first axis                        second axis
                                 0 POSITION   pixels               cx cy w h
                                 1 VELOCITY   pixels/s
                                 2 VAR        position variance, pixels²
                                 3 COV        position-velocity covariance, pixels²/s
                                 4 VAR_V      velocity variance, pixels²/s²

Means and covariances both change linearly with time, so a prediction of every track is one matrix product.
Noise is proportional to the object's height, as in Wojke et al. 2017 (DeepSORT), but is stated per second:
acceleration is white noise (Bar-Shalom et al. 2001, section 6.2.2), so that frames may come at any rate.
"""

import numpy as np
from numpy.typing import NDArray

from agent.track.boxes import Columns
from agent.track.settings import TrackerSettings

State = NDArray[np.float64]

POSITION, VELOCITY, VAR, COV, VAR_V = range(5)
_HEIGHT = 3

_SIZE_MIN_PX = 1.0
"""No box is predicted thinner than this, and no noise is smaller than that of an object this high."""


class Kalman:
    """The filter's arithmetic for one set of settings; the state stays with the caller."""

    def __init__(self, settings: TrackerSettings) -> None:
        self._measure = settings.measure_noise**2
        self._drift = settings.drift_noise**2
        self._accelerate = settings.acceleration_noise**2
        self._initial_speed = settings.initial_speed_noise**2

    def begin(self, centres: Columns) -> State:
        """State (5, 4, n) of tracks first seen at `centres` (4, n), at rest with an unknown velocity."""
        centres = np.concatenate((centres[:2], np.maximum(centres[2:], _SIZE_MIN_PX)))
        height2 = _height2(centres)
        state = np.zeros((5, 4, centres.shape[1]))
        state[POSITION] = centres
        state[VAR] = self._measure * height2
        state[VAR_V] = self._initial_speed * height2
        return state

    def predict(self, state: State, dt_s: float) -> State:
        """`state` (5, 4, n) moved on by `dt_s` >= 0 seconds."""
        n = state.shape[2]
        transition = np.array(
            (
                (1.0, dt_s, 0.0, 0.0, 0.0),
                (0.0, 1.0, 0.0, 0.0, 0.0),
                (0.0, 0.0, 1.0, 2.0 * dt_s, dt_s * dt_s),
                (0.0, 0.0, 0.0, 1.0, dt_s),
                (0.0, 0.0, 0.0, 0.0, 1.0),
            )
        )
        moved: State = (transition @ state.reshape(5, 4 * n)).reshape(5, 4, n)
        q = self._accelerate
        noise = np.array((q * dt_s**3 / 3.0 + self._drift * dt_s, q * dt_s**2 / 2.0, q * dt_s))
        np.maximum(moved[POSITION, 2:], _SIZE_MIN_PX, out=moved[POSITION, 2:])
        moved[VAR:] += noise[:, None, None] * _height2(moved[POSITION])
        return moved

    def update(self, state: State, centres: Columns) -> State:
        """`state` (5, 4, n) after each track was measured at its own box of `centres` (4, n)."""
        gain = state[VAR:VAR_V] / (state[VAR] + self._measure * _height2(centres))  # (2, 4, n)
        fresh = np.empty_like(state)
        fresh[:VAR] = state[:VAR] + gain * (centres - state[POSITION])
        fresh[VAR:VAR_V] = state[VAR:VAR_V] * (1.0 - gain[0])
        fresh[VAR_V] = state[VAR_V] - gain[1] * state[COV]
        np.maximum(fresh[POSITION, 2:], _SIZE_MIN_PX, out=fresh[POSITION, 2:])
        return fresh


def _height2(centres: Columns) -> Columns:
    height = np.maximum(centres[_HEIGHT], _SIZE_MIN_PX)
    result: Columns = height * height
    return result
