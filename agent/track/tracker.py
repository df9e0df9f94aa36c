"""Two-stage association in the manner of ByteTrack (Zhang et al. 2022), on columns and in seconds.

A frame, from top to bottom of `Tracker.update`:

    1. time moves on     tracks unseen for too long end, all others are predicted to the frame's capture time
    2. confident first   detections of high confidence are matched with all tracks by the IoU of slightly grown
                         boxes (Yang et al. 2023, C-BIoU: at few frames a second plain boxes often miss each other)
                         mixed with the nearness of their centres, which tells apart what the growing made alike
    3. unconfident next  those of low confidence may only continue an object that was seen in the frame before
    4. births            a confident detection without a track begins one

A track is tentative until enough detections came soon enough; only confirmed ones are shown. Rules kept here:

    - An id is given once, when a track begins, and never again; a tentative one that came to nothing leaves a gap.
    - The order of a frame's detections is of no importance: they are put into an order of their own first.
    - Time that stands still moves nothing. When it jumps back by x, the times of all tracks are moved back by x, so
      that their ages go on; the frame itself is taken as 0 s after the last one.
"""

import math

import numpy as np
from numpy.typing import NDArray

from agent.infer.detections import Detections
from agent.track.assignment import Assign, Indices, greedy
from agent.track.boxes import Columns, centres_of, corners_of, iou, nearness
from agent.track.kalman import POSITION, Kalman, State
from agent.track.settings import TrackerSettings, check_tracker_settings
from agent.track.tracks import Tracks
from runtime.errors import ConfigError

_NO_IDS = np.zeros(0, np.int64)


