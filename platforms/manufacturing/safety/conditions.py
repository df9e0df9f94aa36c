"""Conditions about people: too close to a machine, fallen, without equipment, alone. Pure; time comes with scenes.

Each is asked with every frame. What it remembers of an object goes when the object is not in the scene any more, so
it is bounded by what is to be seen.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from platforms.manufacturing.safety.ground import Box, Point, Ruler
from platforms.watching import Match, Scene, Seen

EDGE_SHARE = 0.01  # of the picture: a box that ends there is cut off
HEAD, TORSO = (0.0, 0.33), (0.15, 0.75)  # of a person's box, from its top
REGIONS = {"head": HEAD, "torso": TORSO, "body": (0.0, 1.0)}
SLACK = 0.15  # of a person's width by which equipment may stand out


@dataclass(slots=True)
class Course:
    """Where each object was, over the last seconds."""

    keep_s: float
    _places: dict[int, deque[tuple[float, Point]]] = field(default_factory=dict)

    def see(self, time_s: float, places: dict[int, Point]) -> None:
        for gone in self._places.keys() - places.keys():
            del self._places[gone]
        for track_id, place in places.items():
            past = self._places.setdefault(track_id, deque())
            past.append((time_s, place))
            while past[0][0] < time_s - self.keep_s:
                past.popleft()

    def speed(self, track_id: int) -> float | None:
        """Over the time that is kept; None before half of it is known."""
        past = self._places.get(track_id)
        if not past or past[-1][0] - past[0][0] < self.keep_s / 2:
            return None
        (from_s, begin), (to_s, end) = past[0], past[-1]
        return math.dist(begin, end) / (to_s - from_s)


class TooClose:
    """A person nearer than `distance_m` to an object of the other classes, which moves or might."""

    def __init__(self, others: Sequence[str], distance_m: float, ruler: Ruler, moving_m_s: float) -> None:
        """`moving_m_s`: slower ones are left out; 0: also those that stand."""
        self._others, self._distance_m, self._ruler = frozenset(others), distance_m, ruler
        self._moving_m_s = moving_m_s
        self._course = Course(keep_s=1.0)

    def matches(self, scene: Scene) -> list[Match]:
        others = [one for one in scene.objects if one.class_name in self._others]
        if self._moving_m_s:
            places = {one.track_id: self._ruler.place(one.box, scene.width, scene.height) for one in others}
            self._course.see(scene.time_s, places)
            others = [one for one in others if (self._course.speed(one.track_id) or 0.0) >= self._moving_m_s]
        found = []
        for index, person in enumerate(scene.objects):
            if not scene.meant[index] or person.class_name in self._others or not others:
                continue
            distances = [self._ruler.apart_m(person.box, one.box, scene.width, scene.height) for one in others]
            nearest = min(range(len(others)), key=distances.__getitem__)
            if distances[nearest] < self._distance_m:
                said = {"distance_m": round(distances[nearest], 2), "near": others[nearest].class_name}
                found.append(Match(index, said))
        return found


class Fallen:
    """A person who lies and does not move: by a class of the model, or by a box that is wide and stays."""

    def __init__(self, classes: Sequence[str], aspect_min: float, still_s: float, still_share: float) -> None:
        """`classes`: of the model, that say it. `still_share`: heights of the box a second that are no motion."""
        self._classes, self._aspect_min = frozenset(classes), aspect_min
        self._still_share = still_share
        self._course = Course(keep_s=still_s)
        self._lying_since: dict[int, float] = {}
        self._still_s = still_s

    def matches(self, scene: Scene) -> list[Match]:
        people = {one.track_id: one for one in scene.objects}
        self._course.see(scene.time_s, {track_id: _middle(one.box) for track_id, one in people.items()})
        for gone in self._lying_since.keys() - people.keys():
            del self._lying_since[gone]
        found = []
        for index, one in enumerate(scene.objects):
            if one.class_name in self._classes:
                if scene.meant[index]:
                    found.append(Match(index, {"posture": "class"}))
                continue
            width, height = one.box[2] - one.box[0], max(one.box[3] - one.box[1], 1.0)
            if width / height < self._aspect_min or _is_cut(one.box, scene):
                self._lying_since.pop(one.track_id, None)
                continue
            since_s = self._lying_since.setdefault(one.track_id, scene.time_s)
            speed = self._course.speed(one.track_id)
            still = speed is not None and speed / height <= self._still_share
            if scene.meant[index] and still and scene.time_s - since_s >= self._still_s:
                lying_s = round(scene.time_s - since_s, 1)
                found.append(
                    Match(index, {"posture": "aspect", "aspect": round(width / height, 2), "lying_s": lying_s})
                )
        return found


@dataclass(slots=True)
class _Worn:
    """(time, items that were seen on a person), over the last seconds."""

    seen: deque[tuple[float, frozenset[str]]] = field(default_factory=deque)


class Missing:
    """A person without equipment, seen so over some time: a single frame in which it is hidden says nothing."""

    def __init__(
        self, needs: dict[str, str], against: dict[str, str], over_s: float, share_min: float, height_min: float
    ) -> None:
        """`needs`: class of the equipment -> region of the body. `against`: class that says what is missing -> the
        equipment, as `no_helmet` -> `helmet`. `share_min`: of the frames in which what is worn is seen at least.
        `height_min`: share of the picture's height below which a person is too small to be judged."""
        self._needs, self._against = dict(needs), dict(against)
        self._over_s, self._share_min, self._height_min = over_s, share_min, height_min
        self._worn: dict[int, _Worn] = {}

    def matches(self, scene: Scene) -> list[Match]:
        people = [
            (index, one)
            for index, one in enumerate(scene.objects)
            if scene.meant[index] and one.class_name not in self._needs and one.class_name not in self._against
        ]
        there = {one.track_id for one in scene.objects}
        for gone in self._worn.keys() - there:
            del self._worn[gone]
        worn = self._associated(scene, [one for _, one in people])
        found = []
        for index, person in people:
            if person.box[3] - person.box[1] < self._height_min * scene.height or _is_cut(person.box, scene):
                continue
            if missing := self._missing(scene.time_s, person.track_id, worn[person.track_id]):
                found.append(Match(index, {"missing": ", ".join(missing)}))
        return found

    def _missing(self, time_s: float, track_id: int, seen: frozenset[str]) -> list[str]:
        past = self._worn.setdefault(track_id, _Worn()).seen
        past.append((time_s, seen))
        while past[0][0] < time_s - self._over_s:
            past.popleft()
        if past[-1][0] - past[0][0] < self._over_s / 2:
            return []
        return [item for item in self._needs if sum(item in each for _, each in past) < self._share_min * len(past)]

    def _associated(self, scene: Scene, people: Sequence[Seen]) -> dict[int, frozenset[str]]:
        """What each person wears. A piece is worn by one: by whom its middle is nearest to where it belongs."""
        worn: dict[int, set[str]] = {one.track_id: set() for one in people}
        denied: dict[int, set[str]] = {one.track_id: set() for one in people}
        for piece in scene.objects:
            item = self._against.get(piece.class_name, piece.class_name)
            region = self._needs.get(item)
            if region is None:
                continue
            wearers = [one for one in people if _belongs(piece.box, one.box, region)]
            if wearers:
                wearer = min(wearers, key=lambda one: math.dist(_middle(piece.box), _centre(one.box, region)))
                (denied if piece.class_name in self._against else worn)[wearer.track_id].add(item)
        return {track_id: frozenset(items - denied[track_id]) for track_id, items in worn.items()}


