"""What can be tuned about tracking, and the check of it."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Times are seconds of capture time, confidences and IoUs 0..1, noise is in object heights.

    high_confidence:     detections at or above it are matched first and may begin tracks
    low_confidence:      detections below `high_confidence` but at or above this only continue tracks
    match_iou:           least IoU with the predicted box for a confident detection
    low_match_iou:       the same for an unconfident detection
    class_aware:         match only within the same class; otherwise the class is voted by the detections
    confirm_matches:     detections that make a track an object ...
    confirm_within_s:    ... if they come within this time of the first; else the attempt is dropped
    confirm_confidence:  a first detection at or above it is an object at once (above 1: never)
    lost_max_s:          an object not seen for longer than this has gone
    tracks_max:          tracks kept at most; more beginnings are refused and counted
    measure_noise:       standard deviation of a detected coordinate
    drift_noise:         how far a coordinate wanders in a second besides its velocity
    acceleration_noise:  how much a velocity changes in a second, in heights per second
    initial_speed_noise: how fast a new object may move, in heights per second
    """

    high_confidence: float = 0.5
    low_confidence: float = 0.1
    match_iou: float = 0.2
    low_match_iou: float = 0.5
    class_aware: bool = False
    confirm_matches: int = 2
    confirm_within_s: float = 1.5
    confirm_confidence: float = 0.85
    lost_max_s: float = 1.5
    tracks_max: int = 256
    measure_noise: float = 0.05
    drift_noise: float = 0.2
    acceleration_noise: float = 1.0
    initial_speed_noise: float = 2.0
