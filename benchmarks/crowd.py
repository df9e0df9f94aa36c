"""A crowd whose every step is known: people walk, turn and hide each other, and a detector errs. Pure, seeded."""

import numpy as np

from agent.track.boxes import iou
from benchmarks.mot import Boxes, Matrix

_WIDTH_PX, _TOP_PX, _BOTTOM_PX = 900.0, 100.0, 500.0


def crowd(seed: int, people: int, frames: int, fps: float) -> tuple[dict[int, Boxes], dict[int, Boxes]]:
    """The truth and what a detector makes of it, by frame number from 1.

    Velocities are an Ornstein-Uhlenbeck process (0.55 heights/s across, settling in 3 s). The detector misses 15 % of
    the people it could see and most of those behind others, jitters by 4 % of the height, is less sure of the half
    hidden, and sees half a person a frame where nobody is.
    """
    rng = np.random.default_rng(seed)
    low, high = np.array((0.0, _TOP_PX)), np.array((_WIDTH_PX, _BOTTOM_PX))
    feet = rng.uniform(low, high, (people, 2))
    velocity = rng.normal(0.0, 60.0, (people, 2)) * (1.0, 0.4)
    height = rng.uniform(60.0, 140.0, people)
    truth, seen = {}, {}
    for frame in range(1, frames + 1):
        push = rng.normal(0.0, 1.0, (people, 2)) * (1.0, 0.4) * height[:, None] * 0.55 * np.sqrt(2.0 / 3.0 / fps)
        velocity += push - velocity / 3.0 / fps
        feet += velocity / fps
        velocity[(feet < low) | (feet > high)] *= -1.0
        feet = np.clip(feet, low, high)
        boxes = _standing(feet, height)
        truth[frame] = Boxes(np.arange(people), boxes, np.ones(people))

        overlap = iou(boxes.T, boxes.T)
        hidden = (overlap * (feet[:, 1] > feet[:, 1][:, None])).max(axis=1)
        found = rng.random(people) > 0.15 + 0.8 * np.clip(hidden * 1.8, 0.0, 1.0)
        sure = np.clip(rng.normal(0.8 - 0.5 * hidden, 0.12), 0.05, 0.99)
        jittered = boxes + rng.normal(0.0, 0.04, (people, 4)) * height[:, None]
        ghosts = int(rng.poisson(0.5))
        ghost = _standing(rng.uniform(low, high, (ghosts, 2)), rng.uniform(60.0, 140.0, ghosts))
        confidence = np.concatenate((sure[found], rng.uniform(0.1, 0.7, ghosts)))
        seen[frame] = Boxes(np.full(len(confidence), -1), np.concatenate((jittered[found], ghost)), confidence)
    return truth, seen


def _standing(feet: Matrix, height: Matrix) -> Matrix:
    x, y = feet[:, 0], feet[:, 1]
    return np.stack((x - 0.2 * height, y - height, x + 0.2 * height, y), axis=1)
