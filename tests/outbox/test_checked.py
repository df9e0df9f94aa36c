"""Facts are checked before they are stored; a wrong one is neither lost nor sent as what it is not."""

import asyncio
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from agent.outbox.checked import DATA_CHARS_MAX, Checked
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft
from platforms.catalogue import open_catalogue
from schemas.identity import Lane
from schemas.messages import Severity
from schemas.topics import RULES, Kind

CATALOGUE = open_catalogue()
GOOD = Draft(Lane.LIFECYCLE, "PipelineStarted", "cam1", 7, {"camera_id": "cam1", "model": "m"})
BAD = Draft(Lane.EVENT, "LineCrossed", "gate", 7, {"camera_id": "cam1", "line": "gate", "direction": "up", "box": []})
UNKNOWN = Draft(Lane.SAMPLE, "Rates", "cam1", 7, {"fps": 1.5})


def test_what_is_as_declared_goes_on_untouched() -> None:
    checked = Checked(CATALOGUE)
    drafts = [GOOD, GOOD]
    assert checked(drafts) is drafts
    assert (checked.invalid_total, checked.unchecked_total) == (0, 0)


def test_a_type_that_nobody_declares_goes_on_and_is_counted() -> None:
    checked = Checked(CATALOGUE)
    drafts = [UNKNOWN, GOOD, UNKNOWN]
    assert checked(drafts) is drafts
    assert (checked.invalid_total, checked.unchecked_total) == (0, 2)


def test_a_wrong_fact_is_told_as_such_in_its_own_place(caplog: pytest.LogCaptureFixture) -> None:
    checked = Checked(CATALOGUE)
    with caplog.at_level(logging.ERROR):
        first, instead, last = checked([GOOD, BAD, UNKNOWN])
    assert (first, last) == (GOOD, UNKNOWN)
    assert (instead.lane, instead.type, instead.subject, instead.time_utc_ms) == (
        Lane.EVENT,
        "InvalidEvent",
        "gate",
        7,
    )
    assert CATALOGUE.check(instead.type, instead.data)
    assert (instead.data["type"], instead.data["field"]) == ("LineCrossed", "direction")
    assert "'up' must be one of in, out" in instead.data["reason"]
    assert json.loads(instead.data["data"]) == BAD.data
    checked([BAD])
    assert caplog.text.count("LineCrossed of gate is not as declared") == 1, "said once"
    assert checked.invalid_total == 2


@pytest.mark.parametrize(
    "wrong", [math.nan, b"bytes", {1: {2}}, ["\u0007"] * 99_999], ids=["nan", "bytes", "odd keys", "long"]
)
def test_whatever_it_said_there_is_a_row_of_it(tmp_path: Path, wrong: object) -> None:
    async def scene() -> None:
        file = OutboxFile(tmp_path / "outbox.db", node="gw-1", boot=1)
        outbox = Outbox(file)
        outbox.checked = Checked(CATALOGUE)
        heard: list[Any] = []
        outbox.on_append = heard.extend
        draft = Draft(
            Lane.ALERT, "PipelineStarted", "cam1", 7, {"camera_id": "cam1", "model": wrong}, Severity.CRITICAL
        )
        try:
            (row,) = await outbox.append([draft])
        finally:
            file.close()
        assert row.lane is Lane.ALERT and row.topic("gw-1").leaf == "InvalidEvent"
        assert len(row.payload) <= RULES[Kind.EVENT].payload_bytes_max
        assert len(json.loads(row.payload)["data"]["data"]) <= DATA_CHARS_MAX
        assert heard == [draft], "local actions know the fact itself"

    asyncio.run(scene())
