"""The outbox's file against a plain model of it."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.outbox.file import OutboxFile
from agent.outbox.rows import LANES, Draft, Row
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.messages import Refusal, Severity

WAIT_S = 30.0
lanes = st.sampled_from([Lane.LIFECYCLE, Lane.ALERT, Lane.EVENT, Lane.SAMPLE])
ends = st.integers(0, 12) | st.integers(0, 2**62)


def draft(lane: Lane, text: str) -> Draft:
    severity = Severity.INFO if lane is Lane.ALERT else None
    return Draft(lane, "ObjectSeen", "cam1", 1_700_000_000_000, {"text": text}, severity)


class OutboxAccount(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "outbox.db"
        self.pending: dict[Lane, dict[int, Row]] = {lane: {} for lane in LANES}
        self.produced = dict.fromkeys(LANES, 0)
        self.stored = dict.fromkeys(LANES, 0)
        self.quarantined = dict.fromkeys(LANES, 0)

    @initialize()
    def begin(self) -> None:
        self.file = OutboxFile(self._path, node="gw-1", boot=1)
        self.stream = self.file.stream

    @rule(group=st.lists(st.tuples(lanes, st.text(max_size=20)), max_size=5))
    def append(self, group: list[tuple[Lane, str]]) -> None:
        rows = self.file.append([draft(lane, text) for lane, text in group]).result(WAIT_S)
        assert [row.lane for row in rows] == [lane for lane, _ in group]
        for row in rows:
            self.produced[row.lane] += 1
            assert row.seq == self.produced[row.lane]
            self.pending[row.lane][row.seq] = row

    @rule(before=st.lists(lanes, max_size=3), lane=lanes)
    def append_what_cannot_be_sent(self, before: list[Lane], lane: Lane) -> None:
        group = [*(draft(other, "") for other in before), draft(lane, "x" * 600_000)]
        assert isinstance(self.file.append(group).exception(WAIT_S), LocalWireError)

    @rule(lane=lanes, first=ends, last=ends)
    def acknowledge(self, lane: Lane, first: int, last: int) -> None:
        gone = [seq for seq in self.pending[lane] if first <= seq <= last]
        assert self.file.acknowledge([(lane, first, last)]).result(WAIT_S) == len(gone)
        for seq in gone:
            del self.pending[lane][seq]
        self.stored[lane] += len(gone)

    @rule(lane=lanes, seq=ends)
    def quarantine(self, lane: Lane, seq: int) -> None:
        known = self.pending[lane].pop(seq, None) is not None
        refusal = Refusal(self.stream, lane.value, seq, "no")
        assert self.file.quarantine([refusal]).result(WAIT_S) == known
        self.quarantined[lane] += known

    @rule()
    def reopen(self) -> None:
        self.file.close()
        self.file = OutboxFile(self._path, node="gw-1", boot=2)
        assert self.file.stream == self.stream

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
            assert found.produced == found.stored + found.pending + found.quarantined == self.produced[lane]
            assert found.stored == self.stored[lane]
            assert found.quarantined == self.quarantined[lane]

    def teardown(self) -> None:
        if hasattr(self, "file"):
            for lane in LANES:  # the same bytes as on the day they were committed
                assert self.file.take(lane, 0, 10_000) == list(self.pending[lane].values())
            self.file.close()
        self._folder.cleanup()


OutboxAccount.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestOutboxAccount = OutboxAccount.TestCase