class Tracker:
    """Follows the objects of one camera.

    refused:   births refused so far because `tracks_max` tracks were there already
    malformed: detections ignored so far because a coordinate or the confidence was not finite
    """

    def __init__(self, settings: TrackerSettings | None = None, assign: Assign = greedy) -> None:
        self.settings = settings or TrackerSettings()
        if mistakes := check_tracker_settings(self.settings):
            raise ConfigError(f"tracker settings: {'; '.join(mistakes)}")
        self.refused = 0
        self.malformed = 0
        self._assign = assign
        self._kalman = Kalman(self.settings)
        self._thresholds = (-self.settings.high_confidence, -self.settings.low_confidence)
        self._next_id = 1
        self._time_s = -math.inf
        self._state: State = np.zeros((5, 4, 0))
        self._track_id = np.zeros(0, np.int64)
        self._first_seen_s = np.zeros(0)
        self._last_seen_s = np.zeros(0)
        self._confidence = np.zeros(0)
        self._matches = np.zeros(0, np.int64)
        self._confirmed = np.zeros(0, np.bool_)
        self._matched = np.zeros(0, np.bool_)
        self._class_id = np.zeros(0, np.int32)
        self._class_lead = np.zeros(0)

    def __len__(self) -> int:
        """Tracks kept, the tentative ones included."""
        return len(self._track_id)

    def update(self, detections: Detections, time_s: float) -> Tracks:
        """The confirmed tracks at `time_s`, capture time in seconds, given what was detected in that frame."""
        if not math.isfinite(time_s):
            raise ValueError(f"capture time must be finite, not {time_s}")
        gone = self._move_on(time_s)
        table, confident = self._in_order(detections)
        class_id, centres, confidence = table[0], centres_of(table[1:5]), -table[5]
        tracks, matched = self._associate(centres, class_id, confident)
        self._match(tracks, centres[:, matched], class_id[matched], confidence[matched])
        if confident > 0:
            free = np.ones(confident, np.bool_)
            free[matched[matched < confident]] = False
            born = free.nonzero()[0]
            if len(born) > 0:
                self._begin(centres[:, born], class_id[born], confidence[born])
        return self._shown(gone)

    def _move_on(self, time_s: float) -> Indices:
        """Ends what was unseen for too long, predicts the others to `time_s`; the ids of the objects that ended."""
        dt_s = time_s - self._time_s
        self._time_s = time_s
        if len(self) == 0:
            return _NO_IDS
        if dt_s < 0.0:
            self._first_seen_s += dt_s
            self._last_seen_s += dt_s
            dt_s = 0.0
        gone = _NO_IDS
        # Each track's deadline; the tentative ones have to be confirmed by theirs.
        over = time_s > np.where(
            self._confirmed,
            self._last_seen_s + self.settings.lost_max_s,
            self._first_seen_s + self.settings.confirm_within_s,
        )
        if over.any():
            gone = self._track_id[over & self._confirmed]
            self._keep(~over)
        if dt_s > 0.0:
            self._state = self._kalman.predict(self._state, dt_s)
        return gone

    def _in_order(self, detections: Detections) -> tuple[Columns, int]:
        """The usable detections, most confident first, and how many of them are confident.

        The table is (6, d): class, x0, y0, x1, y1, negated confidence; equal confidences are ordered by the rest.
        """
        table = np.empty((6, len(detections)))
        table[0] = detections.class_id
        table[1:5] = detections.xyxy.T
        np.negative(detections.confidence, out=table[5], casting="unsafe")
        finite = np.isfinite(table)
        if not finite.all():
            usable_columns = np.logical_and.reduce(finite)
            self.malformed += int(np.count_nonzero(~usable_columns))
            table = table[:, usable_columns]
        table = table[:, np.lexsort(table)]
        confident, usable = table[5].searchsorted(self._thresholds, side="right").tolist()
        return table[:, :usable], confident

    def _associate(self, centres: Columns, class_id: Columns, confident: int) -> tuple[Indices, Indices]:
        """Indices of tracks and of the detections that continue them."""
        detected = centres.shape[1]
        if detected == 0 or len(self) == 0:
            return _NO_IDS, _NO_IDS
        predicted, reach = self._state[POSITION], self.settings.reach
        overlap = iou(corners_of(predicted, reach), corners_of(centres, reach))
        if self.settings.class_aware:
            overlap[self._class_id[:, None] != class_id] = 0.0
        share = self.settings.nearness_share
        likeness = (1.0 - share) * overlap + share * nearness(predicted, centres)
        likeness *= overlap > 0.0
        tracks, matched = self._assign(likeness[:, :confident] - self.settings.match_min)
        if confident == detected:
            return tracks, matched
        gain = likeness[:, confident:] - self.settings.low_match_min
        waiting = self._matched & self._confirmed
        waiting[tracks] = False
        gain[~waiting] = 0.0
        more_tracks, more = self._assign(gain)
        return np.concatenate((tracks, more_tracks)), np.concatenate((matched, more + confident))

    def _match(self, tracks: Indices, centres: Columns, class_id: Columns, confidence: Columns) -> None:
        """Corrects `tracks` by the detection matched to each; all others are unmatched now."""
        self._matched[:] = False
        if len(tracks) == 0:
            return
        self._matched[tracks] = True
        self._state[:, :, tracks] = self._kalman.update(self._state[:, :, tracks], centres)
        self._last_seen_s[tracks] = self._time_s
        self._confidence[tracks] = confidence
        self._matches[tracks] += 1
        self._confirmed |= self._matches >= self.settings.confirm_matches
        self._vote(tracks, class_id, confidence)

    def _vote(self, tracks: Indices, class_id: Columns, confidence: Columns) -> None:
        """Boyer and Moore's majority vote (1991), weighted: a class leads until the others outweigh its lead."""
        same = self._class_id[tracks] == class_id
        if same.all():
            self._class_lead[tracks] += confidence
            return
        lead = self._class_lead[tracks] + np.where(same, confidence, -confidence)
        self._class_lead[tracks] = np.abs(lead)
        lost = lead < 0.0
        self._class_id[tracks[lost]] = class_id[lost]

    def _begin(self, centres: Columns, class_id: Columns, confidence: Columns) -> None:
        """Begins a track per column as far as there is room, the most confident first."""
        wanted = len(confidence)
        n = min(wanted, self.settings.tracks_max - len(self))
        self.refused += wanted - n
        if n <= 0:
            return
        ids = np.arange(self._next_id, self._next_id + n)
        self._next_id += n
        now = np.full(n, self._time_s)
        sure = (confidence[:n] >= self.settings.confirm_confidence) | (self.settings.confirm_matches <= 1)
        join = np.concatenate
        self._state = join((self._state, self._kalman.begin(centres[:, :n])), axis=2)
        self._track_id = join((self._track_id, ids))
        self._first_seen_s = join((self._first_seen_s, now))
        self._last_seen_s = join((self._last_seen_s, now))
        self._confidence = join((self._confidence, confidence[:n]))
        self._matches = join((self._matches, np.ones(n, np.int64)))
        self._confirmed = join((self._confirmed, sure))
        self._matched = join((self._matched, np.ones(n, np.bool_)))
        self._class_id = join((self._class_id, class_id[:n].astype(np.int32)))
        self._class_lead = join((self._class_lead, confidence[:n]))

    def _keep(self, keep: NDArray[np.bool_]) -> None:
        self._state = self._state[:, :, keep]
        self._track_id = self._track_id[keep]
        self._first_seen_s = self._first_seen_s[keep]
        self._last_seen_s = self._last_seen_s[keep]
        self._confidence = self._confidence[keep]
        self._matches = self._matches[keep]
        self._confirmed = self._confirmed[keep]
        self._matched = self._matched[keep]
        self._class_id = self._class_id[keep]
        self._class_lead = self._class_lead[keep]

    def _shown(self, gone: Indices) -> Tracks:
        """A copy of the confirmed tracks, in the order of their ids."""
        shown = self._confirmed
        return Tracks(
            track_id=self._track_id[shown],
            xyxy=corners_of(self._state[POSITION][:, shown]).T.astype(np.float32),
            confidence=self._confidence[shown].astype(np.float32),
            class_id=self._class_id[shown],
            first_seen_s=self._first_seen_s[shown],
            last_seen_s=self._last_seen_s[shown],
            matched=self._matched[shown],
            gone=gone,
        )
