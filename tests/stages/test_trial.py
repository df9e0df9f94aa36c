"""A user's stage without an agent: given pictures, findings, messages and time, it says and publishes."""

from pathlib import Path

import numpy as np
import pytest

from platforms.context import BadEventError
from platforms.functions import On
from platforms.platform import Platform
from platforms.stages import Fact, StageError
from platforms.testing import FakeHost, Published, RejectedError, load_folder
from tests.stages import acme_buns

KIND = "buns"


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return load_folder(acme_buns.write(tmp_path_factory.mktemp("platforms")))


def tray(buns: int) -> np.ndarray:
    """64x64: so many bright stretches of three columns."""
    plane = np.full((64, 64), 20, np.uint8)
    for n in range(buns):
        plane[20:40, 2 + n * 6 : 5 + n * 6] = 220
    return plane


def test_what_is_seen_is_published_and_said(acme: Platform, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("tray 7\n")
    host = FakeHost(acme)
    settings = {"per_tray": 3, "count_topic": "oven/buns", "names": "names.txt"}
    line = host.stage(KIND, settings, folder=tmp_path)
    for buns in (0, 1, 3, 3, 0):
        line.shows(tray(buns))
    counts = [b'{"buns": 1}', b'{"buns": 3}', b'{"buns": 0}']
    assert line.published == [Published("oven/buns", payload, retain=True) for payload in counts]
    (filled,) = host.emitted
    assert (filled.event, filled.subject) == ("TrayFilled", "cam1-1.1-1")
    assert filled.data == {"camera_id": "cam1", "time_s": 0.3, "pipeline": "cam1", "buns": 3, "tray": "tray 7"}
    assert line.facts[0].picture is not None
    assert host.call("bunsOn", camera_id="cam1") == {"camera_id": "cam1", "buns": 0, "trays": 1}
    with pytest.raises(RejectedError, match="nobody counts buns on 'cam2'"):
        host.call("bunsOn", camera_id="cam2")


def test_topics_lines_time_and_other_pipelines_reach_it(acme: Platform) -> None:
    host = FakeHost(acme)
    settings = {"per_tray": 2, "taken_topic": "oven/taken", "chip": "fake:/nowhere.json", "forgotten_s": 5.0}
    line = host.stage(KIND, settings, also=["second"])
    line.hears("oven/taken", "now")
    line.hears("oven/other", "now")  # nobody listens
    line.line_rises()
    line.shows(tray(2), pipelines=("cam1", "second"))
    line.passes(4.8)
    assert [one.data.get("by") for one in host.emitted] == ["topic", "line", None]
    line.passes(0.3)
    assert host.emitted[-1].data["by"] == "time"
    line.shows(tray(0))
    line.shows(tray(2))
    line.starts()  # what was to be called is not any more
    line.passes(60.0)
    assert [one.event for one in host.emitted] == ["TrayTaken", "TrayTaken", "TrayFilled", "TrayTaken", "TrayFilled"]
    assert (line.run, line.stage.report()["others"]) == ("cam1-1.2", 1)


def test_every_mistake_in_its_settings_is_told(acme: Platform, tmp_path: Path) -> None:
    host = FakeHost(acme)
    with pytest.raises(StageError) as told:
        host.stage(KIND, {"per_try": 3, "level": 2, "count_topic": "a", "taken_topic": "a"})
    assert sorted(text.split(":")[0] for text in told.value.mistakes) == ["level", "per_tray", "per_try"]
    with pytest.raises(StageError, match="taken_topic: is the topic of counts"):
        host.stage(KIND, {"per_tray": 3, "count_topic": "a", "taken_topic": "a"})
    with pytest.raises(StageError, match=r"no platform here has a stage 'acme_buns.bins' \(acme_buns.buns\)"):
        host.stage("bins", {})


def test_what_is_said_is_as_declared(acme: Platform) -> None:
    line = FakeHost(acme).stage(KIND, {"per_tray": 3})
    with pytest.raises(BadEventError, match="declares no event 'TrayFulled'"):
        line.say([Fact("TrayFulled", "x", {})])
    with pytest.raises(Exception, match="buns"):
        line.say([Fact("TrayFilled", "x", {"buns": 0})])


def test_the_mark_is_the_platforms(acme: Platform) -> None:
    assert [(one.on, one.name) for one in acme.listeners] == [(On.STAGE, "buns")]
