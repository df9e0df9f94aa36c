"""A user's own platform with a stage, as files: buns on a tray, counted by their brightness."""

from pathlib import Path

SCHEMA = """
record Buns_Count { camera_id: String, buns: Integer @range(0..), trays: Integer @range(0..) }
edge_computing Acme_Buns {
  platform_name: "Acme"
  workloads: [Bun_Counting]
  functions: [ bunsOn(camera_id: String): Buns_Count @edge ]
  events: [
    TrayFilled(camera_id: String, buns: Integer @range(1..), tray: String = "") @source(Bun_Counting),
    TrayTaken(
      camera_id: String, trays: Integer @range(0..), by: String @pattern("line|topic|time")
    ) @source(Bun_Counting)
  ]
}
"""

FUNCTIONS = '''
"""Acme's functions."""

from typing import Any

from acme_buns.buns import Buns, buns as buns
from platforms.context import BadArgumentError, Context
from platforms.functions import function
from platforms.services import Stages


@function("bunsOn")
async def buns_on(context: Context, camera_id: str) -> dict[str, Any]:
    for one in context.service(Stages).of("acme_buns.buns", camera_id):
        assert isinstance(one, Buns)
        return {"camera_id": camera_id, "buns": one.buns, "trays": one.trays}
    raise BadArgumentError("camera_id", f"nobody counts buns on {camera_id!r}")
'''

BUNS = '''
"""Counts stretches of bright columns: each is a bun."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from platforms.functions import stage
from platforms.stages import Fact, Found, InputLine, Machine, Picture, Stage, StageTable, Wires
from schemas.identity import Lane
from schemas.shape import Limit


@dataclass(frozen=True, slots=True)
class BunSettings:
    per_tray: Annotated[int, Limit(ge=1, le=1000)]
    level: Annotated[float, Limit(gt=0, lt=1)] = 0.5
    count_topic: str = ""
    taken_topic: str = ""
    chip: str = ""
    taken_line: int = 0
    forgotten_s: Annotated[float, Limit(ge=0, le=3600)] = 0.0
    names: Path | None = None


def checked(settings: BunSettings) -> list[str]:
    return ["taken_topic: is the topic of counts"] if settings.taken_topic == settings.count_topic != "" else []


@stage("buns")
def buns(table: StageTable) -> "Buns":
    settings = table.read(BunSettings, checked)
    return Buns(settings, table.folder / settings.names if settings.names else None)


class Buns(Stage):
    def __init__(self, settings: BunSettings, names: Path | None) -> None:
        self.settings = settings
        self.names = names
        self.tray = ""
        self.counted: dict[int, int] = {}
        self.others: list[str] = []
        self.buns = self.trays = 0
        self.is_full = False

    @property
    def wires(self) -> Wires:
        settings = self.settings
        return Wires(
            topics=(settings.taken_topic,) if settings.taken_topic else (),
            line=InputLine(settings.chip, settings.taken_line) if settings.chip else None,
            publishes=bool(settings.count_topic),
        )

    def mistakes(self, machine: Machine, labels: Collection[str]) -> list[str]:
        if self.names is not None and not self.names.is_file():
            return [f"names: {self.names} is not there"]
        return []

    def load(self, machine: Machine) -> None:
        self.tray = self.names.read_text().strip() if self.names else ""

    def begin(self) -> None:
        self.counted.clear()
        self.buns, self.is_full = 0, False

    def look(self, picture: Picture) -> None:
        bright = (picture.luma().max(axis=0) > self.settings.level * 255).astype(int)
        self.counted[picture.index] = int((np.diff(bright, prepend=0) == 1).sum())
        while len(self.counted) > 16:
            del self.counted[min(self.counted)]

    def seen(self, pipeline: str, picture: Picture, found: Sequence[Found]) -> None:
        if pipeline != self.place.pipeline:
            self.others.append(pipeline)
            return
        before, self.buns = self.buns, self.counted.pop(picture.index, self.buns)
        if self.buns != before and self.settings.count_topic:
            self.place.publish(self.settings.count_topic, json.dumps({"buns": self.buns}).encode(), retain=True)
        was_full, self.is_full = self.is_full, self.buns >= self.settings.per_tray
        if self.is_full and not was_full:
            self.trays += 1
            data = {"buns": self.buns, "tray": self.tray}
            self.place.say([Fact("TrayFilled", f"{self.place.run}-{self.trays}", data, picture)])
            if self.settings.forgotten_s:
                self.place.call_later(self.settings.forgotten_s, lambda: self.taken("time"))

    def heard(self, topic: str, payload: bytes) -> None:
        self.place.in_thread(lambda: payload.decode("utf-8"), lambda text: self.taken("topic"))

    def line(self, at_mono_ns: int) -> None:
        self.taken("line")

    def taken(self, by: str) -> None:
        data = {"trays": self.trays, "by": by}
        self.place.say([Fact("TrayTaken", self.place.run, data, lane=Lane.LIFECYCLE)])

    def report(self) -> Mapping[str, Any]:
        return {"buns": self.buns, "trays": self.trays, "others": len(self.others)}
'''


def write(beneath: Path) -> Path:
    """The platform's folder."""
    folder = beneath / "acme_buns"
    folder.mkdir()
    (folder / "acme_buns.edge").write_text(SCHEMA)
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / "buns.py").write_text(BUNS)
    return folder
