"""What can be tuned about tracking, and the check of it."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Times are seconds of capture time, confidences and IoUs 0..1, noise is in object heights.

    high_confidence:     detections at or above it are matched first and may begin tracks
    low_confidence:      detections below `high_confidence` but at or above this only continue tracks
    reach:               share of its size by which each side of a box is moved outwards before IoUs are taken
    nearness_share:      share of a pair's likeness that is the nearness of the centres; the rest is the IoU
    match_min:           least likeness with the predicted box for a confident detection
    low_match_min:       the same for an unconfident detection
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
    reach: float = 0.3
    nearness_share: float = 0.5
    match_min: float = 0.1
    low_match_min: float = 0.5
    class_aware: bool = False
    confirm_matches: int = 2
    confirm_within_s: float = 1.5
    confirm_confidence: float = 0.85
    lost_max_s: float = 1.5
    tracks_max: int = 256
    measure_noise: float = 0.05
    drift_noise: float = 0.2
    acceleration_noise: float = 0.5
    initial_speed_noise: float = 2.0


LARGEST = 1e6
"""The largest time and the largest noise that is taken for meant."""

TRACKS_MAX = 10_000
"""The largest `tracks_max`: a frame's cost grows with tracks times detections."""

_SHARES = ("high_confidence", "low_confidence", "nearness_share", "match_min", "low_match_min")
_POSITIVE = ("confirm_within_s", "lost_max_s", "measure_noise", "initial_speed_noise")
_NOT_NEGATIVE = ("reach", "confirm_confidence", "drift_noise", "acceleration_noise")


def check_tracker_settings(settings: TrackerSettings) -> list[str]:
    """Every mistake in `settings`, in words; empty when it can be used."""
    mistakes = []
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    for name in (*_SHARES, *_POSITIVE, *_NOT_NEGATIVE):
        value = values[name]
        if name in _SHARES and not 0.0 <= value <= 1.0:
            mistakes.append(f"{name} = {value}: must be from 0 to 1")
        elif name in _POSITIVE and not (0.0 < value <= LARGEST):
            mistakes.append(f"{name} = {value}: must be above 0 and at most {LARGEST:g}")
        elif name in _NOT_NEGATIVE and not 0.0 <= value <= LARGEST:
            mistakes.append(f"{name} = {value}: must be from 0 to {LARGEST:g}")
    if settings.low_confidence > settings.high_confidence:
        mistakes.append(
            f"low_confidence = {settings.low_confidence}: must not be above "
            f"high_confidence = {settings.high_confidence}"
        )
    if settings.confirm_matches < 1:
        mistakes.append(f"confirm_matches = {settings.confirm_matches}: must be at least 1")
    if not 1 <= settings.tracks_max <= TRACKS_MAX:
        mistakes.append(f"tracks_max = {settings.tracks_max}: must be from 1 to {TRACKS_MAX}")
    return mistakes
