"""How well tracks agree with the truth, and the MOTChallenge text format. Pure arithmetic, for tests and benchmarks.

- CLEAR MOT: Bernardin and Stiefelhagen, "Evaluating multiple object tracking performance", 2008. In each frame a
  pair that was matched before stays matched while it overlaps enough; the rest is assigned at the least cost.
- IDF1: Ristani et al., "Performance measures and a data set for multi-target, multi-camera tracking", 2016. True
  trajectories and tracks are assigned to each other as a whole so that the most boxes agree.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.infer.detections import Detections
from agent.track import Tracker, TrackerSettings
from agent.track.assignment import Assign, greedy
from agent.track.boxes import iou

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of one frame.

    ids:        (n,) int64, the object or track each belongs to (-1: not known)
    xyxy:       (n, 4) float64, pixels, origin top left
    confidence: (n,) float64
    """

    ids: NDArray[np.int64]
    xyxy: Matrix
    confidence: Matrix


NO_BOXES = Boxes(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))

Frames = Mapping[int, Boxes]
"""Frame number to its boxes; a frame without boxes may be absent."""


@dataclass(frozen=True, slots=True)
class Score:
    """Counts over a sequence, and what follows from them."""

    truth: int
    tracked: int
    matches: int
    switches: int
    id_matches: int
    iou_sum: float

    @property
    def misses(self) -> int:
        return self.truth - self.matches

    @property
    def false_positives(self) -> int:
        return self.tracked - self.matches

    @property
    def mota(self) -> float:
        return 1.0 - (self.misses + self.false_positives + self.switches) / max(1, self.truth)

    @property
    def idf1(self) -> float:
        return 2.0 * self.id_matches / max(1, self.truth + self.tracked)

    @property
    def precision(self) -> float:
        return self.matches / max(1, self.tracked)

    @property
    def recall(self) -> float:
        return self.matches / max(1, self.truth)

    @property
    def iou_mean(self) -> float:
        return self.iou_sum / max(1, self.matches)


def read_mot(path: Path) -> dict[int, Boxes]:
    """A MOTChallenge file, `frame,id,x,y,w,h,confidence,...` a line, frames counted from 1."""
    rows = np.loadtxt(path, delimiter=",", usecols=range(7), ndmin=2)
    sequence = {}
    for frame in np.unique(rows[:, 0]):
        part = rows[rows[:, 0] == frame]
        xyxy = np.concatenate((part[:, 2:4], part[:, 2:4] + part[:, 4:6]), axis=1)
        sequence[int(frame)] = Boxes(part[:, 1].astype(np.int64), xyxy, part[:, 6])
    return sequence


def score(truth: Frames, tracked: Frames, frames: Iterable[int], iou_min: float = 0.5) -> Score:
    """The score of `tracked` against `truth` over `frames`; boxes agree from `iou_min` on."""
    last_track: dict[int, int] = {}  # by true object
    agreements: dict[tuple[int, int], int] = defaultdict(int)
    truth_sizes: dict[int, int] = defaultdict(int)
    track_sizes: dict[int, int] = defaultdict(int)
    matches = switches = 0
    iou_sum = 0.0
    for frame in frames:
        there, found = truth.get(frame, NO_BOXES), tracked.get(frame, NO_BOXES)
        objects, tracks = there.ids.tolist(), found.ids.tolist()
        for one in objects:
            truth_sizes[one] += 1
        for one in tracks:
            track_sizes[one] += 1
        overlap = iou(there.xyxy.T, found.xyxy.T)
        for i, j in np.argwhere(overlap >= iou_min).tolist():
            agreements[objects[i], tracks[j]] += 1
        gain = np.where(overlap >= iou_min, 1.0 + overlap, 0.0)
        for i, one in enumerate(objects):
            if one in last_track and last_track[one] in tracks:
                j = tracks.index(last_track[one])
                if overlap[i, j] >= iou_min:
                    gain[i, j] += 1e3  # a pair once matched stays matched
        for i, j in best_pairs(gain):
            matches += 1
            iou_sum += overlap[i, j]
            switches += last_track.get(objects[i], tracks[j]) != tracks[j]
            last_track[objects[i]] = tracks[j]
    rows, columns = list(truth_sizes), list(track_sizes)
    shared = np.array([[agreements.get((r, c), 0) for c in columns] for r in rows], dtype=np.float64)
    id_matches = sum(int(shared[i, j]) for i, j in best_pairs(shared.reshape(len(rows), len(columns))))
    return Score(sum(truth_sizes.values()), sum(track_sizes.values()), matches, switches, id_matches, iou_sum)


def best_pairs(gain: Matrix) -> list[tuple[int, int]]:
    """Pairs (row, column) of the largest total gain, each row and column at most once, only gains above 0.

    The Hungarian method with potentials (Jonker and Volgenant 1987), O(rows² columns), on plain lists.
    """
    if gain.size == 0:
        return []
    if gain.shape[0] > gain.shape[1]:
        return sorted((i, j) for j, i in best_pairs(gain.T))
    cost = (-np.maximum(gain, 0.0)).tolist()
    owner = _assign(cost, len(cost), len(cost[0]))
    return sorted((i, j) for j, i in enumerate(owner) if i >= 0 and gain[i, j] > 0.0)


def _assign(cost: Sequence[Sequence[float]], n: int, m: int) -> list[int]:
    """The row that owns each column (-1: none) at the least total cost; n <= m."""
    row_price, column_price = [0.0] * n, [0.0] * m
    owner = [-1] * m
    for start in range(n):
        slack, via = [float("inf")] * m, [-1] * m
        done = [False] * m
        row, column = start, -1
        while row >= 0:
            delta, nearest = float("inf"), -1
            for j in range(m):
                if done[j]:
                    continue
                reduced = cost[row][j] - row_price[row] - column_price[j]
                if reduced < slack[j]:
                    slack[j], via[j] = reduced, column
                if slack[j] < delta:
                    delta, nearest = slack[j], j
            row_price[start] += delta
            for j in range(m):
                if done[j]:
                    row_price[owner[j]] += delta
                    column_price[j] -= delta
                else:
                    slack[j] -= delta
            column = nearest
            done[column] = True
            row = owner[column]
        while column >= 0:
            before = via[column]
            owner[column] = owner[before] if before >= 0 else start
            column = before
    return owner


def tracks_of(
    seen: Frames,
    frames: Iterable[int],
    fps: float,
    settings: TrackerSettings,
    confidence: float | None = None,
    assign: Assign = greedy,
) -> dict[int, Boxes]:
    """What our tracker makes of the detections `seen`: the objects matched in each frame.

    `confidence` stands in for a file that gives none.
    """
    tracker = Tracker(settings, assign)
    result = {}
    for frame in frames:
        boxes = seen.get(frame, NO_BOXES)
        sure = boxes.confidence if confidence is None else np.full(len(boxes.ids), confidence)
        detections = Detections(boxes.xyxy.astype(np.float32), sure.astype(np.float32), np.zeros(len(sure), np.int32))
        tracks = tracker.update(detections, frame / fps)
        now = tracks.matched
        result[frame] = Boxes(
            tracks.track_id[now], tracks.xyxy[now].astype(np.float64), tracks.confidence[now].astype(np.float64)
        )
    return result
