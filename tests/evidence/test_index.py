"""The index of evidence, in either database."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from coordinator.store import evidence
from coordinator.store.evidence import LOST, SPOOLED, STORED, EvidenceFilter, EvidenceRow
from coordinator.store.place import Place, open_alone
from runtime.database import Database

ROW = EvidenceRow("gw-1", "ab" * 32, 100, "image/jpeg", "cam1", 5, 9, True, 1000, SPOOLED, ("e1", "e2"))
LARGE = replace(ROW, sha256="ac" * 32, bytes=50_000, received_utc_ms=2000, camera_id="cam2", events=("e3",))
FOREIGN = replace(ROW, node="gw-2", received_utc_ms=3000, blurred=False, events=())


@pytest.fixture
def db(place: Place) -> Iterator[Database]:
    with closing(open_alone(place)) as opened:
        for row in (ROW, LARGE, FOREIGN):
            evidence.insert(opened, row)
        yield opened


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (EvidenceFilter(), [ROW, LARGE, FOREIGN]),
        (EvidenceFilter(node="gw-1"), [ROW, LARGE]),
        (EvidenceFilter(camera_id="cam2"), [LARGE]),
        (EvidenceFilter(event_id="e2"), [ROW]),
        (EvidenceFilter(sha256="ab"), [ROW, FOREIGN]),
        (EvidenceFilter(sha256="a*"), []),
        (EvidenceFilter(since_utc_ms=2000), [LARGE, FOREIGN]),
    ],
)
def test_what_is_looked_for_is_found(db: Database, wanted: EvidenceFilter, found: list[EvidenceRow]) -> None:
    assert evidence.found(db, wanted, 10) == found
    assert evidence.found(db, wanted, 1) == found[-1:]


def test_a_file_that_is_known_gets_the_events_it_did_not_have(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "EVENTS_MAX", 4)
    evidence.insert(db, replace(ROW, state=STORED, events=("e2", "e4", "e5", "e6")))
    (row,) = evidence.found(db, EvidenceFilter(node="gw-1", camera_id="cam1"), 10)
    assert (row.state, row.events) == (SPOOLED, ("e1", "e2", "e4", "e5"))


def test_what_counts_against_the_quotas_and_what_goes_first(db: Database) -> None:
    assert evidence.totals(db) == {"gw-1": 4096 + 50_000, "gw-2": 4096}
    assert [row.received_utc_ms for row in evidence.spooled(db)] == [1000, 2000, 3000]
    for row in (LARGE, FOREIGN):
        evidence.set_state(db, row.node, row.sha256, STORED)
    evidence.set_state(db, ROW.node, ROW.sha256, LOST)
    assert evidence.totals(db) == {"gw-1": 50_000, "gw-2": 4096}
    assert evidence.oldest(db, "", 1) == [("gw-1", LARGE.sha256, 50_000)]
    assert evidence.size_of(db, "gw-1", ROW.sha256) is None
    assert evidence.size_of(db, "gw-1", LARGE.sha256) == 50_000
    evidence.remove(db, "gw-1", LARGE.sha256)
    assert evidence.found(db, EvidenceFilter(event_id="e3"), 10) == []
