"""Track: detections of one frame after the other become objects with stable ids.

`Tracker(settings).update(detections, time_s) -> Tracks` is the whole of it. `settings` says what can be tuned,
`boxes` and `kalman` are the arithmetic, `assignment` decides which detection continues which track. Nothing here
reads a clock: time is the frame's capture time, so a replayed clip gives the same tracks.
"""

from agent.track.settings import TrackerSettings
from agent.track.tracker import Tracker
from agent.track.tracks import Tracks

__all__ = ["Tracker", "TrackerSettings", "Tracks"]