class Alone:
    """One person and nobody else in the picture; how long is too long is the rule's `for_s`."""

    def __init__(self, classes: Sequence[str]) -> None:
        """`classes`: those that are company, whether they are sure or only expected at their place."""
        self._classes = frozenset(classes)

    def matches(self, scene: Scene) -> list[Match]:
        people = [index for index, one in enumerate(scene.objects) if one.class_name in self._classes]
        return [Match(people[0])] if len(people) == 1 and scene.meant[people[0]] else []


# ---- boxes ---------------------------------------------------------------------------------------


def _middle(box: Box) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _centre(box: Box, region: str) -> Point:
    top, bottom = REGIONS[region]
    return (box[0] + box[2]) / 2, box[1] + (top + bottom) / 2 * (box[3] - box[1])


def _belongs(piece: Box, person: Box, region: str) -> bool:
    """Whether the middle of a piece is where it would be worn."""
    x, y = _middle(piece)
    top, bottom = REGIONS[region]
    width, height = person[2] - person[0], person[3] - person[1]
    in_width = person[0] - SLACK * width <= x <= person[2] + SLACK * width
    return in_width and person[1] + (top - SLACK) * height <= y <= person[1] + (bottom + SLACK / 3) * height


def _is_cut(box: Box, scene: Scene) -> bool:
    """Whether the picture's edge hides a part of it."""
    x, y = EDGE_SHARE * scene.width, EDGE_SHARE * scene.height
    return box[0] <= x or box[1] <= y or box[2] >= scene.width - x or box[3] >= scene.height - y
