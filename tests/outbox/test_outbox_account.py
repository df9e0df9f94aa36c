"""The outbox's file against a plain model of it: every number is in one place, whatever happens in between."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.outbox.file import OutboxFile
from agent.outbox.inspect import check
from agent.outbox.rows import LANES, Draft, Row
from agent.outbox.settings import LaneSettings, OutboxSettings
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.messages import Closed, Gap, Refusal, Severity

WAIT_S = 30.0
CAP = 8
lanes = st.sampled_from([Lane.LIFECYCLE, Lane.ALERT, Lane.EVENT, Lane.SAMPLE])
ends = st.integers(0, 30) | st.integers(0, 2**62)
SETTINGS = OutboxSettings(sample=LaneSettings(rows_max=CAP), event=LaneSettings(bytes_max=4000), ballast_bytes=0)


def draft(lane: Lane, text: str) -> Draft:
    severity = Severity.INFO if lane is Lane.ALERT else None
    return Draft(lane, "ObjectSeen", "cam1", 1_700_000_000_000, {"text": text}, severity)


class OutboxAccount(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "0" / "outbox.db"
        self.boot = 0
        self.copies = 0
        self.pending: dict[Lane, dict[int, Row]] = {lane: {} for lane in LANES}
        self.given_up: dict[Lane, set[int]] = {lane: set() for lane in LANES}
        self.stored: dict[Lane, set[int]] = {lane: set() for lane in LANES}
        self.shed: dict[Lane, set[int]] = {lane: set() for lane in LANES}
        self.quarantined: dict[Lane, set[int]] = {lane: set() for lane in LANES}
        self.produced = dict.fromkeys(LANES, 0)
        self.meaning: dict[tuple[str, Lane, int], bytes] = {}

    @initialize()
    def begin(self) -> None:
        self.boot += 1
        self.file = OutboxFile(self._path, node="gw-1", boot=self.boot, settings=SETTINGS)

    @rule(group=st.lists(st.tuples(lanes, st.text(max_size=20)), max_size=6))
    def append(self, group: list[tuple[Lane, str]]) -> None:
        rows = self.file.append([draft(lane, text) for lane, text in group]).result(WAIT_S)
        assert [row.lane for row in rows] == [lane for lane, _ in group]
        for row in rows:
            self.produced[row.lane] += 1
            assert row.seq == self.produced[row.lane]
            self.pending[row.lane][row.seq] = row
            # A number of a stream means one row for ever.
            assert self.meaning.setdefault((row.stream, row.lane, row.seq), row.payload) == row.payload
        for lane in LANES:  # what went was the oldest, and it is in a gap record
            left = {row.seq for row in self.file.take(lane, 0, 10_000)}
            gone = self.pending[lane].keys() - left
            assert not gone or max(gone) < min(left, default=2**63)
            assert lane in (Lane.SAMPLE, Lane.EVENT) or not gone
            for seq in gone:
                del self.pending[lane][seq]
            self.given_up[lane] |= gone
        assert len(self.pending[Lane.SAMPLE]) <= CAP

    @rule(before=st.lists(lanes, max_size=3), lane=lanes)
    def append_what_cannot_be_sent(self, before: list[Lane], lane: Lane) -> None:
        group = [*(draft(other, "") for other in before), draft(lane, "x" * 600_000)]
        assert isinstance(self.file.append(group).exception(WAIT_S), LocalWireError)

    @rule(lane=lanes, first=ends, last=ends)
    def acknowledge(self, lane: Lane, first: int, last: int) -> None:
        pending = {seq for seq in self.pending[lane] if first <= seq <= last}
        given_up = {seq for seq in self.given_up[lane] if first <= seq <= last}
        assert self.file.acknowledge([(lane, first, last)]).result(WAIT_S) == len(pending) + len(given_up)
        for seq in pending:
            del self.pending[lane][seq]
        self.given_up[lane] -= given_up
        self.stored[lane] |= pending | given_up

    @rule(lane=lanes, seq=ends)
    def quarantine(self, lane: Lane, seq: int) -> None:
        known = self.pending[lane].pop(seq, None) is not None
        refusal = Refusal(self.file.stream, lane.value, seq, "no")
        assert self.file.quarantine([refusal]).result(WAIT_S) == known
        if known:
            self.quarantined[lane].add(seq)

    @rule(held=st.lists(st.tuples(ends, ends), max_size=3), which=st.integers(0, 5), extra=st.integers(0, 3))
    def close_a_gap(self, held: list[tuple[int, int]], which: int, extra: int) -> None:
        gaps = self.file.gaps(100)
        if not gaps:
            return
        gap = gaps[which % len(gaps)]
        lane = Lane(gap.lane)
        answer = Closed(gap.stream, gap.lane, gap.first, gap.last, held)
        stranger = Closed("f" * 16, gap.lane, 0, 2**62, [(0, 2**62)])
        told = set(range(gap.first, gap.last + 1))
        assert told <= self.given_up[lane]
        assert self.file.closed([stranger, answer, answer]).result(WAIT_S) == len(told)
        stored = {seq for seq in told if any(first <= seq <= last for first, last in held)}
        self.given_up[lane] -= told
        self.stored[lane] |= stored
        self.shed[lane] |= told - stored

    @rule()
    def reopen(self) -> None:
        before = self.file.stream
        self.file.close()
        self.begin()
        assert self.file.stream == before

    @rule()
    def kill_and_reopen(self) -> None:
        """The files as a killed process leaves them, in another folder: a copy, and not closed in order."""
        before = self.file.stream
        self.copies += 1
        folder = Path(self._folder.name) / str(self.copies)
        folder.mkdir()
        for path in self._path.parent.iterdir():
            shutil.copyfile(path, folder / path.name)
        self.file.close()
        self._path = folder / "outbox.db"
        self.begin()
        assert self.file.stream != before

    @rule(lane=lanes, after=st.integers(0, 12), count_max=st.integers(1, 5))
    def take(self, lane: Lane, after: int, count_max: int) -> None:
        expected = [row for seq, row in sorted(self.pending[lane].items()) if seq > after]
        assert self.file.take(lane, after, count_max) == expected[:count_max]

    @invariant()
    def account_is_exact(self) -> None:
        if not hasattr(self, "file"):
            return
        for found in self.file.account():
            lane = Lane(found.lane)
            assert found.holds
            assert found.produced == self.produced[lane]
            assert found.stored == len(self.stored[lane])
            assert found.shed == len(self.shed[lane])
            assert found.quarantined == len(self.quarantined[lane])
            assert found.unconfirmed == len(self.given_up[lane])
            assert found.pending == len(self.pending[lane]) + len(self.given_up[lane])
        gaps: list[Gap] = self.file.gaps(10_000)
        assert sum(gap.last - gap.first + 1 for gap in gaps) == sum(map(len, self.given_up.values()))
        assert all(gap.stream and gap.reason == ("rows" if gap.lane == "sample" else "bytes") for gap in gaps)

    def teardown(self) -> None:
        if hasattr(self, "file"):
            for lane in LANES:  # the same bytes as on the day they were committed
                assert self.file.take(lane, 0, 10_000) == list(self.pending[lane].values())
            self.file.close()
            assert check(self._path, "gw-1") == []
        self._folder.cleanup()


OutboxAccount.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestOutboxAccount = OutboxAccount.TestCase
